//! Rows of numbers on the host: deviations and distances.

use kdm_koopman::editing::mean_row;

/// The standard deviation of a coordinate of rows of `width` values: the root mean square over all
/// coordinates of their distance to the mean row.
pub fn deviation(rows: &[f32], width: usize) -> f64 {
    let middle = mean_row(rows, width);
    let squares = rows.iter().enumerate().map(|(i, x)| (f64::from(*x) - middle[i % width]).powi(2));
    (squares.sum::<f64>() / rows.len() as f64).sqrt()
}

/// The Euclidean distance of two rows.
pub fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
}

/// Euclidean distances of rows of `a` to those of `b` in the same places.
pub fn distances(a: &[f32], b: &[f32], width: usize) -> Vec<f64> {
    a.chunks_exact(width).zip(b.chunks_exact(width)).map(|(a, b)| distance(a, b)).collect()
}

/// Euclidean distances between rows 0 and 1, 2 and 3, ...: pairs without a common row, so that they
/// are independent.
pub fn pair_distances(rows: &[f32], width: usize) -> Vec<f64> {
    rows.chunks_exact(2 * width).map(|pair| distance(&pair[..width], &pair[width..])).collect()
}

/// Root mean square of the difference of two arrays of one length.
pub fn root_mean_square(a: &[f64], b: &[f64]) -> f64 {
    (a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / a.len() as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_forms() {
        // Distances to the mean row: 1 and 2 in each of two rows.
        assert_eq!(deviation(&[1.0, 2.0, 3.0, 6.0], 2), 2.5f64.sqrt());
        assert_eq!(pair_distances(&[0.0, 0.0, 3.0, 4.0, 1.0, 1.0, 1.0, 2.0], 2), [5.0, 1.0]);
        assert_eq!(distances(&[0.0, 0.0, 1.0, 1.0], &[3.0, 4.0, 1.0, 1.0], 2), [5.0, 0.0]);
        assert_eq!(root_mean_square(&[1.0, 1.0], &[1.0, 3.0]), 2.0f64.sqrt());
    }
}
