//! A student whose operator works in a smaller dimension.
//!
//! With z -> up middle down z the operator cut to a low rank and c what it gives beside that, the
//! student's linear maps take up the rest: `down` follows the map after the encoders, `up` and c
//! come before the one before the decoder, and `middle` is the new operator. A control B y + b
//! keeps coordinates of its own, so that nothing of the classes is lost.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use faer::Mat;
use kdm_nn::Linear;
use serde::{Deserialize, Serialize};

use crate::error::{Decomposition, Error, Result};
use crate::host::{rows, wide};
use crate::operator::{Affine, Dense};
use crate::student::Projection;
use crate::{Koopman, Operator, OperatorConfig, OperatorKind, StudentConfig};

/// What of an operator is kept at a low rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RankBy {
    /// Directions in which pushed latents vary most: the least error of a rank.
    Principal,
    /// Modes that carry most: the operator keeps their eigenvalues.
    Modes,
}

/// A linear map of low rank, z -> up (middle (down z)). All matrices are row-major.
///
/// ```
/// use kdm_koopman::LowRank;
///
/// // The projection of the plane to its diagonal, twice as long.
/// let (down, up) = (vec![0.5, 0.5], vec![1.0, 1.0]);
/// let low = LowRank { n: 2, rank: 1, down, middle: vec![2.0], up };
/// assert_eq!(low.apply(&[1.0, 3.0]), [4.0, 4.0]);
/// assert_eq!(low.matrix(), [1.0, 1.0, 1.0, 1.0]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// Latent dimension.
    pub n: usize,
    /// Coordinates kept.
    pub rank: usize,
    /// `[rank, n]`.
    pub down: Vec<f64>,
    /// `[rank, rank]`.
    pub middle: Vec<f64>,
    /// `[n, rank]`.
    pub up: Vec<f64>,
}

fn matrix(values: &[f64], height: usize, width: usize) -> Mat<f64> {
    Mat::from_fn(height, width, |i, j| values[i * width + j])
}

fn row_major(matrix: &Mat<f64>) -> Vec<f64> {
    let width = matrix.ncols();
    (0..matrix.nrows() * width).map(|k| matrix[(k / width, k % width)]).collect()
}

impl LowRank {
    /// As one matrix `[n, n]`, row-major.
    pub fn matrix(&self) -> Vec<f64> {
        let Self { n, rank, down, middle, up } = self;
        if *rank == 0 {
            return vec![0.0; n * n];
        }
        let low = matrix(middle, *rank, *rank) * matrix(down, *rank, *n);
        row_major(&(matrix(up, *n, *rank) * low))
    }

    /// What it gives of one vector `[n]`.
    pub fn apply(&self, z: &[f64]) -> Vec<f64> {
        if self.rank == 0 {
            return vec![0.0; z.len()];
        }
        let times = |matrix: &[f64], x: &[f64]| -> Vec<f64> {
            let row = |row: &[f64]| row.iter().zip(x).map(|(a, b)| a * b).sum();
            matrix.chunks_exact(x.len()).map(row).collect()
        };
        times(&self.up, &times(&self.middle, &times(&self.down, z)))
    }
}

/// An affine map x -> weight x + bias on the host.
struct AffineMap {
    weight: Mat<f64>,
    bias: Mat<f64>,
}

