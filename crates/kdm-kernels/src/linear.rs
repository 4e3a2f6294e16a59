//! y = x W^T and its gradients: the products of affine layers, on the packed panels of
//! convolutions.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata};
use burn::tensor::{DType, Shape, Tensor, TensorData};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::KernelOps;
use crate::maps::padded;
use crate::memory::zero_tensor;
use crate::panels::{BLOCK, Outer, Packed, Product};
use crate::scratch::{Scratch, scratch};
use crate::vector::{dense, vectorised};

/// x weight^T: `x` `[N, in]`, `weight` `[out, in]` (PyTorch's order); the result is `[N, out]`.
pub fn linear(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as KernelOps>::linear_product(
        x.into_dispatch(),
        weight.into_dispatch(),
    ))
}

pub(crate) fn forward_plain<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
) -> FloatTensor<B> {
    B::float_matmul(x, B::float_transpose(weight))
}

pub(crate) fn input_gradient_plain<B: Backend>(
    grad: FloatTensor<B>,
    weight: FloatTensor<B>,
) -> FloatTensor<B> {
    B::float_matmul(grad, weight)
}

pub(crate) fn weight_gradient_plain<B: Backend>(
    x: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    B::float_matmul(B::float_transpose(grad), x)
}

pub(crate) fn is_ours(tensors: &[&FlexTensor]) -> bool {
    tensors.iter().all(|t| t.dtype() == DType::F32 && t.shape().num_elements() > 0)
}

/// Rows that a task works on.
const ROWS: usize = 96;

/// Rows of x times a packed matrix, a task's worth at a time; `also` gets them with the same rows
/// of `more`.
pub(crate) fn rows_times(
    x: &[f32],
    depth: usize,
    matrix: &Packed,
    columns: usize,
    y: &mut [f32],
    more: &mut [f32],
    also: impl Fn(&mut [f32], &mut [f32]) + Sync,
) {
    let stride = padded(columns);
    let count = y.len() / columns;
    let task = ROWS.min(count.div_ceil(rayon::current_num_threads()).next_multiple_of(6));
    let mut parts = more.chunks_mut(task * columns);
    let parts: Vec<&mut [f32]> =
        (0..count.div_ceil(task)).map(|_| parts.next().unwrap_or_default()).collect();
    let rows = y.par_chunks_mut(task * columns).zip(x.par_chunks(task * depth));
    rows.zip(parts).for_each(|((y, x), more)| {
        let offsets: Vec<usize> = (0..x.len() / depth).map(|row| row * depth).collect();
        let product = |c: &mut [f32]| {
            Product {
                a: x,
                offsets: &offsets,
                taps: &[0],
                depth,
                b: matrix,
                matrix: 0,
                c,
                stride,
                add: false,
            }
            .run();
        };
        if stride == columns {
            product(y);
        } else {
            let mut sums = scratch(offsets.len() * stride);
            product(&mut sums);
            for (y, sums) in y.chunks_exact_mut(columns).zip(sums.chunks_exact(stride)) {
                y.copy_from_slice(&sums[..columns]);
            }
        }
        also(y, more);
    });
}

/// x weight^T into `y`, and while its rows are in the cache `also(rows, the same rows of more)`.
/// All dense.
pub(crate) fn products(
    x: &FlexTensor,
    weight: &FlexTensor,
    y: &mut [f32],
    more: &mut [f32],
    also: impl Fn(&mut [f32], &mut [f32]) + Sync,
) {
    let [outputs, inputs] = weight.shape().dims();
    let matrix = Packed::from_columns(weight.storage(), inputs, inputs, outputs);
    rows_times(x.storage(), inputs, &matrix, outputs, y, more, also);
}

pub(crate) fn forward_flex(x: FlexTensor, weight: FlexTensor) -> FlexTensor {
    if !is_ours(&[&x, &weight]) {
        return forward_plain::<Flex>(x, weight);
    }
    let (x, weight) = (dense(x), dense(weight));
    let mut y = zero_tensor(Shape::new([x.shape()[0], weight.shape()[0]]));
    products(&x, &weight, y.storage_mut(), &mut [], |_, _| {});
    y
}

pub(crate) fn input_gradient_flex(grad: FlexTensor, weight: FlexTensor) -> FlexTensor {
    if !is_ours(&[&grad, &weight]) {
        return input_gradient_plain::<Flex>(grad, weight);
    }
    let (grad, weight) = (dense(grad), dense(weight));
    let [outputs, inputs] = weight.shape().dims();
    let matrix = Packed::from_rows(weight.storage(), inputs, outputs, inputs);
    let mut dx = zero_tensor(Shape::new([grad.shape()[0], inputs]));
    rows_times(grad.storage(), outputs, &matrix, inputs, dx.storage_mut(), &mut [], |_, _| {});
    dx
}

/// Rows padded to whole blocks; none when they are already.
fn padded_rows(rows: &[f32], width: usize) -> Option<Scratch> {
    let to = padded(width);
    (to != width).then(|| {
        let mut out = scratch(rows.len() / width * to);
        out.par_chunks_mut(64 * to).zip(rows.par_chunks(64 * width)).for_each(|(out, rows)| {
            for (out, row) in out.chunks_exact_mut(to).zip(rows.chunks_exact(width)) {
                out[..width].copy_from_slice(row);
                out[width..].fill(0.0);
            }
        });
        out
    })
}

