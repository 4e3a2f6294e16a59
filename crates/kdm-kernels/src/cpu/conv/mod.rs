//! Convolution with stride 1 and a kernel of 1x1 or 3x3 that keeps the image's size.
//!
//! Images lie channel-last in frames of zeros, so that what a tap of the kernel sees lies at a
//! constant distance from its output and channels fill whole vectors. A 1x1 kernel and small images
//! take the plain sum of products; 3x3 kernels on larger images take Winograd's F(4x4, 3x3), which
//! needs a quarter of the multiplications. The input's gradient is the same convolution with the
//! kernel turned around; the weights' gradient is the gradient of the same formula.
//!
//! Each image's result is computed by itself: its bits don't depend on the batch or the number of
//! threads.
//!
//! `packed.rs` has the convolution itself, `weight_gradient.rs` the gradient of its weights,
//! `tiles.rs` where Winograd's tiles lie; here are the operations on tensors.

use burn::backend::{Flex, TensorMetadata};
use burn_flex::FlexTensor;

use super::buffer_pool::scratch;
use super::flex::{dense, fits, from_values};
use super::nhwc::{Frame, frames_from_planes, planes_from_maps};
use crate::ops::conv::{forward_plain, input_gradient_plain, weight_gradient_plain};
use crate::ops::layout::padded;

mod packed;
mod tiles;
mod weight_gradient;

pub(crate) use packed::{Conv, Kernel, Use};
pub(crate) use weight_gradient::weight_gradient_of_maps;

/// Whether the loops here take these tensors and this kernel.
fn is_ours(tensors: &[&FlexTensor], kernel: usize) -> bool {
    (kernel == 1 || kernel == 3) && fits(tensors)
}

pub(crate) fn forward(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
    let [outputs, inputs, side, _] = weight.shape().dims();
    if !is_ours(&[&x, &weight, &bias], side) {
        return forward_plain::<Flex>(x, weight, bias);
    }
    let (x, weight, bias) = (dense(x), dense(weight), dense(bias));
    let kernel = Kernel { values: weight.storage(), outputs, inputs, side, scale: 1.0 };
    convolve(&x, |height, width| Conv::new(kernel, Some(bias.storage()), height, width, Use::Many))
}

pub(crate) fn input_gradient(grad: FlexTensor, weight: FlexTensor) -> FlexTensor {
    let [outputs, inputs, side, _] = weight.shape().dims();
    if !is_ours(&[&grad, &weight], side) {
        return input_gradient_plain::<Flex>(grad, weight);
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
    from_values(y, [count, conv.outputs, height, width])
}

pub(crate) fn weight_gradient(x: FlexTensor, grad: FlexTensor, weight: FlexTensor) -> FlexTensor {
    let side = weight.shape()[3];
    if !is_ours(&[&x, &grad], side) {
        return weight_gradient_plain::<Flex>(x, grad, weight);
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
    from_values(
        weight_gradient_of_maps(&frames, inputs, frame, &grads, outputs, 1.0),
        [outputs, inputs, side, side],
    )
}
