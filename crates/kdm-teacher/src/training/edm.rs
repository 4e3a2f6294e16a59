//! Training of image teachers with EDM's loss (Karras et al., arXiv:2206.00364, section 5): ln
//! sigma normal, each noise level weighted so that the network's own target has unit variance.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use kdm_data::{ImageSet, Labels};
use kdm_nn::state::state_dict;
use kdm_nn::{ForwardMode, UNet};
use kdm_train::{Leaf, Losses, SharedWork, Stepper, Task};

use crate::networks::image::NetworkTeacherConfig;
use crate::networks::preconditioning::Conditioner;
use crate::teacher::{KIND, TeacherConfig};
use crate::training::augment::{LABELS, augment};

/// Mean and deviation of ln sigma (table 1).
const LN_SIGMA: (f64, f64) = (-1.2, 1.2);

/// The training of one teacher.
#[derive(Clone, Debug)]
pub struct EdmTask {
    /// What the teacher is.
    pub config: NetworkTeacherConfig,
    /// What it learns from: images of the network's size.
    pub images: ImageSet,
    /// Images an iteration.
    pub batch: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// Probability of each geometric augmentation; has an effect only on networks that take its
    /// labels.
    pub augment: f64,
    /// Where to compute; an autodiff device.
    pub device: Device,
}

/// Seeds of validation draws lie beyond all iterations.
const VALIDATION: u64 = u64::MAX;
/// Streams of an iteration's seed.
const CHOICE: u64 = 0;
const LEVEL: u64 = 1;
const NOISE: u64 = 2;
const AUGMENT: u64 = 3;
const DROPOUT: u64 = 4;

impl EdmTask {
    /// The mean of |F - target|^2 over a leaf of a batch, the weighted mean of |D - x_0|^2.
    fn loss(
        &self,
        network: &UNet,
        (draw, leaf): (u64, Leaf),
        training: bool,
        device: &Device,
    ) -> Tensor<1> {
        let seed =
            |stream| kdm_random::derive_seed(kdm_random::derive_seed(self.seed, draw), stream);
        let [channels, side, _] = self.images.shape();
        let (rows, size) = (leaf.rows(self.batch), channels * side * side);
        let n = rows.len();
        let augmented =
            training && self.augment > 0.0 && self.config.network.augment_dim() == LABELS;
        let conditioner = Conditioner::new(self.config.preconditioning.clone());
        let levels = kdm_random::normal_range(seed(LEVEL), rows.clone());
        let values = rows.start * size..rows.end * size;
        let mut noise = kdm_random::normal_range(seed(NOISE), values);
        let label_dim = self.config.network.label_dim();
        let mut input = vec![0.0f32; n * size];
        let mut labels: Vec<Option<u32>> = Vec::with_capacity(n);
        let mut augment_labels = vec![0.0f32; n * LABELS];
        let mut conditions = vec![0.0f32; n];
        for row in 0..n {
            let of_batch = (rows.start + row) as u64;
            let at = kdm_random::uniform_f64(seed(CHOICE), of_batch) * self.images.len() as f64;
            let at = (at as usize).min(self.images.len() - 1);
            let mut image = self.images.image(at);
            if augmented {
                let seed = kdm_random::derive_seed(seed(AUGMENT), of_batch);
                let label;
                (image, label) = augment(&image, channels, side, self.augment, seed);
                augment_labels[row * LABELS..(row + 1) * LABELS].copy_from_slice(&label);
            }
            labels.push(self.images.label(at));
            let sigma = (LN_SIGMA.0 + LN_SIGMA.1 * f64::from(levels[row])).exp();
            let f = conditioner.factors(sigma);
            conditions[row] = f.c_noise as f32;
            let places = row * size..(row + 1) * size;
            for ((x0, e), x) in image.iter().zip(&mut noise[places.clone()]).zip(&mut input[places])
            {
                let noisy = f64::from(*x0) + sigma * f64::from(*e);
                *x = (f.c_in * noisy) as f32;
                // The noise is replaced by the target of F.
                *e = ((f64::from(*x0) - f.c_skip * noisy) / f.c_out) as f32;
            }
        }
        let image = |values| {
            Tensor::<4>::from_data(TensorData::new(values, [n, channels, side, side]), device)
        };
        let table =
            |values, width| Tensor::<2>::from_data(TensorData::new(values, [n, width]), device);
        let mode = match training {
            true => ForwardMode::training(leaf.seed(seed(DROPOUT))),
            false => ForwardMode::evaluation(),
        };
        let labels = (label_dim > 0)
            .then(|| table(labels.into_iter().collect::<Labels>().one_hot(label_dim), label_dim));
        let output = network.forward(
            image(input),
            Tensor::from_data(TensorData::new(conditions, [n]), device),
            labels,
            augmented.then(|| table(augment_labels, LABELS)),
            &mode,
        );
        (output - image(noise)).square().mean()
    }
}

impl Task for EdmTask {
    type Model = UNet;

    fn name(&self) -> &'static str {
        "teacher"
    }

    fn iterate(&self, model: UNet, iteration: u64, stepper: &mut Stepper) -> (UNet, Losses) {
        stepper.minimise(0, model, |model, leaf| {
            let total = self.loss(model, (iteration, leaf), true, &self.device);
            Losses { total, terms: Vec::new() }
        })
    }

    /// The loss of a fixed draw of images, levels and noise.
    fn validate(&self, averaged: &UNet, shared: SharedWork) -> Vec<(String, f64)> {
        let device = self.device.clone().inner();
        let loss = |leaf| {
            let loss = self.loss(averaged, (VALIDATION, leaf), false, &device);
            f64::from(loss.into_scalar::<f32>())
        };
        vec![("loss".into(), shared.mean_over_leaves(self.batch, loss))]
    }

    fn save(&self, averaged: &UNet, path: &Path) -> kdm_train::Result<()> {
        let config = TeacherConfig::Network(self.config.clone());
        Ok(kdm_data::model::write(path, KIND, &config, &state_dict(averaged))?)
    }
}
