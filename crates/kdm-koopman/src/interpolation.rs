//! From one sample to another: along the noise, or along a straight line in the latent space.

use burn::tensor::{Device, Tensor, TensorData};
use kdm_nn::ForwardMode;

use crate::{Koopman, StudentConfig};

/// Where the way between two samples lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Along the great circle between the two noises, so that every point is as likely a noise as
    /// its ends.
    Noise,
    /// Straight between the latents C E_T(x_T) + B y, which the decoder draws.
    Latent,
}

/// One end of the way.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// x_T, `[dim]`.
    pub noise: &'a [f32],
    /// A one-hot row, `[label_dim]`; empty when unconditional.
    pub label: &'a [f32],
}

/// The point at `t` (0 to 1) on the great circle from `a` to `b`, its length between theirs. Points
/// that are opposite or alike are joined by a straight line.
pub fn spherical(a: &[f32], b: &[f32], t: f64) -> Vec<f32> {
    let dot = |x: &[f32], y: &[f32]| {
        x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>()
    };
    let (la, lb) = (dot(a, a).sqrt(), dot(b, b).sqrt());
    let angle = (dot(a, b) / (la * lb)).clamp(-1.0, 1.0).acos();
    if angle.is_nan() || angle.sin().abs() < 1e-6 {
        return linear(a, b, t);
    }
    let length = (1.0 - t) * la + t * lb;
    let (wa, wb) =
        (((1.0 - t) * angle).sin() / angle.sin() / la, (t * angle).sin() / angle.sin() / lb);
    a.iter()
        .zip(b)
        .map(|(a, b)| (length * (wa * f64::from(*a) + wb * f64::from(*b))) as f32)
        .collect()
}

fn linear(a: &[f32], b: &[f32], t: f64) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| ((1.0 - t) * f64::from(*a) + t * f64::from(*b)) as f32).collect()
}

/// `steps` (at least 2) samples from `a` to `b`, the ends being their own samples: `[steps, dim]`.
/// Labels go over in a straight line.
pub fn between(
    student: &Koopman,
    config: &StudentConfig,
    space: Space,
    a: End,
    b: End,
    steps: usize,
) -> Vec<f32> {
    let device = Device::flex();
    let times: Vec<f64> = (0..steps).map(|i| i as f64 / (steps - 1) as f64).collect();
    let rows = |values: Vec<f32>, width: usize| -> Tensor<2> {
        let n = values.len() / width;
        Tensor::from_data(TensorData::new(values, [n, width]), &device)
    };
    let labels_at = |times: &[f64]| {
        let all = || times.iter().flat_map(|t| linear(a.label, b.label, *t)).collect();
        (config.label_dim > 0).then(|| rows(all(), config.label_dim))
    };
    let labels = labels_at(&times);
    let drawn = match space {
        Space::Noise => {
            let noise = times.iter().flat_map(|t| spherical(a.noise, b.noise, *t)).collect();
            student.generate(rows(noise, config.dim()), labels, &ForwardMode::evaluation())
        }
        Space::Latent => {
            let mode = ForwardMode::evaluation();
            let ends = labels_at(&[0.0, 1.0]);
            let noise = rows([a.noise, b.noise].concat(), config.dim());
            let z = student.push(student.encode_noise(noise, ends.clone(), &mode), ends);
            let n = z.dims()[1];
            let weights =
                rows(times.iter().flat_map(|t| [(1.0 - t) as f32, *t as f32]).collect(), 2);
            let z = weights.matmul(z).reshape([steps, n]);
            student.decode(z, labels, &mode)
        }
    };
    drawn.try_into_vec_as::<f32>().expect("students compute in f32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::Sampler;
    use crate::{Method, NetworkConfig, OperatorConfig, OperatorKind};
    use kdm_random::normal_vec;

    #[test]
    fn great_circles() {
        let half = spherical(&[1.0, 0.0], &[0.0, 3.0], 0.5);
        // At 45 degrees, of length 2.
        let expected = 2.0 * 0.5f64.sqrt();
        assert!(half.iter().all(|x| (f64::from(*x) - expected).abs() < 1e-6), "{half:?}");
        assert_eq!(spherical(&[1.0, 2.0], &[1.0, 2.0], 0.3), [1.0, 2.0]);
        assert_eq!(spherical(&[1.0, 0.0], &[-1.0, 0.0], 0.25), [0.5, 0.0]);
    }

    /// Both ways begin and end at the samples themselves; between they differ.
    #[test]
    fn ends_are_the_samples() {
        let config = StudentConfig {
            method: Method::Koopman,
            shape: vec![4],
            label_dim: 3,
            noise_std: 2.0,
            latent: 16,
            network: NetworkConfig::Mlp { hidden: 16, layers: 2 },
            operator: OperatorConfig { kind: OperatorKind::Dense, projection: None, control: true },
        };
        let student = config.init(1, &Device::flex());
        let sampler = Sampler::new(student.clone(), &config, &Device::flex());
        let noise = normal_vec(3, 8);
        let labels = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        let samples = sampler.sample(&noise, &labels);
        let (a, b) = (
            End { noise: &noise[..4], label: &labels[..3] },
            End { noise: &noise[4..], label: &labels[3..] },
        );
        let ways = [Space::Noise, Space::Latent]
            .map(|space| between(student.koopman().unwrap(), &config, space, a, b, 5));
        for way in &ways {
            let off = |x: &[f32], y: &[f32]| {
                x.iter().zip(y).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
            };
            assert!(off(&way[..4], &samples[..4]) < 1e-5 && off(&way[16..], &samples[4..]) < 1e-5);
        }
        assert!(ways[0][8..12].iter().zip(&ways[1][8..12]).any(|(x, y)| (x - y).abs() > 1e-4));
    }
}
