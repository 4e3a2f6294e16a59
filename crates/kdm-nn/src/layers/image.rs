//! Layers that the image networks share: convolution, group norm, resampling filters, noise
//! embeddings, named children. Images are `[N, C, H, W]`.

use std::f64::consts::PI;

use burn::module::{
    Content, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param,
};
use burn::tensor::module::{conv_transpose2d, conv2d};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn::tensor::{Device, Tensor, TensorData};
use kdm_kernels::{GroupNormOptions, Norm, conv_same, group_norm};

use crate::{Init, InitSeed};

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Channels in.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Pixels between outputs.
    pub stride: usize,
    /// Zeros above and below, and left and right.
    pub padding: [usize; 2],
    /// Whether a bias is added.
    pub bias: bool,
}

impl Conv2dConfig {
    /// A square kernel of odd size with a bias, padded so that the image keeps its size.
    pub fn same(inputs: usize, outputs: usize, kernel: usize) -> Self {
        Self {
            inputs,
            outputs,
            kernel: [kernel; 2],
            stride: 1,
            padding: [kernel / 2; 2],
            bias: true,
        }
    }

    /// Fresh weights.
    pub fn init(&self, init: Init, seed: &mut InitSeed, device: &Device) -> Conv2d {
        let [h, w] = self.kernel;
        let (weight, bias) = seed.layer([self.outputs, self.inputs, h, w], init, self.bias, device);
        Conv2d { weight, bias, stride: self.stride, padding: self.padding }
    }
}

/// A convolution, weights in PyTorch's order.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// Weight, `[outputs, inputs, height, width]`.
    pub weight: Param<Tensor<4>>,
    /// Bias, `[outputs]`.
    pub bias: Option<Param<Tensor<1>>>,
    stride: usize,
    padding: [usize; 2],
}

impl Conv2d {
    /// `[N, inputs, H, W]` -> `[N, outputs, H', W']`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_padded(x, self.padding)
    }

    /// Weight and bias, for a fused operation.
    pub(crate) fn tensors(&self) -> (Tensor<4>, Tensor<1>) {
        (self.weight.val(), self.bias_or_zeros())
    }

    fn bias_or_zeros(&self) -> Tensor<1> {
        let zeros = || Tensor::zeros([self.weight.dims()[0]], &self.weight.device());
        self.bias.as_ref().map_or_else(zeros, Param::val)
    }

    /// [`Self::forward`] with other zeros around the image.
    pub fn forward_padded(&self, x: Tensor<4>, padding: [usize; 2]) -> Tensor<4> {
        let [_, _, height, width] = self.weight.dims();
        let keeps_size = self.stride == 1 && height == width && padding == [height / 2; 2];
        if keeps_size && matches!(height, 1 | 3) {
            return conv_same(x, self.weight.val(), self.bias_or_zeros());
        }
        let options = ConvOptions::new([self.stride; 2], padding, [1, 1], 1);
        conv2d(x, self.weight.val(), self.bias.as_ref().map(Param::val), options)
    }
}

/// Group norm with a scale and a shift for every channel.
#[derive(Module, Debug)]
pub struct GroupNorm {
    /// Scale, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[channels]`.
    pub bias: Param<Tensor<1>>,
    groups: usize,
    epsilon: f64,
}

impl GroupNorm {
    /// Scale 1, shift 0. `groups` divides `channels`.
    pub fn new(groups: usize, channels: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::ones([channels], device)),
            bias: Param::from_tensor(Tensor::zeros([channels], device)),
            groups,
            epsilon,
        }
    }

    /// The number of groups that the U-Nets of EDM use: a quarter of the channels, 32 at most.
    pub fn edm_groups(channels: usize) -> usize {
        (channels / 4).min(32)
    }

    /// (x - mean) / sqrt(variance + epsilon), over each group of an image, times the scale plus the
    /// shift.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.run(x, false)
    }

    /// silu of [`Self::forward`], fused.
    pub fn forward_silu(&self, x: Tensor<4>) -> Tensor<4> {
        self.run(x, true)
    }

    /// Scale and shift, for a fused operation.
    pub(crate) fn tensors(&self) -> Norm {
        Norm { weight: self.weight.val(), bias: self.bias.val() }
    }

    pub(crate) fn groups(&self) -> usize {
        self.groups
    }

    pub(crate) fn epsilon(&self) -> f64 {
        self.epsilon
    }

    fn run(&self, x: Tensor<4>, silu: bool) -> Tensor<4> {
        let options = GroupNormOptions { groups: self.groups, epsilon: self.epsilon, silu };
        group_norm(x, self.weight.val(), self.bias.val(), options)
    }
}

/// What a layer does to an image's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resample {
    /// Keeps it.
    Keep,
    /// Halves it.
    Down,
    /// Doubles it.
    Up,
}

/// A separable filter of even length for halving and doubling images: the outer product of `taps`
/// with themselves, normalised to sum 1, channel by channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    taps: Vec<f64>,
}

