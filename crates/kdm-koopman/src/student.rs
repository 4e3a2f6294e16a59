//! The student: two encoders, the operator, a decoder (paper, section on the method).
//!
//! ```text
//! z_0 = E_0(x_0)    z_T = E_T(x_T)    z^_0 = C z_T + B y    x_push = D(z^_0)    x_rec = D(z_0)
//! ```

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use kdm_nn::{ForwardMode, InitSeed, Linear, LinearConfig, Mlp, MlpConfig, SongUNet};

use crate::config::{MlpSizes, UNets};
use crate::operator::{Generator, Levels};
use crate::{Method, Operator, StudentConfig};

/// The time input of the noise encoder. The clean encoder's and the decoder's is 0 (paper).
pub const NOISE_TIME: f32 = 1.0;
/// See [`NOISE_TIME`].
pub const CLEAN_TIME: f32 = 0.0;

/// An encoder or decoder on flat rows.
#[derive(Module, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a student has three of them; their tensors lie elsewhere"
)]
pub enum Network {
    /// For points.
    Mlp(Mlp),
    /// For images, whose rows are read as `[C, R, R]`.
    Unet(SongUNet),
}

impl Network {
    /// Rows `[N, inputs]` at one time, one-hot labels `[N, label_dim]` -> `[N, outputs]`.
    fn forward(
        &self,
        x: Tensor<2>,
        time: f32,
        labels: Option<Tensor<2>>,
        mode: &ForwardMode,
    ) -> Tensor<2> {
        let time = Tensor::full([x.dims()[0]], time, &x.device());
        self.forward_at(x, time, labels, mode)
    }

    /// [`Self::forward`] with a time for each row, `[N]`.
    fn forward_at(
        &self,
        x: Tensor<2>,
        time: Tensor<1>,
        labels: Option<Tensor<2>>,
        mode: &ForwardMode,
    ) -> Tensor<2> {
        match self {
            Self::Mlp(mlp) => {
                let rows = time.dims()[0];
                mlp.forward(x, time.reshape([rows, 1]), labels)
            }
            Self::Unet(unet) => unet.forward_rows(x, time, labels, mode),
        }
    }
}

/// A student: what draws a sample in one pass. Samples are flat: `[N, dim]`.
///
/// ```
/// use burn::tensor::Device;
/// use kdm_data::Labels;
/// use kdm_koopman::{
///     Method, NetworkConfig, OperatorConfig, OperatorKind, Sampler, StudentConfig,
/// };
///
/// let config = StudentConfig {
///     method: Method::Koopman,
///     shape: vec![2],
///     label_dim: 3,
///     noise_std: 1.0,
///     latent: 16,
///     levels: Vec::new(),
///     network: NetworkConfig::Mlp { hidden: 32, layers: 3 },
///     operator: OperatorConfig { kind: OperatorKind::Dense, projection: None, control: true },
/// };
/// assert!(config.problems().is_empty());
/// let device = Device::flex();
/// let student = config.init(1, &device);
/// let sampler = Sampler::new(student, &config, &device);
/// // Two points of class 0, one of class 2.
/// let points = sampler.sample(&[0.1, -0.4, 1.3, 0.2, -0.7, 0.9], &Labels::of(&[0, 0, 2]));
/// assert_eq!(points.len(), 3 * 2);
/// ```
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "there are few of them; their tensors lie elsewhere")]
pub enum Student {
    /// Through latents and the operator.
    Koopman(Koopman),
    /// Straight.
    Direct(Direct),
}

/// One network from noise to image.
#[derive(Module, Debug)]
pub struct Direct {
    /// The network.
    pub network: Network,
    /// What its input is divided by; see [`Koopman::noise_scale`].
    pub noise_scale: f64,
}

/// The networks of the method. Samples are flat: `[N, dim]`.
#[derive(Module, Debug)]
pub struct Koopman {
    /// E_0.
    pub clean_encoder: Network,
    /// E_T.
    pub noise_encoder: Network,
    /// C.
    pub operator: Operator,
    /// B, on one-hot labels.
    pub control: Option<Linear>,
    /// D.
    pub decoder: Network,
    /// The linear maps around the operator, when it works on a projection.
    pub projection: Option<Projection>,
    /// What the noise encoder's input is divided by: the deviation of x_T for MLPs; 1 for
    /// U-Nets, which take x_T as it is (paper).
    pub noise_scale: f64,
}

