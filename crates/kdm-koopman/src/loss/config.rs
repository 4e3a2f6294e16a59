//! What a student is trained for, as plain data; the same words as in presets and model files.

use kdm_metrics::catalog::{self, Metric};
use kdm_nn::Problem;
use serde::{Deserialize, Serialize};

use crate::EigenvalueTarget;

/// Factor of the adversarial term (paper).
pub const ADVERSARIAL: f64 = 0.01;

/// A term of the loss, or the sum of them. Ordered as they are logged and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Term {
    /// |z_0 - z^_0|^2.
    Latent,
    /// d(x_0, x_rec).
    Rec,
    /// d(x_0, x_push).
    Push,
    /// BCE(disc(x_push), 1).
    Adversarial,
    /// L_eig.
    Eigen,
    /// Of a generator: |z_s - C(T -> s) z_T|^2 and |z_0 - C(s -> 0) z_s|^2, halved.
    StateLatent,
    /// Of a generator: d(x_0, D(C(s -> 0) z_s)).
    StatePush,
    /// Of a generator: |x_s - D(C(T -> s) z_T, s)|^2, over the state's scale.
    State,
    /// The weighted sum of the terms above.
    Total,
    /// The discriminator's own loss, BCE(disc(x_0), 1) + BCE(disc(x_push), 0); not in the sum.
    Discriminator,
}

impl Term {
    /// All of them, in order.
    pub const ALL: [Self; 10] = [
        Self::Latent,
        Self::Rec,
        Self::Push,
        Self::Adversarial,
        Self::Eigen,
        Self::StateLatent,
        Self::StatePush,
        Self::State,
        Self::Total,
        Self::Discriminator,
    ];

    /// Its entry in the catalog of metrics.
    pub fn metric(self) -> &'static Metric {
        match self {
            Self::Latent => &catalog::LATENT,
            Self::Rec => &catalog::REC,
            Self::Push => &catalog::PUSH,
            Self::Adversarial => &catalog::ADVERSARIAL,
            Self::Eigen => &catalog::EIGEN,
            Self::StateLatent => &catalog::STATE_LATENT,
            Self::StatePush => &catalog::STATE_PUSH,
            Self::State => &catalog::STATE,
            Self::Total => &catalog::TOTAL,
            Self::Discriminator => &catalog::DISCRIMINATOR,
        }
    }

    /// Its key in logs and tables.
    pub fn name(self) -> &'static str {
        self.metric().key
    }
}

/// The distance d between an image and what the decoder makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reconstruction {
    /// Mean squared error.
    L2,
    /// Pseudo-Huber, sqrt(u^2 + c^2) - c with c = 0.03, averaged.
    Huber,
    /// LPIPS on VGG16 with average pooling.
    Lpips,
    /// The sum of the squared error and LPIPS.
    #[serde(rename = "l2+lpips")]
    L2Lpips,
    /// The sum of the squared error and the distance in a classifier's layers; see
    /// [`kdm_nn::Perceptual`].
    #[serde(rename = "l2+features")]
    L2Features,
}

impl Reconstruction {
    /// Whether it needs VGG16's weights.
    pub fn has_lpips(self) -> bool {
        matches!(self, Self::Lpips | Self::L2Lpips)
    }

    /// Whether it needs a classifier.
    pub fn has_features(self) -> bool {
        self == Self::L2Features
    }
}

/// The terms of the loss and their weights. It names no file: a perceptual distance's network is
/// given beside it, and a model file says which one that was (see
/// [`crate::student_file::PerceptualStamp`]).
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
    /// Weight of the adversarial term, on top of its factor [`ADVERSARIAL`]; 0 for no
    /// discriminator.
    #[serde(default)]
    pub adversarial_weight: f64,
    /// Where the operator's eigenvalues are drawn to.
    pub eigenvalues: EigenvalueTarget,
    /// Standard deviation of the noise added to latents in training.
    pub latent_noise: f64,
    /// Of a generator with states between noise and image: weight of their latents.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub state_latent_weight: f64,
    /// Of the same: weight of the image decoded from each; 0 leaves the pass out.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub state_push_weight: f64,
    /// Of the same: weight of the states decoded; 0 leaves the pass out.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub state_weight: f64,
}

