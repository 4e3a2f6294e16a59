//! The two costs of a student, as closures to be timed: a training step, and one-step sampling.
//! Random weights and data; the work doesn't depend on their values.

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use kdm_data::{Labels, Samples};
use kdm_koopman::distill::{self, LeafBatch, Trainee};
use kdm_koopman::loss::{Distance, LatentNoise, Objective};
use kdm_koopman::{Koopman, LossConfig, Reconstruction, Sampler, StudentConfig};
use kdm_nn::{
    ClassifierConfig, DiscriminatorConfig, ForwardMode, InitSeed, Lpips, Perceptual, Pooling,
};
use kdm_observer::{Observer, Stopped};
use kdm_train::{Optimizer, OptimizerConfig, Stepper};
use serde::Serialize;

use crate::runtime::Runtime;
use crate::stages::distill::{LossFiles, open_loss_network};
use crate::stages::evaluate::open_students_loss_network;
use crate::timing::{alternating, median};
use crate::{Context, Experiment, Failure, LoadedStudent, Outcome};

/// Which cost of a student.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cost {
    /// One-step sampling, host to host.
    Sample,
    /// A training step: latent noise, loss, gradients, Adam and the moving average.
    Train,
}

/// How a student is timed.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Samples a step; none for the training's batch.
    pub batch: Option<usize>,
    /// Steps that are timed.
    pub iters: usize,
    /// Steps before them that are not.
    pub warm_up: usize,
}

/// What a student costs on this machine.
#[derive(Clone, Debug, Serialize)]
pub struct Benchmark {
    /// The experiment, or the model file without folder and extension.
    pub preset: String,
    /// Which cost.
    pub what: Cost,
    /// Samples a step.
    pub batch: usize,
    /// Steps that were timed.
    pub iters: usize,
    /// Threads of the host.
    pub threads: usize,
    /// Which vectors the CPU kernels use.
    pub instruction_set: String,
    /// Median milliseconds a step.
    pub median_ms: f64,
    /// The same a sample.
    pub ms_per_image: f64,
    /// Billions of floating-point operations a second.
    pub gflops: f64,
    /// The process's largest resident memory so far, where the system tells.
    pub peak_rss_bytes: Option<u64>,
}

/// Times a student of this experiment, of random weights.
///
/// # Errors
/// When counts are 0, the classifier that the loss names can't be read, or the observer stops it.
pub fn measure(
    experiment: &Experiment,
    what: Cost,
    timing: Timing,
    context: Context,
) -> Outcome<Benchmark> {
    let runtime = context.runtime;
    let batch = timing.checked_batch(experiment.train.batch)?;
    let (shape, label_dim) = experiment.sample().expect("checked when loaded");
    let config = experiment.student_config(shape, label_dim, experiment.pairs.process.noise_std());
    let times = match what {
        Cost::Train => {
            timed(timing, training_step(experiment, &config, batch, runtime)?, context.observer)
        }
        Cost::Sample => timed(timing, sampling(&config, batch, runtime.device()), context.observer),
    };
    let push = experiment.loss.push_weight > 0.0;
    let flops = config.flops(what == Cost::Train, push) * batch as f64;
    found((experiment.name.clone(), what), batch, timing, (times?, flops), runtime)
}

/// Times the student of a model file: its sampling, or a step of a training of its loss.
///
/// # Errors
/// As [`measure`].
pub fn measure_student(
    student: &LoadedStudent,
    what: Cost,
    timing: Timing,
    context: Context,
) -> Outcome<Benchmark> {
    let (runtime, config, loss) = (context.runtime, student.config(), &student.file.loss);
    let trained = student.file.origin.distillation().map_or(32, |told| told.train.batch);
    let batch = timing.checked_batch(trained)?;
    let times = match what {
        Cost::Train => {
            let device = runtime.training();
            let perceptual = if loss.reconstruction.has_lpips() {
                Some(random_lpips(&device))
            } else {
                open_students_loss_network(student, LossFiles::default(), &device)?
            };
            let step = step_of(config, loss, perceptual, OptimizerConfig::default(), batch, device);
            timed(timing, step, context.observer)
        }
        Cost::Sample => {
            let pairs = pairs(config, batch);
            let draw = || {
                std::hint::black_box(student.sampler.sample(&pairs.noise, &pairs.labels));
            };
            timed(timing, draw, context.observer)
        }
    };
    let flops = config.flops(what == Cost::Train, loss.push_weight > 0.0) * batch as f64;
    let name = student.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    found((name, what), batch, timing, (times?, flops), runtime)
}

