//! Experiments as configuration: TOML files over common values, strict about every key.

use std::path::Path;

use kdm_core::{LossConfig, NetworkConfig, OperatorConfig, StudentConfig};
use kdm_data::pairs::ImageType;
use kdm_teacher::distribution::{Distribution, DistributionConfig};
use kdm_teacher::{Denoiser, FlowMlpConfig, Process, Solver};
use kdm_train::{LoopConfig, NonFinite, OptimizerConfig, Schedule};
use serde::{Deserialize, Serialize};
use serde_json::json;
use toml::{Table, Value};

use crate::{Failure, Outcome};

const BASE: &str = include_str!("../../../presets/base.toml");

/// The built-in presets: name and text.
pub const PRESETS: [(&str, &str); 2] = [
    ("checkerboard", include_str!("../../../presets/checkerboard.toml")),
    ("checkerboard-paper", include_str!("../../../presets/checkerboard-paper.toml")),
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
}

/// Which kind of teacher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TeacherKind {
    /// Closed form.
    Exact,
    /// Trained by flow matching.
    FlowMlp,
}

/// The teacher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs)]
pub struct TeacherSection {
    pub kind: TeacherKind,
    pub hidden: usize,
    pub layers: usize,
    pub data: DistributionConfig,
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
    pub process: Process,
}

/// The student.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs)]
pub struct StudentSection {
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
}

/// Validation values a student can be chosen by.
const BEST_BY: [&str; 6] = ["rmse", "median_error", "latent", "rec", "push", "total"];

impl Experiment {
    /// The experiment that `source` names: a built-in preset, or a TOML file (with an optional `base`, the preset it
    /// starts from). `settings` are KEY=VALUE with dotted keys, applied last.
    ///
    /// # Errors
    /// A usage failure that names the file and every key that is unknown or impossible.
    pub fn load(source: &str, settings: &[String]) -> Outcome<Self> {
        let (label, mut table) = layered(source, 0)?;
        for setting in settings {
            let (key, value) = setting
                .split_once('=')
                .ok_or_else(|| Failure::Usage(format!("--set {setting}: write KEY=VALUE, such as train.lr=1e-3")))?;
            let value = parse_value(value.trim());
            let mut overlay = Table::new();
            let mut place = &mut overlay;
            let parts: Vec<&str> = key.trim().split('.').collect();
            for part in &parts[..parts.len() - 1] {
                let next = place.entry((*part).to_string()).or_insert_with(|| Value::Table(Table::new()));
                place = next.as_table_mut().expect("just made");
            }
            place.insert(parts[parts.len() - 1].to_string(), value);
            merge(&mut table, overlay);
        }
        Self::from_table(&label, table)
    }

