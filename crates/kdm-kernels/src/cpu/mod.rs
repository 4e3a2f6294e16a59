//! The fused loops of the CPU backend `flex`, and which operation each computes.
//!
//! From the bottom up: `simd` compiles loops for each instruction set and has the elementary
//! functions; `memory` and `buffer_pool` give memory; `gemm` is the matrix product that nearly all
//! else is made of; `winograd` has the transforms of 3x3 convolutions; `nhwc` lays out images
//! channel-last. Each of the other modules computes the operation of its name on slices and takes
//! tensors apart for it (`flex`); what its loops don't take (other types than f32, empty tensors)
//! goes to the operation's plain body.

use burn::backend::Flex;
use burn_flex::FlexTensor;

use crate::ops::KernelOps;
use crate::ops::adam::AdamEmaStep;
use crate::ops::group_norm::GroupNormOptions;
use crate::ops::residual_block::{BlockOptions, BlockPassed, BlockSlots};

pub(crate) mod adam;
mod attention;
pub(crate) mod buffer_pool;
pub(crate) mod conv;
pub(crate) mod flex;
pub(crate) mod gemm;
pub(crate) mod group_norm;
pub(crate) mod linear;
mod linear_silu;
pub(crate) mod memory;
pub(crate) mod nhwc;
pub(crate) mod nhwc_norm;
mod resample;
pub(crate) mod residual_block;
pub(crate) mod simd;
mod winograd;

impl KernelOps for Flex {
    fn linear_silu_saving(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
    ) -> (FlexTensor, FlexTensor) {
        linear_silu::saving(x, weight, bias)
    }

    fn linear_product(x: FlexTensor, weight: FlexTensor) -> FlexTensor {
        linear::forward(x, weight)
    }

    fn column_sums(x: FlexTensor) -> FlexTensor {
        linear::column_sums(x)
    }

    fn linear_input_gradient(grad: FlexTensor, weight: FlexTensor) -> FlexTensor {
        linear::input_gradient(grad, weight)
    }

    fn linear_weight_gradient(x: FlexTensor, grad: FlexTensor) -> FlexTensor {
        linear::weight_gradient(x, grad)
    }

    fn silu_backward(a: FlexTensor, grad: FlexTensor) -> FlexTensor {
        linear_silu::silu_backward(a, grad)
    }

    fn group_norm(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        options: GroupNormOptions,
    ) -> FlexTensor {
        group_norm::forward(x, weight, bias, options)
    }

    fn group_norm_backward(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        grad: FlexTensor,
        options: GroupNormOptions,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        group_norm::backward(x, weight, bias, grad, options)
    }

    fn conv_same(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        conv::forward(x, weight, bias)
    }

    fn conv_same_input_gradient(grad: FlexTensor, weight: FlexTensor) -> FlexTensor {
        conv::input_gradient(grad, weight)
    }

    fn conv_same_weight_gradient(
        x: FlexTensor,
        grad: FlexTensor,
        weight: FlexTensor,
    ) -> FlexTensor {
        conv::weight_gradient(x, grad, weight)
    }

    fn maps(x: FlexTensor) -> FlexTensor {
        nhwc::maps(x)
    }

    fn planes(maps: FlexTensor, channels: usize) -> FlexTensor {
        nhwc::planes(maps, channels)
    }

    fn residual_block(tensors: BlockSlots<Flex>, options: BlockOptions) -> FlexTensor {
        residual_block::forward(tensors, options)
    }

    fn residual_block_saving(
        tensors: BlockSlots<Flex>,
        options: BlockOptions,
    ) -> BlockPassed<Flex> {
        residual_block::saving(tensors, options)
    }

    fn residual_block_backward(
        tensors: BlockSlots<Flex>,
        passed: BlockPassed<Flex>,
        grad: FlexTensor,
        options: BlockOptions,
    ) -> BlockSlots<Flex> {
        residual_block::backward(tensors, passed, grad, options)
    }

    fn sum_of_squares(x: FlexTensor) -> FlexTensor {
        adam::sum_of_squares(x)
    }

    fn adam_ema(
        param: FlexTensor,
        grad: FlexTensor,
        m: FlexTensor,
        v: FlexTensor,
        ema: FlexTensor,
        step: AdamEmaStep,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        adam::adam_ema(param, grad, m, v, ema, step)
    }
}
