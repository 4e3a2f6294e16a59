//! Group norm of maps with what surrounds it in a residual block: a shift before it, a scale and
//! shift of each image after it, SiLU, dropout; and its gradient, all in two passes over memory
//! each way.
//!
//! Statistics are taken over runs of [`RUN`] pixels, as mean and squared deviations of every
//! channel, and put together in double precision: no cancellation, and the same bits on any number
//! of threads.

use rayon::prelude::*;

use super::gemm::BLOCK;
use super::nhwc::Frame;
use super::simd::{sigmoid, vectorised};
use crate::ops::dropout::Dropout;

/// Pixels whose sums a task takes.
const RUN: usize = 128;

/// One group norm of some maps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapNorm<'a> {
    pub count: usize,
    pub height: usize,
    pub width: usize,
    /// Channels, without and with padding.
    pub channels: usize,
    pub padded: usize,
    pub groups: usize,
    pub epsilon: f64,
    /// Scale and bias after the norm, of each image: `[count, channels]`.
    pub scale: &'a [f32],
    pub bias: &'a [f32],
    /// Added before the norm: `[count, channels]`.
    pub shift: Option<&'a [f32]>,
    pub silu: bool,
    pub dropout: Option<Dropout>,
}

/// What a group norm found: of each image, for every padded channel.
#[derive(Debug)]
pub(crate) struct Statistics {
    /// What is taken from a channel: its group's mean less its shift.
    centre: Vec<f32>,
    /// 1 / sqrt(variance + epsilon) of its group.
    rstd: Vec<f32>,
    /// The channel's own mean.
    mean: Vec<f32>,
}

/// The gradients of a group norm's parameters: of each image, for every padded channel.
#[derive(Debug)]
pub(crate) struct NormGradients {
    pub scale: Vec<f32>,
    pub bias: Vec<f32>,
    pub shift: Vec<f32>,
}

