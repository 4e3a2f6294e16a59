//! Distillation: the student trained on stored pairs. The teacher is never asked.

use std::ops::Range;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use kdm_data::pairs::{PairBatch, PairStore};
use kdm_kernels::random::{self, Permutation};
use kdm_metrics::paired;
use kdm_train::{Losses, Task};

use crate::losses::{self, Batch, LatentNoise, Terms};
use crate::operator::Complex;
use crate::sampler::{Sampler, one_hot};
use crate::student::StudentFile;
use crate::{Student, StudentConfig};

/// Streams of the training's seed.
const ORDER: u64 = 1;
const LATENT_NOISE: u64 = 2;

/// A distillation. The pairs of an iteration, their order and the latent noise are functions of seed and iteration.
#[derive(Debug)]
pub struct DistillTask {
    store: PairStore,
    /// The last pairs of the store are held out for validation.
    held_out: usize,
    batch: usize,
    seed: u64,
    file: StudentFile,
    targets: Option<Vec<Complex>>,
    device: Device,
}

impl DistillTask {
    /// Trains the student of `file` on all pairs of `store` but the last `held_out` (fewer than there are), `batch` at
    /// a time, on `device` (autodiff included).
    pub fn new(store: PairStore, held_out: usize, batch: usize, seed: u64, file: StudentFile, device: Device) -> Self {
        let targets = file.targets();
        Self { store, held_out, batch, seed, file, targets, device }
    }

    /// What is trained.
    pub fn config(&self) -> &StudentConfig {
        &self.file.student
    }

    /// Numbers of the pairs trained on.
    fn training_pairs(&self) -> usize {
        self.store.len() - self.held_out
    }

    /// Numbers of the pairs held out.
    pub fn held_out(&self) -> Range<usize> {
        self.training_pairs()..self.store.len()
    }

    /// The pairs of iteration `iteration`: shuffled epochs, one after the other.
    fn indices(&self, iteration: u64) -> Vec<usize> {
        let n = self.training_pairs() as u64;
        let order = random::derive_seed(self.seed, ORDER);
        let first = iteration * self.batch as u64;
        (first..first + self.batch as u64)
            .map(|place| Permutation::new(random::derive_seed(order, place / n), n).at(place % n) as usize)
            .collect()
    }

    fn latent_noise(&self, iteration: u64) -> Option<LatentNoise> {
        if self.file.loss.latent_noise == 0.0 {
            return None;
        }
        let seed = random::derive_seed(random::derive_seed(self.seed, LATENT_NOISE), iteration);
        let shape = [self.batch, self.config().operator_dim()];
        let draw = |stream| {
            let values = random::normal_vec(random::derive_seed(seed, stream), shape[0] * shape[1]);
            Tensor::from_data(TensorData::new(values, shape), &self.device)
        };
        Some(LatentNoise { clean: draw(0), noise: draw(1) })
    }
}

/// Pairs as tensors on `device`.
pub fn to_batch(pairs: PairBatch, dim: usize, label_dim: usize, device: &Device) -> Batch {
    let n = pairs.images.len() / dim;
    let tensor = |values: Vec<f32>, width| Tensor::from_data(TensorData::new(values, [n, width]), device);
    let labels = (label_dim > 0).then(|| tensor(one_hot(&pairs.labels, label_dim), label_dim));
    Batch { images: tensor(pairs.images, dim), noise: tensor(pairs.noise, dim), labels }
}

/// Pairs evaluated at a time.
const BLOCK: usize = 4096;

/// The loss's terms on pairs of a store with latent noise off: `latent`, `rec`, `push`, `eigen` (when there is one)
/// and `total`, averaged over all pairs. `targets` as in training.
pub fn evaluate_losses(
    student: &Student,
    file: &StudentFile,
    store: &PairStore,
    range: Range<usize>,
    targets: Option<&[Complex]>,
    device: &Device,
) -> Vec<(String, f64)> {
    let config = &file.student;
    let mut sums: Vec<(String, f64)> = Vec::new();
    let total = range.len();
    for start in range.clone().step_by(BLOCK) {
        let block = start..(start + BLOCK).min(range.end);
        let weight = block.len() as f64 / total as f64;
        let batch = to_batch(store.range(block), config.dim(), config.label_dim, device);
        let t = losses::terms(student, batch, None, &file.loss, targets, true);
        for (i, (name, value)) in named(&t).into_iter().chain([("total", t.total)]).enumerate() {
            let value = weight * f64::from(value.into_scalar::<f32>());
            match sums.get_mut(i) {
                Some((_, sum)) => *sum += value,
                None => sums.push((name.into(), value)),
            }
        }
    }
    sums
}

fn named(t: &Terms) -> Vec<(&'static str, Tensor<1>)> {
    let mut terms = vec![("latent", t.latent.clone()), ("rec", t.rec.clone())];
    terms.extend(t.push.clone().map(|push| ("push", push)));
    terms.extend(t.eigen.clone().map(|eigen| ("eigen", eigen)));
    terms
}

impl Task for DistillTask {
    type Model = Student;

    fn loss(&self, model: &Student, iteration: u64) -> Losses {
        let pairs = self.store.batch(&self.indices(iteration));
        let config = self.config();
        let batch = to_batch(pairs, config.dim(), config.label_dim, &self.device);
        let noise = self.latent_noise(iteration);
        let t = losses::terms(model, batch, noise, &self.file.loss, self.targets.as_deref(), false);
        let terms = named(&t);
        Losses { total: t.total, terms }
    }

    /// Paired errors to the teacher on the held-out pairs, and the loss's terms there.
    fn validate(&self, averaged: &Student) -> Vec<(String, f64)> {
        let range = self.held_out();
        if range.is_empty() {
            return Vec::new();
        }
        let (config, device) = (self.config(), self.device.clone().inner());
        let pairs = self.store.range(range.clone());
        let sampler = Sampler::new(averaged.clone(), config.dim(), config.label_dim, &device);
        let drawn = sampler.sample(&pairs.noise, &one_hot(&pairs.labels, config.label_dim));
        let errors = paired(&drawn, &pairs.images, config.dim());
        let mut values = vec![("rmse".to_string(), errors.rmse), ("median_error".to_string(), errors.median_error)];
        values.extend(evaluate_losses(averaged, &self.file, &self.store, range, self.targets.as_deref(), &device));
        values
    }

    fn save(&self, averaged: &Student, path: &Path) -> kdm_train::Result<()> {
        Ok(self.file.save(averaged, path)?)
    }
}
