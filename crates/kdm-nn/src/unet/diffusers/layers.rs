//! What a `UNet2DModel` is made of: residual blocks, self-attention, and levels of them.

use burn::module::Module;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Tensor, activation};
use kdm_kernels::dropout;

use super::config::{Activation, DiffusersUNetConfig};
use crate::layers::attention::attention;
use crate::layers::{Conv2d, Conv2dConfig, GroupNorm};
use crate::{ForwardMode, Init, InitSeed, Linear, LinearConfig};

/// Makes layers with fresh weights, as PyTorch's start.
pub(super) struct Maker<'a> {
    pub config: &'a DiffusersUNetConfig,
    pub seed: &'a mut InitSeed,
    pub device: &'a Device,
}

impl Maker<'_> {
    pub fn linear(&mut self, inputs: usize, outputs: usize) -> Linear {
        LinearConfig { inputs, outputs }.init(self.seed, self.device)
    }

    pub fn conv(&mut self, config: Conv2dConfig) -> Conv2d {
        config.init(Init::PyTorch, self.seed, self.device)
    }

    pub fn norm(&self, channels: usize, groups: usize) -> GroupNorm {
        GroupNorm::new(groups, channels, self.config.norm_eps, self.device)
    }

    pub fn resnet(&mut self, inputs: usize, outputs: usize, output_scale: f64) -> ResnetBlock {
        let groups = self.config.norm_num_groups;
        let scale_shift = self.config.has_scale_shift();
        let shifts = if scale_shift { 2 * outputs } else { outputs };
        ResnetBlock {
            norm1: self.norm(inputs, groups),
            conv1: self.conv(Conv2dConfig::same(inputs, outputs, 3)),
            time_emb_proj: self.linear(self.config.time_width(), shifts),
            norm2: self.norm(outputs, groups),
            conv2: self.conv(Conv2dConfig::same(outputs, outputs, 3)),
            conv_shortcut: (inputs != outputs)
                .then(|| self.conv(Conv2dConfig::same(inputs, outputs, 1))),
            output_scale,
            dropout: self.config.dropout,
            scale_shift,
            act: self.config.act_fn,
        }
    }

    pub fn attention(
        &mut self,
        channels: usize,
        groups: usize,
        output_scale: f64,
    ) -> SelfAttention {
        let head = self.config.attention_head_dim.unwrap_or(channels);
        let heads = channels / head;
        let inner = heads * head;
        SelfAttention {
            group_norm: self.norm(channels, groups),
            to_q: self.linear(channels, inner),
            to_k: self.linear(channels, inner),
            to_v: self.linear(channels, inner),
            to_out: vec![self.linear(inner, channels)],
            heads,
            output_scale,
        }
    }

    /// Residual blocks of these `inputs`, each followed by attention if asked for.
    pub fn level(&mut self, inputs: &[usize], outputs: usize, attends: bool) -> Level {
        let mut level = Level::default();
        for inputs in inputs {
            level.resnets.push(self.resnet(*inputs, outputs, 1.0));
            if attends {
                let groups = self.config.norm_num_groups;
                level.attentions.push(self.attention(outputs, groups, 1.0));
            }
        }
        level
    }

    /// The middle: two residual blocks, and attention between them if asked for.
    pub fn middle(&mut self, channels: usize) -> Level {
        let config = self.config;
        let scale = config.mid_block_scale_factor;
        let groups = config.attn_norm_num_groups.unwrap_or(config.norm_num_groups);
        Level {
            resnets: (0..2).map(|_| self.resnet(channels, channels, scale)).collect(),
            attentions: (0..usize::from(config.add_attention))
                .map(|_| self.attention(channels, groups, scale))
                .collect(),
            ..Level::default()
        }
    }

    /// The convolution that halves images.
    pub fn downsampler(&mut self, channels: usize) -> Resampler {
        let padding = [self.config.downsample_padding; 2];
        let same = Conv2dConfig::same(channels, channels, 3);
        Resampler { conv: self.conv(Conv2dConfig { stride: 2, padding, ..same }) }
    }

    /// The convolution of doubled images.
    pub fn upsampler(&mut self, channels: usize) -> Resampler {
        Resampler { conv: self.conv(Conv2dConfig::same(channels, channels, 3)) }
    }
}

/// A residual block: group norm, activation, convolution, twice, and the time between.
#[derive(Module, Debug)]
pub(super) struct ResnetBlock {
    pub norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Linear,
    pub norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
    pub output_scale: f64,
    dropout: f64,
    scale_shift: bool,
    #[module(skip)]
    act: Activation,
}

