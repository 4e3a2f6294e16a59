//! Teachers: anything that, given a noisy sample and its noise level, tells the mean of the clean
//! samples it may come from; and the solvers that follow the teacher's ordinary differential
//! equation from noise to a sample.
//!
//! This crate knows distributions, networks and solvers. It knows neither students nor pair stores.

pub mod augment;
mod checkerboard;
mod denoiser;
pub mod distribution;
mod edm_training;
mod flow_mlp;
mod gaussian;
mod guidance;
mod mixture;
pub mod network;
pub mod preconditioning;
pub mod process;
pub mod solver;
pub mod teacher;

pub use checkerboard::Checkerboard;
pub use denoiser::{Denoiser, Level};
pub use distribution::Distribution;
pub use edm_training::EdmTask;
pub use flow_mlp::{FlowMlp, FlowMlpConfig, FlowTask};
pub use gaussian::Gaussian;
pub use guidance::Guided;
pub use mixture::{Component, Mixture};
pub use network::NetworkTeacherConfig;
pub use preconditioning::Preconditioning;
pub use process::Process;
pub use solver::{Churn, Solver, Waypoint, solve, solve_stochastic, trajectory};
pub use teacher::{Teacher, TeacherConfig};
