//! Networks and the layers they share: configuration, initialisation, forward pass, and their
//! weights by name.
//!
//! [`layers`] has what networks are made of, [`unet`] the U-Nets of teachers and students,
//! [`vision`] the networks that look at images. A network is made by its configuration's `init`,
//! when the configuration's `problems` are none; weights are then loaded by [`state::load_state`].
//!
//! This crate knows tensors and plain configuration. It reads and writes no files and knows neither
//! teachers nor students.

mod demand;
pub mod layers;
mod problem;
pub mod unet;
pub mod vision;

pub use demand::Demand;
pub use kdm_kernels::Resize;
pub use layers::forward_mode::ForwardMode;
pub use layers::init::{Init, InitSeed};
pub use layers::linear::{Linear, LinearConfig};
pub use layers::mlp::{Mlp, MlpConfig};
pub use layers::state::{StateDict, StateError};
pub use layers::{fixed_batches, linear, mlp, state};
pub use problem::Problem;
pub use unet::plan::{PlannedKind, PlannedLayer, UNetPlan};
pub use unet::{
    AdmUNet, AdmUNetConfig, DiffusersUNet, DiffusersUNetConfig, FrozenUNet, OpenAiUNet,
    OpenAiUNetConfig, SongUNet, SongUNetConfig, UNet, UNetConfig,
};
pub use vision::classifier::{Classifier, ClassifierConfig};
pub use vision::discriminator::{Discriminator, DiscriminatorConfig};
pub use vision::inception::Inception;
pub use vision::perceptual::Perceptual;
pub use vision::vgg::{Lpips, Pooling};
pub use vision::{classifier, discriminator, inception, perceptual, vgg};

/// `module` with weights that take no gradients, though gradients pass through it to its input.
pub fn frozen<M: burn::module::Module>(module: M) -> M {
    module.no_grad()
}
