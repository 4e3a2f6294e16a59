//! The gradient of a convolution's weights: through tiles on larger images, else the plain sums.

use rayon::prelude::*;

use super::tiles::Tiles;
use crate::cpu::buffer_pool::scratch;
use crate::cpu::gemm::{BLOCK, Lanes, Outer};
use crate::cpu::memory::zeros;
use crate::cpu::nhwc::Frame;
use crate::cpu::simd::{dispatch, vectorised};
use crate::cpu::winograd::{GradientTransform, InputTransform, PRODUCTS, Planes, kernel_gradient};
use crate::ops::layout::padded;

/// Input channels whose weights' gradients a task sums.
const TASK_CHANNELS: usize = 32;
/// Tiles that go into such a sum at a time.
const SUM_TILES: usize = 32;

/// Pixels of an image from which on weights' gradients are taken through tiles. With fewer, adding
/// to the four times larger sums costs more than the multiplications saved.
const WINOGRAD_SUM_PIXELS: usize = 256;
/// Pixels that go into a plain sum at a time, at least.
const SUM_PIXELS: usize = 256;

/// The gradient of a convolution's weights, `[outputs, inputs, side, side]`, times `scale`, from
/// frames of the input and maps of the result's gradient.
pub(crate) fn weight_gradient_of_maps(
    frames: &[f32],
    inputs: usize,
    frame: Frame,
    grads: &[f32],
    outputs: usize,
    scale: f32,
) -> Vec<f32> {
    let (depth, width, area) = (padded(inputs), padded(outputs), frame.kernel * frame.kernel);
    let count = frames.len() / (frame.pixels() * depth);
    let winograd = frame.kernel == 3 && frame.height * frame.width >= WINOGRAD_SUM_PIXELS;
    let planes = if winograd { PRODUCTS } else { area };
    // For every input: planes by outputs.
    let mut sums = scratch(depth * planes * width);
    let task =
        TASK_CHANNELS.min(depth.div_ceil(rayon::current_num_threads()).next_multiple_of(BLOCK));
    sums.par_chunks_mut(task * planes * width).enumerate().for_each(|(i, sums)| {
        sums.fill(0.0);
        let channels = sums.len() / (planes * width);
        let part = Part { frames, frame, count, depth, first: i * task, channels, grads, width };
        if winograd { part.winograd(sums) } else { part.direct(sums) }
    });
    let mut all = zeros(outputs * inputs * area);
    // A block of outputs at a time: its rows of (input, tap) by outputs, then turned around.
    let rows = inputs * area;
    all.par_chunks_mut(BLOCK * rows).enumerate().for_each(|(block, all)| {
        let mut taps = scratch(rows * BLOCK);
        vectorised(
            #[inline(always)]
            || {
                let of = |i: usize, p: usize| -> &Lanes {
                    &sums[(i * planes + p) * width + block * BLOCK..].as_chunks::<BLOCK>().0[0]
                };
                for (i, taps) in taps.as_chunks_mut::<BLOCK>().0.chunks_exact_mut(area).enumerate()
                {
                    if winograd {
                        taps.copy_from_slice(&kernel_gradient(&std::array::from_fn(|p| *of(i, p))));
                    } else {
                        (0..area).for_each(|t| taps[t] = *of(i, t));
                    }
                }
                for (first, taps) in taps.as_chunks::<BLOCK>().0.chunks(BLOCK).enumerate() {
                    for (o, all) in all.chunks_exact_mut(rows).enumerate() {
                        let all = &mut all[first * BLOCK..][..taps.len()];
                        all.iter_mut().zip(taps).for_each(|(all, tap)| *all = scale * tap[o]);
                    }
                }
            },
        );
    });
    all
}

/// Some input channels' share of the weights' gradient.
struct Part<'a> {
    frames: &'a [f32],
    frame: Frame,
    count: usize,
    depth: usize,
    first: usize,
    channels: usize,
    grads: &'a [f32],
    width: usize,
}

impl Part<'_> {
    fn direct(&self, sums: &mut [f32]) {
        let Self { frame, depth, width, .. } = *self;
        let (pixels, area) = (frame.height * frame.width, frame.kernel * frame.kernel);
        // Some images at a time, so that sums are taken over many pixels and stay in the cache's
        // reach.
        let some = SUM_PIXELS.div_ceil(pixels).min(self.count);
        let x_at: Vec<usize> = (0..some * pixels).map(|p| frame.seen_by(p) * depth).collect();
        let g_at: Vec<usize> = (0..some * pixels).map(|p| p * width).collect();
        for image in (0..self.count).step_by(some) {
            let points = some.min(self.count - image) * pixels;
            let (x_at, g_at) = (&x_at[..points], &g_at[..points]);
            let grads = &self.grads[image * pixels * width..];
            let frames = &self.frames[image * frame.pixels() * depth..];
            for (tap, start) in frame.taps().enumerate() {
                Outer {
                    x: &frames[start * depth + self.first..],
                    x_at,
                    x_width: self.channels,
                    g: grads,
                    g_at,
                    g_width: width,
                    c: &mut sums[tap * width..],
                    stride: area * width,
                }
                .run();
            }
        }
    }

    fn winograd(&self, sums: &mut [f32]) {
        let Self { frame, depth, width, channels, .. } = *self;
        let tiles = Tiles::new(frame);
        let total = self.count * tiles.rows;
        let some = SUM_TILES.div_ceil(tiles.columns).min(total);
        let (from, to) =
            (Planes::new(channels, some * tiles.columns), Planes::new(width, some * tiles.columns));
        let (mut x, mut g) = (scratch(from.size()), scratch(to.size()));
        for row in (0..total).step_by(some) {
            let rows = row..(row + some).min(total);
            let starts: Vec<usize> =
                tiles.starts(rows.clone(), depth).iter().map(|at| at + self.first).collect();
            let places = tiles.places(rows, width, 0);
            let (frames, grads) = (self.frames, self.grads);
            dispatch(InputTransform {
                frames,
                tiles: &starts,
                row: frame.row() * depth,
                pixel: depth,
                planes: from,
                out: &mut x,
            });
            dispatch(GradientTransform {
                grads,
                places: &places,
                row: frame.width * width,
                planes: to,
                out: &mut g,
            });
            let x_at: Vec<usize> = (0..starts.len()).map(|t| t * channels).collect();
            let g_at: Vec<usize> = (0..starts.len()).map(|t| t * width).collect();
            for p in 0..PRODUCTS {
                Outer {
                    x: &x[p * from.plane..],
                    x_at: &x_at,
                    x_width: channels,
                    g: &g[p * to.plane..],
                    g_at: &g_at,
                    g_width: width,
                    c: &mut sums[p * width..],
                    stride: PRODUCTS * width,
                }
                .run();
            }
        }
    }
}
