//! The U-Net of Hugging Face diffusers' `UNet2DModel`, made of DownBlock2D, AttnDownBlock2D,
//! UpBlock2D and AttnUpBlock2D (Ho et al., arXiv:2006.11239). Configuration fields and state names
//! are those of diffusers (Apache-2.0).

use burn::module::{Module, Param};
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Tensor, activation};
use kdm_kernels::dropout;
use serde::{Deserialize, Serialize};

use crate::layers::{
    Conv2d, Conv2dConfig, GroupNorm, fourier_embedding, positional_embedding, swap_halves,
};
use crate::unet::block::attention;
use crate::unet::song::MOST;
use crate::{ForwardMode, Init, InitSeed, Linear, LinearConfig};

/// A block on the way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "diffusers' names")]
pub enum DownBlockType {
    DownBlock2D,
    AttnDownBlock2D,
}

/// A block on the way up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "diffusers' names")]
pub enum UpBlockType {
    UpBlock2D,
    AttnUpBlock2D,
}

/// How the time enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeEmbedding {
    /// Sinusoids of fixed frequencies.
    Positional,
    /// Random Fourier features of the time's logarithm; the output is divided by the time.
    Fourier,
}

/// Activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// x sigmoid(x).
    #[serde(alias = "swish")]
    Silu,
    /// max(x, 0).
    Relu,
    /// x Phi(x).
    Gelu,
}

/// How the time enters a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeScaleShift {
    /// Added.
    Default,
    /// As a scale and a shift.
    ScaleShift,
}

/// `UNet2DModel`'s configuration: the fields of its `config.json` that the network depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "diffusers' names")]
pub struct DiffusersUNetConfig {
    pub sample_size: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    #[serde(default)]
    pub center_input_sample: bool,
    #[serde(default = "positional")]
    pub time_embedding_type: TimeEmbedding,
    #[serde(default)]
    pub time_embedding_dim: Option<usize>,
    #[serde(default)]
    pub freq_shift: f64,
    #[serde(default = "yes")]
    pub flip_sin_to_cos: bool,
    pub down_block_types: Vec<DownBlockType>,
    pub up_block_types: Vec<UpBlockType>,
    pub block_out_channels: Vec<usize>,
    #[serde(default = "two")]
    pub layers_per_block: usize,
    #[serde(default = "one")]
    pub mid_block_scale_factor: f64,
    #[serde(default = "one_pixel")]
    pub downsample_padding: usize,
    #[serde(default)]
    pub dropout: f64,
    #[serde(default = "silu")]
    pub act_fn: Activation,
    #[serde(default = "eight")]
    pub attention_head_dim: Option<usize>,
    #[serde(default = "thirty_two")]
    pub norm_num_groups: usize,
    #[serde(default)]
    pub attn_norm_num_groups: Option<usize>,
    #[serde(default = "epsilon")]
    pub norm_eps: f64,
    #[serde(default = "added")]
    pub resnet_time_scale_shift: TimeScaleShift,
    #[serde(default = "yes")]
    pub add_attention: bool,
    #[serde(default)]
    pub num_class_embeds: Option<usize>,
}

fn positional() -> TimeEmbedding {
    TimeEmbedding::Positional
}
fn silu() -> Activation {
    Activation::Silu
}
fn added() -> TimeScaleShift {
    TimeScaleShift::Default
}
fn yes() -> bool {
    true
}
fn one() -> f64 {
    1.0
}
fn one_pixel() -> usize {
    1
}
fn two() -> usize {
    2
}
fn eight() -> Option<usize> {
    Some(8)
}
fn thirty_two() -> usize {
    32
}
fn epsilon() -> f64 {
    1e-5
}

#[derive(Module, Debug)]
struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
    output_scale: f64,
    dropout: f64,
    scale_shift: bool,
    #[module(skip)]
    act: Activation,
}

#[derive(Module, Debug)]
struct Attention {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Vec<Linear>,
    heads: usize,
    output_scale: f64,
}

/// A convolution that halves or follows a doubling.
#[derive(Module, Debug)]
struct Resampler {
    conv: Conv2d,
}

#[derive(Module, Debug)]
struct Block {
    resnets: Vec<ResnetBlock>,
    attentions: Vec<Attention>,
    downsamplers: Vec<Resampler>,
    upsamplers: Vec<Resampler>,
}

