//! Samples between samples.

use kdm_data::Samples;
use kdm_koopman::interpolation::{InterpolationSpace, through};
use kdm_observer::Observer;

use crate::Outcome;
use crate::student::LoadedStudent;

/// Interpolations from each of `stops` to the next, `steps` (at least 2) samples each, both ends
/// among them.
///
/// # Errors
/// When the student is a direct one, or the observer stops the work.
pub fn interpolate(
    student: &LoadedStudent,
    space: InterpolationSpace,
    stops: &Samples,
    steps: usize,
    observer: &dyn Observer,
) -> Outcome<Samples> {
    let images = through(student.stepwise()?, space, stops, steps, observer)?;
    let labels = kdm_data::Labels::none(images.len() / stops.dim());
    Ok(Samples { shape: stops.shape.clone(), images, labels, ..Samples::default() })
}
