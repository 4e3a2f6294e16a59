//! Images channel-last: `[images, pixels, channels]`, channels padded to a multiple of [`BLOCK`]
//! with numbers that carry no meaning for whoever reads them through packed weights, whose padding
//! is zero. Frames are maps with a border of zeros.

use burn::backend::{Flex, TensorMetadata};
use burn::tensor::DType;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::flex::{dense, from_values};
use super::gemm::BLOCK;
use super::simd::vectorised;
use crate::ops::layout::{maps_plain, padded, planes_plain};

/// Where the pixels of an image lie in its frame, for a convolution that keeps the size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub height: usize,
    pub width: usize,
    /// Side of the kernel: 1 (no border) or 3.
    pub kernel: usize,
}

impl Frame {
    pub fn margin(self) -> usize {
        self.kernel / 2
    }

    /// Pixels a row; as many whole tiles of four outputs see, when there is a border.
    pub fn row(self) -> usize {
        if self.kernel == 1 { self.width } else { self.width.next_multiple_of(4) + 2 }
    }

    pub fn rows(self) -> usize {
        if self.kernel == 1 { self.height } else { self.height.next_multiple_of(4) + 2 }
    }

    /// Pixels of the frame.
    pub fn pixels(self) -> usize {
        self.row() * self.rows()
    }

    /// The image's pixel (y, x) in the frame.
    pub fn at(self, y: usize, x: usize) -> usize {
        (y + self.margin()) * self.row() + x + self.margin()
    }

    /// Where the kernel's first tap lies for output `p`, counted over all images, in frames one
    /// after the other.
    pub fn seen_by(self, p: usize) -> usize {
        let (image, p) = (p / (self.height * self.width), p % (self.height * self.width));
        image * self.pixels() + p / self.width * self.row() + p % self.width
    }

    /// Distances from the first tap to each, row by row.
    pub fn taps(self) -> impl Iterator<Item = usize> {
        (0..self.kernel * self.kernel).map(move |t| t / self.kernel * self.row() + t % self.kernel)
    }

    /// Fills the border of a frame of `channels` with zeros.
    pub fn clear_border(self, channels: usize, frame: &mut [f32]) {
        if self.kernel == 1 {
            return;
        }
        let row = self.row() * channels;
        frame[..row].fill(0.0);
        frame[(self.height + 1) * row..].fill(0.0);
        for y in 0..self.height {
            let row = &mut frame[(y + 1) * row..(y + 2) * row];
            row[..channels].fill(0.0);
            row[(self.width + 1) * channels..].fill(0.0);
        }
    }
}

/// `[count, channels, pixels]` of `planes` to frames of padded channels.
pub(crate) fn frames_from_planes(planes: &[f32], channels: usize, frame: Frame, out: &mut [f32]) {
    let (pixels, width) = (frame.height * frame.width, padded(channels));
    let images = out.par_chunks_exact_mut(frame.pixels() * width);
    images.zip(planes.par_chunks_exact(channels * pixels)).for_each(|(out, planes)| {
        frame.clear_border(width, out);
        vectorised(
            #[inline(always)]
            || {
                for y in 0..frame.height {
                    let row = &mut out[frame.at(y, 0) * width..][..frame.width * width];
                    turn_in(&planes[y * frame.width..], pixels, channels, width, row);
                }
            },
        );
    });
}

/// `[channels, pixels]`, planes at distances of `plane`, to rows of `width` channels, 0 beyond the
/// last.
#[inline(always)]
fn turn_in(planes: &[f32], plane: usize, channels: usize, width: usize, out: &mut [f32]) {
    let pixels = out.len() / width;
    for first in (0..width).step_by(BLOCK) {
        for x in (0..pixels).step_by(BLOCK) {
            let some = BLOCK.min(pixels - x);
            let mut block = [[0.0f32; BLOCK]; BLOCK];
            for (c, row) in block.iter_mut().enumerate().take(channels.saturating_sub(first)) {
                row[..some].copy_from_slice(&planes[(first + c) * plane + x..][..some]);
            }
            for i in 0..some {
                let out: &mut [f32; BLOCK] = (&mut out[(x + i) * width + first..][..BLOCK])
                    .try_into()
                    .expect("a block of channels");
                for c in 0..BLOCK {
                    out[c] = block[c][i];
                }
            }
        }
    }
}

/// Maps to `[count, channels, pixels]`.
pub(crate) fn planes_from_maps(maps: &[f32], channels: usize, pixels: usize, out: &mut [f32]) {
    let width = padded(channels);
    let images = out.par_chunks_exact_mut(channels * pixels);
    images.zip(maps.par_chunks_exact(pixels * width)).for_each(|(out, map)| {
        vectorised(
            #[inline(always)]
            || {
                for first in (0..channels).step_by(BLOCK) {
                    let some = BLOCK.min(channels - first);
                    for x in (0..pixels).step_by(BLOCK) {
                        let count = BLOCK.min(pixels - x);
                        let mut block = [[0.0f32; BLOCK]; BLOCK];
                        for (i, row) in block.iter_mut().enumerate().take(count) {
                            row.copy_from_slice(&map[(x + i) * width + first..][..BLOCK]);
                        }
                        for c in 0..some {
                            let mut plane = [0.0f32; BLOCK];
                            for i in 0..BLOCK {
                                plane[i] = block[i][c];
                            }
                            out[(first + c) * pixels + x..][..count]
                                .copy_from_slice(&plane[..count]);
                        }
                    }
                }
            },
        );
    });
}

/// Sums over the pixels of each image: `[count, pixels, width]` to `[count, width]`.
pub(crate) fn channel_sums(maps: &[f32], pixels: usize, width: usize) -> Vec<f32> {
    let mut sums = vec![0.0f32; maps.len() / pixels];
    sums.par_chunks_exact_mut(width).zip(maps.par_chunks_exact(pixels * width)).for_each(
        |(sums, map)| {
            vectorised(
                #[inline(always)]
                || {
                    for pixel in map.chunks_exact(width) {
                        sums.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += x);
                    }
                },
            );
        },
    );
    sums
}

/// Sums over images: `[count, width]` to the first `channels` of `[width]`, in double precision.
pub(crate) fn image_sums(rows: &[f32], width: usize, channels: usize) -> Vec<f32> {
    let of = |c: usize| rows.chunks_exact(width).map(|row| f64::from(row[c])).sum::<f64>() as f32;
    (0..channels).map(of).collect()
}

pub(crate) fn maps(x: FlexTensor) -> FlexTensor {
    if x.dtype() != DType::F32 {
        return maps_plain::<Flex>(x);
    }
    let x = dense(x);
    let [count, channels, height, width] = x.shape().dims();
    let mut out = vec![0.0; count * height * width * padded(channels)];
    frames_from_planes(x.storage(), channels, Frame { height, width, kernel: 1 }, &mut out);
    from_values(out, [count, height, width, padded(channels)])
}

pub(crate) fn planes(maps: FlexTensor, channels: usize) -> FlexTensor {
    if maps.dtype() != DType::F32 {
        return planes_plain::<Flex>(maps, channels);
    }
    let maps = dense(maps);
    let [count, height, width, _] = maps.shape().dims();
    let mut out = vec![0.0; count * channels * height * width];
    planes_from_maps(maps.storage(), channels, height * width, &mut out);
    from_values(out, [count, channels, height, width])
}
