//! A student whose operator works on fewer numbers: only the modes that carry most on real latents,
//! or the directions in which pushed latents vary most.
//!
//! With z -> up middle down z the operator cut to a rank and c what it gives beside that, the
//! student's linear maps take up the rest: `down` joins the map after the encoders, `up` and c the
//! one before the decoder, and `middle` is the new operator. A control B y + b keeps coordinates of
//! its own, so that nothing of the classes is lost.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use clap::ValueEnum;
use faer::Mat;
use kdm_analysis::modes::LowRank;
use kdm_analysis::{Modes, Principal};
use kdm_koopman::operator::{Affine, Dense};
use kdm_koopman::student::Projection;
use kdm_koopman::{Koopman, Operator, OperatorConfig, OperatorKind, StudentConfig};
use kdm_nn::Linear;
use serde::{Deserialize, Serialize};

use crate::evaluation::alternating;
use crate::examination::mean;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// Directions in which pushed latents vary most: the least error of a rank
    Principal,
    /// Modes that carry most: the operator keeps their eigenvalues
    Modes,
}

/// The operator cut to at most `rank` coordinates on real latents (rows z_T), and what is added to
/// what it gives, so that the mean latent stays where it was.
///
/// # Errors
/// The problem, when values are not finite, or modes are asked for and there is no basis of
/// eigenvectors.
pub fn cut(
    affine: &Affine,
    latents: &[f32],
    by: By,
    rank: usize,
) -> Result<(LowRank, Vec<f64>), String> {
    let low = match by {
        By::Principal => Principal::of(affine, latents)?.low_rank(rank),
        By::Modes => {
            let modes = Modes::of(affine)?;
            let (mut kept, mut size) = (Vec::new(), 0);
            // A pair of conjugate eigenvalues takes two coordinates; where only one is left, a real
            // one may still fit.
            for k in modes.ranked(latents) {
                if size + modes.modes()[k].size() <= rank {
                    size += modes.modes()[k].size();
                    kept.push(k);
                }
            }
            modes.low_rank(&kept)
        }
    };
    let centre = mean(latents, affine.n);
    let left = low.apply(&centre);
    let whole = |row: &[f64]| row.iter().zip(&centre).map(|(a, z)| a * z).sum::<f64>();
    let rows = affine.matrix.chunks_exact(affine.n).zip(&affine.bias).zip(left);
    let added = rows.map(|((row, bias), left)| bias + whole(row) - left).collect();
    Ok((low, added))
}

/// An affine map x -> weight x + bias on the host.
struct Map {
    weight: Mat<f64>,
    bias: Mat<f64>,
}

impl Map {
    fn of(linear: &Linear) -> Self {
        let [outputs, inputs] = linear.weight.dims();
        let weight = host(linear.weight.val());
        let bias = linear.bias.as_ref().map_or_else(|| vec![0.0; outputs], |bias| host(bias.val()));
        Self {
            weight: Mat::from_fn(outputs, inputs, |i, j| weight[i * inputs + j]),
            bias: Mat::from_fn(outputs, 1, |i, _| bias[i]),
        }
    }

    fn identity(n: usize) -> Self {
        Self { weight: Mat::identity(n, n), bias: Mat::zeros(n, 1) }
    }

    /// after(self(x)).
    fn then(&self, after: &Self) -> Self {
        Self {
            weight: &after.weight * &self.weight,
            bias: &after.weight * &self.bias + &after.bias,
        }
    }

    fn linear(&self, device: &Device) -> Linear {
        let (outputs, inputs) = (self.weight.nrows(), self.weight.ncols());
        let narrow = |m: &Mat<f64>| -> Vec<f32> {
            (0..m.nrows() * m.ncols()).map(|k| m[(k / m.ncols(), k % m.ncols())] as f32).collect()
        };
        let weight =
            Tensor::from_data(TensorData::new(narrow(&self.weight), [outputs, inputs]), device);
        let bias = Tensor::from_data(TensorData::new(narrow(&self.bias), [outputs]), device);
        Linear { weight: Param::from_tensor(weight), bias: Some(Param::from_tensor(bias)) }
    }
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    let values = tensor.try_into_vec_as::<f32>().expect("students compute in f32");
    values.into_iter().map(f64::from).collect()
}

