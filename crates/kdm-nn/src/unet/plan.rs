//! A U-Net as plain data, for those who write it down elsewhere: its embedding and its layers in
//! order, with all that their weights don't tell. The weights are those of
//! [`state_dict`](crate::state::state_dict), by the layers' names.

use crate::unet::block::{BlockConfig, BlockStyle};
use crate::unet::diffusers::Activation;
use crate::unet::topology::{DecoderStep, EncoderStep, Planned};
use kdm_kernels::Resize;

/// A U-Net in the order in which an image goes through it.
#[derive(Clone, Debug, PartialEq)]
pub struct UNetPlan {
    /// What the noise condition and the label become.
    pub embedding: EmbeddingPlan,
    /// The layers, from the image to the result.
    pub layers: Vec<PlannedLayer>,
    /// Names of what layers are made of.
    pub names: &'static LayerNames,
    /// Added to the variance by the group norms.
    pub epsilon: f64,
    /// Whether the embedding scales blocks too, as `kdm_kernels::residual_block` specifies it.
    pub adaptive: bool,
    /// Of the blocks; SiLU before the result whatever it is.
    pub activation: Activation,
    /// Taps of the filter that halves and doubles images, of sum 1; doubling multiplies by 2 a
    /// side.
    pub taps: Vec<f32>,
    /// Whether the network takes images in [0, 1] and brings them to [-1, 1] itself.
    pub centers_input: bool,
    /// Whether the result is divided by the noise condition.
    pub divides_by_noise: bool,
}

/// The embedding of a noise condition c and a label: cosines and sines of c times the frequencies;
/// two affine layers with SiLU between; an activation.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingPlan {
    /// What c is multiplied with.
    pub frequencies: Vec<f32>,
    /// Whether ln(c) takes its place.
    pub of_logarithm: bool,
    /// Whether the cosines come before the sines.
    pub cosines_first: bool,
    /// The affine layers.
    pub layers: [&'static str; 2],
    /// How a one-hot label enters; none in a network without classes.
    pub label: Option<LabelPlan>,
    /// Of the whole embedding, where a block's affine layer takes it.
    pub activation: Activation,
}

/// How a one-hot label enters an embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LabelPlan {
    /// An affine layer of the label times `scale` is added to the cosines and sines.
    ToFeatures {
        /// The layer.
        layer: &'static str,
        /// The factor.
        scale: f64,
    },
    /// A linear layer of the label is added after the two layers.
    ToEmbedding(&'static str),
    /// A class's row of a table is added after the two layers.
    Table(&'static str),
}

/// A layer.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedLayer {
    /// What its weights' names begin with, such as `enc.16x16_block0`.
    pub name: String,
    /// Height and width of its result.
    pub side: usize,
    /// What it does.
    pub kind: PlannedKind,
    /// Whether a skip connection leads its result to a later layer, which takes the last that is
    /// left.
    pub kept: bool,
}

/// What a layer does.
#[derive(Clone, Debug, PartialEq)]
pub enum PlannedKind {
    /// A convolution with zero padding: above, left, below, right.
    Conv {
        /// Pixels from one result to the next.
        stride: usize,
        /// The padding.
        padding: [usize; 4],
    },
    /// A residual block, as `kdm_kernels::residual_block` specifies it, without attention.
    Block {
        /// What it does to the image's size.
        resize: Resize,
        /// Groups of its norms.
        groups: [usize; 2],
        /// Factor of the sum of its two paths.
        scale: f64,
        /// Whether it takes the last skip connection that is left.
        takes_skip: bool,
    },
    /// Self-attention over the pixels, and a residual path.
    Attention {
        /// Groups of its norm.
        groups: usize,
        /// Heads.
        heads: usize,
        /// Factor of the sum of the two paths.
        scale: f64,
    },
    /// The filter alone, which halves or doubles images.
    Resample(Resize),
    /// The input, halved by the filter once more, is added through a 1x1 convolution.
    AddInput,
    /// A 3x3 convolution of the input, halved by the filter, is added, the sum times sqrt(1/2); the
    /// result is the input from there on. The convolution sees the zeros that the filter adds.
    MixInput,
    /// A result: group norm, SiLU and a 3x3 convolution beside the main path, added to the result
    /// so far, which the filter doubles.
    Output {
        /// The norm's name.
        norm: String,
        /// Its groups.
        groups: usize,
    },
    /// A 3x3 convolution of the next of the images that coarser levels take is added.
    AddLevel,
    /// A coarser level's own result: group norm, SiLU and a 3x3 convolution beside the main path.
    LevelOutput {
        /// The norm's name.
        norm: String,
        /// Its groups.
        groups: usize,
    },
}

