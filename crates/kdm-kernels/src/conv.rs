//! Convolution with stride 1 and a kernel of 1x1 or 3x3 that keeps the image's size: what U-Nets spend their time on.
//!
//! Every plane of an image is copied once into a frame of zeros. Within a frame, what a tap of the kernel sees lies at a
//! constant distance from its output, rows and all; so one loop over vectors of neighbouring outputs (a few of them on the
//! frame, which are dropped) serves images of any size, and no matrix of patches is ever written. The forward pass keeps a
//! few output channels times three vectors of pixels in registers; the input's gradient is the same loop over the flipped
//! kernel; the weights' gradient keeps the sums of a few pairs of channels for all taps of a kernel's row.
//!
//! Each image's result is computed by itself: its bits don't depend on the batch or the number of threads.

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
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::KernelOps;
use crate::vector::{dense, dispatch, is_wide};

/// `x` convolved with `weight` (1x1 or 3x3, stride 1, zeros around the image), plus `bias`.
///
/// # Shapes
/// `x` `[N, in, H, W]`, `weight` `[out, in, k, k]` with k 1 or 3, `bias` `[out]`; the result is `[N, out, H, W]`.
pub fn conv_same(x: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as KernelOps>::conv_same(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    ))
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

pub(crate) fn input_gradient_plain<B: Backend>(grad: FloatTensor<B>, weight: FloatTensor<B>) -> FloatTensor<B> {
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

/// Where the pixels of a plane lie in its frame.
#[derive(Clone, Copy, Debug)]
struct Frame {
    height: usize,
    width: usize,
    kernel: usize,
}

/// Pixels that the widest loop takes at a time; frames have as many to spare at their end.
const MOST_AT_ONCE: usize = 48;

impl Frame {
    /// Pixels a row.
    fn row(self) -> usize {
        self.width + self.kernel - 1
    }

    /// From the first output to the last, those on the frame between them included.
    fn span(self) -> usize {
        self.height * self.row()
    }

    /// Pixels of the whole frame.
    fn size(self) -> usize {
        self.span() + MOST_AT_ONCE + (self.kernel - 1) * (self.row() + 1)
    }

    /// Distances from an output to what the kernel's taps see, row by row.
    fn taps(self) -> Vec<usize> {
        (0..self.kernel * self.kernel).map(|t| t / self.kernel * self.row() + t % self.kernel).collect()
    }

    /// Planes of `[count, height, width]` in frames, at `margin` pixels from their left and upper edges; then frames of
    /// zeros up to `frames`.
    fn framed(self, planes: &[f32], frames: usize, margin: usize, out: &mut [f32]) {
        debug_assert_eq!(out.len(), frames * self.size());
        out.fill(0.0);
        let pixels = self.height * self.width;
        for (plane, frame) in planes.chunks_exact(pixels).zip(out.chunks_exact_mut(self.size())) {
            for (y, row) in plane.chunks_exact(self.width).enumerate() {
                let start = (y + margin) * self.row() + margin;
                frame[start..start + self.width].copy_from_slice(row);
            }
        }
    }
}

/// All images' planes in frames, image by image, each with its channels filled up to `channels`.
fn framed_images(x: &[f32], inputs: usize, channels: usize, frame: Frame, margin: usize) -> Vec<f32> {
    let image = inputs * frame.height * frame.width;
    let count = x.len() / image.max(1);
    let mut out = vec![0.0; count * channels * frame.size()];
    out.par_chunks_mut(channels * frame.size())
        .zip(x.par_chunks(image))
        .for_each(|(out, x)| frame.framed(x, channels, margin, out));
    out
}

/// Output channels whose sums are kept in registers at a time.
fn channels_at_once() -> usize {
    if is_wide() { 8 } else { 4 }
}

/// Input channels that one sum runs over, all taps included.
const INPUTS_A_SUM: usize = 16;

/// Some output channels of one image.
struct Outputs<'a, const CHANNELS: usize> {
    /// The input's frames.
    frames: &'a [f32],
    /// For every input channel and tap, a weight for each of these outputs.
    weights: &'a [f32],
    frame: Frame,
    taps: &'a [usize],
    /// A frame's span for every output, rounded up by at most `MOST_AT_ONCE`.
    out: &'a mut [f32],
}

