//! The stages from teacher to report. Each leaves its result in a folder and goes on from what is
//! there already.

pub mod analyze;
pub mod begin_distill;
pub mod distill;
pub mod evaluate;
pub mod examine;
pub mod features;
pub mod images;
pub mod pairs;
pub mod preflight;
pub mod run;
pub mod sample;
pub mod teacher;
mod watched;
