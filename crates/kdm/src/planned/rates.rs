//! What a step of each network takes on this machine, measured on networks of the planned sizes
//! with random weights.

use std::path::Path;

use kdm_data::ImageSet;
use kdm_metrics::features::classifier_training::ClassifierTask;
use kdm_metrics::features::extractor::ClassifierFile;
use kdm_nn::{ClassifierConfig, InitSeed};
use kdm_teacher::networks::image::NetworkTeacher;
use kdm_teacher::{Denoiser, EdmTask};
use kdm_train::{Optimizer, OptimizerConfig, Stepper, Task};

use super::Subject;
use super::experiment::experiment_of;
use super::images::{FEATURE_WIDTH, OwnSet};
use super::sizes::{Counts, Plan, Request, plan};
use crate::benchmark::{random_perceptual, step_with};
use crate::estimate::{pass_seconds, seconds_of};
use crate::{Context, Failure, Outcome};

/// Seconds on this machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// An image in the teacher's training.
    pub teacher_step: f64,
    /// A pass of the teacher over an image.
    pub teacher_pass: f64,
    /// A pair in the student's training.
    pub student_step: f64,
    /// An image in a feature network's training.
    pub feature_step: f64,
}

impl Rates {
    /// Those of networks with so many times the operations: teacher, student, feature network.
    pub(super) fn scaled(self, [teacher, student, features]: [f64; 3]) -> Self {
        Self {
            teacher_step: teacher * self.teacher_step,
            teacher_pass: teacher * self.teacher_pass,
            student_step: student * self.student_step,
            feature_step: features * self.feature_step,
        }
    }
}

/// Images a step that is timed.
const BATCH: usize = 16;
/// Images that are drawn at a time.
const DRAWN: usize = 32;

/// See [`Subject::plan`].
pub(super) fn plan_measured(
    subject: &Subject,
    folder: &Path,
    seconds: f64,
    context: Context,
) -> Outcome<Plan> {
    let observer = context.observer;
    let own = subject.teacher.as_ref();
    let shape = own.map(|own| own.teacher.shape());
    let mut resolution = shape.as_ref().map(|shape| shape[1]);
    let (mut side, mut set) = (resolution.unwrap_or(0), None);
    if let Some(images) = &subject.images {
        side = images.side(observer)?;
        resolution = resolution.or(images.resolution);
        // Read once: measuring at another size doesn't depend on what the images show.
        let read = images.read(resolution.unwrap_or(32.min(side / 8 * 8).max(8)), 0, observer)?;
        set = Some(read);
    }
    let images = set.as_ref().map(|set: &OwnSet| set.train.clone());
    let (channels, classes) = match (own, &images) {
        (Some(own), _) => (own.teacher.shape()[0], own.teacher.label_dim()),
        (None, Some(images)) => {
            (images.shape()[0], Some(images.classes()).filter(|c| *c > 1).unwrap_or(0))
        }
        (None, None) => {
            return Err(Failure::Usage(
                "give images with --data or a teacher with --teacher".into(),
            ));
        }
    };
    if let (Some(_), Some(images)) = (own, &images)
        && images.shape()[0] != channels
    {
        return Err(Failure::Usage(format!(
            "--data: the images have {} channels, and the teacher's {channels}; give the images \
             that it learned from, or leave --data out",
            images.shape()[0]
        )));
    }
    let request = Request {
        name: &subject.name,
        folder,
        seconds,
        channels,
        resolution,
        side,
        classes,
        images: images.as_ref().map(ImageSet::len),
        teacher: own.map(|own| (own.path(folder), own.process())),
    };
    plan(&request, |sizes| {
        let mut progress = observer.begin("measuring this machine", "networks");
        let mut done = 0;
        let mut next = |what: &str| {
            done += 1;
            progress.advance(done - 1, 3, what)
        };
        let images = images.clone().map(|images| images.resized(sizes.resolution));
        next("teacher")?;
        let experiment = experiment_of(&request, sizes, &Counts::default())?;
        let (teacher_step, teacher_pass) = match (own, &images) {
            (None, Some(images)) => {
                let config = experiment.network_teacher().expect("one that is trained");
                let device = context.runtime.training();
                let network = config.init(0, &device);
                let frozen = NetworkTeacher::new(&config, config.init(0, context.device()));
                let (images, augment) = (images.clone(), experiment.teacher.train.augment);
                let task = EdmTask { config, images, batch: BATCH, seed: 0, augment, device };
                (step_seconds(&task, network), pass_seconds(&frozen, DRAWN))
            }
            (Some(own), _) => (0.0, pass_seconds(&own.teacher, DRAWN)),
            (None, None) => (0.0, 0.0),
        };
        next("student")?;
        let shape = vec![channels, sizes.resolution, sizes.resolution];
        let noise_std = experiment.pairs.process.noise_std();
        let config = experiment.student_config(shape, classes, noise_std);
        let classifier = images.as_ref().map(feature_network);
        let device = context.runtime.training();
        let loss = experiment.loss.reconstruction;
        let perceptual = random_perceptual(loss, &config.shape, &device);
        let mut step = step_with(&experiment, &config, perceptual, BATCH, context.runtime);
        let student_step = seconds_of(&mut step) / BATCH as f64;
        next("feature network")?;
        let feature_step = match (classifier, images) {
            (Some(network), Some(images)) => {
                let model = network.init(&mut InitSeed::new(0), &context.runtime.training());
                // Labels are needed, and which don't matter.
                let images = if network.classes == images.classes() {
                    images
                } else {
                    images.first(BATCH).quarter_turns()
                };
                let file = ClassifierFile { data: String::new(), class_names: Vec::new(), network };
                let (test, device) = (images.clone().first(1), context.runtime.training());
                let task = ClassifierTask { file, images, test, batch: BATCH, seed: 0, device };
                step_seconds(&task, model)
            }
            _ => 0.0,
        };
        progress.finish("");
        Ok(Rates { teacher_step, teacher_pass, student_step, feature_step })
    })
}

/// The classifier whose features the images of a run are seen by.
fn feature_network(images: &ImageSet) -> ClassifierConfig {
    let [in_channels, resolution, _] = images.shape();
    let classes = if images.classes() > 1 { images.classes() } else { 4 };
    ClassifierConfig { resolution, in_channels, classes, width: FEATURE_WIDTH }
}

/// Seconds an image of a training.
fn step_seconds<T: Task>(task: &T, model: T::Model) -> f64 {
    let optimizer = |prefix: &&str| Optimizer::new(OptimizerConfig::default(), &model, prefix);
    let mut optimizers: Vec<Optimizer> = task.optimizers().iter().map(optimizer).collect();
    let mut model = Some(model);
    let mut iteration = 0;
    let work = || {
        let mut stepper = Stepper::new(&mut optimizers, 1e-9);
        let given = model.take().expect("put back below");
        model = Some(task.iterate(given, iteration, &mut stepper).0);
        iteration += 1;
    };
    seconds_of(work) / BATCH as f64
}
