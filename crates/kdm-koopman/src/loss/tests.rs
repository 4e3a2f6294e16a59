//! Tests of the loss as a whole.

use super::*;
use crate::{EigenvalueTarget, Method, NetworkConfig, OperatorConfig, OperatorKind, StudentConfig};
use burn::module::Module;
use burn::tensor::{Device, Gradients, TensorData};
use kdm_nn::state::{self, load_state, state_dict};
use kdm_nn::{ClassifierConfig, DiscriminatorConfig, InitSeed, Lpips, Perceptual, Pooling};
use kdm_random::normal_vec;

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
        levels: Vec::new(),
        network: NetworkConfig::Mlp { hidden: 10, layers: 2 },
        operator: OperatorConfig { kind, projection, control: label_dim > 0 },
    }
}

fn batch(label_dim: usize, device: &Device) -> PairTensors {
    let labels = (label_dim > 0).then(|| {
        let one_hot = (0..6 * label_dim)
            .map(|k| f32::from(u8::from(k % label_dim == (k / label_dim) % label_dim)));
        Tensor::from_data(TensorData::new(one_hot.collect::<Vec<f32>>(), [6, label_dim]), device)
    });
    let (images, noise) = (rows(1, 6, 2, device), rows(2, 6, 2, device) * 3.0);
    let tau = [0.1, 0.3, 0.5, 0.6, 0.8, 0.95];
    let tau = Tensor::from_data(TensorData::new(tau.to_vec(), [6]), device);
    let states = Some(StateTensors { values: rows(3, 6, 2, device), tau, noise_std: 3.0 });
    PairTensors { images, noise, labels, states }
}

fn objective(config: LossConfig, targets: Option<Vec<Complex>>) -> Objective {
    let distance = Distance::new(config.reconstruction, None, &[2]);
    Objective { config, targets, distance }
}

fn gradients(module: &impl Module, grads: &Gradients) -> BTreeMap<String, Vec<f32>> {
    let values = |data: TensorData| data.as_slice::<f32>().unwrap().to_vec();
    state::gradients(module, grads).into_iter().map(|(name, data)| (name, values(data))).collect()
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
        (OperatorKind::Generator, Some(6), 3),
        (OperatorKind::Generator, None, 0),
    ] {
        let config = config(kind, projection, labels);
        let loss = LossConfig { reconstruction: Reconstruction::Huber, ..LossConfig::default() };
        let targets = EigenvalueTarget::Gradual.targets(config.operator_dim(), 3);
        let objective = objective(loss, targets);
        let student = config.init(7, &device);
        let n = config.operator_dim();
        let total = |student: &Student| {
            let noise = |seed| rows(seed, 6, n, &device);
            let e = LatentNoise { clean: noise(8), noise: noise(9), states: Some(noise(10)) };
            let mode = ForwardMode::evaluation();
            let outputs = objective.forward(student, batch(labels, &device), Some(e), &mode, false);
            objective.terms(outputs, student, None).total().clone()
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
                f64::from(total(&load_state(student.clone(), &state).unwrap()).into_scalar::<f32>())
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

fn total_of(terms: &Terms) -> f64 {
    f64::from(terms.total().clone().into_scalar::<f32>())
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
        let outputs =
            objective.forward(&student, batch(0, &device), None, &ForwardMode::evaluation(), all);
        objective.terms(outputs, &student, None)
    };
    let t = terms(&loss, false);
    let value = |term| f64::from(t.get(term).unwrap().clone().into_scalar::<f32>());
    let sum = 2.0 * value(Term::Latent) + 3.0 * value(Term::Rec) + 0.5 * value(Term::Push);
    assert!((value(Term::Total) - sum).abs() < 1e-5 * sum);
    let without = LossConfig { push_weight: 0.0, ..loss };
    assert!(terms(&without, false).get(Term::Push).is_none());
    let measured = terms(&without, true);
    assert!(measured.get(Term::Push).is_some());
    // What is measured alone is not in the sum.
    assert_eq!(total_of(&measured), total_of(&terms(&without, false)));
}

/// A direct student has push alone, its weights all take part, and it is about as large as
/// encoder and decoder.
#[test]
fn the_direct_student_learns_by_push_alone() {
    let device = Device::flex().autodiff();
    let config = StudentConfig { method: Method::Direct, ..config(OperatorKind::Dense, None, 0) };
    assert_eq!(config.problems(), []);
    let student = config.init(7, &device);
    let objective = objective(LossConfig::default(), None);
    let outputs =
        objective.forward(&student, batch(0, &device), None, &ForwardMode::evaluation(), false);
    let t = objective.terms(outputs, &student, None);
    assert_eq!(t.iter().map(|(term, _)| term).collect::<Vec<Term>>(), [Term::Push]);
    let push = t.get(Term::Push).unwrap().clone();
    assert_eq!(total_of(&t), f64::from(push.into_scalar::<f32>()));
    assert_eq!(gradients(&student, &t.total().backward()).len(), state_dict(&student).len());
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
        levels: Vec::new(),
        network: NetworkConfig::Unet {
            model_channels: 4,
            channel_mult: vec![1, 1],
            num_blocks: 1,
            attn_resolutions: vec![16],
            dropout: 0.1,
        },
        operator: OperatorConfig { kind: OperatorKind::Dense, projection: Some(6), control: true },
    }
}

fn image_batch(device: &Device) -> PairTensors {
    let labels = Tensor::from_floats([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], device);
    let (images, noise) = (rows(1, 3, 3072, device) * 0.5, rows(2, 3, 3072, device));
    PairTensors { images, noise, labels: Some(labels), states: None }
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
    let lpips = Lpips::init(Pooling::Average, &mut InitSeed::new(3), &Device::flex().autodiff());
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
    let discriminator = DiscriminatorConfig { in_channels: 3 }.init(&mut InitSeed::new(4), &device);
    let config = LossConfig { reconstruction, adversarial_weight: 30.0, ..LossConfig::default() };
    let distance = Distance::new(reconstruction, Some(perceptual.no_grad()), &[3, 32, 32]);
    let objective = Objective { config, targets: None, distance };
    let total = |student: &Student| {
        let e = LatentNoise {
            clean: rows(8, 3, 6, &device),
            noise: rows(9, 3, 6, &device),
            states: None,
        };
        let outputs = objective.forward(
            student,
            image_batch(&device),
            Some(e),
            &ForwardMode::training(5),
            false,
        );
        objective.terms(outputs, student, Some(&discriminator)).total().clone()
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
    let discriminator = DiscriminatorConfig { in_channels: 3 }.init(&mut InitSeed::new(4), &device);
    let config = LossConfig { adversarial_weight: 1.0, ..LossConfig::default() };
    let distance = Distance::new(config.reconstruction, None, &[3, 32, 32]);
    let objective = Objective { config, targets: None, distance };
    let outputs =
        objective.forward(&student, image_batch(&device), None, &ForwardMode::evaluation(), false);
    let grads = objective.discriminator_loss(&outputs, &discriminator).backward();
    assert_eq!(gradients(&student, &grads).len(), 0);
    assert!(!gradients(&discriminator, &grads).is_empty());
    let frozen = discriminator.clone().no_grad();
    let grads = objective.terms(outputs, &student, Some(&frozen)).total().backward();
    assert!(!gradients(&student, &grads).is_empty());
    assert_eq!(gradients(&frozen, &grads).len(), 0);
}
