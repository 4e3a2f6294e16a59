//! The U-Nets behind one interface: DDPM++ and NCSN++ ([`song`]), ADM ([`adm`]), diffusers'
//! UNet2DModel ([`diffusers`]), OpenAI's ([`openai`]).
//!
//! The first two are of NVlabs' kinds: `topology` is the page that shows which layers they have, in
//! the order in which an image goes through them; `paths` makes and runs these layers, and `block`
//! is the residual block that most of them are. `frozen` is the same network for sampling.

pub mod adm;
mod block;
pub mod diffusers;
mod frozen;
pub mod openai;
mod paths;
mod plain_demand;
pub mod plan;
mod sizes;
pub mod song;
mod topology;

pub use adm::{AdmUNet, AdmUNetConfig};
pub use diffusers::{DiffusersUNet, DiffusersUNetConfig};
pub use frozen::FrozenUNet;
pub use openai::{OpenAiUNet, OpenAiUNetConfig};
pub use song::{SongUNet, SongUNetConfig};

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Demand, ForwardMode, InitSeed, Problem};

/// Which U-Net, and its architecture. In JSON and TOML the field `architecture` says which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "architecture", rename_all = "kebab-case")]
pub enum UNetConfig {
    /// DDPM++ or NCSN++.
    SongUnet(SongUNetConfig),
    /// ADM.
    AdmUnet(AdmUNetConfig),
    /// diffusers' UNet2DModel.
    DiffusersUnet(DiffusersUNetConfig),
    /// OpenAI's U-Net.
    OpenaiUnet(OpenAiUNetConfig),
}

/// A U-Net.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kdm_nn::{ForwardMode, InitSeed, SongUNetConfig, UNetConfig};
///
/// let song = SongUNetConfig::ddpmpp(8, 3, 3, 8, &[1, 2], 1, &[4]);
/// let config = UNetConfig::SongUnet(song);
/// let device = Device::flex();
/// let unet = config.init(&mut InitSeed::new(1), &device);
///
/// let (inputs, outputs) = config.channels();
/// let (images, noise) = (Tensor::zeros([2, inputs, 8, 8], &device), Tensor::zeros([2], &device));
/// let y = unet.forward(images, noise, None, None, &ForwardMode::evaluation());
/// assert_eq!(y.dims(), [2, outputs, 8, 8]);
/// ```
#[derive(Module, Debug)]
pub enum UNet {
    /// DDPM++ or NCSN++.
    Song(SongUNet),
    /// ADM.
    Adm(AdmUNet),
    /// diffusers' UNet2DModel.
    Diffusers(DiffusersUNet),
    /// OpenAI's U-Net.
    OpenAi(OpenAiUNet),
}

impl UNetConfig {
    /// All that is impossible about it; none when a network can be made.
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            Self::SongUnet(c) => c.problems(),
            Self::AdmUnet(c) => c.problems(),
            Self::DiffusersUnet(c) => c.problems(),
            Self::OpenaiUnet(c) => c.problems(),
        }
    }

    /// A number of weights that the network has at least, as a bound on it before it is made: two
    /// convolutions of 3x3 a block at its width.
    pub fn least_parameters(&self) -> usize {
        let (channels, mults, blocks) = match self {
            Self::SongUnet(c) => (c.model_channels, &c.channel_mult, c.num_blocks),
            Self::AdmUnet(c) => (c.model_channels, &c.channel_mult, c.num_blocks),
            Self::DiffusersUnet(c) => (1, &c.block_out_channels, c.layers_per_block),
            Self::OpenaiUnet(c) => (1, &c.level_channels, c.num_res_blocks),
        };
        let level = |m: &usize| {
            let width = m.saturating_mul(channels);
            width.saturating_mul(width).saturating_mul(18).saturating_mul(blocks)
        };
        mults.iter().map(level).fold(0, usize::saturating_add)
    }

    /// What it takes an image. The configuration has no [`Self::problems`].
    pub fn demand(&self) -> Demand {
        match self {
            Self::SongUnet(c) => c.demand(),
            Self::AdmUnet(c) => c.demand(),
            Self::DiffusersUnet(c) => c.demand(),
            Self::OpenaiUnet(c) => c.demand(),
        }
    }

    /// A network with fresh weights on `device`. The configuration has no [`Self::problems`].
    pub fn init(&self, seed: &mut InitSeed, device: &Device) -> UNet {
        match self {
            Self::SongUnet(c) => UNet::Song(c.init(seed, device)),
            Self::AdmUnet(c) => UNet::Adm(c.init(seed, device)),
            Self::DiffusersUnet(c) => UNet::Diffusers(c.init(seed, device)),
            Self::OpenaiUnet(c) => UNet::OpenAi(c.init(seed, device)),
        }
    }

    /// Height and width of the images.
    pub fn resolution(&self) -> usize {
        match self {
            Self::SongUnet(c) => c.resolution,
            Self::AdmUnet(c) => c.resolution,
            Self::DiffusersUnet(c) => c.sample_size,
            Self::OpenaiUnet(c) => c.resolution,
        }
    }

    /// Channels in and out.
    pub fn channels(&self) -> (usize, usize) {
        match self {
            Self::SongUnet(c) => (c.in_channels, c.out_channels),
            Self::AdmUnet(c) => (c.in_channels, c.out_channels),
            Self::DiffusersUnet(c) => (c.in_channels, c.out_channels),
            Self::OpenaiUnet(c) => (c.in_channels, c.out_channels),
        }
    }

    /// Classes; 0 when unconditional.
    pub fn label_dim(&self) -> usize {
        match self {
            Self::SongUnet(c) => c.label_dim,
            Self::AdmUnet(c) => c.label_dim,
            Self::DiffusersUnet(c) => c.num_class_embeds.unwrap_or(0),
            Self::OpenaiUnet(c) => c.num_classes,
        }
    }

    /// Width of the augmentation's label; 0 when the network takes none.
    pub fn augment_dim(&self) -> usize {
        match self {
            Self::SongUnet(c) => c.augment_dim,
            Self::AdmUnet(c) => c.augment_dim,
            Self::DiffusersUnet(_) | Self::OpenaiUnet(_) => 0,
        }
    }
}

impl UNet {
    /// The network as plain data.
    pub fn plan(&self) -> plan::UNetPlan {
        match self {
            Self::Song(net) => net.plan(),
            Self::Adm(net) => net.plan(),
            Self::Diffusers(net) => net.plan(),
            Self::OpenAi(net) => net.plan(),
        }
    }

    /// Images `[N, C, R, R]`, noise conditions or times `[N]`, one-hot labels `[N, label_dim]`
    /// (none: any class), augmentation labels `[N, augment_dim]` (none: no augmentation; ignored by
    /// diffusers' network) -> `[N, C', R, R]`.
    pub fn forward(
        &self,
        x: Tensor<4>,
        noise: Tensor<1>,
        labels: Option<Tensor<2>>,
        augment: Option<Tensor<2>>,
        mode: &ForwardMode,
    ) -> Tensor<4> {
        match self {
            Self::Song(net) => net.forward(x, noise, labels, augment, mode),
            Self::Adm(net) => net.forward(x, noise, labels, augment, mode),
            Self::Diffusers(net) => net.forward(x, noise, labels, mode),
            Self::OpenAi(net) => net.forward(x, noise, labels, mode),
        }
    }
}
