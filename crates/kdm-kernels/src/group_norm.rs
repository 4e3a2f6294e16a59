//! Group norm with a scale and a shift for every channel, and SiLU after it where asked for:
//! between any two convolutions of a U-Net. In plain ops this is a dozen passes over the image on
//! one thread; here it is two forward and two backward, and groups are worked on in parallel.
//!
//! A group of an image is one run of memory. Its sums are taken in 16 lanes, each in f32 over at
//! most a plane's share, and added up in f64.

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

use crate::KernelOps;
use crate::vector::{dense, sigmoid, vectorised};

/// What a group norm does beside its weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNormOptions {
    /// Groups of channels; divides their number.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f64,
    /// Whether SiLU follows.
    pub silu: bool,
}

/// (x - mean) / sqrt(variance + epsilon) over each group of an image, times `weight` plus `bias`,
/// then SiLU if asked for.
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

fn by_channel<B: Backend>(values: FloatTensor<B>) -> FloatTensor<B> {
    let c = values.shape().num_elements();
    B::float_reshape(values, Shape::new([1, c, 1, 1]))
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
    let [n, c, h, w] = shape.dims();
    let (unit, std) = normalised::<B>(x, options);
    let image = B::float_reshape(unit.clone(), shape.clone());
    let grad = if options.silu {
        let y = B::float_mul(image.clone(), by_channel::<B>(weight.clone()));
        B::silu_backward(B::float_add(y, by_channel::<B>(bias)), grad)
    } else {
        grad
    };
    let channels = |t: FloatTensor<B>| {
        let sums = B::float_sum_dim(
            B::float_sum_dim(B::float_reshape(t, Shape::new([n, c, h * w])), 2),
            0,
        );
        B::float_reshape(sums, Shape::new([c]))
    };
    let (d_weight, d_bias) = (channels(B::float_mul(grad.clone(), image)), channels(grad.clone()));
    let d_unit = B::float_reshape(B::float_mul(grad, by_channel::<B>(weight)), unit.shape());
    let along = B::float_mean_dim(B::float_mul(d_unit.clone(), unit.clone()), 2);
    let rest = B::float_sub(
        B::float_sub(d_unit.clone(), B::float_mean_dim(d_unit, 2)),
        B::float_mul(unit, along),
    );
    (B::float_reshape(B::float_div(rest, std), shape), d_weight, d_bias)
}

const LANES: usize = 16;

/// The sums of two functions of (a, b) over two equally long runs.
#[inline(always)]
fn two_sums(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> (f32, f32)) -> (f64, f64) {
    let (mut s, mut t) = ([0.0f32; LANES], [0.0f32; LANES]);
    let (whole_a, rest_a) = a.as_chunks::<LANES>();
    let (whole_b, rest_b) = b.as_chunks::<LANES>();
    for (a, b) in whole_a.iter().zip(whole_b) {
        for i in 0..LANES {
            let (x, y) = f(a[i], b[i]);
            s[i] += x;
            t[i] += y;
        }
    }
    let (mut s, mut t) = (
        s.iter().map(|x| f64::from(*x)).sum::<f64>(),
        t.iter().map(|x| f64::from(*x)).sum::<f64>(),
    );
    for (a, b) in rest_a.iter().zip(rest_b) {
        let (x, y) = f(*a, *b);
        s += f64::from(x);
        t += f64::from(y);
    }
    (s, t)
}

/// Mean and 1/sqrt(variance + epsilon) of a group, whose planes have `pixels` values each.
#[inline(always)]
fn statistics(group: &[f32], pixels: usize, epsilon: f64) -> (f32, f32) {
    let n = group.len() as f64;
    let total: f64 =
        group.chunks_exact(pixels).map(|plane| two_sums(plane, plane, |x, _| (x, 0.0)).0).sum();
    let mean = (total / n) as f32;
    let squares = |plane: &[f32]| two_sums(plane, plane, |x, _| ((x - mean) * (x - mean), 0.0)).0;
    let variance = group.chunks_exact(pixels).map(squares).sum::<f64>() / n;
    (mean, (1.0 / (variance + epsilon).sqrt()) as f32)
}

fn is_ours(tensors: &[&FlexTensor]) -> bool {
    tensors.iter().all(|t| t.dtype() == DType::F32 && t.shape().num_elements() > 0)
}

pub(crate) fn forward_flex(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    options: GroupNormOptions,
) -> FlexTensor {
    if !is_ours(&[&x, &weight, &bias]) {
        return forward_plain::<Flex>(x, weight, bias, options);
    }
    let (x, weight, bias) = (dense(x), dense(weight), dense(bias));
    let [_, c, h, w] = x.shape().dims();
    let (pixels, channels) = (h * w, c / options.groups);
    let mut y = FlexTensor::empty(x.shape(), DType::F32);
    let (weights, biases) = (weight.storage::<f32>(), bias.storage::<f32>());
    let groups = y.storage_mut::<f32>().par_chunks_exact_mut(channels * pixels);
    groups.zip(x.storage::<f32>().par_chunks_exact(channels * pixels)).enumerate().for_each(
        |(i, (y, x))| {
            let first = i % options.groups * channels;
            vectorised(
                #[inline(always)]
                || {
                    let (mean, rstd) = statistics(x, pixels, options.epsilon);
                    for (k, (y, x)) in
                        y.chunks_exact_mut(pixels).zip(x.chunks_exact(pixels)).enumerate()
                    {
                        let (scale, bias) = (weights[first + k], biases[first + k]);
                        if options.silu {
                            for (y, x) in y.iter_mut().zip(x) {
                                let a = (x - mean) * rstd * scale + bias;
                                *y = a * sigmoid(a);
                            }
                        } else {
                            y.iter_mut()
                                .zip(x)
                                .for_each(|(y, x)| *y = (x - mean) * rstd * scale + bias);
                        }
                    }
                },
            );
        },
    );
    y
}

