//! From an image back to its latent and its noise: by the clean encoder, by the operator's
//! pseudo-inverse, and by descent.

mod refine;

use faer::Mat;
use kdm_data::Samples;
use kdm_metrics::paired;
use kdm_observer::Observer;
use serde::{Deserialize, Serialize};

pub use refine::{Descent, Inverter};

use crate::Sampler;
use crate::error::{Decomposition, Error, Result};
use crate::operator::Affine;
use crate::stepwise::Stepwise;

/// Latents z `[N, n]` with A z + b + shift nearest to rows of pushed latents `[N, n]`, the shortest
/// where there are several: singular values below `cutoff` of the largest are taken for zero.
/// `shift`: rows that are added beside the bias, `[N, n]`, or empty.
///
/// # Errors
/// When the operator has values that are not finite, or its singular values can't be found.
pub fn pull_back(affine: &Affine, pushed: &[f32], shift: &[f32], cutoff: f64) -> Result<Vec<f32>> {
    let n = affine.n;
    let rows = pushed.len() / n;
    if !affine.is_finite() {
        return Err(Error::NotFinite);
    }
    let decomposition = Decomposition::Svd;
    let svd = Mat::from_fn(n, n, |i, j| affine.matrix[i * n + j])
        .svd()
        .map_err(|_| Error::NoConvergence { decomposition, n })?;
    let wanted = Mat::from_fn(n, rows, |i, r| {
        let more = shift.get(r * n + i).copied().map_or(0.0, f64::from);
        f64::from(pushed[r * n + i]) - affine.bias[i] - more
    });
    let mut coordinates = svd.U().transpose() * &wanted;
    let largest = svd.S()[0];
    for i in 0..n {
        let s = svd.S()[i];
        let factor = if s > cutoff * largest { 1.0 / s } else { 0.0 };
        (0..rows).for_each(|r| coordinates[(i, r)] *= factor);
    }
    let z = svd.V() * &coordinates;
    Ok((0..rows * n).map(|p| z[(p % n, p / n)] as f32).collect())
}

/// How images are inverted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InversionConfig {
    /// Steps of the refinements.
    pub steps: usize,
    /// The operator's singular values below this share of the largest (at least 0, below 1) are
    /// taken for zero.
    pub cutoff: f64,
}

impl Default for InversionConfig {
    fn default() -> Self {
        Self { steps: 200, cutoff: 1e-3 }
    }
}

/// Images brought back to latents and noise. Serialises as its numbers, without the arrays.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inversion {
    /// Images.
    pub images: usize,
    /// How well they come back.
    pub coordinate_rmse: InversionErrors,
    /// Cosine of the noise found and the image's own (0 for unrelated noise), of all values
    /// together: rows of noise have one length. None where the image's own noise is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise_cosine: Option<f64>,
    /// Cosine of z_T pulled back and E_T of the image's own noise, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latent_cosine: Option<f64>,
    /// z_0 = E_0(x_0), `[N, n]`.
    #[serde(skip)]
    pub encoded: Vec<f32>,
    /// z_T with C z_T + B y nearest to z_0, `[N, n]`.
    #[serde(skip)]
    pub pulled_back: Vec<f32>,
    /// Pushed latents found by descent from z_0, `[N, n]`.
    #[serde(skip)]
    pub refined: Vec<f32>,
    /// Noise found by descent from random noise of the same length, `[N, dim]`.
    #[serde(skip)]
    pub noise: Vec<f32>,
    /// The images as they come back.
    #[serde(skip)]
    pub drawn: InvertedImages,
}

/// How well images come back: the root mean square of a coordinate's (a pixel's) error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct InversionErrors {
    /// Of D(E_0(x_0)), by the clean encoder.
    pub encoder: f64,
    /// Of D(C z_T + B y), for z_T by the operator's pseudo-inverse from E_0(x_0).
    pub pulled_back: f64,
    /// Of D(z), for the latent found by descent from E_0(x_0).
    pub refined_latent: f64,
    /// Of the sample of the noise found by descent.
    pub refined_noise: f64,
    /// Of the student's sample of the image's own noise; none where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_noise: Option<f64>,
}

/// Images as they come back, `[N, dim]` each; see [`InversionErrors`].
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the same fields")]
pub struct InvertedImages {
    pub encoder: Vec<f32>,
    pub pulled_back: Vec<f32>,
    pub refined_latent: Vec<f32>,
    pub refined_noise: Vec<f32>,
}

/// The seed of the noise that the search begins at.
const START_SEED: u64 = 20;
/// The first step, in units of the noise's and of the latents' deviation.
const RATE: f64 = 0.1;

