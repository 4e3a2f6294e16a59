//! Analysis of a student as plain data: the operator's spectrum and modes, what samples lose
//! without some of them, the path between noise and image, what distances between latents mean,
//! clusters and neighbours in the noise, nearest training images, and experiments with exact
//! answers.
//!
//! Everything is given and returned as values that serialise: this crate reads and writes no files,
//! loads no models, and makes neither pictures nor sentences (`kdm-report` does).
//!
//! [`analyze`] does all of it for one student; the modules can be used alone.

mod analysis;
pub mod clusters;
pub mod comparison;
pub mod edmd;
mod error;
pub mod gallery;
pub mod levels;
pub mod memorization;
pub mod modes;
mod note;
pub mod principal;
pub mod rank_reduction;
pub mod rows;
pub mod semantics;
pub mod spectrum;
pub mod states;
pub mod structure;
mod subject;
#[cfg(test)]
mod testing;
pub mod theory;
pub mod trajectory;
pub mod truncation;

pub use analysis::{
    Analysis, ClusterCount, KnownTeacher, ModeAnalysis, OperatorAnalysis, RankedMode, analyze,
};
pub use clusters::{ClusterConfig, Clusters, cluster};
pub use comparison::ComparisonRow;
pub use error::{Error, Result};
pub use levels::LevelAnalysis;
pub use memorization::{KnownImages, Memorization, memorization};
pub use modes::{Mode, Modes};
pub use note::Note;
pub use principal::Principal;
pub use spectrum::Spectrum;
pub use states::{KnownStates, StatePath};
pub use subject::Subject;
pub use theory::Theory;
pub use trajectory::TeacherPath;
