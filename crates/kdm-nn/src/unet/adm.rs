//! The U-Net of ADM (Dhariwal and Nichol, arXiv:2105.05233), as Karras et al., arXiv:2206.00364,
//! use it: adaptive group norm, attention heads of 64 channels. State names are those of
//! NVlabs/edm.

use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};
use serde::{Deserialize, Serialize};

use crate::layers::feature_map::FeatureMap;
use crate::layers::{
    Conv2d, Conv2dConfig, Filter, GroupNorm, Named, Resample, positional_embedding,
};
use crate::unet::block::{BlockConfig, BlockStyle};
use crate::unet::song::{Part, UNetSizes, unet_problems};
use crate::{ForwardMode, Init, InitSeed, Linear, LinearConfig};

/// A U-Net's architecture; fields as in [`crate::SongUNetConfig`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the same fields as SongUNetConfig's")]
pub struct AdmUNetConfig {
    pub resolution: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    #[serde(default)]
    pub label_dim: usize,
    #[serde(default)]
    pub augment_dim: usize,
    pub model_channels: usize,
    pub channel_mult: Vec<usize>,
    #[serde(default = "four")]
    pub channel_mult_emb: usize,
    pub num_blocks: usize,
    pub attn_resolutions: Vec<usize>,
    #[serde(default)]
    pub dropout: f64,
    #[serde(default)]
    pub label_dropout: f64,
}

fn four() -> usize {
    4
}

/// The network; see [`AdmUNetConfig`].
#[derive(Module, Debug)]
pub struct AdmUNet {
    map_augment: Option<Linear>,
    map_layer0: Linear,
    map_layer1: Linear,
    map_label: Option<Linear>,
    enc: Named<Part>,
    dec: Named<Part>,
    out_norm: GroupNorm,
    out_conv: Conv2d,
    /// Which blocks of the decoder are joined to what the encoder kept.
    #[module(skip)]
    joined: Vec<bool>,
    #[module(skip)]
    config: AdmUNetConfig,
}

/// Of the group norms.
const EPSILON: f64 = 1e-5;
/// Channels of an attention head.
const HEAD: usize = 64;

