//! A residual block in fused loops, on maps.
//!
//! A forward pass for training keeps what came out of the first convolution and, with attention, of
//! the second; everything else is computed anew in the backward pass: memory is dearer than these
//! loops. `steps.rs` is what both passes share.

use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{Shape, TensorData};
use burn_flex::FlexTensor;

use super::buffer_pool::scratch;
use super::conv::{Conv, Kernel, Use};
use super::flex::{dense, fits, from_values};
use super::memory::zeros;
use crate::ops::layout::{Layout, padded};
use crate::ops::residual_block::{
    BlockOptions, BlockPassed, BlockSlots, SLOTS,
    Slot::{self, *},
    backward_plain, forward_plain, saving_plain,
};

mod backward;
mod steps;

use steps::{Steps, sorted_qkv};

/// The tensors as numbers.
pub(crate) type Tensors<'a> = [&'a [f32]; SLOTS];

/// The convolutions of a block, packed.
#[derive(Debug)]
struct Convs {
    conv0: Conv,
    conv1: Conv,
    skip: Option<Conv>,
    attention: Option<(Conv, Conv)>,
}

/// A block on maps, for any number of images.
#[derive(Debug)]
pub(crate) struct Block {
    options: BlockOptions,
    convs: Convs,
    /// The norms' weights and biases.
    norms: [Vec<f32>; 6],
}

/// Where a forward pass writes: maps of the result's size.
#[derive(Debug)]
pub(crate) struct Passed<'a> {
    /// The result.
    pub y: &'a mut [f32],
    /// What comes out of the first convolution.
    pub hidden: &'a mut [f32],
    /// What goes into the attention; empty without one.
    pub mixed: &'a mut [f32],
}

impl Block {
    /// Packs a block's weights.
    pub fn new(options: &BlockOptions, tensors: &Tensors, usage: Use) -> Self {
        let [height, width] = options.result_size();
        let (c, inputs) = (options.outputs, options.channels());
        let of = |slot: Slot| tensors[slot as usize];
        let conv = |slot: Slot, bias: &[f32], inputs: usize, side: usize, scale: f32| {
            let kernel = Kernel { values: of(slot), outputs: c, inputs, side, scale };
            Conv::new(kernel, Some(bias), height, width, usage)
        };
        let attention = (options.heads > 0).then(|| {
            let values = sorted_qkv(of(QkvWeight), c, c);
            let kernel =
                Kernel { values: &values, outputs: 3 * padded(c), inputs: c, side: 1, scale: 1.0 };
            let qkv = Conv::new(kernel, Some(&sorted_qkv(of(QkvBias), c, 1)), height, width, usage);
            (qkv, conv(ProjWeight, of(ProjBias), c, 1, options.scale))
        });
        let convs = Convs {
            conv0: conv(Conv0Weight, of(Conv0Bias), inputs, 3, 1.0),
            conv1: conv(Conv1Weight, of(Conv1Bias), c, 3, options.scale),
            skip: options.skip.then(|| conv(SkipWeight, of(SkipBias), inputs, 1, options.scale)),
            attention,
        };
        let norms = [Norm0Weight, Norm0Bias, Norm1Weight, Norm1Bias, Norm2Weight, Norm2Bias];
        Self { options: options.clone(), convs, norms: norms.map(|slot| of(slot).to_vec()) }
    }

    /// What it is.
    pub fn options(&self) -> &BlockOptions {
        &self.options
    }

    /// Computes `count` images; of `tensors` the images and the embedding are read.
    pub fn run(&self, tensors: &Tensors, count: usize, passed: Passed) {
        let Passed { y, hidden, mixed } = passed;
        let o = &self.options;
        let steps = Steps::new(o, count, &self.norms);
        let concatenated = o.concatenated(tensors, count);
        let x = concatenated.as_deref().unwrap_or(tensors[X as usize]);
        let pixels = steps.pixels;
        let width = padded(o.outputs);

        let norm = steps.first_norm();
        let frames = steps.first(x, &norm, &norm.statistics(x));
        self.convs.conv0.run(&frames, None, hidden);
        drop(frames);

        let second = steps.second_weights(tensors[Embedding as usize]);
        let norm = steps.second_norm(&second);
        let found = norm.statistics(hidden);
        let frames = steps.second(hidden, &norm, &found);

        let resized = steps.resized(x);
        let skip = resized.as_deref().unwrap_or(x);
        let convolved = self.convs.skip.as_ref().map(|conv| {
            let mut out = scratch(count * pixels * width);
            conv.run(skip, None, &mut out);
            out
        });
        let more = match &convolved {
            Some(convolved) => (&convolved[..], 1.0),
            None => (skip, o.scale),
        };
        let Some((qkv, proj)) = &self.convs.attention else {
            return self.convs.conv1.run(&frames, Some(more), y);
        };
        self.convs.conv1.run(&frames, Some(more), mixed);
        let weights = steps.third_weights();
        let norm = steps.third_norm(&weights);
        let (_, queries) = steps.queries(mixed, &norm, &norm.statistics(mixed), qkv);
        let mut attended = scratch(count * pixels * width);
        steps.attention().forward(&queries, &mut attended);
        proj.run(&attended, Some((mixed, o.scale)), y);
    }
}

/// Whether the loops here take these tensors.
fn is_ours(tensors: &BlockSlots<Flex>, options: &BlockOptions) -> bool {
    options.layout == Layout::Maps && fits(&[&tensors.x])
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

pub(crate) fn forward(tensors: BlockSlots<Flex>, options: BlockOptions) -> FlexTensor {
    if !is_ours(&tensors, &options) {
        return forward_plain::<Flex>(tensors, options);
    }
    saving(tensors, options).y
}

pub(crate) fn saving(tensors: BlockSlots<Flex>, options: BlockOptions) -> BlockPassed<Flex> {
    if !is_ours(&tensors, &options) {
        return saving_plain::<Flex>(tensors, options);
    }
    let (tensors, count) = in_order(tensors);
    let numbers = numbers(&tensors);
    let [height, width] = options.result_size();
    let shape = [count, height, width, padded(options.outputs)];
    let size = shape.iter().product();
    let (mut y, mut hidden) = (zeros(size), zeros(size));
    let mut mixed = zeros(if options.heads > 0 { size } else { 0 });
    let passed = Passed { y: &mut y, hidden: &mut hidden, mixed: &mut mixed };
    Block::new(&options, &numbers, Use::Many).run(&numbers, count, passed);
    let y = from_values(y, shape);
    BlockPassed {
        hidden: from_values(hidden, shape),
        mixed: if mixed.is_empty() { y.clone() } else { from_values(mixed, shape) },
        y,
    }
}

pub(crate) fn backward(
    tensors: BlockSlots<Flex>,
    passed: BlockPassed<Flex>,
    grad: FlexTensor,
    options: BlockOptions,
) -> BlockSlots<Flex> {
    if !is_ours(&tensors, &options) {
        return backward_plain::<Flex>(tensors, passed, grad, options);
    }
    let (tensors, count) = in_order(tensors);
    let grad = dense(grad);
    let (hidden, mixed) = (passed.hidden.storage(), passed.mixed.storage());
    let grads =
        backward::gradients(&options, &numbers(&tensors), hidden, mixed, grad.storage(), count);
    let mut shapes = tensors.iter().map(|tensor| tensor.shape());
    BlockSlots::from_slots(grads.map(|values| {
        let shape = shapes.next().expect("as many as slots");
        let shape = if values.is_empty() { Shape::new([0]) } else { shape };
        FlexTensor::from_data(TensorData::new(values, shape))
    }))
}
