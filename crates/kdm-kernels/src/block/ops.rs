//! Residual blocks and the two layouts as Burn operations with gradients.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, Backend, Dispatch, DispatchTensor, ExtensionType, Flex, TensorMetadata,
};
use burn::tensor::{DType, Device, Shape, Slice, Tensor, TensorData};
use burn_flex::FlexTensor;

use super::{Block, BlockOptions, Layout, Passed, SLOTS, Slot, Tensors, backward, plain};
use crate::KernelOps;
use crate::conv::Use;
use crate::maps::{Frame, frames_from_planes, padded, planes_from_maps};
use crate::memory::zeros;
use crate::vector::dense;

/// A block's tensors, or their gradients, in the order of its slots; what a block doesn't have is
/// there and not read.
#[derive(ExtensionType)]
#[expect(missing_docs, reason = "the slots' names say it")]
pub struct BlockSlots<B: Backend> {
    pub x: FloatTensor<B>,
    pub joined: FloatTensor<B>,
    pub embedding: FloatTensor<B>,
    pub norm0_weight: FloatTensor<B>,
    pub norm0_bias: FloatTensor<B>,
    pub conv0_weight: FloatTensor<B>,
    pub conv0_bias: FloatTensor<B>,
    pub norm1_weight: FloatTensor<B>,
    pub norm1_bias: FloatTensor<B>,
    pub conv1_weight: FloatTensor<B>,
    pub conv1_bias: FloatTensor<B>,
    pub skip_weight: FloatTensor<B>,
    pub skip_bias: FloatTensor<B>,
    pub norm2_weight: FloatTensor<B>,
    pub norm2_bias: FloatTensor<B>,
    pub qkv_weight: FloatTensor<B>,
    pub qkv_bias: FloatTensor<B>,
    pub proj_weight: FloatTensor<B>,
    pub proj_bias: FloatTensor<B>,
}

/// What a block's forward pass leaves: maps.
#[derive(ExtensionType)]
pub struct BlockPassed<B: Backend> {
    /// The result.
    pub y: FloatTensor<B>,
    /// What came out of the first convolution.
    pub hidden: FloatTensor<B>,
    /// What went into the attention; the result itself without one.
    pub mixed: FloatTensor<B>,
}

impl<B: Backend> BlockSlots<B> {
    pub(crate) fn from_slots(slots: [FloatTensor<B>; SLOTS]) -> Self {
        let [
            x,
            joined,
            embedding,
            norm0_weight,
            norm0_bias,
            conv0_weight,
            conv0_bias,
            norm1_weight,
            norm1_bias,
            conv1_weight,
            conv1_bias,
            skip_weight,
            skip_bias,
            norm2_weight,
            norm2_bias,
            qkv_weight,
            qkv_bias,
            proj_weight,
            proj_bias,
        ] = slots;
        Self {
            x,
            joined,
            embedding,
            norm0_weight,
            norm0_bias,
            conv0_weight,
            conv0_bias,
            norm1_weight,
            norm1_bias,
            conv1_weight,
            conv1_bias,
            skip_weight,
            skip_bias,
            norm2_weight,
            norm2_bias,
            qkv_weight,
            qkv_bias,
            proj_weight,
            proj_bias,
        }
    }

