//! The student's loss (paper, the distillation objective):
//!
//! L = w_lat |z_0 - z^_0|^2 + w_rec d(x_0, x_rec) + w_push d(x_0, x_push) + 0.01 w_adv
//! BCE(disc(x_push), 1) + L_eig,
//!
//! means over all elements.

use burn::module::Module;
use burn::tensor::Tensor;
use kdm_nn::discriminator::cross_entropy;
use kdm_nn::{Discriminator, ForwardMode, Perceptual};

use crate::operator::Complex;
use crate::operator::eigen::operator_loss;
use crate::{LossConfig, Reconstruction, Student};

/// c of the pseudo-Huber distance (paper).
pub const HUBER_C: f64 = 0.03;
/// Factor of the adversarial term (paper).
pub const ADVERSARIAL: f64 = 0.01;

/// The distance d between rows of samples.
#[derive(Clone, Debug)]
pub struct Distance {
    kind: Reconstruction,
    perceptual: Option<Perceptual>,
    shape: Vec<usize>,
}

impl Distance {
    /// The distance `kind` between samples of `shape`. The perceptual kinds need their network, and
    /// images that it sees: LPIPS those of one or three channels and sides of at least 16.
    pub fn new(kind: Reconstruction, perceptual: Option<Perceptual>, shape: &[usize]) -> Self {
        Self { kind, perceptual, shape: shape.to_vec() }
    }

    /// d, averaged: `[N, dim]` each -> one number.
    pub fn between(&self, a: Tensor<2>, b: Tensor<2>) -> Tensor<1> {
        let squares = || (a.clone() - b.clone()).square();
        match self.kind {
            Reconstruction::L2 => squares().mean(),
            Reconstruction::Huber => ((squares() + HUBER_C * HUBER_C).sqrt() - HUBER_C).mean(),
            Reconstruction::Lpips => self.perceptual(a, b),
            Reconstruction::L2Lpips | Reconstruction::L2Features => {
                squares().mean() + self.perceptual(a, b)
            }
        }
    }

    fn perceptual(&self, a: Tensor<2>, b: Tensor<2>) -> Tensor<1> {
        let [channels, height, width] = self.shape[..] else {
            unreachable!("perceptual distances are of images")
        };
        let image = |x: Tensor<2>| {
            let n = x.dims()[0];
            x.reshape([n, channels, height, width])
        };
        self.perceptual
            .as_ref()
            .expect("given with the perceptual kinds")
            .forward(image(a), image(b))
            .mean()
    }
}

/// A batch of pairs on the device.
#[derive(Clone, Debug)]
pub struct Batch {
    /// x_0, `[N, dim]`.
    pub images: Tensor<2>,
    /// x_T, `[N, dim]`, with its full standard deviation.
    pub noise: Tensor<2>,
    /// One-hot labels, `[N, label_dim]`; none when unconditional.
    pub labels: Option<Tensor<2>>,
}

/// Standard normal numbers for the two latents, `[N, n]` each.
#[derive(Clone, Debug)]
pub struct LatentNoise {
    /// e, for z_0.
    pub clean: Tensor<2>,
    /// e', for z_T.
    pub noise: Tensor<2>,
}

/// The loss's terms, unweighted, one number each; and the weighted sum.
#[derive(Clone, Debug)]
pub struct Terms {
    /// |z_0 - z^_0|^2; none for a direct student.
    pub latent: Option<Tensor<1>>,
    /// d(x_0, x_rec); none for a direct student.
    pub rec: Option<Tensor<1>>,
    /// d(x_0, x_push); none when it was left out.
    pub push: Option<Tensor<1>>,
    /// BCE(disc(x_push), 1); none without a discriminator.
    pub adversarial: Option<Tensor<1>>,
    /// L_eig; none when there is none.
    pub eigen: Option<Tensor<1>>,
    /// The weighted sum.
    pub total: Tensor<1>,
}

/// What a Koopman student makes of a batch on the way.
#[derive(Clone, Debug)]
pub struct Latents {
    /// z_0, `[N, n]`.
    pub clean: Tensor<2>,
    /// z^_0, `[N, n]`.
    pub pushed: Tensor<2>,
    /// x_rec, `[N, dim]`.
    pub rec: Tensor<2>,
}

