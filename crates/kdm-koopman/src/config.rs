//! What a student is, as plain data; the same words as in presets and model files.

use std::collections::BTreeMap;

use kdm_nn::{Demand, MlpConfig, Problem, SongUNetConfig};
use serde::{Deserialize, Serialize};

use crate::OperatorKind;
use crate::operator::{LatentLevel, LevelForm, Levels};

/// The encoders' and the decoder's networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "kebab-case")]
pub enum NetworkConfig {
    /// One affine map each, for points: what theory has exact answers for.
    Affine,
    /// MLPs, for points (paper's checkerboard): encoders end in SiLU, the decoder does not.
    Mlp {
        /// Width of the hidden layers.
        hidden: usize,
        /// Affine layers of each network.
        layers: usize,
    },
    /// U-Nets of the DDPM++ kind, for images (paper). The latent is an image of the same size, with
    /// as many channels as make its dimension.
    Unet {
        /// Base width.
        model_channels: usize,
        /// Width of each level, as a multiple of the base width.
        channel_mult: Vec<usize>,
        /// Blocks a level.
        num_blocks: usize,
        /// Sides of the images at which there is attention.
        attn_resolutions: Vec<usize>,
        /// Probability of dropout in training.
        dropout: f64,
    },
}

/// The MLPs of students of points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MlpSizes {
    /// Width of the hidden layers.
    pub hidden: usize,
    /// Affine layers of encoders and decoder.
    pub layers: usize,
    /// Affine layers of the direct student.
    pub direct_layers: usize,
    /// Whether encoders end in SiLU.
    pub activated: bool,
}

impl NetworkConfig {
    /// The MLPs of students of points; none for U-Nets.
    pub fn mlp(&self) -> Option<MlpSizes> {
        match *self {
            Self::Affine => {
                Some(MlpSizes { hidden: 1, layers: 1, direct_layers: 1, activated: false })
            }
            Self::Mlp { hidden, layers } => Some(MlpSizes {
                hidden,
                layers,
                direct_layers: layers.saturating_mul(2),
                activated: true,
            }),
            Self::Unet { .. } => None,
        }
    }
}

/// The networks of U-Net students.
#[derive(Clone, Debug, PartialEq)]
pub struct UNets {
    /// E_0 and E_T.
    pub encoder: SongUNetConfig,
    /// D.
    pub decoder: SongUNetConfig,
    /// The direct student's, from image to image: as many blocks as bring its cost nearest to that
    /// of both together.
    pub direct: SongUNetConfig,
}

/// The Koopman operator's form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorConfig {
    /// Dense, factorized, or a generator.
    pub kind: OperatorKind,
    /// Dimension that the latent is projected to for the operator; none for the whole latent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<usize>,
    /// Whether the control B y is added for the label y.
    pub control: bool,
}

/// What is decoded of states in training; their latents are always found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatePasses {
    /// The image from each state.
    pub push: bool,
    /// The states themselves.
    pub state: bool,
}

/// How a student gets from noise to image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Through latents and the Koopman operator.
    #[default]
    Koopman,
    /// By one network straight from noise to image, of about the size of encoder and decoder
    /// together: what the Koopman student is compared with. It has no latent and no operator, and
    /// no loss but push and the adversarial one.
    Direct,
}

impl Method {
    fn is_koopman(&self) -> bool {
        *self == Self::Koopman
    }
}

/// All of a student but its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudentConfig {
    /// How it gets from noise to image.
    #[serde(default, skip_serializing_if = "Method::is_koopman")]
    pub method: Method,
    /// Shape of a sample: `[D]` for points, `[C, H, W]` for images.
    pub shape: Vec<usize>,
    /// Classes; 0 when unconditional.
    pub label_dim: usize,
    /// Standard deviation of x_T.
    pub noise_std: f64,
    /// Dimension of the encoders' latent, all levels together.
    pub latent: usize,
    /// Channels of the latent at each level of U-Nets, finest first: images of the size that the
    /// networks have there, which follow each other in a flat latent. The first is at least 1.
    /// Empty for a latent of the finest level alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<usize>,
    /// Encoders and decoder.
    pub network: NetworkConfig,
    /// The operator.
    pub operator: OperatorConfig,
}

impl StudentConfig {
    /// Values a sample.
    pub fn dim(&self) -> usize {
        self.shape.iter().fold(1, |product: usize, n| product.saturating_mul(*n))
    }

