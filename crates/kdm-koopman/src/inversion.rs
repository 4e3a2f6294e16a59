//! From an image back to its latent and its noise: by the clean encoder, by the operator's
//! pseudo-inverse, and by descent.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use faer::Mat;
use kdm_nn::ForwardMode;
use kdm_train::{Optimizer, OptimizerConfig};

use crate::operator::Affine;
use crate::{Koopman, StudentConfig};

/// Latents z with A z + b + shift nearest to rows of pushed latents, the shortest where there are
/// several: singular values below `cutoff` of the largest are taken for zero. `shift`: rows that
/// are added beside the bias, or empty.
///
/// # Errors
/// The problem, when the operator has values that are not finite.
pub fn pull_back(
    affine: &Affine,
    pushed: &[f32],
    shift: &[f32],
    cutoff: f64,
) -> Result<Vec<f32>, String> {
    let n = affine.n;
    let rows = pushed.len() / n;
    let svd =
        Mat::from_fn(n, n, |i, j| affine.matrix[i * n + j]).svd().map_err(|e| format!("{e:?}"))?;
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

/// What is moved by descent.
#[derive(Module, Debug)]
struct Sought {
    rows: Param<Tensor<2>>,
}

/// How rows are refined.
#[derive(Clone, Copy, Debug)]
pub struct Descent {
    /// Steps of Adam.
    pub steps: usize,
    /// Its rate in the first step, in units of the rows; it falls to zero along a half cosine.
    pub rate: f64,
    /// The length that rows are brought back to after each step; none to let them be.
    pub length: Option<f64>,
}

/// Moves rows of `width` numbers so that what `draw` makes of them comes near to `target` by mean
/// squared error. `device`: with autodiff.
fn descend(
    start: &[f32],
    width: usize,
    target: &Tensor<2>,
    descent: Descent,
    device: &Device,
    draw: impl Fn(Tensor<2>) -> Tensor<2>,
) -> Vec<f32> {
    let count = start.len() / width;
    let tensor =
        |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, [count, width]), device);
    let mut sought = Sought { rows: Param::from_tensor(tensor(start.to_vec())) };
    let mut optimizer = Optimizer::new(
        OptimizerConfig { ema_decay: 0.0, ..OptimizerConfig::default() },
        &sought,
        "",
    );
    let values =
        |sought: &Sought| sought.rows.val().try_into_vec_as::<f32>().expect("computed in f32");
    for step in 0..descent.steps {
        let loss = (draw(sought.rows.val()) - target.clone()).square().mean();
        let rate = 0.5
            * descent.rate
            * (1.0 + (std::f64::consts::PI * step as f64 / descent.steps as f64).cos());
        (sought, _) = optimizer.step(sought, loss.backward(), rate);
        if let Some(length) = descent.length {
            let mut rows = values(&sought);
            for row in rows.chunks_mut(width) {
                let norm = row
                    .iter()
                    .map(|x| f64::from(*x).powi(2))
                    .sum::<f64>()
                    .sqrt()
                    .max(f64::MIN_POSITIVE);
                row.iter_mut().for_each(|x| *x = (f64::from(*x) * length / norm) as f32);
            }
            sought.rows = Param::from_tensor(tensor(rows));
        }
    }
    values(&sought)
}

/// A student that rows are refined through.
#[derive(Debug)]
pub struct Inverter<'a> {
    student: Koopman,
    config: &'a StudentConfig,
    labels: Option<Tensor<2>>,
    device: Device,
}

impl<'a> Inverter<'a> {
    /// `student` on a device with autodiff; one-hot rows of labels, or empty.
    pub fn new(
        student: Koopman,
        config: &'a StudentConfig,
        labels: &[f32],
        device: Device,
    ) -> Self {
        let k = config.label_dim;
        let rows = |k: usize| TensorData::new(labels.to_vec(), [labels.len() / k, k]);
        let labels = (k > 0).then(|| Tensor::from_data(rows(k), &device));
        Self { student: kdm_nn::frozen(student), config, labels, device }
    }

    fn target(&self, images: &[f32]) -> Tensor<2> {
        let dim = self.config.dim();
        Tensor::from_data(TensorData::new(images.to_vec(), [images.len() / dim, dim]), &self.device)
    }

    /// Pushed latents whose drawing is nearer to the images.
    pub fn refine_latents(&self, latents: &[f32], images: &[f32], descent: Descent) -> Vec<f32> {
        let draw = |z| self.student.decode(z, self.labels.clone(), &ForwardMode::evaluation());
        descend(
            latents,
            self.config.operator_dim(),
            &self.target(images),
            descent,
            &self.device,
            draw,
        )
    }

    /// Noise whose sample is nearer to the images.
    pub fn refine_noise(&self, noise: &[f32], images: &[f32], descent: Descent) -> Vec<f32> {
        let draw = |x| self.student.generate(x, self.labels.clone(), &ForwardMode::evaluation());
        descend(noise, self.config.dim(), &self.target(images), descent, &self.device, draw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Method, NetworkConfig, OperatorConfig, OperatorKind};
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
        let device = Device::flex().autodiff();
        let student = config.init(3, &device).koopman().unwrap().clone();
        let labels = [1.0, 0.0, 0.0, 1.0];
        let inverter = Inverter::new(student, &config, &labels, device);
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
        let found =
            inverter.refine_noise(&start, &images, Descent { steps: 600, rate: 0.1, length: None });
        assert!(error(&found) < 1e-3 * error(&start), "{} {}", error(&found), error(&start));
        let kept = inverter.refine_noise(
            &start,
            &images,
            Descent { steps: 50, rate: 0.1, length: Some(1.5) },
        );
        let lengths = kept.chunks(3).map(|row| row.iter().map(|x| x * x).sum::<f32>().sqrt());
        assert!(lengths.into_iter().all(|l| (l - 1.5).abs() < 1e-5));
        let latents = normal_vec(6, 6);
        let better = inverter.refine_latents(
            &latents,
            &images,
            Descent { steps: 600, rate: 0.1, length: None },
        );
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
}
