//! Operators as numbers on the host.

/// A complex number, (real, imaginary).
pub type Complex = (f64, f64);

/// An operator as numbers on the host: z -> A z + b.
#[derive(Clone, Debug, PartialEq)]
pub struct Affine {
    /// Latent dimension.
    pub n: usize,
    /// A, `[n, n]`, row-major.
    pub matrix: Vec<f64>,
    /// b, `[n]`; zeros for a factorized operator.
    pub bias: Vec<f64>,
}

impl Affine {
    /// A z + b of one latent `[n]`.
    pub fn apply(&self, z: &[f64]) -> Vec<f64> {
        let times_z = |row: &[f64]| row.iter().zip(z).map(|(a, z)| a * z).sum::<f64>();
        self.matrix.chunks_exact(self.n).zip(&self.bias).map(|(row, b)| times_z(row) + b).collect()
    }

    /// Whether all values are finite.
    pub fn is_finite(&self) -> bool {
        self.matrix.iter().chain(&self.bias).all(|x| x.is_finite())
    }
}