/// What was measured: seconds of each step, of so many floating-point operations.
fn found(
    (preset, what): (String, Cost),
    batch: usize,
    timing: Timing,
    (mut times, flops): (Vec<f64>, f64),
    runtime: &Runtime,
) -> Outcome<Benchmark> {
    let median = median(&mut times);
    let set = kdm_kernels::instruction_set().map_err(|e| Failure::Usage(e.to_string()))?;
    Ok(Benchmark {
        preset,
        what,
        batch,
        iters: timing.iters,
        threads: runtime.threads(),
        instruction_set: set.to_string(),
        median_ms: median * 1e3,
        ms_per_image: median * 1e3 / batch as f64,
        gflops: flops / median / 1e9,
        peak_rss_bytes: peak_rss(),
    })
}

impl Timing {
    /// The samples a step, `usual` unless something else is asked for.
    fn checked_batch(self, usual: usize) -> Outcome<usize> {
        let batch = self.batch.unwrap_or(usual);
        for (flag, count) in [("--batch", batch), ("--iters", self.iters)] {
            if count == 0 {
                return Err(Failure::Usage(format!("{flag} 0: give at least 1")));
            }
        }
        Ok(batch)
    }
}

/// Seconds of each timed step.
fn timed(
    timing: Timing,
    mut step: impl FnMut(),
    observer: &dyn Observer,
) -> Result<Vec<f64>, Stopped> {
    let count = timing.warm_up.saturating_add(timing.iters);
    let mut seconds = observer.in_parts(("bench", "steps"), count, 1, |_| {
        let started = Instant::now();
        step();
        vec![started.elapsed().as_secs_f64()]
    })?;
    Ok(seconds.split_off(timing.warm_up))
}

/// The process's largest resident memory so far, where the system tells.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// Pairs of random numbers.
fn pairs(config: &StudentConfig, batch: usize) -> Samples {
    let n = batch * config.dim();
    Samples {
        shape: config.shape.clone(),
        noise: kdm_random::normal_vec(1, n).iter().map(|x| x * config.noise_std as f32).collect(),
        images: kdm_random::normal_vec(2, n),
        labels: if config.label_dim > 0 { Labels::all(0, batch) } else { Labels::none(batch) },
        ..Samples::default()
    }
}

/// One-step samples from `batch` rows of noise, host to host.
pub fn sampling(config: &StudentConfig, batch: usize, device: &Device) -> impl FnMut() {
    let sampler = Sampler::new(config.init(0, device), config, device);
    let pairs = pairs(config, batch);
    move || {
        std::hint::black_box(sampler.sample(&pairs.noise, &pairs.labels));
    }
}

/// Rows that the linear maps are timed on.
const LINEAR_ROWS: usize = 256;

/// Seconds a row of two students' linear maps from the noise encoder to the decoder: operator and
/// projections; medians of `runs` alternating runs.
///
/// # Errors
/// When the observer stops it.
pub fn linear_seconds(
    students: [&Koopman; 2],
    latent: usize,
    runs: usize,
    context: Context,
) -> Result<[f64; 2], Stopped> {
    let device = context.device();
    let values = kdm_random::normal_vec(0, LINEAR_ROWS * latent);
    let z = Tensor::<2>::from_data(TensorData::new(values, [LINEAR_ROWS, latent]), device);
    let maps = |student: &Koopman| {
        let project = student.projection.as_ref();
        let z = project.map_or_else(|| z.clone(), |p| p.noise.forward(z.clone()));
        let z = student.operator.apply(z);
        std::hint::black_box(project.map_or_else(|| z.clone(), |p| p.decoder.forward(z.clone())));
    };
    let told = ("timing the linear maps", context.observer);
    let times = alternating([&|| maps(students[0]), &|| maps(students[1])], runs, told)?;
    Ok(times.map(|seconds| seconds / LINEAR_ROWS as f64))
}

