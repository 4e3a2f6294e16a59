//! The trained teacher of the two-dimensional experiments: a perceptron that learns the velocity e
//! - x_0 of flow matching at x_t = (1 - t) x_0 + t e (Lipman et al., arXiv:2210.02747).

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use kdm_nn::fixed_batches::{Rows, in_blocks};
use kdm_nn::state::state_dict;
use kdm_nn::{InitSeed, Mlp, MlpConfig};
use kdm_train::{Losses, Stepper, Task};
use serde::{Deserialize, Serialize};

use crate::distributions::{Distribution, DistributionConfig};
use crate::teacher::{KIND, TeacherConfig};
use crate::{Denoiser, Level};

/// Sizes of the perceptron, and what it learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowMlpConfig {
    /// The distribution it learns from.
    pub data: DistributionConfig,
    /// Features of the layers between.
    pub hidden: usize,
    /// Affine layers.
    pub layers: usize,
}

/// The velocity network as a teacher.
#[derive(Clone, Debug)]
pub struct FlowMlp {
    /// v(x_t, t): `[N, D]`, `[N, 1]` -> `[N, D]`.
    pub network: Mlp,
    dim: usize,
}

impl FlowMlpConfig {
    /// The network's sizes.
    pub fn network(&self, distribution: &Distribution) -> MlpConfig {
        MlpConfig {
            input_dim: distribution.dim(),
            output_dim: distribution.dim(),
            hidden: self.hidden,
            layers: self.layers,
            label_dim: distribution.label_dim(),
            activate_output: false,
        }
    }

    /// A network with fresh weights.
    pub fn init(&self, distribution: &Distribution, seed: u64, device: &Device) -> Mlp {
        self.network(distribution).init(&mut InitSeed::new(seed), device)
    }
}

impl FlowMlp {
    /// A teacher for points of `dim` numbers.
    pub fn new(network: Mlp, dim: usize) -> Self {
        Self { network, dim }
    }

    /// v at one time for all rows.
    fn velocity(&self, x: &[f32], t: f32, labels: &[f32]) -> Vec<f32> {
        let device = Device::flex();
        let x = Rows { values: x, width: self.dim };
        match self.network.label_dim {
            0 => in_blocks([x], &device, |[x]| self.network.forward_at(x, t, None)),
            width => {
                // No labels mean any class: rows of zeros.
                let zeros =
                    vec![0.0; if labels.is_empty() { x.values.len() / x.width * width } else { 0 }];
                let labels =
                    Rows { values: if labels.is_empty() { &zeros } else { labels }, width };
                in_blocks([x, labels], &device, |[x, y]| self.network.forward_at(x, t, Some(y)))
            }
        }
    }
}

impl Denoiser for FlowMlp {
    fn shape(&self) -> Vec<usize> {
        vec![self.dim]
    }

    fn label_dim(&self) -> usize {
        self.network.label_dim
    }

    /// Scaled to the flow's own level t = sigma / (alpha + sigma), where x_0 = x_t - t v.
    fn denoise(&self, x: &[f64], level: Level, labels: &[f32]) -> Vec<f64> {
        let scale = 1.0 / (level.alpha + level.sigma);
        let t = level.sigma * scale;
        let scaled: Vec<f32> = x.iter().map(|x| (x * scale) as f32).collect();
        let v = self.velocity(&scaled, t as f32, labels);
        x.iter().zip(v).map(|(x, v)| x * scale - t * f64::from(v)).collect()
    }
}

/// Training of the velocity network: mean squared error to e - x_0, t uniform in [0, 1).
#[derive(Clone, Debug)]
pub struct FlowTask {
    /// What the teacher is.
    pub config: FlowMlpConfig,
    /// Where samples come from.
    pub distribution: Distribution,
    /// Samples an iteration.
    pub batch: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// Where to compute, autodiff included.
    pub device: Device,
}

/// Seeds of validation draws lie beyond all iterations.
const VALIDATION: u64 = u64::MAX;
const VALIDATION_BATCH: usize = 8192;

impl FlowTask {
    fn squared_error(&self, network: &Mlp, draw: u64, n: usize, device: &Device) -> Tensor<1> {
        let seed = kdm_random::derive_seed(self.seed, draw);
        let dim = self.distribution.dim();
        let (points, classes) = self.distribution.sample(kdm_random::derive_seed(seed, 0), n);
        let x0: Vec<f32> = points.into_iter().map(|x| x as f32).collect();
        let e = kdm_random::normal_vec(kdm_random::derive_seed(seed, 1), n * dim);
        let t: Vec<f32> = (0..n as u64)
            .map(|i| kdm_random::uniform_f64(kdm_random::derive_seed(seed, 2), i) as f32)
            .collect();
        let tensor =
            |data, width| Tensor::<2>::from_data(TensorData::new(data, [n, width]), device);
        let labels = (network.label_dim > 0).then(|| {
            let mut one_hot = vec![0.0; n * network.label_dim];
            classes
                .iter()
                .enumerate()
                .for_each(|(i, c)| one_hot[i * network.label_dim + *c as usize] = 1.0);
            tensor(one_hot, network.label_dim)
        });
        let (x0, e, t) = (tensor(x0, dim), tensor(e, dim), tensor(t, 1));
        let target = e.clone() - x0.clone();
        let xt = x0 + target.clone() * t.clone();
        (network.forward(xt, t, labels) - target).square().mean()
    }
}

impl Task for FlowTask {
    type Model = Mlp;

    fn iterate(&self, model: Mlp, iteration: u64, stepper: &mut Stepper) -> (Mlp, Losses) {
        let total = self.squared_error(&model, iteration, self.batch, &self.device);
        stepper.minimise(model, Losses { total, terms: Vec::new() })
    }

    fn validate(&self, averaged: &Mlp) -> Vec<(String, f64)> {
        let device = self.device.clone().inner();
        let loss = self.squared_error(averaged, VALIDATION, VALIDATION_BATCH, &device);
        vec![("loss".into(), f64::from(loss.into_scalar::<f32>()))]
    }

    fn save(&self, averaged: &Mlp, path: &Path) -> kdm_train::Result<()> {
        let config = TeacherConfig::FlowMlp(self.config.clone());
        Ok(kdm_data::model::write(path, KIND, &config, &state_dict(averaged))?)
    }
}
