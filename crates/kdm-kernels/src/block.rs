//! The residual block of U-Nets as one operation: norm, SiLU, resampling, convolution, norm with
//! the time's shift, SiLU, dropout, convolution, the skip path, and self-attention.
//!
//! On the CPU images are maps (channel-last) between blocks, so that no block turns them around; a
//! forward pass for training keeps what came out of the first convolution and, with attention, of
//! the second; everything else is computed anew in the backward pass: memory is dearer than these
//! loops. Elsewhere a block is the plain operations of [`plain`], on `[N, C, H, W]`.

use rayon::prelude::*;

use crate::attention::Attention;
use crate::conv::{Conv, Kernel, Use, weight_gradient};
use crate::dropout::Dropout;
use crate::map_norm::{MapNorm, Statistics};
use crate::maps::{Frame, channel_sums, image_sums, padded};
use crate::memory::zeros;
use crate::resample::Resampling;
use crate::scratch::{Scratch, scratch};

pub(crate) mod ops;
mod plain;

/// How images lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[N, C, H, W]`.
    Planes,
    /// `[N, H, W, C]`, channels padded to a multiple of 16.
    Maps,
}

/// What a block does to an image's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// Keeps it.
    Keep,
    /// Halves it.
    Down,
    /// Doubles it.
    Up,
}

/// All of a residual block but its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockOptions {
    /// How its images lie.
    pub layout: Layout,
    /// Height and width of the input.
    pub size: [usize; 2],
    /// Channels of the input, and of what is joined to it (0 for nothing).
    pub inputs: [usize; 2],
    /// Channels of the result.
    pub outputs: usize,
    /// Resampling.
    pub resize: Resize,
    /// The resampling filter's taps, an even number of them with sum 1.
    pub taps: Vec<f32>,
    /// Groups of the norms before the first convolution, the second, and the attention.
    pub groups: [usize; 3],
    /// Of the norms.
    pub epsilon: f64,
    /// Factor of the sum of the two paths, and of that with the attention.
    pub scale: f32,
    /// Whether the embedding gives a scale and a shift after the second norm, instead of a shift
    /// before it.
    pub adaptive: bool,
    /// Whether the skip path has a convolution.
    pub skip: bool,
    /// Heads of the self-attention; 0 for none.
    pub heads: usize,
    /// Before the second convolution.
    pub dropout: Option<Dropout>,
}

/// The tensors of a block, in the order of [`Slot`]; those it doesn't have are there and not read.
pub(crate) const SLOTS: usize = 19;

/// Places of a block's tensors.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slot {
    X,
    Joined,
    Embedding,
    Norm0Weight,
    Norm0Bias,
    Conv0Weight,
    Conv0Bias,
    Norm1Weight,
    Norm1Bias,
    Conv1Weight,
    Conv1Bias,
    SkipWeight,
    SkipBias,
    Norm2Weight,
    Norm2Bias,
    QkvWeight,
    QkvBias,
    ProjWeight,
    ProjBias,
}

use Slot::*;

/// The tensors as numbers.
pub(crate) type Tensors<'a> = [&'a [f32]; SLOTS];

impl BlockOptions {
    /// Height and width of the result.
    pub fn result_size(&self) -> [usize; 2] {
        let small = |side: usize| {
            let padding = (self.taps.len().max(1) - 1) / 2;
            (side + 2 * padding).saturating_sub(self.taps.len()) / 2 + 1
        };
        match self.resize {
            Resize::Keep => self.size,
            Resize::Down => self.size.map(small),
            Resize::Up => self.size.map(|side| 2 * side),
        }
    }

    fn channels(&self) -> usize {
        self.inputs[0] + self.inputs[1]
    }

