//! The Fréchet distance between Gaussians fitted to features (Heusel et al., arXiv:1706.08500), and
//! its extrapolation to infinitely many samples (Chong and Forsyth, arXiv:1911.07023). Features are
//! rows of `dim` values; all sums are f64.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par, Side};
use kdm_random::Permutation;
use serde::Serialize;

use crate::error::FrechetError;

/// Mean and covariance of features.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Rows they were taken over.
    pub count: usize,
    /// `[dim]`.
    pub mean: Vec<f64>,
    /// `[dim, dim]`, symmetric, divided by count - 1.
    pub covariance: Vec<f64>,
}

impl Moments {
    /// Of `features` `[N, dim]`, at least two rows.
    pub fn of(features: &[f32], dim: usize) -> Self {
        let count = features.len() / dim;
        assert!(count > 1, "a covariance needs two rows");
        let mut mean = vec![0.0; dim];
        for row in features.chunks_exact(dim) {
            mean.iter_mut().zip(row).for_each(|(m, x)| *m += f64::from(*x));
        }
        mean.iter_mut().for_each(|m| *m /= count as f64);
        let mut sums = Mat::<f64>::zeros(dim, dim);
        // Some rows at a time, so that the centred copy stays small.
        for block in features.chunks(ROWS * dim) {
            let centred = Mat::from_fn(block.len() / dim, dim, |i, j| {
                f64::from(block[i * dim + j]) - mean[j]
            });
            let scale = 1.0 / (count - 1) as f64;
            matmul(
                sums.as_mut(),
                Accum::Add,
                centred.transpose(),
                centred.as_ref(),
                scale,
                Par::rayon(0),
            );
        }
        let covariance = (0..dim * dim)
            .map(|k| 0.5 * (sums[(k / dim, k % dim)] + sums[(k % dim, k / dim)]))
            .collect();
        Self { count, mean, covariance }
    }

    /// Values of a feature vector.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// Why these can be no moments: values that are not finite, or a covariance that is not
    /// symmetric or below zero in some direction (beyond the rounding of f32). None when they can.
    pub fn problem(&self) -> Option<MomentsError> {
        let dim = self.dim();
        let at = |i: usize, j: usize| self.covariance[i * dim + j];
        if self.mean.iter().chain(&self.covariance).any(|x| !x.is_finite()) {
            return Some(MomentsError::NotFinite);
        }
        let largest = (0..dim).map(|i| at(i, i)).fold(0.0, f64::max);
        let tolerance = COVARIANCE_TOLERANCE * largest;
        let pairs = || (0..dim).flat_map(|i| (0..i).map(move |j| (i, j)));
        if let Some((i, j)) = pairs().find(|(i, j)| (at(*i, *j) - at(*j, *i)).abs() > tolerance) {
            return Some(MomentsError::NotSymmetric { row: i, column: j });
        }
        if largest == 0.0 {
            return self.covariance.iter().any(|x| *x != 0.0).then_some(MomentsError::Negative);
        }
        // Positive definite with a little added: a Cholesky decomposition exists.
        let lifted = Mat::from_fn(dim, dim, |i, j| at(i, j) + if i == j { tolerance } else { 0.0 });
        lifted.llt(Side::Lower).is_err().then_some(MomentsError::Negative)
    }

    fn matrix(&self) -> MatRef<'_, f64> {
        // Symmetric: rows are columns.
        MatRef::from_column_major_slice(&self.covariance, self.dim(), self.dim())
    }
}

/// How far a covariance may be from one, in shares of its largest variance: the rounding of f32
/// over thousands of values.
const COVARIANCE_TOLERANCE: f64 = 1e-4;

/// Why moments are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MomentsError {
    /// A value is NaN or infinite.
    #[error("has values that are not finite")]
    NotFinite,
    /// The covariance is not symmetric.
    #[error("is not symmetric (row {row}, column {column}), and so no covariance")]
    NotSymmetric {
        /// A row.
        row: usize,
        /// The column where it differs from its mirror.
        column: usize,
    },
    /// The covariance is negative in some direction.
    #[error("is below zero in some direction, and so no covariance")]
    Negative,
}

