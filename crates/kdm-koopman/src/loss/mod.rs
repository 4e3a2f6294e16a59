//! The student's loss (paper, the distillation objective):
//!
//! ```text
//! L = w_lat |z_0 - z^_0|^2 + w_rec d(x_0, x_rec) + w_push d(x_0, x_push)
//!     + 0.01 w_adv BCE(disc(x_push), 1) + L_eig
//! ```
//!
//! with means over all elements. A new term needs a variant of [`Term`] with its entry in the
//! catalog of metrics, its weight in [`LossConfig`], and its value in [`Objective::terms`]; all
//! else (logs, validation, tables) goes over the terms that there are.

mod config;
mod distance;
mod operator_term;
mod states;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use kdm_nn::discriminator::cross_entropy;
use kdm_nn::{Discriminator, ForwardMode};

pub use config::{ADVERSARIAL, LossConfig, Reconstruction, Term};
pub use distance::{Distance, HUBER_C};
pub use operator_term::operator_loss;
pub use states::{StateOutputs, StateTensors};

use states::StateInputs;

use crate::Student;
use crate::operator::Complex;

/// A batch of pairs on the device.
#[derive(Clone, Debug)]
pub struct PairTensors {
    /// x_0, `[N, dim]`.
    pub images: Tensor<2>,
    /// x_T, `[N, dim]`, with its full standard deviation.
    pub noise: Tensor<2>,
    /// One-hot labels, `[N, label_dim]`; none when unconditional.
    pub labels: Option<Tensor<2>>,
    /// A state of each pair between noise and image; none where there are none, and for operators
    /// that are no generator.
    pub states: Option<StateTensors>,
}

/// Standard normal numbers for the two latents, `[N, n]` each.
#[derive(Clone, Debug)]
pub struct LatentNoise {
    /// e, for z_0.
    pub clean: Tensor<2>,
    /// e', for z_T.
    pub noise: Tensor<2>,
    /// For z_s; none without states.
    pub states: Option<Tensor<2>>,
}

/// The terms of a loss, unweighted, one number each; and their weighted sum.
#[derive(Clone, Debug)]
pub struct Terms {
    values: BTreeMap<Term, Tensor<1>>,
    total: Tensor<1>,
}

impl Terms {
    /// A term's value; none when the loss doesn't have it.
    pub fn get(&self, term: Term) -> Option<&Tensor<1>> {
        if term == Term::Total { Some(&self.total) } else { self.values.get(&term) }
    }

    /// The weighted sum, which is minimised.
    pub fn total(&self) -> &Tensor<1> {
        &self.total
    }

    /// The terms that the loss has, in order, without their sum.
    pub fn iter(&self) -> impl Iterator<Item = (Term, &Tensor<1>)> {
        self.values.iter().map(|(term, value)| (*term, value))
    }
}

/// What a student makes of a batch.
#[derive(Clone, Debug)]
pub struct StudentOutputs {
    /// x_0, `[N, dim]`.
    pub images: Tensor<2>,
    /// What goes through latents; none for a direct student.
    pub latents: Option<LatentOutputs>,
    /// x_push = D(z^_0), `[N, dim]`; none when it was left out.
    pub push: Option<Tensor<2>>,
}

/// What a Koopman student makes of a batch on the way.
#[derive(Clone, Debug)]
pub struct LatentOutputs {
    /// z_0 = E_0(x_0), `[N, n]`.
    pub clean: Tensor<2>,
    /// z^_0 = C E_T(x_T) + B y, `[N, n]`.
    pub pushed: Tensor<2>,
    /// x_rec = D(z_0), `[N, dim]`.
    pub rec: Tensor<2>,
    /// Of a generator with states between noise and image.
    pub states: Option<StateOutputs>,
}

/// The loss with all it needs beside the networks that it trains.
#[derive(Clone, Debug)]
pub struct Objective {
    /// Its terms' weights.
    pub config: LossConfig,
    /// Targets of the operator's eigenvalues; none when the loss has no such term.
    pub targets: Option<Vec<Complex>>,
    /// d.
    pub distance: Distance,
}

