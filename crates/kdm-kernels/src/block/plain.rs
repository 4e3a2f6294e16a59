//! A residual block in plain operations, on any backend.

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn::tensor::{Shape, TensorData};

use super::{BlockOptions, Resize, SLOTS, Slot};
use crate::dropout::factors;
use crate::{GroupNormOptions, KernelOps};

/// The block on `[N, C, H, W]`.
pub(crate) fn forward<B: KernelOps>(
    tensors: [FloatTensor<B>; SLOTS],
    o: &BlockOptions,
) -> FloatTensor<B> {
    let of = |slot: Slot| tensors[slot as usize].clone();
    let norm = |x, group: usize, weight, bias, silu| {
        let options = GroupNormOptions { groups: o.groups[group], epsilon: o.epsilon, silu };
        B::group_norm(x, of(weight), of(bias), options)
    };
    let conv = |x, weight, bias| B::conv_same(x, of(weight), of(bias));
    let x = if o.inputs[1] > 0 {
        B::float_cat(vec![of(Slot::X), of(Slot::Joined)], 1)
    } else {
        of(Slot::X)
    };
    let n = x.shape()[0];

    let h = norm(x.clone(), 0, Slot::Norm0Weight, Slot::Norm0Bias, true);
    let h = conv(resized::<B>(h, o), Slot::Conv0Weight, Slot::Conv0Bias);
    let embedding = of(Slot::Embedding);
    let h = if o.adaptive {
        let part = |first: usize| {
            let range =
                |a: usize, b: usize| burn::tensor::Slice::new(a as isize, Some(b as isize), 1);
            let part =
                B::float_slice(embedding.clone(), &[range(0, n), range(first, first + o.outputs)]);
            B::float_reshape(part, Shape::new([n, o.outputs, 1, 1]))
        };
        let h = norm(h, 1, Slot::Norm1Weight, Slot::Norm1Bias, false);
        let h =
            B::float_add(B::float_mul(h, B::float_add_scalar(part(0), 1.into())), part(o.outputs));
        B::float_mul(h.clone(), B::sigmoid(h))
    } else {
        let shift = B::float_reshape(embedding, Shape::new([n, o.outputs, 1, 1]));
        norm(B::float_add(h, shift), 1, Slot::Norm1Weight, Slot::Norm1Bias, true)
    };
    let h = match o.dropout {
        Some(dropout) => {
            let [height, width] = o.result_size();
            let factors = factors(dropout, n, o.outputs, height * width);
            let factors = TensorData::new(factors, [n, o.outputs, height, width]);
            let device = h.device();
            B::float_mul(h, B::float_from_data(factors, &device))
        }
        None => h,
    };
    let h = conv(h, Slot::Conv1Weight, Slot::Conv1Bias);
    let skip = resized::<B>(x, o);
    let skip = if o.skip { conv(skip, Slot::SkipWeight, Slot::SkipBias) } else { skip };
    let sum = |a, b| {
        let sum = B::float_add(a, b);
        if o.scale == 1.0 { sum } else { B::float_mul_scalar(sum, o.scale.into()) }
    };
    let h = sum(h, skip);
    if o.heads == 0 {
        return h;
    }
    let queries = norm(h.clone(), 2, Slot::Norm2Weight, Slot::Norm2Bias, false);
    let attended = attention::<B>(conv(queries, Slot::QkvWeight, Slot::QkvBias), o);
    sum(conv(attended, Slot::ProjWeight, Slot::ProjBias), h)
}

fn resized<B: KernelOps>(x: FloatTensor<B>, o: &BlockOptions) -> FloatTensor<B> {
    let gain = match o.resize {
        Resize::Keep => return x,
        Resize::Down => 1.0,
        Resize::Up => 4.0,
    };
    let (c, k) = (x.shape()[1], o.taps.len());
    let one: Vec<f32> =
        o.taps.iter().flat_map(|a| o.taps.iter().map(move |b| gain * a * b)).collect();
    let weight = B::float_from_data(TensorData::new(one.repeat(c), [c, 1, k, k]), &x.device());
    let padding = [(k - 1) / 2; 2];
    if o.resize == Resize::Down {
        B::conv2d(x, weight, None, ConvOptions::new([2, 2], padding, [1, 1], c))
    } else {
        B::conv_transpose2d(
            x,
            weight,
            None,
            ConvTransposeOptions::new([2, 2], padding, [0, 0], [1, 1], c),
        )
    }
}

/// `[N, 3C, H, W]`, channels read as (head, channel, [q, k, v]) -> `[N, C, H, W]`.
fn attention<B: KernelOps>(qkv: FloatTensor<B>, o: &BlockOptions) -> FloatTensor<B> {
    let [n, _, height, width] = qkv.shape().dims();
    let (depth, pixels) = (o.outputs / o.heads, height * width);
    let qkv = B::float_reshape(qkv, Shape::new([n * o.heads, depth, 3, pixels]));
    let part = |i: usize| {
        let range = |a: usize, b: usize| burn::tensor::Slice::new(a as isize, Some(b as isize), 1);
        let ranges = [range(0, n * o.heads), range(0, depth), range(i, i + 1), range(0, pixels)];
        B::float_reshape(
            B::float_slice(qkv.clone(), &ranges),
            Shape::new([n * o.heads, depth, pixels]),
        )
    };
    let queries = B::float_mul_scalar(part(0), (1.0 / (depth as f64).sqrt()).into());
    let weights = B::softmax(B::float_matmul(B::float_swap_dims(queries, 1, 2), part(1)), 2);
    let mixed = B::float_matmul(part(2), B::float_swap_dims(weights, 1, 2));
    B::float_reshape(mixed, Shape::new([n, o.outputs, height, width]))
}
