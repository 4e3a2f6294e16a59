//! Everything that lies on a disk as arrays: NumPy files, named-tensor files, sets of images, and
//! the pair store with its seeded noise.
//!
//! This crate knows files and host arrays. What a teacher or a student is, it doesn't know: a pair
//! store is filled through a function that turns noise into images.
//!
//! Where to look:
//! - [`Samples`] and [`Labels`]: samples on the host, as all crates pass them on;
//! - [`pairs`]: the store of noise-image pairs: [`pairs::generate`] writes one,
//!   [`pairs::PairStore`] reads it, [`pairs::filter()`] and [`pairs::import()`] make one of other
//!   pairs;
//! - [`ImageSet`]: images that teachers learn from;
//! - [`mod@array`]: NumPy's `.npy` and `.npz`; [`view`]: arrays in files that are read row by row,
//!   of any numeric type; [`region`]: parts of files and archives; [`mod@tar`]: members of tars;
//! - [`tensors`]: `.safetensors`; [`model`]: model files;
//! - [`regular`]: files that may be read; [`atomic`]: files that are written whole or not at all;
//!   [`output`]: what a file that is about to be written must not take the place of; [`lock`]:
//!   folders that one process works in; [`machine`]: memory and disk that are left;
//! - [`Error`]: what can go wrong, and what to do then.
//!
//! Long work takes an [`Observer`](kdm_observer::Observer), which it tells of its progress and
//! which can stop it.
//!
//! ```
//! use kdm_data::Labels;
//! use kdm_data::pairs::{Manifest, PairStore, Worker, generate};
//! use kdm_observer::Silent;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // 100 pairs of points: noise from the seeds 0 to 99, images from a function.
//! let folder = tempfile::tempdir()?;
//! let plan = Manifest::seeded(0, 1.0, &[2], 100);
//! let mut draw = |noise: &[f32], _: &Labels| noise.iter().map(|x| x.tanh()).collect();
//! generate(folder.path(), &plan, Worker::ALONE, 32, &mut draw, "pairs", &Silent)?;
//!
//! let batch = PairStore::open_verified(folder.path())?.range(0..8);
//! assert_eq!((batch.len(), batch.dim(), batch.noise.len()), (8, 2, 16));
//! # Ok(())
//! # }
//! ```

pub mod error;
pub mod images;
pub mod io;
pub mod labels;
pub mod pairs;
mod samples;

pub use error::{Error, Result};
pub use images::{ImageSet, Split};
pub use io::array::Array;
pub use io::tensors::TensorFile;
pub use io::{
    array, atomic, hash, lock, machine, model, output, region, regular, tar, tensors, view,
};
pub use labels::Labels;
pub use samples::Samples;
