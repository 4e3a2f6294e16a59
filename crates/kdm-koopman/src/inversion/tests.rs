//! Tests of the inversion.

use super::*;
use crate::{Method, NetworkConfig, OperatorConfig, OperatorKind};
use burn::tensor::TensorData;
use kdm_observer::Silent;
use kdm_random::normal_vec;

/// What was pushed comes back; where the operator forgets a direction, what is pushed again is
/// the same.
#[test]
fn pulling_back_undoes_the_operator() {
    let n = 5;
    let mut matrix: Vec<f64> = normal_vec(1, n * n).into_iter().map(f64::from).collect();
    let push = |matrix: &[f64], z: &[f32]| -> Vec<f32> {
        let row = |r: usize, i: usize| {
            (0..n).map(|j| matrix[i * n + j] * f64::from(z[r * n + j])).sum::<f64>() + 0.5
        };
        (0..z.len()).map(|p| row(p / n, p % n) as f32).collect()
    };
    let off =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let z = normal_vec(2, 3 * n);
    let back = |matrix: &[f64], pushed: &[f32]| {
        let affine = Affine { n, matrix: matrix.to_vec(), bias: vec![0.25; n] };
        pull_back(&affine, pushed, &vec![0.25; pushed.len()], 1e-9).unwrap()
    };
    assert!(off(&back(&matrix, &push(&matrix, &z)), &z) < 1e-4);
    (0..n).for_each(|i| matrix[i * n + 2] = 0.0);
    let pushed = push(&matrix, &z);
    let found = back(&matrix, &pushed);
    assert!(off(&push(&matrix, &found), &pushed) < 1e-4);
    assert!(found.chunks(n).all(|row| row[2].abs() < 1e-5));
}

/// For an affine student, noise is found whose sample is the image, and kept at its length when
/// asked.
#[test]
fn descent_finds_the_noise_of_an_affine_student() {
    let config = StudentConfig {
        method: Method::Koopman,
        shape: vec![3],
        label_dim: 2,
        noise_std: 1.0,
        latent: 3,
        levels: Vec::new(),
        network: NetworkConfig::Affine,
        operator: OperatorConfig { kind: OperatorKind::Dense, projection: None, control: true },
    };
    let device = Device::flex();
    let student = config.init(3, &device).koopman().unwrap().clone();
    let labels = Labels::of(&[0, 1]);
    let parts = Stepwise { student: &student, config: &config, device: &device };
    let inverter = Inverter::new(parts, &labels);
    let draw = |noise: &[f32]| {
        let x = Tensor::from_data(TensorData::new(noise.to_vec(), [2, 3]), &inverter.device);
        let images =
            inverter.student.generate(x, inverter.labels.clone(), &ForwardMode::evaluation());
        images.try_into_vec_as::<f32>().unwrap()
    };
    let images = draw(&normal_vec(4, 6));
    let error =
        |noise: &[f32]| draw(noise).iter().zip(&images).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
    let start = normal_vec(5, 6);
    let descent = |steps, length| Descent { steps, rate: 0.1, length };
    let found = inverter.refine_noise(&start, &images, descent(600, None), &Silent).unwrap();
    assert!(error(&found) < 1e-3 * error(&start), "{} {}", error(&found), error(&start));
    let kept = inverter.refine_noise(&start, &images, descent(50, Some(1.5)), &Silent).unwrap();
    let lengths = kept.chunks(3).map(|row| row.iter().map(|x| x * x).sum::<f32>().sqrt());
    assert!(lengths.into_iter().all(|l| (l - 1.5).abs() < 1e-5));
    let latents = normal_vec(6, 6);
    let better = inverter.refine_latents(&latents, &images, descent(600, None), &Silent).unwrap();
    let decode = |z: &[f32]| {
        let z = Tensor::from_data(TensorData::new(z.to_vec(), [2, 3]), &inverter.device);
        inverter
            .student
            .decode(z, inverter.labels.clone(), &ForwardMode::evaluation())
            .try_into_vec_as::<f32>()
            .unwrap()
    };
    let off = |z: &[f32]| decode(z).iter().zip(&images).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
    assert!(off(&better) < 1e-3 * off(&latents));
}

