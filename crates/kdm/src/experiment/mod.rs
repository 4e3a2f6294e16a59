//! Experiments as configuration: TOML files over common values, strict about every key.
//!
//! `schema` says what an experiment is, `presets` which ones ship and how files lie over each
//! other, `variants` how the students of a comparison differ, `validation` what is impossible,
//! `derived` what the other crates are told, and `cost` what a run takes.

mod cost;
mod derived;
mod presets;
mod schema;
mod validation;
mod variants;

#[cfg(test)]
mod tests;

pub use cost::{StageCost, size};
pub use presets::PRESETS;
pub use schema::{
    EvaluateSection, Experiment, LossSection, PairsSection, StudentSection, TeacherKind,
    TeacherSection, TeacherTraining, TrainSection, Variant,
};
pub use validation::{lpips_fits, split_problem};
