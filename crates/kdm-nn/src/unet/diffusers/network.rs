//! The network of a `UNet2DModel`: the time's embedding, levels down, the middle, levels up.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::config::{DiffusersUNetConfig, DownBlockType, TimeEmbedding, UpBlockType};
use super::layers::{Level, Maker};
use crate::layers::{
    Conv2d, Conv2dConfig, GroupNorm, fourier_embedding, positional_embedding, swap_halves,
};
use crate::{ForwardMode, InitSeed, Linear};

/// The network; see [`DiffusersUNetConfig`].
#[derive(Module, Debug)]
pub struct DiffusersUNet {
    pub(super) conv_in: Conv2d,
    pub(super) time_proj: Option<Table<1>>,
    time_embedding: TimestepEmbedding,
    class_embedding: Option<Table<2>>,
    pub(super) down_blocks: Vec<Level>,
    pub(super) mid_block: Level,
    pub(super) up_blocks: Vec<Level>,
    pub(super) conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    #[module(skip)]
    config: DiffusersUNetConfig,
}

#[derive(Module, Debug)]
struct TimestepEmbedding {
    linear_1: Linear,
    linear_2: Linear,
}

/// Embeddings of classes, or frequencies.
#[derive(Module, Debug)]
pub(super) struct Table<const D: usize> {
    pub weight: Param<Tensor<D>>,
}

/// Bound of the fresh random frequencies; loaded ones replace them.
const FOURIER_SCALE: f64 = 16.0;

impl DiffusersUNetConfig {
    /// A network with fresh weights on `device`, as PyTorch's layers start. The configuration has
    /// no [`Self::problems`].
    pub fn init(&self, seed: &mut InitSeed, device: &Device) -> DiffusersUNet {
        let channels = &self.block_out_channels;
        let (levels, first, last) = (channels.len(), channels[0], channels[channels.len() - 1]);
        let blocks = self.layers_per_block;
        let mut make = Maker { config: self, seed, device };

        let mut down_blocks = Vec::new();
        for (i, kind) in self.down_block_types.iter().enumerate() {
            let (before, outputs) = (channels[i.saturating_sub(1)], channels[i]);
            let inputs: Vec<usize> =
                (0..blocks).map(|k| if k == 0 { before } else { outputs }).collect();
            let attends = *kind == DownBlockType::AttnDownBlock2D;
            let mut level = make.level(&inputs, outputs, attends);
            if i + 1 < levels {
                level.downsamplers.push(make.downsampler(outputs));
            }
            down_blocks.push(level);
        }
        let mid_block = make.middle(last);
        let mut up_blocks = Vec::new();
        for (i, kind) in self.up_block_types.iter().enumerate() {
            let at = |i: usize| channels[levels - 1 - i.min(levels - 1)];
            let (before, outputs, skipped) = (at(i.saturating_sub(1)), at(i), at(i + 1));
            // The last block's skip connection comes from the level above.
            let inputs = |k: usize| {
                let main = if k == 0 { before } else { outputs };
                let skip = if k == blocks { skipped } else { outputs };
                main + skip
            };
            let inputs: Vec<usize> = (0..=blocks).map(inputs).collect();
            let attends = *kind == UpBlockType::AttnUpBlock2D;
            let mut level = make.level(&inputs, outputs, attends);
            if i + 1 < levels {
                level.upsamplers.push(make.upsampler(outputs));
            }
            up_blocks.push(level);
        }

        let time = self.time_width();
        DiffusersUNet {
            conv_in: make.conv(Conv2dConfig::same(self.in_channels, first, 3)),
            time_proj: (self.time_embedding_type == TimeEmbedding::Fourier).then(|| Table {
                weight: make.seed.uniform([first], FOURIER_SCALE, device).set_require_grad(false),
            }),
            time_embedding: TimestepEmbedding {
                linear_1: make.linear(self.time_features(), time),
                linear_2: make.linear(time, time),
            },
            class_embedding: self
                .num_class_embeds
                .map(|n| Table { weight: make.seed.uniform([n, time], 1.0, device) }),
            down_blocks,
            mid_block,
            up_blocks,
            conv_norm_out: make.norm(first, self.norm_num_groups),
            conv_out: make.conv(Conv2dConfig::same(first, self.out_channels, 3)),
            config: self.clone(),
        }
    }
}

impl DiffusersUNet {
    /// The architecture.
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
        let embedding = self.embed(time.clone(), labels);

        let mut h = self.conv_in.forward(x);
        let mut skips = vec![h.clone()];
        for level in &self.down_blocks {
            h = level.run(h, &embedding, mode, |h| h, |h| skips.push(h.clone()));
            for down in &level.downsamplers {
                h = down.down(h, config.downsample_padding);
                skips.push(h.clone());
            }
        }
        h = self.mid_block.run(h, &embedding, mode, |h| h, |_| {});
        for level in &self.up_blocks {
            let with_skip = |h| {
                let skip = skips.pop().expect("a skip connection for every block");
                Tensor::cat(vec![h, skip], 1)
            };
            h = level.run(h, &embedding, mode, with_skip, |_| {});
            for up in &level.upsamplers {
                h = up.up(h);
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

    /// The embedding of times `[N]` and labels: `[N, E]`.
    fn embed(&self, time: Tensor<1>, labels: Option<Tensor<2>>) -> Tensor<2> {
        let config = &self.config;
        let cos_first = match &self.time_proj {
            Some(table) => fourier_embedding(time.log(), table.weight.val()),
            None => positional_embedding(time, config.block_out_channels[0], config.freq_shift),
        };
        // Random features come with the sines first whatever the setting says.
        let flip = config.flip_sin_to_cos && self.time_proj.is_none();
        let features = if flip { cos_first } else { swap_halves(cos_first) };
        let TimestepEmbedding { linear_1, linear_2 } = &self.time_embedding;
        let embedding = linear_2.forward(linear_1.forward_silu(features));
        match (&self.class_embedding, labels) {
            (Some(table), Some(labels)) => embedding + labels.matmul(table.weight.val()),
            _ => embedding,
        }
    }
}