fn image_student() -> StudentConfig {
    StudentConfig {
        method: Method::Koopman,
        shape: vec![1, 8, 8],
        label_dim: 2,
        noise_std: 3.0,
        latent: 64,
        levels: Vec::new(),
        network: NetworkConfig::Unet {
            model_channels: 4,
            channel_mult: vec![1, 2],
            num_blocks: 1,
            attn_resolutions: vec![4],
            dropout: 0.1,
        },
        operator: OperatorConfig { kind: OperatorKind::Dense, projection: None, control: true },
    }
}

/// A copy with autodiff is what loading the same weights there gives: values and gradients.
#[test]
fn a_copy_with_autodiff_is_the_student_itself() {
    let (config, device) = (image_student(), Device::flex());
    let tracked = device.clone().autodiff();
    let student = config.init(3, &device).koopman().unwrap().clone();
    let copies = [student.on(&tracked), config.init(3, &tracked).koopman().unwrap().clone()];
    let [copy, loaded] = copies.map(kdm_nn::frozen).map(|student| {
        let x = host::rows(normal_vec(1, 128), 64, &tracked).require_grad();
        let y = Some(host::rows(vec![1.0, 0.0, 0.0, 1.0], 2, &tracked));
        let drawn = student.generate(x.clone(), y, &ForwardMode::evaluation());
        let gradient = x.grad(&drawn.clone().square().mean().backward()).unwrap();
        (values(drawn), values(gradient))
    });
    assert_eq!(copy, loaded);
    assert!(copy.1.iter().any(|g| *g != 0.0));
    let back = copies_outside(&student.on(&tracked), &device);
    assert_eq!(back, copies_outside(&student, &device));
}

fn copies_outside(student: &Koopman, device: &Device) -> Vec<f32> {
    let student = student.on(device);
    assert!(!student.device().is_autodiff());
    let x = host::rows(normal_vec(1, 64), 64, device);
    let y = Some(host::rows(vec![1.0, 0.0], 2, device));
    values(student.generate(x, y, &ForwardMode::evaluation()))
}

/// Images that are the student's own samples: their noise gives them back, and descent brings
/// latents and noise nearer. Keys of the numbers are words with underscores.
#[test]
fn samples_are_inverted() {
    let device = Device::flex();
    let config = StudentConfig {
        shape: vec![4],
        latent: 8,
        levels: Vec::new(),
        network: NetworkConfig::Mlp { hidden: 16, layers: 2 },
        ..image_student()
    };
    let student = config.init(3, &device);
    let sampler = Sampler::new(student.clone(), &config, &device);
    let labels = Labels::of(&[0, 1, 1]);
    let noise: Vec<f32> = normal_vec(5, 3 * 4).into_iter().map(|x| 3.0 * x).collect();
    let images = sampler.sample(&noise, &labels);
    let shape = config.shape.clone();
    let samples = Samples { shape, noise, images, labels, seeds: Vec::new(), states: Vec::new() };
    let parts = Stepwise { student: student.koopman().unwrap(), config: &config, device: &device };
    let config = InversionConfig { steps: 20, ..InversionConfig::default() };
    let found = invert(parts, &sampler, &samples, config, &Silent).unwrap();
    let errors = found.coordinate_rmse;
    assert_eq!(errors.own_noise, Some(0.0));
    assert!(errors.refined_latent < errors.encoder, "{errors:?}");
    assert_eq!(found.noise.len(), 3 * 4);
    let length = |row: &[f32]| row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    assert!(found.noise.chunks(4).all(|row| (length(row) - 6.0).abs() < 1e-3));
    let told = serde_json::to_value(&found).unwrap();
    let keys: Vec<&String> = told.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["coordinate_rmse", "images", "latent_cosine", "noise_cosine"]);
    let told = told["coordinate_rmse"].as_object().unwrap();
    let keys: Vec<&String> = told.keys().collect();
    let expected = ["encoder", "own_noise", "pulled_back", "refined_latent", "refined_noise"];
    assert_eq!(keys, expected);
    // Without noise there is nothing to compare with.
    let samples = Samples { noise: Vec::new(), ..samples };
    let found = invert(parts, &sampler, &samples, config, &Silent).unwrap();
    assert!(found.noise_cosine.is_none() && found.coordinate_rmse.own_noise.is_none());
    let stop = Stop;
    let stopped = invert(parts, &sampler, &samples, config, &stop);
    assert!(matches!(stopped, Err(Error::Stopped)));
}

struct Stop;

impl Observer for Stop {
    fn event(&self, _: &kdm_observer::Event) {}
    fn stopping(&self) -> bool {
        true
    }
}
