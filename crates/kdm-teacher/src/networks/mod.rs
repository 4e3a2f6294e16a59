//! Trained networks as denoisers: image networks with their preconditioning, and the MLP of flow
//! matching.

mod flow_mlp;
pub mod image;
pub mod preconditioning;

pub use flow_mlp::{FlowMlp, FlowMlpConfig, FlowTask};
pub use image::NetworkTeacherConfig;
pub use preconditioning::Preconditioning;
