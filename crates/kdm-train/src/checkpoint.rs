//! The state of a training in one file, written whole or not at all: weights, their moving average,
//! Adam's moments, and how far the training has come. Random numbers are functions of seed and
//! iteration, so the iteration is all of their state; the same holds for the place in the data.

use std::path::Path;

use burn::module::Module;
use kdm_data::{Error, TensorFile, tensors};
use kdm_nn::StateDict;
use kdm_nn::state::{load_state, state_dict};
use serde_json::{Value, json};

use crate::{Optimizer, Result};

/// The checkpoint's file name in a run folder.
pub const CHECKPOINT: &str = "checkpoint.safetensors";

const KIND: &str = "checkpoint";
const VERSION: u64 = 2;

/// What to do about a checkpoint that can't be used.
const DAMAGED: &str = "bring it back from a copy, or remove it: then the training begins anew";

/// Opens a checkpoint, whatever it says.
///
/// # Errors
/// When it can't be read or is damaged.
pub(crate) fn open(path: &Path) -> kdm_data::Result<TensorFile> {
    TensorFile::open(path).map_err(damaged)
}

/// The error, with what to do about a checkpoint.
fn damaged(error: Error) -> Error {
    match error {
        Error::Invalid { path, field, problem, .. } => {
            Error::invalid(path, field, problem, DAMAGED)
        }
        other => other,
    }
}

/// How far a training has come, beside its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Iterations done.
    pub iteration: u64,
    /// The best validation value so far, and its iteration.
    pub best: Option<(f64, u64)>,
    /// Iterations in which a gradient was not finite and was replaced.
    pub replaced: u64,
    /// What the training depends on, as it was begun (see [`crate::train`]).
    pub config: Value,
}

impl Checkpoint {
    /// Writes the training's whole state to `path`.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn save(&self, path: &Path, module: &impl Module, optimizers: &[Optimizer]) -> Result<()> {
        let weights = state_dict(module);
        let mut all = StateDict::new();
        let mut add = |prefix: &str, part: StateDict| {
            all.extend(part.into_iter().map(|(name, data)| (format!("{prefix}{name}"), data)));
        };
        for optimizer in optimizers {
            add("adam.m/", optimizer.first_moments(&weights));
            add("adam.v/", optimizer.second_moments(&weights));
            add("ema/", optimizer.ema(&weights));
        }
        add("model/", weights);
        // All optimizers step in every iteration.
        let steps = optimizers.first().map_or(0, Optimizer::steps);
        let metadata = json!({
            "version": VERSION,
            "kind": KIND,
            "iteration": self.iteration,
            "optimizer_steps": steps,
            "best": self.best,
            "replaced": self.replaced,
            "config": self.config,
        });
        Ok(tensors::write_state(path, &metadata, &all)?)
    }

    /// Reads what [`Self::save`] wrote into a module and optimizers of the same configuration.
    ///
    /// # Errors
    /// When the file is damaged, of another version, or its weights don't fit.
    pub fn load<M: Module>(
        path: &Path,
        module: M,
        optimizers: &mut [Optimizer],
    ) -> Result<(Self, M)> {
        let file = open(path)?;
        let metadata = file.metadata();
        if metadata["kind"] != KIND || metadata["version"] != VERSION {
            return Err(Error::invalid(
                path,
                "kind",
                format!(
                    "is {} version {}, and a {KIND} version {VERSION} is needed",
                    metadata["kind"], metadata["version"]
                ),
                "begin a new run, or resume with the program that wrote it",
            )
            .into());
        }
        let number = |field: &str| {
            metadata[field]
                .as_u64()
                .ok_or_else(|| Error::invalid(path, field, "is no whole number", DAMAGED))
        };
        let part = |prefix: &str| file.state(prefix).map_err(damaged);
        let module = load_state(module, &part("model/")?)?;
        let [m, v, ema] = ["adam.m/", "adam.v/", "ema/"].map(part);
        let (m, v, ema) = (m?, v?, ema?);
        let names = state_dict(&module);
        for part in [&m, &v, &ema] {
            if !part.keys().eq(names.keys()) {
                let problem = "moments and weights differ in their names";
                return Err(Error::invalid(path, "tensors", problem, DAMAGED).into());
            }
        }
        let steps = number("optimizer_steps")?;
        optimizers.iter_mut().for_each(|optimizer| optimizer.restore(steps, &m, &v, &ema));
        let best = serde_json::from_value(metadata["best"].clone()).unwrap_or(None);
        let checkpoint = Self {
            iteration: number("iteration")?,
            best,
            replaced: number("replaced")?,
            config: metadata["config"].clone(),
        };
        Ok((checkpoint, module))
    }
}
