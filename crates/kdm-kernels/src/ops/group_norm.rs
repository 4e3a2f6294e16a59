//! Group norm with a scale and a shift for every channel, and optionally SiLU after it: between
//! any two convolutions of a U-Net (Wu and He, arXiv:1803.08494).

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata};
use burn::tensor::{Shape, Tensor};

use super::KernelOps;
use super::gradient::{Gradient, record};
use super::planes::{by_channel, channel_sums};

/// What a group norm does beside its weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNormOptions {
    /// Groups of channels, at least 1; divides their number.
    pub groups: usize,
    /// Added to the variance; above 0.
    pub epsilon: f64,
    /// Whether SiLU follows.
    pub silu: bool,
}

/// (x - mean) / sqrt(variance + epsilon) over each group of an image, times `weight` plus `bias`,
/// then SiLU where the options say so.
///
/// # Shapes
/// `x` `[N, C, H, W]`, `weight` and `bias` `[C]`; the result is `[N, C, H, W]`.
pub fn group_norm(
    x: Tensor<4>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    options: GroupNormOptions,
) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as KernelOps>::group_norm(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        options,
    ))
}

/// The three gradients: of the input, the weight and the bias.
pub(crate) type Three<B> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

/// x in groups, its deviations and their root mean square, as `[N, G, values]` and `[N, G, 1]`.
fn normalised<B: Backend>(
    x: FloatTensor<B>,
    options: GroupNormOptions,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let [n, c, h, w] = x.shape().dims();
    let values = c / options.groups * h * w;
    let x = B::float_reshape(x, Shape::new([n, options.groups, values]));
    let x = B::float_sub(x.clone(), B::float_mean_dim(x, 2));
    let variance = B::float_mean_dim(B::float_mul(x.clone(), x.clone()), 2);
    let std = B::float_sqrt(B::float_add_scalar(variance, options.epsilon.into()));
    (B::float_div(x, std.clone()), std)
}

pub(crate) fn forward_plain<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    options: GroupNormOptions,
) -> FloatTensor<B> {
    let shape = x.shape();
    let unit = B::float_reshape(normalised::<B>(x, options).0, shape);
    let y = B::float_add(B::float_mul(unit, by_channel::<B>(weight)), by_channel::<B>(bias));
    if options.silu { B::float_mul(y.clone(), B::sigmoid(y)) } else { y }
}

pub(crate) fn backward_plain<B: KernelOps>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    grad: FloatTensor<B>,
    options: GroupNormOptions,
) -> Three<B> {
    let shape = x.shape();
    let (unit, std) = normalised::<B>(x, options);
    let image = B::float_reshape(unit.clone(), shape.clone());
    let grad = if options.silu {
        let y = B::float_mul(image.clone(), by_channel::<B>(weight.clone()));
        B::silu_backward(B::float_add(y, by_channel::<B>(bias)), grad)
    } else {
        grad
    };
    let (d_weight, d_bias) =
        (channel_sums::<B>(B::float_mul(grad.clone(), image)), channel_sums::<B>(grad.clone()));
    let d_unit = B::float_reshape(B::float_mul(grad, by_channel::<B>(weight)), unit.shape());
    let along = B::float_mean_dim(B::float_mul(d_unit.clone(), unit.clone()), 2);
    let rest = B::float_sub(
        B::float_sub(d_unit.clone(), B::float_mean_dim(d_unit, 2)),
        B::float_mul(unit, along),
    );
    (B::float_reshape(B::float_div(rest, std), shape), d_weight, d_bias)
}

/// What the gradient reads.
#[derive(Clone, Debug)]
struct GroupNormGradient<B: Backend> {
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    options: GroupNormOptions,
}

impl<B: KernelOps> Gradient<B, 3> for GroupNormGradient<B> {
    fn gradients(self, grad: FloatTensor<B>, _: [bool; 3]) -> [Option<FloatTensor<B>>; 3] {
        let Self { x, weight, bias, options } = self;
        let (dx, d_weight, d_bias) = B::group_norm_backward(x, weight, bias, grad, options);
        [Some(dx), Some(d_weight), Some(d_bias)]
    }
}

