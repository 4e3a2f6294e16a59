//! Distillation: the student trained on stored pairs. The teacher is never queried.
//!
//! [`DistillTask`] is what `kdm_train::train` trains. In a loop of one's own, [`step`] is one
//! iteration:
//!
//! ```
//! use burn::tensor::Device;
//! use kdm_data::{Labels, Samples};
//! use kdm_koopman::distill::{LeafBatch, Trainee, step, to_tensors};
//! use kdm_koopman::loss::{Distance, Objective};
//! use kdm_koopman::{
//!     LossConfig, Method, NetworkConfig, OperatorConfig, OperatorKind, StudentConfig,
//! };
//! use kdm_train::{Optimizer, OptimizerConfig, Stepper};
//!
//! // Pairs of a teacher that halves its noise.
//! let noise: Vec<f32> = (0..64).map(|i| (i as f32).sin()).collect();
//! let images = noise.iter().map(|x| 0.5 * x).collect();
//! let labels = Labels::none(32);
//! let pairs = Samples { shape: vec![2], noise, images, labels, ..Samples::default() };
//!
//! let config = StudentConfig {
//!     method: Method::Koopman,
//!     shape: vec![2],
//!     label_dim: 0,
//!     noise_std: 1.0,
//!     latent: 4,
//!     levels: Vec::new(),
//!     network: NetworkConfig::Affine,
//!     operator: OperatorConfig { kind: OperatorKind::Dense, projection: None, control: false },
//! };
//! let loss = LossConfig { latent_noise: 0.0, ..LossConfig::default() };
//! let distance = Distance::new(loss.reconstruction, None, &config.shape);
//! let objective = Objective { config: loss, targets: None, distance };
//!
//! let device = Device::flex().autodiff();
//! let mut trainee = Trainee { student: config.init(1, &device), discriminator: None };
//! let mut optimizers = [Optimizer::new(OptimizerConfig::default(), &trainee, "student.")];
//! let mut history = Vec::new();
//! for _ in 0..100 {
//!     let batch = to_tensors(pairs.clone(), config.label_dim, &device);
//!     let batch = |_| LeafBatch::evaluated(batch.clone());
//!     let mut stepper = Stepper::new(&mut optimizers, 1e-2);
//!     let (better, losses) = step(&objective, trainee, batch, &mut stepper);
//!     trainee = better;
//!     history.push(losses.total.into_scalar::<f32>());
//! }
//! assert!(history[99] < 0.1 * history[0]);
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use kdm_data::Samples;
use kdm_data::pairs::{PairStore, scaled_states};
use kdm_metrics::{Paired, squared_distances};
use kdm_nn::{Discriminator, DiscriminatorConfig, ForwardMode, InitSeed, Perceptual};
use kdm_observer::{Observer, Silent, Stopped};
use kdm_random::Permutation;
use kdm_train::{Leaf, Losses, SharedWork, Stepper, Task};

use crate::host::rows;
use crate::loss::{LatentNoise, Objective, PairTensors, StateTensors, StudentOutputs, Term};
use crate::sampler::Sampler;
use crate::student_file::StudentFile;
use crate::{Method, OperatorKind, Student, StudentConfig};

