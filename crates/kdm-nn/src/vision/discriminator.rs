//! The discriminator of adversarial training (KDM paper, appendix on training): four strided
//! convolutions with LeakyReLU. It judges patches of an image, as PatchGAN does (Isola et al.,
//! arXiv:1611.07004).

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

/// LeakyReLU's slope below 0.
const SLOPE: f64 = 0.2;
/// Of batch norm (PyTorch's default).
const EPSILON: f64 = 1e-5;
/// The least height and width of an image that all four convolutions fit into.
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
    /// Fresh weights on `device`, as PyTorch's convolutions start.
    pub fn init(&self, seed: &mut InitSeed, device: &Device) -> Discriminator {
        let mut conv = |config: Conv2dConfig| config.init(Init::PyTorch, seed, device);
        let last = Conv2dConfig { padding: [0, 0], ..Conv2dConfig::same(256, 1, 4) };
        Discriminator {
            conv0: conv(Conv2dConfig::halving(self.in_channels, 64, 4)),
            conv1: conv(Conv2dConfig::halving(64, 128, 4)),
            norm1: BatchNorm::new(128, device),
            conv2: conv(Conv2dConfig::halving(128, 256, 4)),
            norm2: BatchNorm::new(256, device),
            conv3: conv(last),
        }
    }
}

impl Discriminator {
    /// Logits of being a teacher's image, one a patch: images `[N, C, H, W]` in [-1, 1], H and W at
    /// least [`LEAST_SIDE`], -> `[N, 1, H/8 - 3, W/8 - 3]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let leaky = |x| activation::leaky_relu(x, SLOPE);
        let h = leaky(self.conv0.forward(x));
        let h = leaky(self.norm1.forward(self.conv1.forward(h)));
        let h = leaky(self.norm2.forward(self.conv2.forward(h)));
        self.conv3.forward(h)
    }
}

/// Mean binary cross-entropy in nats of logits with one target for all of them: `[1]`.
pub fn cross_entropy(logits: Tensor<4>, target: bool) -> Tensor<1> {
    // -ln sigmoid(x) = softplus(-x); -ln(1 - sigmoid(x)) = softplus(x)
    let signed = if target { -logits } else { logits };
    activation::softplus(signed, 1.0).mean()
}
