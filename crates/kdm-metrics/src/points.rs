//! Distances between two sets of points as distributions.

use rayon::prelude::*;

use crate::catalog::{self, Values};

/// Sliced Wasserstein-2 distance: the root of the mean, over random directions drawn by `seed`, of
/// the squared Wasserstein-2 distance of the projections (Bonneel et al., 2015). Rows of `dim`
/// values, as many in `a` as in `b`.
pub fn sliced_wasserstein2(a: &[f32], b: &[f32], dim: usize, directions: usize, seed: u64) -> f64 {
    assert_eq!(a.len(), b.len(), "sets of one size");
    let total: f64 = (0..directions as u64)
        .into_par_iter()
        .map(|k| {
            let mut direction = vec![0.0; dim];
            kdm_random::fill_normal(kdm_random::derive_seed(seed, k), &mut direction);
            let length = direction.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            let project = |rows: &[f32]| {
                let dot = |row: &[f32]| {
                    row.iter()
                        .zip(&direction)
                        .map(|(x, d)| f64::from(*x) * f64::from(*d))
                        .sum::<f64>()
                };
                let mut p: Vec<f64> = rows.chunks(dim).map(|row| dot(row) / length).collect();
                p.sort_by(f64::total_cmp);
                p
            };
            let (p, q) = (project(a), project(b));
            p.iter().zip(&q).map(|(p, q)| (p - q).powi(2)).sum::<f64>() / p.len() as f64
        })
        .collect::<Vec<_>>()
        .iter()
        .sum();
    (total / directions as f64).sqrt()
}

/// Energy distance 2 E|X-Y| - E|X-X'| - E|Y-Y'| (Szekely & Rizzo, 2013), over all pairs; 0 for
/// equal distributions. The cost is quadratic in the number of rows.
pub fn energy_distance(a: &[f32], b: &[f32], dim: usize) -> f64 {
    let mean_distance = |x: &[f32], y: &[f32]| {
        let sums: Vec<f64> = x
            .par_chunks(dim)
            .map(|p| {
                let distance = |q: &[f32]| {
                    p.iter().zip(q).map(|(p, q)| f64::from(p - q).powi(2)).sum::<f64>().sqrt()
                };
                y.chunks(dim).map(distance).sum()
            })
            .collect();
        sums.iter().sum::<f64>() / (x.len() / dim) as f64 / (y.len() / dim) as f64
    };
    2.0 * mean_distance(a, b) - mean_distance(a, a) - mean_distance(b, b)
}

/// The share of points, 0 to 1, that are not `inside`.
pub fn share_outside(points: &[f32], dim: usize, inside: impl Fn(&[f64]) -> bool) -> f64 {
    let outside = |row: &[f32]| !inside(&row.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
    points.chunks(dim).filter(|row| outside(row)).count() as f64
        / (points.len() / dim).max(1) as f64
}

/// Percent of the student's points and of the teacher's that are not `inside`, and the difference;
/// rows of `dim` values.
pub fn off_board(
    student: &[f32],
    teacher: &[f32],
    dim: usize,
    inside: impl Fn(&[f64]) -> bool,
) -> Values {
    let [student, teacher] =
        [student, teacher].map(|points| 100.0 * share_outside(points, dim, &inside));
    Values::from_iter([
        (&catalog::OFF_BOARD, student),
        (&catalog::TEACHER_OFF_BOARD, teacher),
        (&catalog::OFF_BOARD_EXCESS, student - teacher),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_random::normal_vec;

    fn shifted(seed: u64, n: usize, by: f32) -> Vec<f32> {
        normal_vec(seed, 2 * n).chunks(2).flat_map(|p| [p[0] + by, p[1]]).collect()
    }

    /// A shift by s moves every projection by s cos(angle): the mean of its square is s^2 / 2.
    #[test]
    fn sliced_distance_of_a_shift() {
        let a = shifted(1, 2000, 0.0);
        let b: Vec<f32> = a.chunks(2).flat_map(|p| [p[0] + 2.0, p[1]]).collect();
        let d = sliced_wasserstein2(&a, &b, 2, 4000, 3);
        // cos^2 has variance 1/8: five standard errors of 4000 directions, in the root.
        assert!((d * d - 2.0).abs() < 5.0 * 4.0 * (0.125f64 / 4000.0).sqrt(), "{d}");
        assert_eq!(sliced_wasserstein2(&a, &a, 2, 10, 3), 0.0);
    }

    #[test]
    fn energy_distance_by_hand_and_of_equal_sets() {
        // X = {0, 1}, Y = {2}: 2 * 1.5 - 0.5 - 0 = 2.5.
        assert!((energy_distance(&[0.0, 1.0], &[2.0], 1) - 2.5).abs() < 1e-12);
        let (a, b, far) = (shifted(1, 1500, 0.0), shifted(2, 1500, 0.0), shifted(3, 1500, 1.0));
        let (same, apart) = (energy_distance(&a, &b, 2), energy_distance(&a, &far, 2));
        assert!(same < 0.01 && apart > 10.0 * same, "{same} {apart}");
    }

    #[test]
    fn share_outside_counts() {
        let inside = |p: &[f64]| p[0].abs() < 1.0;
        assert_eq!(share_outside(&[0.5, 2.0, -3.0, 0.1], 1, inside), 0.5);
        let values = off_board(&[0.5, 2.0, -3.0, 0.1], &[0.5, 0.1, 0.2, 7.0], 1, inside);
        let values: Vec<f64> = values.iter().map(|(_, value)| value).collect();
        assert_eq!(values, [50.0, 25.0, 25.0]);
    }
}
