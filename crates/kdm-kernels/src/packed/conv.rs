//! Convolutions with packed weights: into a U-Net and out of it.

use super::{Images, host};
use crate::cpu::buffer_pool::scratch;
use crate::cpu::conv::{Conv, Kernel, Use};
use crate::cpu::nhwc::{Frame, frames_from_planes, planes_from_maps};
use crate::cpu::nhwc_norm::MapNorm;
use crate::ops::layout::padded;
use crate::ops::residual_block::{ConvWeights, Norm};

/// A 3x3 or 1x1 convolution of images of one size.
#[derive(Debug)]
pub struct FrozenConv {
    conv: Conv,
    inputs: usize,
    outputs: usize,
    frame: Frame,
}

impl FrozenConv {
    /// Packs `weight` `[outputs, inputs, k, k]` with k 1 or 3 and `bias` `[outputs]` for images of
    /// height and width `size`.
    ///
    /// # Panics
    /// When a weight is not of f32.
    pub fn new((weight, bias): ConvWeights, size: [usize; 2]) -> Self {
        let ([outputs, inputs, side, _], [height, width]) = (weight.dims(), size);
        let (values, bias) = (host(weight), host(bias));
        let kernel = Kernel { values: &values, outputs, inputs, side, scale: 1.0 };
        let conv = Conv::new(kernel, Some(&bias), height, width, Use::Few);
        Self { conv, inputs, outputs, frame: Frame { height, width, kernel: side } }
    }

    /// The convolution of `planes` `[N, inputs, H, W]`: images of `outputs` channels.
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

/// Group norm, SiLU and a convolution: the last layers of a U-Net.
#[derive(Debug)]
pub struct FrozenOutput {
    conv: FrozenConv,
    scale: Vec<f32>,
    bias: Vec<f32>,
    groups: usize,
    epsilon: f64,
}

impl FrozenOutput {
    /// Packs the norm with its number of groups and its epsilon, and the convolution.
    ///
    /// # Panics
    /// When a weight is not of f32.
    pub fn new(norm: Norm, groups: usize, epsilon: f64, conv: FrozenConv) -> Self {
        Self { conv, scale: host(norm.weight), bias: host(norm.bias), groups, epsilon }
    }

    /// `[N, outputs, H, W]` of images of the size that the convolution was packed for.
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