    /// The levels of the latent, finest first. A latent that is no image is one level of side 1.
    pub fn latent_levels(&self) -> Vec<LatentLevel> {
        let side = match self.shape[..] {
            [_, height, _] if self.network.mlp().is_none() => height,
            _ => 1,
        };
        if self.levels.is_empty() {
            let pixels = side.saturating_mul(side).max(1);
            return vec![LatentLevel { channels: self.latent / pixels, side }];
        }
        let level = |(i, channels): (usize, &usize)| {
            let side = side.checked_shr(i as u32).unwrap_or(0);
            LatentLevel { channels: *channels, side }
        };
        self.levels.iter().enumerate().map(level).filter(|level| level.channels > 0).collect()
    }

    /// The same with another latent of levels (see the field): of their channels, and of the
    /// dimension that this makes.
    #[must_use]
    pub fn with_levels(self, levels: Vec<usize>) -> Self {
        let mut config = Self { levels, ..self };
        if !config.levels.is_empty() {
            let levels = config.latent_levels();
            config.latent = levels.iter().map(LatentLevel::dim).fold(0, usize::saturating_add);
        }
        config
    }

    /// The dimension n that the operator works on.
    pub fn operator_dim(&self) -> usize {
        self.operator.projection.unwrap_or(self.latent)
    }

