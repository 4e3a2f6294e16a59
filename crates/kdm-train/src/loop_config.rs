//! The settings of the loop.

use crate::{OptimizerConfig, Schedule};

/// The settings of a training.
#[derive(Clone, Debug)]
pub struct LoopConfig {
    /// Iterations in all.
    pub iterations: u64,
    /// The equal parts of a batch whose gradients are computed one by one and summed along a fixed
    /// tree, a power of two; 1 for the whole batch at once.
    pub leaves: usize,
    /// Base learning rate.
    pub lr: f64,
    /// How the rate moves.
    pub schedule: Schedule,
    /// Iterations of linear warm-up.
    pub warmup: u64,
    /// Adam and the average.
    pub optimizer: OptimizerConfig,
    /// Iterations between lines of the log, at least 1.
    pub log_every: u64,
    /// Iterations between validations, at least 1.
    pub validate_every: u64,
    /// Iterations between checkpoints, at least 1.
    pub checkpoint_every: u64,
    /// The validation value by which the best weights are chosen, smaller being better.
    pub best_by: String,
    /// Where the inputs of [`crate::train`] say the number of iterations, as a JSON pointer; none
    /// where they don't. It may grow when a training is gone on with.
    pub length_key: Option<&'static str>,
}