/// What the parts of layers are called, after the layers' names.
#[derive(Debug, PartialEq, Eq)]
pub struct LayerNames {
    /// A block's norms.
    pub norms: [&'static str; 2],
    /// A block's convolutions.
    pub convs: [&'static str; 2],
    /// Of the embedding in a block.
    pub affine: &'static str,
    /// The convolution of a block's residual path, which some blocks have.
    pub skip: &'static str,
    /// Attention's norm.
    pub attention_norm: &'static str,
    /// Attention's queries, keys and values.
    pub queries: QueryLayers,
    /// Attention's last layer.
    pub projection: &'static str,
}

/// The layers of queries, keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryLayers {
    /// One for all three.
    Together(&'static str, ChannelOrder),
    /// One each.
    Apart([&'static str; 3]),
}

/// How the channels of queries, keys and values lie in one layer, the slowest index first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelOrder {
    /// Head, channel, part.
    HeadChannelPart,
    /// Head, part, channel.
    HeadPartChannel,
    /// Part, head, channel.
    PartHeadChannel,
}

impl ChannelOrder {
    /// Where `channel` of a `part` (0: queries, 1: keys, 2: values) lies, when `heads` of `depth`
    /// channels follow one another.
    pub fn place(self, part: usize, channel: usize, [heads, depth]: [usize; 2]) -> usize {
        match self {
            Self::HeadChannelPart => 3 * channel + part,
            Self::HeadPartChannel => (channel / depth * 3 + part) * depth + channel % depth,
            Self::PartHeadChannel => part * heads * depth + channel,
        }
    }
}

/// Names of NVlabs' kinds.
pub(super) const NVLABS: LayerNames = LayerNames {
    norms: ["norm0", "norm1"],
    convs: ["conv0", "conv1"],
    affine: "affine",
    skip: "skip",
    attention_norm: "norm2",
    queries: QueryLayers::Together("qkv", ChannelOrder::HeadChannelPart),
    projection: "proj",
};

impl PlannedLayer {
    /// A layer whose result is not kept.
    pub(super) fn new(name: String, side: usize, kind: PlannedKind) -> Self {
        Self { name, side, kind, kept: false }
    }
}

impl PlannedKind {
    /// A 3x3 convolution that keeps an image's size.
    pub(super) const CONV: Self = Self::Conv { stride: 1, padding: [1; 4] };
}

/// The layers of a network of NVlabs' kinds.
pub(super) fn nvlabs_layers(
    encoder: &[Planned<EncoderStep>],
    decoder: &[Planned<DecoderStep>],
    style: &BlockStyle,
) -> Vec<PlannedLayer> {
    let mut layers: Vec<PlannedLayer> = Vec::new();
    for planned in encoder {
        let name = format!("enc.{}", planned.name);
        match planned.step {
            EncoderStep::Block(block) => {
                layers.extend(block_layers(name, planned.side, &block, style, false));
            }
            EncoderStep::FirstConv(_) => {
                layers.push(PlannedLayer::new(name, planned.side, PlannedKind::CONV));
            }
            EncoderStep::AddInput(_) | EncoderStep::MixInput(_) | EncoderStep::AddLevel(_) => {
                // What it adds to is kept with the sum alone.
                layers.last_mut().expect("a halving block goes before").kept = false;
                let kind = match planned.step {
                    EncoderStep::AddLevel(_) => PlannedKind::AddLevel,
                    EncoderStep::MixInput(_) => PlannedKind::MixInput,
                    _ => PlannedKind::AddInput,
                };
                layers.push(PlannedLayer::new(name, planned.side, kind));
            }
        }
        layers.last_mut().expect("a step has layers").kept = true;
    }
    let mut normed = None;
    for planned in decoder {
        let name = format!("dec.{}", planned.name);
        match planned.step {
            DecoderStep::Block(block) => {
                layers.extend(block_layers(name, planned.side, &block, style, false));
            }
            DecoderStep::BlockWithSkip(block) => {
                layers.extend(block_layers(name, planned.side, &block, style, true));
            }
            DecoderStep::OutputNorm(channels) => normed = Some((name, style.groups(channels))),
            DecoderStep::OutputConv(_) => {
                let (norm, groups) = normed.take().expect("a norm goes before");
                let kind = PlannedKind::Output { norm, groups };
                layers.push(PlannedLayer::new(name, planned.side, kind));
            }
            DecoderStep::LevelConv(_) => {
                let (norm, groups) = normed.take().expect("a norm goes before");
                let kind = PlannedKind::LevelOutput { norm, groups };
                layers.push(PlannedLayer::new(name, planned.side, kind));
            }
        }
    }
    layers
}

/// A block of NVlabs' kinds, and its attention.
fn block_layers(
    name: String,
    side: usize,
    block: &BlockConfig,
    style: &BlockStyle,
    takes_skip: bool,
) -> impl Iterator<Item = PlannedLayer> {
    let scale = style.skip_scale;
    let groups = style.groups(block.outputs);
    let attention = PlannedKind::Attention { groups, heads: block.heads, scale };
    let kind = PlannedKind::Block {
        resize: block.resize,
        groups: [style.groups(block.inputs), groups],
        scale,
        takes_skip,
    };
    let attention = (block.heads > 0).then(|| PlannedLayer::new(name.clone(), side, attention));
    [PlannedLayer::new(name, side, kind)].into_iter().chain(attention)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::state_dict;
    use crate::{
        AdmUNetConfig, DiffusersUNetConfig, InitSeed, OpenAiUNetConfig, SongUNetConfig, UNetConfig,
    };
    use burn::tensor::Device;
    use serde_json::json;

    /// Every layer has weights of its name, every weight is of a layer or of the embedding, and as
    /// many results are kept as are taken.
    #[test]
    fn plans_name_all_weights_and_keep_what_is_taken() {
        let mut ncsnpp = SongUNetConfig::ddpmpp(8, 3, 3, 8, &[1, 2], 1, &[4]);
        ncsnpp.encoder_type = crate::unet::song::EncoderKind::Residual;
        ncsnpp.decoder_type = crate::unet::song::DecoderKind::Skip;
        let ddpmpp = SongUNetConfig::ddpmpp(16, 3, 2, 8, &[1, 2], 1, &[8]);
        let mut levels = ddpmpp.clone();
        (levels.level_inputs, levels.level_outputs) = (vec![3], vec![2]);
        let adm: AdmUNetConfig = serde_json::from_value(json!({
            "resolution": 8, "in_channels": 3, "out_channels": 3, "label_dim": 2,
            "model_channels": 64, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4],
        }))
        .unwrap();
        let diffusers: DiffusersUNetConfig = serde_json::from_value(json!({
            "sample_size": 8, "in_channels": 3, "out_channels": 3, "norm_num_groups": 4,
            "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
            "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "block_out_channels": [8, 16],
        }))
        .unwrap();
        let openai: OpenAiUNetConfig = serde_json::from_value(json!({
            "resolution": 8, "in_channels": 3, "out_channels": 3, "model_channels": 32,
            "level_channels": [32, 64], "num_res_blocks": 1, "attention_resolutions": [2],
            "num_classes": 3,
        }))
        .unwrap();
        for config in [
            UNetConfig::SongUnet(levels),
            UNetConfig::SongUnet(ddpmpp),
            UNetConfig::SongUnet(ncsnpp),
            UNetConfig::AdmUnet(adm),
            UNetConfig::DiffusersUnet(diffusers),
            UNetConfig::OpenaiUnet(openai),
        ] {
            let network = config.init(&mut InitSeed::new(1), &Device::flex());
            let (plan, state) = (network.plan(), state_dict(&network));
            let norms = plan.layers.iter().filter_map(|layer| match &layer.kind {
                PlannedKind::Output { norm, .. } | PlannedKind::LevelOutput { norm, .. } => {
                    Some(norm.as_str())
                }
                _ => None,
            });
            let weighted =
                plan.layers.iter().filter(|l| !matches!(l.kind, PlannedKind::Resample(_)));
            let label = plan.embedding.label.map(|label| match label {
                LabelPlan::ToFeatures { layer, .. } => layer,
                LabelPlan::ToEmbedding(name) | LabelPlan::Table(name) => name,
            });
            let names: Vec<&str> = weighted
                .map(|layer| layer.name.as_str())
                .chain(norms)
                .chain(plan.embedding.layers)
                .chain(label)
                .collect();
            let of = |weight: &str, name: &str| weight.starts_with(&format!("{name}."));
            for name in &names {
                assert!(state.keys().any(|weight| of(weight, name)), "no weights of {name}");
            }
            for weight in state.keys() {
                assert!(names.iter().any(|name| of(weight, name)), "{weight} is of no layer");
            }
            let kept = plan.layers.iter().filter(|layer| layer.kept).count();
            let taken = plan
                .layers
                .iter()
                .filter(|layer| matches!(layer.kind, PlannedKind::Block { takes_skip: true, .. }));
            assert_eq!(kept, taken.count());
        }
    }

    /// Three parts of two heads with two channels fill twelve places once each.
    #[test]
    fn channels_of_attention_have_a_place_each() {
        for order in [
            ChannelOrder::HeadChannelPart,
            ChannelOrder::HeadPartChannel,
            ChannelOrder::PartHeadChannel,
        ] {
            let channels = |part| (0..4).map(move |c| order.place(part, c, [2, 2]));
            let mut places: Vec<usize> = (0..3).flat_map(channels).collect();
            places.sort_unstable();
            assert_eq!(places, (0..12).collect::<Vec<usize>>(), "{order:?}");
        }
        assert_eq!(ChannelOrder::HeadChannelPart.place(1, 2, [2, 2]), 7);
        assert_eq!(ChannelOrder::HeadPartChannel.place(1, 2, [2, 2]), 8);
        assert_eq!(ChannelOrder::PartHeadChannel.place(1, 2, [2, 2]), 6);
    }
}
