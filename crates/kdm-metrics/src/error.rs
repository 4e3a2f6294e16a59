//! What can go wrong with a measurement.

use kdm_observer::Stopped;

use crate::stamp::Stamp;

/// The result of a measurement.
pub type Result<T> = std::result::Result<T, Error>;

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Distances between features can't be computed.
    #[error(transparent)]
    Frechet(#[from] FrechetError),
    /// The feature network takes other images.
    #[error(transparent)]
    Images(#[from] UnfitImages),
    /// The reference is of other features.
    #[error(transparent)]
    Network(#[from] OtherNetwork),
    /// The observer wanted it to stop.
    #[error("stopped before all metrics were measured; run the same command again")]
    Stopped(#[from] Stopped),
}

/// Why there is no Fréchet distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrechetError {
    /// The features are of different networks.
    #[error("features of {0} and of {1} values can't be compared; take both from one network")]
    Dimensions(usize, usize),
    /// Some value is NaN or infinite.
    #[error("the features have values that are not finite; look at the images that they are of")]
    NotFinite,
    /// An extrapolation needs more samples.
    #[error("{found} samples are too few to extrapolate from; draw at least {needed}")]
    TooFew {
        /// Samples there are.
        found: usize,
        /// The least number.
        needed: usize,
    },
}

/// Images of a shape that a feature network doesn't take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the features `{network}` are of images {expected}, and these are {found:?}; choose the \
     features of a network for such images"
)]
pub struct UnfitImages {
    /// The network's name.
    pub network: String,
    /// The shapes that it takes, in words.
    pub expected: String,
    /// The images' shape.
    pub found: Vec<usize>,
}

/// Statistics of another network than the features that are compared with them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the statistics are of the network `{}` ({}, {expected_dim} features), and the features come \
     from `{}` ({}, {found_dim}); make them with the same network: `kdm features stats`",
    expected.name, short(&expected.sha256), found.name, short(&found.sha256)
)]
pub struct OtherNetwork {
    /// The statistics' network.
    pub expected: Box<Stamp>,
    /// Values of its feature vectors.
    pub expected_dim: usize,
    /// The network of the features.
    pub found: Box<Stamp>,
    /// Values of its feature vectors.
    pub found_dim: usize,
}

/// The beginning of a hash, for messages.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or("unknown")
}
