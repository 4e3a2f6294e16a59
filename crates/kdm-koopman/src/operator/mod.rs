//! Koopman operators, all behind one interface: apply to a batch of latents, materialise as a
//! matrix, eigenvalues.

mod dense;
pub mod eigen;
mod factorized;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use kdm_nn::InitSeed;
use serde::{Deserialize, Serialize};

pub use dense::Dense;
pub use factorized::Factorized;

/// The form of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperatorKind {
    /// A full matrix with bias.
    Dense,
    /// Re(P diag(lambda) P_inv).
    Factorized,
}

/// A Koopman operator on latents of n numbers.
#[derive(Module, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a student has one operator; its tensors lie elsewhere anyway"
)]
pub enum Operator {
    /// See [`Dense`].
    Dense(Dense),
    /// See [`Factorized`].
    Factorized(Factorized),
}

/// Operators that [`Operator::moduli`] takes apart whole (n = 1024 takes seconds), and eigenvalues
/// it finds of larger ones.
pub const WHOLE: usize = 1024;
/// See [`WHOLE`].
pub const FEW: usize = 16;

/// A complex number, (real, imaginary).
pub type Complex = (f64, f64);

/// The operator as numbers on the host: z -> matrix z + bias.
#[derive(Clone, Debug, PartialEq)]
pub struct Affine {
    /// Latent size.
    pub n: usize,
    /// n x n, row-major.
    pub matrix: Vec<f64>,
    /// n numbers; zeros for a factorized operator.
    pub bias: Vec<f64>,
}

impl Operator {
    /// Fresh weights for latents of `n` numbers.
    pub fn init(kind: OperatorKind, n: usize, seed: &mut InitSeed, device: &Device) -> Self {
        match kind {
            OperatorKind::Dense => Self::Dense(Dense::init(n, seed, device)),
            OperatorKind::Factorized => Self::Factorized(Factorized::init(n, seed, device)),
        }
    }

    /// z^ of every row: `[N, n]` -> `[N, n]`.
    pub fn apply(&self, z: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(op) => op.apply(z),
            Self::Factorized(op) => op.apply(z),
        }
    }

    /// The operator as a matrix and a bias.
    pub fn matrix(&self) -> Affine {
        match self {
            Self::Dense(op) => op.matrix(),
            Self::Factorized(op) => op.matrix(),
        }
    }

    /// Eigenvalues of the linear part, n of them.
    ///
    /// For a factorized operator these are the eigenvalues of the matrix it amounts to; its free
    /// parameters lambda equal them only as far as P_inv is P's inverse (see
    /// [`Factorized::lambda`]).
    ///
    /// # Errors
    /// The problem, when the matrix has values that are not finite.
    pub fn eigenvalues(&self) -> Result<Vec<Complex>, String> {
        let affine = self.matrix();
        crate::operator::eigen::eigenvalues(&affine.matrix, affine.n)
    }

    /// The `count` eigenvalues of largest modulus; see [`Self::eigenvalues`].
    ///
    /// # Errors
    /// The same, and when none is found.
    pub fn leading_eigenvalues(&self, count: usize) -> Result<Vec<Complex>, String> {
        let affine = self.matrix();
        crate::operator::eigen::leading_eigenvalues(&affine.matrix, affine.n, count)
    }

    /// Moduli of the eigenvalues, largest first: all of them up to [`WHOLE`] numbers, beyond it the
    /// largest [`FEW`] by iteration.
    ///
    /// # Errors
    /// The problem, when the matrix has values that are not finite, or none is found.
    pub fn moduli(&self) -> Result<Vec<f64>, String> {
        let found =
            if self.dim() <= WHOLE { self.eigenvalues()? } else { self.leading_eigenvalues(FEW)? };
        let mut moduli: Vec<f64> = found.into_iter().map(|l| l.0.hypot(l.1)).collect();
        moduli.sort_by(|a, b| b.total_cmp(a));
        Ok(moduli)
    }

    /// Numbers of a latent.
    pub fn dim(&self) -> usize {
        match self {
            Self::Dense(op) => op.linear.weight.dims()[0],
            Self::Factorized(op) => op.nu_log.dims()[0],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;
    use proptest::prelude::*;

    fn latents(seed: u64, rows: usize, n: usize) -> Tensor<2> {
        Tensor::from_data(
            TensorData::new(kdm_random::normal_vec(seed, rows * n), [rows, n]),
            &Device::flex(),
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Both forms: applying equals multiplying by the materialised matrix and adding the bias.
        #[test]
        fn apply_equals_the_materialised_matrix(n in 1usize..24, rows in 1usize..9, seed in 0u64..1000, dense: bool) {
            let kind = if dense { OperatorKind::Dense } else { OperatorKind::Factorized };
            let op = Operator::init(kind, n, &mut InitSeed::new(seed), &Device::flex());
            let z = latents(seed + 1, rows, n);
            let zs = z.to_data().as_slice::<f32>().unwrap().to_vec();
            let applied = op.apply(z).to_data().as_slice::<f32>().unwrap().to_vec();
            let a = op.matrix();
            prop_assert_eq!(op.dim(), n);
            for (row, z) in zs.chunks(n).enumerate() {
                for i in 0..n {
                    let sum: f64 = (0..n).map(|j| a.matrix[i * n + j] * f64::from(z[j])).sum::<f64>() + a.bias[i];
                    // f32 rounding of sums of products of size 1.
                    prop_assert!((f64::from(applied[row * n + i]) - sum).abs() < 1e-5);
                }
            }
        }

        /// One by one equals batched.
        #[test]
        fn rows_are_independent(n in 1usize..24, seed in 0u64..1000, dense: bool) {
            let kind = if dense { OperatorKind::Dense } else { OperatorKind::Factorized };
            let op = Operator::init(kind, n, &mut InitSeed::new(seed), &Device::flex());
            let z = latents(seed, 7, n);
            let whole = op.apply(z.clone());
            let single = Tensor::cat((0..7).map(|i| op.apply(z.clone().slice([i..i + 1]))).collect(), 0);
            // Products of different sizes may round differently.
            prop_assert!((whole - single).abs().max().into_scalar::<f32>() < 1e-5);
        }
    }

    #[test]
    fn an_identity_operator_leaves_latents_alone() {
        let n = 9;
        for op in [
            Operator::Dense(Dense::identity(n, &Device::flex())),
            Operator::Factorized(Factorized::identity(n, &Device::flex())),
        ] {
            let z = latents(1, 4, n);
            let difference = (op.apply(z.clone()) - z).abs().max().into_scalar::<f32>();
            // The factorized identity has |lambda| = exp(-exp(-40)), which is 1 to f32.
            assert!(difference < 1e-6, "{difference}");
            assert!(
                op.eigenvalues()
                    .unwrap()
                    .iter()
                    .all(|(re, im)| (re - 1.0).abs() < 1e-5 && im.abs() < 1e-5)
            );
        }
    }
}