/// `student` with its operator cut to `low`, with `added` added to what that gives; and its
/// configuration. Its operator works on `low.rank` numbers, and one more for every class and one
/// for none where there is a control.
///
/// The clean encoder is followed by the pseudo-inverse of the way back, so that its latents are the
/// nearest ones of the fewer numbers.
///
/// # Errors
/// The problem, when the pseudo-inverse can't be found.
pub fn compressed(
    student: &Koopman,
    config: &StudentConfig,
    low: &LowRank,
    added: &[f64],
) -> Result<(Koopman, StudentConfig), String> {
    let device = Device::flex();
    let (n, rank) = (low.n, low.rank);
    let control = student.control.as_ref().map(Map::of);
    let classes = control.as_ref().map_or(0, |control| control.weight.ncols());
    let total = rank + if control.is_some() { classes + 1 } else { 0 };
    let up = Mat::from_fn(n, total, |i, j| match &control {
        _ if j < rank => low.up[i * rank + j],
        Some(control) if j < rank + classes => control.weight[(i, j - rank)],
        Some(control) => control.bias[(i, 0)],
        None => 0.0,
    });
    let inverse = up.thin_svd().map_err(|e| format!("{e:?}"))?.pseudoinverse();
    let added = Mat::from_fn(n, 1, |i, _| added[i]);
    let identity = || Map::identity(n);
    let (clean, noise, decoder) = match &student.projection {
        Some(p) => (Map::of(&p.clean), Map::of(&p.noise), Map::of(&p.decoder)),
        None => (identity(), identity(), identity()),
    };
    let down = Map {
        weight: Mat::from_fn(total, n, |i, j| if i < rank { low.down[i * n + j] } else { 0.0 }),
        bias: Mat::zeros(total, 1),
    };
    let nearest = Map { bias: &inverse * &added * faer::Scale(-1.0), weight: inverse };
    let back = Map { weight: up, bias: added };
    let middle = |i: usize, j: usize| if i.max(j) < rank { low.middle[i * rank + j] } else { 0.0 };
    let operator = Affine {
        n: total,
        matrix: (0..total * total).map(|k| middle(k / total, k % total)).collect(),
        bias: vec![0.0; total],
    };
    let unit = |i: usize, j: usize| f64::from(u8::from(i >= rank && i - rank == j));
    let control = control.is_some().then(|| {
        let weight = Mat::from_fn(total, classes, unit);
        Map { weight, bias: Mat::from_fn(total, 1, |i, _| unit(i, classes)) }.linear(&device)
    });
    let small = Koopman {
        operator: Operator::Dense(Dense::of(&operator, &device)),
        control,
        projection: Some(Projection {
            clean: clean.then(&nearest).linear(&device),
            noise: noise.then(&down).linear(&device),
            decoder: back.then(&decoder).linear(&device),
        }),
        ..student.clone()
    };
    let operator = OperatorConfig {
        kind: OperatorKind::Dense,
        projection: Some(total),
        ..config.operator.clone()
    };
    Ok((small, StudentConfig { operator, ..config.clone() }))
}

/// Rows that the linear way is timed on.
const TIMED: usize = 256;
/// Runs that a median is of.
pub const RUNS: usize = 15;

