//! The architecture of a `UNet2DModel`, and what is impossible about it.

use serde::{Deserialize, Serialize};

use crate::Problem;
use crate::unet::sizes::{probability_problem, size_problem};

/// A level of the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DownBlockType {
    /// Residual blocks.
    DownBlock2D,
    /// Residual blocks, each followed by self-attention.
    AttnDownBlock2D,
}

/// A level of the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpBlockType {
    /// Residual blocks.
    UpBlock2D,
    /// Residual blocks, each followed by self-attention.
    AttnUpBlock2D,
}

/// How the time is embedded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeEmbedding {
    /// Sinusoids of fixed frequencies.
    #[default]
    Positional,
    /// Random Fourier features of the time's logarithm; the output is divided by the time.
    Fourier,
}

/// Activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// x sigmoid(x).
    #[default]
    #[serde(alias = "swish")]
    Silu,
    /// max(x, 0).
    Relu,
    /// x Phi(x).
    Gelu,
}

/// How the time enters a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeScaleShift {
    /// Added.
    #[default]
    Default,
    /// As a scale and a shift.
    ScaleShift,
}

/// `UNet2DModel`'s configuration: the fields of its `config.json` that the network depends on.
/// Other fields are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiffusersUNetConfig {
    /// Height and width of images; the number of levels must let it halve.
    pub sample_size: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Whether images in [0, 1] are brought to [-1, 1] first.
    #[serde(default)]
    pub center_input_sample: bool,
    /// How the time is embedded.
    #[serde(default)]
    pub time_embedding_type: TimeEmbedding,
    /// Width of the time's embedding; four times the first level's width if none is given.
    #[serde(default)]
    pub time_embedding_dim: Option<usize>,
    /// `shift` of [`positional_embedding`](crate::layers::positional_embedding).
    #[serde(default)]
    pub freq_shift: f64,
    /// Whether cosines come before sines in the positional embedding.
    #[serde(default = "yes")]
    pub flip_sin_to_cos: bool,
    /// The encoder's levels, finest first.
    pub down_block_types: Vec<DownBlockType>,
    /// The decoder's levels, coarsest first.
    pub up_block_types: Vec<UpBlockType>,
    /// Channels of each level, finest first; each level but the last halves the image.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks a level of the encoder; a level of the decoder has one more.
    #[serde(default = "two")]
    pub layers_per_block: usize,
    /// Divides the result of the blocks and the attention in the middle.
    #[serde(default = "one")]
    pub mid_block_scale_factor: f64,
    /// Rows and columns of zero padding around an image that is halved; 0 for one row below and one
    /// column to the right.
    #[serde(default = "one_pixel")]
    pub downsample_padding: usize,
    /// Probability of dropout in blocks, in [0, 1).
    #[serde(default)]
    pub dropout: f64,
    /// The blocks' activation.
    #[serde(default)]
    pub act_fn: Activation,
    /// Channels of an attention head; one head if none is given.
    #[serde(default = "eight")]
    pub attention_head_dim: Option<usize>,
    /// Groups of the group norms; they divide the levels' channels.
    #[serde(default = "thirty_two")]
    pub norm_num_groups: usize,
    /// Groups of the group norm of the attention in the middle, if other than `norm_num_groups`.
    #[serde(default)]
    pub attn_norm_num_groups: Option<usize>,
    /// Epsilon of the group norms.
    #[serde(default = "epsilon")]
    pub norm_eps: f64,
    /// How the time enters a block.
    #[serde(default)]
    pub resnet_time_scale_shift: TimeScaleShift,
    /// Whether there is attention in the middle.
    #[serde(default = "yes")]
    pub add_attention: bool,
    /// Classes; none for an unconditional network.
    #[serde(default)]
    pub num_class_embeds: Option<usize>,
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

impl DiffusersUNetConfig {
    /// All that is impossible about it; none when a network can be made.
    pub fn problems(&self) -> Vec<Problem> {
        let levels = self.block_out_channels.len();
        let mut problems: Vec<Problem> = [
            ("sample_size", self.sample_size),
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("norm_num_groups", self.norm_num_groups),
            ("layers_per_block", self.layers_per_block),
            ("attention_head_dim", self.attention_head_dim.unwrap_or(1)),
            ("attn_norm_num_groups", self.attn_norm_num_groups.unwrap_or(1)),
            ("time_embedding_dim", self.time_embedding_dim.unwrap_or(1)),
            ("num_class_embeds", self.num_class_embeds.unwrap_or(1)),
        ]
        .into_iter()
        .chain(self.block_out_channels.iter().map(|c| ("block_out_channels", *c)))
        .filter_map(|(field, value)| size_problem(field, value))
        .collect();
        if !(1..=12).contains(&levels)
            || self.down_block_types.len() != levels
            || self.up_block_types.len() != levels
        {
            problems.push(Problem::new(
                "block_out_channels",
                format!(
                    "has {levels} entries, and there are {} down_block_types and {} up_block_types",
                    self.down_block_types.len(),
                    self.up_block_types.len()
                ),
            ));
        } else if !self.sample_size.is_multiple_of(1 << (levels - 1)) {
            let least = 1 << (levels - 1);
            problems.push(Problem::new(
                "sample_size",
                format!("is {} and must be a multiple of {least}", self.sample_size),
            ));
        }
        let groups = self.norm_num_groups.max(1);
        if self.block_out_channels.iter().any(|c| !c.is_multiple_of(groups)) {
            let problem = format!("{groups} doesn't divide {:?}", self.block_out_channels);
            problems.push(Problem::new("norm_num_groups", problem));
        }
        if let Some(coarsest) = self.block_out_channels.last()
            && !coarsest.is_multiple_of(self.attn_norm_num_groups.unwrap_or(groups).max(1))
        {
            let problem = format!("doesn't divide {coarsest}");
            problems.push(Problem::new("attn_norm_num_groups", problem));
        }
        if self.block_out_channels.first().is_some_and(|c| c % 2 == 1) {
            problems.push(Problem::new("block_out_channels", "has an odd first entry"));
        }
        if self
            .attention_head_dim
            .is_some_and(|head| self.block_out_channels.iter().any(|c| *c < head))
        {
            let problem = "is larger than a block's channels";
            problems.push(Problem::new("attention_head_dim", problem));
        }
        problems.extend(probability_problem("dropout", self.dropout));
        problems
    }

    /// Width of the time's embedding.
    pub(super) fn time_width(&self) -> usize {
        self.time_embedding_dim.unwrap_or(4 * self.block_out_channels[0])
    }

    /// Width of the time's features, of which its embedding is made.
    pub(super) fn time_features(&self) -> usize {
        match self.time_embedding_type {
            TimeEmbedding::Positional => self.block_out_channels[0],
            TimeEmbedding::Fourier => 2 * self.block_out_channels[0],
        }
    }

    /// Whether the time enters a block as a scale and a shift.
    pub(super) fn has_scale_shift(&self) -> bool {
        self.resnet_time_scale_shift == TimeScaleShift::ScaleShift
    }
}
