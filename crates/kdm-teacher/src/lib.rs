//! Teachers: denoisers, which give the mean of the clean samples that a noisy one may come from;
//! and the solvers that follow a teacher's ordinary differential equation from noise to a sample.
//!
//! This crate knows distributions, networks and solvers. It knows neither students nor pair stores.

mod denoiser;
pub mod distributions;
mod guidance;
pub mod networks;
pub mod process;
pub mod solver;
mod states;
pub mod teacher;
pub mod training;

pub use denoiser::{Denoiser, Level};
pub use distributions::{Checkerboard, Component, Distribution, Gaussian, Mixture};
pub use guidance::Guided;
pub use networks::{Conditioner, FlowMlp, FlowMlpConfig, NetworkTeacherConfig, Preconditioning};
pub use process::Process;
pub use solver::{
    Churn, Seen, Solver, Watch, Waypoint, solve, solve_stochastic, solve_through, solve_watched,
    trajectory,
};
pub use states::{KeptState, kept_states, state_time};
pub use teacher::{Teacher, TeacherConfig};
pub use training::{EdmTask, FlowTask};
