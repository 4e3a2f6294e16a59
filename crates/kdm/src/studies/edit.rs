//! Samples moved along a direction of the latent space.

use kdm_analysis::Modes;
use kdm_analysis::modes::largest_first;
use kdm_data::{Labels, Samples};
use kdm_koopman::editing::{class_direction, deviation_along, draw_along};
use kdm_observer::Observer;

use crate::student::LoadedStudent;
use crate::{Failure, Outcome};

/// Samples that directions are taken from; their seeds come after all that are likely to be asked
/// for.
const SAMPLES: u64 = 512;
const FIRST_SEED: u64 = 2_000_000_000;

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
/// (odd, 3 to 9999) steps: a row of steps a seed, the sample itself in the middle.
///
/// # Errors
/// When the student has no such mode or class, its operator can't be split into modes, or the
/// observer stops the work.
pub fn edit(
    student: &LoadedStudent,
    seeds: &[u64],
    direction: Direction,
    reach: f64,
    steps: usize,
    observer: &dyn Observer,
) -> Outcome<Samples> {
    if !(3..=MOST_STEPS).contains(&steps) || steps.is_multiple_of(2) {
        return Err(Failure::Usage(format!(
            "--steps {steps}: give an odd number from 3 to {MOST_STEPS}"
        )));
    }
    if !reach.is_finite() {
        return Err(Failure::Usage(format!("--reach {reach}: give a finite number")));
    }
    let parts = student.stepwise()?;
    let mut samples = student.draw_noise(seeds);
    let others = student.draw_noise(&(FIRST_SEED..FIRST_SEED + SAMPLES).collect::<Vec<u64>>());
    let direction: Vec<f64> = match direction {
        Direction::Mode(rank) => {
            let modes = Modes::of(&parts.student.operator.matrix())?;
            let (noise, labels) = (&others.noise, &others.labels);
            let latents = parts.encode_noise_observed(noise, labels, observer)?;
            let amplitudes = modes.amplitudes(&latents);
            let ranked = largest_first(&amplitudes);
            let Some(place) = rank.checked_sub(1).and_then(|rank| ranked.get(rank)) else {
                let most = ranked.len();
                return Err(Failure::Usage(format!(
                    "--mode {rank}: the operator has modes 1 to {most}"
                )));
            };
            let direction = modes.direction(&modes.modes()[*place], 0.0);
            let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
            let deviation = deviation_along(&parts.push(&latents, labels), &direction);
            direction.into_iter().map(|x| x * deviation / length).collect()
        }
        Direction::Classes { from, to } => {
            student.check_class(from, "--from-class")?;
            student.check_class(to, "--to-class")?;
            if from == to {
                return Err(Failure::Usage(format!(
                    "--from-class {from} --to-class {to}: there is no way from a class to itself; \
                     give two classes"
                )));
            }
            samples.labels = Labels::all(from, seeds.len());
            class_direction(parts, &others.noise, (from, to), observer)?
        }
    };
    let images = draw_along(parts, &samples, &direction, reach, steps, observer)?;
    let labels = samples.labels.repeat_each(steps);
    Ok(Samples { shape: samples.shape, images, labels, ..Samples::default() })
}