impl Filter {
    /// The filter of these taps. An odd number of them can't double a size.
    ///
    /// # Errors
    /// The problem, when there is an odd number of taps or none, or their sum is 0 or not finite.
    pub fn new(taps: &[f64]) -> Result<Self, String> {
        let sum: f64 = taps.iter().sum();
        if taps.is_empty() || !taps.len().is_multiple_of(2) {
            return Err(format!("has {} taps and must have an even number of them", taps.len()));
        }
        if sum == 0.0 || !sum.is_finite() {
            return Err(format!("has taps {taps:?} whose sum is {sum}"));
        }
        Ok(Self { taps: taps.iter().map(|tap| tap / sum).collect() })
    }

    /// The taps, of sum 1.
    pub(crate) fn taps(&self) -> Vec<f32> {
        self.taps.iter().map(|tap| *tap as f32).collect()
    }

    /// Zeros around the image that make it halve exactly.
    pub fn padding(&self) -> usize {
        (self.taps.len() - 1) / 2
    }

    fn weight(&self, channels: usize, gain: f64, device: &Device) -> Tensor<4> {
        let k = self.taps.len();
        let one =
            self.taps.iter().flat_map(|a| self.taps.iter().map(move |b| (gain * a * b) as f32));
        let one: Vec<f32> = one.collect();
        Tensor::from_data(TensorData::new(one.repeat(channels), [channels, 1, k, k]), device)
    }

    /// `[N, C, H, W]` -> `[N, C, H/2, W/2]`, with `padding` zeros around.
    pub fn down(&self, x: Tensor<4>, padding: usize) -> Tensor<4> {
        let c = x.dims()[1];
        let weight = self.weight(c, 1.0, &x.device());
        conv2d(x, weight, None, ConvOptions::new([2, 2], [padding; 2], [1, 1], c))
    }

    /// `[N, C, H, W]` -> `[N, C, 2H, 2W]`.
    pub fn up(&self, x: Tensor<4>) -> Tensor<4> {
        let c = x.dims()[1];
        let weight = self.weight(c, 4.0, &x.device());
        let options = ConvTransposeOptions::new([2, 2], [self.padding(); 2], [0, 0], [1, 1], c);
        conv_transpose2d(x, weight, None, options)
    }
}

/// Sinusoids of a time: frequencies 10000^(-i / (half - `shift`)) for i below half of `width`;
/// cosines first. `[N]` -> `[N, width]`.
pub fn positional_embedding(time: Tensor<1>, width: usize, shift: f64) -> Tensor<2> {
    let half = width / 2;
    let frequency = |i: usize| (1.0 / 10000f64).powf(i as f64 / (half as f64 - shift)) as f32;
    let frequencies: Vec<f32> = (0..half).map(frequency).collect();
    let frequencies = Tensor::from_data(TensorData::new(frequencies, [1, half]), &time.device());
    cos_sin(time.unsqueeze_dim::<2>(1).matmul(frequencies))
}

/// Random Fourier features of a time: cos and sin of 2 pi f t. `[N]`, `[width / 2]` -> `[N,
/// width]`.
pub fn fourier_embedding(time: Tensor<1>, frequencies: Tensor<1>) -> Tensor<2> {
    cos_sin(time.unsqueeze_dim::<2>(1).matmul((frequencies * (2.0 * PI)).unsqueeze::<2>()))
}

fn cos_sin(angles: Tensor<2>) -> Tensor<2> {
    Tensor::cat(vec![angles.clone().cos(), angles.sin()], 1)
}

/// The two halves of every row swapped.
pub fn swap_halves(x: Tensor<2>) -> Tensor<2> {
    let mut halves = x.chunk(2, 1);
    halves.swap(0, 1);
    Tensor::cat(halves, 1)
}

/// Children with names of their own, such as `32x32_block0`, in order.
#[derive(Clone, Debug)]
pub struct Named<T>(pub Vec<(String, T)>);

impl<T> Named<T> {
    /// The children in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.0.iter().map(|(_, child)| child)
    }

    fn convert(self, mut each: impl FnMut(T) -> T) -> Self {
        Self(self.0.into_iter().map(|(name, child)| (name, each(child))).collect())
    }
}

impl<T: Module + std::fmt::Debug + Send + Clone> Module for Named<T> {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        for (name, child) in &self.0 {
            visitor.enter_module(name, "Named");
            child.visit(visitor);
            visitor.exit_module(name, "Named");
        }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let each = |(name, child): (String, T)| {
            mapper.enter_module(&name, "Named");
            let child = child.map(mapper);
            mapper.exit_module(&name, "Named");
            (name, child)
        };
        Self(self.0.into_iter().map(each).collect())
    }

    fn to_device(self, device: &Device) -> Self {
        self.convert(|child| child.to_device(device))
    }

    fn fork(self, device: &Device) -> Self {
        self.convert(|child| child.fork(device))
    }

    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        self.iter().fold(devices, |devices, child| child.collect_devices(devices))
    }

    fn valid(&self) -> Self {
        Self(self.0.iter().map(|(name, child)| (name.clone(), child.valid())).collect())
    }

    fn train(self) -> Self {
        self.convert(Module::train)
    }

    fn materialize(self) -> Self {
        self.convert(Module::materialize)
    }
}

impl<T: ModuleDisplay> ModuleDisplayDefault for Named<T> {
    fn content(&self, content: Content) -> Option<Content> {
        self.0.iter().fold(content, |content, (name, child)| content.add(name, child)).optional()
    }
}

impl<T: ModuleDisplay> ModuleDisplay for Named<T> {}
