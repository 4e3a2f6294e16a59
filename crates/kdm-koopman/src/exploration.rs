//! Samples from anywhere in what a student draws from: a mix of classes, a place on the way from
//! one noise to another, a latent moved along directions.

use kdm_observer::{Observer, Stopped};

use crate::interpolation::{InterpolationSpace, linear, spherical};
use crate::stepwise::Stepwise;

/// Where samples are drawn from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origins {
    /// x_T with its full standard deviation, `[N, dim]`.
    pub noise: Vec<f32>,
    /// Label rows y, `[N, label_dim]`: one-hot for a class, weights for a mix of classes, zeros for
    /// none. Empty for an unconditional student.
    pub labels: Vec<f32>,
}

/// A place on the way to other origins.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// Where the way ends, as many as there are where it begins.
    pub to: &'a Origins,
    /// What it goes through. Label rows go over in a straight line.
    pub space: InterpolationSpace,
    /// How far to go: 0 for its beginning, 1 for its end.
    pub t: f64,
}

/// Samples of a seed are drawn so many at a time, between two looks at an observer.
const AT_A_TIME: usize = 16;

/// The samples D(z) of `from`, `[N, dim]`, at a place of a way if there is one, their pushed
/// latents z = C E_T(x_T) + B y moved by `shift`: `[n]`, or empty for no move. A row's sample does
/// not depend on the others.
///
/// # Errors
/// When the observer stops the work.
pub fn draw(
    parts: Stepwise,
    from: &Origins,
    way: Option<Way>,
    shift: &[f64],
    observer: &dyn Observer,
) -> Result<Vec<f32>, Stopped> {
    let (dim, k) = (parts.config.dim(), parts.config.label_dim);
    observer.in_parts(("samples", "samples"), from.noise.len() / dim, AT_A_TIME, |rows| {
        let part = |origins: &Origins| Origins {
            noise: origins.noise[rows.start * dim..rows.end * dim].to_vec(),
            labels: origins.labels[rows.start * k..rows.end * k].to_vec(),
        };
        let from = part(from);
        let (mut latents, labels) = match way {
            None => (parts.push_noise_labelled(&from.noise, &from.labels), from.labels),
            Some(Way { to, space, t }) => on_the_way(parts, &from, &part(to), space, t),
        };
        if !shift.is_empty() {
            for row in latents.chunks_exact_mut(shift.len()) {
                row.iter_mut().zip(shift).for_each(|(z, d)| *z = (f64::from(*z) + d) as f32);
            }
        }
        parts.decode_labelled(&latents, &labels)
    })
}

/// Pushed latents and label rows at a place of the way from some origins to others.
fn on_the_way(
    parts: Stepwise,
    from: &Origins,
    to: &Origins,
    space: InterpolationSpace,
    t: f64,
) -> (Vec<f32>, Vec<f32>) {
    let labels = linear(&from.labels, &to.labels, t);
    let latents = match space {
        InterpolationSpace::Noise => {
            let rows =
                from.noise.chunks(parts.config.dim()).zip(to.noise.chunks(parts.config.dim()));
            let noise: Vec<f32> = rows.flat_map(|(a, b)| spherical(a, b, t)).collect();
            parts.push_noise_labelled(&noise, &labels)
        }
        InterpolationSpace::Latent => {
            let [a, b] = [from, to].map(|at| parts.push_noise_labelled(&at.noise, &at.labels));
            linear(&a, &b, t)
        }
    };
    (latents, labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpolation::{End, between};
    use crate::{Koopman, Method, NetworkConfig, OperatorConfig, OperatorKind, Sampler};
    use crate::{Student, StudentConfig};
    use burn::tensor::Device;
    use kdm_data::Labels;
    use kdm_observer::Silent;
    use kdm_random::normal_vec;

    fn config(network: NetworkConfig) -> StudentConfig {
        StudentConfig {
            method: Method::Koopman,
            shape: vec![4],
            label_dim: 3,
            noise_std: 2.0,
            latent: 16,
            levels: Vec::new(),
            network,
            operator: OperatorConfig { kind: OperatorKind::Dense, projection: None, control: true },
        }
    }

    fn parts<'a>(
        student: &'a Student,
        config: &'a StudentConfig,
        device: &'a Device,
    ) -> Stepwise<'a> {
        let student: &Koopman = student.koopman().unwrap();
        Stepwise { student, config, device }
    }

    fn most_off(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    /// With a class and no move, samples are the student's own; both ways pass where `between`
    /// does.
    #[test]
    fn known_samples_are_met() {
        let device = Device::flex();
        let config = config(NetworkConfig::Mlp { hidden: 16, layers: 2 });
        let student = config.init(1, &device);
        let (noise, other) = (normal_vec(3, 8), normal_vec(4, 8));
        let labels = |classes: &[u32]| Labels::of(classes).one_hot(3);
        let from = Origins { noise: noise.clone(), labels: labels(&[0, 2]) };
        let to = Origins { noise: other.clone(), labels: labels(&[1, 1]) };
        let parts = parts(&student, &config, &device);
        let own =
            Sampler::new(student.clone(), &config, &device).sample(&noise, &Labels::of(&[0, 2]));
        let drawn = draw(parts, &from, None, &[], &Silent).unwrap();
        // The same operations, but for the operator, which is a product of matrices there.
        assert!(most_off(&drawn, &own) < 1e-5);
        for space in [InterpolationSpace::Noise, InterpolationSpace::Latent] {
            let a = End { noise: &noise[4..], class: Some(2) };
            let b = End { noise: &other[4..], class: Some(1) };
            let expected = between(parts, space, a, b, 5);
            for (step, expected) in expected.chunks(4).enumerate() {
                let way = Way { to: &to, space, t: step as f64 / 4.0 };
                let found = draw(parts, &from, Some(way), &[], &Silent).unwrap();
                assert!(most_off(&found[4..], expected) < 1e-5, "{space:?} {step}");
            }
        }
    }

    /// Of an affine student, the sample of a mix of classes is the same mix of their samples, and
    /// a shift moves every sample alike.
    #[test]
    fn an_affine_student_mixes_as_its_labels_do() {
        let device = Device::flex();
        let config = config(NetworkConfig::Affine);
        let student = config.init(2, &device);
        let parts = parts(&student, &config, &device);
        let of = |y: &[f32], shift: &[f64]| {
            let origins = Origins { noise: normal_vec(5, 4), labels: y.to_vec() };
            draw(parts, &origins, None, shift, &Silent).unwrap()
        };
        let (a, b) = (of(&[1.0, 0.0, 0.0], &[]), of(&[0.0, 0.0, 1.0], &[]));
        let mixed = of(&[0.25, 0.0, 0.75], &[]);
        let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| 0.25 * a + 0.75 * b).collect();
        assert!(most_off(&mixed, &expected) < 1e-5);
        let shift: Vec<f64> = normal_vec(6, 16).into_iter().map(f64::from).collect();
        let moved = |y: &[f32]| -> Vec<f32> {
            let (still, moved) = (of(y, &[]), of(y, &shift));
            still.iter().zip(&moved).map(|(a, b)| b - a).collect()
        };
        let (a, b) = (moved(&[1.0, 0.0, 0.0]), moved(&[0.0, 1.0, 0.0]));
        assert!(most_off(&a, &b) < 1e-5 && a.iter().any(|x| x.abs() > 1e-3));
    }
}
