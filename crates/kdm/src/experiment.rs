//! Experiments as configuration: TOML files over common values, strict about every key.

use std::path::Path;

use kdm_data::pairs::ImageType;
use kdm_koopman::{LossConfig, Method, NetworkConfig, OperatorConfig, StudentConfig};
use kdm_nn::UNetConfig;
use kdm_teacher::distributions::{Distribution, DistributionConfig};
use kdm_teacher::{
    Denoiser, FlowMlpConfig, NetworkTeacherConfig, Preconditioning, Process, Solver,
};
use kdm_train::{LoopConfig, NonFinite, OptimizerConfig, Schedule};
use serde::{Deserialize, Serialize};
use serde_json::json;
use toml::{Table, Value};

use crate::{Failure, Outcome};

const BASE: &str = include_str!("../../../presets/base.toml");

/// The built-in presets: name and text.
pub const PRESETS: [(&str, &str); 15] = [
    ("checkerboard", include_str!("../../../presets/checkerboard.toml")),
    ("checkerboard-paper", include_str!("../../../presets/checkerboard-paper.toml")),
    ("gaussian", include_str!("../../../presets/gaussian.toml")),
    ("mixture", include_str!("../../../presets/mixture.toml")),
    ("fashion-mnist", include_str!("../../../presets/fashion-mnist.toml")),
    ("fashion-mnist-full", include_str!("../../../presets/fashion-mnist-full.toml")),
    ("fashion-mnist-compare", include_str!("../../../presets/fashion-mnist-compare.toml")),
    ("fashion-mnist-ablations", include_str!("../../../presets/fashion-mnist-ablations.toml")),
    ("fashion-mnist-teacher", include_str!("../../../presets/fashion-mnist-teacher.toml")),
    ("shapes", include_str!("../../../presets/shapes.toml")),
    ("cifar10-uncond", include_str!("../../../presets/cifar10-uncond.toml")),
    ("cifar10-cond", include_str!("../../../presets/cifar10-cond.toml")),
    ("cifar10-factorized", include_str!("../../../presets/cifar10-factorized.toml")),
    ("ffhq64", include_str!("../../../presets/ffhq64.toml")),
    ("afhqv2-64", include_str!("../../../presets/afhqv2-64.toml")),
];

/// A whole experiment. Each field is described where it stands in `presets/base.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs)]
pub struct Experiment {
    pub name: String,
    pub seed: u64,
    pub teacher: TeacherSection,
    pub pairs: PairsSection,
    pub student: StudentSection,
    pub loss: LossConfig,
    pub train: TrainSection,
    pub evaluate: EvaluateSection,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compare: Vec<Variant>,
}

/// One student of a comparison: what differs from the experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Its name in tables and folders.
    pub name: String,
    /// Values to change, as in a file.
    #[serde(default)]
    pub set: Table,
}

/// Which kind of teacher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TeacherKind {
    /// Closed form.
    Exact,
    /// A perceptron trained by flow matching.
    FlowMlp,
    /// An image network trained with EDM's loss on a data set.
    Network,
    /// A model file, imported or trained before.
    File,
}

/// The teacher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs)]
pub struct TeacherSection {
    pub kind: TeacherKind,
    pub hidden: usize,
    pub layers: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DistributionConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<usize>>,
    #[serde(default)]
    pub label_dim: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<UNetConfig>,
    pub train: TeacherTraining,
}

/// The teacher's training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs)]
pub struct TeacherTraining {
    pub iterations: u64,
    pub batch: usize,
    pub lr: f64,
    pub schedule: Schedule,
    pub warmup: u64,
    pub ema_decay: f64,
    pub ema_rampup: f64,
    pub augment: f64,
}

/// The pairs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs)]
pub struct PairsSection {
    pub count: usize,
    pub test: usize,
    pub first_seed: u64,
    pub solver: Solver,
    pub steps: usize,
    pub dtype: ImageType,
    pub shard_size: usize,
    pub batch: usize,
    pub guidance: f64,
    pub process: Process,
}

/// The student.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs)]
pub struct StudentSection {
    #[serde(default)]
    pub method: Method,
    pub latent: usize,
    pub network: NetworkConfig,
    pub operator: OperatorConfig,
}

