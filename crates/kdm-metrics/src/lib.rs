//! How close samples are to a teacher's. Samples are rows of `dim` f32 values on the host.
//!
//! This crate knows numbers alone: no models, no files.

mod paired;
mod points;

pub use paired::{Paired, paired};
pub use points::{energy_distance, share_outside, sliced_wasserstein2};
