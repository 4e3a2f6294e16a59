//! The cosine transform, which takes images to spatial frequencies.

use std::f64::consts::PI;

/// The orthonormal cosine transform (DCT-II) of `side` values as a matrix, by rows: row k is the
/// wave of frequency k.
pub fn cosines(side: usize) -> Vec<f64> {
    let s = side as f64;
    let value = |k: usize, j: usize| {
        let scale = if k == 0 { (1.0 / s).sqrt() } else { (2.0 / s).sqrt() };
        scale * (PI * (j as f64 + 0.5) * k as f64 / s).cos()
    };
    (0..side).flat_map(|k| (0..side).map(move |j| value(k, j))).collect()
}

/// The two-dimensional transform of an image by rows, or back.
pub(super) fn transform(image: &[f64], basis: &[f64], side: usize, back: bool) -> Vec<f64> {
    let entry = |k: usize, j: usize| if back { basis[j * side + k] } else { basis[k * side + j] };
    // Of lines, which become columns; twice.
    let once = |image: &[f64]| {
        let mut result = vec![0.0; side * side];
        for (y, line) in image.chunks_exact(side).enumerate() {
            for k in 0..side {
                result[k * side + y] = (0..side).map(|j| entry(k, j) * line[j]).sum();
            }
        }
        result
    };
    once(&once(image))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transform_is_orthonormal() {
        let side = 8;
        let basis = cosines(side);
        let image: Vec<f64> = (0..64).map(|i| f64::from(i * i % 37)).collect();
        let there = transform(&image, &basis, side, false);
        let back = transform(&there, &basis, side, true);
        assert!(image.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-10));
        // A constant image is its mean times the side, and nothing else.
        let flat = transform(&[3.0; 64], &basis, side, false);
        assert!((flat[0] - 24.0).abs() < 1e-10 && flat[1..].iter().all(|x| x.abs() < 1e-10));
    }
}