/// The student's training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs)]
pub struct TrainSection {
    pub iterations: u64,
    pub batch: usize,
    pub lr: f64,
    pub schedule: Schedule,
    pub warmup: u64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub ema_decay: f64,
    pub ema_rampup: f64,
    pub non_finite: NonFinite,
    pub held_out: usize,
    pub log_every: u64,
    pub validate_every: u64,
    pub checkpoint_every: u64,
    pub best_by: String,
}

/// The evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs)]
pub struct EvaluateSection {
    pub directions: usize,
    pub clusters: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// Validation values a student can be chosen by.
const BEST_BY: [&str; 6] = ["rmse", "median_error", "latent", "rec", "push", "total"];

impl Experiment {
    /// The experiment that `source` names: a built-in preset, or a TOML file (with an optional
    /// `base`, the preset it starts from). `settings` are KEY=VALUE with dotted keys, applied last.
    ///
    /// # Errors
    /// A usage failure that names the file and every key that is unknown or impossible.
    pub fn load(source: &str, settings: &[String]) -> Outcome<Self> {
        let (label, mut table) = layered(source, 0)?;
        for setting in settings {
            let (key, value) = setting.split_once('=').ok_or_else(|| {
                Failure::Usage(format!("--set {setting}: write KEY=VALUE, such as train.lr=1e-3"))
            })?;
            let value = parse_value(value.trim());
            let mut overlay = Table::new();
            let mut place = &mut overlay;
            let parts: Vec<&str> = key.trim().split('.').collect();
            for part in &parts[..parts.len() - 1] {
                let next =
                    place.entry((*part).to_string()).or_insert_with(|| Value::Table(Table::new()));
                place = next.as_table_mut().expect("just made");
            }
            place.insert(parts[parts.len() - 1].to_string(), value);
            merge(&mut table, overlay);
        }
        Self::from_table(&label, table)
    }

    fn from_table(label: &str, table: Table) -> Outcome<Self> {
        let experiment: Self =
            serde_path_to_error::deserialize(Value::Table(table)).map_err(|e| {
                let path = e.path().to_string();
                let problem = e.into_inner().to_string();
                let problem = problem.lines().next().unwrap_or_default().to_string();
                Failure::Usage(format!("{label}: `{path}`: {problem}{}", suggestion(&problem)))
            })?;
        let problems = experiment.problems();
        if problems.is_empty() {
            return Ok(experiment);
        }
        let list: Vec<String> =
            problems.iter().map(|(field, problem)| format!("`{field}` {problem}")).collect();
        Err(Failure::Usage(format!(
            "{label}: {}; change it in the file or with --set",
            list.join("; ")
        )))
    }

    /// The experiment a run folder's `config.toml` tells of.
    ///
    /// # Errors
    /// When the file can't be read, or isn't understood.
    pub fn read(path: &Path) -> Outcome<Self> {
        let text = std::fs::read_to_string(path).map_err(kdm_data::Error::io("read", path))?;
        let label = path.display().to_string();
        let table = text.parse::<Table>().map_err(|e| Failure::Usage(format!("{label}: {e}")))?;
        Self::from_table(&label, table)
    }

    /// The experiments of a comparison. Each student gets as many iterations as cost the
    /// floating-point operations of this experiment's own, unless the variant says
    /// `train.iterations` itself.
    ///
    /// # Errors
    /// A usage failure that names the variant and the key.
    pub fn variants(&self) -> Outcome<Vec<Self>> {
        let own = self.training_flops();
        let mut all = Vec::new();
        for variant in &self.compare {
            let label = format!("compare `{}`", variant.name);
            let plain =
                variant.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            if variant.name.is_empty()
                || !plain
                || all.iter().any(|e: &Self| e.name == variant.name)
            {
                let mend = "name each variant once, with letters, digits, `-`, `_` and `.`";
                return Err(Failure::Usage(format!("{label}: {mend}")));
            }
            if let Some(key) =
                variant.set.keys().find(|key| !["student", "loss", "train"].contains(&key.as_str()))
            {
                let mend = "variants differ in `student`, `loss` and `train`: they share teacher \
                            and pairs";
                return Err(Failure::Usage(format!("{label}: `{key}`: {mend}")));
            }
            let Ok(Value::Table(mut table)) = Value::try_from(self) else {
                unreachable!("plain data")
            };
            table.remove("compare");
            table.insert("name".into(), Value::String(variant.name.clone()));
            merge(&mut table, variant.set.clone());
            let mut found = Self::from_table(&label, table)?;
            let told =
                variant.set.get("train").is_some_and(|train| train.get("iterations").is_some());
            if !told {
                let share = own / found.training_flops();
                found.train.iterations =
                    ((self.train.iterations as f64 * share).round() as u64).max(1);
            }
            all.push(found);
        }
        Ok(all)
    }

