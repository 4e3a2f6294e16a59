//! A convolution with packed weights.

use rayon::prelude::*;

use super::tiles::Tiles;
use crate::cpu::buffer_pool::scratch;
use crate::cpu::gemm::{BLOCK, Packed, Product};
use crate::cpu::nhwc::Frame;
use crate::cpu::simd::dispatch;
use crate::cpu::winograd::{self, InputTransform, OutputTransform, PRODUCTS, Planes};
use crate::ops::layout::padded;

/// A kernel's weights in PyTorch's order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel<'a> {
    /// `[outputs, inputs, side, side]`.
    pub values: &'a [f32],
    pub outputs: usize,
    pub inputs: usize,
    pub side: usize,
    /// Factor of all weights.
    pub scale: f32,
}

/// The use that a packed convolution is for: it decides from how many pixels an image has on a 3x3
/// kernel takes Winograd's way. Below, reading the four times larger weights costs more than the
/// multiplications saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Many images at a time.
    Many,
    /// One image at a time too, which must read all weights for itself.
    Few,
}

impl Use {
    fn winograd_pixels(self) -> usize {
        match self {
            Self::Many => 64,
            Self::Few => 256,
        }
    }
}

/// Pixels that a task of the direct way works on at a time.
const TASK_PIXELS: usize = 128;

/// A convolution whose weights are packed for images of one size.
#[derive(Debug)]
pub(crate) struct Conv {
    weights: Packed,
    /// Whether the weights are those of [`winograd`].
    transformed: bool,
    pub(super) frame: Frame,
    inputs: usize,
    pub(super) outputs: usize,
    /// Padded; empty for none.
    bias: Vec<f32>,
}

impl Conv {
    /// The convolution of images of `height` x `width`; the kernel's factor goes for the bias too.
    pub fn new(
        kernel: Kernel,
        bias: Option<&[f32]>,
        height: usize,
        width: usize,
        usage: Use,
    ) -> Self {
        let Kernel { values, outputs, inputs, side, scale } = kernel;
        let area = side * side;
        let at = |o: usize, i: usize| (o * inputs + i) * area;
        let weights = |o: usize, i: usize| nine(&values[at(o, i)..]).map(|w| scale * w);
        let weight = |o: usize, i: usize, t: usize| scale * values[at(o, i) + t];
        let frame = Frame { height, width, kernel: side };
        let mut conv = Self::pack(inputs, outputs, frame, usage, weights, weight);
        if let Some(bias) = bias {
            conv.bias = bias.iter().map(|b| scale * b).collect();
            conv.bias.resize(padded(outputs), 0.0);
        }
        conv
    }

    /// The convolution that takes the gradient of [`Self::new`]'s result to that of its input.
    pub fn turned(kernel: Kernel, height: usize, width: usize) -> Self {
        let Kernel { values, outputs, inputs, side, scale } = kernel;
        let area = side * side;
        let at = |o: usize, i: usize| (i * inputs + o) * area;
        let weights = |o: usize, i: usize| {
            let mut turned = nine(&values[at(o, i)..]).map(|w| scale * w);
            turned.reverse();
            turned
        };
        let weight = |o: usize, i: usize, t: usize| scale * values[at(o, i) + (area - 1 - t)];
        Self::pack(
            outputs,
            inputs,
            Frame { height, width, kernel: side },
            Use::Many,
            weights,
            weight,
        )
    }

