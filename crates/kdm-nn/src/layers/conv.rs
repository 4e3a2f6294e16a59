//! Convolution of images `[N, C, H, W]`.

use burn::module::{Module, Param};
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor};
use kdm_kernels::conv_same;

use crate::{Demand, Init, InitSeed};

/// Sizes of a convolution, each at least 1 (padding may be 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Channels in.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Pixels from one output to the next, in both directions.
    pub stride: usize,
    /// Rows of zero padding above and below, and columns of it left and right.
    pub padding: [usize; 2],
    /// Whether a bias is added.
    pub bias: bool,
}

impl Conv2dConfig {
    /// A square kernel of odd size with stride 1 and a bias, padded so that the image keeps its
    /// size.
    pub fn same(inputs: usize, outputs: usize, kernel: usize) -> Self {
        Self {
            inputs,
            outputs,
            kernel: [kernel; 2],
            stride: 1,
            padding: [kernel / 2; 2],
            bias: true,
        }
    }

    /// A square kernel of even size with stride 2 and a bias, padded so that an image of even sides
    /// halves.
    pub fn halving(inputs: usize, outputs: usize, kernel: usize) -> Self {
        let padding = [kernel / 2 - 1; 2];
        Self { stride: 2, padding, ..Self::same(inputs, outputs, kernel) }
    }

    /// Fresh weights on `device`.
    pub fn init(&self, init: Init, seed: &mut InitSeed, device: &Device) -> Conv2d {
        let [h, w] = self.kernel;
        let (weight, bias) = seed.layer([self.outputs, self.inputs, h, w], init, self.bias, device);
        Conv2d { weight, bias, stride: self.stride, padding: self.padding }
    }

    /// What it takes an image whose result has height and width `side`.
    pub(crate) fn demand(&self, side: usize) -> Demand {
        let [inputs, outputs, side] = [self.inputs, self.outputs, side].map(|n| n as f64);
        let weights = inputs * outputs * self.kernel.iter().product::<usize>() as f64;
        Demand {
            parameters: weights + outputs,
            operations: 2.0 * side * side * weights,
            activations: side * side * inputs,
        }
    }
}

/// A convolution, weights in PyTorch's order; see [`Conv2dConfig`].
#[derive(Module, Debug)]
pub struct Conv2d {
    /// Weight, `[outputs, inputs, height, width]`.
    pub weight: Param<Tensor<4>>,
    /// Bias, `[outputs]`.
    pub bias: Option<Param<Tensor<1>>>,
    stride: usize,
    padding: [usize; 2],
}

impl Conv2d {
    /// `[N, inputs, H, W]` -> `[N, outputs, H', W']` with H' = (H + 2 padding - kernel) / stride +
    /// 1, rounded down, and W' likewise.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_padded(x, self.padding)
    }

    /// [`Self::forward`] with other zero padding: above and below, and left and right.
    pub fn forward_padded(&self, x: Tensor<4>, padding: [usize; 2]) -> Tensor<4> {
        let [_, _, height, width] = self.weight.dims();
        let keeps_size = self.stride == 1 && height == width && padding == [height / 2; 2];
        if keeps_size && matches!(height, 1 | 3) {
            return conv_same(x, self.weight.val(), self.bias_or_zeros());
        }
        let options = ConvOptions::new([self.stride; 2], padding, [1, 1], 1);
        conv2d(x, self.weight.val(), self.bias.as_ref().map(Param::val), options)
    }

    /// Weight and bias, for a fused operation.
    pub(crate) fn tensors(&self) -> (Tensor<4>, Tensor<1>) {
        (self.weight.val(), self.bias_or_zeros())
    }

    fn bias_or_zeros(&self) -> Tensor<1> {
        let zeros = || Tensor::zeros([self.weight.dims()[0]], &self.weight.device());
        self.bias.as_ref().map_or_else(zeros, Param::val)
    }
}
