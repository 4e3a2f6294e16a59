//! The affine layer y = x W^T + b.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use kdm_kernels::{linear, linear_silu};

use crate::{Init, InitSeed};

/// Sizes of an affine layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearConfig {
    /// Features in, at least 1.
    pub inputs: usize,
    /// Features out, at least 1.
    pub outputs: usize,
}

/// An affine layer, weights in PyTorch's order; see [`LinearConfig`].
#[derive(Module, Debug)]
pub struct Linear {
    /// Weight, `[outputs, inputs]`.
    pub weight: Param<Tensor<2>>,
    /// Bias, `[outputs]`; none for a linear layer.
    pub bias: Option<Param<Tensor<1>>>,
}

impl LinearConfig {
    /// A layer on `device` with weight and bias uniform in +-1/sqrt(inputs), as PyTorch's
    /// `torch.nn.Linear` starts.
    pub fn init(&self, seed: &mut InitSeed, device: &Device) -> Linear {
        self.init_with(Init::PyTorch, true, seed, device)
    }

    /// A layer on `device` that starts as `init` says, with or without a bias.
    pub fn init_with(
        &self,
        init: Init,
        bias: bool,
        seed: &mut InitSeed,
        device: &Device,
    ) -> Linear {
        let (weight, bias) = seed.layer([self.outputs, self.inputs], init, bias, device);
        Linear { weight, bias }
    }
}

impl Linear {
    /// x W^T + b: `[N, inputs]` -> `[N, outputs]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let y = linear(x, self.weight.val());
        match &self.bias {
            Some(bias) => y + bias.val().unsqueeze::<2>(),
            None => y,
        }
    }

    /// silu(x W^T + b), fused: `[N, inputs]` -> `[N, outputs]`.
    pub fn forward_silu(&self, x: Tensor<2>) -> Tensor<2> {
        let weight = self.weight.val();
        let bias = match &self.bias {
            Some(bias) => bias.val(),
            None => Tensor::zeros([weight.dims()[0]], &x.device()),
        };
        linear_silu(x, weight, bias)
    }
}
