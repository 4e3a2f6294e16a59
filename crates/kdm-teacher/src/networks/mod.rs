//! Networks as denoisers: image networks with their preconditioning, and the MLP of flow matching.
//! Inference alone; their training is in [`crate::training`].

mod flow_mlp;
pub mod image;
pub mod preconditioning;

pub use flow_mlp::{FlowMlp, FlowMlpConfig};
pub use image::NetworkTeacherConfig;
pub use preconditioning::{Conditioner, Preconditioning};
