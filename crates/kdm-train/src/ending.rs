//! Whether a training came to a sound end.

use std::path::Path;

use burn::module::Module;
use burn::tensor::TensorData;
use kdm_nn::state::state_dict;
use serde_json::Value;

use crate::error::DIVERGED;
use crate::{Error, Result, read_metrics};

/// A training whose end is not finite has failed, whatever was done about its gradients: in its
/// averaged weights, the loss that `folder`'s log has of the last iteration, or the values of the
/// validation. It fails again when it is gone on with.
///
/// # Errors
/// [`Error::Diverged`], and when the log can't be read.
pub fn check(
    averaged: &impl Module,
    iteration: u64,
    folder: &Path,
    validated: impl FnOnce() -> Vec<(String, f64)>,
) -> Result<()> {
    let finite = |data: &TensorData| data.iter::<f32>().all(f32::is_finite);
    // A loss that isn't finite is null in the log.
    let null = |line: &Value| {
        line["iteration"] == iteration && line.get("train/loss").is_some_and(Value::is_null)
    };
    let weight = state_dict(averaged).into_iter().find(|(_, data)| !finite(data));
    let what = if let Some((name, _)) = weight {
        format!("`{name}`")
    } else if read_metrics(folder)?.iter().any(null) {
        "the loss".into()
    } else {
        match validated().into_iter().find(|(_, value)| !value.is_finite()) {
            Some((name, _)) => format!("`{name}`"),
            None => return Ok(()),
        }
    };
    Err(Error::Diverged { iteration, what, action: DIVERGED.into() })
}