impl<const CHANNELS: usize> WithSimd for Outputs<'_, CHANNELS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let at_once = 3 * S::F32_LANES;
        let stride = self.out.len() / CHANNELS;
        let per_input = self.taps.len() * CHANNELS;
        let size = self.frame.size();
        for first in (0..self.frame.span()).step_by(at_once) {
            // Sums of a few inputs at a time, added up afterwards, round less than one long sum.
            let parts = self.frames.chunks(INPUTS_A_SUM * size).zip(self.weights.chunks(INPUTS_A_SUM * per_input));
            for (part, (frames, weights)) in parts.enumerate() {
                let mut sums = [[simd.splat_f32s(0.0); 3]; CHANNELS];
                for (frame, weights) in frames.chunks_exact(size).zip(weights.chunks_exact(per_input)) {
                    for (tap, weights) in self.taps.iter().zip(weights.chunks_exact(CHANNELS)) {
                        let start = first + tap;
                        let (pixels, _) = S::as_simd_f32s(&frame[start..start + at_once]);
                        let &[a, b, c] = pixels else { continue };
                        for (sums, weight) in sums.iter_mut().zip(weights) {
                            let weight = simd.splat_f32s(*weight);
                            sums[0] = simd.mul_add_e_f32s(weight, a, sums[0]);
                            sums[1] = simd.mul_add_e_f32s(weight, b, sums[1]);
                            sums[2] = simd.mul_add_e_f32s(weight, c, sums[2]);
                        }
                    }
                }
                for (sums, out) in sums.iter().zip(self.out.chunks_exact_mut(stride)) {
                    let (out, _) = S::as_mut_simd_f32s(&mut out[first..first + at_once]);
                    for (out, sum) in out.iter_mut().zip(sums) {
                        *out = if part == 0 { *sum } else { simd.add_f32s(*out, *sum) };
                    }
                }
            }
        }
    }
}

/// For each block of outputs, each input and tap: the weights of the block's outputs; zeros beyond the last output.
/// `weight` gives the weight of (output, input, tap).
fn packed(
    outputs: usize,
    inputs: usize,
    taps: usize,
    at_once: usize,
    weight: impl Fn(usize, usize, usize) -> f32 + Sync,
) -> Vec<f32> {
    let mut all = vec![0.0; outputs.div_ceil(at_once) * inputs * taps * at_once];
    all.par_chunks_mut(inputs * taps * at_once).enumerate().for_each(|(block, out)| {
        for (i, out) in out.iter_mut().enumerate() {
            let output = block * at_once + i % at_once;
            if output < outputs {
                *out = weight(output, i / at_once / taps, i / at_once % taps);
            }
        }
    });
    all
}

