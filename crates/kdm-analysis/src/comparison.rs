//! Students of different kinds and their teacher on the same test noise, as plain data.

use kdm_metrics::Values;
use serde::Serialize;

/// A student, or the teacher with one solver, and how good its samples are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparisonRow {
    /// A student's name, or the teacher's solver and steps.
    pub name: String,
    /// Network passes a sample.
    pub passes: usize,
    /// Parameters of its networks; none for the teacher.
    pub parameters: Option<usize>,
    /// Floating-point operations a sample; none for the teacher.
    pub flops: Option<f64>,
    /// Iterations of the training; none for the teacher.
    pub iterations: Option<u64>,
    /// Milliseconds a sample, in this run on this machine.
    pub milliseconds: f64,
    /// Metrics of its samples.
    pub values: Values,
    /// The first samples, from the same noise and labels in every row.
    #[serde(skip)]
    pub images: Vec<f32>,
}
