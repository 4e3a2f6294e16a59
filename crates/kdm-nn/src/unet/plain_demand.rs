//! What the layers of OpenAI's and diffusers' U-Nets take: theirs are made of the same blocks.

use crate::Demand;
use crate::layers::Conv2dConfig;

/// Sums up what the parts of a network take an image.
pub(super) struct Counter {
    /// Width of the time's embedding.
    pub embedding: usize,
    /// Whether the time enters a block as a scale and a shift.
    pub scale_shift: bool,
    /// The sum so far.
    pub total: Demand,
}

impl Counter {
    /// A convolution of `kernel` x `kernel` pixels whose result has height and width `side`.
    pub fn conv(&mut self, inputs: usize, outputs: usize, kernel: usize, side: usize) {
        self.add(Conv2dConfig::same(inputs, outputs, kernel).demand(side));
    }

    /// The two layers that make the time's embedding of its features, and a table of classes.
    pub fn time(&mut self, features: usize, classes: usize) {
        let wide = self.embedding;
        self.add(Demand::linear(features, wide, true) + Demand::linear(wide, wide, true));
        let table = Demand { operations: 0.0, ..Demand::linear(classes, wide, false) };
        self.add(table);
    }

    /// A residual block; `side` is the result's height and width. What goes into a convolution
    /// follows from what goes into the norm before it, and is not kept.
    pub fn residual(&mut self, inputs: usize, outputs: usize, side: usize) {
        let conv = |inputs, outputs, kernel| Demand {
            activations: 0.0,
            ..Conv2dConfig::same(inputs, outputs, kernel).demand(side)
        };
        let shifts = if self.scale_shift { 2 * outputs } else { outputs };
        self.norm(inputs, side);
        self.add(conv(inputs, outputs, 3));
        self.add(Demand::linear(self.embedding, shifts, true));
        self.norm(outputs, side);
        self.add(conv(outputs, outputs, 3));
        if inputs != outputs {
            self.add(conv(inputs, outputs, 1));
        }
    }

    /// Self-attention with its norm; queries, keys and values have `inner` channels each.
    pub fn attention(&mut self, channels: usize, inner: usize, heads: usize, side: usize) {
        let pixels = (side * side) as f64;
        self.norm(channels, side);
        for (inputs, outputs) in [(channels, 3 * inner), (inner, channels)] {
            let layer = Demand::linear(inputs, outputs, true);
            self.add(Demand { operations: pixels * layer.operations, activations: 0.0, ..layer });
        }
        self.add(Demand {
            operations: 4.0 * pixels * pixels * inner as f64,
            activations: pixels * (heads as f64 * pixels + 3.0 * inner as f64),
            ..Demand::default()
        });
    }

    /// A group norm with the activation after it.
    pub fn norm(&mut self, channels: usize, side: usize) {
        self.add(Demand::norm(channels, side));
    }

    fn add(&mut self, part: Demand) {
        self.total = self.total + part;
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::tensor::Device;
    use serde_json::json;

    use crate::state::state_dict;
    use crate::{InitSeed, UNetConfig};

    fn openai(changes: serde_json::Value) -> UNetConfig {
        let mut all = json!({
            "resolution": 8, "in_channels": 3, "out_channels": 3, "learn_sigma": true,
            "model_channels": 32, "level_channels": [32, 64], "num_res_blocks": 2,
            "attention_resolutions": [2], "num_classes": 5,
        });
        let changes = changes.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(changes);
        UNetConfig::OpenaiUnet(serde_json::from_value(all).unwrap())
    }

    fn diffusers(changes: serde_json::Value) -> UNetConfig {
        let mut all = json!({
            "sample_size": 8, "in_channels": 3, "out_channels": 3, "norm_num_groups": 8,
            "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
            "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
            "block_out_channels": [32, 64], "attention_head_dim": 24,
        });
        let changes = changes.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(changes);
        UNetConfig::DiffusersUnet(serde_json::from_value(all).unwrap())
    }

    #[test]
    fn parameters_are_those_that_a_network_has() {
        for config in [
            openai(json!({})),
            openai(json!({"use_scale_shift_norm": true, "resblock_updown": true})),
            openai(json!({"conv_resample": false, "num_classes": 0, "attention_resolutions": []})),
            diffusers(json!({})),
            diffusers(json!({"num_class_embeds": 4, "resnet_time_scale_shift": "scale_shift"})),
            diffusers(json!({"time_embedding_type": "fourier", "add_attention": false})),
        ] {
            assert_eq!(config.problems(), []);
            let network = config.init(&mut InitSeed::new(1), &Device::flex());
            assert_eq!(config.demand().parameters, network.num_params() as f64, "{config:?}");
            assert!(config.demand().activations > 0.0);
        }
    }

    /// On one level every weight of a convolution or of attention is used once a pixel, every other
    /// weight of an affine layer once, each in a multiplication and an addition; beside these there
    /// are attention's two products of pixels and pixels, in the middle.
    #[test]
    fn operations_are_counted_as_weights_are_used() {
        let one = json!({
            "block_out_channels": [32], "attention_head_dim": 8,
            "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"],
        });
        for config in
            [openai(json!({"level_channels": [32], "attention_resolutions": []})), diffusers(one)]
        {
            let network = config.init(&mut InitSeed::new(1), &Device::flex());
            let (pixels, mut expected) = (64.0, 2.0 * 2.0 * 64.0 * 64.0 * 32.0);
            for (name, data) in state_dict(&network) {
                let weights = data.shape().iter().product::<usize>() as f64;
                let by_pixel =
                    [".qkv.", ".proj_out.", ".to_"].iter().any(|part| name.contains(part));
                expected += match data.shape().len() {
                    4 => 2.0 * pixels * weights,
                    2 if by_pixel => 2.0 * pixels * weights,
                    // A class is looked up.
                    2 if !name.starts_with("label_emb") => 2.0 * weights,
                    _ => 0.0,
                };
            }
            assert_eq!(config.demand().operations, expected, "{config:?}");
        }
    }
}
