//! The training of image teachers.

pub mod augment;
mod edm;

pub use edm::EdmTask;
