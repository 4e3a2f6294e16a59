//! The method: a clean encoder and a noise encoder map image and noise into a latent space in which
//! one linear operator carries noise to image; a decoder draws it (Berman et al., "One-Step Offline
//! Distillation of Diffusion-based Models via Koopman Modeling", NeurIPS 2025).
//!
//! ```text
//! z_0 = E_0(x_0)          clean encoder          z_T = E_T(x_T)    noise encoder
//! z^_0 = C z_T (+ B y)    Koopman operator, with control B on the one-hot label y
//! x_push = D(z^_0)        one-step sample        x_rec = D(z_0)    reconstruction
//! ```
//!
//! This crate knows operators, students, losses, and training from a pair store. It knows no
//! teacher.

pub mod config;
pub mod distill;
pub mod editing;
mod error;
pub mod exploration;
mod host;
pub mod interpolation;
pub mod inversion;
pub mod level_editing;
pub mod loss;
pub mod low_rank;
pub mod operator;
pub mod origin;
pub mod sampler;
pub mod stepwise;
pub mod student;
pub mod student_file;
#[cfg(test)]
mod testing;
pub mod warm_start;

pub use config::{Method, NetworkConfig, OperatorConfig, StudentConfig};
pub use distill::DistillTask;
pub use error::{Decomposition, Error, Result};
pub use loss::{LossConfig, Reconstruction, Term};
pub use low_rank::LowRank;
pub use operator::eigen::EigenvalueTarget;
pub use operator::{Operator, OperatorKind};
pub use origin::Origin;
pub use sampler::Sampler;
pub use stepwise::Stepwise;
pub use student::{Direct, Koopman, Student};
pub use student_file::{PerceptualStamp, StudentFile};
pub use warm_start::WarmStart;
