//! Layers that networks share, how weights begin, what a forward pass is for, and weights by name.

pub(crate) mod feature_map;
pub mod fixed_batches;
pub(crate) mod forward_mode;
mod image;
pub(crate) mod init;
pub mod linear;
pub mod mlp;
pub mod state;

pub use image::*;
