//! From one sample to another: along the noise, or along a straight line in the latent space.

use std::ops::Range;

use burn::tensor::Tensor;
use kdm_data::{Labels, Samples};
use kdm_nn::ForwardMode;
use kdm_observer::{Observer, Stopped};
use serde::{Deserialize, Serialize};

use crate::host;
use crate::level_editing::exchanged;
use crate::stepwise::Stepwise;

/// Where the path between two samples lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InterpolationSpace {
    /// Along the great circle between the two noises, so that every point is as likely a noise as
    /// its ends.
    Noise,
    /// Straight between the latents z^_0 = C E_T(x_T) + B y, which the decoder draws.
    Latent,
}

/// One end of the way.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// x_T, `[dim]`.
    pub noise: &'a [f32],
    /// The class; none for a sample without one.
    pub class: Option<u32>,
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

/// The point at `t` (0 to 1) on the straight line from `a` to `b`.
pub fn linear(a: &[f32], b: &[f32], t: f64) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| ((1.0 - t) * f64::from(*a) + t * f64::from(*b)) as f32).collect()
}

/// `steps` (at least 2) samples from `a` to `b`, the ends being their own samples: `[steps, dim]`.
/// One-hot labels go over in a straight line.
pub fn between(
    parts: Stepwise,
    space: InterpolationSpace,
    a: End,
    b: End,
    steps: usize,
) -> Vec<f32> {
    let Stepwise { student, config, device } = parts;
    let mode = ForwardMode::evaluation();
    let times: Vec<f64> = (0..steps).map(|i| i as f64 / (steps - 1) as f64).collect();
    let rows = |values: Vec<f32>, width: usize| host::rows(values, width, device);
    let one_hot = |end: End| kdm_data::Labels::from_iter([end.class]).one_hot(config.label_dim);
    let (label_a, label_b) = (one_hot(a), one_hot(b));
    let labels_at = |times: &[f64]| -> Option<Tensor<2>> {
        let all = || times.iter().flat_map(|t| linear(&label_a, &label_b, *t)).collect();
        (config.label_dim > 0).then(|| rows(all(), config.label_dim))
    };
    let labels = labels_at(&times);
    let drawn = match space {
        InterpolationSpace::Noise => {
            let noise = times.iter().flat_map(|t| spherical(a.noise, b.noise, *t)).collect();
            student.generate(rows(noise, config.dim()), labels, &mode)
        }
        InterpolationSpace::Latent => {
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
    host::values(drawn)
}

/// `steps` (at least 2) samples from `a` to `a` with these columns of b's latent C E_T(x_T) + B y,
/// along a straight line: `[steps, dim]`. The decoder is told a's class throughout.
pub fn towards(
    parts: Stepwise,
    a: End,
    b: End,
    columns: &[Range<usize>],
    steps: usize,
) -> Vec<f32> {
    let n = parts.config.operator_dim();
    let labels = Labels::from_iter([a.class, b.class]);
    let pushed = parts.push_noise(&[a.noise, b.noise].concat(), &labels);
    let (from, other) = pushed.split_at(n);
    let to = exchanged(from, other, n, columns);
    let latents: Vec<f32> =
        (0..steps).flat_map(|i| linear(from, &to, i as f64 / (steps - 1) as f64)).collect();
    parts.decode(&latents, &Labels::from_iter(std::iter::repeat_n(a.class, steps)))
}

/// From each sample to the next: `steps` (at least 2) samples of each way, row by row, `[(N - 1)
/// steps, dim]` for N samples' noise and labels. With columns of the latent (`moving`), which are
/// for the latent space alone, the rest of a latent stays the first sample's; see [`towards`].
///
/// # Errors
/// When the observer asks for a stop; nothing is kept.
pub fn through(
    parts: Stepwise,
    space: InterpolationSpace,
    moving: Option<&[Range<usize>]>,
    stops: &Samples,
    steps: usize,
    observer: &dyn Observer,
) -> Result<Vec<f32>, Stopped> {
    let dim = stops.dim();
    let end = |i: usize| End {
        noise: &stops.noise[i * dim..(i + 1) * dim],
        class: stops.labels.class(i),
    };
    let ways = stops.len().saturating_sub(1);
    let mut progress = observer.begin("interpolation", "ways");
    let mut drawn = Vec::with_capacity(ways * steps * dim);
    for i in 0..ways {
        progress.advance(i as u64, ways as u64, "")?;
        let (a, b) = (end(i), end(i + 1));
        drawn.extend(match moving {
            Some(columns) => towards(parts, a, b, columns, steps),
            None => between(parts, space, a, b, steps),
        });
    }
    progress.report(ways as u64, ways as u64, "");
    progress.finish("drawn");
    Ok(drawn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::Sampler;
    use crate::testing::student_of_levels;
    use crate::{Method, NetworkConfig, OperatorConfig, OperatorKind, StudentConfig};
    use burn::tensor::Device;
    use kdm_observer::Silent;
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
            levels: Vec::new(),
            network: NetworkConfig::Mlp { hidden: 16, layers: 2 },
            operator: OperatorConfig { kind: OperatorKind::Dense, projection: None, control: true },
        };
        let device = Device::flex();
        let student = config.init(1, &device);
        let sampler = Sampler::new(student.clone(), &config, &device);
        let noise = normal_vec(3, 8);
        let labels = Labels::of(&[0, 2]);
        let samples = sampler.sample(&noise, &labels);
        let (a, b) = (
            End { noise: &noise[..4], class: Some(0) },
            End { noise: &noise[4..], class: Some(2) },
        );
        let parts =
            Stepwise { student: student.koopman().unwrap(), config: &config, device: &device };
        let ways = [InterpolationSpace::Noise, InterpolationSpace::Latent]
            .map(|space| between(parts, space, a, b, 5));
        for way in &ways {
            let off = |x: &[f32], y: &[f32]| {
                x.iter().zip(y).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
            };
            assert!(off(&way[..4], &samples[..4]) < 1e-5 && off(&way[16..], &samples[4..]) < 1e-5);
        }
        assert!(ways[0][8..12].iter().zip(&ways[1][8..12]).any(|(x, y)| (x - y).abs() > 1e-4));
        // The way there and back goes through the same samples.
        let stops = Samples {
            shape: vec![4],
            noise: [&noise[..], &noise[..4]].concat(),
            labels: Labels::of(&[0, 2, 0]),
            ..Samples::default()
        };
        let all = through(parts, InterpolationSpace::Latent, None, &stops, 5, &Silent).unwrap();
        assert_eq!(all[..20], ways[1]);
        let back: Vec<f32> = all[20..].chunks(4).rev().flatten().copied().collect();
        assert!(back.iter().zip(&all).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    /// A way begins at the sample; with all levels, between samples of one class, it ends at the
    /// other one.
    #[test]
    fn ways_end_where_they_should() {
        let (config, device) = (student_of_levels(), Device::flex());
        let student = config.init(1, &device);
        let sampler = Sampler::new(student.clone(), &config, &device);
        let noise = normal_vec(3, 128);
        let samples = sampler.sample(&noise, &Labels::all(2, 2));
        let parts =
            Stepwise { student: student.koopman().unwrap(), config: &config, device: &device };
        let end = |i: usize| End { noise: &noise[64 * i..64 * (i + 1)], class: Some(2) };
        let off =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let way = towards(parts, end(0), end(1), &config.level_columns(), 3);
        // The frozen student and the student itself, in f32.
        assert!(off(&way[..64], &samples[..64]) < 1e-5 && off(&way[128..], &samples[64..]) < 1e-5);
        let fine = towards(parts, end(0), end(1), &config.columns_of(&[0]).unwrap(), 3);
        assert!(off(&fine[..64], &samples[..64]) < 1e-5);
    }
}
