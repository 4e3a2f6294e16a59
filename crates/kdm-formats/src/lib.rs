//! Importers for models written by other programs. A pickle is data here: it is read by an
//! interpreter that knows the opcodes and the few tensor-building functions that weights need, and
//! refuses all else by name. Nothing in a file is ever executed.
//!
//! This crate knows foreign formats, the students, teachers and networks they become, and their
//! names on the way back: [`import()`] finds out what a file is, [`export()`] writes a model for
//! the code it is originally from, and [`pairs::open`] finds the noise-image pairs that others
//! publish.
//!
//! ```
//! use std::path::Path;
//!
//! use burn::tensor::Device;
//! use kdm_formats::{Options, import};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A checkpoint of the official code: a pickle of a module whose classes are not there.
//! let file = Path::new("tests/foreign/kdm_control.pt");
//! let imported = import(file, &Options::default(), &Device::flex())?;
//! assert_eq!(imported.kind(), "student");
//! assert!(imported.found[0].contains("an official KDM checkpoint"));
//!
//! // As a model file of this program.
//! let folder = tempfile::tempdir()?;
//! imported.save(&folder.path().join("student.safetensors"))?;
//! # Ok(())
//! # }
//! ```

pub mod cifar;
mod diffusers;
mod edm;
mod export;
pub mod features;
mod import;
mod imported;
mod infer;
mod numbers;
pub mod official;
pub mod onnx;
mod openai;
mod options;
pub mod pairs;
pub mod pickle;
pub mod statistics;
pub mod torch;
pub mod weights;

pub use export::{export, export_file};
pub use import::{import, import_bytes, is_diffusers_folder};
pub use imported::{Imported, Model};
pub use options::{Format, Options};
