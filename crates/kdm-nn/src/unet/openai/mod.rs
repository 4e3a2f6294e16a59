//! OpenAI's U-Net (Nichol and Dhariwal, arXiv:2102.09672; Dhariwal and Nichol, arXiv:2105.05233),
//! which guided-diffusion, improved-diffusion, consistency_models and torchcfm have in common.

mod config;
mod demand;
mod network;
mod plan;

pub use config::OpenAiUNetConfig;
pub use network::OpenAiUNet;