/// Streams of the training's seed.
const ORDER: u64 = 1;
const LATENT_NOISE: u64 = 2;
const DROPOUT: u64 = 3;
const DISCRIMINATOR: u64 = 4;
const STATES: u64 = 5;

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
        self.begin(self.config().init(seed, &self.device), seed)
    }

    /// A training that begins with the weights of `student`, and a fresh discriminator of seed
    /// `seed` when there is one.
    pub fn begin(&self, student: Student, seed: u64) -> Trainee {
        let discriminator = (self.file.loss.adversarial_weight > 0.0).then(|| {
            let config = DiscriminatorConfig { in_channels: self.config().shape[0] };
            config.init(
                &mut InitSeed::new(kdm_random::derive_seed(seed, DISCRIMINATOR)),
                &self.device,
            )
        });
        Trainee { student, discriminator }
    }

    /// What is trained.
    pub fn config(&self) -> &StudentConfig {
        &self.file.student
    }

    /// How many pairs are trained on.
    fn training_pairs(&self) -> usize {
        self.store.len() - self.held_out
    }

    /// The pairs of the store that are held out.
    pub fn held_out(&self) -> Range<usize> {
        self.training_pairs()..self.store.len()
    }

    /// The pairs of a leaf in iteration `iteration`: shuffled epochs, one after the other.
    fn indices(&self, iteration: u64, leaf: Leaf) -> Vec<usize> {
        let n = self.training_pairs() as u64;
        let order = kdm_random::derive_seed(self.seed, ORDER);
        let first = iteration * self.batch as u64;
        leaf.rows(self.batch)
            .map(|row| {
                let place = first + row as u64;
                Permutation::new(kdm_random::derive_seed(order, place / n), n).at(place % n)
                    as usize
            })
            .collect()
    }

    fn latent_noise(&self, iteration: u64, leaf: Leaf) -> Option<LatentNoise> {
        if self.file.loss.latent_noise == 0.0 || self.config().method == Method::Direct {
            return None;
        }
        let seed =
            kdm_random::derive_seed(kdm_random::derive_seed(self.seed, LATENT_NOISE), iteration);
        let (rows, dim) = (leaf.rows(self.batch), self.config().operator_dim());
        let draw = |stream| {
            let range = rows.start * dim..rows.end * dim;
            let values = kdm_random::normal_range(kdm_random::derive_seed(seed, stream), range);
            Tensor::from_data(TensorData::new(values, [rows.len(), dim]), &self.device)
        };
        let states = self.has_states().then(|| draw(2));
        Some(LatentNoise { clean: draw(0), noise: draw(1), states })
    }

    /// Whether states between noise and image are trained on.
    fn has_states(&self) -> bool {
        self.file.loss.has_states() && uses_states(self.config(), &self.store)
    }

    /// The pairs of a leaf in iteration `iteration`, with a state of each, drawn anew, where states
    /// are trained on.
    fn training_pairs_of(&self, iteration: u64, leaf: Leaf) -> PairTensors {
        let (config, indices) = (self.config(), self.indices(iteration, leaf));
        if !self.has_states() {
            return to_tensors(self.store.batch(&indices), config.label_dim, &self.device);
        }
        let count = self.store.manifest().states.len() as f64;
        let seed = kdm_random::derive_seed(kdm_random::derive_seed(self.seed, STATES), iteration);
        let first = leaf.rows(self.batch).start;
        let uniform = |row: usize| kdm_random::uniform_f64(seed, (first + row) as u64);
        let chosen = |row: usize| (uniform(row) * count) as usize;
        with_states(&self.store, &indices, chosen, config, &self.device)
    }

    /// All that a leaf of iteration `iteration` goes through the student with.
    fn leaf_batch(&self, iteration: u64, leaf: Leaf) -> LeafBatch {
        let dropout = kdm_random::derive_seed(self.seed, DROPOUT);
        LeafBatch {
            pairs: self.training_pairs_of(iteration, leaf),
            latent_noise: self.latent_noise(iteration, leaf),
            mode: ForwardMode::training(leaf.seed(kdm_random::derive_seed(dropout, iteration))),
        }
    }
}

/// What goes through the student in a training step: a whole batch, or a leaf of it.
#[derive(Debug)]
pub struct LeafBatch {
    /// The pairs.
    pub pairs: PairTensors,
    /// What is added to their latents; none for nothing.
    pub latent_noise: Option<LatentNoise>,
    /// With or without dropout; not used before.
    pub mode: ForwardMode,
}

impl LeafBatch {
    /// Pairs without latent noise and dropout.
    pub fn evaluated(pairs: PairTensors) -> Self {
        Self { pairs, latent_noise: None, mode: ForwardMode::evaluation() }
    }
}

