//! The terms of states between noise and image, for students whose operator is a generator:
//!
//! ```text
//! z_s = E_T(x_s, s)      |z_s - C(T -> s) z_T|^2 / 2 + |z_0 - C(s -> 0) z_s|^2 / 2
//! d(x_0, D(C(s -> 0) z_s))                   |x_s - D(C(T -> s) z_T, s)|^2
//! ```

use burn::tensor::Tensor;
use kdm_nn::ForwardMode;

use super::{Objective, Term};
use crate::Koopman;

/// A state of each pair of a batch.
#[derive(Clone, Debug)]
pub struct StateTensors {
    /// x_s over its scale sqrt(alpha^2 + sigma^2), `[N, dim]`.
    pub values: Tensor<2>,
    /// Normalised time, 0 at noise and 1 at the image, `[N]`.
    pub tau: Tensor<1>,
    /// Deviation of x_T, which the noise encoder takes states at.
    pub noise_std: f64,
}

/// What a student makes of states.
#[derive(Clone, Debug)]
pub struct StateOutputs {
    /// z_s, `[N, n]`.
    pub latents: Tensor<2>,
    /// C(T -> s) z_T, `[N, n]`.
    pub arrived: Tensor<2>,
    /// C(s -> 0) z_s, `[N, n]`.
    pub pushed: Tensor<2>,
    /// D(C(s -> 0) z_s), `[N, dim]`; none when it was left out.
    pub push: Option<Tensor<2>>,
    /// D(C(T -> s) z_T, s) and x_s, `[N, dim]` each; none when it was left out.
    pub decoded: Option<(Tensor<2>, Tensor<2>)>,
}

/// What the terms of states are found from.
pub(super) struct StateInputs {
    pub states: StateTensors,
    /// z~_T, `[N, n]`.
    pub noise: Tensor<2>,
    /// What is added to z_s, `[N, n]`.
    pub latent_noise: Option<Tensor<2>>,
    pub labels: Option<Tensor<2>>,
}

impl Objective {
    /// The student's pass through states; none where its operator is no generator.
    pub(super) fn of_states(
        &self,
        student: &Koopman,
        inputs: StateInputs,
        mode: &ForwardMode,
        all_terms: bool,
    ) -> Option<StateOutputs> {
        let generator = student.operator.generator()?;
        let StateInputs { states, noise, latent_noise, labels } = inputs;
        let StateTensors { values, tau, noise_std } = states;
        let loud = values.clone() * noise_std;
        let latents = student.encode_state(loud, tau.clone(), labels.clone(), mode);
        let noisy = match latent_noise {
            Some(e) => latents.clone() + e,
            None => latents.clone(),
        };
        let left = tau.clone().neg() + 1.0;
        let arrived = student.advance(generator, noise, tau.clone(), labels.clone());
        let pushed = student.advance(generator, noisy, left, labels.clone());
        let push = (all_terms || self.config.state_push_weight > 0.0)
            .then(|| student.decode(pushed.clone(), labels.clone(), mode));
        let decoded = (all_terms || self.config.state_weight > 0.0)
            .then(|| (student.decode_at(arrived.clone(), tau, labels, mode), values));
        Some(StateOutputs { latents, arrived, pushed, push, decoded })
    }

