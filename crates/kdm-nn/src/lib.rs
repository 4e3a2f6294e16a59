//! Networks and the layers they share: configuration, initialisation, forward pass, and their weights by name.
//!
//! This crate knows tensors and plain configuration. It reads and writes no files and knows neither teachers nor
//! students.

pub mod blocks;
mod init;
pub mod linear;
pub mod mlp;
pub mod state;

pub use init::InitSeed;
pub use linear::{Linear, LinearConfig};
pub use mlp::{Mlp, MlpConfig};
pub use state::{StateDict, StateError};