pub(crate) fn forward_autodiff<B: KernelOps, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: FloatTensor<Autodiff<B, C>>,
    options: GroupNormOptions,
) -> FloatTensor<Autodiff<B, C>> {
    record::<B, C, _, 3>(
        [x, weight, bias],
        |[x, weight, bias]| B::group_norm(x, weight, bias, options),
        |[x, weight, bias]| {
            let kept = GroupNormGradient {
                x: x.clone(),
                weight: weight.clone(),
                bias: bias.clone(),
                options,
            };
            (B::group_norm(x, weight, bias, options), kept)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::flex::dense;
    use crate::cpu::group_norm as cpu;
    use crate::testing::{error, tensor};
    use burn::backend::Flex;
    use burn::tensor::{Device, TensorData, activation};
    use burn_flex::FlexTensor;
    use kdm_random::normal_vec;

    /// The kernel, its plain-ops fallback, and Burn's own differentiable ops: outputs and all three
    /// gradients. One image, odd sizes, planes that don't fill a vector, one channel a group,
    /// values far from zero.
    #[test]
    fn group_norm_equals_plain_ops_with_its_gradients() {
        let device = Device::flex().autodiff();
        for (n, c, h, w, groups, silu) in [
            (1, 1, 2, 3, 1, true),
            (2, 6, 5, 7, 3, true),
            (3, 4, 1, 1, 2, false),
            (1, 64, 32, 32, 16, true),
            (5, 8, 4, 4, 8, false),
        ] {
            let options = GroupNormOptions { groups, epsilon: 1e-6, silu };
            let x = (tensor(1, [n, c, h, w], &device) * 3.0 + 5.0).detach().require_grad();
            let weight = tensor::<1>(2, [c], &device).require_grad();
            let bias = tensor::<1>(3, [c], &device).require_grad();
            let g = tensor::<4>(4, [n, c, h, w], &device);
            let ours = group_norm(x.clone(), weight.clone(), bias.clone(), options);
            let in_groups = x.clone().reshape([n, groups, c / groups * h * w]);
            let centred = in_groups.clone() - in_groups.mean_dim(2);
            let unit = centred.clone() / (centred.square().mean_dim(2) + 1e-6).sqrt();
            let plain = unit.reshape([n, c, h, w]) * weight.clone().reshape([1, c, 1, 1])
                + bias.clone().reshape([1, c, 1, 1]);
            let plain = if silu { activation::silu(plain) } else { plain };
            let (a, b) =
                ((ours.clone() * g.clone()).sum().backward(), (plain.clone() * g).sum().backward());
            let what = format!("{n} {c} {h} {w} {groups}");
            assert!(error(ours, plain) < 1e-5, "{what}");
            // A group of two values has almost no gradient: what is left of it is rounding, of
            // values of size 1.
            let (dx, exact) = (x.grad(&a).unwrap(), x.grad(&b).unwrap());
            let off = (dx - exact.clone()).abs().max().into_scalar::<f32>();
            let scale = exact.square().mean().sqrt().into_scalar::<f32>();
            assert!(off < 2e-5 * scale.max(1.0), "{what}: x {off}");
            assert!(
                error(weight.grad(&a).unwrap(), weight.grad(&b).unwrap()) < 1e-4,
                "{what}: weight"
            );
            assert!(error(bias.grad(&a).unwrap(), bias.grad(&b).unwrap()) < 1e-4, "{what}: bias");
        }
    }

    /// The fallback that other devices use, against the kernel.
    #[test]
    fn kernel_and_fallback_agree() {
        let options = GroupNormOptions { groups: 3, epsilon: 1e-5, silu: true };
        let flex = |seed, shape: &[usize]| {
            let values = normal_vec(seed, shape.iter().product());
            FlexTensor::from_data(TensorData::new(values, shape.to_vec()))
        };
        let (x, weight, bias) = (flex(1, &[2, 6, 3, 5]), flex(2, &[6]), flex(3, &[6]));
        let grad = flex(4, &[2, 6, 3, 5]);
        let ours = cpu::backward(x.clone(), weight.clone(), bias.clone(), grad.clone(), options);
        let plain = backward_plain::<Flex>(x.clone(), weight.clone(), bias.clone(), grad, options);
        let forward = (
            cpu::forward(x.clone(), weight.clone(), bias.clone(), options),
            forward_plain::<Flex>(x, weight, bias, options),
        );
        for (a, b) in [(ours.0, plain.0), (ours.1, plain.1), (ours.2, plain.2), forward] {
            let (a, b) = (dense(a), dense(b));
            let most = a
                .storage::<f32>()
                .iter()
                .zip(b.storage::<f32>())
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(most < 1e-5, "{most}");
        }
    }
}
