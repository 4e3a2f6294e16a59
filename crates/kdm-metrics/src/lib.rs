//! How good samples are: beside the teacher's from the same noise, and beside real images as a
//! distribution. Samples are rows of f32 values on the host.
//!
//! Most of this crate knows numbers alone. [`features`] knows the networks that turn images into
//! features, [`features::statistics`] the files that keep what was computed once,
//! [`features::classifier_training`] how a feature network is trained. [`catalog`] names all
//! metrics and says how to read them; [`measure()`] computes those of a set of samples.

pub mod catalog;
mod error;
pub mod features;
pub mod images;
mod measure;
mod paired;
mod points;
mod stamp;

pub use catalog::{Better, Metric, Values};
pub use error::{Error, FrechetError, OtherNetwork, Result, UnfitImages};
pub use features::{Extractor, Features, Moments, Statistics, frechet_distance};
pub use features::{frechet, inception_score, kernel_distance, manifold, statistics};
pub use measure::{
    FeatureSpace, MeasureOptions, MetricGroup, TeacherSamples, measure, measure_features,
};
pub use paired::{Paired, paired, squared_distances};
pub use points::{energy_distance, off_board, share_outside, sliced_wasserstein2};
pub use stamp::Stamp;
