//! Metrics of features: the networks that turn images into features, and distances between sets of
//! them.

pub mod classifier_training;
pub mod extractor;
pub mod frechet;
pub mod inception_score;
pub mod kernel_distance;
pub mod manifold;
mod pairwise;
pub mod statistics;

pub(crate) use extractor::image_tensor;
pub use extractor::{CLASSIFIER, ClassifierFile, Extractor, Features, Stamp};
pub use frechet::{Moments, frechet_distance};
pub use statistics::Statistics;