    /// Floating-point operations of an iteration.
    fn training_flops(&self) -> f64 {
        let (shape, label_dim) = self.sample().expect("checked when loaded");
        let student = self.student_config(shape, label_dim, self.pairs.process.noise_std());
        student.flops(true, self.loss.push_weight > 0.0) * self.train.batch as f64
    }

    /// The experiment as TOML, every value resolved.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("plain data")
    }

    /// All that is impossible: key and problem.
    fn problems(&self) -> Vec<(String, String)> {
        let mut problems: Vec<(String, String)> = Vec::new();
        let mut at_least = |field: &str, value: u64, least: u64| {
            if value < least {
                problems.push((field.into(), format!("is {value} and must be at least {least}")));
            }
        };
        let (p, t, tt, e) = (&self.pairs, &self.train, &self.teacher.train, &self.evaluate);
        for (field, value) in [
            ("teacher.hidden", self.teacher.hidden),
            ("teacher.layers", self.teacher.layers),
            ("teacher.train.batch", tt.batch),
            ("pairs.count", p.count),
            ("pairs.test", p.test),
            ("pairs.steps", p.steps),
            ("pairs.shard_size", p.shard_size),
            ("pairs.batch", p.batch),
            ("train.batch", t.batch),
            ("evaluate.directions", e.directions),
            ("evaluate.clusters", e.clusters),
        ] {
            at_least(field, value as u64, 1);
        }
        for (field, value) in [
            ("teacher.train.iterations", tt.iterations),
            ("train.iterations", t.iterations),
            ("train.log_every", t.log_every),
            ("train.validate_every", t.validate_every),
            ("train.checkpoint_every", t.checkpoint_every),
        ] {
            at_least(field, value, 1);
        }
        for (field, value) in
            [("teacher.train.lr", tt.lr), ("train.lr", t.lr), ("train.epsilon", t.epsilon)]
        {
            if !(value > 0.0 && value.is_finite()) {
                problems.push((field.into(), format!("is {value} and must be above 0")));
            }
        }
        for (field, value) in [
            ("teacher.train.ema_decay", tt.ema_decay),
            ("train.beta1", t.beta1),
            ("train.beta2", t.beta2),
            ("train.ema_decay", t.ema_decay),
        ] {
            if !(0.0..1.0).contains(&value) {
                problems
                    .push((field.into(), format!("is {value} and must be at least 0 and below 1")));
            }
        }
        if t.held_out >= p.count {
            problems.push((
                "train.held_out".into(),
                format!("is {} of {} pairs, which leaves none to train on", t.held_out, p.count),
            ));
        }
        if !BEST_BY.contains(&t.best_by.as_str()) {
            problems.push((
                "train.best_by".into(),
                format!("is `{}` and must be one of {BEST_BY:?}", t.best_by),
            ));
        }
        for (field, value) in
            [("teacher.train.ema_rampup", tt.ema_rampup), ("train.ema_rampup", t.ema_rampup)]
        {
            if !(value >= 0.0 && value.is_finite()) {
                problems.push((field.into(), format!("is {value} and must be 0 or more")));
            }
        }
        if !(p.guidance >= 0.0 && p.guidance.is_finite()) {
            problems.push((
                "pairs.guidance".into(),
                format!("is {} and must be 0 or more", p.guidance),
            ));
        }
        if !(0.0..=1.0).contains(&tt.augment) {
            problems.push((
                "teacher.train.augment".into(),
                format!("is {} and must be between 0 and 1", tt.augment),
            ));
        }
        if e.features.is_some() != e.reference.is_some() {
            let missing = if e.features.is_none() { "features" } else { "reference" };
            let problem =
                "is missing: distances of features need both the network and what to compare with";
            problems.push((format!("evaluate.{missing}"), problem.into()));
        }
        if let Some((field, problem)) = p.process.problem() {
            problems.push((format!("pairs.process.{field}"), problem));
        }
        if self.loss.reconstruction.has_lpips() && self.loss.lpips_weights.is_none() {
            let problem = "is missing, and the loss has LPIPS: name the file that `kdm import \
                           vgg16.pth --heads vgg.pth` wrote";
            problems.push(("loss.lpips_weights".into(), problem.into()));
        }
        if self.loss.reconstruction.has_features() && self.loss.features.is_none() {
            let problem = "is missing, and the loss has a classifier's features: name a file of \
                           `kdm features train`";
            problems.push(("loss.features".into(), problem.into()));
        }
        problems.extend(self.loss.problems().into_iter().map(|(f, p)| (format!("loss.{f}"), p)));
        match self.sample() {
            Err(problem) => problems.push(problem),
            Ok((shape, label_dim)) => {
                let least = kdm_nn::vgg::LEAST_SIDE;
                if self.loss.reconstruction.has_lpips() && !has_sides(&shape, least) {
                    let problem = format!(
                        "needs images of at least {least} pixels a side and 1 or 3 channels, not \
                         {shape:?}"
                    );
                    problems.push(("loss.reconstruction".into(), problem));
                }
                let least = kdm_nn::discriminator::LEAST_SIDE;
                if self.loss.adversarial_weight > 0.0
                    && (shape.len() != 3 || shape[1].min(shape[2]) < least)
                {
                    let problem =
                        format!("needs images of at least {least} pixels a side, not {shape:?}");
                    problems.push(("loss.adversarial_weight".into(), problem));
                }
                if self.student.method == Method::Direct {
                    if self.loss.push_weight == 0.0 {
                        problems.push((
                            "loss.push_weight".into(),
                            "is 0, and it is all a direct student learns by".into(),
                        ));
                    }
                    if self.loss.eigenvalues != kdm_koopman::EigenvalueTarget::None {
                        let problem = "is of the operator's eigenvalues, and the direct student has no operator";
                        problems.push(("loss.eigenvalues".into(), problem.into()));
                    }
                }
                let student = self.student_config(shape, label_dim, p.process.noise_std());
                problems.extend(
                    student.problems().into_iter().map(|(f, p)| (format!("student.{f}"), p)),
                );
            }
        }
        problems
    }

