//! Group norm of planes. In plain ops this is a dozen passes over the image on one thread; here it
//! is two forward and two backward, and groups are worked on in parallel.
//!
//! A group of an image is one run of memory. Its sums are taken in 16 lanes, each in f32 over at
//! most a plane's share, and added up in f64.

use burn::backend::{Flex, TensorMetadata};
use burn::tensor::DType;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::flex::{dense, fits, from_values};
use super::simd::{sigmoid, vectorised};
use crate::ops::group_norm::{GroupNormOptions, Three, backward_plain, forward_plain};

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

pub(crate) fn forward(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    options: GroupNormOptions,
) -> FlexTensor {
    if !fits(&[&x, &weight, &bias]) {
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

pub(crate) fn backward(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    grad: FlexTensor,
    options: GroupNormOptions,
) -> Three<Flex> {
    if !fits(&[&x, &weight, &bias, &grad]) {
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
        from_values((0..c).map(of).collect(), [c])
    };
    (grad, total(|share| share.0), total(|share| share.1))
}