/// Pairs of a store as tensors on `device`, with one state of each: of the i-th of `indices` the
/// state number `chosen(i)`.
fn with_states(
    store: &PairStore,
    indices: &[usize],
    chosen: impl Fn(usize) -> usize,
    config: &StudentConfig,
    device: &Device,
) -> PairTensors {
    let times = &store.manifest().states;
    let pairs = store.batch_with_states(indices);
    let values = rows(scaled_states(&pairs, times, &chosen), pairs.dim(), device);
    let tau: Vec<f32> = (0..indices.len()).map(|i| times[chosen(i)].tau as f32).collect();
    let tau = Tensor::from_data(TensorData::new(tau, [indices.len()]), device);
    let states = StateTensors { values, tau, noise_std: config.noise_std };
    PairTensors { states: Some(states), ..to_tensors(pairs, config.label_dim, device) }
}

/// Pairs as tensors on `device`, with one-hot labels of `label_dim` classes and without states.
pub fn to_tensors(pairs: Samples, label_dim: usize, device: &Device) -> PairTensors {
    let dim = pairs.dim();
    let labels = (label_dim > 0).then(|| rows(pairs.labels.one_hot(label_dim), label_dim, device));
    PairTensors {
        images: rows(pairs.images, dim, device),
        noise: rows(pairs.noise, dim, device),
        labels,
        states: None,
    }
}

/// Values of images evaluated at a time.
const BLOCK: usize = 1 << 18;
/// And without a discriminator, which sees a block: less, so that there is some for each worker.
const SMALL_BLOCK: usize = 1 << 16;
/// Images, and points, that a worker draws at a time in a validation: a whole number of a sampler's
/// batches.
const IMAGES_DRAWN: usize = 64;
const POINTS_DRAWN: usize = 256;

/// Whether a student is trained on the states of a store: its operator is a generator, and the
/// store has some.
fn uses_states(config: &StudentConfig, store: &PairStore) -> bool {
    config.method == Method::Koopman
        && config.operator.kind == OperatorKind::Generator
        && !store.manifest().states.is_empty()
}

/// The loss's terms and their sum on pairs of a store with latent noise and dropout off, averaged
/// over all pairs: the adversarial term with a discriminator, L_eig where there is one, the push
/// term always, and the terms of states for a generator and a store that has them (of a pair one
/// state, the same each time). Batch norm sees the blocks in which pairs are evaluated;
/// with no more than 85 pairs of 3x32x32 images, they are one block. Workers share out the blocks.
///
/// # Errors
/// When the observer asks for a stop.
pub fn evaluate_losses(
    (student, discriminator): (&Student, Option<&Discriminator>),
    config: &StudentConfig,
    objective: &Objective,
    (store, range): (&PairStore, Range<usize>),
    device: &Device,
    shared: SharedWork,
    observer: &dyn Observer,
) -> Result<BTreeMap<Term, f64>, Stopped> {
    let total = range.len();
    let block = if discriminator.is_some() { BLOCK } else { SMALL_BLOCK };
    let block_rows = (block / config.dim()).clamp(1, 4096);
    let mut progress = observer.begin("losses", "pairs");
    // Of each block its terms' places in `Term::ALL`, each with its part of the mean.
    let blocks = shared.try_each(total.div_ceil(block_rows), |block| {
        let start = range.start + block * block_rows;
        progress.advance((start - range.start) as u64, total as u64, "")?;
        let block = start..(start + block_rows).min(range.end);
        let weight = block.len() as f64 / total as f64;
        let batch = if uses_states(config, store) {
            let (indices, count) = (block.collect::<Vec<usize>>(), store.manifest().states.len());
            with_states(store, &indices, |row| indices[row] % count, config, device)
        } else {
            to_tensors(store.range(block), config.label_dim, device)
        };
        let outputs = objective.forward(student, batch, None, &ForwardMode::evaluation(), true);
        let terms = objective.terms(outputs, student, discriminator);
        let terms = terms.iter().chain([(Term::Total, terms.total())]);
        let parts = terms.map(|(term, value)| {
            [term as usize as f64, weight * f64::from(value.clone().into_scalar::<f32>())]
        });
        Ok(parts.collect())
    })?;
    let mut means = BTreeMap::new();
    for [term, part] in blocks.into_iter().flatten() {
        *means.entry(Term::ALL[term as usize]).or_insert(0.0) += part;
    }
    progress.report(total as u64, total as u64, "");
    progress.finish("");
    Ok(means)
}

impl Task for DistillTask {
    type Model = Trainee;

