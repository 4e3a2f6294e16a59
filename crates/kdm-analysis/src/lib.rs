//! What can be seen in a student: the operator's spectrum, the structure of the noise; figures of
//! it, and the report.
//!
//! This crate knows operators and numbers on the host. It gives pictures and pages as bytes and
//! writes no files.

pub mod clusters;
pub mod edmd;
pub mod modes;
pub mod principal;
pub mod semantics;
pub mod spectrum;

pub use clusters::{Clusters, cluster};
pub use modes::{Mode, Modes};
pub use principal::Principal;
pub use spectrum::Spectrum;
