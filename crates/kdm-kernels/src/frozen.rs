//! Layers for inference alone: their weights are packed once, their buffers are used over and over,
//! and no tensor is made. They compute what the operations of the same names do, image by image
//! with the same bits in any batch.

use burn::tensor::Tensor;

use crate::block::ops::{BlockWeights, ConvWeights, Norm, Weight};
use crate::block::{Block, BlockOptions, Passed, SLOTS, Slot, Tensors};
use crate::conv::{Conv, Kernel, Use};
use crate::linear::rows_times;
use crate::map_norm::MapNorm;
use crate::maps::{Frame, frames_from_planes, padded, planes_from_maps};
use crate::panels::Packed;
use crate::scratch::{Scratch, scratch};

/// Images in memory, channel-last.
#[derive(Debug)]
pub struct Images {
    values: Scratch,
    count: usize,
    size: [usize; 2],
    channels: usize,
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().expect("weights are f32")
}

/// A 3x3 or 1x1 convolution of images of one size.
#[derive(Debug)]
pub struct FrozenConv {
    conv: Conv,
    inputs: usize,
    outputs: usize,
    frame: Frame,
}

impl FrozenConv {
    /// Packs `weight` `[outputs, inputs, k, k]` and `bias` `[outputs]` for images of height and
    /// width `size`.
    pub fn new((weight, bias): ConvWeights, size: [usize; 2]) -> Self {
        let ([outputs, inputs, side, _], [height, width]) = (weight.dims(), size);
        let (values, bias) = (host(weight), host(bias));
        let kernel = Kernel { values: &values, outputs, inputs, side, scale: 1.0 };
        let conv = Conv::new(kernel, Some(&bias), height, width, Use::Few);
        Self { conv, inputs, outputs, frame: Frame { height, width, kernel: side } }
    }

    /// The convolution of `planes` `[N, inputs, H, W]`.
    pub fn run(&self, planes: &[f32]) -> Images {
        let pixels = self.frame.height * self.frame.width;
        let count = planes.len() / (self.inputs * pixels);
        let mut frames = scratch(count * self.frame.pixels() * padded(self.inputs));
        frames_from_planes(planes, self.inputs, self.frame, &mut frames);
        let mut values = scratch(count * pixels * padded(self.outputs));
        self.conv.run(&frames, None, &mut values);
        Images {
            values,
            count,
            size: [self.frame.height, self.frame.width],
            channels: self.outputs,
        }
    }
}

/// Group norm, SiLU and a convolution: what draws a U-Net's output.
#[derive(Debug)]
pub struct FrozenOutput {
    conv: FrozenConv,
    scale: Vec<f32>,
    bias: Vec<f32>,
    groups: usize,
    epsilon: f64,
}

impl FrozenOutput {
    /// Packs the norm with its groups and epsilon, and the convolution.
    pub fn new(norm: Norm, groups: usize, epsilon: f64, conv: FrozenConv) -> Self {
        Self { conv, scale: host(norm.weight), bias: host(norm.bias), groups, epsilon }
    }

    /// `[N, outputs, H, W]`.
    pub fn run(&self, x: &Images) -> Vec<f32> {
        let [height, width] = x.size;
        let norm = MapNorm {
            count: x.count,
            height,
            width,
            channels: x.channels,
            padded: padded(x.channels),
            groups: self.groups,
            epsilon: self.epsilon,
            scale: &self.scale.repeat(x.count),
            bias: &self.bias.repeat(x.count),
            shift: None,
            silu: true,
            dropout: None,
        };
        let mut frames = scratch(x.count * self.conv.frame.pixels() * padded(x.channels));
        norm.forward(&x.values, &norm.statistics(&x.values), self.conv.frame, &mut frames);
        let outputs = self.conv.outputs;
        let mut maps = scratch(x.count * height * width * padded(outputs));
        self.conv.conv.run(&frames, None, &mut maps);
        let mut planes = vec![0.0; x.count * outputs * height * width];
        planes_from_maps(&maps, outputs, height * width, &mut planes);
        planes
    }
}

/// A residual block; see [`crate::residual_block`].
#[derive(Debug)]
pub struct FrozenBlock(Block);

impl FrozenBlock {
    /// Packs the weights of a block on maps.
    pub fn new(weights: BlockWeights, options: &BlockOptions) -> Self {
        let mut values: [Vec<f32>; SLOTS] = std::array::from_fn(|_| Vec::new());
        for (slot, weight) in weights.slots() {
            values[slot as usize] = match weight {
                Weight::One(tensor) => host(tensor),
                Weight::Four(tensor) => host(tensor),
            };
        }
        Self(Block::new(options, &std::array::from_fn(|i| &values[i][..]), Use::Few))
    }

    /// The block of `x` joined with `joined`; `embedding` has a row for every image.
    pub fn run(&self, x: &Images, joined: Option<&Images>, embedding: &[f32]) -> Images {
        let options = self.0.options();
        let mut tensors: Tensors = [&[]; SLOTS];
        tensors[Slot::X as usize] = &x.values;
        if let Some(joined) = joined {
            tensors[Slot::Joined as usize] = &joined.values;
        }
        tensors[Slot::Embedding as usize] = embedding;
        let (size, channels) = (options.result_size(), options.outputs);
        let len = x.count * size[0] * size[1] * padded(channels);
        let (mut values, mut hidden) = (scratch(len), scratch(len));
        let mut mixed = scratch(if options.heads > 0 { len } else { 0 });
        self.0.run(
            &tensors,
            x.count,
            Passed { y: &mut values, hidden: &mut hidden, mixed: &mut mixed },
        );
        Images { values, count: x.count, size, channels }
    }
}

/// An affine layer y = x W^T + b.
#[derive(Debug)]
pub struct FrozenLinear {
    weights: Packed,
    bias: Vec<f32>,
    inputs: usize,
}

impl FrozenLinear {
    /// Packs `weight` `[outputs, inputs]`, row by row, and `bias`.
    pub fn new(weight: &[f32], bias: Vec<f32>) -> Self {
        let outputs = bias.len();
        let inputs = weight.len() / outputs;
        let weights = Packed::from_columns(weight, inputs, inputs, outputs);
        Self { weights, bias, inputs }
    }

    /// `[N, inputs]` -> `[N, outputs]`.
    pub fn run(&self, x: &[f32]) -> Vec<f32> {
        let outputs = self.bias.len();
        let mut y = vec![0.0; x.len() / self.inputs * outputs];
        rows_times(x, self.inputs, &self.weights, outputs, &mut y, &mut [], |rows, _| {
            for row in rows.chunks_exact_mut(outputs) {
                row.iter_mut().zip(&self.bias).for_each(|(y, bias)| *y += bias);
            }
        });
        y
    }
}