impl AffineMap {
    fn of(linear: &Linear) -> Self {
        let [outputs, inputs] = linear.weight.dims();
        let bias = linear.bias.as_ref().map_or_else(|| vec![0.0; outputs], |bias| wide(bias.val()));
        Self {
            weight: matrix(&wide(linear.weight.val()), outputs, inputs),
            bias: matrix(&bias, outputs, 1),
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
        let narrow = |m: &Mat<f64>| crate::host::narrow(&row_major(m));
        let weight = rows(narrow(&self.weight), self.weight.ncols(), device);
        let bias = TensorData::new(narrow(&self.bias), [self.bias.nrows()]);
        let bias = Tensor::from_data(bias, device);
        Linear { weight: Param::from_tensor(weight), bias: Some(Param::from_tensor(bias)) }
    }
}

/// `student` with its operator cut to `low`, and `added` (`[n]`) added to what that gives; and its
/// configuration. Its operator works on `low.rank` dimensions, and one more for every class and one
/// for none where there is a control. `low.rank` is at least 1.
///
/// The clean encoder is followed by the pseudo-inverse of the way back, so that its latents are the
/// nearest ones of the smaller dimension.
///
/// # Errors
/// When the pseudo-inverse can't be found.
pub fn with_low_rank_operator(
    student: &Koopman,
    config: &StudentConfig,
    low: &LowRank,
    added: &[f64],
) -> Result<(Koopman, StudentConfig)> {
    let device = student.device();
    let (n, rank) = (low.n, low.rank);
    let control = student.control.as_ref().map(AffineMap::of);
    let classes = control.as_ref().map_or(0, |control| control.weight.ncols());
    let total = rank + if control.is_some() { classes + 1 } else { 0 };
    let up = Mat::from_fn(n, total, |i, j| match &control {
        _ if j < rank => low.up[i * rank + j],
        Some(control) if j < rank + classes => control.weight[(i, j - rank)],
        Some(control) => control.bias[(i, 0)],
        None => 0.0,
    });
    let decomposition = Decomposition::Svd;
    let svd = up.thin_svd().map_err(|_| Error::NoConvergence { decomposition, n })?;
    let inverse = svd.pseudoinverse();
    let added = matrix(added, n, 1);
    let identity = || AffineMap::identity(n);
    let (clean, noise, decoder) = match &student.projection {
        Some(p) => (AffineMap::of(&p.clean), AffineMap::of(&p.noise), AffineMap::of(&p.decoder)),
        None => (identity(), identity(), identity()),
    };
    let down = AffineMap {
        weight: Mat::from_fn(total, n, |i, j| if i < rank { low.down[i * n + j] } else { 0.0 }),
        bias: Mat::zeros(total, 1),
    };
    let nearest = AffineMap { bias: &inverse * &added * faer::Scale(-1.0), weight: inverse };
    let back = AffineMap { weight: up, bias: added };
    let middle = |i: usize, j: usize| if i.max(j) < rank { low.middle[i * rank + j] } else { 0.0 };
    let operator = Affine {
        n: total,
        matrix: (0..total * total).map(|k| middle(k / total, k % total)).collect(),
        bias: vec![0.0; total],
    };
    let unit = |i: usize, j: usize| f64::from(u8::from(i >= rank && i - rank == j));
    let control = control.is_some().then(|| {
        let weight = Mat::from_fn(total, classes, unit);
        AffineMap { weight, bias: Mat::from_fn(total, 1, |i, _| unit(i, classes)) }.linear(&device)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stepwise::Stepwise;
    use crate::{Method, NetworkConfig, Sampler, Student};
    use kdm_data::Labels;
    use kdm_random::normal_vec;

    /// The leading singular directions of an operator, in coordinates that are mixed with each
    /// other; and what the bias and the directions left out add at the latent `centre`.
    fn cut(affine: &Affine, centre: &[f64], rank: usize) -> (LowRank, Vec<f64>) {
        let n = affine.n;
        let svd = matrix(&affine.matrix, n, n).svd().unwrap();
        let mixed =
            Mat::from_fn(rank, rank, |i, j| if i == j { 2.0 } else { 0.5 / (1 + i) as f64 });
        let back = {
            use faer::linalg::solvers::DenseSolveCore;
            mixed.partial_piv_lu().inverse()
        };
        let values = Mat::from_fn(rank, rank, |i, j| if i == j { svd.S()[i] } else { 0.0 });
        let down = &mixed * svd.V().transpose().subrows(0, rank);
        let low = LowRank {
            n,
            rank,
            down: row_major(&down),
            middle: row_major(&(&back * values * &back)),
            up: row_major(&(svd.U().subcols(0, rank) * &mixed)),
        };
        let left = low.apply(centre);
        let added = affine.apply(centre).iter().zip(left).map(|(all, left)| all - left).collect();
        (low, added)
    }

    #[test]
    fn applying_is_multiplying_by_the_matrix() {
        let (n, rank) = (7, 3);
        let values = |seed, count| -> Vec<f64> {
            normal_vec(seed, count).into_iter().map(f64::from).collect()
        };
        let low = LowRank {
            n,
            rank,
            down: values(1, rank * n),
            middle: values(2, rank * rank),
            up: values(3, n * rank),
        };
        let z = values(4, n);
        let whole = Affine { n, matrix: low.matrix(), bias: vec![0.0; n] };
        let off = low.apply(&z).into_iter().zip(whole.apply(&z)).map(|(a, b)| (a - b).abs());
        assert!(off.fold(0.0, f64::max) < 1e-12);
        let none = LowRank { n, rank: 0, down: vec![], middle: vec![], up: vec![] };
        assert_eq!((none.apply(&z), none.matrix()), (vec![0.0; n], vec![0.0; n * n]));
    }

    /// At full rank the cut student draws what the student draws, for both forms of operator, with
    /// a projection and a control and without; at a lower rank, what the student with the cut
    /// operator draws. Its clean latents come back.
    #[test]
    fn a_student_of_low_rank_draws_what_the_cut_one_does() {
        let device = Device::flex();
        for (kind, projection, label_dim) in [
            (OperatorKind::Dense, None, 0),
            (OperatorKind::Dense, Some(8), 3),
            (OperatorKind::Factorized, None, 3),
            (OperatorKind::Factorized, Some(8), 0),
            (OperatorKind::Generator, Some(8), 3),
        ] {
            let config = StudentConfig {
                method: Method::Koopman,
                shape: vec![2],
                label_dim,
                noise_std: 1.0,
                latent: 12,
                levels: Vec::new(),
                network: NetworkConfig::Mlp { hidden: 16, layers: 2 },
                operator: OperatorConfig { kind, projection, control: label_dim > 0 },
            };
            let student = config.init(3, &device);
            let koopman = student.koopman().unwrap();
            let noise = normal_vec(1, 2 * 60);
            let classes: Vec<u32> = (0..60).map(|i| i % label_dim.max(1) as u32).collect();
            let labels = Labels::of(&classes);
            let parts = Stepwise { student: koopman, config: &config, device: &device };
            let latents = parts.encode_noise(&noise, &labels);
            let affine = koopman.operator.matrix();
            let centre: Vec<f64> = (0..affine.n)
                .map(|i| latents.iter().skip(i).step_by(affine.n).map(|x| f64::from(*x)).sum())
                .map(|sum: f64| sum / 60.0)
                .collect();
            for rank in [affine.n, 5, 1] {
                let (low, added) = cut(&affine, &centre, rank);
                let (small, smaller) =
                    with_low_rank_operator(koopman, &config, &low, &added).unwrap();
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
                    let small = back(Stepwise { student: &small, config: &smaller, ..parts });
                    assert!(apart(&small, &back(parts)) < 1e-3, "{kind:?}");
                }
            }
        }
    }
}
