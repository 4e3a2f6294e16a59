//! The U-Nets of NVlabs' kinds (DDPM++, NCSN++, ADM) whole: which layers there are, in the order in
//! which an image goes through them.
//!
//! ```text
//!   image [in_channels, R, R]                          result [out_channels, R, R]
//!     |                                                  ^
//!   conv                                               aux_norm, aux_conv
//!   block0 .. block(n-1)      R x R, width m * c0      block n .. block0
//!     |                     ---- skip connections --->   ^
//!   down                                               up
//!   block0 .. block(n-1)     R/2 x R/2, width m * c1   block n .. block0
//!     |                     ---- skip connections --->   ^
//!   down                                               up
//!    ...                                                ...
//!   block0 .. block(n-1)      coarsest level           block n .. block0
//!     |                     ---- skip connections --->   ^
//!     +-------------------> in0 (attention), in1 --------+
//!        encoder, downwards                              decoder, upwards
//! ```
//!
//! n is `num_blocks`, m `model_channels` and c `channel_mult`. Each result of the encoder (of
//! `conv`, every `down` and every block) has one skip connection: a block of the decoder takes the
//! last that is left, its channels after those of the block's own input. Blocks on images whose
//! side is in `attn_resolutions` have attention.
//!
//! Beside this main path there may be a path of the input (`aux_skip` or `aux_residual`, added at
//! every level; [`EncoderKind`]) and one of the output (`aux_conv` of every level, doubled and
//! summed; [`DecoderKind`]).
//!
//! Coarser levels may have inputs and outputs of their own, images of their size: `level_in` adds
//! one after `down`; `level_norm` and `level_out` give one of the level's last block.

use kdm_kernels::Resize;
use serde::{Deserialize, Serialize};

use crate::layers::Conv2dConfig;
use crate::unet::block::BlockConfig;
use crate::unet::sizes::UNetSizes;

/// A layer's name, the side of its result, and what it does there.
#[derive(Clone, Debug)]
pub(crate) struct Planned<Step> {
    pub name: String,
    pub side: usize,
    pub step: Step,
}

/// What a layer of the encoder does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum EncoderStep {
    /// The convolution of the image that the encoder begins with.
    FirstConv(Conv2dConfig),
    /// The next block.
    Block(BlockConfig),
    /// The input's path, halved by the filter, is added through a 1x1 convolution.
    AddInput(Conv2dConfig),
    /// The input's path, halved by a convolution, is added to the main one, the sum times
    /// sqrt(1/2), and goes on from there.
    MixInput(Conv2dConfig),
    /// The next input of a coarser level is added to the main path through a convolution.
    AddLevel(Conv2dConfig),
}

/// What a layer of the decoder does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DecoderStep {
    /// A block on the main path alone.
    Block(BlockConfig),
    /// A block that takes a skip connection too.
    BlockWithSkip(BlockConfig),
    /// Group norm (of so many channels) and SiLU before an output.
    OutputNorm(usize),
    /// The convolution that gives an output, added to the doubled sum of those so far.
    OutputConv(Conv2dConfig),
    /// The convolution that gives a coarser level's own output.
    LevelConv(Conv2dConfig),
}

/// What the encoder does with the input beside its main path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncoderKind {
    /// Nothing.
    #[default]
    Standard,
    /// The downsampled input is added at every level, through a 1x1 convolution.
    Skip,
    /// A path of convolutions of the input is added at every level (NCSN++).
    Residual,
}

/// Where the output comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecoderKind {
    /// The finest level.
    #[default]
    Standard,
    /// All levels, upsampled and summed.
    Skip,
}

/// Where the kinds of U-Net differ.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Family {
    /// DDPM++ and NCSN++: attention has one head; in the decoder only the last block of a level has
    /// it.
    Song(EncoderKind, DecoderKind),
    /// ADM: every block has attention, with a head for every 64 channels; the first convolution is
    /// as wide as the first level; norm and convolution of the output are no layers of the decoder.
    Adm,
}