    fn resampling(&self, width: usize) -> Resampling<'_> {
        let (large, small) = match self.resize {
            Resize::Up => (self.result_size(), self.size),
            _ => (self.size, self.result_size()),
        };
        Resampling { taps: &self.taps, large, small, width }
    }

    /// Maps to frames of the result's size, with `width` padded channels.
    fn resized(&self, width: usize, maps: &[f32], frame: Frame, out: &mut [f32]) {
        let resampling = self.resampling(width);
        match self.resize {
            Resize::Keep => unreachable!("the size is kept"),
            Resize::Down => resampling.down(1.0, maps, frame, out),
            Resize::Up => resampling.up(4.0, maps, frame, out),
        }
    }

    /// The gradient of [`Self::resized`], from maps to maps.
    fn resized_back(&self, width: usize, maps: &[f32], out: &mut [f32]) {
        let (resampling, frame) = (self.resampling(width), self.input_frame());
        match self.resize {
            Resize::Keep => unreachable!("the size is kept"),
            Resize::Down => resampling.up(1.0, maps, frame, out),
            Resize::Up => resampling.down(4.0, maps, frame, out),
        }
    }

    fn frame(&self, kernel: usize) -> Frame {
        let [height, width] = self.result_size();
        Frame { height, width, kernel }
    }

    fn input_frame(&self) -> Frame {
        Frame { height: self.size[0], width: self.size[1], kernel: 1 }
    }

    /// The inputs joined: `[count, pixels, padded channels]`; none when there is nothing to join.
    fn joined(&self, tensors: &Tensors, count: usize) -> Option<Scratch> {
        let [a, b] = self.inputs;
        if b == 0 {
            return None;
        }
        let (from_a, from_b, to) = (padded(a), padded(b), padded(a + b));
        let mut all = scratch(count * self.size[0] * self.size[1] * to);
        let rows = all.par_chunks_mut(64 * to).zip(tensors[X as usize].par_chunks(64 * from_a));
        rows.zip(tensors[Joined as usize].par_chunks(64 * from_b)).for_each(|((all, x), y)| {
            for ((all, x), y) in
                all.chunks_exact_mut(to).zip(x.chunks_exact(from_a)).zip(y.chunks_exact(from_b))
            {
                all[..a].copy_from_slice(&x[..a]);
                all[a..a + b].copy_from_slice(&y[..b]);
                all[a + b..].fill(0.0);
            }
        });
        Some(all)
    }
}

/// Scale, bias and shift of a norm, for each image.
#[derive(Debug)]
struct NormWeights {
    scale: Vec<f32>,
    bias: Vec<f32>,
    shift: Option<Vec<f32>>,
}

impl NormWeights {
    fn plain(weight: &[f32], bias: &[f32], count: usize) -> Self {
        Self { scale: weight.repeat(count), bias: bias.repeat(count), shift: None }
    }

    /// With the embedding's numbers: `[count, C]` before the norm, or `[count, 2 C]`, scale and
    /// shift after it.
    fn embedded(
        weight: &[f32],
        bias: &[f32],
        embedding: &[f32],
        adaptive: bool,
        count: usize,
    ) -> Self {
        if !adaptive {
            return Self { shift: Some(embedding.to_vec()), ..Self::plain(weight, bias, count) };
        }
        let c = weight.len();
        let (mut scale, mut shift) = (Vec::with_capacity(count * c), Vec::with_capacity(count * c));
        for row in embedding.chunks_exact(2 * c) {
            scale.extend(weight.iter().zip(row).map(|(w, s)| w * (s + 1.0)));
            shift.extend(bias.iter().zip(row).zip(&row[c..]).map(|((b, s), t)| b * (s + 1.0) + t));
        }
        Self { scale, bias: shift, shift: None }
    }
}

/// The convolutions of a block, packed.
#[derive(Debug)]
struct Convs {
    conv0: Conv,
    conv1: Conv,
    skip: Option<Conv>,
    attention: Option<(Conv, Conv)>,
}

/// Queries' weights first, then keys', then values', each padded: rows of `[3 padded, inputs]`.
fn sorted_qkv(values: &[f32], channels: usize, row: usize) -> Vec<f32> {
    let width = padded(channels);
    let mut sorted = vec![0.0; 3 * width * row];
    for c in 0..channels {
        for part in 0..3 {
            sorted[(part * width + c) * row..][..row]
                .copy_from_slice(&values[(c * 3 + part) * row..][..row]);
        }
    }
    sorted
}