/// Rows a block.
const ROWS: usize = 4096;

/// |m_a - m_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2) (1706.08500, eq. 6). The root is taken by
/// eigenvalues, those below zero (rounding) as zero, so it exists for singular covariances too.
///
/// ```
/// use kdm_metrics::{Moments, frechet_distance};
///
/// // Two sets of points in the plane, one shifted by (3, 4): the squared distance of the means.
/// let a = kdm_random::normal_vec(0, 2 * 500);
/// let b: Vec<f32> = a.chunks(2).flat_map(|x| [x[0] + 3.0, x[1] + 4.0]).collect();
/// let distance = frechet_distance(&Moments::of(&a, 2), &Moments::of(&b, 2))?;
/// assert!((distance - 25.0).abs() < 1e-4);
/// # Ok::<(), kdm_metrics::FrechetError>(())
/// ```
///
/// # Errors
/// When a value is not finite or the dimensions differ.
pub fn frechet_distance(a: &Moments, b: &Moments) -> Result<f64, FrechetError> {
    let dim = a.dim();
    if dim != b.dim() {
        return Err(FrechetError::Dimensions(dim, b.dim()));
    }
    let failed = |_| FrechetError::NotFinite;
    let finite = |m: &Moments| m.mean.iter().chain(&m.covariance).all(|x| x.is_finite());
    if !finite(a) || !finite(b) {
        return Err(FrechetError::NotFinite);
    }
    let eigen = a.matrix().self_adjoint_eigen(Side::Lower).map_err(failed)?;
    let (u, s) = (eigen.U(), eigen.S());
    // A^1/2 up to a rotation: diag(s)^1/2 U^T, which leaves the eigenvalues of the product as they
    // are.
    let root = Mat::from_fn(dim, dim, |i, j| s[i].max(0.0).sqrt() * u[(j, i)]);
    let mut half = Mat::<f64>::zeros(dim, dim);
    matmul(half.as_mut(), Accum::Replace, root.as_ref(), b.matrix(), 1.0, Par::rayon(0));
    let mut product = Mat::<f64>::zeros(dim, dim);
    matmul(product.as_mut(), Accum::Replace, half.as_ref(), root.transpose(), 1.0, Par::rayon(0));
    let values = product.self_adjoint_eigenvalues(Side::Lower).map_err(failed)?;
    let cross: f64 = values.iter().map(|x| x.max(0.0).sqrt()).sum();
    let trace = |m: &Moments| (0..dim).map(|i| m.covariance[i * dim + i]).sum::<f64>();
    let means: f64 = a.mean.iter().zip(&b.mean).map(|(x, y)| (x - y).powi(2)).sum();
    Ok(means + trace(a) + trace(b) - 2.0 * cross)
}

/// A distance extrapolated to infinitely many samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Extrapolated {
    /// The line's value at 1/N = 0.
    pub value: f64,
    /// Its slope: the distance's bias is about slope / N.
    pub slope: f64,
}

/// Sizes of the subsets that the line is fitted to.
const SIZES: usize = 15;
/// The least number of samples to extrapolate from.
pub const LEAST_EXTRAPOLATED: usize = 100;

