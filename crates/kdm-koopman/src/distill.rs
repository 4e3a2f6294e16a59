//! Distillation: the student trained on stored pairs. The teacher is never asked.

use std::ops::Range;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use kdm_data::Samples;
use kdm_data::pairs::PairStore;
use kdm_metrics::paired;
use kdm_nn::{Discriminator, DiscriminatorConfig, ForwardMode, InitSeed, Perceptual};
use kdm_random::Permutation;
use kdm_train::{Losses, Stepper, Task};

use crate::loss::{Batch, LatentNoise, Objective, Terms};
use crate::sampler::{Sampler, one_hot};
use crate::student::StudentFile;
use crate::{Method, Student, StudentConfig};

/// Streams of the training's seed.
const ORDER: u64 = 1;
const LATENT_NOISE: u64 = 2;
const DROPOUT: u64 = 3;
const DISCRIMINATOR: u64 = 4;

/// What is trained: the student, and the discriminator that judges it.
#[derive(Module, Debug)]
pub struct Trainee {
    /// The student.
    pub student: Student,
    /// The discriminator, when the loss has an adversarial term.
    pub discriminator: Option<Discriminator>,
}

/// A distillation. The pairs of an iteration, their order and the latent noise are functions of
/// seed and iteration.
#[derive(Debug)]
pub struct DistillTask {
    store: PairStore,
    /// The last pairs of the store are held out for validation.
    held_out: usize,
    batch: usize,
    seed: u64,
    file: StudentFile,
    objective: Objective,
    device: Device,
}

impl DistillTask {
    /// Trains the student of `file` on all pairs of `store` but the last `held_out` (fewer than
    /// there are), `batch` at a time, on `device` (autodiff included). `perceptual` goes with the
    /// perceptual losses.
    pub fn new(
        store: PairStore,
        held_out: usize,
        batch: usize,
        seed: u64,
        file: StudentFile,
        perceptual: Option<Perceptual>,
        device: Device,
    ) -> Self {
        let objective = file.objective(perceptual);
        Self { store, held_out, batch, seed, file, objective, device }
    }

    /// Fresh weights of the student, of seed `seed`, and of the discriminator when there is one.
    pub fn init(&self, seed: u64) -> Trainee {
        let discriminator = (self.file.loss.adversarial_weight > 0.0).then(|| {
            let config = DiscriminatorConfig { in_channels: self.config().shape[0] };
            config.init(
                &mut InitSeed::new(kdm_random::derive_seed(seed, DISCRIMINATOR)),
                &self.device,
            )
        });
        Trainee { student: self.config().init(seed, &self.device), discriminator }
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
        let order = kdm_random::derive_seed(self.seed, ORDER);
        let first = iteration * self.batch as u64;
        (first..first + self.batch as u64)
            .map(|place| {
                Permutation::new(kdm_random::derive_seed(order, place / n), n).at(place % n)
                    as usize
            })
            .collect()
    }

    fn latent_noise(&self, iteration: u64) -> Option<LatentNoise> {
        if self.file.loss.latent_noise == 0.0 || self.config().method == Method::Direct {
            return None;
        }
        let seed =
            kdm_random::derive_seed(kdm_random::derive_seed(self.seed, LATENT_NOISE), iteration);
        let shape = [self.batch, self.config().operator_dim()];
        let draw = |stream| {
            let values =
                kdm_random::normal_vec(kdm_random::derive_seed(seed, stream), shape[0] * shape[1]);
            Tensor::from_data(TensorData::new(values, shape), &self.device)
        };
        Some(LatentNoise { clean: draw(0), noise: draw(1) })
    }
}

/// Pairs as tensors on `device`.
pub fn to_batch(pairs: Samples, dim: usize, label_dim: usize, device: &Device) -> Batch {
    let n = pairs.images.len() / dim;
    let tensor =
        |values: Vec<f32>, width| Tensor::from_data(TensorData::new(values, [n, width]), device);
    let labels =
        (label_dim > 0).then(|| tensor(one_hot(&pairs.labels.classes(), label_dim), label_dim));
    Batch { images: tensor(pairs.images, dim), noise: tensor(pairs.noise, dim), labels }
}

/// Values of images evaluated at a time.
const BLOCK: usize = 1 << 18;