/// Channels of one of ADM's attention heads.
pub(crate) const ADM_HEAD: usize = 64;

impl Family {
    fn first_width(self, sizes: &UNetSizes) -> usize {
        match self {
            Self::Song(..) => sizes.model_channels,
            Self::Adm => sizes.model_channels * sizes.channel_mult[0],
        }
    }

    fn heads(self, width: usize) -> usize {
        match self {
            Self::Song(..) => 1,
            Self::Adm => width / ADM_HEAD,
        }
    }

    /// Whether block `i` of a level of the decoder has attention where there is any.
    fn decoder_attends(self, i: usize, sizes: &UNetSizes) -> bool {
        match self {
            Self::Song(..) => i == sizes.num_blocks,
            Self::Adm => true,
        }
    }
}

/// The layers of encoder and decoder in order. `sizes` has no problems.
pub(crate) fn topology(
    sizes: &UNetSizes,
    family: Family,
) -> (Vec<Planned<EncoderStep>>, Vec<Planned<DecoderStep>>) {
    let (encoder, skips) = encoder(sizes, family);
    (encoder, decoder(sizes, family, skips))
}

/// The encoder's layers, and the widths of its skip connections.
fn encoder(sizes: &UNetSizes, family: Family) -> (Vec<Planned<EncoderStep>>, Vec<usize>) {
    let mut layers = Vec::new();
    let mut skips = Vec::new();
    let mut width = family.first_width(sizes);
    let mut input_width = sizes.in_channels;
    for (level, mult) in sizes.channel_mult.iter().enumerate() {
        let side = sizes.resolution >> level;
        let mut add = |name: &str, step| layers.push(planned(side, name, step));
        if level == 0 {
            add("conv", EncoderStep::FirstConv(Conv2dConfig::same(sizes.in_channels, width, 3)));
        } else {
            add("down", EncoderStep::Block(BlockConfig::resized(width, Resize::Down)));
            match family {
                Family::Song(EncoderKind::Skip, _) => {
                    let conv = Conv2dConfig::same(input_width, width, 1);
                    add("aux_skip", EncoderStep::AddInput(conv));
                }
                Family::Song(EncoderKind::Residual, _) => {
                    let conv = Conv2dConfig::same(input_width, width, 3);
                    add("aux_residual", EncoderStep::MixInput(conv));
                    input_width = width;
                }
                Family::Song(EncoderKind::Standard, _) | Family::Adm => {}
            }
            let inputs = of_level(sizes.level_inputs, level);
            if inputs > 0 {
                let conv = Conv2dConfig::same(inputs, width, 3);
                add("level_in", EncoderStep::AddLevel(conv));
            }
        }
        skips.push(width);
        for i in 0..sizes.num_blocks {
            let outputs = sizes.model_channels * mult;
            let heads = if attends(sizes, side) { family.heads(outputs) } else { 0 };
            let block = BlockConfig { inputs: width, outputs, resize: Resize::Keep, heads };
            add(&format!("block{i}"), EncoderStep::Block(block));
            width = outputs;
            skips.push(width);
        }
    }
    (layers, skips)
}

