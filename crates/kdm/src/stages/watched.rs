//! Trainings that draw while they go on, to be looked at.

use std::path::Path;

use burn::tensor::Device;
use kdm_data::{Labels, Samples};
use kdm_koopman::{Sampler, Student, StudentConfig};
use kdm_report::grid;
use kdm_report::plot::{Plot, Series};
use kdm_teacher::{Denoiser, Process, Solver, solve_watched};
use kdm_train::{Losses, Picture, SharedWork, Stepper, Task};

/// Images that are drawn, and in how many columns.
const IMAGES: usize = 32;
const COLUMNS: usize = 8;
/// Points that are drawn, and the edge of the plot in standard deviations of noise or data.
const POINTS: usize = 1000;
const HALF: f64 = 4.0;
/// Solver steps of a teacher's samples: few, as they are drawn often.
const STEPS: usize = 8;

/// A task that draws.
pub(super) struct Watched<T: Task, F> {
    pub task: T,
    /// What the averaged weights draw.
    pub draw: F,
}

impl<T: Task, F: Fn(&T::Model) -> Option<Picture>> Task for Watched<T, F> {
    type Model = T::Model;

    fn name(&self) -> &'static str {
        self.task.name()
    }

    fn optimizers(&self) -> &'static [&'static str] {
        self.task.optimizers()
    }

    fn iterate(
        &self,
        model: T::Model,
        iteration: u64,
        stepper: &mut Stepper,
    ) -> (T::Model, Losses) {
        self.task.iterate(model, iteration, stepper)
    }

    fn validate(&self, averaged: &T::Model, shared: SharedWork) -> Vec<(String, f64)> {
        self.task.validate(averaged, shared)
    }

    fn picture(&self, averaged: &T::Model) -> Option<Picture> {
        (self.draw)(averaged)
    }

    fn save(&self, averaged: &T::Model, path: &Path) -> kdm_train::Result<()> {
        self.task.save(averaged, path)
    }
}

/// How many samples of this shape are drawn; none where they can't be shown.
pub(super) fn drawn(shape: &[usize]) -> Option<usize> {
    match shape {
        [2] => Some(POINTS),
        shape if grid::shows(shape) => Some(IMAGES),
        _ => None,
    }
}

/// Samples of a shape as a picture.
fn picture(samples: &[f32], shape: &[usize]) -> Option<Picture> {
    if shape.len() == 3 {
        return Picture::of_png(grid::png(samples, shape, COLUMNS));
    }
    let series = vec![Series::of_rows(samples, 0)];
    Picture::of_png(Plot::points(series, HALF).png())
}

/// What a student draws from the noise of `samples`.
pub(super) fn of_student(
    student: &Student,
    config: &StudentConfig,
    samples: &Samples,
    device: &Device,
) -> Option<Picture> {
    let sampler = Sampler::new(student.clone(), config, device);
    picture(&sampler.sample(&samples.noise, &samples.labels), &config.shape)
}

/// What a teacher draws from the noise of the seeds 0, 1, ..., in few steps.
pub(super) fn of_teacher(teacher: &dyn Denoiser, process: &Process) -> Option<Picture> {
    let (shape, classes) = (teacher.shape(), teacher.label_dim());
    let count = drawn(&shape)?;
    let dim: usize = shape.iter().product();
    let noise = kdm_random::normal_vec(0, count * dim);
    let x = noise.iter().map(|e| f64::from(*e) * process.noise_std()).collect();
    let labels = match classes {
        0 => Labels::none(count),
        classes => Labels::of(&(0..count as u32).map(|i| i % classes as u32).collect::<Vec<u32>>()),
    };
    let drawn = solve_watched(teacher, process, (Solver::Heun, STEPS), x, &labels, &mut |_| Ok(()));
    let drawn: Vec<f32> = drawn.ok()?.into_iter().map(|x| x as f32).collect();
    picture(&drawn, &shape)
}
