//! Convolution with stride 1 and a kernel of 1x1 or 3x3 that keeps the image's size: what U-Nets
//! spend their time on.
//!
//! Images lie channel-last in frames of zeros, so that what a tap of the kernel sees lies at a
//! constant distance from its output and channels fill whole vectors. A 1x1 kernel and small images
//! take the plain sum of products; 3x3 kernels on larger images take Winograd's F(4x4, 3x3), which
//! needs a quarter of the multiplications. The input's gradient is the same convolution with the
//! kernel turned around; the weights' gradient is the gradient of the same formula.
//!
//! Each image's result is computed by itself: its bits don't depend on the batch or the number of
//! threads.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Shape, Tensor};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::KernelOps;
use crate::maps::{Frame, frames_from_planes, padded, planes_from_maps};
use crate::memory::zeros;
use crate::panels::{BLOCK, Lanes, Outer, Packed, Product};
use crate::scratch::scratch;
use crate::vector::{dense, dispatch, vectorised};
use crate::winograd::{
    self, GradientTransform, InputTransform, OutputTransform, PRODUCTS, Place, Planes, TILE,
    kernel_gradient,
};

/// `x` convolved with `weight` (1x1 or 3x3, stride 1, zeros around the image), plus `bias`.
///
/// # Shapes
/// `x` `[N, in, H, W]`, `weight` `[out, in, k, k]` with k 1 or 3, `bias` `[out]`; the result is
/// `[N, out, H, W]`.
pub fn conv_same(x: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as KernelOps>::conv_same(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    ))
}

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

/// Tiles that a task works on at a time.
const TASK_TILES: usize = 64;
/// Pixels that a task of the direct way works on at a time.
const TASK_PIXELS: usize = 128;

/// A convolution whose weights are packed for images of one size.
#[derive(Debug)]
pub(crate) struct Conv {
    weights: Packed,
    /// Whether the weights are those of [`winograd`].
    transformed: bool,
    frame: Frame,
    inputs: usize,
    outputs: usize,
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

/// The tiles of images, row by row of tiles.
#[derive(Clone, Copy, Debug)]
struct Tiles {
    frame: Frame,
    /// Rows and columns of tiles in an image.
    rows: usize,
    columns: usize,
}

impl Tiles {
    fn new(frame: Frame) -> Self {
        Self { frame, rows: frame.height.div_ceil(TILE), columns: frame.width.div_ceil(TILE) }
    }

    /// Rows of tiles a task.
    fn task_rows(self, count: usize) -> usize {
        let share = (count * self.rows).div_ceil(rayon::current_num_threads());
        TASK_TILES.div_ceil(self.columns).min(share).max(1)
    }

    /// First pixel of a row of tiles, over all images.
    fn first_pixel(self, row: usize) -> usize {
        (row / self.rows * self.frame.height + row % self.rows * TILE) * self.frame.width
    }

    /// Maps in runs of `task` rows of tiles: the rows, the first pixel, the part.
    fn split(
        self,
        task: usize,
        width: usize,
        mut out: &mut [f32],
    ) -> Vec<(std::ops::Range<usize>, usize, &mut [f32])> {
        let count = out.len() / (self.frame.height * self.frame.width * width);
        let total = count * self.rows;
        let mut parts = Vec::with_capacity(total.div_ceil(task));
        for row in (0..total).step_by(task) {
            let rows = row..(row + task).min(total);
            let first = self.first_pixel(rows.start);
            let (part, rest) = out.split_at_mut((self.first_pixel(rows.end) - first) * width);
            parts.push((rows, first, part));
            out = rest;
        }
        parts
    }

    /// Where the tiles' pixels start in the frames.
    fn starts(self, rows: std::ops::Range<usize>, depth: usize) -> Vec<usize> {
        let at = |row: usize, column: usize| {
            let (image, y) = (row / self.rows, row % self.rows);
            (image * self.frame.pixels() + (y * self.frame.row() + column) * TILE) * depth
        };
        rows.flat_map(|row| (0..self.columns).map(move |column| at(row, column))).collect()
    }

