//! Group norm (Wu and He, arXiv:1803.08494) of images `[N, C, H, W]`.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use kdm_kernels::{GroupNormOptions, Norm, group_norm};

/// Group norm with a scale and a shift for every channel.
#[derive(Module, Debug)]
pub struct GroupNorm {
    /// Scale, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[channels]`.
    pub bias: Param<Tensor<1>>,
    groups: usize,
    epsilon: f64,
}

impl GroupNorm {
    /// Scale 1, shift 0. `groups` divides `channels`; `epsilon` is added to the variance.
    pub fn new(groups: usize, channels: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::ones([channels], device)),
            bias: Param::from_tensor(Tensor::zeros([channels], device)),
            groups,
            epsilon,
        }
    }

    /// The number of groups that the U-Nets of EDM use: a quarter of the channels, 32 at most.
    pub fn edm_groups(channels: usize) -> usize {
        (channels / 4).min(32)
    }

    /// (x - mean) / sqrt(variance + epsilon), over each group of an image, times the scale plus the
    /// shift. `[N, channels, H, W]` in and out.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.run(x, false)
    }

    /// silu of [`Self::forward`], fused.
    pub fn forward_silu(&self, x: Tensor<4>) -> Tensor<4> {
        self.run(x, true)
    }

    /// Scale and shift, for a fused operation.
    pub(crate) fn tensors(&self) -> Norm {
        Norm { weight: self.weight.val(), bias: self.bias.val() }
    }

    pub(crate) fn groups(&self) -> usize {
        self.groups
    }

    pub(crate) fn epsilon(&self) -> f64 {
        self.epsilon
    }

    fn run(&self, x: Tensor<4>, silu: bool) -> Tensor<4> {
        let options = GroupNormOptions { groups: self.groups, epsilon: self.epsilon, silu };
        group_norm(x, self.weight.val(), self.bias.val(), options)
    }
}
