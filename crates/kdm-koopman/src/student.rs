//! The student: two encoders, the operator, a decoder.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use kdm_data::{TensorFile, model};
use kdm_nn::state::{load_state, state_dict};
use kdm_nn::{ForwardMode, InitSeed, Linear, LinearConfig, Mlp, MlpConfig, Perceptual, SongUNet};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{Perceptron, UNets};
use crate::loss::{Distance, Objective};
use crate::operator::Complex;
use crate::{LossConfig, Method, Operator, StudentConfig};

/// The kind that students' model files name.
pub const KIND: &str = "student";

/// The time input of the noise encoder. The clean encoder's and the decoder's is 0 (paper).
pub(crate) const NOISE_TIME: f32 = 1.0;
pub(crate) const CLEAN_TIME: f32 = 0.0;

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
        match self {
            Self::Mlp(mlp) => mlp.forward_at(x, time, labels),
            Self::Unet(unet) => {
                let (n, config) = (x.dims()[0], unet.config());
                let side = config.resolution;
                let time = Tensor::full([n], time, &x.device());
                let x = x.reshape([n, config.in_channels, side, side]);
                let y = unet.forward(x, time, labels, None, mode);
                y.reshape([n, config.out_channels * side * side])
            }
        }
    }
}

/// A student: what draws a sample in one pass. Samples are flat: `[N, dim]`.
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
    /// What the noise encoder's input is divided by: the deviation of x_T for perceptrons; 1 for
    /// U-Nets, which take x_T as it is (paper).
    pub noise_scale: f64,
}

/// Linear maps from the latent to the operator's fewer numbers, one after each encoder, and back
/// before the decoder.
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
enum Part {
    Encoder,
    Decoder,
    Direct,
}

