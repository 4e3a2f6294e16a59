//! Layers that networks share, how weights begin, what a forward pass is for, and weights by name.

pub(crate) mod attention;
mod conv;
mod embedding;
pub(crate) mod feature_map;
pub mod fixed_batches;
pub(crate) mod forward_mode;
mod group_norm;
pub(crate) mod init;
pub mod linear;
pub mod mlp;
mod named;
mod resample;
pub mod state;

pub use conv::{Conv2d, Conv2dConfig};
pub use embedding::{
    fourier_embedding, fourier_frequencies, positional_embedding, positional_frequencies,
    swap_halves,
};
pub use group_norm::GroupNorm;
pub use named::Named;
pub use resample::{Filter, FilterError};
