//! Trainings that go on for longer than they were begun for.

use std::path::Path;

use kdm_observer::Observer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::checkpoint::{self, CHECKPOINT};
use crate::{LoopConfig, Result};

/// Where a training was made longer than it had been planned. Recorded where the learning rate
/// depends on the length, so that the training is not the one that its length alone would say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// Iterations done by then.
    pub at: u64,
    /// Iterations that had been planned in all.
    pub planned: u64,
}

/// The key of a checkpoint's inputs that extensions are kept under.
const EXTENDED: &str = "extended";

/// The extensions of the training in `folder`, as [`crate::train`] would go on with it; none where
/// there is no training.
///
/// # Errors
/// When its checkpoint can't be read.
pub fn extensions(folder: &Path, config: &LoopConfig) -> Result<Vec<Extension>> {
    let path = folder.join(CHECKPOINT);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let file = checkpoint::open(&path)?;
    let metadata = file.metadata();
    let iteration = metadata["iteration"].as_u64().unwrap_or(0);
    Ok(extended(&metadata["config"], iteration, config))
}

/// The extensions so far of a training with the inputs `begun`, which has come to `iteration`, and
/// the one that `config` makes.
fn extended(begun: &Value, iteration: u64, config: &LoopConfig) -> Vec<Extension> {
    let mut all: Vec<Extension> =
        serde_json::from_value(begun[EXTENDED].clone()).unwrap_or_default();
    if let Some(planned) = planned(begun, config)
        && (1..config.iterations).contains(&planned)
        && iteration > 0
        && config.schedule.depends_on_length()
    {
        all.push(Extension { at: iteration, planned });
    }
    all
}

/// The iterations that a training with these inputs was begun for, where they tell.
pub(crate) fn planned(begun: &Value, config: &LoopConfig) -> Option<u64> {
    begun.pointer(config.length_key?)?.as_u64()
}

/// The inputs to keep from now on, with the extensions.
pub(crate) fn with_extensions(
    given: &Value,
    begun: &Value,
    iteration: u64,
    config: &LoopConfig,
) -> Value {
    let all = extended(begun, iteration, config);
    let mut inputs = given.clone();
    if !all.is_empty() {
        inputs[EXTENDED] = json!(all);
    }
    inputs
}

/// The inputs but for what may change: the length, and the extensions.
pub(crate) fn without_length(inputs: &Value, config: &LoopConfig) -> Value {
    let mut inputs = inputs.clone();
    if let Some(object) = inputs.as_object_mut() {
        object.remove(EXTENDED);
    }
    let place = config.length_key.and_then(|key| key.rsplit_once('/'));
    if let Some((parent, key)) = place
        && let Some(object) = inputs.pointer_mut(parent).and_then(Value::as_object_mut)
    {
        object.remove(key);
    }
    inputs
}

/// Says what a training's becoming longer means for its learning rate.
pub(crate) fn tell(
    task: &str,
    at: u64,
    planned: u64,
    config: &LoopConfig,
    observer: &dyn Observer,
) {
    let LoopConfig { iterations, schedule, warmup, lr, .. } = *config;
    if !schedule.depends_on_length() {
        return observer.info(&format!(
            "{task}: extended from {planned} to {iterations} iterations; the learning rate is \
             constant, so this is the training that {iterations} iterations from the beginning are"
        ));
    }
    let rate = |length| lr * schedule.factor(at, length, warmup);
    observer.warn(&format!(
        "{task}: extended from {planned} to {iterations} iterations; the cosine schedule depends \
         on the length: at iteration {at} the learning rate goes from {:.2e} to {:.2e}, and falls \
         to zero at {iterations}; the result is not that of {iterations} iterations from the \
         beginning, and its file says so",
        rate(planned),
        rate(iterations)
    ));
}