/// The convolution of every image, with `weight` of (output, input, tap).
fn convolve(
    x: &[f32],
    [count, inputs, height, width]: [usize; 4],
    outputs: usize,
    kernel: usize,
    bias: Option<&[f32]>,
    weight: impl Fn(usize, usize, usize) -> f32 + Sync,
) -> Vec<f32> {
    let frame = Frame { height, width, kernel };
    let frames = framed_images(x, inputs, inputs, frame, kernel / 2);
    let (taps, at_once) = (frame.taps(), channels_at_once());
    let weights = packed(outputs, inputs, taps.len(), at_once, weight);
    let pixels = height * width;
    let mut y = vec![0.0; count * outputs * pixels];
    let blocks = outputs.div_ceil(at_once);
    let mut tasks: Vec<(usize, usize, &mut [f32])> = Vec::with_capacity(count * blocks);
    for (image, y) in y.chunks_mut(outputs * pixels).enumerate() {
        tasks.extend(y.chunks_mut(at_once * pixels).enumerate().map(|(block, y)| (image, block, y)));
    }
    let stride = frame.span() + MOST_AT_ONCE;
    tasks.into_par_iter().for_each_init(
        || vec![0.0f32; at_once * stride],
        |out, (image, block, y)| {
            let size = inputs * frame.size();
            let frames = &frames[image * size..(image + 1) * size];
            let share = inputs * taps.len() * at_once;
            let weights = &weights[block * share..(block + 1) * share];
            let taps = &taps[..];
            match at_once {
                8 => dispatch(Outputs::<8> { frames, weights, frame, taps, out }),
                _ => dispatch(Outputs::<4> { frames, weights, frame, taps, out }),
            }
            for (i, (plane, out)) in y.chunks_exact_mut(pixels).zip(out.chunks_exact(stride)).enumerate() {
                let bias = bias.map_or(0.0, |bias| bias[block * at_once + i]);
                for (row, out) in plane.chunks_exact_mut(width).zip(out.chunks_exact(frame.row())) {
                    row.iter_mut().zip(out).for_each(|(y, sum)| *y = sum + bias);
                }
            }
        },
    );
    y
}

/// Gradients of the weights between some outputs and all inputs, over one image.
struct WeightSums<'a, const OUTPUTS: usize, const INPUTS: usize, const KERNEL: usize> {
    /// Frames of the outputs' gradients, from their first pixel on.
    grads: &'a [f32],
    /// The inputs' frames; their number is a multiple of INPUTS.
    frames: &'a [f32],
    frame: Frame,
    /// `[OUTPUTS, inputs, KERNEL, KERNEL]`, added to.
    out: &'a mut [f32],
}

impl<const OUTPUTS: usize, const INPUTS: usize, const KERNEL: usize> WithSimd
    for WeightSums<'_, OUTPUTS, INPUTS, KERNEL>
{
    type Output = ();

    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "the sums' three indices are the equation")]
    fn with_simd<S: Simd>(self, simd: S) {
        let (size, row, lanes) = (self.frame.size(), self.frame.row(), S::F32_LANES);
        let steps = self.frame.span().div_ceil(lanes);
        let inputs = self.frames.len() / size;
        let load = |values: &[f32], at: usize| S::as_simd_f32s(&values[at..at + lanes]).0[0];
        for first in (0..inputs).step_by(INPUTS) {
            for dy in 0..KERNEL {
                let mut sums = [[[simd.splat_f32s(0.0); KERNEL]; INPUTS]; OUTPUTS];
                for step in 0..steps {
                    let at = step * lanes;
                    let mut grads = [simd.splat_f32s(0.0); OUTPUTS];
                    for (o, grad) in grads.iter_mut().enumerate() {
                        *grad = load(self.grads, o * size + at);
                    }
                    for c in 0..INPUTS {
                        let start = (first + c) * size + at + dy * row;
                        for dx in 0..KERNEL {
                            let pixel = load(self.frames, start + dx);
                            for o in 0..OUTPUTS {
                                sums[o][c][dx] = simd.mul_add_e_f32s(grads[o], pixel, sums[o][c][dx]);
                            }
                        }
                    }
                }
                for (o, sums) in sums.iter().enumerate() {
                    for (c, sums) in sums.iter().enumerate() {
                        for (dx, sum) in sums.iter().enumerate() {
                            let place = ((o * inputs + first + c) * KERNEL + dy) * KERNEL + dx;
                            self.out[place] += simd.reduce_sum_f32s(*sum);
                        }
                    }
                }
            }
        }
    }
}