    /// Where the tiles' outputs lie in maps that begin with pixel `first`.
    fn places(self, rows: std::ops::Range<usize>, width: usize, first: usize) -> Vec<Place> {
        let at = |row: usize, column: usize| {
            let (y, x) = (row % self.rows * TILE, column * TILE);
            Place {
                start: (self.first_pixel(row) + x - first) * width,
                rows: TILE.min(self.frame.height - y),
                columns: TILE.min(self.frame.width - x),
            }
        };
        rows.flat_map(|row| (0..self.columns).map(move |column| at(row, column))).collect()
    }
}

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
pub(crate) fn weight_gradient(
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

fn options(kernel: usize) -> ConvOptions<2> {
    ConvOptions::new([1, 1], [kernel / 2; 2], [1, 1], 1)
}

pub(crate) fn forward_plain<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
) -> FloatTensor<B> {
    let kernel = weight.shape()[3];
    B::conv2d(x, weight, Some(bias), options(kernel))
}

pub(crate) fn input_gradient_plain<B: Backend>(
    grad: FloatTensor<B>,
    weight: FloatTensor<B>,
) -> FloatTensor<B> {
    // The convolution with the kernel turned around and its channels swapped.
    let kernel = weight.shape()[3];
    let turned = B::float_flip(B::float_swap_dims(weight, 0, 1), &[2, 3]);
    B::conv2d(grad, turned, None, options(kernel))
}

pub(crate) fn weight_gradient_plain<B: Backend>(
    x: FloatTensor<B>,
    grad: FloatTensor<B>,
    weight: FloatTensor<B>,
) -> FloatTensor<B> {
    let kernel = weight.shape()[3];
    B::conv2d_weight_backward(x, weight, grad, options(kernel))
}

fn flex(values: Vec<f32>, shape: [usize; 4]) -> FlexTensor {
    FlexTensor::from_data(burn::tensor::TensorData::new(values, shape))
}

fn is_ours(tensors: &[&FlexTensor], kernel: usize) -> bool {
    (kernel == 1 || kernel == 3)
        && tensors.iter().all(|t| t.dtype() == DType::F32 && t.shape().num_elements() > 0)
}

pub(crate) fn forward_flex(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
    let [outputs, inputs, side, _] = weight.shape().dims();
    if !is_ours(&[&x, &weight, &bias], side) {
        return forward_plain::<burn::backend::Flex>(x, weight, bias);
    }
    let (x, weight, bias) = (dense(x), dense(weight), dense(bias));
    let kernel = Kernel { values: weight.storage(), outputs, inputs, side, scale: 1.0 };
    convolve(&x, |height, width| Conv::new(kernel, Some(bias.storage()), height, width, Use::Many))
}

pub(crate) fn input_gradient_flex(grad: FlexTensor, weight: FlexTensor) -> FlexTensor {
    let [outputs, inputs, side, _] = weight.shape().dims();
    if !is_ours(&[&grad, &weight], side) {
        return input_gradient_plain::<burn::backend::Flex>(grad, weight);
    }
    let (grad, weight) = (dense(grad), dense(weight));
    let kernel = Kernel { values: weight.storage(), outputs, inputs, side, scale: 1.0 };
    convolve(&grad, |height, width| Conv::turned(kernel, height, width))
}

/// A packed convolution of `[N, C, H, W]`.
fn convolve(x: &FlexTensor, conv: impl Fn(usize, usize) -> Conv) -> FlexTensor {
    let [count, channels, height, width] = x.shape().dims();
    let conv = conv(height, width);
    let mut frames = scratch(count * conv.frame.pixels() * padded(channels));
    frames_from_planes(x.storage(), channels, conv.frame, &mut frames);
    let mut maps = scratch(count * height * width * conv.width());
    conv.run(&frames, None, &mut maps);
    let mut y = vec![0.0; count * conv.outputs * height * width];
    planes_from_maps(&maps, conv.outputs, height * width, &mut y);
    flex(y, [count, conv.outputs, height, width])
}

pub(crate) fn weight_gradient_flex(
    x: FlexTensor,
    grad: FlexTensor,
    weight: FlexTensor,
) -> FlexTensor {
    let side = weight.shape()[3];
    if !is_ours(&[&x, &grad], side) {
        return weight_gradient_plain::<burn::backend::Flex>(x, grad, weight);
    }
    let (x, grad) = (dense(x), dense(grad));
    let [count, inputs, height, width] = x.shape().dims();
    let outputs = grad.shape()[1];
    let frame = Frame { height, width, kernel: side };
    let mut frames = scratch(count * frame.pixels() * padded(inputs));
    frames_from_planes(x.storage(), inputs, frame, &mut frames);
    // A frame without a border is a map.
    let mut grads = scratch(count * height * width * padded(outputs));
    frames_from_planes(grad.storage(), outputs, Frame { kernel: 1, ..frame }, &mut grads);
    flex(
        weight_gradient(&frames, inputs, frame, &grads, outputs, 1.0),
        [outputs, inputs, side, side],
    )
}

pub(crate) fn forward_autodiff<B: KernelOps, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    #[derive(Debug)]
    struct Conv;

    impl<B: KernelOps> Backward<B, 3> for Conv {
        /// The input and the weight as checkpoints.
        type State = (NodeId, NodeId);

