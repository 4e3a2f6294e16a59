//! Fused kernels, as Burn backend extensions with exact gradients.
//!
//! Every operation here has three faces: a function over [`burn::Tensor`]s that the rest of the
//! project calls, a plain-ops body that any Burn backend can run, and a fused loop for the CPU
//! backend `flex`. The loops are ordinary Rust, compiled once for each instruction set (AVX-512,
//! AVX2, NEON, portable) and chosen at run time. Elementwise loops use no fused multiply-add and no
//! reordered sum, so every path gives the same bits; convolutions and norms sum in an order that
//! the instruction set decides, and give the same bits on the same kind of processor.
//!
//! This crate knows arrays and nothing of the method: no configuration, no files, no networks.

#![expect(
    clippy::needless_range_loop,
    reason = "loops over the lanes of several arrays at once are written by index"
)]

mod adam;
mod attention;
mod backends;
mod block;
mod conv;
mod dropout;
mod frozen;
mod group_norm;
mod linear;
mod linear_silu;
mod map_norm;
mod maps;
mod memory;
mod panels;
mod resample;
mod scratch;
#[cfg(test)]
mod testing;
mod vector;
mod winograd;

pub use adam::{AdamEmaStep, AdamState, adam_ema, sum_of_squares};
pub use block::ops::{
    BlockPassed, BlockSlots, BlockTensors, BlockWeights, ConvWeights, Norm, from_maps, layout,
    residual_block, to_maps,
};
pub use block::{BlockOptions, Layout, Resize};
pub use conv::conv_same;
pub use dropout::{Dropout, dropout};
pub use frozen::{FrozenBlock, FrozenConv, FrozenLinear, FrozenOutput, Images};
pub use group_norm::{GroupNormOptions, group_norm};
pub use linear::linear;
pub use linear_silu::linear_silu;
#[cfg(feature = "mimalloc")]
pub use memory::keep_freed_memory;
pub use vector::{PATH_VARIABLE, instruction_set};

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::Device;

/// Whether `device` is the CPU's, whose fused kernels and frozen layers this crate has.
pub fn is_cpu(device: &Device) -> bool {
    *device == Device::flex()
}

/// The operations that a backend may fuse. The bodies given here are the plain-ops fallbacks.
#[backend_extension(Flex, Autodiff)]
pub trait KernelOps: Backend {
    /// `silu(x weight^T + bias)` for `x` `[N, in]`, `weight` `[out, in]`, `bias` `[out]`.
    fn linear_silu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        linear_silu::forward_plain::<Self>(x, weight, bias)
    }

    /// [`Self::linear_silu`]'s result and the sum before the activation.
    fn linear_silu_saving(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        linear_silu::saving_plain::<Self>(x, weight, bias)
    }

    /// `x weight^T` for `x` `[N, in]`, `weight` `[out, in]`.
    fn linear_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        linear::forward_plain::<Self>(x, weight)
    }

    /// The input's gradient of [`Self::linear_product`].
    fn linear_input_gradient(
        grad: FloatTensor<Self>,
        weight: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        linear::input_gradient_plain::<Self>(grad, weight)
    }

    /// The weight's gradient of [`Self::linear_product`].
    fn linear_weight_gradient(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        linear::weight_gradient_plain::<Self>(x, grad)
    }

    /// Sums over rows: `[N, M]` -> `[M]`.
    fn column_sums(x: FloatTensor<Self>) -> FloatTensor<Self> {
        linear::column_sums_plain::<Self>(x)
    }

    /// `grad * silu'(a)`, elementwise.
    fn silu_backward(a: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        linear_silu::silu_backward_plain::<Self>(a, grad)
    }

    /// Convolution with stride 1 that keeps the size: `x` `[N, in, H, W]`, `weight` `[out, in, k,
    /// k]`, `bias` `[out]`.
    fn conv_same(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        conv::forward_plain::<Self>(x, weight, bias)
    }

    /// The input's gradient of [`Self::conv_same`].
    fn conv_same_input_gradient(
        grad: FloatTensor<Self>,
        weight: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        conv::input_gradient_plain::<Self>(grad, weight)
    }

    /// The weight's gradient of [`Self::conv_same`]; of `weight` only the shape matters.
    fn conv_same_weight_gradient(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        weight: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        conv::weight_gradient_plain::<Self>(x, grad, weight)
    }

    /// Group norm, and SiLU after it if asked for: `x` `[N, C, H, W]`, `weight` and `bias` `[C]`.
    fn group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: GroupNormOptions,
    ) -> FloatTensor<Self> {
        group_norm::forward_plain::<Self>(x, weight, bias, options)
    }

    /// The gradients of [`Self::group_norm`], of input, weight and bias.
    fn group_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        options: GroupNormOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        group_norm::backward_plain::<Self>(x, weight, bias, grad, options)
    }

    /// `[N, C, H, W]` as maps, `[N, H, W, padded C]`.
    fn maps(x: FloatTensor<Self>) -> FloatTensor<Self> {
        block::ops::maps_plain::<Self>(x)
    }

    /// The inverse of [`Self::maps`].
    fn planes(maps: FloatTensor<Self>, channels: usize) -> FloatTensor<Self> {
        block::ops::planes_plain::<Self>(maps, channels)
    }

    /// A residual block; see [`residual_block`].
    fn residual_block(
        #[extension_type] tensors: BlockSlots<Self>,
        options: BlockOptions,
    ) -> FloatTensor<Self> {
        block::ops::forward_plain::<Self>(tensors, options)
    }

    /// A residual block on maps: its result, and what its gradient needs beside the block's
    /// tensors.
    fn residual_block_saving(
        #[extension_type] tensors: BlockSlots<Self>,
        options: BlockOptions,
    ) -> BlockPassed<Self> {
        let _ = (tensors, options);
        unreachable!("maps are made on the CPU alone, which has this operation")
    }

    /// The gradients of a block's tensors, from its result's; those that it doesn't have are empty.
    fn residual_block_backward(
        #[extension_type] tensors: BlockSlots<Self>,
        #[extension_type] passed: BlockPassed<Self>,
        grad: FloatTensor<Self>,
        options: BlockOptions,
    ) -> BlockSlots<Self> {
        let _ = (tensors, passed, grad, options);
        unreachable!("maps are made on the CPU alone, which has this operation")
    }

    /// The sum of all squares.
    fn sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self> {
        adam::sum_of_squares_plain::<Self>(x)
    }

    /// One step of Adam and of the moving average; gives the new `(param, m, v, ema)`.
    fn adam_ema(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        m: FloatTensor<Self>,
        v: FloatTensor<Self>,
        ema: FloatTensor<Self>,
        step: AdamEmaStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        adam::adam_ema_plain::<Self>(param, grad, m, v, ema, step)
    }
}