/// The inverse of [`sorted_qkv`].
fn unsorted_qkv(sorted: &[f32], channels: usize, row: usize) -> Vec<f32> {
    let width = padded(channels);
    let mut values = vec![0.0; 3 * channels * row];
    for c in 0..channels {
        for part in 0..3 {
            values[(c * 3 + part) * row..][..row]
                .copy_from_slice(&sorted[(part * width + c) * row..][..row]);
        }
    }
    values
}

/// A block on maps, for any number of images.
#[derive(Debug)]
pub(crate) struct Block {
    options: BlockOptions,
    convs: Convs,
    /// The norms' weights and biases.
    norms: [Vec<f32>; 6],
}

/// Where a forward pass writes: maps of the result's size.
#[derive(Debug)]
pub(crate) struct Passed<'a> {
    /// The result.
    pub y: &'a mut [f32],
    /// What comes out of the first convolution.
    pub hidden: &'a mut [f32],
    /// What goes into the attention; empty without one.
    pub mixed: &'a mut [f32],
}

impl Block {
    /// Packs a block's weights.
    pub fn new(options: &BlockOptions, tensors: &Tensors, usage: Use) -> Self {
        let [height, width] = options.result_size();
        let (c, inputs) = (options.outputs, options.channels());
        let of = |slot: Slot| tensors[slot as usize];
        let conv = |slot: Slot, bias: &[f32], inputs: usize, side: usize, scale: f32| {
            let kernel = Kernel { values: of(slot), outputs: c, inputs, side, scale };
            Conv::new(kernel, Some(bias), height, width, usage)
        };
        let attention = (options.heads > 0).then(|| {
            let values = sorted_qkv(of(QkvWeight), c, c);
            let kernel =
                Kernel { values: &values, outputs: 3 * padded(c), inputs: c, side: 1, scale: 1.0 };
            let qkv = Conv::new(kernel, Some(&sorted_qkv(of(QkvBias), c, 1)), height, width, usage);
            (qkv, conv(ProjWeight, of(ProjBias), c, 1, options.scale))
        });
        let convs = Convs {
            conv0: conv(Conv0Weight, of(Conv0Bias), inputs, 3, 1.0),
            conv1: conv(Conv1Weight, of(Conv1Bias), c, 3, options.scale),
            skip: options.skip.then(|| conv(SkipWeight, of(SkipBias), inputs, 1, options.scale)),
            attention,
        };
        let norms = [Norm0Weight, Norm0Bias, Norm1Weight, Norm1Bias, Norm2Weight, Norm2Bias];
        Self { options: options.clone(), convs, norms: norms.map(|slot| of(slot).to_vec()) }
    }

    /// What it is.
    pub fn options(&self) -> &BlockOptions {
        &self.options
    }

    /// Computes `count` images; of `tensors` the images and the embedding are read.
    pub fn run(&self, tensors: &Tensors, count: usize, passed: Passed) {
        let Passed { y, hidden, mixed } = passed;
        let o = &self.options;
        let parts = Parts::new(o, count, &self.norms);
        let joined = o.joined(tensors, count);
        let x = joined.as_deref().unwrap_or(tensors[X as usize]);
        let pixels = parts.pixels;
        let width = padded(o.outputs);

        let norm = parts.first_norm();
        let frames = parts.first(x, &norm, &norm.statistics(x));
        self.convs.conv0.run(&frames, None, hidden);
        drop(frames);

        let second = parts.second_weights(tensors[Embedding as usize]);
        let norm = parts.second_norm(&second);
        let found = norm.statistics(hidden);
        let frames = parts.second(hidden, &norm, &found);

        let resized = parts.resized(x);
        let skip = resized.as_deref().unwrap_or(x);
        let convolved = self.convs.skip.as_ref().map(|conv| {
            let mut out = scratch(count * pixels * width);
            conv.run(skip, None, &mut out);
            out
        });
        let more = match &convolved {
            Some(convolved) => (&convolved[..], 1.0),
            None => (skip, o.scale),
        };
        let Some((qkv, proj)) = &self.convs.attention else {
            return self.convs.conv1.run(&frames, Some(more), y);
        };
        self.convs.conv1.run(&frames, Some(more), mixed);
        let weights = parts.third_weights();
        let norm = parts.third_norm(&weights);
        let (_, queries) = parts.queries(mixed, &norm, &norm.statistics(mixed), qkv);
        let mut attended = scratch(count * pixels * width);
        parts.attention().forward(&queries, &mut attended);
        proj.run(&attended, Some((mixed, o.scale)), y);
    }
}

