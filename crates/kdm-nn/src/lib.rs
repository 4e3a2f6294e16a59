//! Networks and the layers they share: configuration, initialisation, forward pass, and their
//! weights by name.
//!
//! This crate knows tensors and plain configuration. It reads and writes no files and knows neither
//! teachers nor students.

pub mod adm_unet;
pub mod blocks;
pub mod classifier;
pub mod diffusers_unet;
pub mod discriminator;
mod feature;
mod frozen_unet;
pub mod inception;
mod init;
pub mod layers;
pub mod linear;
pub mod mlp;
mod pass;
pub mod perceptual;
pub mod song_unet;
pub mod state;
pub mod unet;
pub mod unet_block;
pub mod vgg;

pub use adm_unet::{AdmUNet, AdmUNetConfig};
pub use classifier::{Classifier, ClassifierConfig};
pub use diffusers_unet::{DiffusersUNet, DiffusersUNetConfig};
pub use discriminator::{Discriminator, DiscriminatorConfig};
pub use frozen_unet::FrozenUNet;
pub use inception::Inception;
pub use init::{Init, InitSeed};
pub use linear::{Linear, LinearConfig};
pub use mlp::{Mlp, MlpConfig};
pub use pass::Pass;
pub use perceptual::Perceptual;
pub use song_unet::{SongUNet, SongUNetConfig};
pub use state::{StateDict, StateError};
pub use unet::{UNet, UNetConfig};
pub use vgg::{Lpips, Pooling};

/// A module whose weights take no gradients, though gradients pass through it.
pub fn frozen<M: burn::module::Module>(module: M) -> M {
    module.no_grad()
}
