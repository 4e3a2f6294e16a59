//! The residual block of U-Nets as one operation: norm, SiLU, resampling, convolution, norm with
//! the time's shift, SiLU, dropout, convolution, the skip path, and self-attention (the blocks of
//! Song et al., arXiv:2011.13456, and of Dhariwal and Nichol, arXiv:2105.05233, as Karras et al.
//! have them, arXiv:2206.00364, appendix F.2).
//!
//! What a block computes is defined by `specification.rs`, in plain operations on planes;
//! `plain_gradient.rs` is its gradient in plain operations. The CPU computes both in loops of its
//! own, on maps, so that no block turns images around.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, DispatchTensor};
use burn::tensor::Tensor;

use super::KernelOps;
use super::dropout::Dropout;
use super::gradient::{Gradient, record};
use super::layout::{Layout, maps_plain, planes_plain};
use super::resample::Resize;

mod plain_gradient;
mod slots;
mod specification;
#[cfg(test)]
mod tests;

pub use slots::{BlockPassed, BlockSlots};
pub(crate) use slots::{SLOTS, Slot};
use specification::Specification;

/// All of a residual block but its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockOptions {
    /// How its images lie: input, skip connection and result.
    pub layout: Layout,
    /// Height and width of the input.
    pub size: [usize; 2],
    /// Channels of the input, and of the skip connection concatenated to it (0 for none).
    pub inputs: [usize; 2],
    /// Channels of the result.
    pub outputs: usize,
    /// Resampling.
    pub resize: Resize,
    /// The resampling filter's taps, an even number of them with sum 1.
    pub taps: Vec<f32>,
    /// Groups of the norms before the first convolution, the second, and the attention; each
    /// divides the number of its channels.
    pub groups: [usize; 3],
    /// Added to the norms' variances; above 0.
    pub epsilon: f64,
    /// Factor of the sum of the two paths, and of that with the attention.
    pub scale: f32,
    /// Whether the embedding gives a scale and a shift after the second norm, instead of a shift
    /// before it.
    pub adaptive: bool,
    /// Whether the skip path has a convolution, as it must where the number of channels changes.
    pub skip: bool,
    /// Heads of the self-attention, a divisor of `outputs`; 0 for no attention.
    pub heads: usize,
    /// Before the second convolution; none when not training.
    pub dropout: Option<Dropout>,
}

impl BlockOptions {
    /// Height and width of the result.
    pub fn result_size(&self) -> [usize; 2] {
        self.resize.result_size(self.size, self.taps.len())
    }

    /// Channels of the input with the skip connection's.
    pub(crate) fn channels(&self) -> usize {
        self.inputs[0] + self.inputs[1]
    }
}

/// Weight and bias of a norm.
#[derive(Clone, Debug)]
pub struct Norm {
    /// Weight, `[C]`.
    pub weight: Tensor<1>,
    /// Bias, `[C]`.
    pub bias: Tensor<1>,
}

/// The tensors of a residual block.
#[derive(Clone, Debug)]
pub struct BlockTensors {
    /// The input, in the options' layout.
    pub x: Tensor<4>,
    /// The skip connection: concatenated to the input's channels, in the same layout.
    pub skip_connection: Option<Tensor<4>>,
    /// The embedding's shift `[N, outputs]`, or of adaptive blocks scale and shift
    /// `[N, 2 outputs]`.
    pub embedding: Tensor<2>,
    /// The rest.
    pub weights: BlockWeights,
}

/// Weight and bias of a convolution.
pub type ConvWeights = (Tensor<4>, Tensor<1>);

/// The weights of a residual block.
#[derive(Clone, Debug)]
pub struct BlockWeights {
    /// Norms before the first and the second convolution.
    pub norms: [Norm; 2],
    /// The two convolutions, 3x3.
    pub convs: [ConvWeights; 2],
    /// The skip path's convolution, 1x1.
    pub skip: Option<ConvWeights>,
    /// The attention's norm, and the convolutions for queries, keys and values (channels as head,
    /// channel, [q, k, v]) and for its result, 1x1.
    pub attention: Option<(Norm, [ConvWeights; 2])>,
}

/// A residual block: `[N, inputs, H, W]` -> `[N, outputs, H', W']` in the options' layout, with the
/// size of [`BlockOptions::result_size`]. `ops/residual_block/specification.rs` defines what it
/// computes.
pub fn residual_block(tensors: BlockTensors, options: BlockOptions) -> Tensor<4> {
    let BlockTensors { x, skip_connection, embedding, weights } = tensors;
    let nothing = Tensor::<1>::zeros([1], &x.device()).into_dispatch();
    let mut slots: [DispatchTensor; SLOTS] = std::array::from_fn(|_| nothing.clone());
    for (slot, tensor) in weights.slots() {
        slots[slot as usize] = match tensor {
            Weight::One(tensor) => tensor.into_dispatch(),
            Weight::Four(tensor) => tensor.into_dispatch(),
        };
    }
    slots[Slot::X as usize] = x.into_dispatch();
    if let Some(kept) = skip_connection {
        slots[Slot::SkipConnection as usize] = kept.into_dispatch();
    }
    slots[Slot::Embedding as usize] = embedding.into_dispatch();
    Tensor::from_dispatch(<Dispatch as KernelOps>::residual_block(
        BlockSlots::from_slots(slots),
        options,
    ))
}

/// A weight of either rank.
#[derive(Debug)]
pub(crate) enum Weight {
    One(Tensor<1>),
    Four(Tensor<4>),
}

