//! The architecture of OpenAI's U-Net, and what is impossible about it.

use serde::{Deserialize, Serialize};

use crate::Problem;
use crate::unet::sizes::{most_problem, probability_problem, size_problem};

/// Groups of the group norms.
pub(super) const GROUPS: usize = 32;

/// The architecture. The fields' names are those of openai/guided-diffusion but for
/// `level_channels`, which are the widths that its multipliers give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenAiUNetConfig {
    /// Height and width of images; the number of levels must let it halve.
    pub resolution: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output; those of a learned variance come on top.
    pub out_channels: usize,
    /// Whether the network gives as many channels again for a variance, which are left out.
    #[serde(default)]
    pub learn_sigma: bool,
    /// Width of the time's features. Even.
    pub model_channels: usize,
    /// Width of each level, finest first, a multiple of 32; each level after the first halves the
    /// image.
    pub level_channels: Vec<usize>,
    /// Residual blocks a level of the encoder, at most 64; a level of the decoder has one more.
    pub num_res_blocks: usize,
    /// Factors by which images are smaller where blocks have attention.
    pub attention_resolutions: Vec<usize>,
    /// Classes; 0 for an unconditional network.
    #[serde(default)]
    pub num_classes: usize,
    /// Attention heads, unless `num_head_channels` says how wide they are.
    #[serde(default = "four")]
    pub num_heads: usize,
    /// Attention heads of the decoder, unless `num_head_channels` says how wide they are; none for
    /// as many as `num_heads`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_heads_upsample: Option<usize>,
    /// Channels of an attention head.
    #[serde(default)]
    pub num_head_channels: Option<usize>,
    /// Whether the parts queries, keys, values come before the heads in attention's channels.
    #[serde(default)]
    pub use_new_attention_order: bool,
    /// Whether the time enters a block as a scale and a shift.
    #[serde(default)]
    pub use_scale_shift_norm: bool,
    /// Whether images are resized by residual blocks.
    #[serde(default)]
    pub resblock_updown: bool,
    /// Whether resizing, where no residual block does it, has a convolution.
    #[serde(default = "yes")]
    pub conv_resample: bool,
    /// Probability of dropout in blocks, in [0, 1).
    #[serde(default)]
    pub dropout: f64,
}

fn four() -> usize {
    4
}
fn yes() -> bool {
    true
}

impl OpenAiUNetConfig {
    /// All that is impossible about it; none when a network can be made.
    pub fn problems(&self) -> Vec<Problem> {
        let sizes = [
            ("resolution", self.resolution),
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("model_channels", self.model_channels),
            ("num_res_blocks", self.num_res_blocks),
            ("num_heads", self.num_heads),
            ("num_heads_upsample", self.num_heads_upsample.unwrap_or(1)),
            ("num_head_channels", self.num_head_channels.unwrap_or(1)),
        ];
        let widths = self.level_channels.iter().map(|width| ("level_channels", *width));
        let mut problems: Vec<Problem> = sizes
            .into_iter()
            .chain(widths)
            .filter_map(|(field, value)| size_problem(field, value))
            .collect();
        problems.extend(most_problem("num_classes", self.num_classes));
        if self.num_res_blocks > 64 {
            problems.push(Problem::new("num_res_blocks", "must be at most 64"));
        }
        let levels = self.level_channels.len();
        if !(1..=12).contains(&levels) {
            let problem = format!("has {levels} entries and must have 1 to 12");
            problems.push(Problem::new("level_channels", problem));
        } else if !self.resolution.is_multiple_of(1 << (levels - 1)) {
            let problem =
                format!("is {} and must be a multiple of {}", self.resolution, 1 << (levels - 1));
            problems.push(Problem::new("resolution", problem));
        }
        if self.model_channels % 2 == 1 {
            problems.push(Problem::new("model_channels", "must be even"));
        }
        for width in &self.level_channels {
            if !width.is_multiple_of(GROUPS) {
                let problem = format!("has {width}, and must have multiples of {GROUPS}");
                problems.push(Problem::new("level_channels", problem));
            }
        }
        for width in self.attentive_widths() {
            let heads = match (self.num_head_channels, self.num_heads_upsample) {
                (Some(head), _) => vec![("num_head_channels", head)],
                (None, None) => vec![("num_heads", self.num_heads)],
                (None, Some(up)) => {
                    vec![("num_heads", self.num_heads), ("num_heads_upsample", up)]
                }
            };
            for (field, per) in heads {
                if per == 0 || !width.is_multiple_of(per) {
                    let problem =
                        format!("is {per}, which doesn't divide a layer of {width} channels");
                    problems.push(Problem::new(field, problem));
                }
            }
        }
        problems.extend(probability_problem("dropout", self.dropout));
        problems
    }

    /// Whether the blocks of a level have attention.
    pub(super) fn attends(&self, level: usize) -> bool {
        self.attention_resolutions.contains(&(1 << level))
    }

    /// Widths of the layers that have attention: of levels, and of the middle.
    fn attentive_widths(&self) -> impl Iterator<Item = usize> {
        let levels = self.level_channels.iter().enumerate();
        let of_levels = levels.filter(|(level, _)| self.attends(*level)).map(|(_, width)| *width);
        of_levels.chain(self.level_channels.last().copied())
    }

    /// Heads of the decoder's attention on so many channels.
    pub(super) fn heads_up(&self, channels: usize) -> usize {
        match (self.num_head_channels, self.num_heads_upsample) {
            (None, Some(heads)) => heads,
            _ => self.heads(channels),
        }
    }

    /// Heads of the encoder's attention on so many channels.
    pub(super) fn heads(&self, channels: usize) -> usize {
        self.num_head_channels.map_or(self.num_heads, |head| channels / head)
    }

    /// Width of the time's embedding.
    pub(super) fn embedding(&self) -> usize {
        4 * self.model_channels
    }
}