    /// Shape and classes of what the teacher draws.
    ///
    /// # Errors
    /// The key and its problem, when the configuration doesn't tell.
    pub fn sample(&self) -> Result<(Vec<usize>, usize), (String, String)> {
        let t = &self.teacher;
        match t.kind {
            TeacherKind::Exact | TeacherKind::FlowMlp => match self.data().build() {
                Ok(data) => Ok((data.shape(), data.label_dim())),
                Err((field, problem)) => Err((format!("teacher.data.{field}"), problem)),
            },
            TeacherKind::Network => {
                let Some(network) = self.network_teacher() else {
                    let problem = "is missing: give the architecture, as [teacher.network] with \
                                   `architecture` first";
                    return Err(("teacher.network".into(), problem.into()));
                };
                if t.dataset.is_none() {
                    let problem = "is missing: name the images to learn from: a folder, a .zip in \
                                   EDM's layout, fashion-mnist or shapes";
                    return Err(("teacher.dataset".into(), problem.into()));
                }
                match network.problems().into_iter().next() {
                    Some((field, problem)) => Err((format!("teacher.{field}"), problem)),
                    None => {
                        let (channels, side) =
                            (network.network.channels().0, network.network.resolution());
                        Ok((vec![channels, side, side], network.network.label_dim()))
                    }
                }
            }
            TeacherKind::File => match &t.shape {
                Some(shape) if shape.iter().all(|s| (1..=1 << 16).contains(s)) => {
                    Ok((shape.clone(), t.label_dim))
                }
                Some(shape) => Err((
                    "teacher.shape".into(),
                    format!("is {shape:?}, which is no shape of a sample"),
                )),
                None => {
                    let problem = "is missing: say what the teacher draws, such as [3, 32, 32]";
                    Err(("teacher.shape".into(), problem.into()))
                }
            },
        }
    }

