//! OpenAI's U-Net whole. Its lists of blocks are those of the original, in its order, so that its
//! weights are found by their places:
//!
//! ```text
//!   input_blocks[0]      conv
//!   input_blocks[1..]    block (attention) ...       a level: num_res_blocks of them, then one
//!                        down                        that halves the image, but for the last level
//!   middle_block         block, attention, block
//!   output_blocks        block (attention) (up) ...  a level: num_res_blocks + 1 of them, on the
//!                                                    last skip connection; the last one doubles
//!   out                  norm, SiLU, conv
//! ```

use burn::module::{Module, Param};
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Tensor, activation};
use kdm_kernels::{Resize, dropout};

use super::config::{GROUPS, OpenAiUNetConfig};
use crate::layers::attention::attention;
use crate::layers::{Conv2d, Conv2dConfig, GroupNorm, positional_embedding};
use crate::{ForwardMode, Init, InitSeed, Linear, LinearConfig};

/// Of the group norms.
pub(super) const EPSILON: f64 = 1e-5;

/// The network; see [`OpenAiUNetConfig`].
#[derive(Module, Debug)]
pub struct OpenAiUNet {
    time_embed0: Linear,
    time_embed2: Linear,
    pub(super) label_emb: Option<Table>,
    pub(super) input_blocks: Vec<Vec<Layer>>,
    pub(super) middle_block: Vec<Layer>,
    pub(super) output_blocks: Vec<Vec<Layer>>,
    pub(super) out_norm: GroupNorm,
    pub(super) out_conv: Conv2d,
    #[module(skip)]
    config: OpenAiUNetConfig,
}

/// Embeddings of classes.
#[derive(Module, Debug)]
pub(super) struct Table {
    weight: Param<Tensor<2>>,
}

/// A layer of a block.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "most layers are residual blocks")]
pub(super) enum Layer {
    Conv(Conv2d),
    Residual(ResidualBlock),
    Attention(AttentionBlock),
    Resample(Resampler),
}

/// Group norm, SiLU and convolution twice, the time between.
#[derive(Module, Debug)]
pub(super) struct ResidualBlock {
    pub norm0: GroupNorm,
    conv0: Conv2d,
    affine: Linear,
    pub norm1: GroupNorm,
    conv1: Conv2d,
    skip: Option<Conv2d>,
    dropout: f64,
    scale_shift: bool,
    #[module(skip)]
    pub resize: Resize,
}

/// Multi-head self-attention over an image's pixels, with a residual path.
#[derive(Module, Debug)]
pub(super) struct AttentionBlock {
    pub norm: GroupNorm,
    qkv: Linear,
    proj_out: Linear,
    pub heads: usize,
    new_order: bool,
}

/// Halves or doubles images, by a convolution where there is one.
#[derive(Module, Debug)]
pub(super) struct Resampler {
    pub conv: Option<Conv2d>,
    #[module(skip)]
    pub resize: Resize,
}

/// Makes layers with fresh weights, as PyTorch's start.
struct Maker<'a> {
    config: &'a OpenAiUNetConfig,
    seed: &'a mut InitSeed,
    device: &'a Device,
}

impl Maker<'_> {
    fn linear(&mut self, inputs: usize, outputs: usize) -> Linear {
        LinearConfig { inputs, outputs }.init(self.seed, self.device)
    }

    fn conv(&mut self, config: Conv2dConfig) -> Conv2d {
        config.init(Init::PyTorch, self.seed, self.device)
    }

    fn norm(&self, channels: usize) -> GroupNorm {
        GroupNorm::new(GROUPS, channels, EPSILON, self.device)
    }

    fn residual(&mut self, inputs: usize, outputs: usize, resize: Resize) -> Layer {
        let scale_shift = self.config.use_scale_shift_norm;
        let shifts = if scale_shift { 2 * outputs } else { outputs };
        Layer::Residual(ResidualBlock {
            norm0: self.norm(inputs),
            conv0: self.conv(Conv2dConfig::same(inputs, outputs, 3)),
            affine: self.linear(self.config.embedding(), shifts),
            norm1: self.norm(outputs),
            conv1: self.conv(Conv2dConfig::same(outputs, outputs, 3)),
            skip: (inputs != outputs).then(|| self.conv(Conv2dConfig::same(inputs, outputs, 1))),
            dropout: self.config.dropout,
            scale_shift,
            resize,
        })
    }

    fn attention(&mut self, channels: usize, heads: usize) -> Layer {
        Layer::Attention(AttentionBlock {
            norm: self.norm(channels),
            qkv: self.linear(channels, 3 * channels),
            proj_out: self.linear(channels, channels),
            heads,
            new_order: self.config.use_new_attention_order,
        })
    }

    fn resample(&mut self, channels: usize, resize: Resize) -> Layer {
        if self.config.resblock_updown {
            return self.residual(channels, channels, resize);
        }
        let same = Conv2dConfig::same(channels, channels, 3);
        let stride = if resize == Resize::Down { 2 } else { 1 };
        let conv = self.config.conv_resample;
        let conv = conv.then(|| self.conv(Conv2dConfig { stride, ..same }));
        Layer::Resample(Resampler { conv, resize })
    }
}