/// Seconds a row of two students' way from the noise encoder's numbers to the decoder's, with all
/// linear maps on it; medians of alternating runs.
pub fn linear_seconds(students: [&Koopman; 2], latent: usize) -> [f64; 2] {
    let rows = TensorData::new(kdm_random::normal_vec(0, TIMED * latent), [TIMED, latent]);
    let z = Tensor::<2>::from_data(rows, &Device::flex());
    let way = |student: &Koopman| {
        let z = z.clone();
        let z =
            student.projection.as_ref().map_or_else(|| z.clone(), |p| p.noise.forward(z.clone()));
        let z = student.operator.apply(z);
        std::hint::black_box(
            student.projection.as_ref().map_or_else(|| z.clone(), |p| p.decoder.forward(z.clone())),
        );
    };
    alternating([&|| way(students[0]), &|| way(students[1])], RUNS)
        .map(|seconds| seconds / TIMED as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_koopman::sampler::one_hot;
    use kdm_koopman::stepwise::Stepwise;
    use kdm_koopman::{Method, NetworkConfig, Sampler, Student};
    use kdm_random::normal_vec;

    /// At full rank the compressed student draws what the student draws, for both forms of
    /// operator, with a projection and a control and without; at a lower rank, what the student
    /// with the cut operator draws. Its clean latents come back.
    #[test]
    fn a_compressed_student_draws_what_the_cut_one_does() {
        let device = Device::flex();
        for (kind, projection, label_dim, by) in [
            (OperatorKind::Dense, None, 0, By::Principal),
            (OperatorKind::Dense, Some(8), 3, By::Modes),
            (OperatorKind::Factorized, None, 3, By::Principal),
            (OperatorKind::Factorized, Some(8), 0, By::Modes),
        ] {
            let config = StudentConfig {
                method: Method::Koopman,
                shape: vec![2],
                label_dim,
                noise_std: 1.0,
                latent: 12,
                network: NetworkConfig::Mlp { hidden: 16, layers: 2 },
                operator: OperatorConfig { kind, projection, control: label_dim > 0 },
            };
            let student = config.init(3, &device);
            let koopman = student.koopman().unwrap();
            let noise = normal_vec(1, 2 * 60);
            let classes: Vec<u32> = (0..60).map(|i| i % label_dim.max(1) as u32).collect();
            let labels = one_hot(&classes, label_dim);
            let parts = Stepwise { student: koopman, config: &config };
            let latents = parts.encode_noise(&noise, &labels);
            let affine = koopman.operator.matrix();
            for rank in [affine.n, 5, 1] {
                let (low, added) = cut(&affine, &latents, by, rank).unwrap();
                assert!(low.rank <= rank && low.rank + 1 >= rank);
                let (small, smaller) = compressed(koopman, &config, &low, &added).unwrap();
                assert_eq!(smaller.problems(), []);
                assert_eq!(
                    small.operator.dim(),
                    low.rank + if label_dim > 0 { label_dim + 1 } else { 0 }
                );
                let expected = Affine { n: low.n, matrix: low.matrix(), bias: added };
                let expected = Koopman {
                    operator: Operator::Dense(Dense::of(&expected, &device)),
                    ..koopman.clone()
                };
                let draw = |student: Koopman, config: &StudentConfig| {
                    Sampler::new(Student::Koopman(student), config, &device).sample(&noise, &labels)
                };
                let apart = |a: &[f32], b: &[f32]| {
                    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
                };
                let drawn = draw(small.clone(), &smaller);
                // f32 rounding, through a few layers, of values of size 1.
                assert!(apart(&drawn, &draw(expected, &config)) < 2e-5, "{kind:?} {rank}");
                if rank == affine.n {
                    assert!(apart(&drawn, &draw(koopman.clone(), &config)) < 2e-5, "{kind:?}");
                    // All of the latent is kept, so that the decoder sees the same of a clean
                    // image.
                    let back = |parts: Stepwise| {
                        parts.decode(&parts.encode_clean(&noise, &labels), &labels)
                    };
                    let small = back(Stepwise { student: &small, config: &smaller });
                    assert!(apart(&small, &back(parts)) < 1e-3, "{kind:?}");
                }
            }
        }
    }
}