    /// The U-Nets of an image student.
    ///
    /// # Errors
    /// When samples or latents are no square images, or the networks are no U-Nets.
    pub fn unets(&self) -> Result<UNets, Problem> {
        let ([encoder, decoder], blocks) = self.encoder_and_decoder()?;
        let both = encoder.demand().operations + decoder.demand().operations;
        let outputs = decoder.out_channels;
        let direct = (blocks..=3 * blocks + 2)
            .map(|num_blocks| SongUNetConfig {
                num_blocks,
                in_channels: outputs,
                level_inputs: Vec::new(),
                ..decoder.clone()
            })
            .map(|config| ((config.demand().operations - both).abs(), config))
            .min_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, config)| config)
            .expect("the range holds some");
        Ok(UNets { encoder, decoder, direct })
    }

    /// Encoder and decoder of [`Self::unets`], which may be impossible, and their blocks a level.
    fn encoder_and_decoder(&self) -> Result<([SongUNetConfig; 2], usize), Problem> {
        let NetworkConfig::Unet {
            model_channels,
            channel_mult,
            num_blocks,
            attn_resolutions,
            dropout,
        } = &self.network
        else {
            return Err(Problem::new("network.kind", "is no U-Net"));
        };
        let shape = |takes: &str| {
            Problem::new("shape", format!("is {:?}, and U-Nets take {takes}", self.shape))
        };
        let [channels, height, width] = self.shape[..] else {
            return Err(shape("images: [channels, side, side]"));
        };
        let pixels = height.saturating_mul(width);
        if height != width || pixels == 0 {
            return Err(shape("square images"));
        }
        if !self.levels.is_empty() {
            self.check_levels(channel_mult.len())?;
        } else if self.latent == 0 || !self.latent.is_multiple_of(pixels) {
            let problem = format!(
                "is {}, and a U-Net's latent is a multiple of the image's {pixels} pixels",
                self.latent
            );
            return Err(Problem::new("latent", problem));
        }
        let (latent_channels, coarser) = match self.levels.split_first() {
            Some((finest, coarser)) => (*finest, coarser.to_vec()),
            None => (self.latent / pixels, Vec::new()),
        };
        let unet = |inputs, outputs| SongUNetConfig {
            label_dim: self.label_dim,
            dropout: *dropout,
            ..SongUNetConfig::ddpmpp(
                height,
                inputs,
                outputs,
                *model_channels,
                channel_mult,
                *num_blocks,
                attn_resolutions,
            )
        };
        let (encoder, decoder) = (unet(channels, latent_channels), unet(latent_channels, channels));
        let networks = [
            SongUNetConfig { level_outputs: coarser.clone(), ..encoder },
            SongUNetConfig { level_inputs: coarser, ..decoder },
        ];
        Ok((networks, *num_blocks))
    }

    /// Whether levels suit networks of so many, and the latent's dimension is theirs.
    fn check_levels(&self, of_networks: usize) -> Result<(), Problem> {
        if self.levels.len() > of_networks || self.levels[0] == 0 {
            let problem = format!(
                "is {:?} and must be 1 to {of_networks} numbers, one for each level of the \
                 networks at most, the first of them 1 or more",
                self.levels
            );
            return Err(Problem::new("levels", problem));
        }
        let dim = self.latent_levels().iter().map(LatentLevel::dim).fold(0, usize::saturating_add);
        if dim != self.latent {
            let problem = format!("is {}, and the levels have {dim} values", self.latent);
            return Err(Problem::new("latent", problem));
        }
        Ok(())
    }

    /// What encoder, decoder and the direct student's network take; none where they can't be made.
    fn networks(&self) -> Option<[Demand; 3]> {
        let Some(MlpSizes { hidden, layers, direct_layers, .. }) = self.network.mlp() else {
            let UNets { encoder, decoder, direct } = self.unets().ok()?;
            return Some([encoder, decoder, direct].map(|config| config.demand()));
        };
        let (dim, latent, label_dim) = (self.dim(), self.latent, self.label_dim);
        let mlp = |input_dim, output_dim, layers| {
            let activate_output = false;
            MlpConfig { input_dim, output_dim, hidden, layers, label_dim, activate_output }.demand()
        };
        Some([mlp(dim, latent, layers), mlp(latent, dim, layers), mlp(dim, dim, direct_layers)])
    }

    /// What a linear layer between latent and operator takes, and the operator with its control.
    fn linear_maps(&self) -> (Demand, Demand) {
        let n = self.operator_dim();
        let lift = self.operator.projection.map(|p| Demand::linear(self.latent, p, false));
        let square = Demand::linear(n, n, false);
        let operator = match self.operator.kind {
            OperatorKind::Dense => square + Demand { parameters: n as f64, ..Demand::default() },
            // A rate and a frequency of half as many coordinates, and their products.
            OperatorKind::Generator => Demand {
                parameters: n as f64,
                operations: 4.0 * n as f64,
                activations: 4.0 * n as f64,
            },
            OperatorKind::Channels => self.levels_demand(LevelForm::Shared),
            OperatorKind::Places => self.levels_demand(LevelForm::Places),
            OperatorKind::Frequencies => self.levels_demand(LevelForm::Frequencies),
            // Two complex matrices, and two numbers an eigenvalue.
            OperatorKind::Factorized => Demand {
                parameters: 4.0 * square.parameters + 2.0 * n as f64,
                operations: 4.0 * square.operations,
                activations: 4.0 * square.activations,
            },
        };
        (lift.unwrap_or_default(), operator)
    }

    /// What an operator of the levels' channels takes.
    fn levels_demand(&self, form: LevelForm) -> Demand {
        self.latent_levels().iter().map(|level| Levels::demand(form, level)).sum()
    }

    /// What a sample takes, or a pair in a training step: its operations are three times those of
    /// the forward passes through E_0, E_T, C, and D once, or twice with the push term; the
    /// discriminator and LPIPS come on top. Zero where no student can be made.
    pub fn demand(&self, training: bool, push: bool) -> Demand {
        let Some([encoder, decoder, direct]) = self.networks() else { return Demand::default() };
        let (lift, operator) = self.linear_maps();
        let (encoder, decoder) = (encoder + lift, decoder + lift);
        let encoders = if training { encoder + encoder } else { encoder };
        let decoders = if training && push { decoder + decoder } else { decoder };
        let forward = match self.method {
            Method::Direct => direct,
            Method::Koopman => encoders + operator + decoders,
        };
        let passes = if training { 3.0 } else { 1.0 };
        Demand { parameters: self.parameters(), operations: passes * forward.operations, ..forward }
    }

    /// What a training step takes more for a state between noise and image of each pair: a pass
    /// through E_T and one through D, or two with the push term.
    pub fn state_demand(&self, passes: StatePasses) -> Demand {
        let Some([encoder, decoder, _]) = self.networks() else { return Demand::default() };
        let (lift, operator) = self.linear_maps();
        let (encoder, decoder) = (encoder + lift, decoder + lift);
        let decoders = f64::from(u8::from(passes.push) + u8::from(passes.state));
        let one = encoder + operator + operator;
        Demand {
            parameters: 0.0,
            operations: 3.0 * (one.operations + decoders * decoder.operations),
            activations: one.activations + decoders * decoder.activations,
        }
    }

    /// Floating-point operations of [`Self::demand`].
    pub fn flops(&self, training: bool, push: bool) -> f64 {
        self.demand(training, push).operations
    }

    /// How many parameters the student has. Zero where none can be made.
    pub fn parameters(&self) -> f64 {
        let Some([encoder, decoder, direct]) = self.networks() else { return 0.0 };
        if self.method == Method::Direct {
            return direct.parameters;
        }
        let n = self.operator_dim();
        let linear = |inputs, outputs| Demand::linear(inputs, outputs, true).parameters;
        let projection = self
            .operator
            .projection
            .map_or(0.0, |n| 2.0 * linear(self.latent, n) + linear(n, self.latent));
        let control = if self.operator.control { linear(self.label_dim, n) } else { 0.0 };
        let (_, operator) = self.linear_maps();
        2.0 * encoder.parameters + decoder.parameters + operator.parameters + projection + control
    }

    /// A number of weights that the student has at least, found without making it; for MLPs all of
    /// them.
    pub fn least_parameters(&self) -> usize {
        let dim = self.shape.iter().fold(1, |product: usize, n| product.saturating_mul(*n));
        let networks = match &self.network {
            NetworkConfig::Unet { model_channels, channel_mult, num_blocks, .. } => {
                // Two convolutions of 3x3 a block at its width.
                let level = |m: &usize| {
                    let width = m.max(&1).saturating_mul(*model_channels.max(&1));
                    width.saturating_mul(width).saturating_mul(18).saturating_mul(*num_blocks)
                };
                channel_mult.iter().map(level).fold(*num_blocks, usize::saturating_add)
            }
            NetworkConfig::Affine | NetworkConfig::Mlp { .. } => {
                let sizes = self.network.mlp().expect("no U-Net");
                let mlp = |input_dim, output_dim, layers| {
                    let (hidden, label_dim) = (sizes.hidden, self.label_dim);
                    let activate_output = sizes.activated;
                    MlpConfig { input_dim, output_dim, hidden, layers, label_dim, activate_output }
                        .parameters()
                };
                match self.method {
                    Method::Direct => mlp(dim, dim, sizes.layers),
                    Method::Koopman => mlp(dim, self.latent, sizes.layers)
                        .saturating_mul(2)
                        .saturating_add(mlp(self.latent, dim, sizes.layers)),
                }
            }
        };
        if self.method == Method::Direct {
            return networks;
        }
        let n = self.operator_dim();
        let projection = self.operator.projection.map_or(0, |n| n.saturating_mul(self.latent));
        let control = if self.operator.control { n.saturating_mul(self.label_dim) } else { 0 };
        let operator = match self.operator.kind {
            OperatorKind::Generator => n,
            OperatorKind::Channels | OperatorKind::Places | OperatorKind::Frequencies => {
                let shared = self.operator.kind == OperatorKind::Channels;
                let matrices = |level: &LatentLevel| {
                    let count = if shared { 1 } else { level.places() };
                    level.channels.saturating_mul(level.channels).saturating_mul(count)
                };
                self.latent_levels().iter().map(matrices).fold(0, usize::saturating_add)
            }
            OperatorKind::Dense | OperatorKind::Factorized => n.saturating_mul(n),
        };
        [networks, operator, projection, control].into_iter().fold(0, usize::saturating_add)
    }

    /// All that is wrong with it.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut at_least_one = |field: &str, value: usize| {
            if value == 0 {
                problems.push(Problem::new(field, "is 0 and must be at least 1"));
            }
        };
        at_least_one("shape", self.dim());
        at_least_one("latent", self.latent);
        at_least_one("operator.projection", self.operator_dim());
        match self.network.mlp() {
            Some(MlpSizes { hidden, layers, .. }) => {
                at_least_one("network.hidden", hidden);
                at_least_one("network.layers", layers);
            }
            None => match self.encoder_and_decoder() {
                Ok(([encoder, decoder], _)) => {
                    // What is wrong with both networks is told once.
                    let both = encoder.problems().into_iter().chain(decoder.problems());
                    let all: BTreeMap<String, String> =
                        both.map(|p| (p.field, p.problem)).collect();
                    let problem = |(field, problem)| Problem { field, problem }.within("network");
                    problems.extend(all.into_iter().map(problem));
                }
                Err(problem) => problems.push(problem),
            },
        }
        if self.network.mlp().is_some() && !self.levels.is_empty() {
            problems.push(Problem::new("levels", "is for U-Nets, and the networks are none"));
        }
        if self.method == Method::Koopman
            && self.operator.kind.level_form().is_some()
            && self.operator.projection.is_some()
        {
            let problem = "works on the levels of the latent and takes no operator.projection";
            problems.push(Problem::new("operator.kind", problem));
        }
        let odd = !self.operator_dim().is_multiple_of(2);
        if self.method == Method::Koopman && self.operator.kind == OperatorKind::Generator && odd {
            let problem = format!(
                "is generator, whose coordinates are complex, and the operator's dimension {} is \
                 odd",
                self.operator_dim()
            );
            problems.push(Problem::new("operator.kind", problem));
        }
        if self.method == Method::Direct && self.operator.control {
            let problem = "is true, and the direct student has no operator";
            problems.push(Problem::new("operator.control", problem));
        }
        if self.operator.control && self.label_dim == 0 {
            let problem = "is true and the pairs have no labels";
            problems.push(Problem::new("operator.control", problem));
        }
        if !(self.noise_std > 0.0 && self.noise_std.is_finite()) {
            let problem = format!("is {} and must be above 0", self.noise_std);
            problems.push(Problem::new("noise_std", problem));
        }
        problems
    }
}