impl OpenAiUNetConfig {
    /// A network with fresh weights on `device`. The configuration has no [`Self::problems`].
    pub fn init(&self, seed: &mut InitSeed, device: &Device) -> OpenAiUNet {
        let mut make = Maker { config: self, seed, device };
        let (first, last) = (0, self.level_channels.len() - 1);
        let mut width = self.level_channels[first];
        let conv = make.conv(Conv2dConfig::same(self.in_channels, width, 3));
        let mut input_blocks = vec![vec![Layer::Conv(conv)]];
        let mut skips = vec![width];
        for (level, outputs) in self.level_channels.iter().copied().enumerate() {
            for _ in 0..self.num_res_blocks {
                let mut block = vec![make.residual(width, outputs, Resize::Keep)];
                block.extend(
                    self.attends(level).then(|| make.attention(outputs, self.heads(outputs))),
                );
                input_blocks.push(block);
                width = outputs;
                skips.push(width);
            }
            if level != last {
                input_blocks.push(vec![make.resample(width, Resize::Down)]);
                skips.push(width);
            }
        }
        let middle_block = vec![
            make.residual(width, width, Resize::Keep),
            make.attention(width, self.heads(width)),
            make.residual(width, width, Resize::Keep),
        ];
        let mut output_blocks = Vec::new();
        for (level, outputs) in self.level_channels.iter().copied().enumerate().rev() {
            for i in 0..=self.num_res_blocks {
                let skip = skips.pop().expect("a skip connection for every block");
                let mut block = vec![make.residual(width + skip, outputs, Resize::Keep)];
                let heads = self.heads_up(outputs);
                block.extend(self.attends(level).then(|| make.attention(outputs, heads)));
                if level != first && i == self.num_res_blocks {
                    block.push(make.resample(outputs, Resize::Up));
                }
                output_blocks.push(block);
                width = outputs;
            }
        }
        let out = self.out_channels * if self.learn_sigma { 2 } else { 1 };
        let wide = self.embedding();
        OpenAiUNet {
            time_embed0: make.linear(self.model_channels, wide),
            time_embed2: make.linear(wide, wide),
            label_emb: (self.num_classes > 0).then(|| Table {
                weight: make.seed.uniform([self.num_classes, wide], 1.0, device),
            }),
            input_blocks,
            middle_block,
            output_blocks,
            out_norm: make.norm(width),
            out_conv: make.conv(Conv2dConfig::same(width, out, 3)),
            config: self.clone(),
        }
    }
}

impl OpenAiUNet {
    /// The architecture.
    pub fn config(&self) -> &OpenAiUNetConfig {
        &self.config
    }