#[derive(Module, Debug)]
struct TimestepEmbedding {
    linear_1: Linear,
    linear_2: Linear,
}

/// A table or a list of frequencies.
#[derive(Module, Debug)]
struct Table<const D: usize> {
    weight: Param<Tensor<D>>,
}

/// The network; see [`DiffusersUNetConfig`].
#[derive(Module, Debug)]
pub struct DiffusersUNet {
    conv_in: Conv2d,
    time_proj: Option<Table<1>>,
    time_embedding: TimestepEmbedding,
    class_embedding: Option<Table<2>>,
    down_blocks: Vec<Block>,
    mid_block: Block,
    up_blocks: Vec<Block>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    #[module(skip)]
    config: DiffusersUNetConfig,
}

fn activate<const D: usize>(act: Activation, x: Tensor<D>) -> Tensor<D> {
    match act {
        Activation::Silu => activation::silu(x),
        Activation::Relu => activation::relu(x),
        Activation::Gelu => activation::gelu(x),
    }
}

impl ResnetBlock {
    fn forward(&self, x: Tensor<4>, time: Tensor<2>, mode: &ForwardMode) -> Tensor<4> {
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

impl Attention {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
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

impl Block {
    /// Blocks and attentions in turn; `before` prepares each one's input, `after` sees its output.
    fn run(
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

impl DiffusersUNetConfig {
    /// All that is impossible: field and problem.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems: Vec<(String, String)> = Vec::new();
        let levels = self.block_out_channels.len();
        let mut bounded = |field: &str, value: usize| {
            if value == 0 || value > MOST {
                problems
                    .push((field.into(), format!("is {value} and must be between 1 and {MOST}")));
            }
        };
        bounded("sample_size", self.sample_size);
        bounded("in_channels", self.in_channels);
        bounded("out_channels", self.out_channels);
        bounded("norm_num_groups", self.norm_num_groups);
        bounded("layers_per_block", self.layers_per_block);
        bounded("attention_head_dim", self.attention_head_dim.unwrap_or(1));
        bounded("attn_norm_num_groups", self.attn_norm_num_groups.unwrap_or(1));
        bounded("time_embedding_dim", self.time_embedding_dim.unwrap_or(1));
        bounded("num_class_embeds", self.num_class_embeds.unwrap_or(1));
        self.block_out_channels.iter().for_each(|c| bounded("block_out_channels", *c));
        if !(1..=12).contains(&levels)
            || self.down_block_types.len() != levels
            || self.up_block_types.len() != levels
        {
            problems.push((
                "block_out_channels".into(),
                format!(
                    "has {levels} entries, and there are {} down_block_types and {} up_block_types",
                    self.down_block_types.len(),
                    self.up_block_types.len()
                ),
            ));
        } else if !self.sample_size.is_multiple_of(1 << (levels - 1)) {
            let least = 1 << (levels - 1);
            problems.push((
                "sample_size".into(),
                format!("is {} and must be a multiple of {least}", self.sample_size),
            ));
        }
        let groups = self.norm_num_groups.max(1);
        if self.block_out_channels.iter().any(|c| !c.is_multiple_of(groups)) {
            problems.push((
                "norm_num_groups".into(),
                format!("{groups} doesn't divide {:?}", self.block_out_channels),
            ));
        }
        if let Some(coarsest) = self.block_out_channels.last()
            && !coarsest.is_multiple_of(self.attn_norm_num_groups.unwrap_or(groups).max(1))
        {
            problems.push(("attn_norm_num_groups".into(), format!("doesn't divide {coarsest}")));
        }
        if self.block_out_channels.first().is_some_and(|c| c % 2 == 1) {
            problems.push(("block_out_channels".into(), "has an odd first entry".into()));
        }
        if self
            .attention_head_dim
            .is_some_and(|head| self.block_out_channels.iter().any(|c| *c < head))
        {
            problems
                .push(("attention_head_dim".into(), "is larger than a block's channels".into()));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            problems.push((
                "dropout".into(),
                format!("is {} and must be at least 0 and below 1", self.dropout),
            ));
        }
        problems
    }

    fn time_width(&self) -> usize {
        self.time_embedding_dim.unwrap_or(4 * self.block_out_channels[0])
    }

    /// A network with fresh weights, as PyTorch's layers start. The configuration has no
    /// [`Self::problems`].
    pub fn init(&self, seed: &mut InitSeed, device: &Device) -> DiffusersUNet {
        let channels = &self.block_out_channels;
        let (levels, first, last) = (channels.len(), channels[0], channels[channels.len() - 1]);
        let time = self.time_width();
        let linear = |inputs, outputs, seed: &mut InitSeed| {
            LinearConfig { inputs, outputs }.init(seed, device)
        };
        let conv = |inputs, outputs, kernel, seed: &mut InitSeed| {
            Conv2dConfig::same(inputs, outputs, kernel).init(Init::PyTorch, seed, device)
        };
        let norm = |channels, groups| GroupNorm::new(groups, channels, self.norm_eps, device);
        let groups = self.norm_num_groups;
        let scale_shift = self.resnet_time_scale_shift == TimeScaleShift::ScaleShift;
        let resnet = |inputs, outputs, output_scale, seed: &mut InitSeed| ResnetBlock {
            norm1: norm(inputs, groups),
            conv1: conv(inputs, outputs, 3, seed),
            time_emb_proj: linear(time, if scale_shift { 2 * outputs } else { outputs }, seed),
            norm2: norm(outputs, groups),
            conv2: conv(outputs, outputs, 3, seed),
            conv_shortcut: (inputs != outputs).then(|| conv(inputs, outputs, 1, seed)),
            output_scale,
            dropout: self.dropout,
            scale_shift,
            act: self.act_fn,
        };
        let attend = |channels: usize, groups, output_scale, seed: &mut InitSeed| {
            let head = self.attention_head_dim.unwrap_or(channels);
            let heads = channels / head;
            let inner = heads * head;
            Attention {
                group_norm: norm(channels, groups),
                to_q: linear(channels, inner, seed),
                to_k: linear(channels, inner, seed),
                to_v: linear(channels, inner, seed),
                to_out: vec![linear(inner, channels, seed)],
                heads,
                output_scale,
            }
        };
        let mut down_blocks = Vec::new();
        for (i, kind) in self.down_block_types.iter().enumerate() {
            let (inputs, outputs) = (channels[i.saturating_sub(1)], channels[i]);
            let mut block = Block {
                resnets: vec![],
                attentions: vec![],
                downsamplers: vec![],
                upsamplers: vec![],
            };
            for k in 0..self.layers_per_block {
                block.resnets.push(resnet(
                    if k == 0 { inputs } else { outputs },
                    outputs,
                    1.0,
                    seed,
                ));
                if *kind == DownBlockType::AttnDownBlock2D {
                    block.attentions.push(attend(outputs, groups, 1.0, seed));
                }
            }
            if i + 1 < levels {
                let padding = [self.downsample_padding; 2];
                let config = Conv2dConfig {
                    inputs: outputs,
                    outputs,
                    kernel: [3, 3],
                    stride: 2,
                    padding,
                    bias: true,
                };
                block
                    .downsamplers
                    .push(Resampler { conv: config.init(Init::PyTorch, seed, device) });
            }
            down_blocks.push(block);
        }
        let scale = self.mid_block_scale_factor;
        let mid_block = Block {
            resnets: (0..2).map(|_| resnet(last, last, scale, seed)).collect(),
            attentions: (0..usize::from(self.add_attention))
                .map(|_| attend(last, self.attn_norm_num_groups.unwrap_or(groups), scale, seed))
                .collect(),
            downsamplers: vec![],
            upsamplers: vec![],
        };
        let mut up_blocks = Vec::new();
        for (i, kind) in self.up_block_types.iter().enumerate() {
            let at = |i: usize| channels[levels - 1 - i.min(levels - 1)];
            let (before, outputs, skipped) = (at(i.saturating_sub(1)), at(i), at(i + 1));
            let mut block = Block {
                resnets: vec![],
                attentions: vec![],
                downsamplers: vec![],
                upsamplers: vec![],
            };
            for k in 0..=self.layers_per_block {
                let inputs = if k == 0 { before } else { outputs };
                let skip = if k == self.layers_per_block { skipped } else { outputs };
                block.resnets.push(resnet(inputs + skip, outputs, 1.0, seed));
                if *kind == UpBlockType::AttnUpBlock2D {
                    block.attentions.push(attend(outputs, groups, 1.0, seed));
                }
            }
            if i + 1 < levels {
                block.upsamplers.push(Resampler { conv: conv(outputs, outputs, 3, seed) });
            }
            up_blocks.push(block);
        }
        DiffusersUNet {
            conv_in: conv(self.in_channels, first, 3, seed),
            time_proj: (self.time_embedding_type == TimeEmbedding::Fourier).then(|| Table {
                weight: seed.uniform([first], FOURIER_SCALE, device).set_require_grad(false),
            }),
            time_embedding: TimestepEmbedding {
                linear_1: linear(first_width(self), time, seed),
                linear_2: linear(time, time, seed),
            },
            class_embedding: self
                .num_class_embeds
                .map(|n| Table { weight: seed.uniform([n, time], 1.0, device) }),
            down_blocks,
            mid_block,
            up_blocks,
            conv_norm_out: norm(first, groups),
            conv_out: conv(first, self.out_channels, 3, seed),
            config: self.clone(),
        }
    }
}

/// Bound of the fresh random frequencies; loaded ones replace them.
const FOURIER_SCALE: f64 = 16.0;

/// Width of the time's features.
fn first_width(config: &DiffusersUNetConfig) -> usize {
    match config.time_embedding_type {
        TimeEmbedding::Positional => config.block_out_channels[0],
        TimeEmbedding::Fourier => 2 * config.block_out_channels[0],
    }
}

impl DiffusersUNet {
    /// What it is.
    pub fn config(&self) -> &DiffusersUNetConfig {
        &self.config
    }

    /// Images `[N, in_channels, S, S]`, times `[N]`, one-hot labels `[N, num_class_embeds]` (none:
    /// no class is added) -> `[N, out_channels, S, S]`.
    pub fn forward(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        labels: Option<Tensor<2>>,
        mode: &ForwardMode,
    ) -> Tensor<4> {
        let config = &self.config;
        let x = if config.center_input_sample { x * 2.0 - 1.0 } else { x };
        let cos_first = match &self.time_proj {
            Some(table) => fourier_embedding(time.clone().log(), table.weight.val()),
            None => {
                positional_embedding(time.clone(), config.block_out_channels[0], config.freq_shift)
            }
        };
        // Random features come with the sines first whatever the setting says.
        let flip = config.flip_sin_to_cos && self.time_proj.is_none();
        let embedding = if flip { cos_first } else { swap_halves(cos_first) };
        let mut embedding = self
            .time_embedding
            .linear_2
            .forward(self.time_embedding.linear_1.forward_silu(embedding));
        if let (Some(table), Some(labels)) = (&self.class_embedding, labels) {
            embedding = embedding + labels.matmul(table.weight.val());
        }

        let mut h = self.conv_in.forward(x);
        let mut kept = vec![h.clone()];
        for block in &self.down_blocks {
            h = block.run(h, &embedding, mode, |h| h, |h| kept.push(h.clone()));
            for down in &block.downsamplers {
                // Without padding, a row below and a column to the right make the size even out.
                let padded = if config.downsample_padding == 0 { pad_end(h) } else { h };
                h = down.conv.forward(padded);
                kept.push(h.clone());
            }
        }
        h = self.mid_block.resnets[0].forward(h, embedding.clone(), mode);
        for attention in &self.mid_block.attentions {
            h = attention.forward(h);
        }
        h = self.mid_block.resnets[1].forward(h, embedding.clone(), mode);
        for block in &self.up_blocks {
            let join = |h| Tensor::cat(vec![h, kept.pop().expect("as many as were kept")], 1);
            h = block.run(h, &embedding, mode, join, |_| {});
            for up in &block.upsamplers {
                let [_, _, height, width] = h.dims();
                let options = InterpolateOptions::new(InterpolateMode::Nearest)
                    .with_output_size([2 * height, 2 * width]);
                h = up.conv.forward(interpolate(h, options));
            }
        }
        // The last activation is SiLU whatever the others are.
        let out = self.conv_out.forward(self.conv_norm_out.forward_silu(h));
        match config.time_embedding_type {
            TimeEmbedding::Positional => out,
            TimeEmbedding::Fourier => {
                let n = time.dims()[0];
                out / time.reshape([n, 1, 1, 1])
            }
        }
    }
}

/// A row of zeros below and a column of zeros to the right.
fn pad_end(x: Tensor<4>) -> Tensor<4> {
    let [n, c, h, w] = x.dims();
    let device = x.device();
    let x = Tensor::cat(vec![x, Tensor::zeros([n, c, 1, w], &device)], 2);
    Tensor::cat(vec![x, Tensor::zeros([n, c, h + 1, 1], &device)], 3)
}
