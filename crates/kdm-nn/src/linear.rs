//! The affine layer y = x W^T + b.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use kdm_kernels::linear_silu;

use crate::InitSeed;

/// Sizes of an affine layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearConfig {
    /// Features in, at least 1.
    pub inputs: usize,
    /// Features out, at least 1.
    pub outputs: usize,
}

/// An affine layer, weights in PyTorch's order.
#[derive(Module, Debug)]
pub struct Linear {
    /// Weight, `[outputs, inputs]`.
    pub weight: Param<Tensor<2>>,
    /// Bias, `[outputs]`.
    pub bias: Param<Tensor<1>>,
}

impl LinearConfig {
    /// Weight and bias uniform in +-1/sqrt(inputs), as PyTorch's `torch.nn.Linear` starts.
    pub fn init(&self, seed: &mut InitSeed, device: &Device) -> Linear {
        let bound = 1.0 / (self.inputs as f64).sqrt();
        Linear {
            weight: seed.uniform([self.outputs, self.inputs], bound, device),
            bias: seed.uniform([self.outputs], bound, device),
        }
    }
}

impl Linear {
    /// x W^T + b: `[N, inputs]` -> `[N, outputs]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weight.val().transpose()) + self.bias.val().unsqueeze::<2>()
    }

    /// silu(x W^T + b), fused: `[N, inputs]` -> `[N, outputs]`.
    pub fn forward_silu(&self, x: Tensor<2>) -> Tensor<2> {
        linear_silu(x, self.weight.val(), self.bias.val())
    }
}
