//! What an analysis left out, and why: no failure, but something a reader should know.

use serde::{Serialize, Serializer};

/// Something that was left out of an analysis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The operator is too large to be split into modes.
    OperatorTooLarge {
        /// Its dimension.
        dim: usize,
        /// The largest dimension that is split.
        most: usize,
    },
    /// The operator has no basis of eigenvectors, so there are no modes, no truncation and no
    /// trajectory.
    NoEigenbasis,
    /// Too few samples are in clusters to map them back to the noise.
    TooFewClustered {
        /// Samples in clusters.
        clustered: usize,
        /// Samples that are needed.
        least: usize,
    },
}

impl Note {
    /// Whether it should be shown as a warning; else it is for information.
    pub fn is_warning(&self) -> bool {
        !matches!(self, Self::TooFewClustered { .. })
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OperatorTooLarge { dim, most } => {
                write!(f, "the operator has dimension {dim}; modes are found up to {most}")
            }
            Self::NoEigenbasis => {
                f.write_str("the operator has no basis of eigenvectors: no modes are shown")
            }
            Self::TooFewClustered { clustered, least } => write!(
                f,
                "{clustered} samples are in clusters, and {least} are needed to map clusters back \
                 to the noise; give more samples"
            ),
        }
    }
}

impl Serialize for Note {
    /// As its text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