    pub(crate) fn into_slots(self) -> [FloatTensor<B>; SLOTS] {
        let Self {
            x,
            joined,
            embedding,
            norm0_weight,
            norm0_bias,
            conv0_weight,
            conv0_bias,
            norm1_weight,
            norm1_bias,
            conv1_weight,
            conv1_bias,
            skip_weight,
            skip_bias,
            norm2_weight,
            norm2_bias,
            qkv_weight,
            qkv_bias,
            proj_weight,
            proj_bias,
        } = self;
        [
            x,
            joined,
            embedding,
            norm0_weight,
            norm0_bias,
            conv0_weight,
            conv0_bias,
            norm1_weight,
            norm1_bias,
            conv1_weight,
            conv1_bias,
            skip_weight,
            skip_bias,
            norm2_weight,
            norm2_bias,
            qkv_weight,
            qkv_bias,
            proj_weight,
            proj_bias,
        ]
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
    /// What is joined to it.
    pub joined: Option<Tensor<4>>,
    /// The embedding's shift `[N, outputs]`, or scale and shift `[N, 2 outputs]`.
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

/// The layout in which `x` (planes) is best taken through blocks.
pub fn layout(x: &Tensor<4>) -> Layout {
    let on_cpu = x.device().inner() == Device::flex();
    if on_cpu && x.dtype() == DType::F32 && x.shape().num_elements() > 0 {
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

/// A residual block: `[N, inputs, H, W]` -> `[N, outputs, H', W']`, in the options' layout.
pub fn residual_block(tensors: BlockTensors, options: BlockOptions) -> Tensor<4> {
    let BlockTensors { x, joined, embedding, weights } = tensors;
    let nothing = Tensor::<1>::zeros([1], &x.device()).into_dispatch();
    let mut slots: [DispatchTensor; SLOTS] = std::array::from_fn(|_| nothing.clone());
    for (slot, tensor) in weights.slots() {
        slots[slot as usize] = match tensor {
            Weight::One(tensor) => tensor.into_dispatch(),
            Weight::Four(tensor) => tensor.into_dispatch(),
        };
    }
    slots[Slot::X as usize] = x.into_dispatch();
    if let Some(joined) = joined {
        slots[Slot::Joined as usize] = joined.into_dispatch();
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

pub(crate) fn maps_plain<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let [n, c, h, w] = x.shape().dims();
    let x = B::float_permute(x, &[0, 2, 3, 1]);
    if padded(c) == c {
        return x;
    }
    let device = x.device();
    let zeros = vec![0.0f32; n * h * w * (padded(c) - c)];
    let zeros = B::float_from_data(TensorData::new(zeros, [n, h, w, padded(c) - c]), &device);
    B::float_cat(vec![x, zeros], 3)
}

pub(crate) fn planes_plain<B: Backend>(maps: FloatTensor<B>, channels: usize) -> FloatTensor<B> {
    let [n, h, w, _] = maps.shape().dims();
    let range = |end: usize| Slice::new(0, Some(end as isize), 1);
    let maps = B::float_slice(maps, &[range(n), range(h), range(w), range(channels)]);
    B::float_permute(maps, &[0, 3, 1, 2])
}

pub(crate) fn forward_plain<B: KernelOps>(
    tensors: BlockSlots<B>,
    options: BlockOptions,
) -> FloatTensor<B> {
    let mut tensors = tensors.into_slots();
    if options.layout == Layout::Planes {
        return plain::forward::<B>(tensors, &options);
    }
    for (slot, channels) in [Slot::X, Slot::Joined].into_iter().zip(options.inputs) {
        if channels > 0 {
            let place = &mut tensors[slot as usize];
            *place = planes_plain::<B>(place.clone(), channels);
        }
    }
    maps_plain::<B>(plain::forward::<B>(tensors, &options))
}

fn flex<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

pub(crate) fn maps_flex(x: FlexTensor) -> FlexTensor {
    if x.dtype() != DType::F32 {
        return maps_plain::<Flex>(x);
    }
    let x = dense(x);
    let [count, channels, height, width] = x.shape().dims();
    let mut out = vec![0.0; count * height * width * padded(channels)];
    frames_from_planes(x.storage(), channels, Frame { height, width, kernel: 1 }, &mut out);
    flex(out, [count, height, width, padded(channels)])
}

pub(crate) fn planes_flex(maps: FlexTensor, channels: usize) -> FlexTensor {
    if maps.dtype() != DType::F32 {
        return planes_plain::<Flex>(maps, channels);
    }
    let maps = dense(maps);
    let [count, height, width, _] = maps.shape().dims();
    let mut out = vec![0.0; count * channels * height * width];
    planes_from_maps(maps.storage(), channels, height * width, &mut out);
    flex(out, [count, channels, height, width])
}

/// Dense tensors, and the number of images.
fn in_order(tensors: BlockSlots<Flex>) -> ([FlexTensor; SLOTS], usize) {
    let tensors = tensors.into_slots().map(dense);
    let count = tensors[Slot::X as usize].shape()[0];
    (tensors, count)
}

fn numbers(tensors: &[FlexTensor]) -> Tensors<'_> {
    std::array::from_fn(|i| tensors[i].storage::<f32>())
}

pub(crate) fn forward_flex(tensors: BlockSlots<Flex>, options: BlockOptions) -> FlexTensor {
    if options.layout == Layout::Planes {
        return forward_plain::<Flex>(tensors, options);
    }
    saving_flex(tensors, options).y
}

pub(crate) fn saving_flex(tensors: BlockSlots<Flex>, options: BlockOptions) -> BlockPassed<Flex> {
    let (tensors, count) = in_order(tensors);
    let numbers = numbers(&tensors);
    let [height, width] = options.result_size();
    let shape = [count, height, width, padded(options.outputs)];
    let size = shape.iter().product();
    let (mut y, mut hidden) = (zeros(size), zeros(size));
    let mut mixed = zeros(if options.heads > 0 { size } else { 0 });
    let passed = Passed { y: &mut y, hidden: &mut hidden, mixed: &mut mixed };
    Block::new(&options, &numbers, Use::Many).run(&numbers, count, passed);
    let y = flex(y, shape);
    BlockPassed {
        hidden: flex(hidden, shape),
        mixed: if mixed.is_empty() { y.clone() } else { flex(mixed, shape) },
        y,
    }
}

pub(crate) fn backward_flex(
    tensors: BlockSlots<Flex>,
    passed: BlockPassed<Flex>,
    grad: FlexTensor,
    options: BlockOptions,
) -> BlockSlots<Flex> {
    let (tensors, count) = in_order(tensors);
    let grad = dense(grad);
    let (hidden, mixed) = (passed.hidden.storage(), passed.mixed.storage());
    let grads = backward(&options, &numbers(&tensors), hidden, mixed, grad.storage(), count);
    let mut shapes = tensors.iter().map(|tensor| tensor.shape());
    BlockSlots::from_slots(grads.map(|values| {
        let shape = shapes.next().expect("as many as slots");
        let shape = if values.is_empty() { Shape::new([0]) } else { shape };
        FlexTensor::from_data(TensorData::new(values, shape))
    }))
}

pub(crate) fn maps_autodiff<B: KernelOps, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    #[derive(Debug)]
    struct ToMaps;

    impl<B: KernelOps> Backward<B, 1> for ToMaps {
        /// Channels.
        type State = usize;

        fn backward(self, ops: Ops<usize, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
            let grad = grads.consume::<B>(&ops.node);
            if let [Some(node)] = ops.parents {
                grads.register::<B>(node.id, B::planes(grad, ops.state));
            }
        }
    }

    let channels = x.shape()[1];
    match ToMaps.prepare::<C>([x.node()]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(channels, B::maps(x.into_primitive())),
        OpsKind::UnTracked(prep) => prep.finish(B::maps(x.into_primitive())),
    }
}

pub(crate) fn planes_autodiff<B: KernelOps, C: CheckpointStrategy>(
    maps: FloatTensor<Autodiff<B, C>>,
    channels: usize,
) -> FloatTensor<Autodiff<B, C>> {
    #[derive(Debug)]
    struct FromMaps;

    impl<B: KernelOps> Backward<B, 1> for FromMaps {
        type State = ();

        fn backward(self, ops: Ops<(), 1>, grads: &mut Gradients, _: &mut Checkpointer) {
            let grad = grads.consume::<B>(&ops.node);
            if let [Some(node)] = ops.parents {
                grads.register::<B>(node.id, B::maps(grad));
            }
        }
    }

    let prep = FromMaps.prepare::<C>([maps.node()]).compute_bound();
    prep.stateless(B::planes(maps.into_primitive(), channels))
}

pub(crate) fn forward_autodiff<B: KernelOps, C: CheckpointStrategy>(
    tensors: BlockSlots<Autodiff<B, C>>,
    options: BlockOptions,
) -> FloatTensor<Autodiff<B, C>> {
    #[derive(Debug)]
    struct BlockBackward;

    impl<B: KernelOps> Backward<B, SLOTS> for BlockBackward {
        /// The block's tensors, what its forward pass left, and its options.
        type State = ([FloatTensor<B>; SLOTS], [FloatTensor<B>; 2], BlockOptions);

        fn backward(
            self,
            ops: Ops<Self::State, SLOTS>,
            grads: &mut Gradients,
            _: &mut Checkpointer,
        ) {
            let (tensors, [hidden, mixed], options) = ops.state;
            let grad = grads.consume::<B>(&ops.node);
            let passed = BlockPassed { y: hidden.clone(), hidden, mixed };
            let all =
                B::residual_block_backward(BlockSlots::from_slots(tensors), passed, grad, options);
            for (node, grad) in ops.parents.into_iter().zip(all.into_slots()) {
                if let Some(node) = node {
                    grads.register::<B>(node.id, grad);
                }
            }
        }
    }

    if options.layout == Layout::Planes {
        return forward_plain::<Autodiff<B, C>>(tensors, options);
    }
    let tensors = tensors.into_slots();
    let nodes = tensors.each_ref().map(|tensor| tensor.node());
    let kind = BlockBackward.prepare::<C>(nodes).compute_bound().stateful();
    let tensors = tensors.map(|tensor| tensor.into_primitive());
    match kind {
        OpsKind::Tracked(prep) => {
            let passed =
                B::residual_block_saving(BlockSlots::from_slots(tensors.clone()), options.clone());
            prep.finish((tensors, [passed.hidden, passed.mixed], options), passed.y)
        }
        OpsKind::UnTracked(prep) => {
            prep.finish(B::residual_block(BlockSlots::from_slots(tensors), options))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{error, tensor};
    use crate::{Dropout, Resize};
    use burn::tensor::Gradients;
    use proptest::prelude::*;

    fn parameters(o: &BlockOptions, count: usize, device: &Device) -> BlockTensors {
        let mut seed = 10;
        let mut next = || {
            seed += 1;
            seed
        };
        let inputs = o.inputs[0] + o.inputs[1];
        let c = o.outputs;
        let [h, w] = o.size;
        let mut norm = |c: usize| Norm {
            weight: (tensor::<1>(next(), [c], device) * 0.3 + 1.0).detach().require_grad(),
            bias: (tensor::<1>(next(), [c], device) * 0.3).detach().require_grad(),
        };
        let norms = [norm(inputs), norm(c)];
        let norm2 = norm(c);
        let mut conv = |outputs: usize, inputs: usize, side: usize| {
            let scale = 1.0 / ((inputs * side * side) as f32).sqrt();
            let weight = (tensor::<4>(next(), [outputs, inputs, side, side], device) * scale)
                .detach()
                .require_grad();
            (weight, (tensor::<1>(next(), [outputs], device) * 0.3).detach().require_grad())
        };
        let convs = [conv(c, inputs, 3), conv(c, c, 3)];
        let skip = conv(c, inputs, 1);
        let attention = [conv(3 * c, c, 1), conv(c, c, 1)];
        BlockTensors {
            x: (tensor::<4>(1, [count, o.inputs[0], h, w], device) + 0.5).detach().require_grad(),
            joined: (o.inputs[1] > 0)
                .then(|| tensor::<4>(2, [count, o.inputs[1], h, w], device).require_grad()),
            embedding: tensor::<2>(3, [count, if o.adaptive { 2 * c } else { c }], device)
                .require_grad(),
            weights: BlockWeights {
                norms,
                convs,
                skip: o.skip.then_some(skip),
                attention: (o.heads > 0).then_some((norm2, attention)),
            },
        }
    }

    /// Every tensor's gradient, by name.
    fn gradients(t: &BlockTensors, grads: &Gradients) -> Vec<(String, Tensor<1>)> {
        let mut all = Vec::new();
        let mut four = |name: &str, t: &Tensor<4>| {
            let grad = t.grad(grads).unwrap_or_else(|| panic!("{name} takes part"));
            all.push((name.to_string(), grad.flatten(0, 3)));
        };
        four("x", &t.x);
        t.joined.iter().for_each(|t| four("joined", t));
        t.weights.convs.iter().for_each(|t| four("conv", &t.0));
        t.weights.skip.iter().for_each(|t| four("skip", &t.0));
        t.weights
            .attention
            .iter()
            .for_each(|(_, convs)| convs.iter().for_each(|t| four("attention", &t.0)));
        all.push(("embedding".into(), t.embedding.grad(grads).unwrap().flatten(0, 1)));
        let mut one =
            |name: &str, t: &Tensor<1>| all.push((name.to_string(), t.grad(grads).unwrap()));
        t.weights.norms.iter().for_each(|norm| {
            one("norm weight", &norm.weight);
            one("norm bias", &norm.bias);
        });
        t.weights.convs.iter().for_each(|t| one("conv bias", &t.1));
        t.weights.skip.iter().for_each(|t| one("skip bias", &t.1));
        t.weights.attention.iter().for_each(|(norm, convs)| {
            one("third norm weight", &norm.weight);
            // The third norm's bias moves all keys alike, which changes nothing: only its values'
            // share is left.
            one("third norm bias", &norm.bias);
            convs.iter().for_each(|t| one("attention bias", &t.1));
        });
        all
    }

    fn options(size: [usize; 2], inputs: [usize; 2], outputs: usize) -> BlockOptions {
        let groups = |c: usize| {
            (1..=c).rev().find(|g| c.is_multiple_of(*g) && c / g >= 2).unwrap_or(1).min(8)
        };
        let groups = |c: usize| if c.is_multiple_of(groups(c)) { groups(c) } else { 1 };
        BlockOptions {
            layout: Layout::Planes,
            size,
            inputs,
            outputs,
            resize: Resize::Keep,
            taps: vec![0.5, 0.5],
            groups: [groups(inputs[0] + inputs[1]), groups(outputs), groups(outputs)],
            epsilon: 1e-5,
            scale: 0.5f32.sqrt(),
            adaptive: false,
            skip: true,
            heads: 0,
            dropout: None,
        }
    }

    /// The kernel on maps and the plain operations on planes, with Burn's gradients: the result and
    /// every gradient. Every part on and off, odd sizes, one image and one pixel, channels that
    /// don't fill a vector, several heads.
    #[test]
    fn kernel_and_plain_block_agree_with_their_gradients() {
        let dropout = Some(Dropout { p: 0.3, seed: 7 });
        let cases = [
            (1, options([1, 1], [4, 0], 6)),
            (2, BlockOptions { skip: false, ..options([5, 7], [6, 0], 6) }),
            (3, BlockOptions { heads: 1, dropout, ..options([4, 4], [8, 3], 12) }),
            (2, BlockOptions { heads: 4, adaptive: true, ..options([6, 5], [20, 0], 20) }),
            (2, BlockOptions { resize: Resize::Down, scale: 1.0, ..options([8, 12], [17, 0], 9) }),
            (1, BlockOptions { resize: Resize::Up, skip: false, ..options([3, 4], [16, 0], 16) }),
            (
                2,
                BlockOptions {
                    resize: Resize::Up,
                    taps: vec![0.125, 0.375, 0.375, 0.125],
                    ..options([4, 4], [8, 8], 8)
                },
            ),
            (
                2,
                BlockOptions {
                    resize: Resize::Down,
                    taps: vec![0.125, 0.375, 0.375, 0.125],
                    ..options([8, 8], [16, 0], 8)
                },
            ),
            (
                3,
                BlockOptions {
                    heads: 2,
                    adaptive: true,
                    dropout,
                    ..options([16, 16], [32, 16], 64)
                },
            ),
            (2, BlockOptions { dropout, ..options([10, 9], [33, 40], 70) }),
        ];
        for (count, o) in cases {
            agrees(count, o);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn kernel_and_plain_block_agree_on_any_shape(
            count in 1..4usize,
            size in (2..13usize, 2..13usize),
            inputs in (4..40usize, prop_oneof![Just(0usize), 1..40usize]),
            depth in 4..20usize,
            heads in 0..3usize,
            resize in prop_oneof![Just(Resize::Keep), Just(Resize::Down), Just(Resize::Up)],
            adaptive: bool,
            dropped: bool,
        ) {
            let outputs = depth * heads.max(1);
            let even = |side: usize| if resize == Resize::Keep { side } else { 2 * side };
            let o = options([even(size.0), even(size.1)], inputs.into(), outputs);
            let dropout = dropped.then_some(Dropout { p: 0.2, seed: 3 });
            agrees(count, BlockOptions { resize, heads, adaptive, dropout, ..o });
        }
    }

    fn agrees(count: usize, o: BlockOptions) {
        let device = Device::flex().autodiff();
        {
            let tensors = parameters(&o, count, &device);
            let plain = residual_block(tensors.clone(), o.clone());
            let on_maps = BlockTensors {
                x: to_maps(tensors.x.clone()),
                joined: tensors.joined.clone().map(to_maps),
                ..tensors.clone()
            };
            let maps = residual_block(on_maps, BlockOptions { layout: Layout::Maps, ..o.clone() });
            let ours = from_maps(maps, o.outputs);
            assert_eq!(ours.dims(), plain.dims());
            let g = tensor::<4>(4, plain.dims(), &device);
            let (a, b) =
                ((ours.clone() * g.clone()).sum().backward(), (plain.clone() * g).sum().backward());
            // Winograd's transforms round by up to 2e-5 of the root mean square; a block has two of
            // them in a row, and norms of few values enlarge it.
            let off = error(ours, plain);
            assert!(off < 1e-4, "{o:?}: {off}");
            for ((name, ours), (_, plain)) in
                gradients(&tensors, &a).into_iter().zip(gradients(&tensors, &b))
            {
                // What a norm takes out (the bias before it) has a gradient of rounding alone.
                let scale = plain.clone().square().mean().sqrt().into_scalar::<f32>().max(1e-2);
                let off = (ours - plain).abs().max().into_scalar::<f32>() / scale;
                assert!(off < 3e-4, "{o:?}: {name} {off}");
            }
        }
    }

    /// An image's bits alone and among others.
    #[test]
    fn images_are_independent() {
        let device = Device::flex();
        for size in [[4, 4], [16, 16]] {
            let o = BlockOptions { heads: 1, layout: Layout::Maps, ..options(size, [24, 0], 32) };
            let tensors = parameters(&o, 7, &Device::flex().autodiff());
            let weights = &tensors.weights;
            let inner = |i: Option<usize>| {
                let pick4 = |t: Tensor<4>| t.inner();
                let rows = |t: Tensor<4>| i.map_or(t.clone(), |i| t.slice([i..i + 1]));
                let conv = |t: &(Tensor<4>, Tensor<1>)| (pick4(t.0.clone()), t.1.clone().inner());
                let norm = |n: &Norm| Norm {
                    weight: n.weight.clone().inner(),
                    bias: n.bias.clone().inner(),
                };
                let embedding = tensors.embedding.clone().inner();
                BlockTensors {
                    x: to_maps(rows(pick4(tensors.x.clone()))),
                    joined: None,
                    embedding: i.map_or(embedding.clone(), |i| embedding.slice([i..i + 1])),
                    weights: BlockWeights {
                        norms: [norm(&weights.norms[0]), norm(&weights.norms[1])],
                        convs: [conv(&weights.convs[0]), conv(&weights.convs[1])],
                        skip: weights.skip.as_ref().map(conv),
                        attention: weights
                            .attention
                            .as_ref()
                            .map(|(n, c)| (norm(n), [conv(&c[0]), conv(&c[1])])),
                    },
                }
            };
            let whole = residual_block(inner(None), o.clone());
            assert_eq!(whole.device(), device);
            for i in 0..7 {
                let one = residual_block(inner(Some(i)), o.clone());
                assert_eq!(one.to_data(), whole.clone().slice([i..i + 1]).to_data());
            }
        }
    }
}