/// Linear maps from the latent to the operator's smaller dimension n, one after each encoder, and
/// back before the decoder (paper, 64x64 images).
#[derive(Module, Debug)]
pub struct Projection {
    /// After E_0.
    pub clean: Linear,
    /// After E_T.
    pub noise: Linear,
    /// Before D.
    pub decoder: Linear,
}

/// What a network of a student is for.
#[derive(Clone, Copy, PartialEq)]
enum NetworkRole {
    Encoder,
    Decoder,
    Direct,
}

impl StudentConfig {
    /// A student with fresh weights. The configuration has no [`Self::problems`].
    pub fn init(&self, seed: u64, device: &Device) -> Student {
        let seed = &mut InitSeed::new(seed);
        let mlp = self.network.mlp();
        let noise_scale = if mlp.is_some() { self.noise_std } else { 1.0 };
        let network = |role: NetworkRole, seed: &mut InitSeed| match mlp {
            Some(MlpSizes { hidden, layers, direct_layers, activated }) => {
                let (dim, latent) = (self.dim(), self.latent);
                let (input_dim, output_dim, layers) = match role {
                    NetworkRole::Encoder => (dim, latent, layers),
                    NetworkRole::Decoder => (latent, dim, layers),
                    NetworkRole::Direct => (dim, dim, direct_layers),
                };
                let config = MlpConfig {
                    input_dim,
                    output_dim,
                    hidden,
                    layers,
                    label_dim: self.label_dim,
                    activate_output: activated && role == NetworkRole::Encoder,
                };
                Network::Mlp(config.init(seed, device))
            }
            None => {
                let UNets { encoder, decoder, direct } =
                    self.unets().expect("checked by `problems`");
                let config = match role {
                    NetworkRole::Encoder => encoder,
                    NetworkRole::Decoder => decoder,
                    NetworkRole::Direct => direct,
                };
                Network::Unet(config.init(seed, device))
            }
        };
        if self.method == Method::Direct {
            return Student::Direct(Direct {
                network: network(NetworkRole::Direct, seed),
                noise_scale,
            });
        }
        let n = self.operator_dim();
        let linear = |inputs, outputs, seed: &mut InitSeed| {
            LinearConfig { inputs, outputs }.init(seed, device)
        };
        let encoders = [(); 2].map(|()| network(NetworkRole::Encoder, seed));
        let operator = match self.operator.kind.level_form() {
            Some(form) => Operator::Levels(Levels::init(form, &self.latent_levels(), seed, device)),
            None => Operator::init(self.operator.kind, n, seed, device),
        };
        let [clean_encoder, noise_encoder] = encoders;
        Student::Koopman(Koopman {
            clean_encoder,
            noise_encoder,
            operator,
            control: self.operator.control.then(|| linear(self.label_dim, n, seed)),
            decoder: network(NetworkRole::Decoder, seed),
            projection: self.operator.projection.map(|n| Projection {
                clean: linear(self.latent, n, seed),
                noise: linear(self.latent, n, seed),
                decoder: linear(n, self.latent, seed),
            }),
            noise_scale,
        })
    }
}

impl Student {
    /// One-step samples, `[N, dim]` -> `[N, dim]`.
    pub fn generate(
        &self,
        x_t: Tensor<2>,
        labels: Option<Tensor<2>>,
        mode: &ForwardMode,
    ) -> Tensor<2> {
        match self {
            Self::Koopman(student) => student.generate(x_t, labels, mode),
            Self::Direct(student) => student.generate(x_t, labels, mode),
        }
    }

    /// The networks of the method; none for a direct student, which has no latent and no operator.
    pub fn koopman(&self) -> Option<&Koopman> {
        match self {
            Self::Koopman(student) => Some(student),
            Self::Direct(_) => None,
        }
    }
}

impl Direct {
    /// One-step samples, `[N, dim]` -> `[N, dim]`.
    pub fn generate(
        &self,
        x_t: Tensor<2>,
        labels: Option<Tensor<2>>,
        mode: &ForwardMode,
    ) -> Tensor<2> {
        self.network.forward(scaled(x_t, self.noise_scale), NOISE_TIME, labels, mode)
    }
}

/// The time input of networks at normalised times: from [`NOISE_TIME`] to [`CLEAN_TIME`].
fn network_time(tau: Tensor<1>) -> Tensor<1> {
    tau.neg() + NOISE_TIME
}

/// Noise over the scale that networks take it at.
fn scaled(x_t: Tensor<2>, scale: f64) -> Tensor<2> {
    if scale == 1.0 { x_t } else { x_t / scale }
}

