//! What can end a training early.

use std::path::PathBuf;

/// The result of a training.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a training ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] kdm_data::Error),
    /// A gradient has a value that is NaN or infinite.
    #[error(
        "iteration {iteration}: the gradient of `{parameter}` is not finite (loss {loss}); {kept}; \
         lower `train.lr` and resume, or set `train.non_finite` to \"replace\" as the paper does"
    )]
    NonFinite {
        /// The iteration, counted from 1.
        iteration: u64,
        /// The first parameter with such a gradient.
        parameter: String,
        /// The loss of that iteration.
        loss: f64,
        /// Which checkpoint is kept, in words.
        kept: String,
    },
    /// Weights don't fit the network.
    #[error(transparent)]
    State(#[from] kdm_nn::StateError),
    /// The observer wanted the training to stop.
    #[error(
        "stopped at iteration {iteration} of {iterations}; the checkpoint of that iteration is \
         kept in `{}`; run the same command again to continue, with --resume where it has that \
         flag", checkpoint.display()
    )]
    Stopped {
        /// Iterations done, which the checkpoint holds.
        iteration: u64,
        /// Iterations in all.
        iterations: u64,
        /// The checkpoint's file.
        checkpoint: PathBuf,
    },
}
