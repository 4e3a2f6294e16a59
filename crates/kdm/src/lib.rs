//! `kdm` distills a diffusion model into a generator that needs one network pass, offline: from
//! stored noise-image pairs, with a Koopman operator (Berman et al., "One-Step Offline Distillation
//! of Diffusion-based Models via Koopman Modeling", NeurIPS 2025).
//!
//! This crate is the library as a whole: what the program `kdm` does, without a terminal. Work
//! takes a [`Context`]: the [`runtime`] that computes, and an [`observer`] that is told of progress
//! and may stop it.
//!
//! # Where to begin
//!
//! Draw images with a student that ships with the library:
//!
//! ```
//! use kdm::{LoadedStudent, runtime::Runtime};
//!
//! let runtime = Runtime::cpu();
//! let student = LoadedStudent::open("fashion-mnist".as_ref(), runtime.device())?;
//! // A sample depends on its seed alone; a seed draws its class too.
//! let noise = student.draw_noise(&[0, 1, 2]);
//! let images = student.sampler.sample(&noise.noise, &noise.labels);
//! assert_eq!(images.len(), 3 * student.config().dim());
//! # Ok::<(), kdm::Failure>(())
//! ```
//!
//! Go the whole way, from teacher to report, as `kdm run checkerboard` does:
//!
//! ```no_run
//! use kdm::{Context, Experiment, runtime::Runtime, stages};
//!
//! let runtime = Runtime::cpu();
//! let experiment = Experiment::load("checkerboard", &["train.iterations=500".into()])?;
//! let values = stages::run::run(&experiment, "run".as_ref(), Context::silent(&runtime))?;
//! println!("{values:?}");
//! # Ok::<(), kdm::Failure>(())
//! ```
//!
//! # The parts
//!
//! Data flows one way: teacher -> pairs -> student -> distill -> sample -> metrics -> analysis ->
//! report.
//!
//! | to do this | look at |
//! | --- | --- |
//! | configure an experiment | [`experiment`] |
//! | plan a run for images or a teacher of one's own | [`planned`] |
//! | run one stage: teacher, pairs, distillation, samples, evaluation | [`stages`] |
//! | compare students, compress one, invert images, edit samples, check the theory | [`studies`] |
//! | bring a teacher of your own | [`teacher::Denoiser`], [`formats`] |
//! | fill a store of pairs from a generator of your own | [`data::pairs`] |
//! | change the method: operators, losses, the student | [`koopman`] |
//! | train something with the same loop | [`train`] |
//! | measure samples | [`metrics`] |
//! | look into an operator | [`analysis`] |
//!
//! `examples/` has three short programs: sampling with the student that ships, distilling an exact
//! teacher in a loop of one's own, and analyzing an operator.

pub mod assets;
pub mod benchmark;
pub mod cache;
pub mod classes;
pub mod describe;
pub mod error;
pub mod estimate;
pub mod experiment;
mod nearest;
pub mod planned;
pub mod remote;
pub mod run_folder;
pub mod run_time;
pub mod runtime;
pub mod sample_files;
pub mod sample_picture;
pub mod sniff;
pub mod stages;
pub mod student;
pub mod studies;
pub mod timing;
pub mod usable;
pub mod workers;

pub use error::{Failure, Outcome};
pub use experiment::Experiment;
pub use runtime::Context;
pub use student::LoadedStudent;
pub use {kdm_analysis as analysis, kdm_data as data, kdm_formats as formats};
pub use {kdm_kernels as kernels, kdm_koopman as koopman, kdm_metrics as metrics, kdm_nn as nn};
pub use {kdm_observer as observer, kdm_random as random, kdm_report as report};
pub use {kdm_teacher as teacher, kdm_train as train};
