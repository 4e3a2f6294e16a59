//! The two costs of a student, as closures to be timed: a training step, and one-step sampling. Random weights and data;
//! the work doesn't depend on their values.

use burn::tensor::{Device, Tensor, TensorData};
use kdm_core::losses::{LatentNoise, terms};
use kdm_core::sampler::{Sampler, one_hot};
use kdm_core::{StudentConfig, distill};
use kdm_data::pairs::PairBatch;
use kdm_kernels::random;
use kdm_train::Optimizer;

use crate::Experiment;

fn pairs(config: &StudentConfig, batch: usize) -> PairBatch {
    let n = batch * config.dim();
    PairBatch {
        noise: random::normal_vec(1, n).iter().map(|x| x * config.noise_std as f32).collect(),
        images: random::normal_vec(2, n),
        labels: vec![0; if config.label_dim > 0 { batch } else { 0 }],
        seeds: Vec::new(),
    }
}

/// One-step samples from `batch` rows of noise, host to host.
pub fn sampling(config: &StudentConfig, batch: usize) -> impl FnMut() {
    let device = Device::flex();
    let sampler = Sampler::new(config.init(0, &device), config.dim(), config.label_dim, &device);
    let pairs = pairs(config, batch);
    let labels = one_hot(&pairs.labels, config.label_dim);
    move || {
        std::hint::black_box(sampler.sample(&pairs.noise, &labels));
    }
}

/// A training step on `batch` pairs: latent noise, loss, gradients, Adam and the moving average.
pub fn training_step(experiment: &Experiment, config: &StudentConfig, batch: usize) -> impl FnMut() {
    let device = Device::flex().autodiff();
    let mut student = Some(config.init(0, &device));
    let mut optimizer = Optimizer::new(experiment.student_loop().optimizer, student.as_ref().expect("just made"));
    let pairs = pairs(config, batch);
    let targets = experiment.loss.eigenvalues.targets(config.operator_dim(), 3);
    let (config, loss) = (config.clone(), experiment.loss.clone());
    let mut draws = 4;
    move || {
        let model = student.take().expect("put back below");
        let mut latent = || {
            draws += 1;
            let shape = [batch, config.operator_dim()];
            let values = random::normal_vec(draws, shape[0] * shape[1]);
            Tensor::from_data(TensorData::new(values, shape), &device)
        };
        let noise = (loss.latent_noise > 0.0).then(|| LatentNoise { clean: latent(), noise: latent() });
        let batch = distill::to_batch(pairs.clone(), config.dim(), config.label_dim, &device);
        let terms = terms(&model, batch, noise, &loss, targets.as_deref(), false);
        // A rate so small that the weights stay where they are.
        student = Some(optimizer.step(model, terms.total.backward(), 1e-9).0);
    }
}
