//! Koopman operators, all behind one interface: apply to a batch of latents, materialise as a
//! matrix, compute eigenvalues.

mod affine;
mod cosine;
mod dense;
pub mod eigen;
mod factorized;
mod frozen_levels;
mod generator;
mod levels;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use kdm_nn::InitSeed;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use affine::{Affine, Complex};
pub use cosine::cosines;
pub use dense::Dense;
pub use factorized::Factorized;
pub(crate) use frozen_levels::FrozenLevels;
pub use generator::Generator;
pub use levels::{LatentLevel, LevelForm, LevelOperator, Levels};

/// The form of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperatorKind {
    /// A full matrix with bias.
    Dense,
    /// Re(P diag(lambda) P_inv).
    Factorized,
    /// Re(P exp(mu (t - s)) P_inv) between any two times.
    Generator,
    /// A matrix of channels at each level of the latent, shared over places.
    Channels,
    /// A matrix of channels for each place of each level.
    Places,
    /// A matrix of channels for each spatial frequency of each level.
    Frequencies,
}

impl OperatorKind {
    /// The form of an operator on the levels of a latent; none for one on all of it.
    pub fn level_form(self) -> Option<LevelForm> {
        match self {
            Self::Channels => Some(LevelForm::Shared),
            Self::Places => Some(LevelForm::Places),
            Self::Frequencies => Some(LevelForm::Frequencies),
            Self::Dense | Self::Factorized | Self::Generator => None,
        }
    }
}

/// A Koopman operator on latents of dimension n: z^_0 = C z_T, plus a bias when dense.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kdm_koopman::{Operator, OperatorKind};
/// use kdm_nn::InitSeed;
///
/// let operator =
///     Operator::init(OperatorKind::Factorized, 4, &mut InitSeed::new(1), &Device::flex());
/// let z = [0.5, -1.0, 0.0, 2.0];
/// let applied = operator.apply(Tensor::from_data([z], &Device::flex()));
/// let applied: Vec<f64> = applied.to_data().iter::<f64>().collect();
/// // Applying it is multiplying by its matrix.
/// let expected = operator.matrix().apply(&z);
/// assert!(applied.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5));
/// // Its eigenvalues add up to the matrix's trace.
/// let trace: f64 = (0..4).map(|i| operator.matrix().matrix[5 * i]).sum();
/// let sum: f64 = operator.eigenvalues()?.iter().map(|(re, _)| re).sum();
/// assert!((sum - trace).abs() < 1e-9);
/// # Ok::<(), kdm_koopman::Error>(())
/// ```
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
    /// See [`Generator`].
    Generator(Generator),
    /// See [`Levels`].
    Levels(Levels),
}

/// The largest dimension at which [`Operator::moduli`] computes all eigenvalues (n = 1024 takes
/// seconds).
pub const ALL_EIGENVALUES: usize = 1024;
/// The largest dimension at which an operator's matrix is made for what takes it apart: half a
/// gigabyte of numbers.
pub const LARGEST_MATRIX: usize = 8192;
/// Eigenvalues that [`Operator::moduli`] finds of larger operators.
pub const LEADING_EIGENVALUES: usize = 16;

impl Operator {
    /// Fresh weights for latents of dimension `n`; for an operator on levels, of one level of `n`
    /// channels ([`Levels::init`] takes others).
    pub fn init(kind: OperatorKind, n: usize, seed: &mut InitSeed, device: &Device) -> Self {
        let of_channels = |form, seed: &mut InitSeed| {
            Self::Levels(Levels::init(form, &[LatentLevel { channels: n, side: 1 }], seed, device))
        };
        match kind {
            OperatorKind::Dense => Self::Dense(Dense::init(n, seed, device)),
            OperatorKind::Factorized => Self::Factorized(Factorized::init(n, seed, device)),
            OperatorKind::Generator => Self::Generator(Generator::init(n, seed, device)),
            OperatorKind::Channels => of_channels(LevelForm::Shared, seed),
            OperatorKind::Places => of_channels(LevelForm::Places, seed),
            OperatorKind::Frequencies => of_channels(LevelForm::Frequencies, seed),
        }
    }

