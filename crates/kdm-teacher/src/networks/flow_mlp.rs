//! The trained teacher of the two-dimensional experiments: an MLP that predicts the velocity of
//! flow matching, e - x_0 at x_t = (1 - t) x_0 + t e (Lipman et al., arXiv:2210.02747).

use burn::tensor::Device;
use kdm_data::Labels;
use kdm_nn::fixed_batches::{Rows, in_batches};
use kdm_nn::{InitSeed, Mlp, MlpConfig};
use serde::{Deserialize, Serialize};

use crate::distributions::{Distribution, DistributionConfig};
use crate::{Denoiser, Level};

/// Sizes of the MLP, and what it learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowMlpConfig {
    /// The distribution it learns from.
    pub data: DistributionConfig,
    /// Width of the hidden layers.
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
    /// A teacher for points of `dim` values; it computes where the network's weights are.
    pub fn new(network: Mlp, dim: usize) -> Self {
        Self { network, dim }
    }

    /// v at one time for all rows.
    fn velocity(&self, x: &[f32], t: f32, labels: &Labels) -> Vec<f32> {
        let device = self.network.layers[0].weight.device();
        let x = Rows { values: x, width: self.dim };
        match self.network.label_dim {
            0 => in_batches([x], &device, |[x]| self.network.forward_at(x, t, None)),
            width => {
                let labels = Rows { values: &labels.one_hot(width), width };
                in_batches([x, labels], &device, |[x, y]| self.network.forward_at(x, t, Some(y)))
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
    fn denoise(&self, x: &[f64], level: Level, labels: &Labels) -> Vec<f64> {
        let scale = 1.0 / (level.alpha + level.sigma);
        let t = level.sigma * scale;
        let scaled: Vec<f32> = x.iter().map(|x| (x * scale) as f32).collect();
        let v = self.velocity(&scaled, t as f32, labels);
        x.iter().zip(v).map(|(x, v)| x * scale - t * f64::from(v)).collect()
    }
}
