//! The U-Net of Hugging Face diffusers' `UNet2DModel`, made of DownBlock2D, AttnDownBlock2D,
//! UpBlock2D and AttnUpBlock2D (Ho et al., arXiv:2006.11239). Configuration fields and state names
//! are those of diffusers (Apache-2.0).

mod config;
mod demand;
mod layers;
mod network;
mod plan;

pub use config::{
    Activation, DiffusersUNetConfig, DownBlockType, TimeEmbedding, TimeScaleShift, UpBlockType,
};
pub use network::DiffusersUNet;
