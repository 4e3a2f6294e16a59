//! Halving and doubling images by a separable filter of even length, channel by channel; each is
//! the other's gradient, but for the factor.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};

use super::planes::constants;

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

impl Resize {
    /// Factor of all taps: what is spread over four times as many pixels is to keep its level.
    pub(crate) fn gain(self) -> f32 {
        match self {
            Self::Keep | Self::Down => 1.0,
            Self::Up => 4.0,
        }
    }

    /// Height and width of the result of `size` with `taps` taps.
    pub(crate) fn result_size(self, size: [usize; 2], taps: usize) -> [usize; 2] {
        let small = |side: usize| (side + 2 * padding(taps)).saturating_sub(taps) / 2 + 1;
        match self {
            Self::Keep => size,
            Self::Down => size.map(small),
            Self::Up => size.map(|side| 2 * side),
        }
    }
}

/// Zero padding.
fn padding(taps: usize) -> usize {
    (taps.max(1) - 1) / 2
}

/// The filter for every channel by itself, `[C, 1, taps, taps]`.
fn filter<B: Backend>(x: &FloatTensor<B>, taps: &[f32], gain: f32) -> FloatTensor<B> {
    let (c, k) = (x.shape()[1], taps.len());
    let one: Vec<f32> = taps.iter().flat_map(|a| taps.iter().map(move |b| gain * a * b)).collect();
    constants::<B, 4>(one.repeat(c), [c, 1, k, k], x)
}

fn halved<B: Backend>(x: FloatTensor<B>, taps: &[f32], gain: f32) -> FloatTensor<B> {
    let (weight, c) = (filter::<B>(&x, taps, gain), x.shape()[1]);
    B::conv2d(x, weight, None, ConvOptions::new([2, 2], [padding(taps.len()); 2], [1, 1], c))
}

/// `more` rows and columns beyond those that the small image determines.
fn doubled<B: Backend>(
    x: FloatTensor<B>,
    taps: &[f32],
    gain: f32,
    more: [usize; 2],
) -> FloatTensor<B> {
    let (weight, c) = (filter::<B>(&x, taps, gain), x.shape()[1]);
    let options = ConvTransposeOptions::new([2, 2], [padding(taps.len()); 2], more, [1, 1], c);
    B::conv_transpose2d(x, weight, None, options)
}

/// `x` `[N, C, H, W]` at the result's size.
pub(crate) fn forward_plain<B: Backend>(
    x: FloatTensor<B>,
    resize: Resize,
    taps: &[f32],
) -> FloatTensor<B> {
    match resize {
        Resize::Keep => x,
        Resize::Down => halved::<B>(x, taps, resize.gain()),
        Resize::Up => doubled::<B>(x, taps, resize.gain(), [0, 0]),
    }
}

/// The gradient of [`forward_plain`]'s input, of height and width `size`, from that of its result.
pub(crate) fn backward_plain<B: Backend>(
    grad: FloatTensor<B>,
    resize: Resize,
    taps: &[f32],
    size: [usize; 2],
) -> FloatTensor<B> {
    match resize {
        Resize::Keep => grad,
        Resize::Up => halved::<B>(grad, taps, resize.gain()),
        Resize::Down => {
            let [_, _, height, width] = grad.shape().dims();
            let least = |small: usize| 2 * (small - 1) + taps.len() - 2 * padding(taps.len());
            let more = [size[0] - least(height), size[1] - least(width)];
            doubled::<B>(grad, taps, resize.gain(), more)
        }
    }
}
