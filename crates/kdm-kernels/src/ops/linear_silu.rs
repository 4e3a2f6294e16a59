//! y = silu(x W^T + b), the layer that MLPs are made of.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata};
use burn::tensor::{Shape, Tensor};

use super::KernelOps;
use super::gradient::{Gradient, record};

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

/// What the gradient reads: `a` is the sum before the activation.
#[derive(Clone, Debug)]
struct LinearSiluGradient<B: Backend> {
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    a: FloatTensor<B>,
}

impl<B: KernelOps> Gradient<B, 3> for LinearSiluGradient<B> {
    fn gradients(
        self,
        grad: FloatTensor<B>,
        [x, weight, bias]: [bool; 3],
    ) -> [Option<FloatTensor<B>>; 3] {
        let da = B::silu_backward(self.a, grad);
        let to_bias = bias.then(|| B::column_sums(da.clone()));
        let to_weight = weight.then(|| B::linear_weight_gradient(self.x, da.clone()));
        [x.then(|| B::linear_input_gradient(da, self.weight)), to_weight, to_bias]
    }
}

pub(crate) fn forward_autodiff<B: KernelOps, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    record::<B, C, _, 3>(
        [x, weight, bias],
        |[x, weight, bias]| B::linear_silu(x, weight, bias),
        |[x, weight, bias]| {
            let (y, a) = B::linear_silu_saving(x.clone(), weight.clone(), bias);
            (y, LinearSiluGradient { x, weight, a })
        },
    )
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
