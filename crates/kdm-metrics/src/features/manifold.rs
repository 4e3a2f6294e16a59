//! Fidelity and diversity by nearest neighbours in feature space: improved precision and recall
//! (Kynkäänniemi et al., arXiv:1904.06991), density and coverage (Naeem et al., arXiv:2002.09797);
//! and nearest neighbours themselves.

use serde::Serialize;

use crate::features::pairwise::squared_distances;

/// Neighbours that make a ball, as density and coverage's authors advise; precision and recall take
/// the same here.
pub const NEIGHBOURS: usize = 5;

/// All four, each 1 at best (density may exceed it).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Manifold {
    /// Share of samples inside some real image's ball.
    pub precision: f64,
    /// Share of real images inside some sample's ball.
    pub recall: f64,
    /// Mean number of real images' balls that a sample is in, over the neighbours that make a ball.
    pub density: f64,
    /// Share of real images whose ball holds a sample.
    pub coverage: f64,
}

/// Each row's squared distance to its `neighbours`-th neighbour among the others.
fn radii(x: &[f32], dim: usize, neighbours: usize) -> Vec<f64> {
    let mut radii = Vec::with_capacity(x.len() / dim);
    squared_distances(x, x, dim, |i, distances| {
        let mut others: Vec<f64> = distances.to_vec();
        others.swap_remove(i);
        radii.push(*others.select_nth_unstable_by(neighbours - 1, f64::total_cmp).1);
    });
    radii
}

/// All four for the features of samples against those of real images: rows of `dim` values, more
/// than `neighbours` of each; `neighbours` at least 1. The cost is quadratic in the rows.
pub fn manifold(real: &[f32], samples: &[f32], dim: usize, neighbours: usize) -> Manifold {
    let (n, m) = (real.len() / dim, samples.len() / dim);
    assert!(neighbours > 0 && n.min(m) > neighbours, "more rows than neighbours");
    let (of_real, of_samples) = (radii(real, dim, neighbours), radii(samples, dim, neighbours));
    let (mut precise, mut inside, mut recalled, mut covered) =
        (vec![false; m], 0usize, 0usize, 0usize);
    squared_distances(real, samples, dim, |i, distances| {
        recalled += usize::from(distances.iter().zip(&of_samples).any(|(d, radius)| d <= radius));
        let mut some = false;
        for (d, precise) in distances.iter().zip(&mut precise) {
            if *d <= of_real[i] {
                (*precise, some) = (true, true);
                inside += 1;
            }
        }
        covered += usize::from(some);
    });
    Manifold {
        precision: precise.iter().filter(|p| **p).count() as f64 / m as f64,
        recall: recalled as f64 / n as f64,
        density: inside as f64 / (neighbours * m) as f64,
        coverage: covered as f64 / n as f64,
    }
}

/// For each row of `x` the `count` nearest rows of `y` (or all, if there are fewer) and their
/// distances, nearest first.
pub fn nearest(x: &[f32], y: &[f32], dim: usize, count: usize) -> Vec<Vec<(usize, f64)>> {
    let mut found = Vec::with_capacity(x.len() / dim);
    squared_distances(x, y, dim, |_, distances| {
        let mut all: Vec<(usize, f64)> = distances.iter().copied().enumerate().collect();
        if count < all.len() {
            all.select_nth_unstable_by(count, |a, b| a.1.total_cmp(&b.1));
            all.truncate(count);
        }
        all.sort_by(|a, b| a.1.total_cmp(&b.1));
        found.push(all.into_iter().map(|(at, d)| (at, d.sqrt())).collect());
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_random::normal_vec;

    /// On a line with one neighbour: real 0, 1, 10 (radii 1, 1, 9), samples 0.5, 0.6, 30 (radii
    /// 0.1, 0.1, 29.4).
    #[test]
    fn by_hand() {
        let found = manifold(&[0.0, 1.0, 10.0], &[0.5, 0.6, 30.0], 1, 1);
        assert_eq!(found.precision, 2.0 / 3.0);
        // Only the far sample's ball, from 0.6 to 59.4, holds real points: 1 and 10.
        assert_eq!(found.recall, 2.0 / 3.0);
        // 0.5 and 0.6 are in both small balls; 9.4 is in 10's ball? |10 - 0.6| = 9.4 > 9: no.
        assert_eq!(found.density, 4.0 / 3.0);
        assert_eq!(found.coverage, 2.0 / 3.0);
    }

    #[test]
    fn nearest_rows_come_first() {
        let at = |count| -> Vec<Vec<usize>> {
            let found = nearest(&[0.4, 9.0], &[1.0, 0.0, 10.0], 1, count);
            found.iter().map(|row| row.iter().map(|n| n.0).collect()).collect()
        };
        assert_eq!(at(1), [[1], [2]]);
        assert_eq!(at(2), [[1, 0], [2, 0]]);
        assert_eq!(at(9), [[1, 0, 2], [2, 0, 1]]);
        assert!((nearest(&[0.0, 0.0], &[3.0, 4.0], 2, 1)[0][0].1 - 5.0).abs() < 1e-12);
    }

    #[test]
    fn one_distribution_has_high_values_and_a_shifted_one_none() {
        let (a, b) = (normal_vec(1, 500 * 3), normal_vec(2, 500 * 3));
        let same = manifold(&a, &b, 3, NEIGHBOURS);
        assert!(same.precision > 0.9 && same.recall > 0.9 && same.coverage > 0.9, "{same:?}");
        assert!((same.density - 1.0).abs() < 0.15, "{same:?}");
        let far: Vec<f32> = b.iter().map(|x| x + 20.0).collect();
        let apart = manifold(&a, &far, 3, NEIGHBOURS);
        assert_eq!((apart.precision, apart.recall, apart.coverage), (0.0, 0.0, 0.0));
    }
}
