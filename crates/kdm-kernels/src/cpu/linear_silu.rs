//! y = silu(x W^T + b) in one pass.
//!
//! Forward: some rows of the matrix product at a time, and while they are in the cache one pass
//! that adds the bias and writes both the sum a and silu(a). Backward: one pass for dL/da = g
//! silu'(a), then two matrix products and a column sum. Plain ops would take five passes forward
//! and seven backward.

use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{DType, Shape};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::flex::{dense, fits, zero_tensor};
use super::linear;
use super::simd::{TASK, sigmoid, vectorised};
use crate::ops::linear_silu::{saving_plain, silu_backward_plain};

pub(crate) fn saving(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
) -> (FlexTensor, FlexTensor) {
    if !fits(&[&x, &weight, &bias]) {
        return saving_plain::<Flex>(x, weight, bias);
    }
    let (x, weight, bias) = (dense(x), dense(weight), dense(bias));
    let shape = Shape::new([x.shape()[0], weight.shape()[0]]);
    let (mut a, mut y) = (zero_tensor(shape.clone()), zero_tensor(shape));
    let bias: &[f32] = bias.storage();
    linear::products(&x, &weight, a.storage_mut(), y.storage_mut(), |a, y| {
        bias_silu_rows(a, bias, y)
    });
    (y, a)
}

pub(crate) fn silu_backward(a: FlexTensor, grad: FlexTensor) -> FlexTensor {
    if grad.dtype() != DType::F32 {
        return silu_backward_plain::<Flex>(a, grad);
    }
    let (a, mut grad) = (dense(a), dense(grad));
    silu_backward_loop(a.storage(), grad.storage_mut());
    grad
}

/// a += bias, row by row; y = silu(a).
fn bias_silu_rows(a: &mut [f32], bias: &[f32], y: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            for (a, y) in a.chunks_mut(bias.len()).zip(y.chunks_mut(bias.len())) {
                for ((a, y), b) in a.iter_mut().zip(y).zip(bias) {
                    *a += b;
                    *y = *a * sigmoid(*a);
                }
            }
        },
    );
}

/// grad *= silu'(a).
fn silu_backward_loop(a: &[f32], grad: &mut [f32]) {
    a.par_chunks(TASK).zip(grad.par_chunks_mut(TASK)).for_each(|(a, grad)| {
        vectorised(
            #[inline(always)]
            || {
                for (a, g) in a.iter().zip(grad) {
                    let s = sigmoid(*a);
                    *g *= s * (1.0 + a * (1.0 - s));
                }
            },
        );
    });
}
