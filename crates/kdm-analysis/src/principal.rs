//! The directions in which pushed latents vary most (principal components): the best operator of a
//! given rank on real latents, beside which the truncation to modes is judged.

use faer::{Mat, Side};
use kdm_koopman::LowRank;
use kdm_koopman::operator::Affine;

use crate::{Error, Result};

/// Principal directions of C z over real latents z.
#[derive(Clone, Debug)]
pub struct Principal {
    affine: Affine,
    /// Mean of A z.
    mean: Vec<f64>,
    /// In columns, the one of most variance first.
    directions: Mat<f64>,
    /// A z's variance along each.
    pub variances: Vec<f64>,
}

impl Principal {
    /// Of an operator on real latents: rows z_T, at least two.
    ///
    /// # Errors
    /// When values are not finite.
    pub fn of(affine: &Affine, latents: &[f32]) -> Result<Self> {
        let n = affine.n;
        let rows = latents.len() / n;
        let a = Mat::from_fn(n, n, |i, j| affine.matrix[i * n + j]);
        let z = Mat::from_fn(n, rows, |j, r| f64::from(latents[r * n + j]));
        let mut pushed = &a * &z;
        let mean: Vec<f64> =
            (0..n).map(|i| (0..rows).map(|r| pushed[(i, r)]).sum::<f64>() / rows as f64).collect();
        (0..n).for_each(|i| (0..rows).for_each(|r| pushed[(i, r)] -= mean[i]));
        let covariance = &pushed * pushed.transpose() * faer::Scale(1.0 / rows as f64);
        let eigen = covariance
            .self_adjoint_eigen(Side::Lower)
            .map_err(|_| Error::PrincipalDirections { n })?;
        // Rising in faer.
        let directions = Mat::from_fn(n, n, |i, k| eigen.U()[(i, n - 1 - k)]);
        let variances = (0..n).map(|k| eigen.S()[n - 1 - k].max(0.0)).collect();
        Ok(Self { affine: affine.clone(), mean, directions, variances })
    }

    /// The direction of this place, from 0: a row of length 1, the one of most variance first.
    pub fn direction(&self, place: usize) -> Vec<f64> {
        (0..self.affine.n).map(|i| self.directions[(i, place)]).collect()
    }

    /// The linear part of [`Self::truncated`] in factors: orthonormal `down` and `up`, so that the
    /// middle stretches as the operator does. Its eigenvalues are not the operator's.
    pub fn low_rank(&self, rank: usize) -> LowRank {
        let n = self.affine.n;
        let kept = self.directions.subcols(0, rank);
        let a = Mat::from_fn(n, n, |i, j| self.affine.matrix[i * n + j]);
        // (U^T A)^T = Q R, so U^T A = R^T Q^T.
        let qr = (a.transpose() * kept).qr();
        let (q, r) = (qr.compute_thin_Q(), qr.thin_R());
        LowRank {
            n,
            rank,
            down: (0..rank * n).map(|k| q[(k % n, k / n)]).collect(),
            middle: (0..rank * rank)
                .map(|k| if k % rank <= k / rank { r[(k % rank, k / rank)] } else { 0.0 })
                .collect(),
            up: (0..n * rank).map(|k| kept[(k / rank, k % rank)]).collect(),
        }
    }

    /// The operator cut to the first `rank` directions; along the others it gives the mean.
    pub fn truncated(&self, rank: usize) -> Affine {
        let n = self.affine.n;
        let kept = self.directions.subcols(0, rank);
        let projection = kept * kept.transpose();
        let a = Mat::from_fn(n, n, |i, j| self.affine.matrix[i * n + j]);
        let matrix = &projection * &a;
        let bias = (0..n).map(|i| {
            let inside: f64 = (0..n).map(|j| projection[(i, j)] * self.mean[j]).sum();
            self.affine.bias[i] + self.mean[i] - inside
        });
        Affine {
            n,
            matrix: (0..n * n).map(|k| matrix[(k / n, k % n)]).collect(),
            bias: bias.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_random::normal_vec;

    /// What is lost at a rank is the variance along the directions left out, and no other
    /// projection of that rank loses less (Eckart and Young): here, that of coordinates.
    #[test]
    fn the_variance_left_out_is_the_error() {
        let n = 6;
        let matrix: Vec<f64> = normal_vec(1, n * n).into_iter().map(f64::from).collect();
        let affine =
            Affine { n, matrix, bias: normal_vec(2, n).into_iter().map(f64::from).collect() };
        let latents = normal_vec(3, 50 * n);
        let principal = Principal::of(&affine, &latents).unwrap();
        let push = |affine: &Affine, z: &[f32]| -> Vec<f64> {
            let row = |i: usize| {
                (0..n).map(|j| affine.matrix[i * n + j] * f64::from(z[j])).sum::<f64>()
                    + affine.bias[i]
            };
            (0..n).map(row).collect()
        };
        for rank in 0..=n {
            let cut = principal.truncated(rank);
            let error = |z: &[f32]| {
                push(&affine, z)
                    .iter()
                    .zip(push(&cut, z))
                    .map(|(a, b)| (a - b).powi(2))
                    .sum::<f64>()
            };
            let found = latents.chunks(n).map(error).sum::<f64>() / 50.0;
            let left: f64 = principal.variances[rank..].iter().sum();
            assert!((found - left).abs() < 1e-9, "{rank}: {found} {left}");
            let factors = principal.low_rank(rank).matrix();
            assert!(factors.iter().zip(&cut.matrix).all(|(a, b)| (a - b).abs() < 1e-12), "{rank}");
        }
        assert!(principal.variances.is_sorted_by(|a, b| a >= b));
    }
}
