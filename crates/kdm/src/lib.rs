//! `kdm`: offline distillation of diffusion models into one-step generators with a Koopman
//! operator.
//!
//! This crate is the program and the facade: experiments as configuration, the way from teacher to
//! report, and the other crates under one name.

pub mod assets;
pub mod comparison;
pub mod compression;
pub mod error;
pub mod evaluation;
pub mod examination;
pub mod experiment;
pub mod neighbours;
pub mod pipeline;
pub mod portrait;
pub mod progress;
pub mod structure;
pub mod theory;
pub mod workload;

pub use error::{Failure, Outcome};
pub use experiment::Experiment;
pub use {
    kdm_analysis as analysis, kdm_data as data, kdm_formats as formats, kdm_koopman as koopman,
};
pub use {
    kdm_kernels as kernels, kdm_metrics as metrics, kdm_nn as nn, kdm_observer as observer,
    kdm_random as random, kdm_report as report, kdm_teacher as teacher, kdm_train as train,
};