    /// The terms of states, beside z_0 and x_0.
    pub(super) fn state_terms(
        &self,
        states: StateOutputs,
        clean: &Tensor<2>,
        images: &Tensor<2>,
    ) -> Vec<(Term, Tensor<1>)> {
        let StateOutputs { latents, arrived, pushed, push, decoded } = states;
        let off = |a: Tensor<2>, b: Tensor<2>| (a - b).square().mean();
        let latent = (off(latents, arrived) + off(clean.clone(), pushed)) * 0.5;
        let push = push.map(|push| (Term::StatePush, self.distance.between(push, images.clone())));
        let state = decoded.map(|(found, states)| (Term::State, off(found, states)));
        [Some((Term::StateLatent, latent)), push, state].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::loss::{Distance, PairTensors};
    use crate::{
        LossConfig, Method, NetworkConfig, OperatorConfig, OperatorKind, Reconstruction, Student,
        StudentConfig,
    };

    fn rows(seed: u64, width: usize) -> Tensor<2> {
        let values = kdm_random::normal_vec(seed, 5 * width);
        Tensor::from_data(TensorData::new(values, [5, width]), &Device::flex())
    }

    fn at(tau: f32) -> Tensor<1> {
        Tensor::full([5], tau, &Device::flex())
    }

    fn config(kind: OperatorKind, network: NetworkConfig, shape: &[usize]) -> StudentConfig {
        let operator = OperatorConfig { kind, projection: Some(6), control: true };
        StudentConfig {
            method: Method::Koopman,
            shape: shape.to_vec(),
            label_dim: 2,
            noise_std: 7.0,
            latent: 16,
            levels: Vec::new(),
            network,
            operator,
        }
    }

    fn off(a: Tensor<2>, b: Tensor<2>) -> f32 {
        (a - b).abs().max().into_scalar::<f32>()
    }

    /// States at the ends are noise and image: what the student makes of them is what it makes of
    /// these, for both kinds of networks.
    #[test]
    fn the_ends_of_time_are_noise_and_image() {
        let unet = NetworkConfig::Unet {
            model_channels: 8,
            channel_mult: vec![1, 1],
            num_blocks: 1,
            attn_resolutions: vec![],
            dropout: 0.0,
        };
        for (network, shape) in
            [(NetworkConfig::Mlp { hidden: 9, layers: 3 }, &[3][..]), (unet, &[1, 4, 4][..])]
        {
            let config = config(OperatorKind::Generator, network, shape);
            let student = config.init(3, &Device::flex());
            let student = student.koopman().unwrap();
            let (x, z, mode) = (rows(1, config.dim()), rows(2, 6), ForwardMode::evaluation());
            let y = || Some(rows(4, 2));
            let generator = student.operator.generator().unwrap();
            let noise = student.encode_noise(x.clone(), y(), &mode);
            assert_eq!(off(noise, student.encode_state(x, at(0.0), y(), &mode)), 0.0);
            let image = student.decode(z.clone(), y(), &mode);
            assert_eq!(off(image, student.decode_at(z.clone(), at(1.0), y(), &mode)), 0.0);
            let pushed = student.push(z.clone(), y());
            let advanced = student.advance(generator, z.clone(), at(1.0), y());
            assert!(off(pushed, advanced) < 1e-4);
            assert!(off(z.clone(), student.advance(generator, z.clone(), at(0.0), y())) < 1e-6);
            // On the way and on from there, controls and all.
            let halfway = student.advance(generator, z.clone(), at(0.3), y());
            let there = student.advance(generator, halfway, at(0.7), y());
            assert!(off(there, student.push(z, y())) < 1e-4);
        }
    }

    /// The terms are those of their formulas; other operators have none; weights of 0 leave passes
    /// out.
    #[test]
    fn terms_are_of_states() {
        let mlp = || NetworkConfig::Mlp { hidden: 9, layers: 3 };
        let loss = LossConfig { latent_noise: 0.0, ..LossConfig::default() };
        let objective = |config: LossConfig| Objective {
            distance: Distance::new(Reconstruction::L2, None, &[3]),
            targets: None,
            config,
        };
        let batch = || PairTensors {
            images: rows(1, 3),
            noise: rows(2, 3),
            labels: Some(rows(4, 2)),
            states: Some(StateTensors { values: rows(5, 3), tau: at(0.25), noise_std: 7.0 }),
        };
        let mode = ForwardMode::evaluation();
        let terms = |student: &Student, objective: &Objective| {
            let outputs = objective.forward(student, batch(), None, &mode, false);
            objective.terms(outputs, student, None)
        };
        let config_of = |kind| config(kind, mlp(), &[3]);
        let student = config_of(OperatorKind::Generator).init(3, &Device::flex());
        let all = terms(&student, &objective(loss.clone()));
        let koopman = student.koopman().unwrap();
        let (y, generator) = (|| Some(rows(4, 2)), koopman.operator.generator().unwrap());
        let z_t = koopman.encode_noise(rows(2, 3), y(), &mode);
        let z_0 = koopman.encode_clean(rows(1, 3), y(), &mode);
        let z_s = koopman.encode_state(rows(5, 3) * 7.0, at(0.25), y(), &mode);
        let arrived = koopman.advance(generator, z_t, at(0.25), y());
        let pushed = koopman.advance(generator, z_s.clone(), at(0.75), y());
        let mean = |a: Tensor<2>, b: Tensor<2>| (a - b).square().mean().into_scalar::<f32>();
        let value = |term| all.get(term).map(|value| value.clone().into_scalar::<f32>()).unwrap();
        for (term, expected) in [
            (Term::StateLatent, (mean(z_s, arrived.clone()) + mean(z_0, pushed.clone())) / 2.0),
            (Term::StatePush, mean(koopman.decode(pushed, y(), &mode), rows(1, 3))),
            (Term::State, mean(koopman.decode_at(arrived, at(0.25), y(), &mode), rows(5, 3))),
        ] {
            let off = (value(term) - expected).abs();
            assert!(off < 1e-5 * (1.0 + expected), "{term:?}: {} {expected}", value(term));
        }
        let few = LossConfig { state_push_weight: 0.0, state_weight: 0.0, ..loss.clone() };
        let few = terms(&student, &objective(few));
        assert!(few.get(Term::StateLatent).is_some() && few.get(Term::State).is_none());
        assert!(few.get(Term::StatePush).is_none());
        let dense = config_of(OperatorKind::Dense).init(3, &Device::flex());
        assert!(terms(&dense, &objective(loss)).get(Term::StateLatent).is_none());
    }
}
