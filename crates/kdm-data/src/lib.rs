//! Everything that lies on a disk as arrays: NumPy files, named-tensor files, sets of images, and
//! the pair store with its seeded noise.
//!
//! This crate knows files and host arrays. What a teacher or a student is, it doesn't know: a pair
//! store is filled through a function that turns noise into images.

pub mod array;
pub mod atomic;
pub mod error;
pub mod hash;
pub mod images;
pub mod model;
pub mod pairs;
pub mod tensors;

pub use array::Array;
pub use error::{Error, Result};
pub use images::{ImageSet, Split};
pub use tensors::TensorFile;
