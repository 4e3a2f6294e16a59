//! The discriminator of adversarial training (paper, appendix on training): four convolutions,
//! strided and leaky.

use burn::module::{Module, Param};
use burn::tensor::module::batch_norm_train;
use burn::tensor::{Device, Tensor, activation};
use serde::{Deserialize, Serialize};

use crate::layers::{Conv2d, Conv2dConfig};
use crate::{Init, InitSeed};

/// The discriminator's sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscriminatorConfig {
    /// Channels of images.
    pub in_channels: usize,
}

/// Conv 3-64, 64-128, 128-256 (4x4, stride 2, padding 1), 256-1 (4x4, no padding); LeakyReLU 0.2
/// after the first three, batch norm before it in the second and third.
///
/// Batch norm always takes the batch's own statistics: the network is only ever run in training.
#[derive(Module, Debug)]
pub struct Discriminator {
    conv0: Conv2d,
    conv1: Conv2d,
    norm1: BatchNorm,
    conv2: Conv2d,
    norm2: BatchNorm,
    conv3: Conv2d,
}

/// Batch norm over a batch's own statistics.
#[derive(Module, Debug)]
struct BatchNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
}

/// Slope of the leaky units below 0.
const SLOPE: f64 = 0.2;
/// Of batch norm (PyTorch's default).
const EPSILON: f64 = 1e-5;
/// The least side of an image that all four convolutions fit into.
pub const LEAST_SIDE: usize = 32;

impl BatchNorm {
    fn new(channels: usize, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::ones([channels], device)),
            bias: Param::from_tensor(Tensor::zeros([channels], device)),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        batch_norm_train(x, self.weight.val(), self.bias.val(), EPSILON).output
    }
}

impl DiscriminatorConfig {
    /// Fresh weights, as PyTorch's convolutions start.
    pub fn init(&self, seed: &mut InitSeed, device: &Device) -> Discriminator {
        let mut conv = |inputs, outputs, stride, padding| {
            let config = Conv2dConfig {
                inputs,
                outputs,
                kernel: [4, 4],
                stride,
                padding: [padding; 2],
                bias: true,
            };
            config.init(Init::PyTorch, seed, device)
        };
        Discriminator {
            conv0: conv(self.in_channels, 64, 2, 1),
            conv1: conv(64, 128, 2, 1),
            norm1: BatchNorm::new(128, device),
            conv2: conv(128, 256, 2, 1),
            norm2: BatchNorm::new(256, device),
            conv3: conv(256, 1, 1, 0),
        }
    }
}

impl Discriminator {
    /// Logits of being a teacher's image: `[N, C, H, W]` (sides of at least 32) -> `[N, 1, H/8 - 3,
    /// W/8 - 3]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let leaky = |x| activation::leaky_relu(x, SLOPE);
        let h = leaky(self.conv0.forward(x));
        let h = leaky(self.norm1.forward(self.conv1.forward(h)));
        let h = leaky(self.norm2.forward(self.conv2.forward(h)));
        self.conv3.forward(h)
    }
}

/// Binary cross-entropy of logits with one target for all of them, averaged: one number.
pub fn cross_entropy(logits: Tensor<4>, target: bool) -> Tensor<1> {
    // -ln sigmoid(x) = softplus(-x); -ln(1 - sigmoid(x)) = softplus(x)
    let signed = if target { -logits } else { logits };
    activation::softplus(signed, 1.0).mean()
}
