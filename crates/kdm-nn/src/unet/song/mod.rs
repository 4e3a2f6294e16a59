//! The U-Net of score-based models, in its DDPM++ and NCSN++ forms (Song et al., arXiv:2011.13456,
//! appendix H), sized and initialised as in Karras et al., arXiv:2206.00364, table 1 and appendix
//! F. State names are those of NVlabs/edm.

mod config;
mod network;

pub use crate::unet::topology::{DecoderKind, EncoderKind};
pub use config::{Embedding, SongUNetConfig};
pub use network::SongUNet;
