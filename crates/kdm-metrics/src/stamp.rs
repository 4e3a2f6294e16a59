//! Which network made features.

use serde::{Deserialize, Serialize};

/// Which network made features: its name and the hash of its weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// `inception`, or the data set of a classifier.
    pub name: String,
    /// SHA-256 of its configuration and weights.
    pub sha256: String,
}
