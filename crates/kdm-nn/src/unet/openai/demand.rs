//! What OpenAI's U-Net takes, counted from its configuration in the order of its blocks.

use super::config::OpenAiUNetConfig;
use crate::Demand;
use crate::unet::plain_demand::Counter;

impl OpenAiUNetConfig {
    /// What it takes an image. The configuration has no [`Self::problems`].
    pub fn demand(&self) -> Demand {
        let embedding = self.embedding();
        let scale_shift = self.use_scale_shift_norm;
        let mut count = Counter { embedding, scale_shift, total: Demand::default() };
        count.time(self.model_channels, self.num_classes);
        let last = self.level_channels.len() - 1;
        let mut width = self.level_channels[0];
        count.conv(self.in_channels, width, 3, self.resolution);
        let mut skips = vec![width];
        for (level, outputs) in self.level_channels.iter().copied().enumerate() {
            let side = self.resolution >> level;
            for _ in 0..self.num_res_blocks {
                count.residual(width, outputs, side);
                if self.attends(level) {
                    count.attention(outputs, outputs, self.heads(outputs), side);
                }
                width = outputs;
                skips.push(width);
            }
            if level != last {
                self.resample(&mut count, width, side / 2);
                skips.push(width);
            }
        }
        let side = self.resolution >> last;
        count.residual(width, width, side);
        count.attention(width, width, self.heads(width), side);
        count.residual(width, width, side);
        for (level, outputs) in self.level_channels.iter().copied().enumerate().rev() {
            let side = self.resolution >> level;
            for i in 0..=self.num_res_blocks {
                let skip = skips.pop().expect("a skip connection for every block");
                count.residual(width + skip, outputs, side);
                if self.attends(level) {
                    count.attention(outputs, outputs, self.heads_up(outputs), side);
                }
                if level != 0 && i == self.num_res_blocks {
                    self.resample(&mut count, outputs, 2 * side);
                }
                width = outputs;
            }
        }
        count.norm(width, self.resolution);
        let out = self.out_channels * if self.learn_sigma { 2 } else { 1 };
        count.conv(width, out, 3, self.resolution);
        count.total
    }

    /// What halves or doubles images of so many channels, to height and width `side`.
    fn resample(&self, count: &mut Counter, channels: usize, side: usize) {
        match (self.resblock_updown, self.conv_resample) {
            (true, _) => count.residual(channels, channels, side),
            (false, true) => count.conv(channels, channels, 3, side),
            (false, false) => {}
        }
    }
}
