//! Inner products and distances between all rows of two sets, a block at a time.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};

/// x_i . y_j for rows of `dim` values, `[rows of x, rows of y]`.
pub(crate) fn products(x: &[f32], y: &[f32], dim: usize) -> Vec<f64> {
    let (n, m) = (x.len() / dim, y.len() / dim);
    let x = Mat::from_fn(dim, n, |k, i| f64::from(x[i * dim + k]));
    let y = Mat::from_fn(dim, m, |k, j| f64::from(y[j * dim + k]));
    // Column-major [m, n] is row-major [n, m].
    let mut out = vec![0.0; n * m];
    let target = faer::MatMut::from_column_major_slice_mut(&mut out, m, n);
    matmul(target, Accum::Replace, y.transpose(), x.as_ref(), 1.0, Par::rayon(0));
    out
}

/// Values of a block of distances: 64 MiB of f64.
const BLOCK: usize = 1 << 23;

/// Calls `each(i, distances)` for every row i of `x`, with its squared distances to all rows of
/// `y`.
pub(crate) fn squared_distances(
    x: &[f32],
    y: &[f32],
    dim: usize,
    mut each: impl FnMut(usize, &[f64]),
) {
    let m = y.len() / dim;
    let rows = (BLOCK / m.max(1)).max(1);
    let norms = |rows: &[f32]| -> Vec<f64> {
        rows.chunks_exact(dim).map(|row| row.iter().map(|x| f64::from(*x).powi(2)).sum()).collect()
    };
    let of_y = norms(y);
    for (block, x) in x.chunks(rows * dim).enumerate() {
        let mut values = products(x, y, dim);
        for (i, (values, of_x)) in values.chunks_exact_mut(m).zip(norms(x)).enumerate() {
            values
                .iter_mut()
                .zip(&of_y)
                .for_each(|(v, of_y)| *v = (of_x + of_y - 2.0 * *v).max(0.0));
            each(block * rows + i, values);
        }
    }
}