fn weight_sums(
    x: &[f32],
    grad: &[f32],
    [count, inputs, height, width]: [usize; 4],
    outputs: usize,
    kernel: usize,
) -> Vec<f32> {
    let frame = Frame { height, width, kernel };
    let (some_outputs, some_inputs) = if is_wide() { (4, 2) } else { (2, 2) };
    let (outputs_up, inputs_up) = (outputs.next_multiple_of(some_outputs), inputs.next_multiple_of(some_inputs));
    let frames = framed_images(x, inputs, inputs_up, frame, kernel / 2);
    // The gradients lie at the frame's start: an output's place is where its first tap is.
    let grads = framed_images(grad, outputs, outputs_up, frame, 0);
    let size = frame.size();
    let mut all = vec![0.0; outputs_up * inputs_up * kernel * kernel];
    all.par_chunks_mut(some_outputs * inputs_up * kernel * kernel).enumerate().for_each(|(block, out)| {
        for image in 0..count {
            let frames = &frames[image * inputs_up * size..(image + 1) * inputs_up * size];
            let first = (image * outputs_up + block * some_outputs) * size;
            let grads = &grads[first..first + some_outputs * size];
            match (some_outputs, kernel) {
                (4, 3) => dispatch(WeightSums::<4, 2, 3> { grads, frames, frame, out }),
                (4, _) => dispatch(WeightSums::<4, 2, 1> { grads, frames, frame, out }),
                (_, 3) => dispatch(WeightSums::<2, 2, 3> { grads, frames, frame, out }),
                _ => dispatch(WeightSums::<2, 2, 1> { grads, frames, frame, out }),
            }
        }
    });
    let area = kernel * kernel;
    let rows = all.chunks_exact(inputs_up * area).take(outputs);
    rows.flat_map(|row| row[..inputs * area].iter().copied()).collect()
}

fn flex(values: Vec<f32>, shape: [usize; 4]) -> FlexTensor {
    FlexTensor::from_data(burn::tensor::TensorData::new(values, shape))
}

fn is_ours(tensors: &[&FlexTensor], kernel: usize) -> bool {
    (kernel == 1 || kernel == 3) && tensors.iter().all(|t| t.dtype() == DType::F32)
}

pub(crate) fn forward_flex(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
    let [outputs, inputs, kernel, _] = weight.shape().dims();
    if !is_ours(&[&x, &weight, &bias], kernel) {
        return forward_plain::<burn::backend::Flex>(x, weight, bias);
    }
    let (x, weight, bias) = (dense(x), dense(weight), dense(bias));
    let shape @ [count, _, height, width] = x.shape().dims();
    let (w, area) = (weight.storage::<f32>(), kernel * kernel);
    let at = |o: usize, i: usize, t: usize| w[(o * inputs + i) * area + t];
    let y = convolve(x.storage(), shape, outputs, kernel, Some(bias.storage()), at);
    flex(y, [count, outputs, height, width])
}

pub(crate) fn input_gradient_flex(grad: FlexTensor, weight: FlexTensor) -> FlexTensor {
    let [_, inputs, kernel, _] = weight.shape().dims();
    if !is_ours(&[&grad, &weight], kernel) {
        return input_gradient_plain::<burn::backend::Flex>(grad, weight);
    }
    let (grad, weight) = (dense(grad), dense(weight));
    let shape @ [count, _, height, width] = grad.shape().dims();
    let (w, area) = (weight.storage::<f32>(), kernel * kernel);
    // What was an output is an input, and the kernel is turned around.
    let at = |o: usize, i: usize, t: usize| w[(i * inputs + o) * area + (area - 1 - t)];
    flex(convolve(grad.storage(), shape, inputs, kernel, None, at), [count, inputs, height, width])
}