/// Multi-head self-attention over an image's pixels, with a residual path.
#[derive(Module, Debug)]
pub(super) struct SelfAttention {
    pub group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Vec<Linear>,
    pub heads: usize,
    pub output_scale: f64,
}

/// A convolution that halves images, or follows their doubling.
#[derive(Module, Debug)]
pub(super) struct Resampler {
    conv: Conv2d,
}

/// The blocks on images of one size, and what leads to the next.
#[derive(Module, Debug, Default)]
pub(super) struct Level {
    pub resnets: Vec<ResnetBlock>,
    pub attentions: Vec<SelfAttention>,
    pub downsamplers: Vec<Resampler>,
    pub upsamplers: Vec<Resampler>,
}

impl ResnetBlock {
    /// `[N, inputs, H, W]`, the time's embedding `[N, E]` -> `[N, outputs, H, W]`.
    pub fn forward(&self, x: Tensor<4>, time: Tensor<2>, mode: &ForwardMode) -> Tensor<4> {
        let h = self.conv1.forward(activate(self.act, self.norm1.forward(x.clone())));
        let p = self.time_emb_proj.forward(activate(self.act, time));
        let [n, width] = p.dims();
        let p = p.reshape([n, width, 1, 1]);
        let h = if self.scale_shift {
            let mut parts = p.chunk(2, 1).into_iter();
            let (scale, shift) =
                (parts.next().expect("two parts"), parts.next().expect("two parts"));
            self.norm2.forward(h) * (scale + 1.0) + shift
        } else {
            self.norm2.forward(h + p)
        };
        let h = self.conv2.forward(dropout(activate(self.act, h), mode.dropout(self.dropout)));
        let x = match &self.conv_shortcut {
            Some(conv) => conv.forward(x),
            None => x,
        };
        (x + h) / self.output_scale
    }
}

impl SelfAttention {
    /// `[N, channels, H, W]` in and out.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [n, c, h, w] = x.dims();
        let rows = self
            .group_norm
            .forward(x.clone())
            .reshape([n, c, h * w])
            .swap_dims(1, 2)
            .reshape([n * h * w, c]);
        let split = |linear: &Linear| {
            let y = linear.forward(rows.clone());
            let inner = y.dims()[1];
            let head = inner / self.heads;
            y.reshape([n, h * w, inner]).swap_dims(1, 2).reshape([n * self.heads, head, h * w])
        };
        let mixed = attention(split(&self.to_q), split(&self.to_k), split(&self.to_v));
        let inner = self.to_q.weight.dims()[0];
        let mixed = mixed.reshape([n, inner, h * w]).swap_dims(1, 2).reshape([n * h * w, inner]);
        let out = self.to_out[0]
            .forward(mixed)
            .reshape([n, h * w, c])
            .swap_dims(1, 2)
            .reshape([n, c, h, w]);
        (out + x) / self.output_scale
    }
}

impl Level {
    /// Residual blocks and attentions in turn; `before` prepares each block's input, `after` sees
    /// what comes out.
    pub fn run(
        &self,
        mut h: Tensor<4>,
        time: &Tensor<2>,
        mode: &ForwardMode,
        mut before: impl FnMut(Tensor<4>) -> Tensor<4>,
        mut after: impl FnMut(&Tensor<4>),
    ) -> Tensor<4> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            h = resnet.forward(before(h), time.clone(), mode);
            if let Some(attention) = self.attentions.get(i) {
                h = attention.forward(h);
            }
            after(&h);
        }
        h
    }
}

impl Resampler {
    /// `[N, C, H, W]` -> `[N, C, H/2, W/2]`.
    pub fn down(&self, x: Tensor<4>, padding: usize) -> Tensor<4> {
        // Without padding, a row below and a column to the right make the size even out.
        self.conv.forward(if padding == 0 { pad_end(x) } else { x })
    }

    /// `[N, C, H, W]` -> `[N, C, 2H, 2W]`.
    pub fn up(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let options = InterpolateOptions::new(InterpolateMode::Nearest)
            .with_output_size([2 * height, 2 * width]);
        self.conv.forward(interpolate(x, options))
    }
}

fn activate<const D: usize>(act: Activation, x: Tensor<D>) -> Tensor<D> {
    match act {
        Activation::Silu => activation::silu(x),
        Activation::Relu => activation::relu(x),
        Activation::Gelu => activation::gelu(x),
    }
}

/// A row of zeros below and a column of zeros to the right.
fn pad_end(x: Tensor<4>) -> Tensor<4> {
    let [n, c, h, w] = x.dims();
    let device = x.device();
    let x = Tensor::cat(vec![x, Tensor::zeros([n, c, 1, w], &device)], 2);
    Tensor::cat(vec![x, Tensor::zeros([n, c, h + 1, 1], &device)], 3)
}
