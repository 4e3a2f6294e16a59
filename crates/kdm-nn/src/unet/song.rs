//! The U-Net of score-based models, in its DDPM++ and NCSN++ forms (Song et al., arXiv:2011.13456,
//! appendix H), sized and initialised as in Karras et al., arXiv:2206.00364, table 1 and appendix
//! F. State names are those of NVlabs/edm.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::layers::feature_map::FeatureMap;
use crate::layers::{
    Conv2d, Conv2dConfig, Filter, GroupNorm, Named, Resample, fourier_embedding,
    positional_embedding, swap_halves,
};
use crate::unet::block::{BlockConfig, BlockStyle, UNetBlock};
use crate::{ForwardMode, Init, InitSeed, Linear, LinearConfig};

/// How the noise level enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Embedding {
    /// Sinusoids of fixed frequencies (DDPM++).
    Positional,
    /// Random Fourier features (NCSN++).
    Fourier,
}

/// What the encoder does with the input beside its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncoderKind {
    /// Nothing.
    Standard,
    /// The downsampled input is added at every level.
    Skip,
    /// A path of convolutions of the input is added at every level (NCSN++).
    Residual,
}

/// Where the output comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecoderKind {
    /// The finest level.
    Standard,
    /// All levels, upsampled and summed.
    Skip,
}

/// A U-Net's architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SongUNetConfig {
    /// Height and width of images.
    pub resolution: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Width of the one-hot label; 0 for none.
    #[serde(default)]
    pub label_dim: usize,
    /// Width of the augmentation's label; 0 for none.
    #[serde(default)]
    pub augment_dim: usize,
    /// Base width.
    pub model_channels: usize,
    /// Width of each level, as a multiple of the base width; each level halves the image.
    pub channel_mult: Vec<usize>,
    /// Width of the embedding, as a multiple of the base width.
    #[serde(default = "four")]
    pub channel_mult_emb: usize,
    /// Blocks a level.
    pub num_blocks: usize,
    /// Sides of the images at which there is attention.
    pub attn_resolutions: Vec<usize>,
    /// Probability of dropout.
    #[serde(default)]
    pub dropout: f64,
    /// Probability of leaving the label out in training, as classifier-free guidance needs.
    #[serde(default)]
    pub label_dropout: f64,
    /// How the noise level enters.
    #[serde(default = "positional")]
    pub embedding_type: Embedding,
    /// Width of the noise level's embedding, as a multiple of the base width.
    #[serde(default = "one")]
    pub channel_mult_noise: usize,
    /// The encoder's kind.
    #[serde(default = "standard_encoder")]
    pub encoder_type: EncoderKind,
    /// The decoder's kind.
    #[serde(default = "standard_decoder")]
    pub decoder_type: DecoderKind,
    /// Taps of the resampling filter, an even number.
    #[serde(default = "box_filter")]
    pub resample_filter: Vec<f64>,
}

fn one() -> usize {
    1
}
fn four() -> usize {
    4
}
fn positional() -> Embedding {
    Embedding::Positional
}
fn standard_encoder() -> EncoderKind {
    EncoderKind::Standard
}
fn standard_decoder() -> DecoderKind {
    DecoderKind::Standard
}
fn box_filter() -> Vec<f64> {
    vec![1.0, 1.0]
}

/// A part of the encoder or decoder.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "most parts are blocks")]
pub(crate) enum Part {
    Conv(Conv2d),
    Block(UNetBlock),
    Norm(GroupNorm),
}

/// What a part does in the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// The next value of the main path, kept for the decoder.
    Encode,
    /// The input's path, halved by the filter alone.
    AuxDown,
    /// 1x1 convolution of the input's path, added.
    AuxSkip,
    /// Strided convolution of the input's path, mixed with the main path.
    AuxResidual,
    /// A block of the decoder; joined to what the encoder kept, if so.
    Decode { joined: bool },
    /// Doubles the sum of outputs so far.
    AuxUp,
    /// Norm and convolution that give an output.
    Output,
}

/// One entry of the network's plan.
#[derive(Clone, Debug)]
struct Planned {
    name: String,
    role: Role,
    part: PlannedPart,
    /// Side of the part's output.
    size: usize,
}

#[derive(Clone, Copy, Debug)]
enum PlannedPart {
    Conv { inputs: usize, outputs: usize, kernel: usize, last: bool },
    Block(BlockConfig),
    Norm(usize),
    FilterOnly,
}