    /// `weights` gives the nine weights of (output, input), `weight` one of them.
    fn pack(
        inputs: usize,
        outputs: usize,
        frame: Frame,
        usage: Use,
        weights: impl Fn(usize, usize) -> [f32; 9] + Sync,
        weight: impl Fn(usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        let depth = padded(inputs);
        let transformed =
            frame.kernel == 3 && frame.height * frame.width >= usage.winograd_pixels();
        let weights = if transformed {
            winograd::pack(inputs, depth, outputs, weights)
        } else {
            let area = frame.kernel * frame.kernel;
            Packed::new(area * depth, outputs, |k, first| {
                let (tap, input) = (k / depth, k % depth);
                let mut block = [0.0; BLOCK];
                if input < inputs {
                    (0..BLOCK.min(outputs - first))
                        .for_each(|i| block[i] = weight(first + i, input, tap));
                }
                block
            })
        };
        Self { weights, transformed, frame, inputs, outputs, bias: Vec::new() }
    }

    /// Padded channels of the result.
    pub fn width(&self) -> usize {
        padded(self.outputs)
    }

    /// Frames of `[count, frame, inputs]` to maps `[count, pixels, outputs]`; adds `more`, maps of
    /// the result's shape, times its factor.
    pub fn run(&self, frames: &[f32], more: Option<(&[f32], f32)>, out: &mut [f32]) {
        if self.transformed {
            self.winograd(frames, more, out)
        } else {
            self.direct(frames, more, out)
        }
    }

    fn direct(&self, frames: &[f32], more: Option<(&[f32], f32)>, out: &mut [f32]) {
        let (frame, depth, width) = (self.frame, padded(self.inputs), self.width());
        let taps: Vec<usize> = frame.taps().map(|tap| tap * depth).collect();
        let total = out.len() / width;
        let task =
            TASK_PIXELS.min(total.div_ceil(rayon::current_num_threads())).next_multiple_of(6);
        out.par_chunks_mut(task * width).enumerate().for_each(|(i, out)| {
            let first = i * task;
            match more {
                Some((more, factor)) => {
                    let more = &more[first * width..][..out.len()];
                    out.iter_mut().zip(more).for_each(|(out, more)| *out = factor * more);
                }
                None if self.bias.is_empty() => {}
                None => out.fill(0.0),
            }
            if !self.bias.is_empty() {
                for out in out.chunks_exact_mut(width) {
                    out.iter_mut().zip(&self.bias).for_each(|(out, bias)| *out += bias);
                }
            }
            let outputs = first..first + out.len() / width;
            let offsets: Vec<usize> = outputs.map(|p| frame.seen_by(p) * depth).collect();
            let add = more.is_some() || !self.bias.is_empty();
            let product = Product {
                a: frames,
                offsets: &offsets,
                taps: &taps,
                depth,
                b: &self.weights,
                matrix: 0,
                c: out,
                stride: width,
                add,
            };
            product.run();
        });
    }

    fn winograd(&self, frames: &[f32], more: Option<(&[f32], f32)>, out: &mut [f32]) {
        let (frame, depth, width) = (self.frame, padded(self.inputs), self.width());
        let tiles = Tiles::new(frame);
        let count = out.len() / (frame.height * frame.width * width);
        let task = tiles.task_rows(count);
        let bias = (!self.bias.is_empty()).then_some(&self.bias[..]);
        tiles.split(task, width, out).into_par_iter().for_each(|(rows, first, out)| {
            let starts = tiles.starts(rows.clone(), depth);
            let places = tiles.places(rows, width, first);
            let (from, to) = (Planes::new(depth, starts.len()), Planes::new(width, starts.len()));
            let (mut inputs, mut products) = (scratch(from.size()), scratch(to.size()));
            dispatch(InputTransform {
                frames,
                tiles: &starts,
                row: frame.row() * depth,
                pixel: depth,
                planes: from,
                out: &mut inputs,
            });
            let offsets: Vec<usize> = (0..starts.len()).map(|t| t * depth).collect();
            for p in 0..PRODUCTS {
                Product {
                    a: &inputs[p * from.plane..][..from.plane],
                    offsets: &offsets,
                    taps: &[0],
                    depth,
                    b: &self.weights,
                    matrix: p,
                    c: &mut products[p * to.plane..][..to.plane],
                    stride: width,
                    add: false,
                }
                .run();
            }
            let more = more.map(|(more, factor)| (&more[first * width..][..out.len()], factor));
            let row = frame.width * width;
            dispatch(OutputTransform {
                products: &products,
                planes: to,
                places: &places,
                row,
                bias,
                more,
                out,
            });
        });
    }
}

fn nine(values: &[f32]) -> [f32; 9] {
    values.as_chunks().0[0]
}
