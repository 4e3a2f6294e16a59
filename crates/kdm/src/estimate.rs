//! How long work takes on this machine: steps of the real networks, with random weights, are timed
//! for a moment and multiplied.

use std::time::Instant;

use kdm_data::Labels;
use kdm_teacher::networks::FlowMlp;
use kdm_teacher::networks::image::NetworkTeacher;
use kdm_teacher::{Denoiser, Level, Teacher};

use crate::benchmark::{random_perceptual, step_with};
use crate::experiment::{StageCost, TeacherKind};
use crate::stages::teacher::open_teacher;
use crate::{Context, Experiment, Outcome};

/// Operations that are timed at least, where there are as many.
const TIMED: f64 = 4e9;
/// Images that are drawn at a time.
const IMAGES: usize = 32;

/// Seconds of a piece of work, after one to warm up: the mean of two.
pub fn seconds_of(mut work: impl FnMut()) -> f64 {
    const RUNS: u32 = 2;
    work();
    let started = Instant::now();
    (0..RUNS).for_each(|_| work());
    started.elapsed().as_secs_f64() / f64::from(RUNS)
}

/// Seconds a pass of a teacher over a sample, measured on `batch` of them.
pub fn pass_seconds(teacher: &dyn Denoiser, batch: usize) -> f64 {
    let classes = teacher.label_dim();
    let labels = if classes > 0 { Labels::all(0, batch) } else { Labels::none(batch) };
    let dim: usize = teacher.shape().iter().product();
    let noise = kdm_random::normal_vec(0, batch * dim);
    let x: Vec<f64> = noise.iter().map(|x| f64::from(*x)).collect();
    let level = Level { alpha: 1.0, sigma: 1.0 };
    let work = || drop(std::hint::black_box(teacher.denoise(&x, level, &labels)));
    seconds_of(work) / batch as f64
}

/// What each stage of an experiment takes, with seconds; none where a file is needed to tell that
/// is not there. A training of a teacher is taken to compute as fast as the student's.
///
/// # Errors
/// When the observer stops it.
pub fn measured_stages(
    experiment: &Experiment,
    context: Context,
) -> Outcome<Vec<(StageCost, Option<f64>)>> {
    let (shape, label_dim) = experiment.sample().expect("checked when loaded");
    let config = experiment.student_config(shape, label_dim, experiment.pairs.process.noise_std());
    let mut progress = context.observer.begin("measuring this machine", "networks");
    progress.advance(0, 2, "student")?;
    let each = experiment.student_demand(true).operations;
    let batch = ((TIMED / each.max(1.0)) as usize).clamp(1, experiment.train.batch);
    let device = context.runtime.training();
    let network = random_perceptual(experiment.loss.reconstruction, &config.shape, &device);
    let seconds = seconds_of(step_with(experiment, &config, network, batch, context.runtime));
    let iteration = seconds * experiment.train.batch as f64 / batch as f64;
    let rate = each * batch as f64 / seconds;
    progress.advance(1, 2, "teacher")?;
    let pass = teacher_pass(experiment, context);
    progress.finish("");
    let stages = experiment.stage_costs().into_iter().map(|stage| {
        let p = &experiment.pairs;
        let seconds = match stage.name {
            "pairs" => pass.map(|pass| {
                let passes = p.solver.evaluations(p.steps) as f64;
                pass * passes * (p.count as f64 + p.test as f64)
            }),
            "student" => Some(iteration * experiment.train.iterations as f64),
            _ => stage.operations.map(|operations| operations / rate),
        };
        (stage, seconds)
    });
    Ok(stages.collect())
}

/// Seconds a pass of the experiment's teacher, of random weights where it is still to be trained.
fn teacher_pass(experiment: &Experiment, context: Context) -> Option<f64> {
    let device = context.device();
    match experiment.teacher.kind {
        TeacherKind::Exact => {
            Some(pass_seconds(&Teacher::exact(experiment.exact()).ok()?, 32 * IMAGES))
        }
        TeacherKind::FlowMlp => {
            let (config, data) = (experiment.flow_mlp(), experiment.distribution()?);
            let dim = data.shape().iter().product();
            let teacher = FlowMlp::new(config.init(&data, 0, device), dim);
            Some(pass_seconds(&teacher, 32 * IMAGES))
        }
        TeacherKind::Network => {
            let config = experiment.network_teacher()?;
            let teacher = NetworkTeacher::new(&config, config.init(0, device));
            Some(pass_seconds(&teacher, images_of(&config.network)))
        }
        TeacherKind::File => {
            let teacher = open_teacher(experiment.teacher.path.as_deref()?, device).ok()?;
            let images = match teacher.config() {
                kdm_teacher::TeacherConfig::Network(config) => images_of(&config.network),
                _ => IMAGES,
            };
            Some(pass_seconds(&teacher, images))
        }
    }
}

/// Images that a network is timed on: fewer of a large one.
fn images_of(network: &kdm_nn::UNetConfig) -> usize {
    let each = network.demand().operations;
    ((TIMED / each.max(1.0)) as usize).clamp(1, IMAGES)
}