/// The steps that the forward and the backward pass share.
struct Parts<'a> {
    options: &'a BlockOptions,
    count: usize,
    /// Of the result.
    pixels: usize,
    norms: [&'a [f32]; 6],
    first: NormWeights,
}

impl<'a> Parts<'a> {
    fn new(options: &'a BlockOptions, count: usize, norms: &'a [impl AsRef<[f32]>; 6]) -> Self {
        let norms: [&[f32]; 6] = std::array::from_fn(|i| norms[i].as_ref());
        let [height, width] = options.result_size();
        let first = NormWeights::plain(norms[0], norms[1], count);
        Self { options, count, pixels: height * width, norms, first }
    }

    fn norm<'b>(
        &self,
        size: [usize; 2],
        channels: usize,
        group: usize,
        weights: &'b NormWeights,
    ) -> MapNorm<'b> {
        MapNorm {
            count: self.count,
            height: size[0],
            width: size[1],
            channels,
            padded: padded(channels),
            groups: self.options.groups[group],
            epsilon: self.options.epsilon,
            scale: &weights.scale,
            bias: &weights.bias,
            shift: weights.shift.as_deref(),
            silu: true,
            dropout: None,
        }
    }

    fn first_norm(&self) -> MapNorm<'_> {
        self.norm(self.options.size, self.options.channels(), 0, &self.first)
    }

    /// The frames that the first convolution sees.
    fn first(&self, x: &[f32], norm: &MapNorm, found: &Statistics) -> Scratch {
        let o = self.options;
        let width = padded(o.channels());
        let frame = o.frame(3);
        let mut frames = scratch(self.count * frame.pixels() * width);
        if o.resize == Resize::Keep {
            norm.forward(x, found, frame, &mut frames);
        } else {
            let mut maps = scratch(x.len());
            norm.forward(x, found, o.input_frame(), &mut maps);
            o.resized(width, &maps, frame, &mut frames);
        }
        frames
    }

    fn second_weights(&self, embedding: &[f32]) -> NormWeights {
        NormWeights::embedded(
            self.norms[2],
            self.norms[3],
            embedding,
            self.options.adaptive,
            self.count,
        )
    }

    fn second_norm<'b>(&self, weights: &'b NormWeights) -> MapNorm<'b> {
        let norm = self.norm(self.options.result_size(), self.options.outputs, 1, weights);
        MapNorm { dropout: self.options.dropout, ..norm }
    }

    /// The frames that the second convolution sees.
    fn second(&self, hidden: &[f32], norm: &MapNorm, found: &Statistics) -> Scratch {
        let frame = self.options.frame(3);
        let mut frames = scratch(self.count * frame.pixels() * padded(self.options.outputs));
        norm.forward(hidden, found, frame, &mut frames);
        frames
    }

    /// The skip path's input at the result's size; none when it is the input itself.
    fn resized(&self, x: &[f32]) -> Option<Scratch> {
        let o = self.options;
        (o.resize != Resize::Keep).then(|| {
            let width = padded(o.channels());
            let mut maps = scratch(self.count * self.pixels * width);
            o.resized(width, x, o.frame(1), &mut maps);
            maps
        })
    }

    fn third_weights(&self) -> NormWeights {
        NormWeights::plain(self.norms[4], self.norms[5], self.count)
    }

    fn third_norm<'b>(&self, weights: &'b NormWeights) -> MapNorm<'b> {
        let norm = self.norm(self.options.result_size(), self.options.outputs, 2, weights);
        MapNorm { silu: false, ..norm }
    }

    /// What queries, keys and values are made of, and these.
    fn queries(
        &self,
        mixed: &[f32],
        norm: &MapNorm,
        found: &Statistics,
        qkv: &Conv,
    ) -> (Scratch, Scratch) {
        let mut normed = scratch(mixed.len());
        norm.forward(mixed, found, self.options.frame(1), &mut normed);
        let mut queries = scratch(3 * mixed.len());
        qkv.run(&normed, None, &mut queries);
        (normed, queries)
    }

    fn attention(&self) -> Attention {
        Attention { pixels: self.pixels, channels: self.options.outputs, heads: self.options.heads }
    }
}