/// The weights of terms of states that older files don't name.
fn one() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_one(x: &f64) -> bool {
    *x == 1.0
}

impl Default for LossConfig {
    /// The paper's values.
    fn default() -> Self {
        Self {
            reconstruction: Reconstruction::L2,
            latent_weight: 1.0,
            rec_weight: 1.0,
            push_weight: 1.0,
            adversarial_weight: 0.0,
            eigenvalues: EigenvalueTarget::None,
            latent_noise: 0.4,
            state_latent_weight: 1.0,
            state_push_weight: 1.0,
            state_weight: 1.0,
        }
    }
}

impl LossConfig {
    /// The factor of a term in the sum; none for a term that is not in it.
    pub fn factor(&self, term: Term) -> Option<f64> {
        match term {
            Term::Latent => Some(self.latent_weight),
            Term::Rec => Some(self.rec_weight),
            Term::Push => Some(self.push_weight).filter(|weight| *weight > 0.0),
            Term::Adversarial => Some(ADVERSARIAL * self.adversarial_weight),
            Term::Eigen => Some(1.0),
            Term::StateLatent => Some(self.state_latent_weight),
            Term::StatePush => Some(self.state_push_weight).filter(|weight| *weight > 0.0),
            Term::State => Some(self.state_weight).filter(|weight| *weight > 0.0),
            Term::Total | Term::Discriminator => None,
        }
    }

    /// Whether any term of states between noise and image counts.
    pub fn has_states(&self) -> bool {
        [self.state_latent_weight, self.state_push_weight, self.state_weight]
            .iter()
            .any(|w| *w > 0.0)
    }

    /// All that is wrong with it.
    pub fn problems(&self) -> Vec<Problem> {
        let numbers = [
            ("latent_weight", self.latent_weight),
            ("rec_weight", self.rec_weight),
            ("push_weight", self.push_weight),
            ("adversarial_weight", self.adversarial_weight),
            ("latent_noise", self.latent_noise),
            ("state_latent_weight", self.state_latent_weight),
            ("state_push_weight", self.state_push_weight),
            ("state_weight", self.state_weight),
        ];
        let bad = numbers.iter().filter(|(_, value)| !(*value >= 0.0 && value.is_finite()));
        let mut problems: Vec<Problem> = bad
            .map(|(field, value)| Problem::new(*field, format!("is {value} and must be 0 or more")))
            .collect();
        if self.adversarial_weight > 0.0 && self.push_weight == 0.0 {
            let problem = "is above 0, and the adversarial term judges x_push, which push_weight \
                           0 leaves out";
            problems.push(Problem::new("adversarial_weight", problem));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files and logs name a term in the same way.
    #[test]
    fn terms_serialise_as_their_names() {
        let all = [
            Term::Latent,
            Term::Rec,
            Term::Push,
            Term::Adversarial,
            Term::Eigen,
            Term::StateLatent,
            Term::StatePush,
            Term::State,
            Term::Total,
            Term::Discriminator,
        ];
        for term in all {
            assert_eq!(serde_json::to_value(term).unwrap(), term.name());
        }
        assert!(all.is_sorted());
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert_eq!(LossConfig::default().problems(), []);
        let bad = LossConfig { rec_weight: -1.0, latent_noise: f64::NAN, ..LossConfig::default() };
        let fields: Vec<String> = bad.problems().into_iter().map(|p| p.field).collect();
        assert_eq!(fields, ["rec_weight", "latent_noise"]);
        let judged =
            LossConfig { adversarial_weight: 1.0, push_weight: 0.0, ..LossConfig::default() };
        assert_eq!(judged.problems()[0].field, "adversarial_weight");
    }
}