    /// The distribution that an exact teacher is of, or that a flow-matching one learns.
    fn data(&self) -> DistributionConfig {
        self.teacher.data.clone().unwrap_or(DistributionConfig::Checkerboard { conditional: false })
    }

    /// The distribution of the teacher's data, where there is one.
    pub fn distribution(&self) -> Option<Distribution> {
        match self.teacher.kind {
            TeacherKind::Exact | TeacherKind::FlowMlp => {
                Some(self.data().build().expect("checked when loaded"))
            }
            TeacherKind::Network | TeacherKind::File => None,
        }
    }

    /// The configuration of an exact teacher.
    pub fn exact(&self) -> DistributionConfig {
        self.data()
    }

    /// The trained image teacher.
    pub fn network_teacher(&self) -> Option<NetworkTeacherConfig> {
        let dataset = self.teacher.dataset.as_deref().unwrap_or_default();
        let data =
            Path::new(dataset).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let network = self.teacher.network.clone()?;
        Some(NetworkTeacherConfig { data, preconditioning: Preconditioning::EDM, network })
    }

    /// What the experiment costs, a line each, for a person.
    pub fn costs(&self) -> Vec<String> {
        let Ok((shape, label_dim)) = self.sample() else { return Vec::new() };
        let student = self.student_config(shape, label_dim, self.pairs.process.noise_std());
        let push = self.loss.push_weight > 0.0;
        let bytes = match self.pairs.dtype {
            ImageType::F32 => 4,
            ImageType::F16 => 2,
            ImageType::U8 => 1,
        };
        let (flops, step) = (student.flops(false, push), student.flops(true, push));
        vec![
            format!(
                "student: {} parameters; latent of {} numbers",
                student.parameters(),
                student.operator_dim()
            ),
            format!("one-step sample: {} a sample", operations(flops)),
            format!(
                "training: {} a pair, {} in all ({} iterations of {} pairs)",
                operations(step),
                operations(step * self.train.batch as f64 * self.train.iterations as f64),
                self.train.iterations,
                self.train.batch
            ),
            format!(
                "pairs: {} of {} teacher passes each; {:.2} GB on disk",
                self.pairs.count,
                self.pairs.solver.evaluations(self.pairs.steps),
                (self.pairs.count * (student.dim() * bytes + 8)) as f64 / 1e9
            ),
        ]
    }

    /// The trained teacher's network.
    pub fn flow_mlp(&self) -> FlowMlpConfig {
        FlowMlpConfig {
            data: self.data(),
            hidden: self.teacher.hidden,
            layers: self.teacher.layers,
        }
    }

    /// The student, for pairs of this shape.
    pub fn student_config(
        &self,
        shape: Vec<usize>,
        label_dim: usize,
        noise_std: f64,
    ) -> StudentConfig {
        StudentConfig {
            method: self.student.method,
            shape,
            label_dim,
            noise_std,
            latent: self.student.latent,
            network: self.student.network.clone(),
            operator: self.student.operator.clone(),
        }
    }

    /// The loop of the student's training.
    pub fn student_loop(&self) -> LoopConfig {
        let t = &self.train;
        LoopConfig {
            iterations: t.iterations,
            lr: t.lr,
            schedule: t.schedule,
            warmup: t.warmup,
            optimizer: OptimizerConfig {
                beta1: t.beta1,
                beta2: t.beta2,
                epsilon: t.epsilon,
                ema_decay: t.ema_decay,
                ema_rampup: (t.ema_rampup > 0.0).then_some(t.ema_rampup),
                non_finite: t.non_finite,
            },
            log_every: t.log_every,
            validate_every: t.validate_every,
            checkpoint_every: t.checkpoint_every,
            best_by: t.best_by.clone(),
            config: json!({ "experiment": self }),
        }
    }

