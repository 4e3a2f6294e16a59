//! Everything that lies on a disk as arrays: NumPy files, named-tensor files, sets of images, and
//! the pair store with its seeded noise.
//!
//! This crate knows files and host arrays. What a teacher or a student is, it doesn't know: a pair
//! store is filled through a function that turns noise into images.

pub mod error;
pub mod images;
pub mod io;
pub mod pairs;
mod samples;

pub use error::{Error, Result};
pub use images::{ImageSet, Split};
pub use io::array::Array;
pub use io::tensors::TensorFile;
pub use io::{array, atomic, hash, model, tensors};
pub use samples::{Labels, Samples};