/// The network; see [`SongUNetConfig`].
#[derive(Module, Debug)]
pub struct SongUNet {
    map_noise: Option<Fourier>,
    map_label: Option<Linear>,
    map_augment: Option<Linear>,
    pub(crate) map_layer0: Linear,
    map_layer1: Linear,
    pub(crate) enc: Named<Part>,
    pub(crate) dec: Named<Part>,
    #[module(skip)]
    config: SongUNetConfig,
    #[module(skip)]
    filter: Filter,
    #[module(skip)]
    enc_roles: Vec<Role>,
    #[module(skip)]
    dec_roles: Vec<Role>,
}

/// Random frequencies that stay as they are.
#[derive(Module, Debug)]
struct Fourier {
    freqs: Param<Tensor<1>>,
}

impl SongUNetConfig {
    /// The DDPM++ architecture with these sizes.
    pub fn ddpmpp(
        resolution: usize,
        in_channels: usize,
        out_channels: usize,
        model_channels: usize,
        channel_mult: &[usize],
        num_blocks: usize,
        attn_resolutions: &[usize],
    ) -> Self {
        Self {
            resolution,
            in_channels,
            out_channels,
            label_dim: 0,
            augment_dim: 0,
            model_channels,
            channel_mult: channel_mult.to_vec(),
            channel_mult_emb: 4,
            num_blocks,
            attn_resolutions: attn_resolutions.to_vec(),
            dropout: 0.0,
            label_dropout: 0.0,
            embedding_type: Embedding::Positional,
            channel_mult_noise: 1,
            encoder_type: EncoderKind::Standard,
            decoder_type: DecoderKind::Standard,
            resample_filter: box_filter(),
        }
    }

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
        if self.channel_mult_noise == 0
            || !(self.model_channels * self.channel_mult_noise).is_multiple_of(2)
        {
            problems.push((
                "channel_mult_noise".into(),
                "times model_channels must be even and above 0".into(),
            ));
        }
        if let Err(problem) = Filter::new(&self.resample_filter) {
            problems.push(("resample_filter".into(), problem));
        }
        problems
    }

    fn embedding(&self) -> usize {
        self.model_channels * self.channel_mult_emb
    }

    fn style(&self) -> BlockStyle {
        BlockStyle {
            embedding: self.embedding(),
            dropout: self.dropout,
            skip_scale: 0.5f64.sqrt(),
            epsilon: EPSILON,
            adaptive_scale: false,
            resample_with_conv: true,
            filter: self.filter(),
            init: Init::Xavier(1.0),
            init_last: Init::Xavier(1e-5),
            init_attention: Init::Xavier(0.2f64.sqrt()),
        }
    }

    fn filter(&self) -> Filter {
        Filter::new(&self.resample_filter).expect("checked by `problems`")
    }

    /// The encoder's and the decoder's parts in order.
    fn plan(&self) -> (Vec<Planned>, Vec<Planned>) {
        let size = |level: usize| self.resolution >> level;
        let attention = |level: usize| usize::from(self.attn_resolutions.contains(&size(level)));
        let block = |inputs, outputs, resample, heads| {
            PlannedPart::Block(BlockConfig { inputs, outputs, resample, heads })
        };
        let conv =
            |inputs, outputs, kernel, last| PlannedPart::Conv { inputs, outputs, kernel, last };
        let mut parts: Vec<Planned> = Vec::new();
        let mut add = |level: usize, what: &str, role, part| {
            let side = size(level);
            parts.push(Planned { name: format!("{side}x{side}_{what}"), role, part, size: side });
        };

        let (mut width, mut aux) = (self.in_channels, self.in_channels);
        let mut kept = Vec::new();
        for (level, mult) in self.channel_mult.iter().enumerate() {
            if level == 0 {
                add(level, "conv", Role::Encode, conv(width, self.model_channels, 3, false));
                width = self.model_channels;
            } else {
                add(level, "down", Role::Encode, block(width, width, Resample::Down, 0));
                match self.encoder_type {
                    EncoderKind::Standard => {}
                    EncoderKind::Skip => {
                        add(level, "aux_down", Role::AuxDown, PlannedPart::FilterOnly);
                        add(level, "aux_skip", Role::AuxSkip, conv(aux, width, 1, false));
                    }
                    EncoderKind::Residual => {
                        add(level, "aux_residual", Role::AuxResidual, conv(aux, width, 3, false));
                        aux = width;
                    }
                }
            }
            kept.push(width);
            for i in 0..self.num_blocks {
                let outputs = self.model_channels * mult;
                add(
                    level,
                    &format!("block{i}"),
                    Role::Encode,
                    block(width, outputs, Resample::Keep, attention(level)),
                );
                width = outputs;
                kept.push(width);
            }
        }
        let encoder = std::mem::take(&mut parts);

        let mut add = |level: usize, what: &str, role, part| {
            let side = size(level);
            parts.push(Planned { name: format!("{side}x{side}_{what}"), role, part, size: side });
        };
        let coarsest = self.channel_mult.len() - 1;
        for (level, mult) in self.channel_mult.iter().enumerate().rev() {
            let alone = Role::Decode { joined: false };
            if level == coarsest {
                add(level, "in0", alone, block(width, width, Resample::Keep, 1));
                add(level, "in1", alone, block(width, width, Resample::Keep, 0));
            } else {
                add(level, "up", alone, block(width, width, Resample::Up, 0));
            }
            for i in 0..=self.num_blocks {
                let inputs = width + kept.pop().expect("as many as were kept");
                let outputs = self.model_channels * mult;
                let heads = if i == self.num_blocks { attention(level) } else { 0 };
                let role = Role::Decode { joined: true };
                add(
                    level,
                    &format!("block{i}"),
                    role,
                    block(inputs, outputs, Resample::Keep, heads),
                );
                width = outputs;
            }
            if self.decoder_type == DecoderKind::Skip || level == 0 {
                if self.decoder_type == DecoderKind::Skip && level < coarsest {
                    add(level, "aux_up", Role::AuxUp, PlannedPart::FilterOnly);
                }
                add(level, "aux_norm", Role::Output, PlannedPart::Norm(width));
                add(level, "aux_conv", Role::Output, conv(width, self.out_channels, 3, true));
            }
        }
        (encoder, parts)
    }

    /// A network with fresh weights. The configuration has no [`Self::problems`].
    pub fn init(&self, seed: &mut InitSeed, device: &Device) -> SongUNet {
        let style = self.style();
        let (enc, dec) = self.plan();
        let mut build = |planned: &[Planned]| -> (Named<Part>, Vec<Role>) {
            let mut children = Vec::new();
            for p in planned {
                let part = match p.part {
                    PlannedPart::FilterOnly => continue,
                    PlannedPart::Norm(c) => {
                        Part::Norm(GroupNorm::new(GroupNorm::edm_groups(c), c, EPSILON, device))
                    }
                    PlannedPart::Block(block) => Part::Block(block.init(&style, seed, device)),
                    PlannedPart::Conv { inputs, outputs, kernel, last } => {
                        let init = if last { style.init_last } else { style.init };
                        Part::Conv(
                            Conv2dConfig::same(inputs, outputs, kernel).init(init, seed, device),
                        )
                    }
                };
                children.push((p.name.clone(), part));
            }
            (Named(children), planned.iter().map(|p| p.role).collect())
        };
        let ((enc, enc_roles), (dec, dec_roles)) = (build(&enc), build(&dec));
        let (noise, wide) = (self.model_channels * self.channel_mult_noise, self.embedding());
        let mut linear = |inputs, outputs, bias| {
            LinearConfig { inputs, outputs }.init_with(Init::Xavier(1.0), bias, seed, device)
        };
        let map_label = (self.label_dim > 0).then(|| linear(self.label_dim, noise, true));
        let map_augment = (self.augment_dim > 0).then(|| linear(self.augment_dim, noise, false));
        let (map_layer0, map_layer1) = (linear(noise, wide, true), linear(wide, wide, true));
        let map_noise = (self.embedding_type == Embedding::Fourier).then(|| {
            let freqs = kdm_random::normal_vec(seed.next_seed(), noise / 2)
                .into_iter()
                .map(|x| FOURIER_SCALE * x)
                .collect();
            let freqs: Vec<f32> = freqs;
            let freqs = Tensor::from_data(TensorData::new(freqs, [noise / 2]), device);
            Fourier { freqs: Param::from_tensor(freqs).set_require_grad(false) }
        });
        SongUNet {
            map_noise,
            map_label,
            map_augment,
            map_layer0,
            map_layer1,
            enc,
            dec,
            filter: self.filter(),
            config: self.clone(),
            enc_roles,
            dec_roles,
        }
    }

    /// Floating-point operations of a pass over one image: convolutions, affine layers and
    /// attention, a multiplication and an addition counted as two.
    pub fn flops(&self) -> f64 {
        let style = self.style();
        let (enc, dec) = self.plan();
        let noise = (self.model_channels * self.channel_mult_noise) as f64;
        let wide = self.embedding() as f64;
        let embedding =
            2.0 * (noise * (wide + (self.label_dim + self.augment_dim) as f64) + wide * wide);
        let part = |p: &Planned| match p.part {
            PlannedPart::Block(block) => block.flops(&style, p.size),
            PlannedPart::Conv { inputs, outputs, kernel, .. } => {
                2.0 * (p.size * p.size * inputs * outputs * kernel * kernel) as f64
            }
            PlannedPart::Norm(_) | PlannedPart::FilterOnly => 0.0,
        };
        embedding + enc.iter().chain(&dec).map(part).sum::<f64>()
    }
}

