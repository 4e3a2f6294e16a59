//! The Gaussian teacher, whose denoiser and whole flow are known in closed form.

use faer::{Mat, Side};
use kdm_data::Labels;
use kdm_nn::Problem;

use crate::denoiser::map_rows;
use crate::{Denoiser, Level};

/// Data drawn from N(mean, covariance); unconditional.
#[derive(Clone, Debug)]
pub struct Gaussian {
    mean: Vec<f64>,
    /// Eigenvalues of the covariance.
    variances: Vec<f64>,
    /// Its eigenvectors, as rows.
    axes: Vec<Vec<f64>>,
}

impl Gaussian {
    /// Data from N(mean, covariance), the covariance given by rows.
    ///
    /// # Errors
    /// When the covariance is of another size, not symmetric, or not positive definite.
    pub fn new(mean: Vec<f64>, covariance: Vec<Vec<f64>>) -> Result<Self, Problem> {
        let problem = |text: &str| Problem::new("covariance", text);
        let n = mean.len();
        if n == 0 || covariance.len() != n || covariance.iter().any(|row| row.len() != n) {
            let text = format!("must have {n} rows of {n} numbers, as `mean` has {n}");
            return Err(problem(&text));
        }
        let matrix = Mat::from_fn(n, n, |i, j| covariance[i][j]);
        let symmetric =
            (0..n).all(|i| (0..i).all(|j| (matrix[(i, j)] - matrix[(j, i)]).abs() < 1e-9));
        let eigen =
            matrix.self_adjoint_eigen(Side::Lower).map_err(|_| problem("has no eigenvalues"))?;
        let variances: Vec<f64> = (0..n).map(|i| eigen.S()[i]).collect();
        if !symmetric || !variances.iter().all(|v| *v > 0.0) {
            return Err(problem("must be symmetric with eigenvalues above 0"));
        }
        let axes = (0..n).map(|k| (0..n).map(|i| eigen.U()[(i, k)]).collect()).collect();
        Ok(Self { mean, variances, axes })
    }

    /// The exact end x_0 of the flow that passes through `x` (rows) at `level`: along each axis of
    /// the covariance the sample keeps its place in units of the marginal standard deviation
    /// sqrt(alpha^2 v + sigma^2).
    pub fn flow(&self, x: &[f64], level: Level) -> Vec<f64> {
        self.along_axes(x, level, |v| (v / (level.alpha.powi(2) * v + level.sigma.powi(2))).sqrt())
    }

    /// `n` points row by row, the stream of `seed`.
    pub fn sample(&self, seed: u64, n: usize) -> Vec<f64> {
        let dim = self.mean.len();
        let e: Vec<f64> =
            kdm_random::normal_vec(seed, n * dim).into_iter().map(f64::from).collect();
        self.along_axes(&e, Level { alpha: 0.0, sigma: 1.0 }, f64::sqrt)
    }

    /// mean + sum over axes of factor(variance) times the coordinate of x - alpha mean.
    fn along_axes(&self, x: &[f64], level: Level, factor: impl Fn(f64) -> f64 + Sync) -> Vec<f64> {
        map_rows(x, self.mean.len(), |_, x, out| {
            out.copy_from_slice(&self.mean);
            for (axis, variance) in self.axes.iter().zip(&self.variances) {
                let centred = x.iter().zip(&self.mean).map(|(x, m)| x - level.alpha * m);
                let coordinate: f64 = centred.zip(axis).map(|(c, a)| c * a).sum();
                let scaled = factor(*variance) * coordinate;
                out.iter_mut().zip(axis).for_each(|(out, a)| *out += scaled * a);
            }
        })
    }
}

impl Denoiser for Gaussian {
    fn shape(&self) -> Vec<usize> {
        vec![self.mean.len()]
    }

    /// mean + alpha v / (alpha^2 v + sigma^2) (x - alpha mean), axis by axis.
    fn denoise(&self, x: &[f64], level: Level, _labels: &Labels) -> Vec<f64> {
        let Level { alpha, sigma } = level;
        self.along_axes(x, level, |v| alpha * v / (alpha * alpha * v + sigma * sigma))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_the_mean_and_the_covariance() {
        let covariance = vec![vec![2.0, 0.6], vec![0.6, 0.5]];
        let g = Gaussian::new(vec![1.0, -3.0], covariance.clone()).unwrap();
        let n = 200_000;
        let x = g.sample(1, n);
        let mean = |f: &dyn Fn(&[f64]) -> f64| x.chunks(2).map(f).sum::<f64>() / n as f64;
        // Five standard errors of a mean of numbers with variance at most 2 and kurtosis 3.
        let bound = 5.0 * 2.0 * 2f64.sqrt() / (n as f64).sqrt();
        assert!((mean(&|x| x[0]) - 1.0).abs() < bound && (mean(&|x| x[1]) + 3.0).abs() < bound);
        for i in 0..2 {
            for j in 0..2 {
                let m = [1.0, -3.0];
                let c = mean(&|x| (x[i] - m[i]) * (x[j] - m[j]));
                assert!((c - covariance[i][j]).abs() < bound, "{i}{j} {c}");
            }
        }
    }

    #[test]
    fn impossible_covariances_are_refused() {
        for bad in [
            vec![vec![1.0]],
            vec![vec![1.0, 2.0], vec![2.0, 1.0]],
            vec![vec![1.0, 0.5], vec![0.0, 1.0]],
        ] {
            assert!(Gaussian::new(vec![0.0, 0.0], bad).is_err());
        }
    }
}
