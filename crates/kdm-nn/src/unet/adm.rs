//! The U-Net of ADM (Dhariwal and Nichol, arXiv:2105.05233), as Karras et al., arXiv:2206.00364,
//! table 1 and appendix F, use it: adaptive group norm, attention heads of 64 channels. State names
//! are those of NVlabs/edm.

use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};
use serde::{Deserialize, Serialize};

use crate::layers::{
    Conv2d, Conv2dConfig, Filter, GroupNorm, positional_embedding, positional_frequencies,
};
use crate::state::to_host;
use crate::unet::block::BlockStyle;
use crate::unet::diffusers::Activation;
use crate::unet::paths::{self, Decoder, Encoder};
use crate::unet::plan::{
    EmbeddingPlan, LabelPlan, NVLABS, PlannedKind, PlannedLayer, UNetPlan, nvlabs_layers,
};
use crate::unet::sizes::{UNetSizes, usual_embedding};
use crate::unet::topology::{ADM_HEAD, Family, topology};
use crate::{Demand, ForwardMode, Init, InitSeed, Linear, LinearConfig, Problem};

/// The architecture of an ADM. The fields' names are those of NVlabs/edm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdmUNetConfig {
    /// Height and width of images; the number of levels must let it halve.
    pub resolution: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Width of the one-hot label: the number of classes; 0 for none.
    #[serde(default)]
    pub label_dim: usize,
    /// Width of the augmentation's label; 0 for none.
    #[serde(default)]
    pub augment_dim: usize,
    /// Base width. Even, and group norm and attention heads must divide the layers' widths.
    pub model_channels: usize,
    /// Width of each level, finest first, as a multiple (1 to 64) of the base width; each level
    /// after the first halves the image.
    pub channel_mult: Vec<usize>,
    /// Width of the embedding, as a multiple of the base width.
    #[serde(default = "usual_embedding")]
    pub channel_mult_emb: usize,
    /// Blocks a level of the encoder, at most 64; a level of the decoder has one more.
    pub num_blocks: usize,
    /// Sides of the images on which blocks have attention, with a head for every 64 channels.
    pub attn_resolutions: Vec<usize>,
    /// Probability of dropout in blocks, in [0, 1).
    #[serde(default)]
    pub dropout: f64,
    /// Probability of leaving the label out in training, in [0, 1), as classifier-free guidance
    /// needs.
    #[serde(default)]
    pub label_dropout: f64,
}

/// The network; see [`AdmUNetConfig`].
#[derive(Module, Debug)]
pub struct AdmUNet {
    map_augment: Option<Linear>,
    map_layer0: Linear,
    map_layer1: Linear,
    map_label: Option<Linear>,
    enc: Encoder,
    dec: Decoder,
    out_norm: GroupNorm,
    out_conv: Conv2d,
    #[module(skip)]
    config: AdmUNetConfig,
}

/// Of the group norms.
const EPSILON: f64 = 1e-5;

impl AdmUNetConfig {
    /// All that is impossible about it; none when a network can be made.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.sizes().problems();
        if problems.is_empty() {
            let widths =
                self.channel_mult.iter().map(|mult| mult.saturating_mul(self.model_channels));
            let uneven = widths.filter(|width| {
                let heads = width / ADM_HEAD;
                heads > 0 && !width.is_multiple_of(heads)
            });
            problems.extend(uneven.map(|width| {
                let heads = width / ADM_HEAD;
                let problem =
                    format!("gives a layer of {width} channels, which {heads} heads can't divide");
                Problem::new("model_channels", problem)
            }));
        }
        problems
    }

    /// A network with fresh weights on `device`. The configuration has no [`Self::problems`].
    pub fn init(&self, seed: &mut InitSeed, device: &Device) -> AdmUNet {
        let style = self.style();
        let (encoder, decoder) = topology(&self.sizes(), Family::Adm);
        let enc = Encoder::init(&encoder, &style, seed, device);
        let dec = Decoder::init(&decoder, &style, seed, device);
        let mut linear = |inputs, outputs, bias| {
            LinearConfig { inputs, outputs }.init_with(style.init, bias, seed, device)
        };
        let (narrow, wide) = (self.model_channels, style.embedding);
        let map_augment = (self.augment_dim > 0).then(|| linear(self.augment_dim, narrow, false));
        let (map_layer0, map_layer1) = (linear(narrow, wide, true), linear(wide, wide, true));
        let map_label = (self.label_dim > 0).then(|| linear(self.label_dim, wide, false));
        let out_conv = self.out_conv();
        AdmUNet {
            map_augment,
            map_layer0,
            map_layer1,
            map_label,
            enc,
            dec,
            out_norm: style.norm(out_conv.inputs, device),
            out_conv: out_conv.init(style.init_last, seed, device),
            config: self.clone(),
        }
    }

    /// What it takes an image. The configuration has no [`Self::problems`].
    pub fn demand(&self) -> Demand {
        let style = self.style();
        let (encoder, decoder) = topology(&self.sizes(), Family::Adm);
        let (narrow, wide, last) = (self.model_channels, style.embedding, self.out_conv());
        [
            Demand::linear(narrow, wide, true),
            Demand::linear(wide, wide, true),
            Demand::linear(self.label_dim, wide, false),
            Demand::linear(self.augment_dim, narrow, false),
            Demand::norm(last.inputs, self.resolution),
            last.demand(self.resolution),
            paths::demand(&encoder, &decoder, &style),
        ]
        .into_iter()
        .sum()
    }

    /// The last convolution, from the finest level's width.
    fn out_conv(&self) -> Conv2dConfig {
        let width = self.model_channels * self.channel_mult[0];
        Conv2dConfig::same(width, self.out_channels, 3)
    }

    /// What the blocks have in common.
    fn style(&self) -> BlockStyle {
        let init = Init::Kaiming((1f64 / 3.0).sqrt());
        BlockStyle {
            embedding: self.sizes().embedding(),
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

    /// What it has in common with DDPM++.
    fn sizes(&self) -> UNetSizes<'_> {
        UNetSizes {
            resolution: self.resolution,
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            model_channels: self.model_channels,
            channel_mult: &self.channel_mult,
            channel_mult_emb: self.channel_mult_emb,
            num_blocks: self.num_blocks,
            attn_resolutions: &self.attn_resolutions,
            dropout: self.dropout,
            label_dropout: self.label_dropout,
            level_inputs: &[],
            level_outputs: &[],
        }
    }
}