/// The distance of `features` `[N, dim]` to `reference`, extrapolated: over 1/N it is nearly a
/// straight line, which is fitted to random subsets of a tenth of the samples up to all of them,
/// and read off at 0. The bias by the reference's own finite number of images stays in it.
///
/// # Errors
/// As for [`frechet_distance`], or when there are fewer than [`LEAST_EXTRAPOLATED`] samples.
pub fn extrapolated(
    features: &[f32],
    dim: usize,
    reference: &Moments,
    seed: u64,
) -> Result<Extrapolated, FrechetError> {
    let count = features.len() / dim;
    if count < LEAST_EXTRAPOLATED {
        return Err(FrechetError::TooFew { found: count, needed: LEAST_EXTRAPOLATED });
    }
    let mut points = Vec::new();
    for k in 0..SIZES {
        let n = count / 10 + (count - count / 10) * k / (SIZES - 1);
        let order = Permutation::new(kdm_random::derive_seed(seed, k as u64), count as u64);
        let subset: Vec<f32> = (0..n as u64)
            .flat_map(|i| {
                let at = order.at(i) as usize;
                &features[at * dim..(at + 1) * dim]
            })
            .copied()
            .collect();
        points.push((1.0 / n as f64, frechet_distance(&Moments::of(&subset, dim), reference)?));
    }
    let n = points.len() as f64;
    let (mx, my) =
        (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let slope = points.iter().map(|(x, y)| (x - mx) * (y - my)).sum::<f64>()
        / points.iter().map(|(x, _)| (x - mx).powi(2)).sum::<f64>();
    Ok(Extrapolated { value: my - slope * mx, slope })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_random::normal_vec;

    fn moments(mean: &[f64], covariance: &[f64]) -> Moments {
        Moments { count: 10, mean: mean.to_vec(), covariance: covariance.to_vec() }
    }

    /// Commuting covariances: sum of (sqrt a - sqrt b)^2 over their axes.
    #[test]
    fn distance_of_gaussians_with_common_axes() {
        let (c, s) = (0.6, 0.8);
        let rotated = |a: f64, b: f64| {
            [c * c * a + s * s * b, c * s * (a - b), c * s * (a - b), s * s * a + c * c * b]
        };
        let (a, b) =
            (moments(&[1.0, 2.0], &rotated(4.0, 9.0)), moments(&[0.0, 4.0], &rotated(1.0, 16.0)));
        assert!((frechet_distance(&a, &b).unwrap() - 7.0).abs() < 1e-12);
        assert!(frechet_distance(&a, &a).unwrap().abs() < 1e-12);
        // Singular: all variance along one axis.
        let flat = moments(&[0.0, 0.0], &[1.0, 0.0, 0.0, 0.0]);
        let other = moments(&[0.0, 0.0], &[0.0, 0.0, 0.0, 1.0]);
        assert!((frechet_distance(&flat, &other).unwrap() - 2.0).abs() < 1e-12);
        let error = |b| frechet_distance(&a, &b).unwrap_err();
        assert_eq!(error(moments(&[0.0], &[1.0])), FrechetError::Dimensions(2, 1));
        assert_eq!(error(moments(&[f64::NAN, 0.0], &[1.0; 4])), FrechetError::NotFinite);
    }

    #[test]
    fn moments_by_hand() {
        let m = Moments::of(&[1.0, 0.0, 3.0, 2.0, 5.0, 1.0], 2);
        assert_eq!((m.count, m.mean), (3, vec![3.0, 1.0]));
        let expected = [4.0, 1.0, 1.0, 1.0];
        assert!(m.covariance.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12));
    }

    /// Samples of the reference's own distribution: the plain distance is biased upwards, the
    /// line's end is near 0.
    #[test]
    fn extrapolation_takes_the_bias_away() {
        let (dim, n) = (8, 1000);
        let identity: Vec<f64> =
            (0..dim * dim).map(|k| f64::from(u8::from(k / dim == k % dim))).collect();
        let reference = moments(&vec![0.0; dim], &identity);
        let features = normal_vec(7, n * dim);
        let plain = frechet_distance(&Moments::of(&features, dim), &reference).unwrap();
        let e = extrapolated(&features, dim, &reference, 1).unwrap();
        // The mean's part of the bias is dim / n, the covariance's about dim (dim + 1) / (4 n).
        let bias = (dim + dim * (dim + 1) / 4) as f64 / n as f64;
        assert!((plain / bias - 1.0).abs() < 0.6, "{plain} {bias}");
        assert!(e.value.abs() < 0.5 * plain && e.slope > 0.0, "{e:?} {plain}");
    }
}