/// The gradients of a block's tensors, in their order; empty for those it doesn't have. `grad` is
/// that of the result.
pub(crate) fn backward(
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
    let parts = Parts::new(o, count, &norms);
    let [height, w] = o.result_size();
    let (pixels, c, inputs) = (parts.pixels, o.outputs, o.channels());
    let (width, joined_width) = (padded(c), padded(inputs));
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
        let weights = parts.third_weights();
        let norm = parts.third_norm(&weights);
        let found = norm.statistics(mixed);
        let (normed, queries) = parts.queries(mixed, &norm, &found, &qkv);
        let mut attended = scratch(count * pixels * width);
        parts.attention().forward(&queries, &mut attended);
        all[ProjWeight as usize] = weight_gradient(&attended, c, o.frame(1), grad, c, o.scale);
        all[ProjBias as usize] = scaled(sums(grad, width, c));
        let mut to_attended = attended;
        Conv::turned(kernel(ProjWeight, c, 1, o.scale), height, w).run(
            grad,
            None,
            &mut to_attended,
        );
        let mut to_queries = scratch(3 * count * pixels * width);
        parts.attention().backward(&queries, &to_attended, &mut to_queries);
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
    let second = parts.second_weights(of(Embedding));
    let norm = parts.second_norm(&second);
    let found = norm.statistics(hidden);
    let frames = parts.second(hidden, &norm, &found);
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
    let joined = o.joined(tensors, count);
    let x = joined.as_deref().unwrap_or(of(X));
    let norm = parts.first_norm();
    let found = norm.statistics(x);
    let frames = parts.first(x, &norm, &found);
    all[Conv0Weight as usize] = weight_gradient(&frames, inputs, o.frame(3), &to_hidden, c, 1.0);
    all[Conv0Bias as usize] = sums(&to_hidden, width, c);
    drop(frames);
    frame_maps(&to_hidden, o.frame(3), width, &mut framed);
    drop(to_hidden);
    let mut to_first = scratch(count * pixels * joined_width);
    Conv::turned(kernel(Conv0Weight, inputs, 3, 1.0), height, w).run(&framed, None, &mut to_first);
    drop(framed);

    // The skip path.
    let resized = parts.resized(x);
    let skip = resized.as_deref().unwrap_or(x);
    let mut to_skip = None;
    if o.skip {
        all[SkipWeight as usize] = weight_gradient(skip, inputs, o.frame(1), grad, c, o.scale);
        all[SkipBias as usize] = all[Conv1Bias as usize].clone();
        let mut maps = scratch(count * pixels * joined_width);
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
        o.resized_back(joined_width, maps, &mut out);
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
    all[Norm0Weight as usize] = image_sums(&grads.scale, joined_width, inputs);
    all[Norm0Bias as usize] = image_sums(&grads.bias, joined_width, inputs);
    if joined.is_some() {
        let [a, b] = o.inputs;
        all[X as usize] = channels_of(&to_x, joined_width, 0, a);
        all[Joined as usize] = channels_of(&to_x, joined_width, a, b);
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
