//! The training of teachers: image networks and the MLP of flow matching.

pub mod augment;
mod edm;
mod flow;

pub use edm::EdmTask;
pub use flow::FlowTask;