impl Objective {
    /// The objective outside autodiff.
    pub fn valid(&self) -> Self {
        Self { distance: self.distance.valid(), ..self.clone() }
    }

    /// The student's pass through a batch. `latent_noise` is scaled by the configured deviation;
    /// none leaves it out. x_push is drawn when its weight is not 0, or always with `all_terms`.
    pub fn forward(
        &self,
        student: &Student,
        batch: PairTensors,
        latent_noise: Option<LatentNoise>,
        mode: &ForwardMode,
        all_terms: bool,
    ) -> StudentOutputs {
        let PairTensors { images, noise, labels, states } = batch;
        let student = match student {
            Student::Koopman(student) => student,
            Student::Direct(direct) => {
                let push = Some(direct.generate(noise, labels, mode));
                return StudentOutputs { images, latents: None, push };
            }
        };
        let clean = student.encode_clean(images.clone(), labels.clone(), mode);
        let zt = student.encode_noise(noise, labels.clone(), mode);
        let std = self.config.latent_noise;
        let (clean_noisy, zt_noisy, e_states) = match latent_noise {
            Some(e) => (clean.clone() + e.clean * std, zt + e.noise * std, e.states),
            None => (clean.clone(), zt, None),
        };
        let states = states.map(|states| StateInputs {
            states,
            noise: zt_noisy.clone(),
            latent_noise: e_states.map(|e| e * std),
            labels: labels.clone(),
        });
        let states = states.and_then(|inputs| self.of_states(student, inputs, mode, all_terms));
        let pushed = student.push(zt_noisy, labels.clone());
        let rec = student.decode(clean_noisy, labels.clone(), mode);
        let with_push = all_terms || self.config.push_weight > 0.0;
        let push = with_push.then(|| student.decode(pushed.clone(), labels, mode));
        StudentOutputs { images, latents: Some(LatentOutputs { clean, pushed, rec, states }), push }
    }

    /// All terms of what the student made. With a discriminator there is an adversarial one.
    pub fn terms(
        &self,
        outputs: StudentOutputs,
        student: &Student,
        discriminator: Option<&Discriminator>,
    ) -> Terms {
        let StudentOutputs { images, latents, push } = outputs;
        let mut values = BTreeMap::new();
        if let Some(LatentOutputs { clean, pushed, rec, states }) = latents {
            if let Some(states) = states {
                values.extend(self.state_terms(states, &clean, &images));
            }
            values.insert(Term::Latent, (clean - pushed).square().mean());
            values.insert(Term::Rec, self.distance.between(rec, images.clone()));
        }
        if let Some(push) = push {
            if let Some(discriminator) = discriminator {
                let judged = discriminator.forward(self.distance.images(push.clone()));
                values.insert(Term::Adversarial, cross_entropy(judged, true));
            }
            values.insert(Term::Push, self.distance.between(push, images));
        }
        let operator = student.koopman().map(|student| &student.operator);
        if let Some(eigen) = operator.and_then(|op| operator_loss(op, self.targets.as_deref())) {
            values.insert(Term::Eigen, eigen);
        }
        let weighted = values.iter().filter_map(|(term, value)| {
            self.config.factor(*term).map(|factor| value.clone() * factor)
        });
        let total = weighted.reduce(|sum, term| sum + term).expect("a student has a term");
        Terms { values, total }
    }

    /// The discriminator's own loss, BCE(disc(x_0), 1) + BCE(disc(x_push), 0), on detached images:
    /// one number. x_push was drawn.
    pub fn discriminator_loss(
        &self,
        outputs: &StudentOutputs,
        discriminator: &Discriminator,
    ) -> Tensor<1> {
        let push = outputs.push.clone().expect("drawn when there is a discriminator");
        let judged = |x: Tensor<2>, target| {
            cross_entropy(discriminator.forward(self.distance.images(x.detach())), target)
        };
        judged(outputs.images.clone(), true) + judged(push, false)
    }
}