pub(crate) fn weight_gradient_flex(x: FlexTensor, grad: FlexTensor, weight: FlexTensor) -> FlexTensor {
    let kernel = weight.shape()[3];
    if !is_ours(&[&x, &grad], kernel) {
        return weight_gradient_plain::<burn::backend::Flex>(x, grad, weight);
    }
    let (x, grad) = (dense(x), dense(grad));
    let shape: [usize; 4] = x.shape().dims();
    let outputs = grad.shape()[1];
    let sums = weight_sums(x.storage(), grad.storage(), shape, outputs, kernel);
    flex(sums, [outputs, shape[1], kernel, kernel])
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

        fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
            let (x, weight) = ops.state;
            let x: FloatTensor<B> = checkpointer.retrieve_node_output(x);
            let weight: FloatTensor<B> = checkpointer.retrieve_node_output(weight);
            let [x_node, weight_node, bias_node] = ops.parents;
            let grad = grads.consume::<B>(&ops.node);
            if let Some(node) = bias_node {
                let [count, outputs, height, width] = grad.shape().dims();
                let rows = B::float_reshape(grad.clone(), Shape::new([count, outputs, height * width]));
                let sum = B::float_sum_dim(B::float_sum_dim(rows, 2), 0);
                grads.register::<B>(node.id, B::float_reshape(sum, Shape::new([outputs])));
            }
            if let Some(node) = weight_node {
                grads.register::<B>(node.id, B::conv_same_weight_gradient(x, grad.clone(), weight.clone()));
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
            // The plain body, for its rounding: in one official reference case a leaky unit of the discriminator lies at its
            // bend, and only this order of sums puts it on the side where the original has it.
            prep.finish(state, forward_plain::<B>(x.into_primitive(), weight.into_primitive(), bias.into_primitive()))
        }
        OpsKind::UnTracked(prep) => {
            prep.finish(B::conv_same(x.into_primitive(), weight.into_primitive(), bias.into_primitive()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{error, tensor};
    use burn::tensor::Device;
    use burn::tensor::module::conv2d;

    /// The kernel and Burn's own convolution: outputs and all three gradients. Odd sizes, one pixel, one channel, channels
    /// that don't fill a block, more images than threads.
    #[test]
    fn convolution_equals_plain_ops_with_its_gradients() {
        let device = Device::flex().autodiff();
        for (count, inputs, outputs, height, width, kernel) in [
            (1, 1, 1, 1, 1, 3),
            (2, 3, 5, 7, 6, 3),
            (1, 8, 8, 32, 32, 3),
            (3, 5, 17, 4, 33, 3),
            (2, 64, 9, 16, 16, 3),
            (5, 2, 3, 1, 50, 3),
            (1, 1, 1, 1, 1, 1),
            (2, 7, 10, 5, 9, 1),
            (3, 16, 4, 8, 8, 1),
            (3, 1, 16, 32, 32, 3),
            (3, 16, 3, 32, 32, 3),
            (3, 48, 16, 32, 32, 3),
            (3, 64, 32, 16, 16, 3),
            (3, 32, 96, 16, 16, 1),
        ] {
            let x = tensor(1, [count, inputs, height, width], &device).require_grad();
            let weight = tensor(2, [outputs, inputs, kernel, kernel], &device).require_grad();
            let bias = tensor::<1>(3, [outputs], &device).require_grad();
            let g = tensor::<4>(4, [count, outputs, height, width], &device);
            let ours = conv_same(x.clone(), weight.clone(), bias.clone());
            let plain = conv2d(x.clone(), weight.clone(), Some(bias.clone()), options(kernel));
            let (a, b) = ((ours.clone() * g.clone()).sum().backward(), (plain.clone() * g).sum().backward());
            let what = format!("{count} {inputs} {outputs} {height} {width} {kernel}");
            // Sums of up to 10 000 products in another order, in units of the result's root mean square.
            assert!(error(ours, plain) < 1e-5, "{what}");
            assert!(error(x.grad(&a).unwrap(), x.grad(&b).unwrap()) < 1e-5, "{what}: x");
            assert!(error(weight.grad(&a).unwrap(), weight.grad(&b).unwrap()) < 2e-5, "{what}: weight");
            assert!(error(bias.grad(&a).unwrap(), bias.grad(&b).unwrap()) < 2e-5, "{what}: bias");
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
        let turned = conv_same(x.clone().swap_dims(2, 3), weight.clone().swap_dims(2, 3), bias).swap_dims(2, 3);
        assert!(error(turned, whole) < 1e-5);
    }
}