pub(crate) fn weight_gradient_flex(x: FlexTensor, grad: FlexTensor) -> FlexTensor {
    if !is_ours(&[&x, &grad]) {
        return weight_gradient_plain::<Flex>(x, grad);
    }
    let (x, grad) = (dense(x), dense(grad));
    let ([count, inputs], [_, outputs]) = (x.shape().dims(), grad.shape().dims());
    let (x, grad): (&[f32], &[f32]) = (x.storage(), grad.storage());
    let (padded_x, padded_grad) = (padded_rows(x, inputs), padded_rows(grad, outputs));
    let (x, grad) = (padded_x.as_deref().unwrap_or(x), padded_grad.as_deref().unwrap_or(grad));
    let (width, height) = (padded(inputs), padded(outputs));
    let x_at: Vec<usize> = (0..count).map(|row| row * width).collect();
    let grad_at: Vec<usize> = (0..count).map(|row| row * height).collect();
    let mut sums = vec![0.0; height * width];
    let task = height.div_ceil(rayon::current_num_threads()).next_multiple_of(BLOCK);
    sums.par_chunks_mut(task * width).enumerate().for_each(|(i, sums)| {
        Outer {
            x: &grad[i * task..],
            x_at: &grad_at,
            x_width: sums.len() / width,
            g: x,
            g_at: &x_at,
            g_width: width,
            c: sums,
            stride: width,
        }
        .run();
    });
    if width != inputs {
        sums = sums.chunks_exact(width).flat_map(|row| row[..inputs].iter().copied()).collect();
    }
    sums.truncate(outputs * inputs);
    FlexTensor::from_data(TensorData::new(sums, [outputs, inputs]))
}

pub(crate) fn column_sums_plain<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let sum = B::float_sum_dim(x, 0);
    let width = sum.shape().num_elements();
    B::float_reshape(sum, Shape::new([width]))
}

pub(crate) fn column_sums_flex(x: FlexTensor) -> FlexTensor {
    if !is_ours(&[&x]) {
        return column_sums_plain::<Flex>(x);
    }
    let x = dense(x);
    let width = x.shape()[1];
    // Runs of a fixed number of rows, then the runs in order: the same bits on any number of
    // threads.
    let runs = |rows: &[f32]| {
        let mut sums = vec![0.0f32; width];
        vectorised(
            #[inline(always)]
            || {
                for row in rows.chunks_exact(width) {
                    sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                }
            },
        );
        sums
    };
    let parts: Vec<Vec<f32>> = x.storage::<f32>().par_chunks(256 * width).map(runs).collect();
    let total = |c: usize| parts.iter().map(|part| f64::from(part[c])).sum::<f64>() as f32;
    FlexTensor::from_data(TensorData::new((0..width).map(total).collect::<Vec<f32>>(), [width]))
}

pub(crate) fn forward_autodiff<B: KernelOps, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    #[derive(Debug)]
    struct Linear;

    impl<B: KernelOps> Backward<B, 2> for Linear {
        /// The input and the weight as checkpoints.
        type State = (NodeId, NodeId);

        fn backward(
            self,
            ops: Ops<Self::State, 2>,
            grads: &mut Gradients,
            checkpointer: &mut Checkpointer,
        ) {
            let x: FloatTensor<B> = checkpointer.retrieve_node_output(ops.state.0);
            let weight: FloatTensor<B> = checkpointer.retrieve_node_output(ops.state.1);
            let [x_node, weight_node] = ops.parents;
            let grad = grads.consume::<B>(&ops.node);
            if let Some(node) = weight_node {
                grads.register::<B>(node.id, B::linear_weight_gradient(x, grad.clone()));
            }
            if let Some(node) = x_node {
                grads.register::<B>(node.id, B::linear_input_gradient(grad, weight));
            }
        }
    }

    match Linear.prepare::<C>([x.node(), weight.node()]).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let state = (prep.checkpoint(&x), prep.checkpoint(&weight));
            prep.finish(state, B::linear_product(x.into_primitive(), weight.into_primitive()))
        }
        OpsKind::UnTracked(prep) => {
            prep.finish(B::linear_product(x.into_primitive(), weight.into_primitive()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{error, tensor};
    use burn::tensor::Device;

    /// The kernel and Burn's matrix product, with both gradients: one row, one column, widths that
    /// don't fill a block, more rows than a task takes.
    #[test]
    fn products_equal_plain_ops_with_their_gradients() {
        let device = Device::flex().autodiff();
        for (n, inputs, outputs) in
            [(1, 1, 1), (3, 257, 16), (17, 2, 33), (500, 64, 256), (200, 300, 2)]
        {
            let x = tensor::<2>(1, [n, inputs], &device).require_grad();
            let w = tensor::<2>(2, [outputs, inputs], &device).require_grad();
            let g = tensor::<2>(3, [n, outputs], &device);
            let ours = linear(x.clone(), w.clone());
            let plain = x.clone().matmul(w.clone().transpose());
            let (a, b) =
                ((ours.clone() * g.clone()).sum().backward(), (plain.clone() * g).sum().backward());
            // Sums of up to 500 products in another order, in units of the result's root mean
            // square.
            assert!(error(ours, plain) < 1e-5, "{n} {inputs} {outputs}");
            assert!(
                error(x.grad(&a).unwrap(), x.grad(&b).unwrap()) < 1e-5,
                "{n} {inputs} {outputs}: x"
            );
            assert!(
                error(w.grad(&a).unwrap(), w.grad(&b).unwrap()) < 1e-5,
                "{n} {inputs} {outputs}: weight"
            );
        }
    }
}