    /// The loop of the teacher's training.
    pub fn teacher_loop(&self) -> LoopConfig {
        let t = &self.teacher.train;
        LoopConfig {
            iterations: t.iterations,
            lr: t.lr,
            schedule: t.schedule,
            warmup: t.warmup,
            optimizer: OptimizerConfig {
                ema_decay: t.ema_decay,
                ema_rampup: (t.ema_rampup > 0.0).then_some(t.ema_rampup),
                ..OptimizerConfig::default()
            },
            log_every: self.train.log_every,
            validate_every: self.train.validate_every,
            checkpoint_every: self.train.checkpoint_every,
            best_by: "loss".into(),
            config: json!({ "teacher": self.teacher, "seed": self.seed }),
        }
    }
}

/// Whether LPIPS can see images of this shape.
pub fn has_sides(shape: &[usize], least: usize) -> bool {
    matches!(shape, [1 | 3, height, width] if *height.min(width) >= least)
}

/// Floating-point operations for a person.
fn operations(flops: f64) -> String {
    const UNITS: [(f64, &str); 4] =
        [(1e18, "EFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP")];
    let (size, unit) = UNITS.into_iter().find(|(size, _)| flops >= *size).unwrap_or((1e3, "kFLOP"));
    format!("{:.3} {unit}", flops / size)
}

/// How deep files may build on each other.
const MAX_BASES: usize = 8;

/// The table of a preset or file over that of its base, and a label for messages.
fn layered(source: &str, depth: usize) -> Outcome<(String, Table)> {
    let (label, text) = match PRESETS.iter().find(|(name, _)| *name == source) {
        Some((name, text)) => (format!("preset `{name}`"), (*text).to_string()),
        None if source.ends_with(".toml") => {
            let path = Path::new(source);
            let text = std::fs::read_to_string(path).map_err(kdm_data::Error::io("read", path))?;
            (format!("`{source}`"), text)
        }
        None => {
            let names: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
            let close = closest(source, names.iter().copied())
                .map(|c| format!("; did you mean `{c}`?"))
                .unwrap_or_default();
            let known = names.join(", ");
            return Err(Failure::Usage(format!(
                "no preset `{source}`{close} Presets are {known}; or give a file that ends in .toml"
            )));
        }
    };
    let mut overlay = text.parse::<Table>().map_err(|e| {
        Failure::Usage(format!("{label}: not readable as TOML: {}", e.to_string().trim()))
    })?;
    let mut table = match overlay.remove("base") {
        None => BASE.parse::<Table>().expect("a file of this project"),
        Some(Value::String(_)) if depth >= MAX_BASES => {
            return Err(Failure::Usage(format!(
                "{label}: `base`: files build on each other in a circle; remove one `base`"
            )));
        }
        Some(Value::String(base)) => layered(&base, depth + 1)?.1,
        Some(other) => {
            return Err(Failure::Usage(format!(
                "{label}: `base` is {other} and must be a preset's name or a file"
            )));
        }
    };
    merge(&mut table, overlay);
    Ok((label, table))
}

