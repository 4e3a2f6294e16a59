//! Which function records which operation on backends with autodiff. Operations that are not here
//! run their plain bodies, whose gradients Burn takes.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;

use super::residual_block::{BlockOptions, BlockSlots};
use super::{
    GroupNormOptions, KernelOps, conv, group_norm, layout, linear, linear_silu, residual_block,
};

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
        layout::maps_autodiff::<B, C>(x)
    }

    fn planes(maps: FloatTensor<Self>, channels: usize) -> FloatTensor<Self> {
        layout::planes_autodiff::<B, C>(maps, channels)
    }

    fn residual_block(tensors: BlockSlots<Self>, options: BlockOptions) -> FloatTensor<Self> {
        residual_block::forward_autodiff::<B, C>(tensors, options)
    }
}
