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
    /// The operator's matrix or bias holds NaN or infinity.
    #[error("the operator has values that are not finite; distill the student again")]
    NotFinite,
    /// Eigenvectors of the operator are linearly dependent to machine precision.
    #[error(
        "the operator has no basis of eigenvectors, so it can't be split into modes; use principal \
         directions instead"
    )]
    NoEigenbasis,
    /// A decomposition of a matrix did not converge.
    #[error("{of}: {reason}; distill the student again")]
    Decomposition {
        /// What was to be found, such as "the singular values of the operator".
        of: &'static str,
        /// The problem.
        reason: String,
    },
    /// Features of samples can't be compared with the reference's.
    #[error("features of samples: {reason}; look at the student's images")]
    Features {
        /// The problem.
        reason: String,
    },
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
    #[error("the analysis was stopped; run the same command again to start it anew")]
    Stopped,
}

impl From<Stopped> for Error {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl Error {
    /// For `map_err` on a decomposition of faer's.
    pub(crate) fn decomposition<E: std::fmt::Debug>(of: &'static str) -> impl FnOnce(E) -> Self {
        move |e| Self::Decomposition { of, reason: format!("{e:?}") }
    }

    /// An error unless `what` holds as many values as expected.
    pub(crate) fn check_length(what: &'static str, expected: usize, found: usize) -> Result<()> {
        if expected == found { Ok(()) } else { Err(Self::Length { what, expected, found }) }
    }
}