/// What a student makes of a batch.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// x_0, `[N, dim]`.
    pub images: Tensor<2>,
    /// z_0 and z^_0, `[N, n]`, and x_rec, `[N, dim]`; none for a direct student.
    pub latents: Option<Latents>,
    /// x_push, `[N, dim]`; none when it was left out.
    pub push: Option<Tensor<2>>,
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
        let mut objective = self.clone();
        objective.distance.perceptual =
            objective.distance.perceptual.map(|network| network.valid());
        objective
    }

    /// The student's way through a batch. `latent_noise` is scaled by the configured deviation;
    /// none leaves it out. x_push is drawn when its weight is not 0, or always with `all_terms`.
    pub fn draw(
        &self,
        student: &Student,
        batch: Batch,
        latent_noise: Option<LatentNoise>,
        mode: &ForwardMode,
        all_terms: bool,
    ) -> Drawn {
        let Batch { images, noise, labels } = batch;
        let student = match student {
            Student::Koopman(student) => student,
            Student::Direct(direct) => {
                let push = Some(direct.generate(noise, labels, mode));
                return Drawn { images, latents: None, push };
            }
        };
        let clean = student.encode_clean(images.clone(), labels.clone(), mode);
        let zt = student.encode_noise(noise, labels.clone(), mode);
        let (clean_noisy, zt_noisy) = match latent_noise {
            Some(e) => {
                let std = self.config.latent_noise;
                (clean.clone() + e.clean * std, zt + e.noise * std)
            }
            None => (clean.clone(), zt),
        };
        let pushed = student.push(zt_noisy, labels.clone());
        let rec = student.decode(clean_noisy, labels.clone(), mode);
        let with_push = all_terms || self.config.push_weight > 0.0;
        let push = with_push.then(|| student.decode(pushed.clone(), labels, mode));
        Drawn { images, latents: Some(Latents { clean, pushed, rec }), push }
    }

    /// All terms of what the student made.
    pub fn terms(
        &self,
        drawn: Drawn,
        student: &Student,
        discriminator: Option<&Discriminator>,
    ) -> Terms {
        let Drawn { images, latents, push } = drawn;
        let config = &self.config;
        let (latent, rec) = match latents {
            Some(Latents { clean, pushed, rec }) => (
                Some((clean - pushed).square().mean()),
                Some(self.distance.between(rec, images.clone())),
            ),
            None => (None, None),
        };
        let adversarial = discriminator
            .zip(push.clone())
            .map(|(d, x)| cross_entropy(d.forward(self.image(x)), true));
        let push = push.map(|push| self.distance.between(push, images));
        let eigen =
            student.koopman().and_then(|s| operator_loss(&s.operator, self.targets.as_deref()));
        let weighted = [
            latent.clone().map(|latent| latent * config.latent_weight),
            rec.clone().map(|rec| rec * config.rec_weight),
            push.clone().filter(|_| config.push_weight > 0.0).map(|push| push * config.push_weight),
            adversarial.clone().map(|a| a * (ADVERSARIAL * config.adversarial_weight)),
            eigen.clone(),
        ];
        let total = weighted
            .into_iter()
            .flatten()
            .reduce(|sum, term| sum + term)
            .expect("a student has a term");
        Terms { latent, rec, push, adversarial, eigen, total }
    }

    /// The discriminator's own loss, BCE(disc(x_0), 1) + BCE(disc(x_push), 0), on detached images:
    /// one number.
    pub fn discriminator_loss(&self, drawn: &Drawn, discriminator: &Discriminator) -> Tensor<1> {
        let push = drawn.push.clone().expect("drawn when there is a discriminator");
        let judged = |x: Tensor<2>, target| {
            cross_entropy(discriminator.forward(self.image(x.detach())), target)
        };
        judged(drawn.images.clone(), true) + judged(push, false)
    }

    fn image(&self, x: Tensor<2>) -> Tensor<4> {
        let [channels, height, width] = self.distance.shape[..] else {
            unreachable!("discriminators judge images")
        };
        let n = x.dims()[0];
        x.reshape([n, channels, height, width])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        EigenvalueTarget, Method, NetworkConfig, OperatorConfig, OperatorKind, StudentConfig,
    };
    use burn::tensor::{Device, Gradients, TensorData};
    use kdm_nn::state::{self, load_state, state_dict};
    use kdm_nn::{ClassifierConfig, DiscriminatorConfig, InitSeed, Lpips, Pooling};
    use kdm_random::normal_vec;
    use std::collections::BTreeMap;

    fn rows(seed: u64, n: usize, width: usize, device: &Device) -> Tensor<2> {
        Tensor::from_data(TensorData::new(normal_vec(seed, n * width), [n, width]), device)
    }

    fn config(kind: OperatorKind, projection: Option<usize>, label_dim: usize) -> StudentConfig {
        StudentConfig {
            method: Method::Koopman,
            shape: vec![2],
            label_dim,
            noise_std: 3.0,
            latent: 8,
            network: NetworkConfig::Mlp { hidden: 10, layers: 2 },
            operator: OperatorConfig { kind, projection, control: label_dim > 0 },
        }
    }

    fn batch(label_dim: usize, device: &Device) -> Batch {
        let labels = (label_dim > 0).then(|| {
            let one_hot = (0..6 * label_dim)
                .map(|k| f32::from(u8::from(k % label_dim == (k / label_dim) % label_dim)));
            Tensor::from_data(
                TensorData::new(one_hot.collect::<Vec<f32>>(), [6, label_dim]),
                device,
            )
        });
        Batch { images: rows(1, 6, 2, device), noise: rows(2, 6, 2, device) * 3.0, labels }
    }

    #[test]
    fn distances_by_hand() {
        let device = Device::flex();
        let (a, b) = (rows(1, 1, 2, &device), rows(1, 1, 2, &device) + 0.04);
        let value = |kind| {
            let distance = Distance::new(kind, None, &[2]);
            f64::from(distance.between(a.clone(), b.clone()).into_scalar::<f32>())
        };
        assert!((value(Reconstruction::L2) - 0.0016).abs() < 1e-7);
        assert!((value(Reconstruction::Huber) - 0.02).abs() < 1e-6);
    }

    fn objective(config: LossConfig, targets: Option<Vec<Complex>>) -> Objective {
        let distance = Distance::new(config.reconstruction, None, &[2]);
        Objective { config, targets, distance }
    }

    fn gradients(module: &impl Module, grads: &Gradients) -> BTreeMap<String, Vec<f32>> {
        let values = |data: TensorData| data.as_slice::<f32>().unwrap().to_vec();
        state::gradients(module, grads)
            .into_iter()
            .map(|(name, data)| (name, values(data)))
            .collect()
    }

    /// Every parameter's gradient of the whole loss, with all its parts on, against central
    /// differences.
    #[test]
    fn gradients_equal_finite_differences() {
        let device = Device::flex().autodiff();
        for (kind, projection, labels) in [
            (OperatorKind::Dense, None, 0),
            (OperatorKind::Dense, Some(5), 3),
            (OperatorKind::Factorized, Some(5), 3),
        ] {
            let config = config(kind, projection, labels);
            let loss =
                LossConfig { reconstruction: Reconstruction::Huber, ..LossConfig::default() };
            let targets = EigenvalueTarget::Gradual.targets(config.operator_dim(), 3);
            let objective = objective(loss, targets);
            let student = config.init(7, &device);
            let n = config.operator_dim();
            let total = |student: &Student| {
                let e =
                    LatentNoise { clean: rows(8, 6, n, &device), noise: rows(9, 6, n, &device) };
                let mode = ForwardMode::evaluation();
                let drawn = objective.draw(student, batch(labels, &device), Some(e), &mode, false);
                objective.terms(drawn, student, None).total
            };
            let state = state_dict(&student);
            let grads = gradients(&student, &total(&student).backward());
            assert_eq!(grads.len(), state.len(), "every parameter takes part");
            for (name, grad) in &grads {
                let k = grad.len() / 3;
                let moved = |delta: f32| {
                    let mut state = state.clone();
                    let data = state.get_mut(name).unwrap();
                    let mut values = data.as_slice::<f32>().unwrap().to_vec();
                    values[k] += delta;
                    *data = TensorData::new(values, data.shape().clone());
                    f64::from(
                        total(&load_state(student.clone(), &state).unwrap()).into_scalar::<f32>(),
                    )
                };
                let h = 4e-3f32;
                let difference = (moved(h) - moved(-h)) / (2.0 * f64::from(h));
                // f32: a loss of size 2 rounds by 2e-7, over 8e-3; curvature times h^2.
                let error = (difference - f64::from(grad[k])).abs();
                assert!(
                    error < 1e-3 * (1.0 + difference.abs()),
                    "{kind:?} {name}: {difference} {}",
                    grad[k]
                );
            }
        }
    }

    #[test]
    fn total_is_the_weighted_sum() {
        let device = Device::flex();
        let student = config(OperatorKind::Dense, None, 0).init(7, &device);
        let loss = LossConfig {
            latent_weight: 2.0,
            rec_weight: 3.0,
            push_weight: 0.5,
            ..LossConfig::default()
        };
        let terms = |loss: &LossConfig, all| {
            let objective = objective(loss.clone(), None);
            let drawn =
                objective.draw(&student, batch(0, &device), None, &ForwardMode::evaluation(), all);
            objective.terms(drawn, &student, None)
        };
        let t = terms(&loss, false);
        let value = |x: Tensor<1>| f64::from(x.into_scalar::<f32>());
        let sum = 2.0 * value(t.latent.unwrap())
            + 3.0 * value(t.rec.unwrap())
            + 0.5 * value(t.push.unwrap());
        assert!((value(t.total) - sum).abs() < 1e-5 * sum);
        let without = LossConfig { push_weight: 0.0, ..loss };
        assert!(terms(&without, false).push.is_none());
        assert!(terms(&without, true).push.is_some());
    }

    /// A direct student has push alone, its weights all take part, and it is about as large as
    /// encoder and decoder.
    #[test]
    fn the_direct_student_learns_by_push_alone() {
        let device = Device::flex().autodiff();
        let config =
            StudentConfig { method: Method::Direct, ..config(OperatorKind::Dense, None, 0) };
        assert_eq!(config.problems(), []);
        let student = config.init(7, &device);
        let objective = objective(LossConfig::default(), None);
        let drawn =
            objective.draw(&student, batch(0, &device), None, &ForwardMode::evaluation(), false);
        let t = objective.terms(drawn, &student, None);
        assert!(t.latent.is_none() && t.rec.is_none() && t.eigen.is_none());
        let value = |x: &Tensor<1>| f64::from(x.clone().into_scalar::<f32>());
        assert_eq!(value(&t.total), value(t.push.as_ref().unwrap()));
        assert_eq!(gradients(&student, &t.total.backward()).len(), state_dict(&student).len());
        let koopman = StudentConfig { method: Method::Koopman, ..image_student() };
        let direct = StudentConfig {
            method: Method::Direct,
            operator: OperatorConfig { control: false, ..koopman.operator.clone() },
            ..koopman.clone()
        };
        let ratio = direct.flops(false, true) / koopman.flops(false, true);
        assert!((0.8..1.1).contains(&ratio), "{ratio}");
    }

    fn image_student() -> StudentConfig {
        StudentConfig {
            method: Method::Koopman,
            shape: vec![3, 32, 32],
            label_dim: 2,
            noise_std: 1.0,
            latent: 1024,
            network: NetworkConfig::Unet {
                model_channels: 4,
                channel_mult: vec![1, 1],
                num_blocks: 1,
                attn_resolutions: vec![16],
                dropout: 0.1,
            },
            operator: OperatorConfig {
                kind: OperatorKind::Dense,
                projection: Some(6),
                control: true,
            },
        }
    }

    fn image_batch(device: &Device) -> Batch {
        let labels = Tensor::from_floats([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], device);
        let (images, noise) = (rows(1, 3, 3072, device) * 0.5, rows(2, 3, 3072, device));
        Batch { images, noise, labels: Some(labels) }
    }

    /// A module whose weights are all of a size: fresh U-Nets have last convolutions that are
    /// almost zero, and then nothing before them matters.
    fn shaken<M: Module>(module: M) -> M {
        let mut state = state_dict(&module);
        for (i, data) in state.values_mut().enumerate() {
            let count = data.shape().num_elements();
            let inputs: usize = data.shape().iter().skip(1).product();
            let more = normal_vec(100 + i as u64, count);
            let old = data.as_slice::<f32>().unwrap().to_vec();
            let values: Vec<f32> = old
                .iter()
                .zip(more)
                .map(|(x, e)| x + 0.5 * e / (inputs as f32).sqrt().max(2.0))
                .collect();
            *data = TensorData::new(values, data.shape().clone());
        }
        load_state(module, &state).unwrap()
    }

    #[test]
    fn gradients_with_lpips_equal_finite_differences() {
        let lpips =
            Lpips::init(Pooling::Average, &mut InitSeed::new(3), &Device::flex().autodiff());
        image_gradients(Reconstruction::L2Lpips, Perceptual::Lpips(lpips));
    }

    #[test]
    fn gradients_with_a_classifier_equal_finite_differences() {
        let config = ClassifierConfig { resolution: 32, in_channels: 3, classes: 2, width: 4 };
        let classifier = config.init(&mut InitSeed::new(3), &Device::flex().autodiff());
        image_gradients(Reconstruction::L2Features, Perceptual::Classifier(classifier));
    }

    /// An image student with all its terms: dropout drawn from a seed, a discriminator, squared
    /// error and a perceptual distance. Derivatives along each parameter's own gradient, against
    /// central differences.
    fn image_gradients(reconstruction: Reconstruction, perceptual: Perceptual) {
        let device = Device::flex().autodiff();
        let student = shaken(image_student().init(7, &device));
        let discriminator =
            DiscriminatorConfig { in_channels: 3 }.init(&mut InitSeed::new(4), &device);
        let config =
            LossConfig { reconstruction, adversarial_weight: 30.0, ..LossConfig::default() };
        let distance = Distance::new(reconstruction, Some(perceptual.no_grad()), &[3, 32, 32]);
        let objective = Objective { config, targets: None, distance };
        let total = |student: &Student| {
            let e = LatentNoise { clean: rows(8, 3, 6, &device), noise: rows(9, 3, 6, &device) };
            let drawn = objective.draw(
                student,
                image_batch(&device),
                Some(e),
                &ForwardMode::training(5),
                false,
            );
            objective.terms(drawn, student, Some(&discriminator)).total
        };
        let state = state_dict(&student);
        let grads = gradients(&student, &total(&student).backward());
        assert_eq!(grads.len(), state.len(), "every parameter takes part");
        for name in [
            "clean_encoder.enc.32x32_conv.weight",
            "noise_encoder.enc.16x16_block0.qkv.weight",
            "noise_encoder.map_label.weight",
            "operator.linear.weight",
            "control.weight",
            "projection.decoder.weight",
            "decoder.dec.32x32_up.conv0.weight",
            "decoder.dec.32x32_aux_conv.weight",
        ] {
            let grad = &grads[name];
            let length = grad.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            let moved = |delta: f64| {
                let mut state = state.clone();
                let data = state.get_mut(name).unwrap();
                let mut values = data.as_slice::<f32>().unwrap().to_vec();
                values
                    .iter_mut()
                    .zip(grad)
                    .for_each(|(v, g)| *v += (delta * f64::from(*g) / length) as f32);
                *data = TensorData::new(values, data.shape().clone());
                f64::from(total(&load_state(student.clone(), &state).unwrap()).into_scalar::<f32>())
            };
            // A step that changes the loss by about 0.004: f32 rounds it by 1e-6 twice, and ReLUs
            // make it bend.
            let h = (2e-3 / length).min(0.02);
            let slope = (moved(h) - moved(-h)) / (2.0 * h);
            assert!((slope / length - 1.0).abs() < 0.03, "{name}: {slope} {length}");
        }
    }

    /// The discriminator learns from its own loss alone, and the student's loss leaves it alone
    /// when it is frozen.
    #[test]
    fn discriminator_and_student_learn_apart() {
        let device = Device::flex().autodiff();
        let student = image_student().init(7, &device);
        let discriminator =
            DiscriminatorConfig { in_channels: 3 }.init(&mut InitSeed::new(4), &device);
        let config = LossConfig { adversarial_weight: 1.0, ..LossConfig::default() };
        let distance = Distance::new(config.reconstruction, None, &[3, 32, 32]);
        let objective = Objective { config, targets: None, distance };
        let drawn =
            objective.draw(&student, image_batch(&device), None, &ForwardMode::evaluation(), false);
        let grads = objective.discriminator_loss(&drawn, &discriminator).backward();
        assert_eq!(gradients(&student, &grads).len(), 0);
        assert!(!gradients(&discriminator, &grads).is_empty());
        let frozen = discriminator.clone().no_grad();
        let grads = objective.terms(drawn, &student, Some(&frozen)).total.backward();
        assert!(!gradients(&student, &grads).is_empty());
        assert_eq!(gradients(&frozen, &grads).len(), 0);
    }
}
