//! The steps that the forward and the backward pass share.

use rayon::prelude::*;

use super::Tensors;
use crate::cpu::attention::Attention;
use crate::cpu::buffer_pool::{Scratch, scratch};
use crate::cpu::conv::Conv;
use crate::cpu::nhwc::Frame;
use crate::cpu::nhwc_norm::{MapNorm, Statistics};
use crate::cpu::resample::Resampling;
use crate::ops::layout::padded;
use crate::ops::resample::Resize;
use crate::ops::residual_block::{BlockOptions, Slot};

/// Sizes of a block's images, and the ways between them.
impl BlockOptions {
    fn resampling(&self, width: usize) -> Resampling<'_> {
        let (large, small) = match self.resize {
            Resize::Up => (self.result_size(), self.size),
            _ => (self.size, self.result_size()),
        };
        Resampling { taps: &self.taps, large, small, width }
    }

    /// Maps to frames of the result's size, with `width` padded channels.
    pub(super) fn resized(&self, width: usize, maps: &[f32], frame: Frame, out: &mut [f32]) {
        let resampling = self.resampling(width);
        match self.resize {
            Resize::Keep => unreachable!("the size is kept"),
            Resize::Down => resampling.down(self.resize.gain(), maps, frame, out),
            Resize::Up => resampling.up(self.resize.gain(), maps, frame, out),
        }
    }

    /// The gradient of [`Self::resized`], from maps to maps.
    pub(super) fn resized_back(&self, width: usize, maps: &[f32], out: &mut [f32]) {
        let (resampling, frame) = (self.resampling(width), self.input_frame());
        match self.resize {
            Resize::Keep => unreachable!("the size is kept"),
            Resize::Down => resampling.up(self.resize.gain(), maps, frame, out),
            Resize::Up => resampling.down(self.resize.gain(), maps, frame, out),
        }
    }

    pub(super) fn frame(&self, kernel: usize) -> Frame {
        let [height, width] = self.result_size();
        Frame { height, width, kernel }
    }

    fn input_frame(&self) -> Frame {
        Frame { height: self.size[0], width: self.size[1], kernel: 1 }
    }

    /// Input and skip connection, concatenated: `[count, pixels, padded channels]`; none without a
    /// skip connection.
    pub(super) fn concatenated(&self, tensors: &Tensors, count: usize) -> Option<Scratch> {
        let [a, b] = self.inputs;
        if b == 0 {
            return None;
        }
        let (from_a, from_b, to) = (padded(a), padded(b), padded(a + b));
        let mut all = scratch(count * self.size[0] * self.size[1] * to);
        let rows =
            all.par_chunks_mut(64 * to).zip(tensors[Slot::X as usize].par_chunks(64 * from_a));
        rows.zip(tensors[Slot::SkipConnection as usize].par_chunks(64 * from_b)).for_each(
            |((all, x), y)| {
                for ((all, x), y) in
                    all.chunks_exact_mut(to).zip(x.chunks_exact(from_a)).zip(y.chunks_exact(from_b))
                {
                    all[..a].copy_from_slice(&x[..a]);
                    all[a..a + b].copy_from_slice(&y[..b]);
                    all[a + b..].fill(0.0);
                }
            },
        );
        Some(all)
    }
}

/// Scale, bias and shift of a norm, for each image.
#[derive(Debug)]
pub(super) struct NormWeights {
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

/// Queries' weights first, then keys', then values', each padded: rows of `[3 padded, inputs]`.
pub(super) fn sorted_qkv(values: &[f32], channels: usize, row: usize) -> Vec<f32> {
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
pub(super) fn unsorted_qkv(sorted: &[f32], channels: usize, row: usize) -> Vec<f32> {
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

/// The steps that the forward and the backward pass share.
pub(super) struct Steps<'a> {
    options: &'a BlockOptions,
    count: usize,
    /// Of the result.
    pub pixels: usize,
    pub norms: [&'a [f32]; 6],
    first: NormWeights,
}

impl<'a> Steps<'a> {
    pub(super) fn new(
        options: &'a BlockOptions,
        count: usize,
        norms: &'a [impl AsRef<[f32]>; 6],
    ) -> Self {
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

    pub(super) fn first_norm(&self) -> MapNorm<'_> {
        self.norm(self.options.size, self.options.channels(), 0, &self.first)
    }

    /// The frames that the first convolution sees.
    pub(super) fn first(&self, x: &[f32], norm: &MapNorm, found: &Statistics) -> Scratch {
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

    pub(super) fn second_weights(&self, embedding: &[f32]) -> NormWeights {
        NormWeights::embedded(
            self.norms[2],
            self.norms[3],
            embedding,
            self.options.adaptive,
            self.count,
        )
    }

    pub(super) fn second_norm<'b>(&self, weights: &'b NormWeights) -> MapNorm<'b> {
        let norm = self.norm(self.options.result_size(), self.options.outputs, 1, weights);
        MapNorm { dropout: self.options.dropout, ..norm }
    }

    /// The frames that the second convolution sees.
    pub(super) fn second(&self, hidden: &[f32], norm: &MapNorm, found: &Statistics) -> Scratch {
        let frame = self.options.frame(3);
        let mut frames = scratch(self.count * frame.pixels() * padded(self.options.outputs));
        norm.forward(hidden, found, frame, &mut frames);
        frames
    }

    /// The skip path's input at the result's size; none when it is the input itself.
    pub(super) fn resized(&self, x: &[f32]) -> Option<Scratch> {
        let o = self.options;
        (o.resize != Resize::Keep).then(|| {
            let width = padded(o.channels());
            let mut maps = scratch(self.count * self.pixels * width);
            o.resized(width, x, o.frame(1), &mut maps);
            maps
        })
    }

    pub(super) fn third_weights(&self) -> NormWeights {
        NormWeights::plain(self.norms[4], self.norms[5], self.count)
    }

    pub(super) fn third_norm<'b>(&self, weights: &'b NormWeights) -> MapNorm<'b> {
        let norm = self.norm(self.options.result_size(), self.options.outputs, 2, weights);
        MapNorm { silu: false, ..norm }
    }

    /// What queries, keys and values are made of, and these.
    pub(super) fn queries(
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

    pub(super) fn attention(&self) -> Attention {
        Attention { pixels: self.pixels, channels: self.options.outputs, heads: self.options.heads }
    }
}
