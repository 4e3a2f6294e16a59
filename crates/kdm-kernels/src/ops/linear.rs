//! y = x W^T and its gradients: the products of affine layers.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata};
use burn::tensor::{Shape, Tensor};

use super::KernelOps;
use super::gradient::{Gradient, record};

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

pub(crate) fn column_sums_plain<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let sum = B::float_sum_dim(x, 0);
    let width = sum.shape().num_elements();
    B::float_reshape(sum, Shape::new([width]))
}

/// What the gradient reads.
#[derive(Clone, Debug)]
struct LinearGradient<B: Backend> {
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
}

impl<B: KernelOps> Gradient<B, 2> for LinearGradient<B> {
    fn gradients(
        self,
        grad: FloatTensor<B>,
        [x, weight]: [bool; 2],
    ) -> [Option<FloatTensor<B>>; 2] {
        let to_weight = weight.then(|| B::linear_weight_gradient(self.x, grad.clone()));
        [x.then(|| B::linear_input_gradient(grad, self.weight)), to_weight]
    }
}

pub(crate) fn forward_autodiff<B: KernelOps, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    record::<B, C, _, 2>(
        [x, weight],
        |[x, weight]| B::linear_product(x, weight),
        |[x, weight]| {
            let kept = LinearGradient { x: x.clone(), weight: weight.clone() };
            (B::linear_product(x, weight), kept)
        },
    )
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