/// A training step on `batch` pairs: latent noise, loss, gradients, Adam and the moving average.
///
/// # Errors
/// When the classifier that the loss names can't be read.
pub fn training_step(
    experiment: &Experiment,
    config: &StudentConfig,
    batch: usize,
    runtime: &Runtime,
) -> Outcome<impl FnMut() + use<>> {
    let device = runtime.training();
    let reconstruction = experiment.loss.reconstruction;
    let perceptual = if reconstruction.has_lpips() {
        Some(random_lpips(&device))
    } else {
        let files = LossFiles::of(experiment);
        open_loss_network(reconstruction, files, &config.shape, &device)?.map(|n| n.network)
    };
    Ok(step_with(experiment, config, perceptual, batch, runtime))
}

/// [`training_step`] with a perceptual network that is given, on the runtime's training device.
pub fn step_with(
    experiment: &Experiment,
    config: &StudentConfig,
    perceptual: Option<Perceptual>,
    batch: usize,
    runtime: &Runtime,
) -> impl FnMut() + use<> {
    let optimizer = experiment.student_loop().optimizer;
    let loss = experiment.loss.config();
    step_of(config, &loss, perceptual, optimizer, batch, runtime.training())
}

/// The network that a loss of this kind looks through, with random weights: the work is that of a
/// trained one. None where the loss has none.
pub fn random_perceptual(
    reconstruction: Reconstruction,
    shape: &[usize],
    device: &Device,
) -> Option<Perceptual> {
    if reconstruction.has_lpips() {
        return Some(random_lpips(device));
    }
    reconstruction.has_features().then(|| {
        let (in_channels, resolution) = (shape[0], shape[shape.len() - 1]);
        let config = ClassifierConfig { resolution, in_channels, classes: 10, width: 16 };
        let network = config.init(&mut InitSeed::new(0), device);
        kdm_nn::frozen(Perceptual::Classifier(network))
    })
}

fn random_lpips(device: &Device) -> Perceptual {
    let network = Lpips::init(Pooling::Average, &mut InitSeed::new(1), device);
    kdm_nn::frozen(Perceptual::Lpips(network))
}

/// A training step of a student of random weights for a loss.
fn step_of(
    config: &StudentConfig,
    loss: &LossConfig,
    perceptual: Option<Perceptual>,
    optimizer: OptimizerConfig,
    batch: usize,
    device: Device,
) -> impl FnMut() + use<> {
    let seed = &mut InitSeed::new(1);
    let discriminator = (loss.adversarial_weight > 0.0)
        .then(|| DiscriminatorConfig { in_channels: config.shape[0] }.init(seed, &device));
    let trainee = Trainee { student: config.init(0, &device), discriminator };
    let optimizers = ["student.", "discriminator."];
    let mut optimizers = optimizers.map(|prefix| Optimizer::new(optimizer, &trainee, prefix));
    let mut trainee = Some(trainee);
    let pairs = pairs(config, batch);
    let objective = Objective {
        config: loss.clone(),
        targets: loss.eigenvalues.targets(config.operator_dim(), 3),
        distance: Distance::new(loss.reconstruction, perceptual, &config.shape),
    };
    let config = config.clone();
    let mut draws = 4;
    move || {
        let model = trainee.take().expect("put back below");
        let mut latent = || {
            draws += 1;
            let shape = [batch, config.operator_dim()];
            let values = kdm_random::normal_vec(draws, shape[0] * shape[1]);
            Tensor::from_data(TensorData::new(values, shape), &device)
        };
        let noisy = objective.config.latent_noise > 0.0;
        let noise = noisy.then(|| LatentNoise { clean: latent(), noise: latent(), states: None });
        let batch = distill::to_tensors(pairs.clone(), config.label_dim, &device);
        let leaf = |_| LeafBatch {
            pairs: batch.clone(),
            latent_noise: noise.clone(),
            mode: ForwardMode::training(draws),
        };
        // A rate so small that the weights stay where they are.
        let mut stepper = Stepper::new(&mut optimizers, 1e-9);
        trainee = Some(distill::step(&objective, model, leaf, &mut stepper).0);
    }
}
