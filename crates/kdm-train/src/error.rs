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
         {action}"
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
        /// What to do.
        action: String,
    },
    /// The training has come to its end in values that are NaN or infinite.
    #[error(
        "the training ended at iteration {iteration} with {what} not finite: it has diverged; \
         {action}"
    )]
    Diverged {
        /// Iterations in all.
        iteration: u64,
        /// What is not finite, in words.
        what: String,
        /// What to do.
        action: String,
    },
    /// Weights don't fit the network.
    #[error(transparent)]
    State(#[from] kdm_nn::StateError),
    /// Workers can't train together.
    #[error("{problem}; {action}")]
    Workers {
        /// Why not, in words.
        problem: String,
        /// What to do.
        action: String,
    },
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

/// What to do about values that are not finite, where nothing more is known of the settings.
pub(crate) const DIVERGED: &str = "begin another training with a lower `train.lr`";

impl Error {
    /// The same error; where values are not finite, it ends in this action.
    #[must_use]
    pub fn advise(mut self, advice: &str) -> Self {
        if let Self::NonFinite { action, .. } | Self::Diverged { action, .. } = &mut self {
            *action = advice.to_string();
        }
        self
    }
}
