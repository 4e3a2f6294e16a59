//! How good samples are: beside the teacher's from the same noise, and beside real images as a
//! distribution. Samples are rows of f32 values on the host.
//!
//! Most of this crate knows numbers alone. [`features`] knows the networks that turn images into
//! features, [`statistics`] the files that keep what was computed once, [`classifier_training`] how
//! a feature network is trained.

pub mod classifier_training;
pub mod features;
pub mod frechet;
pub mod images;
pub mod inception_score;
pub mod kernel_distance;
pub mod manifold;
mod paired;
mod pairwise;
mod points;
pub mod statistics;

pub use features::{Extractor, Features};
pub use frechet::{Moments, frechet_distance};
pub use paired::{Paired, paired};
pub use points::{energy_distance, share_outside, sliced_wasserstein2};
pub use statistics::Statistics;
