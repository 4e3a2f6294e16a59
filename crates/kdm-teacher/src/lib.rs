//! Teachers: anything that, given a noisy sample and its noise level, tells the mean of the clean samples it may come
//! from; and the solvers that follow the teacher's ordinary differential equation from noise to a sample.
//!
//! This crate knows distributions, networks and solvers. It knows neither students nor pair stores.

mod checkerboard;
mod denoiser;
pub mod distribution;
mod flow_mlp;
mod gaussian;
mod mixture;
pub mod process;
pub mod solver;
pub mod teacher;

pub use checkerboard::Checkerboard;
pub use denoiser::{Denoiser, Level};
pub use distribution::Distribution;
pub use flow_mlp::{FlowMlp, FlowMlpConfig, FlowTask};
pub use gaussian::Gaussian;
pub use mixture::{Component, Mixture};
pub use process::Process;
pub use solver::{Solver, solve};
pub use teacher::{Teacher, TeacherConfig};