    /// Images `[N, in_channels, R, R]`, times `[N]`, one-hot labels `[N, num_classes]` (none: no
    /// class is added) -> `[N, out_channels, R, R]`, without a learned variance.
    pub fn forward(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        labels: Option<Tensor<2>>,
        mode: &ForwardMode,
    ) -> Tensor<4> {
        let features = positional_embedding(time, self.config.model_channels, 0.0);
        let embedding = self.time_embed2.forward(self.time_embed0.forward_silu(features));
        let embedding = match (&self.label_emb, labels) {
            (Some(table), Some(labels)) => embedding + labels.matmul(table.weight.val()),
            _ => embedding,
        };
        let embedding = activation::silu(embedding);
        let run = |layers: &[Layer], h: Tensor<4>| {
            layers.iter().fold(h, |h, layer| layer.forward(h, &embedding, mode))
        };
        let mut h = x;
        let mut skips = Vec::new();
        for block in &self.input_blocks {
            h = run(block, h);
            skips.push(h.clone());
        }
        h = run(&self.middle_block, h);
        for block in &self.output_blocks {
            let skip = skips.pop().expect("a skip connection for every block");
            h = run(block, Tensor::cat(vec![h, skip], 1));
        }
        let out = self.out_conv.forward(self.out_norm.forward_silu(h));
        if self.config.learn_sigma { out.narrow(1, 0, self.config.out_channels) } else { out }
    }
}

impl Layer {
    fn forward(&self, x: Tensor<4>, embedding: &Tensor<2>, mode: &ForwardMode) -> Tensor<4> {
        match self {
            Self::Conv(conv) => conv.forward(x),
            Self::Residual(block) => block.forward(x, embedding, mode),
            Self::Attention(block) => block.forward(x),
            Self::Resample(resampler) => resampler.forward(x),
        }
    }
}

impl ResidualBlock {
    fn forward(&self, x: Tensor<4>, embedding: &Tensor<2>, mode: &ForwardMode) -> Tensor<4> {
        let h = resized(self.norm0.forward_silu(x.clone()), self.resize);
        let h = self.conv0.forward(h);
        let x = resized(x, self.resize);
        let p = self.affine.forward(embedding.clone());
        let [n, shifts] = p.dims();
        let p = p.reshape([n, shifts, 1, 1]);
        let h = if self.scale_shift {
            let width = shifts / 2;
            let (scale, shift) = (p.clone().narrow(1, 0, width), p.narrow(1, width, width));
            activation::silu(self.norm1.forward(h) * (scale + 1.0) + shift)
        } else {
            self.norm1.forward_silu(h + p)
        };
        let h = self.conv1.forward(dropout(h, mode.dropout(self.dropout)));
        match &self.skip {
            Some(conv) => conv.forward(x) + h,
            None => x + h,
        }
    }
}

impl AttentionBlock {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [n, c, h, w] = x.dims();
        let (pixels, head) = (h * w, c / self.heads);
        let rows =
            |x: Tensor<4>| x.reshape([n, c, pixels]).swap_dims(1, 2).reshape([n * pixels, c]);
        let qkv = self.qkv.forward(rows(self.norm.forward(x.clone())));
        let qkv = qkv.reshape([n, pixels, 3 * c]).swap_dims(1, 2);
        let [q, k, v] = [0, 1, 2].map(|part| {
            if self.new_order {
                qkv.clone().narrow(1, part * c, c).reshape([n * self.heads, head, pixels])
            } else {
                let by_head = qkv.clone().reshape([n * self.heads, 3 * head, pixels]);
                by_head.narrow(1, part * head, head)
            }
        });
        let mixed = rows(attention(q, k, v).reshape([n, c, h, w]));
        let out = self.proj_out.forward(mixed);
        x + out.reshape([n, pixels, c]).swap_dims(1, 2).reshape([n, c, h, w])
    }
}

impl Resampler {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match (&self.conv, self.resize) {
            // The convolution itself halves.
            (Some(conv), Resize::Down) => conv.forward(x),
            (Some(conv), resize) => conv.forward(resized(x, resize)),
            (None, resize) => resized(x, resize),
        }
    }
}

/// Halved by means of 2x2 pixels, doubled by repetition, or as it is.
fn resized(x: Tensor<4>, resize: Resize) -> Tensor<4> {
    let [n, c, h, w] = x.dims();
    match resize {
        Resize::Keep => x,
        Resize::Down => {
            let parts = x.reshape([n * c, h / 2, 2, w / 2, 2]);
            parts.mean_dim(4).mean_dim(2).reshape([n, c, h / 2, w / 2])
        }
        Resize::Up => {
            let options =
                InterpolateOptions::new(InterpolateMode::Nearest).with_output_size([2 * h, 2 * w]);
            interpolate(x, options)
        }
    }
}
