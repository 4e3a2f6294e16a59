//! Eigenvalues of a real matrix, and the loss that draws them to targets.

use faer::{Col, Mat, MatRef, Par, c64};
use serde::{Deserialize, Serialize};

use super::affine::Complex;
use crate::error::{Decomposition, Error, Result};

/// Where the eigenvalue loss draws the operator's eigenvalues: mean |lambda_i - t_i| (paper,
/// ablation of the eigenvalue losses).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EigenvalueTarget {
    /// No such loss.
    None,
    /// Uniform in the square [-1, 1]^2.
    Uniform,
    /// Half with radius uniform in [0.9, 1], half in [0, 0.5]; phases uniform.
    Gradual,
    /// The number 1.
    One,
}

impl EigenvalueTarget {
    /// The targets of n eigenvalues; none when there is no loss. Drawn once for a training, by its
    /// seed.
    pub fn targets(self, n: usize, seed: u64) -> Option<Vec<Complex>> {
        let uniform = |stream: u64, i: usize| {
            kdm_random::uniform_f64(kdm_random::derive_seed(seed, stream), i as u64)
        };
        let target = |i: usize| match self {
            Self::None => None,
            Self::One => Some((1.0, 0.0)),
            Self::Uniform => Some((2.0 * uniform(0, i) - 1.0, 2.0 * uniform(1, i) - 1.0)),
            Self::Gradual => {
                let radius =
                    if i < n / 2 { 0.9 + 0.1 * uniform(0, i) } else { 0.5 * uniform(0, i) };
                let phase = std::f64::consts::TAU * uniform(1, i);
                Some((radius * phase.cos(), radius * phase.sin()))
            }
        };
        (0..n).map(target).collect()
    }
}

fn matrix(values: &[f64], n: usize) -> Mat<f64> {
    Mat::from_fn(n, n, |i, j| values[i * n + j])
}

fn check_finite(values: &[f64]) -> Result<()> {
    if values.iter().all(|x| x.is_finite()) { Ok(()) } else { Err(Error::NotFinite) }
}

/// All n eigenvalues of a real n x n matrix given by rows.
///
/// # Errors
/// When values are not finite or the computation doesn't converge.
pub fn eigenvalues(values: &[f64], n: usize) -> Result<Vec<Complex>> {
    check_finite(values)?;
    let decomposition = Decomposition::Eigenvalues;
    let found =
        matrix(values, n).eigenvalues().map_err(|_| Error::NoConvergence { decomposition, n })?;
    Ok(found.into_iter().map(|l| (l.re, l.im)).collect())
}

/// The `count` eigenvalues of largest modulus of a real n x n matrix given by rows, or fewer when
/// they don't converge, by a Krylov-Schur iteration: for matrices that are too large for all of
/// them.
///
/// # Errors
/// When values are not finite or none is found.
pub fn leading_eigenvalues(values: &[f64], n: usize, count: usize) -> Result<Vec<Complex>> {
    use faer::dyn_stack::{MemBuffer, MemStack};
    use faer::matrix_free::eigen::{PartialEigenParams, partial_eigen, partial_eigen_scratch};
    check_finite(values)?;
    let matrix = MatRef::from_row_major_slice(values, n, n);
    let start = kdm_random::normal_vec(START_SEED, n);
    let start = Col::from_fn(n, |i| f64::from(start[i]) / (n as f64).sqrt());
    let (par, params) = (
        Par::rayon(0),
        PartialEigenParams { max_restarts: RESTARTS, ..PartialEigenParams::default() },
    );
    let mut memory = MemBuffer::new(partial_eigen_scratch(&matrix, count, par, params));
    let (mut vectors, mut found) = (Mat::<c64>::zeros(n, count), vec![c64::new(0.0, 0.0); count]);
    let stack = MemStack::new(&mut memory);
    let info = partial_eigen(
        vectors.as_mut(),
        &mut found,
        &matrix,
        start.as_ref(),
        1e-10,
        par,
        stack,
        params,
    );
    found.truncate(info.n_converged_eigen);
    if found.is_empty() {
        let decomposition = Decomposition::LeadingEigenvalues;
        return Err(Error::NoConvergence { decomposition, n });
    }
    Ok(found.into_iter().map(|l| (l.re, l.im)).collect())
}

/// Where the iteration starts, and how often at most.
const START_SEED: u64 = 21;
const RESTARTS: usize = 300;

/// An eigenvalue loss and its gradient with respect to the matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct EigenvalueLoss {
    /// mean |lambda_i - t_i|.
    pub value: f64,
    /// d value / d A, n x n, row-major.
    pub gradient: Vec<f64>,
}

