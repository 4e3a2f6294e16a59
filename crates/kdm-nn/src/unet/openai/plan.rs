//! OpenAI's U-Net as plain data.

use super::OpenAiUNet;
use super::network::{EPSILON, Layer};
use crate::layers::positional_frequencies;
use crate::state::to_host;
use crate::unet::diffusers::Activation;
use crate::unet::plan::{
    ChannelOrder, EmbeddingPlan, LabelPlan, LayerNames, PlannedKind, PlannedLayer, QueryLayers,
    UNetPlan,
};
use kdm_kernels::Resize;

/// Names, by the order of attention's channels.
const fn names(order: ChannelOrder) -> LayerNames {
    LayerNames {
        norms: ["norm0", "norm1"],
        convs: ["conv0", "conv1"],
        affine: "affine",
        skip: "skip",
        attention_norm: "norm",
        queries: QueryLayers::Together("qkv", order),
        projection: "proj_out",
    }
}

static NAMES: LayerNames = names(ChannelOrder::HeadPartChannel);
static NEW_ORDER: LayerNames = names(ChannelOrder::PartHeadChannel);

impl OpenAiUNet {
    /// The network as plain data.
    pub fn plan(&self) -> UNetPlan {
        let config = self.config();
        let mut side = config.resolution;
        let mut layers = Vec::new();
        for (i, block) in self.input_blocks.iter().enumerate() {
            layers.extend(planned(block, &format!("input_blocks.{i}"), &mut side, false));
            layers.last_mut().expect("a block has layers").kept = true;
        }
        layers.extend(planned(&self.middle_block, "middle_block", &mut side, false));
        for (i, block) in self.output_blocks.iter().enumerate() {
            layers.extend(planned(block, &format!("output_blocks.{i}"), &mut side, true));
        }
        let output =
            PlannedKind::Output { norm: "out_norm".into(), groups: self.out_norm.groups() };
        layers.push(PlannedLayer::new("out_conv".into(), side, output));
        let device = self.out_conv.weight.device();
        UNetPlan {
            embedding: EmbeddingPlan {
                frequencies: to_host(positional_frequencies(config.model_channels, 0.0, &device)),
                of_logarithm: false,
                cosines_first: true,
                layers: ["time_embed0", "time_embed2"],
                label: self.label_emb.as_ref().map(|_| LabelPlan::Table("label_emb")),
                activation: Activation::Silu,
            },
            layers,
            names: if config.use_new_attention_order { &NEW_ORDER } else { &NAMES },
            epsilon: EPSILON,
            adaptive: config.use_scale_shift_norm,
            activation: Activation::Silu,
            taps: vec![0.5; 2],
            centers_input: false,
            divides_by_noise: false,
        }
    }
}

/// The layers of a block of images of height and width `side`, which becomes that of its result.
/// The first one takes a skip connection, or none does.
fn planned(block: &[Layer], name: &str, side: &mut usize, takes_skip: bool) -> Vec<PlannedLayer> {
    let mut layers = Vec::new();
    for (k, layer) in block.iter().enumerate() {
        let name = format!("{name}.{k}");
        *side = match layer.resize() {
            Resize::Keep => *side,
            Resize::Down => *side / 2,
            Resize::Up => *side * 2,
        };
        let mut add = |name: &str, kind| {
            layers.push(PlannedLayer::new(name.to_string(), *side, kind));
        };
        match layer {
            Layer::Conv(_) => add(&name, PlannedKind::CONV),
            Layer::Residual(block) => {
                let kind = PlannedKind::Block {
                    resize: block.resize,
                    groups: [block.norm0.groups(), block.norm1.groups()],
                    scale: 1.0,
                    takes_skip: takes_skip && k == 0,
                };
                add(&name, kind);
            }
            Layer::Attention(attention) => {
                let (groups, heads) = (attention.norm.groups(), attention.heads);
                add(&name, PlannedKind::Attention { groups, heads, scale: 1.0 });
            }
            Layer::Resample(resampler) => {
                let conv = format!("{name}.conv");
                match (&resampler.conv, resampler.resize) {
                    (Some(_), Resize::Down) => {
                        add(&conv, PlannedKind::Conv { stride: 2, padding: [1; 4] });
                    }
                    (Some(_), resize) => {
                        add(&name, PlannedKind::Resample(resize));
                        add(&conv, PlannedKind::CONV);
                    }
                    (None, resize) => add(&name, PlannedKind::Resample(resize)),
                }
            }
        }
    }
    layers
}

impl Layer {
    fn resize(&self) -> Resize {
        match self {
            Self::Conv(_) | Self::Attention(_) => Resize::Keep,
            Self::Residual(block) => block.resize,
            Self::Resample(resampler) => resampler.resize,
        }
    }
}