/// Lays `overlay` over `table`. A table that says of another kind than the one below it replaces it
/// whole.
fn merge(table: &mut Table, overlay: Table) {
    for (key, value) in overlay {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => {
                // Teachers keep all their fields whatever their kind.
                let tag = match (key.as_str(), above.contains_key("architecture")) {
                    ("data", _) => "name",
                    (_, true) => "architecture",
                    _ => "kind",
                };
                let other_kind = key != "teacher"
                    && above.get(tag).is_some_and(|kind| below.get(tag) != Some(kind));
                if other_kind && key != "operator" {
                    *below = above;
                } else {
                    merge(below, above);
                }
            }
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

/// A TOML value, or else a plain string.
fn parse_value(text: &str) -> Value {
    let parsed = format!("value = {text}").parse::<Table>();
    parsed
        .ok()
        .and_then(|mut t| t.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_string()))
}

/// For "unknown field `x`, expected one of `a`, `b`": the closest of those.
fn suggestion(problem: &str) -> String {
    let mut quoted = problem.split('`').skip(1).step_by(2);
    let unknown = problem.starts_with("unknown");
    match quoted.next() {
        Some(wrong) if unknown => {
            closest(wrong, quoted).map(|c| format!("; did you mean `{c}`?")).unwrap_or_default()
        }
        _ => String::new(),
    }
}

fn closest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |name: &str| strsim::damerau_levenshtein(wrong, name);
    names.map(|name| (distance(name), name)).min().filter(|(d, _)| *d <= 3).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_load_and_survive_their_own_toml() {
        for (name, _) in PRESETS {
            let experiment = Experiment::load(name, &[]).unwrap();
            let table = experiment.to_toml().parse::<Table>().unwrap();
            assert_eq!(Experiment::from_table("again", table).unwrap(), experiment);
        }
        assert_eq!(Experiment::load("checkerboard-paper", &[]).unwrap().train.iterations, 20_001);
    }

    /// The paper's numbers: 47.5 M parameters, 11.0 GFLOP a sample, latents of 1024 (and 512 for
    /// 64x64 images).
    #[test]
    fn image_presets_are_of_the_papers_sizes() {
        let student = |name: &str| {
            let e = Experiment::load(name, &[]).unwrap();
            let (shape, label_dim) = e.sample().unwrap();
            e.student_config(shape, label_dim, e.pairs.process.noise_std())
        };
        let uncond = student("cifar10-uncond");
        let millions = uncond.parameters() as f64 / 1e6;
        assert!((millions - 47.5).abs() < 0.05, "{millions} million parameters");
        let gflops = uncond.flops(false, true) / 1e9;
        assert!((gflops - 11.0).abs() < 0.2, "{gflops} GFLOP a sample");
        assert_eq!((uncond.operator_dim(), uncond.noise_std), (1024, 80.0));
        let cond = student("cifar10-cond");
        assert!(cond.operator.control && cond.label_dim == 10);
        assert_eq!(
            student("cifar10-factorized").operator.kind,
            kdm_koopman::OperatorKind::Factorized
        );
        for name in ["ffhq64", "afhqv2-64"] {
            let config = student(name);
            assert_eq!((config.shape.as_slice(), config.operator_dim()), (&[3, 64, 64][..], 512));
        }
    }

    #[test]
    fn settings_reach_every_depth() {
        let set = [
            "train.lr=0.5",
            "student.operator.projection=8",
            "student.operator.kind=factorized",
            "name=x y",
        ];
        let settings: Vec<String> = set.iter().map(ToString::to_string).collect();
        let e = Experiment::load("checkerboard", &settings).unwrap();
        assert_eq!(
            (e.train.lr, e.student.operator.projection, e.name.as_str()),
            (0.5, Some(8), "x y")
        );
        assert_eq!(e.student.operator.kind, kdm_koopman::OperatorKind::Factorized);
        let other =
            ["pairs.process={kind='diffusion',sigma_min=0.01,sigma_max=10.0,rho=7.0}".to_string()];
        assert_eq!(
            Experiment::load("checkerboard", &other).unwrap().pairs.process.noise_std(),
            10.0
        );
    }

    #[test]
    fn mistakes_are_named_with_their_mend() {
        let message = |setting: &str| {
            Experiment::load("checkerboard", &[setting.to_string()]).unwrap_err().to_string()
        };
        for (setting, parts) in [
            ("train.itrations=5", ["train.itrations", "did you mean `iterations`"]),
            ("train.lr=-1", ["`train.lr` is -1", "above 0"]),
            ("train.batch=\"many\"", ["train.batch", "invalid type"]),
            ("loss.reconstruction=l3", ["loss.reconstruction", "did you mean `l2`"]),
            ("train.held_out=50000", ["train.held_out", "none to train on"]),
            ("student.operator.control=true", ["student.operator.control", "no labels"]),
            ("train.best_by=fid", ["train.best_by", "one of"]),
        ] {
            let message = message(setting);
            assert!(parts.iter().all(|part| message.contains(part)), "{setting}: {message}");
        }
        // Several problems are told at once.
        let settings = ["train.lr=-1".to_string(), "pairs.count=0".to_string()];
        let both = Experiment::load("checkerboard", &settings).unwrap_err().to_string();
        assert!(both.contains("train.lr") && both.contains("pairs.count"), "{both}");
        let close = Experiment::load("chekerboard", &[]).unwrap_err();
        assert!(
            close.to_string().contains("did you mean `checkerboard`") && close.exit_code() == 2
        );
    }
}