    fn name(&self) -> &'static str {
        "distill"
    }

    fn optimizers(&self) -> &'static [&'static str] {
        if self.file.loss.adversarial_weight > 0.0 {
            &["student.", "discriminator."]
        } else {
            &["student."]
        }
    }

    /// The discriminator's step comes first; the student is then judged by the new one, on the same
    /// images.
    fn iterate(&self, model: Trainee, iteration: u64, stepper: &mut Stepper) -> (Trainee, Losses) {
        step(&self.objective, model, |leaf| self.leaf_batch(iteration, leaf), stepper)
    }

    /// Paired errors to the teacher on the held-out pairs, the loss's terms there, and of the
    /// operator the moduli of the eigenvalues 1, 2, 4, ... by size (`modulus_1` is the spectral
    /// radius).
    fn validate(&self, averaged: &Trainee, shared: SharedWork) -> Vec<(String, f64)> {
        let range = self.held_out();
        if range.is_empty() {
            return Vec::new();
        }
        let (config, device) = (self.config(), self.device.clone().inner());
        let sampler = Sampler::new(averaged.student.clone(), config, &device);
        let rows = if config.shape.len() == 3 { IMAGES_DRAWN } else { POINTS_DRAWN };
        let squares = shared.each(range.len().div_ceil(rows), |block| {
            let start = range.start + block * rows;
            let pairs = self.store.range(start..(start + rows).min(range.end));
            let drawn = sampler.sample(&pairs.noise, &pairs.labels);
            squared_distances(&drawn, &pairs.images, config.dim())
        });
        let errors = Paired::of(squares.concat(), config.dim());
        let mut values = vec![
            ("rmse".to_string(), errors.rmse),
            ("median_error".to_string(), errors.median_error),
        ];
        let objective = self.objective.valid();
        let student = &averaged.student;
        let pairs = (&self.store, range);
        let losses =
            evaluate_losses((student, None), config, &objective, pairs, &device, shared, &Silent)
                .expect("nobody asks for a stop");
        values.extend(losses.into_iter().map(|(term, value)| (term.name().to_string(), value)));
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
/// `batch` gives a leaf of it, the same each time it is asked for. Batch norm, in the
/// discriminator, sees a leaf.
///
/// With a discriminator and several leaves a leaf goes through the student twice, once for each
/// step, so that there is never more than one in memory.
pub fn step(
    objective: &Objective,
    model: Trainee,
    batch: impl Fn(Leaf) -> LeafBatch,
    stepper: &mut Stepper,
) -> (Trainee, Losses) {
    let forward = |student: &Student, leaf| {
        let LeafBatch { pairs, latent_noise, mode } = batch(leaf);
        objective.forward(student, pairs, latent_noise, &mode, false)
    };
    let (mut trainee, mut own) = (model, None);
    let mut kept: Option<StudentOutputs> = None;
    if trainee.discriminator.is_some() {
        let keeps = stepper.own_leaves().len() == 1;
        // A graph that nothing goes back through would stay in memory until the student's step.
        let without_graph = (!keeps).then(|| trainee.student.clone().no_grad());
        let (better, losses) = stepper.minimise(1, trainee, |trainee, leaf| {
            let outputs = forward(without_graph.as_ref().unwrap_or(&trainee.student), leaf);
            let discriminator = trainee.discriminator.as_ref().expect("there is one");
            let total = objective.discriminator_loss(&outputs, discriminator);
            kept = keeps.then_some(outputs);
            Losses { total, terms: Vec::new() }
        });
        (trainee, own) = (better, Some((Term::Discriminator.name(), losses.total)));
    }
    let judge = trainee.discriminator.clone().map(Module::no_grad);
    let (trainee, mut losses) = stepper.minimise(0, trainee, |trainee, leaf| {
        let outputs = kept.take().unwrap_or_else(|| forward(&trainee.student, leaf));
        let terms = objective.terms(outputs, &trainee.student, judge.as_ref());
        let named = terms.iter().map(|(term, value)| (term.name(), value.clone()));
        Losses { total: terms.total().clone(), terms: named.collect() }
    });
    losses.terms.extend(own);
    (trainee, losses)
}
