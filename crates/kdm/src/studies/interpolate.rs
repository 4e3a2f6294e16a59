//! Samples between samples.

use kdm_data::Samples;
use kdm_koopman::interpolation::{InterpolationSpace, through};
use kdm_observer::Observer;

use crate::student::LoadedStudent;
use crate::{Failure, Outcome};

/// Interpolations from each of `stops` to the next, `steps` (at least 2) samples each, both ends
/// among them. With `levels` of the latent (0 the finest; none for all) only these go over, in the
/// latent space; the rest, and the class, stay the first sample's.
///
/// # Errors
/// When the student is a direct one or doesn't have the levels, levels are asked for along the
/// noise, or the observer stops the work.
pub fn interpolate(
    student: &LoadedStudent,
    space: InterpolationSpace,
    levels: &[usize],
    stops: &Samples,
    steps: usize,
    observer: &dyn Observer,
) -> Outcome<Samples> {
    if !levels.is_empty() && space == InterpolationSpace::Noise {
        let problem = "--levels: levels are of the latent space; leave out --in noise";
        return Err(Failure::Usage(problem.into()));
    }
    let parts = student.stepwise()?;
    let columns = (!levels.is_empty()).then(|| parts.config.columns_of(levels)).transpose();
    let columns = columns.map_err(|e| Failure::Usage(format!("--levels: {e}")))?;
    let images = through(parts, space, columns.as_deref(), stops, steps, observer)?;
    let labels = kdm_data::Labels::none(images.len() / stops.dim());
    Ok(Samples { shape: stops.shape.clone(), images, labels, ..Samples::default() })
}
