//! Self-attention over the pixels of maps, and its gradient. The weights of one image and head are
//! a matrix of pixels by pixels, which stays in the cache and is computed anew for the gradient.

use rayon::prelude::*;

use super::buffer_pool::scratch;
use super::gemm::{Outer, Packed, Product};
use super::simd::{exp, vectorised};
use crate::ops::layout::padded;

/// softmax(q k^T / sqrt(depth)) v of each image and head. Queries, keys and values are maps side by
/// side, `[count, pixels, 3 width]`, each of padded width.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention {
    pub pixels: usize,
    pub channels: usize,
    pub heads: usize,
}

impl Attention {
    /// Padded channels.
    fn width(self) -> usize {
        padded(self.channels)
    }

    /// Channels a head.
    fn depth(self) -> usize {
        self.channels / self.heads
    }

    /// Where queries (0), keys (1) or values (2) of a head start.
    fn start(self, part: usize, head: usize) -> usize {
        part * self.width() + head * self.depth()
    }

    /// Rows of pixels at distances of `stride`.
    fn offsets(self, first: usize, stride: usize) -> Vec<usize> {
        (0..self.pixels).map(|p| first + p * stride).collect()
    }

    /// A head's `part`, transposed: `[depth, pixels]`.
    fn turned(self, qkv: &[f32], part: usize, head: usize) -> Packed {
        Packed::from_columns(
            &qkv[self.start(part, head)..],
            3 * self.width(),
            self.depth(),
            self.pixels,
        )
    }

    /// A head's `part`: `[pixels, depth]`.
    fn packed(self, qkv: &[f32], part: usize, head: usize) -> Packed {
        Packed::from_rows(
            &qkv[self.start(part, head)..],
            3 * self.width(),
            self.pixels,
            self.depth(),
        )
    }

    /// The weights of a head's queries `rows`: `[rows, padded pixels]`.
    fn weights(self, qkv: &[f32], head: usize, keys: &Packed, rows: &[usize], out: &mut [f32]) {
        let offsets: Vec<usize> =
            rows.iter().map(|p| p * 3 * self.width() + self.start(0, head)).collect();
        let (depth, stride) = (self.depth(), padded(self.pixels));
        Product {
            a: qkv,
            offsets: &offsets,
            taps: &[0],
            depth,
            b: keys,
            matrix: 0,
            c: out,
            stride,
            add: false,
        }
        .run();
        let scale = 1.0 / (depth as f32).sqrt();
        vectorised(
            #[inline(always)]
            || out.chunks_exact_mut(stride).for_each(|row| softmax(&mut row[..self.pixels], scale)),
        );
    }

    /// `[count, pixels, 3 width]` -> `[count, pixels, width]`.
    pub fn forward(self, qkv: &[f32], out: &mut [f32]) {
        let (pixels, width, depth) = (self.pixels, self.width(), self.depth());
        let stride = padded(pixels);
        out.par_chunks_exact_mut(pixels * width)
            .zip(qkv.par_chunks_exact(pixels * 3 * width))
            .for_each(|(out, qkv)| {
                let heads: Vec<(Packed, Packed)> = (0..self.heads)
                    .map(|head| (self.turned(qkv, 1, head), self.packed(qkv, 2, head)))
                    .collect();
                let task = 64.min(pixels.div_ceil(rayon::current_num_threads()));
                out.par_chunks_mut(task * width).enumerate().for_each(|(i, out)| {
                    let rows: Vec<usize> = (i * task..i * task + out.len() / width).collect();
                    let mut weights = scratch(rows.len() * stride);
                    let mut mixed = scratch(rows.len() * padded(depth));
                    let offsets: Vec<usize> = (0..rows.len()).map(|r| r * stride).collect();
                    out.fill(0.0);
                    for (head, (keys, values)) in heads.iter().enumerate() {
                        self.weights(qkv, head, keys, &rows, &mut weights);
                        Product {
                            a: &weights,
                            offsets: &offsets,
                            taps: &[0],
                            depth: pixels,
                            b: values,
                            matrix: 0,
                            c: &mut mixed,
                            stride: padded(depth),
                            add: false,
                        }
                        .run();
                        for (out, mixed) in
                            out.chunks_exact_mut(width).zip(mixed.chunks_exact(padded(depth)))
                        {
                            out[head * depth..(head + 1) * depth].copy_from_slice(&mixed[..depth]);
                        }
                    }
                });
            });
    }

