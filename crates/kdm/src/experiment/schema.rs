//! What an experiment is, section by section: the keys of a TOML file.

use std::path::Path;

use kdm_data::pairs::ImageType;
use kdm_koopman::{
    EigenvalueTarget, LossConfig, Method, NetworkConfig, OperatorConfig, Reconstruction,
};
use kdm_nn::UNetConfig;
use kdm_teacher::distributions::DistributionConfig;
use kdm_teacher::{Process, Solver};
use kdm_train::{NonFinite, Schedule};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::presets::{layered, merge, over_base, over_its_base, parse_value, suggestion};
use crate::{Failure, Outcome};

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
    pub loss: LossSection,
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
    /// An MLP trained by flow matching.
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
    #[serde(default = "one_leaf", skip_serializing_if = "is_one")]
    pub leaves: usize,
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
    #[serde(default, skip_serializing_if = "is_zero")]
    pub states: usize,
    pub process: Process,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

fn is_one(n: &usize) -> bool {
    *n == 1
}

fn one_leaf() -> usize {
    1
}

/// The student.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs)]
pub struct StudentSection {
    #[serde(default)]
    pub method: Method,
    pub latent: usize,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<usize>,
    pub network: NetworkConfig,
    pub operator: OperatorConfig,
}

/// The loss: its terms (see [`LossConfig`]), and the files of the networks that it looks through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs)]
pub struct LossSection {
    pub reconstruction: Reconstruction,
    pub latent_weight: f64,
    pub rec_weight: f64,
    pub push_weight: f64,
    #[serde(default)]
    pub adversarial_weight: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lpips_weights: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<String>,
    pub eigenvalues: EigenvalueTarget,
    pub latent_noise: f64,
    #[serde(default = "one")]
    pub state_latent_weight: f64,
    #[serde(default = "one")]
    pub state_push_weight: f64,
    #[serde(default = "one")]
    pub state_weight: f64,
}

fn one() -> f64 {
    1.0
}

impl LossSection {
    /// The terms alone, as they stand in a student's file.
    pub fn config(&self) -> LossConfig {
        LossConfig {
            reconstruction: self.reconstruction,
            latent_weight: self.latent_weight,
            rec_weight: self.rec_weight,
            push_weight: self.push_weight,
            adversarial_weight: self.adversarial_weight,
            eigenvalues: self.eigenvalues,
            latent_noise: self.latent_noise,
            state_latent_weight: self.state_latent_weight,
            state_push_weight: self.state_push_weight,
            state_weight: self.state_weight,
        }
    }
}

/// The student's training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs)]
pub struct TrainSection {
    pub iterations: u64,
    pub batch: usize,
    #[serde(default = "one_leaf", skip_serializing_if = "is_one")]
    pub leaves: usize,
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

/// Characters of what is wrong with a value that are told at most.
const MOST_TOLD: usize = 500;
/// Levels of a key at most: more than there are, and few enough to be walked.
const MOST_LEVELS: usize = 16;

impl Experiment {
    /// The experiment that `source` names: a built-in preset, or a TOML file (with an optional
    /// `base`, the preset it starts from). `settings` are KEY=VALUE with dotted keys, applied last.
    ///
    /// # Errors
    /// A usage failure that names the file and every key that is unknown or impossible.
    pub fn load(source: &str, settings: &[String]) -> Outcome<Self> {
        let (label, mut table) = layered(source, 0)?;
        set_all(&mut table, settings)?;
        let experiment = Self::from_table(&label, table)?;
        // What a comparison can't train is told before any work, whichever command it is.
        experiment.variants()?;
        Ok(experiment)
    }

    /// The experiment of a JSON object that says what a file would: nested keys, and an optional
    /// `base`.
    ///
    /// # Errors
    /// As [`Self::load`]; `label` is what messages call it.
    pub fn of_json(label: &str, value: &serde_json::Value) -> Outcome<Self> {
        let table = Table::try_from(value).map_err(|e| {
            let problem = e.to_string();
            Failure::Usage(format!("{label}: {}; leave out keys without a value", problem.trim()))
        })?;
        let experiment = Self::from_table(label, over_its_base(label, table, 0)?)?;
        experiment.variants()?;
        Ok(experiment)
    }

    /// The experiment of a text that stands for a file, over the common values.
    ///
    /// # Errors
    /// As [`Self::load`]; `label` is what messages call it.
    pub fn over_base(label: &str, text: &str) -> Outcome<Self> {
        Self::from_table(label, over_base(label, text)?)
    }

    /// The same with other values, KEY=VALUE with dotted keys.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn with(&self, settings: &[String]) -> Outcome<Self> {
        let mut table = self.to_toml().parse::<Table>().expect("written here");
        set_all(&mut table, settings)?;
        Self::from_table("the experiment", table)
    }

    pub(super) fn from_table(label: &str, table: Table) -> Outcome<Self> {
        if let Some(key) = key_of_no_flow(&table) {
            let key: String = key.chars().take(40).collect();
            return Err(Failure::Usage(format!(
                "{label}: `pairs.process`: unknown field `{key}`: a flow has none but `kind`; \
                 leave it out, or set pairs.process.kind=diffusion"
            )));
        }
        let experiment: Self =
            serde_path_to_error::deserialize(Value::Table(table)).map_err(|e| {
                let path = e.path().to_string();
                let problem = e.into_inner().to_string();
                let problem: String =
                    problem.lines().next().unwrap_or_default().chars().take(MOST_TOLD).collect();
                Failure::Usage(format!("{label}: `{path}`: {problem}{}", suggestion(&problem)))
            })?;
        let problems = experiment.problems();
        if problems.is_empty() {
            return Ok(experiment);
        }
        let list: Vec<String> = problems.iter().map(ToString::to_string).collect();
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

    /// The experiment as TOML, every value resolved.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("plain data")
    }
}

/// A key beside `kind` in the process of a flow, which has no numbers; serde lets any pass.
fn key_of_no_flow(table: &Table) -> Option<&String> {
    let process = table.get("pairs")?.get("process")?.as_table()?;
    let flow = process.get("kind").and_then(Value::as_str) == Some("flow");
    process.keys().find(|key| flow && *key != "kind")
}

/// Applies KEY=VALUE settings.
fn set_all(table: &mut Table, settings: &[String]) -> Outcome<()> {
    for setting in settings {
        let (key, value) = setting.split_once('=').ok_or_else(|| {
            Failure::Usage(format!("--set {setting}: write KEY=VALUE, such as train.lr=1e-3"))
        })?;
        let value = parse_value(value.trim());
        let mut overlay = Table::new();
        let mut place = &mut overlay;
        let parts: Vec<&str> = key.trim().split('.').collect();
        if parts.len() > MOST_LEVELS {
            let (start, levels): (String, _) = (key.chars().take(40).collect(), parts.len());
            return Err(Failure::Usage(format!(
                "--set {start}...: the key has {levels} levels, and none has more than \
                 {MOST_LEVELS}; see the keys with --dry-run"
            )));
        }
        for part in &parts[..parts.len() - 1] {
            let next =
                place.entry((*part).to_string()).or_insert_with(|| Value::Table(Table::new()));
            place = next.as_table_mut().expect("just made");
        }
        place.insert(parts[parts.len() - 1].to_string(), value);
        merge(table, overlay);
    }
    Ok(())
}