/// The loss's terms on pairs of a store with latent noise and dropout off: `latent`, `rec`, `push`,
/// `adversarial` (with a discriminator), `eigen` (when there is one) and `total`, averaged over all
/// pairs. Batch norm sees the blocks in which pairs are evaluated; with no more than 85 pairs of
/// 3x32x32 images, they are one block.
pub fn evaluate_losses(
    student: &Student,
    discriminator: Option<&Discriminator>,
    config: &StudentConfig,
    objective: &Objective,
    store: &PairStore,
    range: Range<usize>,
    device: &Device,
) -> Vec<(String, f64)> {
    let mut sums: Vec<(String, f64)> = Vec::new();
    let total = range.len();
    let block_rows = (BLOCK / config.dim()).clamp(1, 4096);
    for start in range.clone().step_by(block_rows) {
        let block = start..(start + block_rows).min(range.end);
        let weight = block.len() as f64 / total as f64;
        let batch = to_batch(store.range(block), config.dim(), config.label_dim, device);
        let drawn = objective.draw(student, batch, None, &ForwardMode::evaluation(), true);
        let t = objective.terms(drawn, student, discriminator);
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
    let mut terms: Vec<(&'static str, Tensor<1>)> = Vec::new();
    terms.extend(t.latent.clone().map(|latent| ("latent", latent)));
    terms.extend(t.rec.clone().map(|rec| ("rec", rec)));
    terms.extend(t.push.clone().map(|push| ("push", push)));
    terms.extend(t.adversarial.clone().map(|adversarial| ("adversarial", adversarial)));
    terms.extend(t.eigen.clone().map(|eigen| ("eigen", eigen)));
    terms
}

impl Task for DistillTask {
    type Model = Trainee;

    fn optimizers(&self) -> &'static [&'static str] {
        if self.file.loss.adversarial_weight > 0.0 {
            &["student.", "discriminator."]
        } else {
            &["student."]
        }
    }

    /// The discriminator's step goes first; the student is then judged by the new one, on the same
    /// images.
    fn iterate(&self, model: Trainee, iteration: u64, stepper: &mut Stepper) -> (Trainee, Losses) {
        let pairs = self.store.batch(&self.indices(iteration));
        let config = self.config();
        let batch = to_batch(pairs, config.dim(), config.label_dim, &self.device);
        let mode = ForwardMode::training(kdm_random::derive_seed(
            kdm_random::derive_seed(self.seed, DROPOUT),
            iteration,
        ));
        step(&self.objective, model, batch, self.latent_noise(iteration), &mode, stepper)
    }

    /// Paired errors to the teacher on the held-out pairs, the loss's terms there, and of the
    /// operator the moduli of the eigenvalues 1, 2, 4, ... by size (`modulus_1` is the spectral
    /// radius).
    fn validate(&self, averaged: &Trainee) -> Vec<(String, f64)> {
        let range = self.held_out();
        if range.is_empty() {
            return Vec::new();
        }
        let (config, device) = (self.config(), self.device.clone().inner());
        let pairs = self.store.range(range.clone());
        let sampler = Sampler::new(averaged.student.clone(), config, &device);
        let drawn =
            sampler.sample(&pairs.noise, &one_hot(&pairs.labels.classes(), config.label_dim));
        let errors = paired(&drawn, &pairs.images, config.dim());
        let mut values = vec![
            ("rmse".to_string(), errors.rmse),
            ("median_error".to_string(), errors.median_error),
        ];
        let objective = self.objective.valid();
        values.extend(evaluate_losses(
            &averaged.student,
            None,
            config,
            &objective,
            &self.store,
            range,
            &device,
        ));
        // An operator with values that aren't finite has no spectrum, and the losses tell of it.
        let moduli = averaged
            .student
            .koopman()
            .and_then(|student| student.operator.moduli().ok())
            .unwrap_or_default();
        let places = (0..).map(|i| 1usize << i).take_while(|place| *place <= moduli.len());
        values.extend(places.map(|place| (format!("modulus_{place}"), moduli[place - 1])));
        values
    }

    fn save(&self, averaged: &Trainee, path: &Path) -> kdm_train::Result<()> {
        Ok(self.file.save(&averaged.student, path)?)
    }
}

/// One iteration on a batch: a step of the discriminator, if there is one, then one of the student.
pub fn step(
    objective: &Objective,
    model: Trainee,
    batch: Batch,
    latent_noise: Option<LatentNoise>,
    mode: &ForwardMode,
    stepper: &mut Stepper,
) -> (Trainee, Losses) {
    let drawn = objective.draw(&model.student, batch, latent_noise, mode, false);
    let mut own = None;
    let mut trainee = model;
    if let Some(discriminator) = &trainee.discriminator {
        let loss = objective.discriminator_loss(&drawn, discriminator);
        let grads = loss.backward();
        trainee = stepper.step(1, trainee, grads);
        own = Some(loss);
    }
    let judge = trainee.discriminator.clone().map(Module::no_grad);
    let t = objective.terms(drawn, &trainee.student, judge.as_ref());
    let mut terms = named(&t);
    terms.extend(own.map(|loss| ("discriminator", loss)));
    let grads = t.total.backward();
    (stepper.step(0, trainee, grads), Losses { total: t.total, terms })
}
