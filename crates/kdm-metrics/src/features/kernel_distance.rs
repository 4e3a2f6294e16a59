//! The kernel inception distance (Binkowski et al., arXiv:1801.01401): the unbiased squared maximum
//! mean discrepancy of features under the cubic kernel (x.y / dim + 1)^3, over random subsets.

use kdm_random::Permutation;
use rayon::prelude::*;
use serde::Serialize;

use crate::features::pairwise::products;

/// Mean and deviation over subsets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct KernelDistance {
    /// The distance; it may fall below 0, being unbiased.
    pub mean: f64,
    /// Standard deviation over subsets.
    pub deviation: f64,
}

/// Subsets, and rows of each, as torch-fidelity takes them.
const SUBSETS: u64 = 100;
const ROWS: usize = 1000;

/// The distance of `a` to `b`, rows of `dim` values, at least two of each: over 100 subsets of at
/// most 1000 rows of both, drawn by `seed`.
pub fn kernel_distance(a: &[f32], b: &[f32], dim: usize, seed: u64) -> KernelDistance {
    let rows = ROWS.min(a.len() / dim).min(b.len() / dim);
    let subset = |x: &[f32], seed: u64| -> Vec<f32> {
        let order = Permutation::new(seed, (x.len() / dim) as u64);
        let at = (0..rows as u64).map(|i| order.at(i) as usize);
        at.flat_map(|at| &x[at * dim..(at + 1) * dim]).copied().collect()
    };
    let values: Vec<f64> = (0..SUBSETS)
        .into_par_iter()
        .map(|k| {
            let seed = kdm_random::derive_seed(seed, k);
            discrepancy(
                &subset(a, kdm_random::derive_seed(seed, 0)),
                &subset(b, kdm_random::derive_seed(seed, 1)),
                dim,
            )
        })
        .collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
    KernelDistance { mean, deviation }
}

/// The unbiased squared discrepancy of two sets; at least two rows each.
fn discrepancy(a: &[f32], b: &[f32], dim: usize) -> f64 {
    let kernel = |x: f64| (x / dim as f64 + 1.0).powi(3);
    let sum = |x: &[f32], y: &[f32]| products(x, y, dim).into_iter().map(kernel).sum::<f64>();
    let own = |x: &[f32]| {
        let n = (x.len() / dim) as f64;
        let diagonal = |row: &[f32]| kernel(row.iter().map(|x| f64::from(*x).powi(2)).sum());
        (sum(x, x) - x.chunks_exact(dim).map(diagonal).sum::<f64>()) / (n * (n - 1.0))
    };
    own(a) + own(b) - 2.0 * sum(a, b) / ((a.len() / dim) as f64 * (b.len() / dim) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_random::normal_vec;

    /// One value a feature: a = {0, 2}, b = {1, 1}; k(0,2) = 1, k(1,1) = 8, k(0,1) = 1 and
    /// k(2,1) = 27.
    #[test]
    fn discrepancy_by_hand() {
        assert!((discrepancy(&[0.0, 2.0], &[1.0, 1.0], 1) - (1.0 + 8.0 - 28.0)).abs() < 1e-12);
    }

    #[test]
    fn equal_distributions_are_at_zero_and_others_are_not() {
        let (a, b) = (normal_vec(1, 3000 * 4), normal_vec(2, 3000 * 4));
        let same = kernel_distance(&a, &b, 4, 5);
        assert!(same.mean.abs() < 3.0 * same.deviation, "{same:?}");
        let far: Vec<f32> = b.iter().map(|x| x + 0.5).collect();
        let apart = kernel_distance(&a, &far, 4, 5);
        assert!(apart.mean > 10.0 * apart.deviation, "{apart:?}");
    }
}