impl Koopman {
    /// The same student on `device`, with or without autodiff as that says.
    #[must_use]
    pub fn on(&self, device: &Device) -> Self {
        let moved = self.valid().to_device(&device.clone().inner());
        if device.is_autodiff() { moved.train() } else { moved }
    }

    /// The device that its tensors lie on.
    pub fn device(&self) -> Device {
        self.operator.device()
    }

    /// z_0 = E_0(x_0): `[N, dim]` -> `[N, n]`.
    pub fn encode_clean(
        &self,
        x0: Tensor<2>,
        labels: Option<Tensor<2>>,
        mode: &ForwardMode,
    ) -> Tensor<2> {
        let z = self.clean_encoder.forward(x0, CLEAN_TIME, labels, mode);
        match &self.projection {
            Some(p) => p.clean.forward(z),
            None => z,
        }
    }

    /// z_T = E_T(x_T): `[N, dim]` -> `[N, n]`.
    pub fn encode_noise(
        &self,
        x_t: Tensor<2>,
        labels: Option<Tensor<2>>,
        mode: &ForwardMode,
    ) -> Tensor<2> {
        let z = self.noise_encoder.forward(scaled(x_t, self.noise_scale), NOISE_TIME, labels, mode);
        self.projected(z)
    }

    /// z_s = E_T(x_s, s) of states between noise and image, which are as loud as x_T, at normalised
    /// times `[N]`: `[N, dim]` -> `[N, n]`. At time 0 it is [`Self::encode_noise`].
    pub fn encode_state(
        &self,
        x: Tensor<2>,
        tau: Tensor<1>,
        labels: Option<Tensor<2>>,
        mode: &ForwardMode,
    ) -> Tensor<2> {
        let x = scaled(x, self.noise_scale);
        let z = self.noise_encoder.forward_at(x, network_time(tau), labels, mode);
        self.projected(z)
    }

    /// The noise encoder's latents at the operator's dimension.
    fn projected(&self, z: Tensor<2>) -> Tensor<2> {
        match &self.projection {
            Some(p) => p.noise.forward(z),
            None => z,
        }
    }

    /// The operator's latents at the decoder's dimension.
    fn lifted(&self, z: Tensor<2>) -> Tensor<2> {
        match &self.projection {
            Some(p) => p.decoder.forward(z),
            None => z,
        }
    }

    /// Latents `[N, n]` a time `[N]` later: C(s -> s + time) z, and what the control adds
    /// meanwhile. [`Self::push`] is the whole time, 1.
    pub fn advance(
        &self,
        generator: &Generator,
        z: Tensor<2>,
        time: Tensor<1>,
        labels: Option<Tensor<2>>,
    ) -> Tensor<2> {
        let rows = time.dims()[0];
        let time = time.reshape([rows, 1]);
        let moved = generator.advance(z, time.clone());
        match (&self.control, labels) {
            (Some(control), Some(y)) => moved + generator.control(control.forward(y), time),
            _ => moved,
        }
    }

    /// z^_0 = C z_T + B y: `[N, n]` -> `[N, n]`.
    pub fn push(&self, z_t: Tensor<2>, labels: Option<Tensor<2>>) -> Tensor<2> {
        let pushed = self.operator.apply(z_t);
        match (&self.control, labels) {
            (Some(control), Some(y)) => pushed + control.forward(y),
            _ => pushed,
        }
    }

    /// D(z): `[N, n]` -> `[N, dim]`.
    pub fn decode(&self, z: Tensor<2>, labels: Option<Tensor<2>>, mode: &ForwardMode) -> Tensor<2> {
        self.decoder.forward(self.lifted(z), CLEAN_TIME, labels, mode)
    }

    /// D(z, s) at normalised times `[N]`: `[N, n]` -> `[N, dim]`, states divided by their scale. At
    /// time 1 it is [`Self::decode`].
    pub fn decode_at(
        &self,
        z: Tensor<2>,
        tau: Tensor<1>,
        labels: Option<Tensor<2>>,
        mode: &ForwardMode,
    ) -> Tensor<2> {
        self.decoder.forward_at(self.lifted(z), network_time(tau), labels, mode)
    }

    /// One-step samples: x_0 = D(C E_T(x_T) + B y), `[N, dim]` -> `[N, dim]`.
    pub fn generate(
        &self,
        x_t: Tensor<2>,
        labels: Option<Tensor<2>>,
        mode: &ForwardMode,
    ) -> Tensor<2> {
        let z = self.encode_noise(x_t, labels.clone(), mode);
        self.decode(self.push(z, labels.clone()), labels, mode)
    }
}
