//! What the operations are: a file for each, with its public face over [`burn::Tensor`]s, its plain
//! body for any backend, and its gradient. [`KernelOps`] lists them.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};

pub(crate) mod adam;
pub(crate) mod attention;
mod autodiff;
pub(crate) mod conv;
pub(crate) mod dropout;
mod gradient;
pub(crate) mod group_norm;
pub(crate) mod layout;
pub(crate) mod linear;
pub(crate) mod linear_silu;
mod planes;
pub(crate) mod resample;
pub(crate) mod residual_block;

use adam::AdamEmaStep;
use group_norm::GroupNormOptions;
use residual_block::{BlockOptions, BlockPassed, BlockSlots};

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

    /// Group norm, and optionally SiLU after it: `x` `[N, C, H, W]`, `weight` and `bias` `[C]`.
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
        layout::maps_plain::<Self>(x)
    }

    /// The inverse of [`Self::maps`].
    fn planes(maps: FloatTensor<Self>, channels: usize) -> FloatTensor<Self> {
        layout::planes_plain::<Self>(maps, channels)
    }

    /// A residual block; see [`residual_block()`](crate::residual_block).
    fn residual_block(
        #[extension_type] tensors: BlockSlots<Self>,
        options: BlockOptions,
    ) -> FloatTensor<Self> {
        residual_block::forward_plain::<Self>(tensors, options)
    }

    /// [`Self::residual_block`]'s result, and what its gradient needs beside the block's tensors.
    fn residual_block_saving(
        #[extension_type] tensors: BlockSlots<Self>,
        options: BlockOptions,
    ) -> BlockPassed<Self> {
        residual_block::saving_plain::<Self>(tensors, options)
    }

    /// The gradients of a block's tensors, from its result's, images in the options' layout. Those
    /// of tensors that the block doesn't have are there and not to be read.
    fn residual_block_backward(
        #[extension_type] tensors: BlockSlots<Self>,
        #[extension_type] passed: BlockPassed<Self>,
        grad: FloatTensor<Self>,
        options: BlockOptions,
    ) -> BlockSlots<Self> {
        residual_block::backward_plain::<Self>(tensors, passed, grad, options)
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