    fn from_table(label: &str, table: Table) -> Outcome<Self> {
        let experiment: Self = serde_path_to_error::deserialize(Value::Table(table)).map_err(|e| {
            let path = e.path().to_string();
            let problem = e.into_inner().to_string();
            let problem = problem.lines().next().unwrap_or_default().to_string();
            Failure::Usage(format!("{label}: `{path}`: {problem}{}", suggestion(&problem)))
        })?;
        let problems = experiment.problems();
        if problems.is_empty() {
            return Ok(experiment);
        }
        let list: Vec<String> = problems.iter().map(|(field, problem)| format!("`{field}` {problem}")).collect();
        Err(Failure::Usage(format!("{label}: {}; change it in the file or with --set", list.join("; "))))
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
        for (field, value) in [("teacher.train.lr", tt.lr), ("train.lr", t.lr), ("train.epsilon", t.epsilon)] {
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
                problems.push((field.into(), format!("is {value} and must be at least 0 and below 1")));
            }
        }
        if t.held_out >= p.count {
            problems.push((
                "train.held_out".into(),
                format!("is {} of {} pairs, which leaves none to train on", t.held_out, p.count),
            ));
        }
        if !BEST_BY.contains(&t.best_by.as_str()) {
            problems.push(("train.best_by".into(), format!("is `{}` and must be one of {BEST_BY:?}", t.best_by)));
        }
        if let Some((field, problem)) = p.process.problem() {
            problems.push((format!("pairs.process.{field}"), problem));
        }
        problems.extend(self.loss.problems().into_iter().map(|(f, p)| (format!("loss.{f}"), p)));
        match self.teacher.data.build() {
            Err((field, problem)) => problems.push((format!("teacher.data.{field}"), problem)),
            Ok(data) => {
                let student = self.student_config(data.shape(), data.label_dim(), p.process.noise_std());
                problems.extend(student.problems().into_iter().map(|(f, p)| (format!("student.{f}"), p)));
            }
        }
        problems
    }

    /// The distribution of the teacher's data.
    pub fn distribution(&self) -> Distribution {
        self.teacher.data.build().expect("checked when loaded")
    }

    /// The trained teacher's network.
    pub fn flow_mlp(&self) -> FlowMlpConfig {
        let TeacherSection { hidden, layers, ref data, .. } = self.teacher;
        FlowMlpConfig { data: data.clone(), hidden, layers }
    }

    /// The student, for pairs of this shape.
    pub fn student_config(&self, shape: Vec<usize>, label_dim: usize, noise_std: f64) -> StudentConfig {
        StudentConfig {
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
            optimizer: OptimizerConfig { ema_decay: t.ema_decay, ..OptimizerConfig::default() },
            log_every: self.train.log_every,
            validate_every: self.train.validate_every,
            checkpoint_every: self.train.checkpoint_every,
            best_by: "loss".into(),
            config: json!({ "teacher": self.teacher, "seed": self.seed }),
        }
    }
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
            let close =
                closest(source, names.iter().copied()).map(|c| format!("; did you mean `{c}`?")).unwrap_or_default();
            let known = names.join(", ");
            return Err(Failure::Usage(format!(
                "no preset `{source}`{close} Presets are {known}; or give a file that ends in .toml"
            )));
        }
    };
    let mut overlay = text
        .parse::<Table>()
        .map_err(|e| Failure::Usage(format!("{label}: not readable as TOML: {}", e.to_string().trim())))?;
    let mut table = match overlay.remove("base") {
        None => BASE.parse::<Table>().expect("a file of this project"),
        Some(Value::String(_)) if depth >= MAX_BASES => {
            return Err(Failure::Usage(format!(
                "{label}: `base`: files build on each other in a circle; remove one `base`"
            )));
        }
        Some(Value::String(base)) => layered(&base, depth + 1)?.1,
        Some(other) => {
            return Err(Failure::Usage(format!("{label}: `base` is {other} and must be a preset's name or a file")));
        }
    };
    merge(&mut table, overlay);
    Ok((label, table))
}

/// Lays `overlay` over `table`. A table that says of another kind than the one below it replaces it whole.
fn merge(table: &mut Table, overlay: Table) {
    for (key, value) in overlay {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => {
                // Teachers keep all their fields whatever their kind.
                let tag = if key == "data" { "name" } else { "kind" };
                let other_kind = key != "teacher" && above.get(tag).is_some_and(|kind| below.get(tag) != Some(kind));
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
    parsed.ok().and_then(|mut t| t.remove("value")).unwrap_or_else(|| Value::String(text.to_string()))
}

/// For "unknown field `x`, expected one of `a`, `b`": the closest of those.
fn suggestion(problem: &str) -> String {
    let mut quoted = problem.split('`').skip(1).step_by(2);
    let unknown = problem.starts_with("unknown");
    match quoted.next() {
        Some(wrong) if unknown => closest(wrong, quoted).map(|c| format!("; did you mean `{c}`?")).unwrap_or_default(),
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

    #[test]
    fn settings_reach_every_depth() {
        let set = ["train.lr=0.5", "student.operator.projection=8", "student.operator.kind=factorized", "name=x y"];
        let settings: Vec<String> = set.iter().map(ToString::to_string).collect();
        let e = Experiment::load("checkerboard", &settings).unwrap();
        assert_eq!((e.train.lr, e.student.operator.projection, e.name.as_str()), (0.5, Some(8), "x y"));
        assert_eq!(e.student.operator.kind, kdm_core::OperatorKind::Factorized);
        let other = ["pairs.process={kind='diffusion',sigma_min=0.01,sigma_max=10.0,rho=7.0}".to_string()];
        assert_eq!(Experiment::load("checkerboard", &other).unwrap().pairs.process.noise_std(), 10.0);
    }

    #[test]
    fn mistakes_are_named_with_their_mend() {
        let message = |setting: &str| Experiment::load("checkerboard", &[setting.to_string()]).unwrap_err().to_string();
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
        assert!(close.to_string().contains("did you mean `checkerboard`") && close.exit_code() == 2);
    }
}
