//! A `UNet2DModel` as plain data.

use super::layers::{Level, Resampler, ResnetBlock, SelfAttention};
use super::{DiffusersUNet, TimeEmbedding};
use crate::layers::{fourier_frequencies, positional_frequencies};
use crate::state::to_host;
use crate::unet::plan::{
    EmbeddingPlan, LabelPlan, LayerNames, PlannedKind, PlannedLayer, QueryLayers, UNetPlan,
};
use kdm_kernels::Resize;

const NAMES: LayerNames = LayerNames {
    norms: ["norm1", "norm2"],
    convs: ["conv1", "conv2"],
    affine: "time_emb_proj",
    skip: "conv_shortcut",
    attention_norm: "group_norm",
    queries: QueryLayers::Apart(["to_q", "to_k", "to_v"]),
    projection: "to_out.0",
};

impl DiffusersUNet {
    /// The network as plain data.
    pub fn plan(&self) -> UNetPlan {
        let config = self.config();
        let mut side = config.sample_size;
        let kept = |layer| PlannedLayer { kept: true, ..layer };
        let mut layers = vec![kept(PlannedLayer::new("conv_in".into(), side, PlannedKind::CONV))];
        for (i, level) in self.down_blocks.iter().enumerate() {
            let name = format!("down_blocks.{i}");
            for group in groups(level, &name, side, false) {
                layers.extend(group);
                layers.last_mut().expect("a group has layers").kept = true;
            }
            for k in 0..level.downsamplers.len() {
                side /= 2;
                let name = format!("{name}.downsamplers.{k}.conv");
                let kind = Resampler::halving(config.downsample_padding);
                layers.push(kept(PlannedLayer::new(name, side, kind)));
            }
        }
        layers.extend(groups(&self.mid_block, "mid_block", side, false).flatten());
        for (i, level) in self.up_blocks.iter().enumerate() {
            let name = format!("up_blocks.{i}");
            layers.extend(groups(level, &name, side, true).flatten());
            for k in 0..level.upsamplers.len() {
                side *= 2;
                let name = format!("{name}.upsamplers.{k}");
                let double = PlannedKind::Resample(Resize::Up);
                let conv = format!("{name}.conv");
                layers.push(PlannedLayer::new(name, side, double));
                layers.push(PlannedLayer::new(conv, side, PlannedKind::CONV));
            }
        }
        let (norm, groups) = ("conv_norm_out".into(), self.conv_norm_out.groups());
        let output = PlannedKind::Output { norm, groups };
        layers.push(PlannedLayer::new("conv_out".into(), side, output));
        UNetPlan {
            embedding: self.embedding_plan(),
            layers,
            names: &NAMES,
            epsilon: config.norm_eps,
            adaptive: config.has_scale_shift(),
            activation: config.act_fn,
            taps: vec![0.5; 2],
            centers_input: config.center_input_sample,
            divides_by_noise: config.time_embedding_type == TimeEmbedding::Fourier,
        }
    }

    fn embedding_plan(&self) -> EmbeddingPlan {
        let config = self.config();
        let device = self.conv_in.weight.device();
        let frequencies = match &self.time_proj {
            Some(table) => fourier_frequencies(table.weight.val()),
            None => {
                positional_frequencies(config.block_out_channels[0], config.freq_shift, &device)
            }
        };
        EmbeddingPlan {
            frequencies: to_host(frequencies),
            of_logarithm: self.time_proj.is_some(),
            cosines_first: config.flip_sin_to_cos && self.time_proj.is_none(),
            layers: ["time_embedding.linear_1", "time_embedding.linear_2"],
            label: config.num_class_embeds.map(|_| LabelPlan::Table("class_embedding")),
            activation: config.act_fn,
        }
    }
}

/// The residual blocks of a level, each with its attention.
fn groups<'a>(
    level: &'a Level,
    name: &'a str,
    side: usize,
    takes_skip: bool,
) -> impl Iterator<Item = Vec<PlannedLayer>> + 'a {
    level.resnets.iter().enumerate().map(move |(i, resnet)| {
        let block = resnet.planned(takes_skip);
        let mut group = vec![PlannedLayer::new(format!("{name}.resnets.{i}"), side, block)];
        group.extend(level.attentions.get(i).map(|attention| {
            PlannedLayer::new(format!("{name}.attentions.{i}"), side, attention.planned())
        }));
        group
    })
}

impl ResnetBlock {
    fn planned(&self, takes_skip: bool) -> PlannedKind {
        PlannedKind::Block {
            resize: Resize::Keep,
            groups: [self.norm1.groups(), self.norm2.groups()],
            scale: 1.0 / self.output_scale,
            takes_skip,
        }
    }
}

impl SelfAttention {
    fn planned(&self) -> PlannedKind {
        PlannedKind::Attention {
            groups: self.group_norm.groups(),
            heads: self.heads,
            scale: 1.0 / self.output_scale,
        }
    }
}

impl Resampler {
    /// The convolution that halves images; see [`Self::down`].
    fn halving(padding: usize) -> PlannedKind {
        let padding = if padding == 0 { [0, 0, 1, 1] } else { [padding; 4] };
        PlannedKind::Conv { stride: 2, padding }
    }
}