impl MapNorm<'_> {
    fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// For every image, run of pixels, and channel: two sums, by `sums(map's run, first number,
    /// into)`.
    fn runs(
        &self,
        maps: &[f32],
        sums: impl Fn(&[f32], usize, &mut [f32], &mut [f32]) + Sync,
    ) -> Vec<f32> {
        let (c, pixels) = (self.padded, self.pixels());
        let runs = pixels.div_ceil(RUN);
        let mut all = vec![0.0f32; self.count * runs * 2 * c];
        all.par_chunks_exact_mut(2 * c).enumerate().for_each(|(i, out)| {
            let first = (i / runs * pixels + i % runs * RUN) * c;
            let end = (i / runs * pixels + pixels.min((i % runs + 1) * RUN)) * c;
            let (a, b) = out.split_at_mut(c);
            vectorised(
                #[inline(always)]
                || sums(&maps[first..end], first, a, b),
            );
        });
        all
    }

    /// The statistics of `x` `[count, pixels, padded]`.
    pub fn statistics(&self, x: &[f32]) -> Statistics {
        let (c, pixels) = (self.padded, self.pixels());
        let sums = self.runs(
            x,
            #[inline(always)]
            |x, _, means, squares| {
                let scale = c as f32 / x.len() as f32;
                for (b, (means, squares)) in
                    blocks_mut(means).iter_mut().zip(blocks_mut(squares)).enumerate()
                {
                    let (mut sums, mut off) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
                    for pixel in x.chunks_exact(c) {
                        let pixel = &blocks(pixel)[b];
                        (0..BLOCK).for_each(|k| sums[k] += pixel[k]);
                    }
                    sums.iter_mut().for_each(|sum| *sum *= scale);
                    for pixel in x.chunks_exact(c) {
                        let pixel = &blocks(pixel)[b];
                        (0..BLOCK)
                            .for_each(|k| off[k] += (pixel[k] - sums[k]) * (pixel[k] - sums[k]));
                    }
                    (*means, *squares) = (sums, off);
                }
            },
        );
        let runs = pixels.div_ceil(RUN);
        let per_group = self.channels / self.groups;
        let empty = || vec![0.0f32; self.count * c];
        let mut found = Statistics { centre: empty(), rstd: empty(), mean: empty() };
        for image in 0..self.count {
            let of_image = &sums[image * runs * 2 * c..][..runs * 2 * c];
            let length = |run: usize| (pixels - run * RUN).min(RUN) as f64;
            let shift = |k: usize| {
                self.shift.map_or(0.0, |shift| f64::from(shift[image * self.channels + k]))
            };
            for group in 0..self.groups {
                let channels = group * per_group..(group + 1) * per_group;
                let mut total = 0.0;
                for k in channels.clone() {
                    let mut sum = 0.0;
                    for (run, sums) in of_image.chunks_exact(2 * c).enumerate() {
                        sum += length(run) * f64::from(sums[k]);
                    }
                    found.mean[image * c + k] = (sum / pixels as f64) as f32;
                    total += sum + pixels as f64 * shift(k);
                }
                let n = (pixels * per_group) as f64;
                let mean = total / n;
                let mut squares = 0.0;
                for k in channels.clone() {
                    for (run, sums) in of_image.chunks_exact(2 * c).enumerate() {
                        let off = f64::from(sums[k]) + shift(k) - mean;
                        squares += f64::from(sums[c + k]) + length(run) * off * off;
                    }
                }
                let rstd = (1.0 / (squares / n + self.epsilon).sqrt()) as f32;
                for k in channels {
                    found.centre[image * c + k] = (mean - shift(k)) as f32;
                    found.rstd[image * c + k] = rstd;
                }
            }
        }
        found
    }

    /// Of each image, for every padded channel: scale and bias, 0 for the padding.
    fn weights(&self) -> (Vec<f32>, Vec<f32>) {
        let pad = |values: &[f32]| {
            let mut out = vec![0.0; self.count * self.padded];
            for (out, values) in
                out.chunks_exact_mut(self.padded).zip(values.chunks_exact(self.channels))
            {
                out[..self.channels].copy_from_slice(values);
            }
            out
        };
        (pad(self.scale), pad(self.bias))
    }

    /// Maps `[count, pixels, padded]` to frames of the result.
    pub fn forward(&self, x: &[f32], found: &Statistics, frame: Frame, out: &mut [f32]) {
        let (c, pixels) = (self.padded, self.pixels());
        let (scale, bias) = self.weights();
        let rows = frame.rows();
        out.par_chunks_exact_mut(frame.row() * c).with_min_len(4).enumerate().for_each(
            |(i, row)| {
                let (image, y) = (i / rows, i % rows);
                if y < frame.margin() || y >= frame.height + frame.margin() {
                    row.fill(0.0);
                    return;
                }
                let first = (image * pixels + (y - frame.margin()) * frame.width) * c;
                let (left, rest) = row.split_at_mut(frame.margin() * c);
                let (inner, right) = rest.split_at_mut(frame.width * c);
                left.fill(0.0);
                right.fill(0.0);
                let of = |values| blocks(part(values, image, c));
                let (scale, bias) = (of(&scale), of(&bias));
                let (centre, rstd) = (of(&found.centre), of(&found.rstd));
                vectorised(
                    #[inline(always)]
                    || {
                        for (p, (out, x)) in inner
                            .chunks_exact_mut(c)
                            .zip(x[first..first + frame.width * c].chunks_exact(c))
                            .enumerate()
                        {
                            for (b, (out, x)) in
                                blocks_mut(out).iter_mut().zip(blocks(x)).enumerate()
                            {
                                let (centre, rstd, scale, bias) =
                                    (&centre[b], &rstd[b], &scale[b], &bias[b]);
                                if self.silu {
                                    for k in 0..BLOCK {
                                        let a = (x[k] - centre[k]) * rstd[k] * scale[k] + bias[k];
                                        out[k] = a * sigmoid(a);
                                    }
                                } else {
                                    (0..BLOCK).for_each(|k| {
                                        out[k] = (x[k] - centre[k]) * rstd[k] * scale[k] + bias[k]
                                    });
                                }
                            }
                            if let Some(dropout) = self.dropout {
                                let place = (first / c - image * pixels + p) * c;
                                dropout.apply(image, place, out);
                            }
                        }
                    },
                );
            },
        );
    }

    /// From the result's gradient (maps, overwritten) to that of the input, plus `more` times its
    /// factor.
    pub fn backward(
        &self,
        x: &[f32],
        found: &Statistics,
        grad: &mut [f32],
        more: Option<(&[f32], f32)>,
        out: &mut [f32],
    ) -> NormGradients {
        let (c, pixels) = (self.padded, self.pixels());
        let (scale, bias) = self.weights();
        let runs = pixels.div_ceil(RUN);
        // The gradient before SiLU and dropout, in place, and its sums.
        let mut sums = vec![0.0f32; self.count * runs * 2 * c];
        let mut parts: Vec<(usize, usize, &mut [f32], &mut [f32])> =
            Vec::with_capacity(self.count * runs);
        let mut rest = &mut *grad;
        for (i, sums) in sums.chunks_exact_mut(2 * c).enumerate() {
            let (image, first) = (i / runs, i % runs * RUN);
            let (part, after) = rest.split_at_mut(RUN.min(pixels - first) * c);
            parts.push((image, first, part, sums));
            rest = after;
        }
        parts.into_par_iter().for_each(|(image, first, grad, sums)| {
            let (plain, along) = sums.split_at_mut(c);
            let (plain, along) = (blocks_mut(plain), blocks_mut(along));
            let x = &x[(image * pixels + first) * c..][..grad.len()];
            let of = |values| blocks(part(values, image, c));
            let (scale, bias) = (of(&scale), of(&bias));
            let (centre, rstd) = (of(&found.centre), of(&found.rstd));
            vectorised(
                #[inline(always)]
                || {
                    for (p, (grad, x)) in
                        grad.chunks_exact_mut(c).zip(x.chunks_exact(c)).enumerate()
                    {
                        if let Some(dropout) = self.dropout {
                            dropout.apply(image, (first + p) * c, grad);
                        }
                        for (b, (grad, x)) in blocks_mut(grad).iter_mut().zip(blocks(x)).enumerate()
                        {
                            let (centre, rstd, scale, bias) =
                                (&centre[b], &rstd[b], &scale[b], &bias[b]);
                            let (plain, along) = (&mut plain[b], &mut along[b]);
                            let mut unit = [0.0f32; BLOCK];
                            (0..BLOCK).for_each(|k| unit[k] = (x[k] - centre[k]) * rstd[k]);
                            if self.silu {
                                for k in 0..BLOCK {
                                    let a = unit[k] * scale[k] + bias[k];
                                    let s = sigmoid(a);
                                    grad[k] *= s * (1.0 + a * (1.0 - s));
                                }
                            }
                            for k in 0..BLOCK {
                                plain[k] += grad[k];
                                along[k] += grad[k] * unit[k];
                            }
                        }
                    }
                },
            );
        });
        // Put together: of each image, for every padded channel, the numbers p, q, r of
        // dx = p grad + q (x - centre) + r.
        let empty = || vec![0.0f32; self.count * c];
        let mut found_grads = NormGradients { scale: empty(), bias: empty(), shift: empty() };
        let (mut ps, mut qs, mut rs) = (empty(), empty(), empty());
        let per_group = self.channels / self.groups;
        for image in 0..self.count {
            let of_image = &sums[image * runs * 2 * c..][..runs * 2 * c];
            for group in 0..self.groups {
                let channels = group * per_group..(group + 1) * per_group;
                let (mut plain, mut along) = (0.0f64, 0.0f64);
                for k in channels.clone() {
                    let total = |at: usize| {
                        of_image.chunks_exact(2 * c).map(|run| f64::from(run[at])).sum::<f64>()
                    };
                    let (bias, slope) = (total(k), total(c + k));
                    found_grads.bias[image * c + k] = bias as f32;
                    found_grads.scale[image * c + k] = slope as f32;
                    plain += f64::from(scale[image * c + k]) * bias;
                    along += f64::from(scale[image * c + k]) * slope;
                }
                let n = (pixels * per_group) as f64;
                for k in channels {
                    let at = image * c + k;
                    let rstd = f64::from(found.rstd[at]);
                    let (p, q, r) =
                        (rstd * f64::from(scale[at]), -rstd * rstd * along / n, -rstd * plain / n);
                    (ps[at], qs[at], rs[at]) = (p as f32, q as f32, r as f32);
                    // The shift's gradient is the sum of the input's.
                    let off = f64::from(found.mean[at]) - f64::from(found.centre[at]);
                    let sum = p * f64::from(found_grads.bias[at]) + pixels as f64 * (q * off + r);
                    found_grads.shift[at] = sum as f32;
                }
            }
        }
        out.par_chunks_mut(RUN * c).enumerate().for_each(|(i, out)| {
            let first = i * RUN;
            vectorised(
                #[inline(always)]
                || {
                    for (j, out) in out.chunks_exact_mut(c).enumerate() {
                        let (image, at) = ((first + j) / pixels, (first + j) * c);
                        let of = |values| blocks(part(values, image, c));
                        let (p, q, r, centre) = (of(&ps), of(&qs), of(&rs), of(&found.centre));
                        let (grad, x) = (blocks(&grad[at..at + c]), blocks(&x[at..at + c]));
                        for (b, (out, (grad, x))) in
                            blocks_mut(out).iter_mut().zip(grad.iter().zip(x)).enumerate()
                        {
                            let (p, q, r, centre) = (&p[b], &q[b], &r[b], &centre[b]);
                            (0..BLOCK).for_each(|k| {
                                out[k] = p[k] * grad[k] + q[k] * (x[k] - centre[k]) + r[k]
                            });
                        }
                        if let Some((more, factor)) = more {
                            out.iter_mut()
                                .zip(&more[at..at + c])
                                .for_each(|(out, more)| *out += factor * more);
                        }
                    }
                },
            );
        });
        found_grads
    }
}

fn part(values: &[f32], image: usize, width: usize) -> &[f32] {
    &values[image * width..(image + 1) * width]
}

#[inline(always)]
fn blocks(values: &[f32]) -> &[[f32; BLOCK]] {
    values.as_chunks().0
}

#[inline(always)]
fn blocks_mut(values: &mut [f32]) -> &mut [[f32; BLOCK]] {
    values.as_chunks_mut().0
}
