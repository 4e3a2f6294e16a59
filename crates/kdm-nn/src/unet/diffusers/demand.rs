//! What a `UNet2DModel` takes, counted from its configuration in the order of its blocks.

use super::config::{DiffusersUNetConfig, DownBlockType, TimeEmbedding, UpBlockType};
use crate::Demand;
use crate::unet::plain_demand::Counter;

impl DiffusersUNetConfig {
    /// What it takes an image. The configuration has no [`Self::problems`].
    pub fn demand(&self) -> Demand {
        let (channels, blocks) = (&self.block_out_channels, self.layers_per_block);
        let (levels, first, last) = (channels.len(), channels[0], channels[channels.len() - 1]);
        let (embedding, scale_shift) = (self.time_width(), self.has_scale_shift());
        let mut count = Counter { embedding, scale_shift, total: Demand::default() };
        count.time(self.time_features(), self.num_class_embeds.unwrap_or(0));
        if self.time_embedding_type == TimeEmbedding::Fourier {
            count.total.parameters += first as f64;
        }
        count.conv(self.in_channels, first, 3, self.sample_size);
        let attention = |count: &mut Counter, channels: usize, side: usize| {
            let head = self.attention_head_dim.unwrap_or(channels);
            let heads = channels / head;
            count.attention(channels, heads * head, heads, side);
        };
        for (i, kind) in self.down_block_types.iter().enumerate() {
            let (before, outputs) = (channels[i.saturating_sub(1)], channels[i]);
            let side = self.sample_size >> i;
            for k in 0..blocks {
                count.residual(if k == 0 { before } else { outputs }, outputs, side);
                if *kind == DownBlockType::AttnDownBlock2D {
                    attention(&mut count, outputs, side);
                }
            }
            if i + 1 < levels {
                count.conv(outputs, outputs, 3, side / 2);
            }
        }
        let side = self.sample_size >> (levels - 1);
        count.residual(last, last, side);
        count.residual(last, last, side);
        if self.add_attention {
            attention(&mut count, last, side);
        }
        for (i, kind) in self.up_block_types.iter().enumerate() {
            let at = |i: usize| channels[levels - 1 - i.min(levels - 1)];
            let (before, outputs, skipped) = (at(i.saturating_sub(1)), at(i), at(i + 1));
            let side = self.sample_size >> (levels - 1 - i);
            for k in 0..=blocks {
                let main = if k == 0 { before } else { outputs };
                let skip = if k == blocks { skipped } else { outputs };
                count.residual(main + skip, outputs, side);
                if *kind == UpBlockType::AttnUpBlock2D {
                    attention(&mut count, outputs, side);
                }
            }
            if i + 1 < levels {
                count.conv(outputs, outputs, 3, 2 * side);
            }
        }
        count.norm(first, self.sample_size);
        count.conv(first, self.out_channels, 3, self.sample_size);
        count.total
    }
}