/// Brings images (with their labels, and their own noise where it is known) back to latents and
/// noise: by the clean encoder, by the operator's pseudo-inverse, and by descent. `sampler` is the
/// same student's.
///
/// # Errors
/// When the operator can't be taken apart, or the observer asks for a stop.
pub fn invert(
    parts: Stepwise,
    sampler: &Sampler,
    samples: &Samples,
    config: InversionConfig,
    observer: &dyn Observer,
) -> Result<Inversion> {
    let (images, labels, dim) = (&samples.images, &samples.labels, parts.config.dim());
    let encoded = parts.encode_clean(images, labels);
    let shift = parts.control(labels);
    let affine = parts.student.operator.matrix();
    let pulled_back = pull_back(&affine, &encoded, &shift, config.cutoff)?;

    let inverter = Inverter::new(parts, labels);
    let steps = config.steps;
    let deviation =
        (encoded.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / encoded.len() as f64).sqrt();
    let descent = Descent { steps, rate: RATE * deviation, length: None };
    let refined = inverter.refine_latents(&encoded, images, descent, observer)?;
    let std = parts.config.noise_std;
    let start: Vec<f32> = kdm_random::normal_vec(START_SEED, images.len())
        .iter()
        .map(|e| (std * f64::from(*e)) as f32)
        .collect();
    let length = Some(std * (dim as f64).sqrt());
    let descent = Descent { steps, rate: RATE * std, length };
    let noise = inverter.refine_noise(&start, images, descent, observer)?;

    let drawn = InvertedImages {
        encoder: parts.decode(&encoded, labels),
        pulled_back: parts.decode(&parts.push(&pulled_back, labels), labels),
        refined_latent: parts.decode(&refined, labels),
        refined_noise: sampler.sample(&noise, labels),
    };
    let own = (!samples.noise.is_empty()).then_some(&samples.noise);
    let error = |drawn: &[f32]| paired(drawn, images, dim).coordinate_rmse;
    Ok(Inversion {
        images: samples.len(),
        coordinate_rmse: InversionErrors {
            encoder: error(&drawn.encoder),
            pulled_back: error(&drawn.pulled_back),
            refined_latent: error(&drawn.refined_latent),
            refined_noise: error(&drawn.refined_noise),
            own_noise: own.map(|own| error(&sampler.sample(own, labels))),
        },
        noise_cosine: own.map(|own| cosine(&noise, own)),
        latent_cosine: own.map(|own| cosine(&pulled_back, &parts.encode_noise(own, labels))),
        encoded,
        pulled_back,
        refined,
        noise,
        drawn,
    })
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[cfg(test)]
mod tests {
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
        let error = |noise: &[f32]| {
            draw(noise).iter().zip(&images).map(|(a, b)| (a - b).powi(2)).sum::<f32>()
        };
        let start = normal_vec(5, 6);
        let descent = |steps, length| Descent { steps, rate: 0.1, length };
        let found = inverter.refine_noise(&start, &images, descent(600, None), &Silent).unwrap();
        assert!(error(&found) < 1e-3 * error(&start), "{} {}", error(&found), error(&start));
        let kept = inverter.refine_noise(&start, &images, descent(50, Some(1.5)), &Silent).unwrap();
        let lengths = kept.chunks(3).map(|row| row.iter().map(|x| x * x).sum::<f32>().sqrt());
        assert!(lengths.into_iter().all(|l| (l - 1.5).abs() < 1e-5));
        let latents = normal_vec(6, 6);
        let better =
            inverter.refine_latents(&latents, &images, descent(600, None), &Silent).unwrap();
        let decode = |z: &[f32]| {
            let z = Tensor::from_data(TensorData::new(z.to_vec(), [2, 3]), &inverter.device);
            inverter
                .student
                .decode(z, inverter.labels.clone(), &ForwardMode::evaluation())
                .try_into_vec_as::<f32>()
                .unwrap()
        };
        let off =
            |z: &[f32]| decode(z).iter().zip(&images).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        assert!(off(&better) < 1e-3 * off(&latents));
    }

    fn image_student() -> StudentConfig {
        StudentConfig {
            method: Method::Koopman,
            shape: vec![1, 8, 8],
            label_dim: 2,
            noise_std: 3.0,
            latent: 64,
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
            network: NetworkConfig::Mlp { hidden: 16, layers: 2 },
            ..image_student()
        };
        let student = config.init(3, &device);
        let sampler = Sampler::new(student.clone(), &config, &device);
        let labels = Labels::of(&[0, 1, 1]);
        let noise: Vec<f32> = normal_vec(5, 3 * 4).into_iter().map(|x| 3.0 * x).collect();
        let images = sampler.sample(&noise, &labels);
        let shape = config.shape.clone();
        let samples = Samples { shape, noise, images, labels, seeds: Vec::new() };
        let parts =
            Stepwise { student: student.koopman().unwrap(), config: &config, device: &device };
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
}