/// mean |lambda_i - t_i| over the eigenvalues of a real n x n matrix. Eigenvalues and targets are
/// matched in the order of their real, then imaginary parts, so that the loss does not depend on
/// the order an algorithm finds them in.
///
/// With right eigenvectors as columns of V and W = V^-1, whose rows are the left ones
/// (w_i v_i = 1), d lambda_i = w_i dA v_i, and so
/// d|lambda_i - t_i| / dA_jk = Re(conj(u_i) w_ij v_ki) with
/// u_i = (lambda_i - t_i) / |lambda_i - t_i|.
///
/// # Errors
/// When values are not finite or the matrix has no basis of eigenvectors.
pub fn eigenvalue_loss(values: &[f64], n: usize, targets: &[Complex]) -> Result<EigenvalueLoss> {
    check_finite(values)?;
    let decomposition = Decomposition::Eigenvectors;
    let eigen = matrix(values, n).eigen().map_err(|_| Error::NoConvergence { decomposition, n })?;
    let (lambda, v) = (eigen.S(), eigen.U());
    let w = {
        use faer::linalg::solvers::DenseSolveCore;
        v.partial_piv_lu().inverse()
    };
    let by_parts = |a: Complex, b: Complex| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1));
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| by_parts((lambda[*a].re, lambda[*a].im), (lambda[*b].re, lambda[*b].im)));
    let mut sorted = targets.to_vec();
    sorted.sort_by(|a, b| by_parts(*a, *b));

    let mut value = 0.0;
    // diag(conj(u)) W, scaled by 1/n; the gradient is Re(V that)^T.
    let mut weighted = Mat::<c64>::zeros(n, n);
    for (i, target) in order.into_iter().zip(sorted) {
        let (re, im) = (lambda[i].re - target.0, lambda[i].im - target.1);
        let length = re.hypot(im);
        value += length / n as f64;
        if length > 0.0 {
            let u = c64::new(re / length / n as f64, -im / length / n as f64);
            (0..n).for_each(|j| weighted[(i, j)] = u * w[(i, j)]);
        }
    }
    let product = v * &weighted;
    let gradient: Vec<f64> = (0..n * n).map(|k| product[(k % n, k / n)].re).collect();
    if gradient.iter().any(|g| !g.is_finite()) {
        return Err(Error::NoEigenvectors { n });
    }
    Ok(EigenvalueLoss { value, gradient })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest of a random matrix, found by iteration and all at once. In a disc of eigenvalues
    /// of nearly one modulus the last of them are the hardest: the first eight of twelve are
    /// compared.
    #[test]
    fn leading_eigenvalues_are_the_largest() {
        let n = 150;
        let values: Vec<f64> =
            kdm_random::normal_vec(7, n * n).into_iter().map(f64::from).collect();
        let modulus = |l: &Complex| l.0.hypot(l.1);
        let sorted = |mut all: Vec<Complex>| {
            all.sort_by(|a, b| modulus(b).total_cmp(&modulus(a)));
            all.iter().take(8).map(modulus).collect::<Vec<f64>>()
        };
        let (all, leading) =
            (eigenvalues(&values, n).unwrap(), leading_eigenvalues(&values, n, 12).unwrap());
        for (a, b) in sorted(all).into_iter().zip(sorted(leading)) {
            assert!((a - b).abs() < 1e-7 * a, "{a} {b}");
        }
        assert!(matches!(leading_eigenvalues(&[f64::NAN], 1, 1), Err(Error::NotFinite)));
    }

    #[test]
    fn eigenvalues_of_a_rotation() {
        let (r, a) = (0.8, 0.7f64);
        let m = [r * a.cos(), -r * a.sin(), r * a.sin(), r * a.cos()];
        let mut found = eigenvalues(&m, 2).unwrap();
        found.sort_by(|a, b| a.1.total_cmp(&b.1));
        for ((re, im), sign) in found.into_iter().zip([-1.0, 1.0]) {
            assert!((re - r * a.cos()).abs() < 1e-12 && (im - sign * r * a.sin()).abs() < 1e-12);
        }
    }

    /// The dense loss's gradient against central differences in f64.
    #[test]
    fn dense_gradient_equals_finite_differences() {
        for (target, n) in [
            (EigenvalueTarget::One, 5),
            (EigenvalueTarget::Uniform, 6),
            (EigenvalueTarget::Gradual, 8),
        ] {
            let values: Vec<f64> = kdm_random::normal_vec(n as u64, n * n)
                .into_iter()
                .map(|x| f64::from(x) * 0.5)
                .collect();
            let targets = target.targets(n, 9).unwrap();
            let loss = eigenvalue_loss(&values, n, &targets).unwrap();
            for k in 0..n * n {
                let h = 1e-6;
                let at = |delta: f64| {
                    let mut moved = values.clone();
                    moved[k] += delta;
                    eigenvalue_loss(&moved, n, &targets).unwrap().value
                };
                let difference = (at(h) - at(-h)) / (2.0 * h);
                // Second-order error h^2 times curvature, and eigenvalue rounding 1e-15 / h.
                assert!(
                    (difference - loss.gradient[k]).abs() < 1e-6,
                    "{target:?} {k}: {difference} {}",
                    loss.gradient[k]
                );
            }
        }
    }

    #[test]
    fn targets_lie_where_they_should() {
        let inside = |t: &Complex| t.0.abs() <= 1.0 && t.1.abs() <= 1.0;
        assert!(EigenvalueTarget::Uniform.targets(500, 1).unwrap().iter().all(inside));
        let gradual = EigenvalueTarget::Gradual.targets(500, 1).unwrap();
        let radii: Vec<f64> = gradual.iter().map(|t| t.0.hypot(t.1)).collect();
        assert!(
            radii[..250].iter().all(|r| (0.9..=1.0).contains(r))
                && radii[250..].iter().all(|r| *r <= 0.5)
        );
        assert_eq!(EigenvalueTarget::None.targets(3, 1), None);
    }
}
