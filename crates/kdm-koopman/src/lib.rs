//! The method: a clean encoder and a noise encoder map image and noise into a latent space in which
//! one linear operator carries noise to image; a decoder draws it (Berman et al., "One-Step Offline
//! Distillation of Diffusion-based Models via Koopman Modeling", NeurIPS 2025).
//!
//! This crate knows operators, students, losses, and training from a pair store. It knows no
//! teacher.

pub mod config;
pub mod distill;
pub mod interpolation;
pub mod inversion;
pub mod loss;
pub mod operator;
pub mod sampler;
pub mod stepwise;
pub mod student;

pub use config::{
    LossConfig, Method, NetworkConfig, OperatorConfig, Reconstruction, StudentConfig,
};
pub use distill::DistillTask;
pub use operator::eigen::EigenvalueTarget;
pub use operator::{Operator, OperatorKind};
pub use sampler::Sampler;
pub use student::{Direct, Koopman, Student};