impl BlockWeights {
    /// The weights with their slots.
    pub(crate) fn slots(self) -> Vec<(Slot, Weight)> {
        let mut all = Vec::with_capacity(SLOTS);
        let mut norm = |weight: Slot, bias: Slot, norm: Norm| {
            all.extend([(weight, Weight::One(norm.weight)), (bias, Weight::One(norm.bias))]);
        };
        let [norm0, norm1] = self.norms;
        norm(Slot::Norm0Weight, Slot::Norm0Bias, norm0);
        norm(Slot::Norm1Weight, Slot::Norm1Bias, norm1);
        let attention = self.attention.map(|(norm2, convs)| {
            norm(Slot::Norm2Weight, Slot::Norm2Bias, norm2);
            convs
        });
        let mut conv = |weight: Slot, bias: Slot, (w, b): ConvWeights| {
            all.extend([(weight, Weight::Four(w)), (bias, Weight::One(b))]);
        };
        let [conv0, conv1] = self.convs;
        conv(Slot::Conv0Weight, Slot::Conv0Bias, conv0);
        conv(Slot::Conv1Weight, Slot::Conv1Bias, conv1);
        if let Some(skip) = self.skip {
            conv(Slot::SkipWeight, Slot::SkipBias, skip);
        }
        if let Some([qkv, proj]) = attention {
            conv(Slot::QkvWeight, Slot::QkvBias, qkv);
            conv(Slot::ProjWeight, Slot::ProjBias, proj);
        }
        all
    }
}

/// The images among a block's tensors as planes.
fn on_planes<B: KernelOps>(
    tensors: BlockSlots<B>,
    options: &BlockOptions,
) -> [FloatTensor<B>; SLOTS] {
    let mut tensors = tensors.into_slots();
    if options.layout == Layout::Maps {
        for (slot, channels) in IMAGES.into_iter().zip(options.inputs) {
            if channels > 0 {
                let place = &mut tensors[slot as usize];
                *place = planes_plain::<B>(place.clone(), channels);
            }
        }
    }
    tensors
}

/// The slots that hold images.
const IMAGES: [Slot; 2] = [Slot::X, Slot::SkipConnection];

/// Planes in the block's layout.
fn in_layout<B: KernelOps>(planes: FloatTensor<B>, options: &BlockOptions) -> FloatTensor<B> {
    match options.layout {
        Layout::Planes => planes,
        Layout::Maps => maps_plain::<B>(planes),
    }
}

pub(crate) fn forward_plain<B: KernelOps>(
    tensors: BlockSlots<B>,
    options: BlockOptions,
) -> FloatTensor<B> {
    let tensors = on_planes::<B>(tensors, &options);
    let y = Specification::<B> { tensors: &tensors, options: &options }.result();
    in_layout::<B>(y, &options)
}

pub(crate) fn saving_plain<B: KernelOps>(
    tensors: BlockSlots<B>,
    options: BlockOptions,
) -> BlockPassed<B> {
    let tensors = on_planes::<B>(tensors, &options);
    let block = Specification::<B> { tensors: &tensors, options: &options };
    let x = block.input();
    let hidden = block.hidden(x.clone());
    let mixed = block.mixed(x, hidden.clone());
    let y = block.attended(mixed.clone());
    let [y, hidden, mixed] = [y, hidden, mixed].map(|planes| in_layout::<B>(planes, &options));
    BlockPassed { y, hidden, mixed }
}

pub(crate) fn backward_plain<B: KernelOps>(
    tensors: BlockSlots<B>,
    passed: BlockPassed<B>,
    grad: FloatTensor<B>,
    options: BlockOptions,
) -> BlockSlots<B> {
    let tensors = on_planes::<B>(tensors, &options);
    let planes = |x: FloatTensor<B>| match options.layout {
        Layout::Planes => x,
        Layout::Maps => planes_plain::<B>(x, options.outputs),
    };
    let block = Specification::<B> { tensors: &tensors, options: &options };
    let mut grads = plain_gradient::gradients(
        &block,
        planes(passed.hidden),
        planes(passed.mixed),
        planes(grad),
    );
    for (slot, channels) in IMAGES.into_iter().zip(options.inputs) {
        if channels > 0 {
            let place = &mut grads[slot as usize];
            *place = in_layout::<B>(place.clone(), &options);
        }
    }
    BlockSlots::from_slots(grads)
}

/// A block's tensors, what its forward pass left, and its options.
#[derive(Clone, Debug)]
struct BlockGradient<B: Backend> {
    tensors: [FloatTensor<B>; SLOTS],
    hidden: FloatTensor<B>,
    mixed: FloatTensor<B>,
    options: BlockOptions,
}

impl<B: KernelOps> Gradient<B, SLOTS> for BlockGradient<B> {
    fn gradients(self, grad: FloatTensor<B>, _: [bool; SLOTS]) -> [Option<FloatTensor<B>>; SLOTS] {
        let Self { tensors, hidden, mixed, options } = self;
        let passed = BlockPassed { y: hidden.clone(), hidden, mixed };
        let tensors = BlockSlots::from_slots(tensors);
        B::residual_block_backward(tensors, passed, grad, options).into_slots().map(Some)
    }
}

pub(crate) fn forward_autodiff<B: KernelOps, C: CheckpointStrategy>(
    tensors: BlockSlots<Autodiff<B, C>>,
    options: BlockOptions,
) -> FloatTensor<Autodiff<B, C>> {
    if options.layout == Layout::Planes {
        return forward_plain::<Autodiff<B, C>>(tensors, options);
    }
    record::<B, C, _, SLOTS>(
        tensors.into_slots(),
        |tensors| B::residual_block(BlockSlots::from_slots(tensors), options.clone()),
        |tensors| {
            let slots = BlockSlots::from_slots(tensors.clone());
            let BlockPassed { y, hidden, mixed } = B::residual_block_saving(slots, options.clone());
            (y, BlockGradient { tensors, hidden, mixed, options: options.clone() })
        },
    )
}
