//! What a student is and what it is trained for, as plain data; the same words as in presets and model files.

use serde::{Deserialize, Serialize};

use crate::EigenvalueTarget;

/// The encoders' and the decoder's networks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "kebab-case")]
pub enum NetworkConfig {
    /// Perceptrons, for points (paper's checkerboard): encoders end in SiLU, the decoder does not.
    Mlp {
        /// Features of the layers between.
        hidden: usize,
        /// Affine layers of each network.
        layers: usize,
    },
}

/// The Koopman operator's form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorConfig {
    /// Dense or factorized.
    pub kind: crate::OperatorKind,
    /// Numbers the latent is projected to for the operator; none for the whole latent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<usize>,
    /// Whether B y is added for the label y.
    pub control: bool,
}

/// All of a student but its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudentConfig {
    /// Shape of a sample: `[D]` for points.
    pub shape: Vec<usize>,
    /// Classes; 0 when unconditional.
    pub label_dim: usize,
    /// Standard deviation of x_T.
    pub noise_std: f64,
    /// Numbers of the latent.
    pub latent: usize,
    /// Encoders and decoder.
    pub network: NetworkConfig,
    /// The operator.
    pub operator: OperatorConfig,
}

impl StudentConfig {
    /// Values a sample.
    pub fn dim(&self) -> usize {
        self.shape.iter().product()
    }

    /// Numbers the operator works on.
    pub fn operator_dim(&self) -> usize {
        self.operator.projection.unwrap_or(self.latent)
    }

    /// All that is wrong with it: field and problem.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut at_least_one = |field: &str, value: usize| {
            if value == 0 {
                problems.push((field.to_string(), "is 0 and must be at least 1".to_string()));
            }
        };
        at_least_one("shape", self.dim());
        at_least_one("latent", self.latent);
        at_least_one("operator.projection", self.operator_dim());
        let NetworkConfig::Mlp { hidden, layers } = self.network;
        at_least_one("network.hidden", hidden);
        at_least_one("network.layers", layers);
        if self.operator.control && self.label_dim == 0 {
            problems.push(("operator.control".into(), "is true and the pairs have no labels".into()));
        }
        if !(self.noise_std > 0.0 && self.noise_std.is_finite()) {
            problems.push(("noise_std".into(), format!("is {} and must be above 0", self.noise_std)));
        }
        problems
    }
}

/// The distance d between an image and its drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reconstruction {
    /// Mean squared error.
    L2,
    /// Pseudo-Huber, sqrt(u^2 + c^2) - c with c = 0.03, averaged.
    Huber,
}

/// The terms of the loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// The distance d.
    pub reconstruction: Reconstruction,
    /// Weight of |z_0 - z^_0|^2.
    pub latent_weight: f64,
    /// Weight of d(x_0, x_rec).
    pub rec_weight: f64,
    /// Weight of d(x_0, x_push); 0 leaves the term out, as the paper does on the checkerboard.
    pub push_weight: f64,
    /// Where the operator's eigenvalues are drawn to.
    pub eigenvalues: EigenvalueTarget,
    /// Standard deviation of the noise added to latents in training.
    pub latent_noise: f64,
}

impl Default for LossConfig {
    /// The paper's values.
    fn default() -> Self {
        Self {
            reconstruction: Reconstruction::L2,
            latent_weight: 1.0,
            rec_weight: 1.0,
            push_weight: 1.0,
            eigenvalues: EigenvalueTarget::None,
            latent_noise: 0.4,
        }
    }
}

impl LossConfig {
    /// All that is wrong with it: field and problem.
    pub fn problems(&self) -> Vec<(String, String)> {
        let numbers = [
            ("latent_weight", self.latent_weight),
            ("rec_weight", self.rec_weight),
            ("push_weight", self.push_weight),
            ("latent_noise", self.latent_noise),
        ];
        let bad = numbers.iter().filter(|(_, value)| !(*value >= 0.0 && value.is_finite()));
        bad.map(|(field, value)| ((*field).to_string(), format!("is {value} and must be 0 or more"))).collect()
    }
}
