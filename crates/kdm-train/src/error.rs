//! What can stop a training.

/// The result of a training.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a training stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] kdm_data::Error),
    /// A gradient has a value that is no number, or infinite.
    #[error(
        "iteration {iteration}: the gradient of `{parameter}` is not finite (loss {loss}); {kept}; \
         lower `train.lr` and resume, or set `train.non_finite` to \"replace\" as the paper does"
    )]
    NonFinite {
        /// The iteration, counted from 1.
        iteration: u64,
        /// The first parameter concerned.
        parameter: String,
        /// The loss of that iteration.
        loss: f64,
        /// What is safe on the disk.
        kept: String,
    },
    /// Weights don't fit the network.
    #[error(transparent)]
    State(#[from] kdm_nn::StateError),
}
