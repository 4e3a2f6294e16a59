//! The path from noise to image that the operator's powers make: latents C^t z_T for t from 0 to 1,
//! decoded (of a generator C(0 -> t) z_T, decoded at that time); beside the states a teacher's
//! solver passes through.

use kdm_data::Samples;
use kdm_koopman::Stepwise;

use crate::{Error, Modes, Result};

/// Samples whose path is followed.
pub const SAMPLES: usize = 4;
/// Times at which it is decoded, evenly from 0 to 1; as many of the teacher's.
pub const TIMES: usize = 9;

/// What a teacher's solver passes through from the noise of the first [`SAMPLES`] samples (or
/// fewer) in [`TIMES`] steps.
#[derive(Clone, Debug, PartialEq)]
pub struct TeacherPath {
    /// The solver's times, noise first.
    pub times: Vec<f64>,
    /// At each time rows of x_t divided by sqrt(alpha_t^2 + sigma_t^2), so that data and noise of
    /// deviation 1 have deviation 1 at every time.
    pub states: Vec<Vec<f32>>,
    /// At each time rows of the denoised estimate D(x_t).
    pub denoised: Vec<Vec<f32>>,
}

/// The operator's path of the first samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Trajectory {
    /// From 0 to 1.
    pub times: Vec<f64>,
    /// At each time the decoded latents, rows of `dim` values.
    pub images: Vec<Vec<f32>>,
    /// The teacher's path from the same noise, if it was given.
    pub teacher: Option<TeacherPath>,
}

impl TeacherPath {
    /// # Errors
    /// When it is not of `values` values at each time.
    fn check(&self, values: usize) -> Result<()> {
        for (what, rows) in [
            ("states of the teacher's path", &self.states),
            ("denoised estimates of the teacher's path", &self.denoised),
        ] {
            Error::check_length(what, self.times.len(), rows.len())?;
            rows.iter().try_for_each(|x| Error::check_length(what, values, x.len()))?;
        }
        Ok(())
    }
}

/// The operator's path from the noise of the first [`SAMPLES`] of `samples`.
///
/// # Errors
/// When the teacher's path is of other samples.
pub(crate) fn trajectory(
    stepwise: Stepwise,
    modes: &Modes,
    samples: &Samples,
    teacher: Option<&TeacherPath>,
) -> Result<Trajectory> {
    let few = samples.first(SAMPLES);
    if let Some(path) = teacher {
        path.check(few.noise.len())?;
    }
    let latents = stepwise.encode_noise(&few.noise, &few.labels);
    let shift = stepwise.control(&few.labels);
    let times: Vec<f64> = (0..TIMES).map(|i| i as f64 / (TIMES - 1) as f64).collect();
    let decode = |t: &f64| match stepwise.advance(&latents, &few.labels, *t as f32) {
        Some(arrived) => stepwise.decode_at(&arrived, &few.labels, *t as f32),
        None => stepwise.decode(&modes.flow(&latents, &shift, *t), &few.labels),
    };
    Ok(Trajectory { images: times.iter().map(decode).collect(), times, teacher: teacher.cloned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SmallStudent;

    /// At 1 the path ends in the samples; a teacher's path of other samples is refused.
    #[test]
    fn the_path_ends_in_the_samples() {
        for classes in [0, 3] {
            let small = SmallStudent::new(&[3], classes);
            let subject = small.subject();
            let stepwise = subject.stepwise().unwrap();
            let modes = Modes::of(&stepwise.student.operator.matrix()).unwrap();
            let found = trajectory(stepwise, &modes, subject.samples, None).unwrap();
            let few = subject.samples.first(SAMPLES);
            let pushed =
                stepwise.push(&stepwise.encode_noise(&few.noise, &few.labels), &few.labels);
            let drawn = stepwise.decode(&pushed, &few.labels);
            let off = drawn.iter().zip(&found.images[TIMES - 1]).map(|(a, b)| (a - b).abs());
            assert!(off.fold(0.0, f32::max) < 1e-4);
            assert_eq!((found.times[0], found.times[TIMES - 1]), (0.0, 1.0));
            let path = TeacherPath {
                times: vec![1.0],
                states: vec![vec![0.0; 12]],
                denoised: vec![vec![0.0; 11]],
            };
            let refused = trajectory(stepwise, &modes, subject.samples, Some(&path));
            assert!(matches!(refused, Err(Error::Length { expected: 12, found: 11, .. })));
        }
    }
}
