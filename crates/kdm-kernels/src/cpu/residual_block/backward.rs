//! The gradients of a residual block.

use rayon::prelude::*;

use super::Tensors;
use super::steps::{Steps, sorted_qkv, unsorted_qkv};
use crate::cpu::buffer_pool::scratch;
use crate::cpu::conv::{Conv, Kernel, Use, weight_gradient_of_maps as weight_gradient};
use crate::cpu::memory::zeros;
use crate::cpu::nhwc::{Frame, channel_sums, image_sums};
use crate::ops::layout::padded;
use crate::ops::resample::Resize;
use crate::ops::residual_block::{
    BlockOptions, SLOTS,
    Slot::{self, *},
};

/// The gradients of a block's tensors, in their order; empty for those it doesn't have. `grad` is
/// that of the result.
pub(super) fn gradients(
    options: &BlockOptions,
    tensors: &Tensors,
    hidden: &[f32],
    mixed: &[f32],
    grad: &[f32],
    count: usize,
) -> [Vec<f32>; SLOTS] {
    let o = options;
    let of = |slot: Slot| tensors[slot as usize];
    let norms = [Norm0Weight, Norm0Bias, Norm1Weight, Norm1Bias, Norm2Weight, Norm2Bias].map(of);
    let steps = Steps::new(o, count, &norms);
    let [height, w] = o.result_size();
    let (pixels, c, inputs) = (steps.pixels, o.outputs, o.channels());
    let (width, input_width) = (padded(c), padded(inputs));
    let kernel = |slot: Slot, inputs: usize, side: usize, scale: f32| Kernel {
        values: of(slot),
        outputs: c,
        inputs,
        side,
        scale,
    };
    let scaled = |mut values: Vec<f32>| {
        values.iter_mut().for_each(|x| *x *= o.scale);
        values
    };
    let sums = |maps: &[f32], width: usize, channels: usize| {
        image_sums(&channel_sums(maps, pixels, width), width, channels)
    };
    let mut all: [Vec<f32>; SLOTS] = std::array::from_fn(|_| Vec::new());

    // The attention.
    let mut before_attention = None;
    if o.heads > 0 {
        let values = sorted_qkv(of(QkvWeight), c, c);
        let qkv_kernel =
            Kernel { values: &values, outputs: 3 * width, inputs: c, side: 1, scale: 1.0 };
        let qkv = Conv::new(qkv_kernel, Some(&sorted_qkv(of(QkvBias), c, 1)), height, w, Use::Many);
        let weights = steps.third_weights();
        let norm = steps.third_norm(&weights);
        let found = norm.statistics(mixed);
        let (normed, queries) = steps.queries(mixed, &norm, &found, &qkv);
        let mut attended = scratch(count * pixels * width);
        steps.attention().forward(&queries, &mut attended);
        all[ProjWeight as usize] = weight_gradient(&attended, c, o.frame(1), grad, c, o.scale);
        all[ProjBias as usize] = scaled(sums(grad, width, c));
        let mut to_attended = attended;
        Conv::turned(kernel(ProjWeight, c, 1, o.scale), height, w).run(
            grad,
            None,
            &mut to_attended,
        );
        let mut to_queries = scratch(3 * count * pixels * width);
        steps.attention().backward(&queries, &to_attended, &mut to_queries);
        drop(queries);
        let to_weight = weight_gradient(&normed, c, o.frame(1), &to_queries, 3 * width, 1.0);
        all[QkvWeight as usize] = unsorted_qkv(&to_weight, c, c);
        all[QkvBias as usize] = unsorted_qkv(&sums(&to_queries, 3 * width, 3 * width), c, 1);
        let mut to_normed = normed;
        Conv::turned(qkv_kernel, height, w).run(&to_queries, None, &mut to_normed);
        let mut to_mixed = scratch(count * pixels * width);
        let grads =
            norm.backward(mixed, &found, &mut to_normed, Some((grad, o.scale)), &mut to_mixed);
        all[Norm2Weight as usize] = image_sums(&grads.scale, width, c);
        all[Norm2Bias as usize] = image_sums(&grads.bias, width, c);
        before_attention = Some(to_mixed);
    }
    let grad = before_attention.as_deref().unwrap_or(grad);

    // The second convolution and what goes into it.
    let second = steps.second_weights(of(Embedding));
    let norm = steps.second_norm(&second);
    let found = norm.statistics(hidden);
    let frames = steps.second(hidden, &norm, &found);
    all[Conv1Weight as usize] = weight_gradient(&frames, c, o.frame(3), grad, c, o.scale);
    all[Conv1Bias as usize] = scaled(sums(grad, width, c));
    drop(frames);
    let mut framed = scratch(count * o.frame(3).pixels() * width);
    frame_maps(grad, o.frame(3), width, &mut framed);
    let mut to_second = scratch(count * pixels * width);
    Conv::turned(kernel(Conv1Weight, c, 3, o.scale), height, w).run(&framed, None, &mut to_second);
    let mut to_hidden = scratch(count * pixels * width);
    let grads = norm.backward(hidden, &found, &mut to_second, None, &mut to_hidden);
    drop(to_second);
    let rows = |values: &[f32]| -> Vec<f32> {
        values.chunks_exact(width).flat_map(|row| row[..c].iter().copied()).collect()
    };
    if o.adaptive {
        // scale' = w (1 + s), shift' = b (1 + s) + t
        let (to_scale, to_shift) = (rows(&grads.scale), rows(&grads.bias));
        let mut to_embedding = Vec::with_capacity(count * 2 * c);
        let (mut to_weight, mut to_bias) = (vec![0.0f32; c], vec![0.0f32; c]);
        for (image, embedding) in of(Embedding).chunks_exact(2 * c).enumerate() {
            let (a, b) = (&to_scale[image * c..][..c], &to_shift[image * c..][..c]);
            for k in 0..c {
                to_weight[k] += a[k] * (1.0 + embedding[k]);
                to_bias[k] += b[k] * (1.0 + embedding[k]);
            }
            to_embedding.extend((0..c).map(|k| a[k] * norms[2][k] + b[k] * norms[3][k]));
            to_embedding.extend_from_slice(b);
        }
        all[Embedding as usize] = to_embedding;
        (all[Norm1Weight as usize], all[Norm1Bias as usize]) = (to_weight, to_bias);
    } else {
        all[Embedding as usize] = rows(&grads.shift);
        all[Norm1Weight as usize] = image_sums(&grads.scale, width, c);
        all[Norm1Bias as usize] = image_sums(&grads.bias, width, c);
    }

    // The first convolution and what goes into it.
    let concatenated = o.concatenated(tensors, count);
    let x = concatenated.as_deref().unwrap_or(of(X));
    let norm = steps.first_norm();
    let found = norm.statistics(x);
    let frames = steps.first(x, &norm, &found);
    all[Conv0Weight as usize] = weight_gradient(&frames, inputs, o.frame(3), &to_hidden, c, 1.0);
    all[Conv0Bias as usize] = sums(&to_hidden, width, c);
    drop(frames);
    frame_maps(&to_hidden, o.frame(3), width, &mut framed);
    drop(to_hidden);
    let mut to_first = scratch(count * pixels * input_width);
    Conv::turned(kernel(Conv0Weight, inputs, 3, 1.0), height, w).run(&framed, None, &mut to_first);
    drop(framed);

    // The skip path.
    let resized = steps.resized(x);
    let skip = resized.as_deref().unwrap_or(x);
    let mut to_skip = None;
    if o.skip {
        all[SkipWeight as usize] = weight_gradient(skip, inputs, o.frame(1), grad, c, o.scale);
        all[SkipBias as usize] = all[Conv1Bias as usize].clone();
        let mut maps = scratch(count * pixels * input_width);
        Conv::turned(kernel(SkipWeight, inputs, 1, o.scale), height, w).run(grad, None, &mut maps);
        to_skip = Some(maps);
    }
    drop(resized);
    let (to_skip, factor) = match &to_skip {
        Some(maps) => (&maps[..], 1.0),
        None => (grad, o.scale),
    };

    // Back to the input's size, through the first norm, and apart.
    let back = |maps: &[f32]| {
        let mut out = scratch(x.len());
        o.resized_back(input_width, maps, &mut out);
        out
    };
    let resized = (o.resize != Resize::Keep).then(|| (back(&to_first), back(to_skip)));
    let (mut to_first, more) = match resized {
        Some((to_first, to_skip)) => (to_first, Some(to_skip)),
        None => (to_first, None),
    };
    let more = more.as_deref().unwrap_or(to_skip);
    let mut to_x = zeros(x.len());
    let grads = norm.backward(x, &found, &mut to_first, Some((more, factor)), &mut to_x);
    all[Norm0Weight as usize] = image_sums(&grads.scale, input_width, inputs);
    all[Norm0Bias as usize] = image_sums(&grads.bias, input_width, inputs);
    if concatenated.is_some() {
        let [a, b] = o.inputs;
        all[X as usize] = channels_of(&to_x, input_width, 0, a);
        all[SkipConnection as usize] = channels_of(&to_x, input_width, a, b);
    } else {
        all[X as usize] = to_x;
    }
    all
}

/// Maps in frames of zeros.
fn frame_maps(maps: &[f32], frame: Frame, width: usize, out: &mut [f32]) {
    let row = frame.width * width;
    let images = out.par_chunks_exact_mut(frame.pixels() * width);
    images.zip(maps.par_chunks_exact(frame.height * row)).for_each(|(out, map)| {
        frame.clear_border(width, out);
        for (y, map) in map.chunks_exact(row).enumerate() {
            out[frame.at(y, 0) * width..][..row].copy_from_slice(map);
        }
    });
}

/// Some channels of maps, as maps.
fn channels_of(maps: &[f32], width: usize, first: usize, channels: usize) -> Vec<f32> {
    let to = padded(channels);
    let mut out = zeros(maps.len() / width * to);
    out.par_chunks_mut(64 * to).zip(maps.par_chunks(64 * width)).for_each(|(out, maps)| {
        for (out, map) in out.chunks_exact_mut(to).zip(maps.chunks_exact(width)) {
            out[..channels].copy_from_slice(&map[first..first + channels]);
        }
    });
    out
}
