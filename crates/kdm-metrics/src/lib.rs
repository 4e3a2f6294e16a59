//! How good samples are: beside the teacher's from the same noise, and beside real images as a
//! distribution. Samples are rows of f32 values on the host.
//!
//! Most of this crate knows numbers alone. [`features`] knows the networks that turn images into
//! features, [`statistics`] the files that keep what was computed once, [`classifier_training`] how
//! a feature network is trained.

pub mod features;
pub mod images;
mod paired;
mod points;

pub use features::{Extractor, Features, Moments, Statistics, frechet_distance};
pub use features::{frechet, inception_score, kernel_distance, manifold, statistics};
pub use paired::{Paired, paired};
pub use points::{energy_distance, share_outside, sliced_wasserstein2};
