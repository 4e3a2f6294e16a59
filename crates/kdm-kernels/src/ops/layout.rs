//! How images lie in memory between operations: as planes, which is Burn's and PyTorch's order, or
//! channel-last as maps, which the CPU's loops want.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata};
use burn::tensor::{DType, Device, Tensor};

use super::KernelOps;
use super::gradient::{Gradient, record};
use super::planes::{constants, part};

/// Channels of a map are padded to a multiple of this, so that they fill whole vectors.
pub(crate) const CHANNEL_BLOCK: usize = 16;

/// Channels with their padding.
pub(crate) fn padded(channels: usize) -> usize {
    channels.next_multiple_of(CHANNEL_BLOCK)
}

/// How images lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[N, C, H, W]`.
    Planes,
    /// `[N, H, W, C]`, channels padded to a multiple of 16. What the padding holds has no meaning.
    Maps,
}

/// Whether a device, with or without autodiff, runs the fused CPU loops.
///
/// ```
/// use burn::tensor::Device;
///
/// assert!(kdm_kernels::is_cpu(&Device::flex()));
/// assert!(kdm_kernels::is_cpu(&Device::flex().autodiff()));
/// ```
pub fn is_cpu(device: &Device) -> bool {
    device.clone().inner() == Device::flex()
}

/// The layout in which `x` `[N, C, H, W]` is best taken through residual blocks: maps on the CPU in
/// f32, else planes.
pub fn layout(x: &Tensor<4>) -> Layout {
    if is_cpu(&x.device()) && x.dtype() == DType::F32 && x.shape().num_elements() > 0 {
        Layout::Maps
    } else {
        Layout::Planes
    }
}

/// `[N, C, H, W]` -> `[N, H, W, C]`, channels padded with zeros to a multiple of 16.
pub fn to_maps(x: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as KernelOps>::maps(x.into_dispatch()))
}

/// The first `channels` of maps as `[N, channels, H, W]`.
pub fn from_maps(maps: Tensor<4>, channels: usize) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as KernelOps>::planes(maps.into_dispatch(), channels))
}

pub(crate) fn maps_plain<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let [n, c, h, w] = x.shape().dims();
    let x = B::float_permute(x, &[0, 2, 3, 1]);
    let more = padded(c) - c;
    if more == 0 {
        return x;
    }
    let zeros = constants::<B, 4>(vec![0.0; n * h * w * more], [n, h, w, more], &x);
    B::float_cat(vec![x, zeros], 3)
}

pub(crate) fn planes_plain<B: Backend>(maps: FloatTensor<B>, channels: usize) -> FloatTensor<B> {
    B::float_permute(part::<B>(maps, 3, 0, channels), &[0, 3, 1, 2])
}

/// The gradient of maps: planes of as many channels.
#[derive(Clone, Debug)]
struct MapsGradient {
    channels: usize,
}

impl<B: KernelOps> Gradient<B, 1> for MapsGradient {
    fn gradients(self, grad: FloatTensor<B>, _: [bool; 1]) -> [Option<FloatTensor<B>>; 1] {
        [Some(B::planes(grad, self.channels))]
    }
}

pub(crate) fn maps_autodiff<B: KernelOps, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let channels = x.shape()[1];
    record::<B, C, _, 1>([x], |[x]| B::maps(x), |[x]| (B::maps(x), MapsGradient { channels }))
}

/// The gradient of planes: maps.
#[derive(Clone, Debug)]
struct PlanesGradient;

impl<B: KernelOps> Gradient<B, 1> for PlanesGradient {
    fn gradients(self, grad: FloatTensor<B>, _: [bool; 1]) -> [Option<FloatTensor<B>>; 1] {
        [Some(B::maps(grad))]
    }
}

pub(crate) fn planes_autodiff<B: KernelOps, C: CheckpointStrategy>(
    maps: FloatTensor<Autodiff<B, C>>,
    channels: usize,
) -> FloatTensor<Autodiff<B, C>> {
    record::<B, C, _, 1>(
        [maps],
        |[maps]| B::planes(maps, channels),
        |[maps]| (B::planes(maps, channels), PlanesGradient),
    )
}
