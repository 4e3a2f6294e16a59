//! Convolution with stride 1 and a kernel of 1x1 or 3x3 that keeps the image's size: what U-Nets
//! spend their time on. The input's gradient is the same convolution with the kernel turned around.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata};
use burn::tensor::Tensor;
use burn::tensor::ops::ConvOptions;

use super::KernelOps;
use super::gradient::{Gradient, record};
use super::planes::channel_sums;

/// `x` convolved with `weight` (1x1 or 3x3, stride 1, zero padding), plus `bias`.
///
/// # Shapes
/// `x` `[N, in, H, W]`, `weight` `[out, in, k, k]` with k 1 or 3, `bias` `[out]`; the result is
/// `[N, out, H, W]`.
pub fn conv_same(x: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as KernelOps>::conv_same(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    ))
}

fn options(kernel: usize) -> ConvOptions<2> {
    ConvOptions::new([1, 1], [kernel / 2; 2], [1, 1], 1)
}

pub(crate) fn forward_plain<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
) -> FloatTensor<B> {
    let kernel = weight.shape()[3];
    B::conv2d(x, weight, Some(bias), options(kernel))
}

pub(crate) fn input_gradient_plain<B: Backend>(
    grad: FloatTensor<B>,
    weight: FloatTensor<B>,
) -> FloatTensor<B> {
    // The convolution with the kernel turned around and its channels swapped.
    let kernel = weight.shape()[3];
    let turned = B::float_flip(B::float_swap_dims(weight, 0, 1), &[2, 3]);
    B::conv2d(grad, turned, None, options(kernel))
}

pub(crate) fn weight_gradient_plain<B: Backend>(
    x: FloatTensor<B>,
    grad: FloatTensor<B>,
    weight: FloatTensor<B>,
) -> FloatTensor<B> {
    let kernel = weight.shape()[3];
    B::conv2d_weight_backward(x, weight, grad, options(kernel))
}

/// What the gradient reads.
#[derive(Clone, Debug)]
struct ConvGradient<B: Backend> {
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
}

impl<B: KernelOps> Gradient<B, 3> for ConvGradient<B> {
    fn gradients(
        self,
        grad: FloatTensor<B>,
        [x, weight, bias]: [bool; 3],
    ) -> [Option<FloatTensor<B>>; 3] {
        let to_bias = bias.then(|| channel_sums::<B>(grad.clone()));
        let to_weight =
            weight.then(|| B::conv_same_weight_gradient(self.x, grad.clone(), self.weight.clone()));
        [x.then(|| B::conv_same_input_gradient(grad, self.weight)), to_weight, to_bias]
    }
}

pub(crate) fn forward_autodiff<B: KernelOps, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    record::<B, C, _, 3>(
        [x, weight, bias],
        |[x, weight, bias]| B::conv_same(x, weight, bias),
        |[x, weight, bias]| {
            let kept = ConvGradient { x: x.clone(), weight: weight.clone() };
            (B::conv_same(x, weight, bias), kept)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{error, tensor};
    use burn::tensor::Device;
    use burn::tensor::module::conv2d;
    use proptest::prelude::*;

    /// The kernel and Burn's own convolution: outputs and all three gradients.
    fn agrees([count, inputs, outputs, height, width, kernel]: [usize; 6]) {
        let device = Device::flex().autodiff();
        let x = tensor(1, [count, inputs, height, width], &device).require_grad();
        let weight = tensor(2, [outputs, inputs, kernel, kernel], &device).require_grad();
        let bias = tensor::<1>(3, [outputs], &device).require_grad();
        let g = tensor::<4>(4, [count, outputs, height, width], &device);
        let ours = conv_same(x.clone(), weight.clone(), bias.clone());
        let plain = conv2d(x.clone(), weight.clone(), Some(bias.clone()), options(kernel));
        let (a, b) =
            ((ours.clone() * g.clone()).sum().backward(), (plain.clone() * g).sum().backward());
        let what = format!("{count} {inputs} {outputs} {height} {width} {kernel}");
        // Sums of up to 10 000 products in another order, and the rounding of the transforms of
        // tiles (2e-5 was seen), in units of the result's root mean square.
        assert!(error(ours, plain) < 5e-5, "{what}");
        assert!(error(x.grad(&a).unwrap(), x.grad(&b).unwrap()) < 5e-5, "{what}: x");
        assert!(error(weight.grad(&a).unwrap(), weight.grad(&b).unwrap()) < 5e-5, "{what}: weight");
        assert!(error(bias.grad(&a).unwrap(), bias.grad(&b).unwrap()) < 2e-5, "{what}: bias");
    }

    /// Odd sizes, one pixel, one channel, channels that don't fill a block, more images than
    /// threads.
    #[test]
    fn convolution_equals_plain_ops_with_its_gradients() {
        for case in [
            [1, 1, 1, 1, 1, 3],
            [2, 3, 5, 7, 6, 3],
            [1, 8, 8, 32, 32, 3],
            [3, 5, 17, 4, 33, 3],
            [2, 64, 9, 16, 16, 3],
            [5, 2, 3, 1, 50, 3],
            [1, 1, 1, 1, 1, 1],
            [2, 7, 10, 5, 9, 1],
            [3, 16, 4, 8, 8, 1],
            [3, 1, 16, 32, 32, 3],
            [3, 16, 3, 32, 32, 3],
            [3, 48, 16, 32, 32, 3],
            [3, 64, 32, 16, 16, 3],
            [3, 32, 96, 16, 16, 1],
        ] {
            agrees(case);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn convolution_equals_plain_ops_on_any_shape(
            case in (
                1..4usize,
                1..70usize,
                1..70usize,
                1..25usize,
                1..25usize,
                prop_oneof![Just(1usize), Just(3)],
            ),
        ) {
            agrees(case.into());
        }
    }

    /// A strided view, and an image's bits alone and among others.
    #[test]
    fn views_are_accepted_and_images_are_independent() {
        let device = Device::flex();
        let x = tensor::<4>(1, [6, 5, 9, 7], &device);
        let (weight, bias) = (tensor::<4>(2, [4, 5, 3, 3], &device), tensor::<1>(3, [4], &device));
        let whole = conv_same(x.clone(), weight.clone(), bias.clone());
        for i in 0..6 {
            let one = conv_same(x.clone().slice([i..i + 1]), weight.clone(), bias.clone());
            assert_eq!(one.to_data(), whole.clone().slice([i..i + 1]).to_data());
        }
        let turned = conv_same(x.clone().swap_dims(2, 3), weight.clone().swap_dims(2, 3), bias)
            .swap_dims(2, 3);
        assert!(error(turned, whole) < 1e-5);
    }
}