/// Of the group norms.
const EPSILON: f64 = 1e-6;
/// Standard deviation of the random frequencies.
const FOURIER_SCALE: f32 = 16.0;

/// The sizes that both kinds of U-Net have.
pub(crate) struct UNetSizes<'a> {
    pub resolution: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    pub model_channels: usize,
    pub channel_mult: &'a [usize],
    pub channel_mult_emb: usize,
    pub num_blocks: usize,
    pub dropout: f64,
    pub label_dropout: f64,
}

/// The largest value that a size of a network may have. Beyond any network that exists, and small
/// enough that products of sizes don't overflow.
pub const MOST: usize = 1 << 16;

/// All that is impossible in these sizes: field and problem.
pub(crate) fn unet_problems(sizes: &UNetSizes) -> Vec<(String, String)> {
    let mut problems: Vec<(String, String)> = Vec::new();
    for (field, value) in [
        ("resolution", sizes.resolution),
        ("in_channels", sizes.in_channels),
        ("out_channels", sizes.out_channels),
        ("model_channels", sizes.model_channels),
        ("channel_mult_emb", sizes.channel_mult_emb),
    ] {
        if value == 0 || value > MOST {
            problems.push((field.into(), format!("is {value} and must be between 1 and {MOST}")));
        }
    }
    if sizes.num_blocks > 64 {
        problems
            .push(("num_blocks".into(), format!("is {} and must be at most 64", sizes.num_blocks)));
    }
    let levels = sizes.channel_mult.len();
    if levels == 0 || levels > 12 || sizes.channel_mult.iter().any(|m| *m == 0 || *m > 64) {
        problems.push((
            "channel_mult".into(),
            format!("is {:?} and must be 1 to 12 numbers between 1 and 64", sizes.channel_mult),
        ));
    } else if !sizes.resolution.is_multiple_of(1 << (levels - 1)) {
        problems.push((
            "resolution".into(),
            format!(
                "is {} and must be a multiple of {} for {levels} levels",
                sizes.resolution,
                1 << (levels - 1)
            ),
        ));
    }
    if !sizes.model_channels.is_multiple_of(2) || sizes.model_channels < 4 {
        problems.push((
            "model_channels".into(),
            format!("is {} and must be even, 4 or more", sizes.model_channels),
        ));
    }
    // Widths of joined paths are sums of multiples of the base width; their group norms must divide
    // them.
    let widths = sizes.channel_mult.iter().map(|m| m * sizes.model_channels.min(MOST));
    let mut all: Vec<usize> = widths.chain([sizes.model_channels]).collect();
    let pairs: Vec<usize> = all.iter().flat_map(|a| all.iter().map(move |b| a + b)).collect();
    all.extend(pairs);
    let odd = all.into_iter().find(|c| {
        let groups = GroupNorm::edm_groups(*c);
        groups == 0 || !c.is_multiple_of(groups)
    });
    if let Some(width) = odd
        && problems.is_empty()
    {
        problems.push((
            "model_channels".into(),
            format!(
                "gives a layer of {width} channels, which group norm can't divide; take a \
                 multiple of 32, or 4, 8 or 16"
            ),
        ));
    }
    for (field, value) in [("dropout", sizes.dropout), ("label_dropout", sizes.label_dropout)] {
        if !(0.0..1.0).contains(&value) {
            problems.push((field.into(), format!("is {value} and must be at least 0 and below 1")));
        }
    }
    problems
}

