//! What can go wrong in an analysis.

use kdm_observer::Stopped;

/// The result of an analysis.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something can't be analyzed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The student has no operator.
    #[error("a direct student has no operator; give a student of the method `koopman`")]
    NoOperator,
    /// The operator has values that are not finite, no basis of eigenvectors, or a decomposition of
    /// it did not converge.
    #[error(transparent)]
    Operator(kdm_koopman::Error),
    /// The principal directions of pushed latents were not found.
    #[error(
        "the principal directions of latents of dimension {n} were not found; distill the student \
         again"
    )]
    PrincipalDirections {
        /// The latent dimension.
        n: usize,
    },
    /// Features of samples can't be computed, or compared with the reference's.
    #[error(transparent)]
    Metrics(kdm_metrics::Error),
    /// An array has another length than what it belongs to.
    #[error("{what}: {found} values where {expected} were expected; give arrays of one shape")]
    Length {
        /// Which array.
        what: &'static str,
        /// Values it should have.
        expected: usize,
        /// Values it has.
        found: usize,
    },
    /// The observer asked the analysis to stop.
    #[error("the analysis was stopped, and nothing is kept; run it again to start anew")]
    Stopped,
}

impl From<Stopped> for Error {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<kdm_koopman::Error> for Error {
    fn from(error: kdm_koopman::Error) -> Self {
        match error {
            kdm_koopman::Error::Stopped => Self::Stopped,
            error => Self::Operator(error),
        }
    }
}

impl From<kdm_metrics::Error> for Error {
    fn from(error: kdm_metrics::Error) -> Self {
        match error {
            kdm_metrics::Error::Stopped(_) => Self::Stopped,
            error => Self::Metrics(error),
        }
    }
}

impl Error {
    /// An error unless `what` holds as many values as expected.
    pub(crate) fn check_length(what: &'static str, expected: usize, found: usize) -> Result<()> {
        if expected == found { Ok(()) } else { Err(Self::Length { what, expected, found }) }
    }
}