pub(crate) fn backward_flex(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    grad: FlexTensor,
    options: GroupNormOptions,
) -> Three<Flex> {
    if !is_ours(&[&x, &weight, &bias, &grad]) {
        return backward_plain::<Flex>(x, weight, bias, grad, options);
    }
    let (x, weight, bias, mut grad) = (dense(x), dense(weight), dense(bias), dense(grad));
    let [n, c, h, w] = x.shape().dims();
    let (pixels, channels) = (h * w, c / options.groups);
    let (weights, biases) = (weight.storage::<f32>(), bias.storage::<f32>());
    // Each group's share of the weights' and biases' gradients, image by image.
    let mut shares = vec![(0.0f64, 0.0f64); n * c];
    let groups = grad.storage_mut::<f32>().par_chunks_exact_mut(channels * pixels);
    let groups = groups.zip(x.storage::<f32>().par_chunks_exact(channels * pixels));
    groups.zip(shares.par_chunks_exact_mut(channels)).enumerate().for_each(
        |(i, ((grad, x), shares))| {
            let first = i % options.groups * channels;
            vectorised(
                #[inline(always)]
                || {
                    let (mean, rstd) = statistics(x, pixels, options.epsilon);
                    let (mut sum, mut along) = (0.0f64, 0.0f64);
                    let planes =
                        grad.chunks_exact_mut(pixels).zip(x.chunks_exact(pixels)).zip(&mut *shares);
                    for (k, ((grad, x), share)) in planes.enumerate() {
                        let (scale, bias) = (weights[first + k], biases[first + k]);
                        if options.silu {
                            for (g, x) in grad.iter_mut().zip(x) {
                                let a = (x - mean) * rstd * scale + bias;
                                let s = sigmoid(a);
                                *g *= s * (1.0 + a * (1.0 - s));
                            }
                        }
                        *share = two_sums(grad, x, |g, x| (g * ((x - mean) * rstd), g));
                        along += f64::from(scale) * share.0;
                        sum += f64::from(scale) * share.1;
                    }
                    let count = (channels * pixels) as f64;
                    let (sum, along) = ((sum / count) as f32, (along / count) as f32);
                    for (k, (grad, x)) in
                        grad.chunks_exact_mut(pixels).zip(x.chunks_exact(pixels)).enumerate()
                    {
                        let scale = weights[first + k];
                        for (g, x) in grad.iter_mut().zip(x) {
                            *g = rstd * (*g * scale - sum - (x - mean) * rstd * along);
                        }
                    }
                },
            );
        },
    );
    let total = |pick: fn(&(f64, f64)) -> f64| {
        let of = |k: usize| (0..n).map(|image| pick(&shares[image * c + k])).sum::<f64>() as f32;
        FlexTensor::from_data(burn::tensor::TensorData::new(
            (0..c).map(of).collect::<Vec<f32>>(),
            [c],
        ))
    };
    (grad, total(|share| share.0), total(|share| share.1))
}

pub(crate) fn forward_autodiff<B: KernelOps, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: FloatTensor<Autodiff<B, C>>,
    options: GroupNormOptions,
) -> FloatTensor<Autodiff<B, C>> {
    #[derive(Debug)]
    struct Norm;

    impl<B: KernelOps> Backward<B, 3> for Norm {
        type State = ([NodeId; 3], GroupNormOptions);

        fn backward(
            self,
            ops: Ops<Self::State, 3>,
            grads: &mut Gradients,
            checkpointer: &mut Checkpointer,
        ) {
            let (nodes, options) = ops.state;
            let [x, weight, bias]: [FloatTensor<B>; 3] =
                nodes.map(|node| checkpointer.retrieve_node_output(node));
            let grad = grads.consume::<B>(&ops.node);
            let (dx, d_weight, d_bias) = B::group_norm_backward(x, weight, bias, grad, options);
            for (node, grad) in ops.parents.into_iter().zip([dx, d_weight, d_bias]) {
                if let Some(node) = node {
                    grads.register::<B>(node.id, grad);
                }
            }
        }
    }

    let nodes = [x.node(), weight.node(), bias.node()];
    match Norm.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let state =
                ([prep.checkpoint(&x), prep.checkpoint(&weight), prep.checkpoint(&bias)], options);
            let y = B::group_norm(
                x.into_primitive(),
                weight.into_primitive(),
                bias.into_primitive(),
                options,
            );
            prep.finish(state, y)
        }
        OpsKind::UnTracked(prep) => prep.finish(B::group_norm(
            x.into_primitive(),
            weight.into_primitive(),
            bias.into_primitive(),
            options,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{error, tensor};
    use burn::tensor::{Device, TensorData, activation};
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
        let ours = backward_flex(x.clone(), weight.clone(), bias.clone(), grad.clone(), options);
        let plain = backward_plain::<Flex>(x.clone(), weight.clone(), bias.clone(), grad, options);
        let forward = (
            forward_flex(x.clone(), weight.clone(), bias.clone(), options),
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
