//! What can go wrong with a measurement.

use kdm_observer::Stopped;

use crate::features::extractor::UnfitImages;
use crate::frechet::FrechetError;
use crate::statistics::OtherNetwork;

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
