//! Which function computes an operation on which backend: fused loops on `flex`, exact gradients on
//! any backend with autodiff. Backends that are not here run the plain bodies of [`KernelOps`].

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use burn_flex::FlexTensor;

use crate::block::ops::{self, BlockPassed, BlockSlots};
use crate::{
    AdamEmaStep, BlockOptions, GroupNormOptions, KernelOps, adam, conv, group_norm, linear,
    linear_silu,
};

impl KernelOps for Flex {
    fn linear_silu_saving(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
    ) -> (FlexTensor, FlexTensor) {
        linear_silu::saving_flex(x, weight, bias)
    }

    fn linear_product(x: FlexTensor, weight: FlexTensor) -> FlexTensor {
        linear::forward_flex(x, weight)
    }

    fn column_sums(x: FlexTensor) -> FlexTensor {
        linear::column_sums_flex(x)
    }

    fn linear_input_gradient(grad: FlexTensor, weight: FlexTensor) -> FlexTensor {
        linear::input_gradient_flex(grad, weight)
    }

    fn linear_weight_gradient(x: FlexTensor, grad: FlexTensor) -> FlexTensor {
        linear::weight_gradient_flex(x, grad)
    }

    fn silu_backward(a: FlexTensor, grad: FlexTensor) -> FlexTensor {
        linear_silu::silu_backward_flex(a, grad)
    }

    fn group_norm(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        options: GroupNormOptions,
    ) -> FlexTensor {
        group_norm::forward_flex(x, weight, bias, options)
    }

    fn group_norm_backward(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        grad: FlexTensor,
        options: GroupNormOptions,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        group_norm::backward_flex(x, weight, bias, grad, options)
    }

    fn conv_same(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        conv::forward_flex(x, weight, bias)
    }

    fn conv_same_input_gradient(grad: FlexTensor, weight: FlexTensor) -> FlexTensor {
        conv::input_gradient_flex(grad, weight)
    }

    fn conv_same_weight_gradient(
        x: FlexTensor,
        grad: FlexTensor,
        weight: FlexTensor,
    ) -> FlexTensor {
        conv::weight_gradient_flex(x, grad, weight)
    }

    fn maps(x: FlexTensor) -> FlexTensor {
        ops::maps_flex(x)
    }

    fn planes(maps: FlexTensor, channels: usize) -> FlexTensor {
        ops::planes_flex(maps, channels)
    }

    fn residual_block(tensors: BlockSlots<Flex>, options: BlockOptions) -> FlexTensor {
        ops::forward_flex(tensors, options)
    }

    fn residual_block_saving(
        tensors: BlockSlots<Flex>,
        options: BlockOptions,
    ) -> BlockPassed<Flex> {
        ops::saving_flex(tensors, options)
    }

    fn residual_block_backward(
        tensors: BlockSlots<Flex>,
        passed: BlockPassed<Flex>,
        grad: FlexTensor,
        options: BlockOptions,
    ) -> BlockSlots<Flex> {
        ops::backward_flex(tensors, passed, grad, options)
    }

    fn sum_of_squares(x: FlexTensor) -> FlexTensor {
        adam::sum_of_squares_flex(x)
    }

    fn adam_ema(
        param: FlexTensor,
        grad: FlexTensor,
        m: FlexTensor,
        v: FlexTensor,
        ema: FlexTensor,
        step: AdamEmaStep,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        adam::adam_ema_flex(param, grad, m, v, ema, step)
    }
}

impl<B: KernelOps, C: CheckpointStrategy> KernelOps for Autodiff<B, C> {
    fn linear_silu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        linear_silu::forward_autodiff::<B, C>(x, weight, bias)
    }

    fn linear_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        linear::forward_autodiff::<B, C>(x, weight)
    }

    fn group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: GroupNormOptions,
    ) -> FloatTensor<Self> {
        group_norm::forward_autodiff::<B, C>(x, weight, bias, options)
    }

    fn conv_same(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        conv::forward_autodiff::<B, C>(x, weight, bias)
    }

    fn maps(x: FloatTensor<Self>) -> FloatTensor<Self> {
        ops::maps_autodiff::<B, C>(x)
    }

    fn planes(maps: FloatTensor<Self>, channels: usize) -> FloatTensor<Self> {
        ops::planes_autodiff::<B, C>(maps, channels)
    }

    fn residual_block(tensors: BlockSlots<Self>, options: BlockOptions) -> FloatTensor<Self> {
        ops::forward_autodiff::<B, C>(tensors, options)
    }
}