impl AdmUNetConfig {
    /// All that is impossible: field and problem.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = unet_problems(&UNetSizes {
            resolution: self.resolution,
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            model_channels: self.model_channels,
            channel_mult: &self.channel_mult,
            channel_mult_emb: self.channel_mult_emb,
            num_blocks: self.num_blocks,
            dropout: self.dropout,
            label_dropout: self.label_dropout,
        });
        for mult in self.channel_mult.iter().filter(|_| problems.is_empty()).collect::<Vec<_>>() {
            let width = mult * self.model_channels;
            if width / HEAD > 0 && !width.is_multiple_of(width / HEAD) {
                let problem = format!(
                    "gives a layer of {width} channels, which {} heads can't divide",
                    width / HEAD
                );
                problems.push(("model_channels".into(), problem));
            }
        }
        problems
    }

    fn style(&self) -> BlockStyle {
        let init = Init::Kaiming((1f64 / 3.0).sqrt());
        BlockStyle {
            embedding: self.model_channels * self.channel_mult_emb,
            dropout: self.dropout,
            skip_scale: 1.0,
            epsilon: EPSILON,
            adaptive_scale: true,
            resample_with_conv: false,
            filter: Filter::new(&[1.0, 1.0]).expect("two taps"),
            init,
            init_last: Init::Zero,
            init_attention: init,
        }
    }

    /// Names, sides and configurations of the encoder's blocks (after the first convolution), then
    /// the decoder's, each with whether it is joined to what the encoder kept; the width of the
    /// first convolution, and of the last block.
    #[expect(clippy::type_complexity, reason = "taken apart at once")]
    fn plan(
        &self,
    ) -> (Vec<(String, usize, BlockConfig)>, Vec<(String, usize, BlockConfig, bool)>, usize, usize)
    {
        let size = |level: usize| self.resolution >> level;
        let name = |level: usize, what: &str| format!("{0}x{0}_{what}", size(level));
        let heads = |attend: bool, outputs: usize| if attend { outputs / HEAD } else { 0 };
        let attends = |level: usize| self.attn_resolutions.contains(&size(level));
        let first = self.model_channels * self.channel_mult[0];
        let (mut width, mut kept, mut encoder) = (first, Vec::new(), Vec::new());
        for (level, mult) in self.channel_mult.iter().enumerate() {
            if level > 0 {
                let down = BlockConfig {
                    inputs: width,
                    outputs: width,
                    resample: Resample::Down,
                    heads: 0,
                };
                encoder.push((name(level, "down"), size(level), down));
            }
            kept.push(width);
            for i in 0..self.num_blocks {
                let outputs = self.model_channels * mult;
                let heads = heads(attends(level), outputs);
                let block = BlockConfig { inputs: width, outputs, resample: Resample::Keep, heads };
                encoder.push((name(level, &format!("block{i}")), size(level), block));
                width = outputs;
                kept.push(width);
            }
        }
        let mut decoder = Vec::new();
        for (level, mult) in self.channel_mult.iter().enumerate().rev() {
            let alone =
                |resample, heads| BlockConfig { inputs: width, outputs: width, resample, heads };
            if level + 1 == self.channel_mult.len() {
                let attentive = alone(Resample::Keep, heads(true, width));
                decoder.push((name(level, "in0"), size(level), attentive, false));
                decoder.push((name(level, "in1"), size(level), alone(Resample::Keep, 0), false));
            } else {
                decoder.push((name(level, "up"), size(level), alone(Resample::Up, 0), false));
            }
            for i in 0..=self.num_blocks {
                let inputs = width + kept.pop().expect("as many as were kept");
                let outputs = self.model_channels * mult;
                let heads = heads(attends(level), outputs);
                let block = BlockConfig { inputs, outputs, resample: Resample::Keep, heads };
                decoder.push((name(level, &format!("block{i}")), size(level), block, true));
                width = outputs;
            }
        }
        (encoder, decoder, first, width)
    }

    /// A network with fresh weights. The configuration has no [`Self::problems`].
    pub fn init(&self, seed: &mut InitSeed, device: &Device) -> AdmUNet {
        let style = self.style();
        let (encoder, decoder, first, last) = self.plan();
        let conv = Conv2dConfig::same(self.in_channels, first, 3).init(style.init, seed, device);
        let mut enc = vec![(format!("{0}x{0}_conv", self.resolution), Part::Conv(conv))];
        for (name, _, block) in &encoder {
            enc.push((name.clone(), Part::Block(block.init(&style, seed, device))));
        }
        let mut dec = Vec::new();
        for (name, _, block, _) in &decoder {
            dec.push((name.clone(), Part::Block(block.init(&style, seed, device))));
        }
        let mut linear = |inputs, outputs, bias| {
            LinearConfig { inputs, outputs }.init_with(style.init, bias, seed, device)
        };
        let wide = style.embedding;
        let map_augment =
            (self.augment_dim > 0).then(|| linear(self.augment_dim, self.model_channels, false));
        let (map_layer0, map_layer1) =
            (linear(self.model_channels, wide, true), linear(wide, wide, true));
        let map_label = (self.label_dim > 0).then(|| linear(self.label_dim, wide, false));
        AdmUNet {
            map_augment,
            map_layer0,
            map_layer1,
            map_label,
            enc: Named(enc),
            dec: Named(dec),
            out_norm: GroupNorm::new(GroupNorm::edm_groups(last), last, EPSILON, device),
            out_conv: Conv2dConfig::same(last, self.out_channels, 3).init(
                style.init_last,
                seed,
                device,
            ),
            joined: decoder.iter().map(|(.., joined)| *joined).collect(),
            config: self.clone(),
        }
    }

    /// Floating-point operations of a pass over one image; see [`crate::SongUNetConfig::flops`].
    pub fn flops(&self) -> f64 {
        let style = self.style();
        let (encoder, decoder, first, last) = self.plan();
        let wide = style.embedding;
        let embedding = 2
            * (wide * (self.model_channels + wide + self.label_dim)
                + self.augment_dim * self.model_channels);
        let ends = 18
            * self.resolution
            * self.resolution
            * (self.in_channels * first + last * self.out_channels);
        let blocks: f64 =
            encoder.iter().map(|(_, size, block)| block.flops(&style, *size)).sum::<f64>()
                + decoder.iter().map(|(_, size, block, _)| block.flops(&style, *size)).sum::<f64>();
        (embedding + ends) as f64 + blocks
    }
}

impl AdmUNet {
    /// What it is.
    pub fn config(&self) -> &AdmUNetConfig {
        &self.config
    }

    /// Arguments and result as in [`crate::SongUNet::forward`].
    pub fn forward(
        &self,
        x: Tensor<4>,
        noise: Tensor<1>,
        labels: Option<Tensor<2>>,
        augment: Option<Tensor<2>>,
        mode: &ForwardMode,
    ) -> Tensor<4> {
        let mut embedding = positional_embedding(noise, self.config.model_channels, 0.0);
        if let (Some(map), Some(augment)) = (&self.map_augment, augment) {
            embedding = embedding + map.forward(augment);
        }
        let mut embedding = self.map_layer1.forward(self.map_layer0.forward_silu(embedding));
        if let (Some(map), Some(labels)) = (&self.map_label, labels) {
            embedding = embedding + map.forward(mode.drop_rows(labels, self.config.label_dropout));
        }
        let embedding = activation::silu(embedding);

        let mut main: Option<FeatureMap> = None;
        let mut kept = Vec::new();
        for part in self.enc.iter() {
            let now = match (part, main.take()) {
                (Part::Block(block), Some(main)) => {
                    block.forward(main, None, embedding.clone(), mode)
                }
                (Part::Conv(conv), None) => FeatureMap::new(conv.forward(x.clone())),
                _ => unreachable!("the encoder begins with a convolution, blocks follow"),
            };
            kept.push(now.clone());
            main = Some(now);
        }
        let mut main = main.expect("the encoder has parts");
        for (part, joined) in self.dec.iter().zip(&self.joined) {
            let Part::Block(block) = part else { unreachable!("the decoder is made of blocks") };
            let skip = joined.then(|| kept.pop().expect("as many as were kept"));
            main = block.forward(main, skip, embedding.clone(), mode);
        }
        self.out_conv.forward(self.out_norm.forward_silu(main.planes()))
    }
}
