//! The student: two encoders, the operator, a decoder.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use kdm_data::model;
use kdm_nn::state::{load_state, state_dict};
use kdm_nn::{InitSeed, Linear, LinearConfig, Mlp, MlpConfig};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::operator::Complex;
use crate::{LossConfig, NetworkConfig, Operator, StudentConfig};

/// The kind that students' model files name.
pub const KIND: &str = "student";

/// The time input of the noise encoder. The clean encoder's and the decoder's is 0 (paper).
const NOISE_TIME: f32 = 1.0;
const CLEAN_TIME: f32 = 0.0;

/// A student's networks. Samples are flat: `[N, dim]`.
#[derive(Module, Debug)]
pub struct Student {
    /// E_0.
    pub clean_encoder: Mlp,
    /// E_T.
    pub noise_encoder: Mlp,
    /// C.
    pub operator: Operator,
    /// B, on one-hot labels.
    pub control: Option<Linear>,
    /// D.
    pub decoder: Mlp,
    /// The linear maps around the operator, when it works on a projection.
    pub projection: Option<Projection>,
    /// Standard deviation of x_T; the noise encoder is given x_T divided by it.
    pub noise_std: f64,
}

/// Linear maps from the latent to the operator's fewer numbers, one after each encoder, and back before the decoder.
#[derive(Module, Debug)]
pub struct Projection {
    /// After E_0.
    pub clean: Linear,
    /// After E_T.
    pub noise: Linear,
    /// Before D.
    pub decoder: Linear,
}

impl StudentConfig {
    /// A student with fresh weights.
    pub fn init(&self, seed: u64, device: &Device) -> Student {
        let NetworkConfig::Mlp { hidden, layers } = self.network;
        let seed = &mut InitSeed::new(seed);
        let mlp = |input_dim, output_dim, activate_output, seed: &mut InitSeed| {
            MlpConfig { input_dim, output_dim, hidden, layers, label_dim: self.label_dim, activate_output }
                .init(seed, device)
        };
        let n = self.operator_dim();
        let linear = |inputs, outputs, seed: &mut InitSeed| LinearConfig { inputs, outputs }.init(seed, device);
        Student {
            clean_encoder: mlp(self.dim(), self.latent, true, seed),
            noise_encoder: mlp(self.dim(), self.latent, true, seed),
            operator: Operator::init(self.operator.kind, n, seed, device),
            control: self.operator.control.then(|| linear(self.label_dim, n, seed)),
            decoder: mlp(self.latent, self.dim(), false, seed),
            projection: self.operator.projection.map(|n| Projection {
                clean: linear(self.latent, n, seed),
                noise: linear(self.latent, n, seed),
                decoder: linear(n, self.latent, seed),
            }),
            noise_std: self.noise_std,
        }
    }
}

impl Student {
    /// z_0 = E_0(x_0): `[N, dim]` -> `[N, n]`.
    pub fn encode_clean(&self, x0: Tensor<2>, labels: Option<Tensor<2>>) -> Tensor<2> {
        let z = self.clean_encoder.forward_at(x0, CLEAN_TIME, labels);
        match &self.projection {
            Some(p) => p.clean.forward(z),
            None => z,
        }
    }

    /// z_T = E_T(x_T): `[N, dim]` -> `[N, n]`.
    pub fn encode_noise(&self, x_t: Tensor<2>, labels: Option<Tensor<2>>) -> Tensor<2> {
        let x_t = if self.noise_std == 1.0 { x_t } else { x_t / self.noise_std };
        let z = self.noise_encoder.forward_at(x_t, NOISE_TIME, labels);
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
    pub fn decode(&self, z: Tensor<2>, labels: Option<Tensor<2>>) -> Tensor<2> {
        let z = match &self.projection {
            Some(p) => p.decoder.forward(z),
            None => z,
        };
        self.decoder.forward_at(z, CLEAN_TIME, labels)
    }

    /// One-step samples: x_0 = D(C E_T(x_T) + B y), `[N, dim]` -> `[N, dim]`.
    pub fn generate(&self, x_t: Tensor<2>, labels: Option<Tensor<2>>) -> Tensor<2> {
        let z = self.encode_noise(x_t, labels.clone());
        self.decode(self.push(z, labels.clone()), labels)
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
        let (file, state): (Self, _) = model::read(path, KIND)?;
        let again = "import or distill the student again";
        if let Some((field, problem)) = file.student.problems().into_iter().next() {
            return Err(kdm_data::Error::invalid(path, format!("config.student.{field}"), problem, again));
        }
        let student = load_state(file.student.init(0, device), &state)
            .map_err(|e| kdm_data::Error::invalid(path, "tensors", e.0, again))?;
        Ok((file, student))
    }
}