impl StudentConfig {
    /// A student with fresh weights. The configuration has no [`Self::problems`].
    pub fn init(&self, seed: u64, device: &Device) -> Student {
        let seed = &mut InitSeed::new(seed);
        let perceptron = self.network.perceptron();
        let noise_scale = if perceptron.is_some() { self.noise_std } else { 1.0 };
        let network = |part: Part, seed: &mut InitSeed| match perceptron {
            Some(Perceptron { hidden, layers, direct_layers, activated }) => {
                let (dim, latent) = (self.dim(), self.latent);
                let (input_dim, output_dim, layers) = match part {
                    Part::Encoder => (dim, latent, layers),
                    Part::Decoder => (latent, dim, layers),
                    Part::Direct => (dim, dim, direct_layers),
                };
                let config = MlpConfig {
                    input_dim,
                    output_dim,
                    hidden,
                    layers,
                    label_dim: self.label_dim,
                    activate_output: activated && part == Part::Encoder,
                };
                Network::Mlp(config.init(seed, device))
            }
            None => {
                let UNets { encoder, decoder, direct } =
                    self.unets().expect("checked by `problems`");
                let config = match part {
                    Part::Encoder => encoder,
                    Part::Decoder => decoder,
                    Part::Direct => direct,
                };
                Network::Unet(config.init(seed, device))
            }
        };
        if self.method == Method::Direct {
            return Student::Direct(Direct { network: network(Part::Direct, seed), noise_scale });
        }
        let n = self.operator_dim();
        let linear = |inputs, outputs, seed: &mut InitSeed| {
            LinearConfig { inputs, outputs }.init(seed, device)
        };
        Student::Koopman(Koopman {
            clean_encoder: network(Part::Encoder, seed),
            noise_encoder: network(Part::Encoder, seed),
            operator: Operator::init(self.operator.kind, n, seed, device),
            control: self.operator.control.then(|| linear(self.label_dim, n, seed)),
            decoder: network(Part::Decoder, seed),
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

/// Noise over the scale that networks take it at.
fn scaled(x_t: Tensor<2>, scale: f64) -> Tensor<2> {
    if scale == 1.0 { x_t } else { x_t / scale }
}

impl Koopman {
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
        match &self.projection {
            Some(p) => p.noise.forward(z),
            None => z,
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
        let z = match &self.projection {
            Some(p) => p.decoder.forward(z),
            None => z,
        };
        self.decoder.forward(z, CLEAN_TIME, labels, mode)
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

/// What a student's model file says beside its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudentFile {
    /// What the student is.
    pub student: StudentConfig,
    /// The loss it was trained for.
    pub loss: LossConfig,
    /// The seed that the targets of the eigenvalue loss were drawn with.
    pub target_seed: u64,
    /// Where it is from: the pairs and the training, or the imported file.
    pub origin: Value,
}

impl StudentFile {
    /// The targets of the operator's eigenvalues; none when the loss has no such term.
    pub fn targets(&self) -> Option<Vec<Complex>> {
        self.loss.eigenvalues.targets(self.student.operator_dim(), self.target_seed)
    }

    /// The loss, ready to compute; `perceptual` goes with the perceptual kinds.
    pub fn objective(&self, perceptual: Option<Perceptual>) -> Objective {
        let distance = Distance::new(self.loss.reconstruction, perceptual, &self.student.shape);
        Objective { config: self.loss.clone(), targets: self.targets(), distance }
    }

    /// Writes a student's model file.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn save(&self, student: &Student, path: &Path) -> kdm_data::Result<()> {
        model::write(path, KIND, self, &state_dict(student))
    }

    /// Reads a student's model file.
    ///
    /// # Errors
    /// When the file is damaged, is no student's, or its weights don't fit its configuration.
    pub fn load(path: &Path, device: &Device) -> kdm_data::Result<(Self, Student)> {
        Self::from_file(&TensorFile::open(path)?, device)
    }

    /// See [`Self::load`].
    ///
    /// # Errors
    /// The same.
    pub fn from_file(tensors: &TensorFile, device: &Device) -> kdm_data::Result<(Self, Student)> {
        let path = tensors.path();
        let (file, state): (Self, _) = model::parse(tensors, KIND)?;
        let again = "import or distill the student again";
        if let Some((field, problem)) = file.student.problems().into_iter().next() {
            return Err(kdm_data::Error::invalid(
                path,
                format!("config.student.{field}"),
                problem,
                again,
            ));
        }
        let student = load_state(file.student.init(0, device), &state)
            .map_err(|e| kdm_data::Error::invalid(path, "tensors", e.0, again))?;
        Ok((file, student))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::Sampler;
    use crate::{NetworkConfig, OperatorConfig, OperatorKind};
    use kdm_random::normal_vec;

    /// A student that is saved and loaded draws the same bits; one by one equals batched, to the
    /// bit.
    #[test]
    fn save_and_load_and_one_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("student.safetensors");
        let device = Device::flex();
        let mlp = || NetworkConfig::Mlp { hidden: 16, layers: 3 };
        let unet = || NetworkConfig::Unet {
            model_channels: 8,
            channel_mult: vec![1, 2],
            num_blocks: 1,
            attn_resolutions: vec![4],
            dropout: 0.1,
        };
        for (kind, projection, label_dim, shape, latent, network) in [
            (OperatorKind::Dense, None, 0, vec![3], 12, mlp()),
            (OperatorKind::Dense, Some(4), 3, vec![3], 12, mlp()),
            (OperatorKind::Factorized, None, 0, vec![3], 12, mlp()),
            (OperatorKind::Factorized, Some(5), 2, vec![3], 12, mlp()),
            (OperatorKind::Dense, None, 2, vec![3], 6, NetworkConfig::Affine),
            (OperatorKind::Dense, None, 3, vec![2, 8, 8], 128, unet()),
            (OperatorKind::Factorized, Some(7), 0, vec![1, 8, 8], 64, unet()),
        ] {
            let config = StudentConfig {
                method: Method::Koopman,
                shape,
                label_dim,
                noise_std: 80.0,
                latent,
                network,
                operator: OperatorConfig { kind, projection, control: label_dim > 0 },
            };
            assert_eq!(config.problems(), []);
            let (student, dim) = (config.init(4, &device), config.dim());
            let batched = if dim == 3 { 300 } else { 19 };
            let origin = Value::Null;
            let file = StudentFile {
                student: config,
                loss: LossConfig::default(),
                target_seed: 9,
                origin,
            };
            file.save(&student, &path).unwrap();
            let (again, loaded) = StudentFile::load(&path, &device).unwrap();
            assert_eq!(again, file);

            let (noise, n) = (normal_vec(1, dim * batched), batched);
            let classes: Vec<u32> = (0..n).map(|i| (i % label_dim.max(1)) as u32).collect();
            let labels = crate::sampler::one_hot(&classes, label_dim);
            let draw = |student: &Student, rows: std::ops::Range<usize>| {
                let labels = &labels[rows.start * label_dim..rows.end * label_dim];
                Sampler::new(student.clone(), &file.student, &device)
                    .sample(&noise[dim * rows.start..dim * rows.end], labels)
            };
            let whole = draw(&student, 0..n);
            assert_eq!(draw(&loaded, 0..n), whole);
            for row in [0, 7, 8, 17, 255, 256, 299].into_iter().filter(|row| *row < n) {
                assert_eq!(
                    draw(&student, row..row + 1),
                    whole[dim * row..dim * (row + 1)],
                    "{kind:?} row {row}"
                );
            }
        }
    }

    #[test]
    fn a_file_of_another_kind_or_configuration_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let refused = |part: &str| {
            let message = StudentFile::load(&path, &Device::flex()).unwrap_err().to_string();
            assert!(message.contains("model.safetensors") && message.contains(part), "{message}");
        };
        model::write(&path, "teacher", &Value::Null, &model::State::new()).unwrap();
        refused("this is a teacher, and a student is needed");
        model::write(&path, KIND, &serde_json::json!({"student": 5}), &model::State::new())
            .unwrap();
        refused("config");
    }
}