        fn backward(
            self,
            ops: Ops<Self::State, 3>,
            grads: &mut Gradients,
            checkpointer: &mut Checkpointer,
        ) {
            let (x, weight) = ops.state;
            let x: FloatTensor<B> = checkpointer.retrieve_node_output(x);
            let weight: FloatTensor<B> = checkpointer.retrieve_node_output(weight);
            let [x_node, weight_node, bias_node] = ops.parents;
            let grad = grads.consume::<B>(&ops.node);
            if let Some(node) = bias_node {
                let [count, outputs, height, width] = grad.shape().dims();
                let rows =
                    B::float_reshape(grad.clone(), Shape::new([count, outputs, height * width]));
                let sum = B::float_sum_dim(B::float_sum_dim(rows, 2), 0);
                grads.register::<B>(node.id, B::float_reshape(sum, Shape::new([outputs])));
            }
            if let Some(node) = weight_node {
                grads.register::<B>(
                    node.id,
                    B::conv_same_weight_gradient(x, grad.clone(), weight.clone()),
                );
            }
            if let Some(node) = x_node {
                grads.register::<B>(node.id, B::conv_same_input_gradient(grad, weight));
            }
        }
    }

    let nodes = [x.node(), weight.node(), bias.node()];
    match Conv.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let state = (prep.checkpoint(&x), prep.checkpoint(&weight));
            prep.finish(
                state,
                B::conv_same(x.into_primitive(), weight.into_primitive(), bias.into_primitive()),
            )
        }
        OpsKind::UnTracked(prep) => prep.finish(B::conv_same(
            x.into_primitive(),
            weight.into_primitive(),
            bias.into_primitive(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{error, tensor};
    use burn::tensor::Device;
    use burn::tensor::module::conv2d;
    use proptest::prelude::*;

    /// The kernel and Burn's own convolution: outputs and all three gradients.
    fn agrees([count, inputs, outputs, height, width, kernel]: [usize; 6]) {
        let device = Device::flex().autodiff();
        let x = tensor(1, [count, inputs, height, width], &device).require_grad();
        let weight = tensor(2, [outputs, inputs, kernel, kernel], &device).require_grad();
        let bias = tensor::<1>(3, [outputs], &device).require_grad();
        let g = tensor::<4>(4, [count, outputs, height, width], &device);
        let ours = conv_same(x.clone(), weight.clone(), bias.clone());
        let plain = conv2d(x.clone(), weight.clone(), Some(bias.clone()), options(kernel));
        let (a, b) =
            ((ours.clone() * g.clone()).sum().backward(), (plain.clone() * g).sum().backward());
        let what = format!("{count} {inputs} {outputs} {height} {width} {kernel}");
        // Sums of up to 10 000 products in another order, and the rounding of the transforms of
        // tiles (2e-5 was seen), in units of the result's root mean square.
        assert!(error(ours, plain) < 5e-5, "{what}");
        assert!(error(x.grad(&a).unwrap(), x.grad(&b).unwrap()) < 5e-5, "{what}: x");
        assert!(error(weight.grad(&a).unwrap(), weight.grad(&b).unwrap()) < 5e-5, "{what}: weight");
        assert!(error(bias.grad(&a).unwrap(), bias.grad(&b).unwrap()) < 2e-5, "{what}: bias");
    }

    /// Odd sizes, one pixel, one channel, channels that don't fill a block, more images than
    /// threads.
    #[test]
    fn convolution_equals_plain_ops_with_its_gradients() {
        for case in [
            [1, 1, 1, 1, 1, 3],
            [2, 3, 5, 7, 6, 3],
            [1, 8, 8, 32, 32, 3],
            [3, 5, 17, 4, 33, 3],
            [2, 64, 9, 16, 16, 3],
            [5, 2, 3, 1, 50, 3],
            [1, 1, 1, 1, 1, 1],
            [2, 7, 10, 5, 9, 1],
            [3, 16, 4, 8, 8, 1],
            [3, 1, 16, 32, 32, 3],
            [3, 16, 3, 32, 32, 3],
            [3, 48, 16, 32, 32, 3],
            [3, 64, 32, 16, 16, 3],
            [3, 32, 96, 16, 16, 1],
        ] {
            agrees(case);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn convolution_equals_plain_ops_on_any_shape(
            case in (1..4usize, 1..70usize, 1..70usize, 1..25usize, 1..25usize, prop_oneof![Just(1usize), Just(3)]),
        ) {
            agrees(case.into());
        }
    }

    /// A strided view, and an image's bits alone and among others.
    #[test]
    fn views_are_accepted_and_images_are_independent() {
        let device = Device::flex();
        let x = tensor::<4>(1, [6, 5, 9, 7], &device);
        let (weight, bias) = (tensor::<4>(2, [4, 5, 3, 3], &device), tensor::<1>(3, [4], &device));
        let whole = conv_same(x.clone(), weight.clone(), bias.clone());
        for i in 0..6 {
            let one = conv_same(x.clone().slice([i..i + 1]), weight.clone(), bias.clone());
            assert_eq!(one.to_data(), whole.clone().slice([i..i + 1]).to_data());
        }
        let turned = conv_same(x.clone().swap_dims(2, 3), weight.clone().swap_dims(2, 3), bias)
            .swap_dims(2, 3);
        assert!(error(turned, whole) < 1e-5);
    }
}
