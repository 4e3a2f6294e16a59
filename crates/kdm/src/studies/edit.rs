//! Samples moved along a direction of the latent space.

use kdm_data::{Labels, Samples};
use kdm_koopman::editing::draw_along;
use kdm_koopman::level_editing::within;
use kdm_observer::Observer;

use super::directions::{ModeDirections, ReferenceLatents, between_classes};
use crate::student::LoadedStudent;
use crate::{Failure, Outcome};

/// A direction of the latent space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The mode of this rank, from 1: 1 carries most on real latents. One reach is the deviation
    /// of pushed latents along it, so that samples stay where others are.
    Mode(usize),
    /// From one class to another, whose samples begin in the first. One reach is the distance of
    /// the classes' mean latents.
    Classes {
        /// The class that samples begin in.
        from: u32,
        /// The class that they move to.
        to: u32,
    },
}

impl Direction {
    /// How far samples are moved to either side unless somebody wants otherwise: so far that they
    /// are still like others.
    pub fn usual_reach(self) -> f64 {
        match self {
            Self::Mode(_) => 2.0,
            Self::Classes { .. } => 1.0,
        }
    }
}

/// Steps of a row: more are no picture.
const MOST_STEPS: usize = 9999;

/// The samples of `seeds`, each moved along `direction` by up to `reach` to either side in `steps`
/// (odd, 3 to 9999) steps: a row of steps a seed, the sample itself in the middle. With `levels` of
/// the latent (0 the finest; none for all) only these are moved.
///
/// # Errors
/// When the student has no such mode, class or level, its operator can't be split into modes, or
/// the observer stops the work.
pub fn edit(
    student: &LoadedStudent,
    seeds: &[u64],
    direction: Direction,
    levels: &[usize],
    reach: f64,
    steps: usize,
    observer: &dyn Observer,
) -> Outcome<Samples> {
    check_steps(reach, steps)?;
    student.koopman()?;
    let columns = student.config().columns_of(levels);
    let columns = columns.map_err(|e| Failure::Usage(format!("--levels: {e}")))?;
    let vector = match direction {
        Direction::Mode(rank) => {
            let latents = ReferenceLatents::of(student, observer)?;
            ModeDirections::of(student, &latents)?.direction(rank, "--mode")?
        }
        Direction::Classes { from, to } => between_classes(student, (from, to), observer)?,
    };
    let vector = if levels.is_empty() { vector } else { within(&vector, &columns) };
    let mut samples = student.draw_noise(seeds);
    if let Direction::Classes { from, .. } = direction {
        samples.labels = Labels::all(from, seeds.len());
    }
    edit_along(student, samples, &vector, reach, steps, observer)
}

/// Whether a row of samples has such a reach and so many steps.
fn check_steps(reach: f64, steps: usize) -> Outcome<()> {
    if !(3..=MOST_STEPS).contains(&steps) || steps.is_multiple_of(2) {
        return Err(Failure::Usage(format!(
            "--steps {steps}: give an odd number from 3 to {MOST_STEPS}"
        )));
    }
    if !reach.is_finite() {
        return Err(Failure::Usage(format!("--reach {reach}: give a finite number")));
    }
    Ok(())
}

/// [`edit`] of samples with noise and labels along a direction of the latent space, `[n]`.
///
/// # Errors
/// When it is a direct student, steps or reach are impossible, or the observer stops the work.
pub fn edit_along(
    student: &LoadedStudent,
    samples: Samples,
    direction: &[f64],
    reach: f64,
    steps: usize,
    observer: &dyn Observer,
) -> Outcome<Samples> {
    check_steps(reach, steps)?;
    let images = draw_along(student.stepwise()?, &samples, direction, reach, steps, observer)?;
    let labels = samples.labels.repeat_each(steps);
    Ok(Samples { shape: samples.shape, images, labels, ..Samples::default() })
}
