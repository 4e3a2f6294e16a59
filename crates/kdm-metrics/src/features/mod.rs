//! Metrics of features: the networks that turn images into features, and distances between sets of
//! them.

pub mod classifier_training;
pub mod extractor;
pub mod frechet;
pub mod inception_score;
pub mod kernel_distance;
pub mod manifold;
mod pairwise;
mod perceptual;
pub mod statistics;

pub use crate::stamp::Stamp;
pub(crate) use extractor::image_tensor;
pub(crate) use extractor::in_parts;
pub use extractor::{CLASSIFIER, ClassifierFile, Extractor, Features};
pub use frechet::{Moments, frechet_distance};
pub use perceptual::lpips;
pub use statistics::Statistics;