impl SongUNet {
    /// What it is.
    pub fn config(&self) -> &SongUNetConfig {
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
        let mut kept: Vec<FeatureMap> = Vec::new();
        let mut aux = x;
        let mut main: Option<FeatureMap> = None;
        let mut parts = self.enc.iter();
        for role in &self.enc_roles {
            if *role == Role::AuxDown {
                aux = self.filter.down(aux, self.filter.padding());
                continue;
            }
            let before = main.take();
            let joins = *role != Role::Encode;
            let now = match (role, parts.next().expect("a part for every role"), before) {
                (Role::AuxSkip, Part::Conv(conv), Some(main)) => {
                    main.plus(FeatureMap::new(conv.forward(aux.clone())))
                }
                (Role::AuxResidual, Part::Conv(conv), Some(main)) => {
                    // Fused: the convolution sees the zeros that the filter would add.
                    let wide = conv.forward_padded(aux, [1 + self.filter.padding(); 2]);
                    let main =
                        main.plus(FeatureMap::new(self.filter.down(wide, 0))).times(0.5f64.sqrt());
                    aux = main.planes();
                    main
                }
                (_, Part::Block(block), Some(main)) => {
                    block.forward(main, None, embedding.clone(), mode)
                }
                (_, Part::Conv(conv), None) => FeatureMap::new(conv.forward(aux.clone())),
                _ => unreachable!("the plan begins with a convolution, blocks follow"),
            };
            if joins {
                kept.pop();
            }
            kept.push(now.clone());
            main = Some(now);
        }
        let mut main = main.expect("the plan has parts");

        let mut output: Option<Tensor<4>> = None;
        let mut normed: Option<Tensor<4>> = None;
        let mut parts = self.dec.iter();
        for role in &self.dec_roles {
            match role {
                Role::AuxUp => output = output.map(|o| self.filter.up(o)),
                _ => match (role, parts.next().expect("a part for every role")) {
                    (Role::Decode { joined }, Part::Block(block)) => {
                        let skip = joined.then(|| kept.pop().expect("as many as were kept"));
                        main = block.forward(main, skip, embedding.clone(), mode);
                    }
                    (_, Part::Norm(norm)) => normed = Some(norm.forward_silu(main.planes())),
                    (_, Part::Conv(conv)) => {
                        let drawn = conv.forward(normed.take().expect("the norm went before"));
                        output = Some(match output {
                            Some(sum) => sum + drawn,
                            None => drawn,
                        });
                    }
                    (_, Part::Block(_)) => unreachable!("blocks decode"),
                },
            }
        }
        output.expect("the finest level draws")
    }

