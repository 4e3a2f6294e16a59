//! y = silu(x W^T + b), the layer that the multilayer perceptrons are made of.
//!
//! Forward: some rows of the matrix product at a time, and while they are in the cache one pass
//! that adds the bias and writes both the sum a and silu(a). Backward: one pass for dL/da = g
//! silu'(a), then two matrix products and a column sum. Plain ops would take five passes forward
//! and seven backward.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata};
use burn::tensor::{DType, Shape, Tensor};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::memory::zero_tensor;
use crate::vector::{TASK, dense, sigmoid, vectorised};
use crate::{KernelOps, linear};

/// `silu(x weight^T + bias)`, with silu(a) = a / (1 + e^-a).
///
/// # Shapes
/// `x` `[N, in]`, `weight` `[out, in]` (PyTorch's order), `bias` `[out]`; the result is `[N, out]`.
pub fn linear_silu(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as KernelOps>::linear_silu(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    ))
}

pub(crate) fn forward_plain<B: KernelOps>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
) -> FloatTensor<B> {
    B::linear_silu_saving(x, weight, bias).0
}

pub(crate) fn saving_plain<B: KernelOps>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    bias_silu_plain::<B>(B::linear_product(x, weight), bias)
}

fn bias_silu_plain<B: Backend>(
    product: FloatTensor<B>,
    bias: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let width = bias.shape().num_elements();
    let a = B::float_add(product, B::float_reshape(bias, Shape::new([1, width])));
    (B::float_mul(a.clone(), B::sigmoid(a.clone())), a)
}

pub(crate) fn silu_backward_plain<B: Backend>(
    a: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    // silu'(a) = s (1 + a (1 - s)), s = sigmoid(a)
    let s = B::sigmoid(a.clone());
    let one_minus = B::float_add_scalar(B::float_neg(s.clone()), 1.into());
    let inner = B::float_add_scalar(B::float_mul(a, one_minus), 1.into());
    B::float_mul(grad, B::float_mul(s, inner))
}

pub(crate) fn saving_flex(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
) -> (FlexTensor, FlexTensor) {
    if !linear::is_ours(&[&x, &weight, &bias]) {
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

pub(crate) fn silu_backward_flex(a: FlexTensor, grad: FlexTensor) -> FlexTensor {
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

pub(crate) fn forward_autodiff<B: KernelOps, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    #[derive(Debug)]
    struct LinearSilu;

    impl<B: KernelOps> Backward<B, 3> for LinearSilu {
        /// The input and the weight as checkpoints, and the sum before the activation.
        type State = (NodeId, NodeId, FloatTensor<B>);

        fn backward(
            self,
            ops: Ops<Self::State, 3>,
            grads: &mut Gradients,
            checkpointer: &mut Checkpointer,
        ) {
            let (x, weight, a) = ops.state;
            let x: FloatTensor<B> = checkpointer.retrieve_node_output(x);
            let weight: FloatTensor<B> = checkpointer.retrieve_node_output(weight);
            let [x_node, weight_node, bias_node] = ops.parents;
            let da = B::silu_backward(a, grads.consume::<B>(&ops.node));
            if let Some(node) = bias_node {
                grads.register::<B>(node.id, B::column_sums(da.clone()));
            }
            if let Some(node) = weight_node {
                grads.register::<B>(node.id, B::linear_weight_gradient(x, da.clone()));
            }
            if let Some(node) = x_node {
                grads.register::<B>(node.id, B::linear_input_gradient(da, weight));
            }
        }
    }

    let nodes = [x.node(), weight.node(), bias.node()];
    match LinearSilu.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let (x_id, weight_id) = (prep.checkpoint(&x), prep.checkpoint(&weight));
            let (y, a) = B::linear_silu_saving(
                x.into_primitive(),
                weight.into_primitive(),
                bias.into_primitive(),
            );
            prep.finish((x_id, weight_id, a), y)
        }
        OpsKind::UnTracked(prep) => prep.finish(B::linear_silu(
            x.into_primitive(),
            weight.into_primitive(),
            bias.into_primitive(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tensor;
    use burn::tensor::{Device, activation};

    fn max_difference<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
        (a - b).abs().max().into_scalar()
    }

    /// The fused layer and the same layer in Burn's own differentiable ops: outputs and all three
    /// gradients. Odd sizes, a batch of one, widths that don't fill a vector, and enough rows for
    /// several tasks.
    #[test]
    fn fused_layer_equals_plain_ops_with_its_gradients() {
        let device = Device::flex().autodiff();
        for (n, inputs, outputs) in
            [(1, 1, 1), (3, 5, 7), (17, 2, 33), (1, 64, 256), (300, 31, 129)]
        {
            let leaf = |t: Tensor<2>| t.require_grad();
            let x = leaf(tensor(1, [n, inputs], &device));
            let w = leaf(tensor(2, [outputs, inputs], &device));
            let b = tensor::<1>(3, [outputs], &device).require_grad();
            let g = tensor::<2>(4, [n, outputs], &device);

            let fused = linear_silu(x.clone(), w.clone(), b.clone());
            let plain = activation::silu(
                x.clone().matmul(w.clone().transpose()) + b.clone().unsqueeze::<2>(),
            );
            let fused_grads = (fused.clone() * g.clone()).sum().backward();
            let plain_grads = (plain.clone() * g).sum().backward();

            // f32 rounding of sums of up to 300 terms of size 1.
            let tolerance = 2e-4;
            assert!(max_difference(fused, plain) < 1e-5);
            let of = |t: &Tensor<2>| {
                max_difference(t.grad(&fused_grads).unwrap(), t.grad(&plain_grads).unwrap())
            };
            assert!(of(&x) < tolerance && of(&w) < tolerance, "{n} {inputs} {outputs}");
            let db = max_difference(b.grad(&fused_grads).unwrap(), b.grad(&plain_grads).unwrap());
            assert!(db < tolerance, "{n} {inputs} {outputs}: bias {db}");
        }
    }

    /// A strided input (a transposed view) and an input that needs no gradient.
    #[test]
    fn views_and_constants_are_accepted() {
        let device = Device::flex().autodiff();
        let x = tensor::<2>(1, [6, 4], &device).transpose();
        let w = tensor::<2>(2, [5, 6], &device).require_grad();
        let b = tensor::<1>(3, [5], &device);
        let fused = linear_silu(x.clone(), w.clone(), b.clone());
        let plain = activation::silu(x.matmul(w.clone().transpose()) + b.unsqueeze::<2>());
        let (gf, gp) = (fused.clone().sum().backward(), plain.clone().sum().backward());
        assert!(max_difference(fused, plain) < 1e-5);
        assert!(max_difference(w.grad(&gf).unwrap(), w.grad(&gp).unwrap()) < 1e-5);
    }

    /// Each row's result has the same bits whether it is computed alone or among others.
    #[test]
    fn rows_do_not_depend_on_their_neighbours() {
        let device = Device::flex();
        let (w, b) = (tensor::<2>(2, [64, 48], &device), tensor::<1>(3, [64], &device));
        let x = tensor::<2>(1, [1000, 48], &device);
        let whole = linear_silu(x.clone(), w.clone(), b.clone());
        for rows in [64, 200] {
            let part = linear_silu(x.clone().slice([0..rows]), w.clone(), b.clone());
            assert_eq!(max_difference(part, whole.clone().slice([0..rows])), 0.0, "{rows}");
        }
    }
}
