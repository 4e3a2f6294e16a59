//! What can go wrong with a student, its operator and its files.

use std::fmt;

use kdm_observer::Stopped;

/// The result of working with a student.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why work with a student failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read, written or understood.
    #[error(transparent)]
    File(#[from] kdm_data::Error),
    /// The operator has values that are NaN or infinite.
    #[error("the operator has values that are not finite; distill the student again")]
    NotFinite,
    /// A matrix could not be taken apart.
    #[error(
        "the {decomposition} of a {n} x {n} operator did not converge; distill the student again"
    )]
    NoConvergence {
        /// What was looked for.
        decomposition: Decomposition,
        /// Rows and columns of the matrix.
        n: usize,
    },
    /// The matrix can't be diagonalised.
    #[error(
        "the operator, {n} x {n}, has no basis of eigenvectors; distill the student again, or use \
         what needs no modes"
    )]
    NoEigenvectors {
        /// Rows and columns of the matrix.
        n: usize,
    },
    /// The operator's matrix is too large for what needs it.
    #[error(
        "the operator has dimension {n}, and this needs its matrix, which is made up to dimension \
         {most}; use a student with a smaller latent"
    )]
    TooLarge {
        /// Its dimension.
        n: usize,
        /// The largest dimension.
        most: usize,
    },
    /// A class that the student doesn't have.
    #[error("class {class}: {}", classes(*label_dim))]
    UnknownClass {
        /// The class that was given.
        class: u32,
        /// Classes of the student.
        label_dim: usize,
    },
    /// A level that the student's latent doesn't have.
    #[error("level {level}: {}", known_levels(*levels))]
    UnknownLevel {
        /// The level that was given.
        level: usize,
        /// Levels of the latent.
        levels: usize,
    },
    /// The observer asked for a stop.
    #[error("stopped before the end, and nothing is kept; run it again to begin anew")]
    Stopped,
}

fn classes(label_dim: usize) -> String {
    match label_dim {
        0 => "this student is unconditional; leave classes out".into(),
        n => format!("this student has classes 0 to {}; give one of them", n - 1),
    }
}

fn known_levels(levels: usize) -> String {
    match levels {
        0 | 1 => "this student's latent has one level; leave levels out".into(),
        n => format!("this student's latent has levels 0 (the finest) to {}; give these", n - 1),
    }
}

impl From<Stopped> for Error {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// A way to take a matrix apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decomposition {
    /// All eigenvalues.
    Eigenvalues,
    /// The eigenvalues of largest modulus.
    LeadingEigenvalues,
    /// Eigenvalues with eigenvectors.
    Eigenvectors,
    /// Singular values with singular vectors.
    Svd,
}

impl fmt::Display for Decomposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eigenvalues => "computation of all eigenvalues",
            Self::LeadingEigenvalues => "iteration for the leading eigenvalues",
            Self::Eigenvectors => "eigendecomposition",
            Self::Svd => "singular value decomposition",
        })
    }
}