    /// z^_0 = C z_T of every row: `[N, n]` -> `[N, n]`.
    pub fn apply(&self, z: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(op) => op.apply(z),
            Self::Factorized(op) => op.apply(z),
            Self::Generator(op) => op.apply(z),
            Self::Levels(op) => op.apply(z),
        }
    }

    /// The operator as a matrix `[n, n]` and a bias `[n]`.
    pub fn matrix(&self) -> Affine {
        match self {
            Self::Dense(op) => op.matrix(),
            Self::Factorized(op) => op.matrix(),
            Self::Generator(op) => op.matrix(),
            Self::Levels(op) => op.matrix(),
        }
    }

    /// [`Self::matrix`] of an operator that may have far fewer numbers than its matrix.
    ///
    /// # Errors
    /// When its dimension is above [`LARGEST_MATRIX`].
    pub fn matrix_in_reach(&self) -> Result<Affine> {
        match self.dim() {
            n if n > LARGEST_MATRIX => Err(Error::TooLarge { n, most: LARGEST_MATRIX }),
            _ => Ok(self.matrix()),
        }
    }

    /// Eigenvalues of the linear part, n of them.
    ///
    /// For a factorized operator these are the eigenvalues of the matrix it amounts to; its free
    /// parameters lambda equal them only as far as P_inv is P's inverse (see
    /// [`Factorized::lambda`]).
    ///
    /// # Errors
    /// When the matrix has values that are not finite, or the computation doesn't converge.
    pub fn eigenvalues(&self) -> Result<Vec<Complex>> {
        if let Self::Generator(op) = self {
            let found = op.eigenvalues();
            let finite = found.iter().all(|(re, im)| re.is_finite() && im.is_finite());
            return if finite { Ok(found) } else { Err(Error::NotFinite) };
        }
        if let Self::Levels(op) = self {
            return op.eigenvalues();
        }
        let affine = self.matrix();
        eigen::eigenvalues(&affine.matrix, affine.n)
    }

    /// The `count` eigenvalues of largest modulus; see [`Self::eigenvalues`].
    ///
    /// # Errors
    /// When the matrix has values that are not finite, or none is found.
    pub fn leading_eigenvalues(&self, count: usize) -> Result<Vec<Complex>> {
        if matches!(self, Self::Generator(_) | Self::Levels(_)) {
            let mut all = self.eigenvalues()?;
            all.sort_by(|a, b| b.0.hypot(b.1).total_cmp(&a.0.hypot(a.1)));
            all.truncate(count);
            return Ok(all);
        }
        let affine = self.matrix();
        eigen::leading_eigenvalues(&affine.matrix, affine.n, count)
    }

    /// Moduli of the eigenvalues, largest first: of all up to dimension [`ALL_EIGENVALUES`], beyond
    /// it the largest [`LEADING_EIGENVALUES`] by iteration.
    ///
    /// # Errors
    /// When the matrix has values that are not finite, or the computation doesn't converge.
    pub fn moduli(&self) -> Result<Vec<f64>> {
        let found = if self.dim() <= ALL_EIGENVALUES {
            self.eigenvalues()?
        } else {
            self.leading_eigenvalues(LEADING_EIGENVALUES)?
        };
        let mut moduli: Vec<f64> = found.into_iter().map(|l| l.0.hypot(l.1)).collect();
        moduli.sort_by(|a, b| b.total_cmp(a));
        Ok(moduli)
    }

    /// The device that its tensors lie on.
    pub fn device(&self) -> Device {
        match self {
            Self::Dense(op) => op.linear.weight.val().device(),
            Self::Factorized(op) => op.nu_log.val().device(),
            Self::Generator(op) => op.rate_log.val().device(),
            Self::Levels(op) => op.device(),
        }
    }

    /// The dimension n of a latent.
    pub fn dim(&self) -> usize {
        match self {
            Self::Dense(op) => op.linear.weight.dims()[0],
            Self::Factorized(op) => op.nu_log.dims()[0],
            Self::Generator(op) => 2 * op.rate_log.dims()[0],
            Self::Levels(op) => op.dim(),
        }
    }

    /// The operator between any two times, where it is one.
    pub fn generator(&self) -> Option<&Generator> {
        match self {
            Self::Generator(op) => Some(op),
            Self::Dense(_) | Self::Factorized(_) | Self::Levels(_) => None,
        }
    }

    /// The operator of each level, where it is one on levels.
    pub fn levels(&self) -> Option<&Levels> {
        match self {
            Self::Levels(op) => Some(op),
            Self::Dense(_) | Self::Factorized(_) | Self::Generator(_) => None,
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

    fn kinds() -> impl Strategy<Value = OperatorKind> {
        let all = [
            OperatorKind::Dense,
            OperatorKind::Factorized,
            OperatorKind::Generator,
            OperatorKind::Channels,
            OperatorKind::Places,
            OperatorKind::Frequencies,
        ];
        proptest::sample::select(all.to_vec())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// All forms: applying equals multiplying by the materialised matrix and adding the bias.
        #[test]
        fn apply_equals_the_materialised_matrix(
            half in 1usize..12,
            odd: bool,
            rows in 1usize..9,
            seed in 0u64..1000,
            kind in kinds(),
        ) {
            let n = 2 * half - usize::from(odd && kind != OperatorKind::Generator);
            let op = Operator::init(kind, n, &mut InitSeed::new(seed), &Device::flex());
            let z = latents(seed + 1, rows, n);
            let zs = z.to_data().as_slice::<f32>().unwrap().to_vec();
            let applied = op.apply(z).to_data().as_slice::<f32>().unwrap().to_vec();
            let a = op.matrix();
            prop_assert_eq!(op.dim(), n);
            for (row, z) in zs.chunks(n).enumerate() {
                for i in 0..n {
                    let weights = &a.matrix[i * n..(i + 1) * n];
                    let product: f64 = weights.iter().zip(z).map(|(a, z)| a * f64::from(*z)).sum();
                    let sum = product + a.bias[i];
                    // f32 rounding of sums of products of size 1.
                    prop_assert!((f64::from(applied[row * n + i]) - sum).abs() < 1e-5);
                }
            }
        }

        /// One by one equals batched.
        #[test]
        fn rows_are_independent(half in 1usize..12, seed in 0u64..1000, kind in kinds()) {
            let n = 2 * half;
            let op = Operator::init(kind, n, &mut InitSeed::new(seed), &Device::flex());
            let z = latents(seed, 7, n);
            let whole = op.apply(z.clone());
            let one = |i: usize| op.apply(z.clone().slice([i..i + 1]));
            let single = Tensor::cat((0..7).map(one).collect(), 0);
            // Products of different sizes may round differently.
            prop_assert!((whole - single).abs().max().into_scalar::<f32>() < 1e-5);
        }
    }

    #[test]
    fn an_identity_operator_leaves_latents_alone() {
        let n = 10;
        for op in [
            Operator::Dense(Dense::identity(n, &Device::flex())),
            Operator::Factorized(Factorized::identity(n, &Device::flex())),
            Operator::Generator(Generator::identity(n, &Device::flex())),
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
