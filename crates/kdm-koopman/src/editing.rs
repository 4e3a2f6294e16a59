//! Samples moved along a direction of the latent space: an operator's mode, or the path from one
//! class to another.

use kdm_data::{Labels, Samples};
use kdm_observer::Observer;

use crate::error::{Error, Result};
use crate::stepwise::Stepwise;

/// The deviation of rows `[N, n]` (at least one) along a `direction` of any length: the root mean
/// square of their distances from the mean, along it.
///
/// ```
/// use kdm_koopman::editing::deviation_along;
///
/// // Four corners of a rectangle, 6 wide and 2 high.
/// let corners = [0.0, 0.0, 6.0, 0.0, 0.0, 2.0, 6.0, 2.0];
/// assert_eq!(deviation_along(&corners, &[5.0, 0.0]), 3.0);
/// assert_eq!(deviation_along(&corners, &[0.0, -1.0]), 1.0);
/// ```
pub fn deviation_along(rows: &[f32], direction: &[f64]) -> f64 {
    let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    let along = rows
        .chunks_exact(direction.len())
        .map(|row| row.iter().zip(direction).map(|(z, d)| f64::from(*z) * d).sum::<f64>() / length);
    let along: Vec<f64> = along.collect();
    let mean = along.iter().sum::<f64>() / along.len() as f64;
    (along.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / along.len() as f64).sqrt()
}

/// The mean of rows of `width` values (at least one row): `[N, width]` -> `[width]`.
pub fn mean_row(rows: &[f32], width: usize) -> Vec<f64> {
    let mut sum = vec![0.0; width];
    rows.chunks_exact(width)
        .for_each(|row| sum.iter_mut().zip(row).for_each(|(s, x)| *s += f64::from(*x)));
    let count = (rows.len() / width) as f64;
    sum.into_iter().map(|s| s / count).collect()
}

/// The mean of pushed latents C E_T(x_T) + B y of noise (`[N, dim]`) labelled with a class, `[n]`.
///
/// # Errors
/// When the student doesn't have the class, or the observer stops the work.
pub fn class_mean(
    parts: Stepwise,
    noise: &[f32],
    class: u32,
    observer: &dyn Observer,
) -> Result<Vec<f64>> {
    let label_dim = parts.config.label_dim;
    if class as usize >= label_dim {
        return Err(Error::UnknownClass { class, label_dim });
    }
    let labels = Labels::all(class, noise.len() / parts.config.dim());
    let pushed = parts.observed("latents", noise, &labels, observer, Stepwise::push_noise)?;
    Ok(mean_row(&pushed, parts.config.operator_dim()))
}

/// What leads from one place to another: the direction between two classes, of their
/// [`class_mean`]s.
pub fn difference(from: &[f64], to: &[f64]) -> Vec<f64> {
    from.iter().zip(to).map(|(from, to)| to - from).collect()
}

/// Latents `[N, n]` moved along `direction` (`[n]`) by up to `reach` of its lengths to either side,
/// in `steps` (odd, at least 3) even steps from -reach to reach: `[N steps, n]`, the latent itself
/// in the middle of its steps.
pub fn moved(latents: &[f32], direction: &[f64], reach: f64, steps: usize) -> Vec<f32> {
    let half = (steps / 2) as f64;
    let mut moved = Vec::with_capacity(latents.len() * steps);
    for z in latents.chunks_exact(direction.len()) {
        for step in 0..steps {
            let far = reach * (step as f64 - half) / half;
            moved.extend(z.iter().zip(direction).map(|(z, d)| (f64::from(*z) + far * d) as f32));
        }
    }
    moved
}

/// The samples of noise and labels, drawn with their pushed latents [`moved`] along `direction`:
/// `[N steps, dim]`.
///
/// # Errors
/// When the observer stops the work.
pub fn draw_along(
    parts: Stepwise,
    samples: &Samples,
    direction: &[f64],
    reach: f64,
    steps: usize,
    observer: &dyn Observer,
) -> Result<Vec<f32>> {
    let (noise, labels) = (&samples.noise, &samples.labels);
    let latents = parts.observed("latents", noise, labels, observer, Stepwise::push_noise)?;
    let moved = moved(&latents, direction, reach, steps);
    let labels = labels.repeat_each(steps);
    Ok(parts.observed("decoding", &moved, &labels, observer, Stepwise::decode)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Method, NetworkConfig, OperatorConfig, OperatorKind, Sampler, StudentConfig};
    use burn::tensor::Device;
    use kdm_observer::Silent;
    use kdm_random::normal_vec;

    #[test]
    fn steps_by_hand() {
        assert_eq!(mean_row(&[1.0, 2.0, 3.0, 6.0], 2), [2.0, 4.0]);
        let found = moved(&[1.0, 2.0, 5.0, 5.0], &[0.5, -1.0], 2.0, 3);
        assert_eq!(found, [0.0, 4.0, 1.0, 2.0, 2.0, 0.0, 4.0, 7.0, 5.0, 5.0, 6.0, 3.0]);
    }

    /// All is affine here in noise and label, so that each latent lies as far from its other
    /// class's as the means do. A whole step takes a latent of the one class to that of the other.
    #[test]
    fn a_class_goes_over_into_another() {
        let device = Device::flex();
        let config = StudentConfig {
            method: Method::Koopman,
            shape: vec![3],
            label_dim: 2,
            noise_std: 1.0,
            latent: 4,
            levels: Vec::new(),
            network: NetworkConfig::Affine,
            operator: OperatorConfig { kind: OperatorKind::Dense, projection: None, control: true },
        };
        let student = config.init(2, &device);
        let parts =
            Stepwise { student: student.koopman().unwrap(), config: &config, device: &device };
        let noise = normal_vec(1, 30);
        let mean = |class| class_mean(parts, &noise, class, &Silent).unwrap();
        let direction = difference(&mean(0), &mean(1));
        let labels = |class| Labels::all(class, 10);
        let (from, to) =
            (parts.push_noise(&noise, &labels(0)), parts.push_noise(&noise, &labels(1)));
        let arrived = moved(&from, &direction, 1.0, 3);
        let arrived: Vec<f32> = arrived.chunks(4).skip(2).step_by(3).flatten().copied().collect();
        assert!(arrived.iter().zip(&to).all(|(a, b)| (a - b).abs() < 1e-5));

        let samples = Samples { shape: vec![3], noise, labels: labels(0), ..Samples::default() };
        let drawn = draw_along(parts, &samples, &direction, 1.5, 5, &Silent).unwrap();
        let middle: Vec<f32> = drawn.chunks(3).skip(2).step_by(5).flatten().copied().collect();
        let sampler = Sampler::new(student.clone(), &config, &device);
        let own = sampler.sample(&samples.noise, &samples.labels);
        assert!(middle.iter().zip(&own).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn a_class_that_is_not_there_is_told() {
        let device = Device::flex();
        let config = StudentConfig {
            method: Method::Koopman,
            shape: vec![3],
            label_dim: 2,
            noise_std: 1.0,
            latent: 4,
            levels: Vec::new(),
            network: NetworkConfig::Affine,
            operator: OperatorConfig {
                kind: OperatorKind::Dense,
                projection: None,
                control: false,
            },
        };
        let student = config.init(2, &device);
        let parts =
            Stepwise { student: student.koopman().unwrap(), config: &config, device: &device };
        let error = class_mean(parts, &[0.0; 3], 2, &Silent).unwrap_err();
        assert!(matches!(error, Error::UnknownClass { class: 2, label_dim: 2 }));
        assert!(error.to_string().contains("classes 0 to 1"), "{error}");
    }
}
