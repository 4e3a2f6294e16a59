//! The two costs of a student, as closures to be timed: a training step, and one-step sampling.
//! Random weights and data; the work doesn't depend on their values.

use burn::tensor::{Device, Tensor, TensorData};
use kdm_data::pairs::PairBatch;
use kdm_koopman::distill::Trainee;
use kdm_koopman::loss::{Distance, LatentNoise, Objective};
use kdm_koopman::sampler::{Sampler, one_hot};
use kdm_koopman::{StudentConfig, distill};
use kdm_nn::{DiscriminatorConfig, ForwardMode, InitSeed, Lpips, Perceptual, Pooling};
use kdm_train::{Optimizer, Stepper};

use crate::pipeline::load_perceptual;
use crate::{Experiment, Outcome};

fn pairs(config: &StudentConfig, batch: usize) -> PairBatch {
    let n = batch * config.dim();
    PairBatch {
        noise: kdm_random::normal_vec(1, n).iter().map(|x| x * config.noise_std as f32).collect(),
        images: kdm_random::normal_vec(2, n),
        labels: vec![0; if config.label_dim > 0 { batch } else { 0 }],
        seeds: Vec::new(),
    }
}

/// One-step samples from `batch` rows of noise, host to host.
pub fn sampling(config: &StudentConfig, batch: usize) -> impl FnMut() {
    let device = Device::flex();
    let sampler = Sampler::new(config.init(0, &device), config, &device);
    let pairs = pairs(config, batch);
    let labels = one_hot(&pairs.labels, config.label_dim);
    move || {
        std::hint::black_box(sampler.sample(&pairs.noise, &labels));
    }
}

/// A training step on `batch` pairs: latent noise, loss, gradients, Adam and the moving average.
///
/// # Errors
/// When the classifier that the loss names can't be read.
pub fn training_step(
    experiment: &Experiment,
    config: &StudentConfig,
    batch: usize,
) -> Outcome<impl FnMut()> {
    let device = Device::flex().autodiff();
    let seed = &mut InitSeed::new(1);
    let discriminator = (experiment.loss.adversarial_weight > 0.0)
        .then(|| DiscriminatorConfig { in_channels: config.shape[0] }.init(seed, &device));
    let trainee = Trainee { student: config.init(0, &device), discriminator };
    let optimizers = ["student.", "discriminator."];
    let mut optimizers = optimizers
        .map(|prefix| Optimizer::new(experiment.student_loop().optimizer, &trainee, prefix));
    let mut trainee = Some(trainee);
    let pairs = pairs(config, batch);
    let perceptual = if experiment.loss.reconstruction.has_lpips() {
        Some(kdm_nn::frozen(Perceptual::Lpips(Lpips::init(Pooling::Average, seed, &device))))
    } else {
        load_perceptual(&experiment.loss, None, &config.shape, &device)?
    };
    let objective = Objective {
        config: experiment.loss.clone(),
        targets: experiment.loss.eigenvalues.targets(config.operator_dim(), 3),
        distance: Distance::new(experiment.loss.reconstruction, perceptual, &config.shape),
    };
    let config = config.clone();
    let mut draws = 4;
    Ok(move || {
        let model = trainee.take().expect("put back below");
        let mut latent = || {
            draws += 1;
            let shape = [batch, config.operator_dim()];
            let values = kdm_random::normal_vec(draws, shape[0] * shape[1]);
            Tensor::from_data(TensorData::new(values, shape), &device)
        };
        let noisy = objective.config.latent_noise > 0.0;
        let noise = noisy.then(|| LatentNoise { clean: latent(), noise: latent() });
        let batch = distill::to_batch(pairs.clone(), config.dim(), config.label_dim, &device);
        // A rate so small that the weights stay where they are.
        let mut stepper = Stepper::new(&mut optimizers, 1e-9);
        trainee = Some(
            distill::step(
                &objective,
                model,
                batch,
                noise,
                &ForwardMode::training(draws),
                &mut stepper,
            )
            .0,
        );
    })
}
