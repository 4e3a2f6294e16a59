//! Errors between samples drawn from the same noise, which only stored pairs allow.

use serde::Serialize;

use crate::catalog::{self, Values};

/// Distances between a student's samples and the teacher's from the same noise: of a pair, the
/// Euclidean distance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Paired {
    /// Root of the mean squared distance.
    pub rmse: f64,
    /// Median distance.
    pub median_error: f64,
    /// Root mean squared error of a single coordinate: `rmse` / sqrt(dim).
    pub coordinate_rmse: f64,
}

impl Paired {
    /// Of the squared distances of pairs of `dim` values, at least one pair.
    pub fn of(mut squares: Vec<f64>, dim: usize) -> Self {
        let rmse = (squares.iter().sum::<f64>() / squares.len() as f64).sqrt();
        squares.sort_by(f64::total_cmp);
        let middle = squares.len() / 2;
        let median_error = if squares.len() % 2 == 1 {
            squares[middle].sqrt()
        } else {
            0.5 * (squares[middle - 1].sqrt() + squares[middle].sqrt())
        };
        Self { rmse, median_error, coordinate_rmse: rmse / (dim as f64).sqrt() }
    }

    /// As metrics of the catalog.
    pub fn values(&self) -> Values {
        Values::from_iter([
            (&catalog::RMSE, self.rmse),
            (&catalog::MEDIAN_ERROR, self.median_error),
            (&catalog::COORDINATE_RMSE, self.coordinate_rmse),
        ])
    }
}

/// Compares rows of `dim` values; both arrays of one length, at least one row.
///
/// ```
/// // Distances 0 and 5 of points in the plane.
/// let errors = kdm_metrics::paired(&[1.0, 1.0, 3.0, 4.0], &[1.0, 1.0, 0.0, 0.0], 2);
/// assert_eq!(errors.median_error, 2.5);
/// assert_eq!(errors.rmse, 12.5f64.sqrt());
/// assert_eq!(errors.coordinate_rmse, 6.25f64.sqrt());
/// ```
pub fn paired(student: &[f32], teacher: &[f32], dim: usize) -> Paired {
    Paired::of(squared_distances(student, teacher, dim), dim)
}

/// The squared distances of rows of `dim` values; both arrays of one length.
pub fn squared_distances(student: &[f32], teacher: &[f32], dim: usize) -> Vec<f64> {
    assert_eq!(student.len(), teacher.len(), "one sample for each of the teacher's");
    let rows = student.chunks(dim).zip(teacher.chunks(dim));
    rows.map(|(a, b)| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_by_hand() {
        let p = paired(&[0.0, 0.0, 3.0, 4.0, 1.0, 1.0], &[0.0, 0.0, 0.0, 0.0, 1.0, 2.0], 2);
        assert_eq!(p.rmse, (26f64 / 3.0).sqrt());
        assert_eq!(p.median_error, 1.0);
        assert_eq!(p.coordinate_rmse, (26f64 / 6.0).sqrt());
    }
}
