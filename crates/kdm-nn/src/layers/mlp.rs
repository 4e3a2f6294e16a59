//! The MLP of the two-dimensional experiments: affine layers with SiLU between them, on the input
//! concatenated with the time and, when conditional, a one-hot label (KDM paper, appendix on the
//! checkerboard).

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Demand, InitSeed, Linear, LinearConfig};

/// Sizes of an MLP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MlpConfig {
    /// Features of the input, at least 1, without time and label.
    pub input_dim: usize,
    /// Features of the output, at least 1.
    pub output_dim: usize,
    /// Features of every layer between, at least 1.
    pub hidden: usize,
    /// Affine layers, at least 1.
    pub layers: usize,
    /// Classes of the one-hot label; 0 for none.
    pub label_dim: usize,
    /// Whether SiLU also follows the last layer.
    pub activate_output: bool,
}

/// An MLP; see [`MlpConfig`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kdm_nn::{InitSeed, MlpConfig};
///
/// let device = Device::flex();
/// let config = MlpConfig {
///     input_dim: 2,
///     output_dim: 3,
///     hidden: 16,
///     layers: 3,
///     label_dim: 4,
///     activate_output: false,
/// };
/// let mlp = config.init(&mut InitSeed::new(1), &device);
///
/// let points = Tensor::zeros([5, 2], &device);
/// let labels = Tensor::zeros([5, 4], &device);
/// assert_eq!(mlp.forward_at(points, 0.5, Some(labels)).dims(), [5, 3]);
/// ```
#[derive(Module, Debug)]
pub struct Mlp {
    /// The affine layers in order. The first takes (input, time, label).
    pub layers: Vec<Linear>,
    /// Classes of the one-hot label; 0 for none.
    pub label_dim: usize,
    /// Whether SiLU also follows the last layer.
    pub activate_output: bool,
}

impl MlpConfig {
    /// What it takes a sample.
    pub fn demand(&self) -> Demand {
        let inputs = self.input_dim.saturating_add(1).saturating_add(self.label_dim);
        let layer = |inputs, outputs| Demand::linear(inputs, outputs, true);
        let times = |demand: Demand, n: usize| {
            let n = n as f64;
            Demand {
                parameters: n * demand.parameters,
                operations: n * demand.operations,
                activations: n * demand.activations,
            }
        };
        match self.layers {
            0 | 1 => layer(inputs, self.output_dim),
            layers => {
                let inner = times(layer(self.hidden, self.hidden), layers - 2);
                layer(inputs, self.hidden) + inner + layer(self.hidden, self.output_dim)
            }
        }
    }

    /// How many numbers its weights have; the largest that there is where they are more than that.
    pub fn parameters(&self) -> usize {
        let layer =
            |inputs: usize, outputs: usize| inputs.saturating_add(1).saturating_mul(outputs);
        let inputs = self.input_dim.saturating_add(1).saturating_add(self.label_dim);
        if self.layers <= 1 {
            return layer(inputs, self.output_dim);
        }
        let inner = layer(self.hidden, self.hidden).saturating_mul(self.layers - 2);
        let ends = layer(inputs, self.hidden).saturating_add(layer(self.hidden, self.output_dim));
        inner.saturating_add(ends)
    }

    /// Fresh weights on `device`.
    pub fn init(&self, seed: &mut InitSeed, device: &Device) -> Mlp {
        let layers = (0..self.layers.max(1))
            .map(|i| {
                let inputs = if i == 0 { self.input_dim + 1 + self.label_dim } else { self.hidden };
                let outputs = if i + 1 == self.layers { self.output_dim } else { self.hidden };
                LinearConfig { inputs, outputs }.init(seed, device)
            })
            .collect();
        Mlp { layers, label_dim: self.label_dim, activate_output: self.activate_output }
    }
}

impl Mlp {
    /// Inputs `[N, input_dim]`, times `[N, 1]`, one-hot labels `[N, label_dim]` when conditional
    /// (ignored when `label_dim` is 0) -> `[N, output_dim]`.
    pub fn forward(&self, x: Tensor<2>, time: Tensor<2>, labels: Option<Tensor<2>>) -> Tensor<2> {
        let mut inputs = vec![x, time];
        if self.label_dim > 0 {
            inputs.extend(labels);
        }
        let mut h = Tensor::cat(inputs, 1);
        for (i, layer) in self.layers.iter().enumerate() {
            let activate = self.activate_output || i + 1 < self.layers.len();
            h = if activate { layer.forward_silu(h) } else { layer.forward(h) };
        }
        h
    }

    /// [`Self::forward`] with the same time for all rows.
    pub fn forward_at(&self, x: Tensor<2>, time: f32, labels: Option<Tensor<2>>) -> Tensor<2> {
        let time = Tensor::full([x.dims()[0], 1], time, &x.device());
        self.forward(x, time, labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_counted_before_they_are_made() {
        use burn::module::Module;
        for (layers, hidden) in [(1, 5), (2, 5), (4, 7)] {
            let (input_dim, output_dim, label_dim) = (3, 4, 2);
            let config = MlpConfig {
                input_dim,
                output_dim,
                hidden,
                layers,
                label_dim,
                activate_output: false,
            };
            let made = config.init(&mut InitSeed::new(1), &Device::flex()).num_params();
            assert_eq!(config.parameters(), made, "{layers}");
            let endless = MlpConfig { layers: usize::MAX, hidden: usize::MAX, ..config };
            assert_eq!(endless.parameters(), usize::MAX);
        }
    }

    #[test]
    fn initial_weights_follow_the_seed_alone() {
        let config = MlpConfig {
            input_dim: 2,
            output_dim: 3,
            hidden: 16,
            layers: 3,
            label_dim: 4,
            activate_output: false,
        };
        let device = Device::flex();
        let weight =
            |seed| config.init(&mut InitSeed::new(seed), &device).layers[1].weight.val().to_data();
        assert_eq!(weight(1), weight(1));
        assert_ne!(weight(1), weight(2));
        let mlp = config.init(&mut InitSeed::new(1), &device);
        assert_eq!(mlp.layers[0].weight.dims(), [16, 7]);
        let y = mlp.forward_at(
            Tensor::zeros([5, 2], &device),
            0.5,
            Some(Tensor::zeros([5, 4], &device)),
        );
        assert_eq!(y.dims(), [5, 3]);
    }
}