/// The decoder's layers, from the widths of the encoder's skip connections.
fn decoder(sizes: &UNetSizes, family: Family, mut skips: Vec<usize>) -> Vec<Planned<DecoderStep>> {
    let mut layers = Vec::new();
    let mut width = *skips.last().expect("an encoder has layers");
    let coarsest = sizes.channel_mult.len() - 1;
    for (level, mult) in sizes.channel_mult.iter().enumerate().rev() {
        let side = sizes.resolution >> level;
        let mut add = |name: &str, step| layers.push(planned(side, name, step));
        if level == coarsest {
            let plain = BlockConfig::resized(width, Resize::Keep);
            let attentive = BlockConfig { heads: family.heads(width), ..plain };
            add("in0", DecoderStep::Block(attentive));
            add("in1", DecoderStep::Block(plain));
        } else {
            add("up", DecoderStep::Block(BlockConfig::resized(width, Resize::Up)));
        }
        for i in 0..=sizes.num_blocks {
            let inputs = width + skips.pop().expect("a skip connection for every block");
            let outputs = sizes.model_channels * mult;
            let attentive = attends(sizes, side) && family.decoder_attends(i, sizes);
            let heads = if attentive { family.heads(outputs) } else { 0 };
            let block = BlockConfig { inputs, outputs, resize: Resize::Keep, heads };
            add(&format!("block{i}"), DecoderStep::BlockWithSkip(block));
            width = outputs;
        }
        if let Family::Song(_, kind) = family
            && (level == 0 || kind == DecoderKind::Skip)
        {
            add("aux_norm", DecoderStep::OutputNorm(width));
            let conv = Conv2dConfig::same(width, sizes.out_channels, 3);
            add("aux_conv", DecoderStep::OutputConv(conv));
        }
        let outputs = of_level(sizes.level_outputs, level);
        if outputs > 0 {
            add("level_norm", DecoderStep::OutputNorm(width));
            let conv = Conv2dConfig::same(width, outputs, 3);
            add("level_out", DecoderStep::LevelConv(conv));
        }
    }
    layers
}

/// The channels of a level's own input or output, from a list that begins with the second level.
fn of_level(channels: &[usize], level: usize) -> usize {
    level.checked_sub(1).and_then(|i| channels.get(i)).copied().unwrap_or(0)
}

/// Whether there is attention on images of this side.
fn attends(sizes: &UNetSizes, side: usize) -> bool {
    sizes.attn_resolutions.contains(&side)
}

/// A layer, named after the side of its level.
fn planned<Step>(side: usize, name: &str, step: Step) -> Planned<Step> {
    Planned { name: format!("{side}x{side}_{name}"), side, step }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names<Step>(layers: &[Planned<Step>]) -> Vec<&str> {
        layers.iter().map(|layer| layer.name.as_str()).collect()
    }

    /// As many skip connections are taken as are kept, and their channels come back.
    #[test]
    fn the_page_above_is_what_is_built() {
        let sizes = UNetSizes {
            resolution: 8,
            in_channels: 3,
            out_channels: 3,
            model_channels: 8,
            channel_mult: &[1, 2],
            channel_mult_emb: 4,
            num_blocks: 1,
            attn_resolutions: &[4],
            dropout: 0.0,
            label_dropout: 0.0,
            level_inputs: &[],
            level_outputs: &[],
        };
        let family = Family::Song(EncoderKind::Standard, DecoderKind::Standard);
        let (encoder, decoder) = topology(&sizes, family);
        assert_eq!(names(&encoder), ["8x8_conv", "8x8_block0", "4x4_down", "4x4_block0"]);
        assert_eq!(
            names(&decoder),
            [
                "4x4_in0",
                "4x4_in1",
                "4x4_block0",
                "4x4_block1",
                "8x8_up",
                "8x8_block0",
                "8x8_block1",
                "8x8_aux_norm",
                "8x8_aux_conv"
            ]
        );
        let inputs: Vec<usize> = decoder
            .iter()
            .filter_map(|layer| match layer.step {
                DecoderStep::BlockWithSkip(block) => Some(block.inputs),
                _ => None,
            })
            .collect();
        assert_eq!(inputs, [16 + 16, 16 + 8, 16 + 8, 8 + 8]);

        let (more, _) = topology(&UNetSizes { level_inputs: &[2], ..sizes }, family);
        let added = ["8x8_conv", "8x8_block0", "4x4_down", "4x4_level_in", "4x4_block0"];
        assert_eq!(names(&more), added);
        let (_, more) = topology(&UNetSizes { level_outputs: &[2], ..sizes }, family);
        assert_eq!(names(&more)[3..7], ["4x4_block1", "4x4_level_norm", "4x4_level_out", "8x8_up"]);
        assert_eq!(more.len(), decoder.len() + 2);
    }
}