    /// The gradient of queries, keys and values from that of the result.
    pub fn backward(self, qkv: &[f32], grad: &[f32], out: &mut [f32]) {
        let (pixels, width, depth) = (self.pixels, self.width(), self.depth());
        let images = out
            .par_chunks_exact_mut(pixels * 3 * width)
            .zip(qkv.par_chunks_exact(pixels * 3 * width));
        images.zip(grad.par_chunks_exact(pixels * width)).for_each(|((out, qkv), grad)| {
            out.fill(0.0);
            for head in 0..self.heads {
                self.head_backward(head, qkv, grad, out);
            }
        });
        debug_assert_eq!(depth * self.heads, self.channels);
    }

    fn head_backward(self, head: usize, qkv: &[f32], grad: &[f32], out: &mut [f32]) {
        let (pixels, width, depth) = (self.pixels, self.width(), self.depth());
        let (across, deep) = (padded(pixels), padded(depth));
        let all: Vec<usize> = (0..pixels).collect();
        let (by_pixel, by_head) = (self.offsets(0, across), self.offsets(0, deep));
        // A head's queries, and its share of the gradient, with padding of zeros.
        let head_of = |maps: &[f32], stride: usize, start: usize| {
            let mut rows = scratch(pixels * deep);
            rows.fill(0.0);
            for (row, map) in rows.chunks_exact_mut(deep).zip(maps.chunks_exact(stride)) {
                row[..depth].copy_from_slice(&map[start..start + depth]);
            }
            rows
        };
        let queries = head_of(qkv, 3 * width, self.start(0, head));
        let grads = head_of(grad, width, head * depth);
        let mut weights = scratch(pixels * across);
        self.weights(qkv, head, &self.turned(qkv, 1, head), &all, &mut weights);
        weights.chunks_exact_mut(across).for_each(|row| row[pixels..].fill(0.0));

        let mut to_values = scratch(across * deep);
        let mut to_keys = scratch(across * deep);
        let outer = |x: &[f32], g: &[f32], c: &mut [f32]| {
            c.fill(0.0);
            let (x_at, g_at) = (&by_pixel[..], &by_head[..]);
            Outer { x, x_at, x_width: across, g, g_at, g_width: deep, c, stride: deep }.run();
        };
        outer(&weights, &grads, &mut to_values);

        let mut slopes = scratch(pixels * across);
        let values = self.turned(qkv, 2, head);
        Product {
            a: &grads,
            offsets: &by_head,
            taps: &[0],
            depth,
            b: &values,
            matrix: 0,
            c: &mut slopes,
            stride: across,
            add: false,
        }
        .run();
        let scale = 1.0 / (depth as f32).sqrt();
        vectorised(
            #[inline(always)]
            || {
                for (slopes, weights) in
                    slopes.chunks_exact_mut(across).zip(weights.chunks_exact(across))
                {
                    let along: f32 = slopes[..pixels].iter().zip(weights).map(|(s, w)| s * w).sum();
                    for (slope, weight) in slopes[..pixels].iter_mut().zip(weights) {
                        *slope = scale * weight * (*slope - along);
                    }
                    slopes[pixels..].fill(0.0);
                }
            },
        );
        outer(&slopes, &queries, &mut to_keys);

        let mut to_queries = scratch(pixels * deep);
        let keys = self.packed(qkv, 1, head);
        Product {
            a: &slopes,
            offsets: &by_pixel,
            taps: &[0],
            depth: pixels,
            b: &keys,
            matrix: 0,
            c: &mut to_queries,
            stride: deep,
            add: false,
        }
        .run();
        for (p, out) in out.chunks_exact_mut(3 * width).enumerate() {
            for (part, rows) in [&to_queries, &to_keys, &to_values].into_iter().enumerate() {
                out[self.start(part, head)..][..depth].copy_from_slice(&rows[p * deep..][..depth]);
            }
        }
    }
}

/// A row of weights from one of products.
#[inline(always)]
fn softmax(row: &mut [f32], scale: f32) {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|x| *x = exp((*x - most) * scale));
    const LANES: usize = 16;
    let mut sums = [0.0f32; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for chunk in whole {
        sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x);
    }
    let total: f32 = sums.iter().chain(rest).sum();
    row.iter_mut().for_each(|x| *x /= total);
}