impl AdmUNet {
    /// The architecture.
    pub fn config(&self) -> &AdmUNetConfig {
        &self.config
    }

    /// Images `[N, in_channels, R, R]`, noise conditions `[N]`, one-hot labels `[N, label_dim]`
    /// (none: any class), augmentation labels `[N, augment_dim]` (none: no augmentation) -> `[N,
    /// out_channels, R, R]`.
    pub fn forward(
        &self,
        x: Tensor<4>,
        noise: Tensor<1>,
        labels: Option<Tensor<2>>,
        augment: Option<Tensor<2>>,
        mode: &ForwardMode,
    ) -> Tensor<4> {
        let embedding = self.embed(noise, labels, augment, mode);
        let skips = self.enc.forward(x, Vec::new(), &embedding, mode);
        let (main, _) = self.dec.forward(skips, &embedding, mode);
        self.out_conv.forward(self.out_norm.forward_silu(main.planes()))
    }

    /// The network as plain data.
    pub fn plan(&self) -> UNetPlan {
        let style = self.config.style();
        let (encoder, decoder) = topology(&self.config.sizes(), Family::Adm);
        let mut layers = nvlabs_layers(&encoder, &decoder, &style);
        let (norm, groups) = ("out_norm".into(), self.out_norm.groups());
        let output = PlannedKind::Output { norm, groups };
        layers.push(PlannedLayer::new("out_conv".into(), self.config.resolution, output));
        let device = self.map_layer0.weight.device();
        let width = self.config.model_channels;
        UNetPlan {
            embedding: EmbeddingPlan {
                frequencies: to_host(positional_frequencies(width, 0.0, &device)),
                of_logarithm: false,
                cosines_first: true,
                layers: ["map_layer0", "map_layer1"],
                label: self.map_label.as_ref().map(|_| LabelPlan::ToEmbedding("map_label")),
                activation: Activation::Silu,
            },
            layers,
            names: &NVLABS,
            epsilon: style.epsilon,
            adaptive: style.adaptive_scale,
            activation: Activation::Silu,
            taps: style.filter.taps(),
            centers_input: false,
            divides_by_noise: false,
        }
    }

    /// The embedding of noise level, label and augmentation: `[N, embedding]`.
    fn embed(
        &self,
        noise: Tensor<1>,
        labels: Option<Tensor<2>>,
        augment: Option<Tensor<2>>,
        mode: &ForwardMode,
    ) -> Tensor<2> {
        let mut embedding = positional_embedding(noise, self.config.model_channels, 0.0);
        if let (Some(map), Some(augment)) = (&self.map_augment, augment) {
            embedding = embedding + map.forward(augment);
        }
        let mut embedding = self.map_layer1.forward(self.map_layer0.forward_silu(embedding));
        if let (Some(map), Some(labels)) = (&self.map_label, labels) {
            embedding = embedding + map.forward(mode.drop_rows(labels, self.config.label_dropout));
        }
        activation::silu(embedding)
    }
}