    /// For each of the decoder's parts: whether what the encoder kept is joined.
    pub(crate) fn joined(&self) -> impl Iterator<Item = bool> + '_ {
        let parts = self.dec_roles.iter().filter(|role| **role != Role::AuxUp);
        parts.map(|role| *role == Role::Decode { joined: true })
    }

    /// The embedding of noise level, label and augmentation: `[N, embedding]`.
    pub(crate) fn embed(
        &self,
        noise: Tensor<1>,
        labels: Option<Tensor<2>>,
        augment: Option<Tensor<2>>,
        mode: &ForwardMode,
    ) -> Tensor<2> {
        let width = self.config.model_channels * self.config.channel_mult_noise;
        let n = noise.dims()[0];
        let device = noise.device();
        let embedding = match &self.map_noise {
            Some(fourier) => fourier_embedding(noise, fourier.freqs.val()),
            None => positional_embedding(noise, width, 1.0),
        };
        let mut embedding = swap_halves(embedding);
        if let Some(map) = &self.map_label {
            let dim = self.config.label_dim;
            let labels = labels.unwrap_or_else(|| Tensor::zeros([n, dim], &device));
            let labels = mode.drop_rows(labels, self.config.label_dropout);
            embedding = embedding + map.forward(labels * (dim as f64).sqrt());
        }
        if let (Some(map), Some(augment)) = (&self.map_augment, augment) {
            embedding = embedding + map.forward(augment);
        }
        self.map_layer1.forward_silu(self.map_layer0.forward_silu(embedding))
    }
}
