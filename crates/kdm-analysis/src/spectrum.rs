//! The spectrum of a Koopman operator.

use kdm_koopman::Operator;
use serde::Serialize;

use crate::Result;

/// The largest operator dimension of which all eigenvalues and modes are found: time grows with its
/// cube, memory with its square.
pub const MOST: usize = 4096;
/// Eigenvalues found of larger operators.
pub const LEADING: usize = 32;

/// Eigenvalues of the operator's linear part.
///
/// ```
/// use burn::tensor::Device;
/// use kdm_analysis::Spectrum;
/// use kdm_koopman::Operator;
/// use kdm_koopman::operator::{Affine, Dense};
///
/// let affine = Affine { n: 2, matrix: vec![0.5, 1.0, 0.0, -0.001], bias: vec![0.0; 2] };
/// let operator = Operator::Dense(Dense::of(&affine, &Device::flex()));
/// let spectrum = Spectrum::of(&operator)?;
/// assert_eq!((spectrum.latent, spectrum.spectral_radius, spectrum.leading), (2, 0.5, 1));
/// # Ok::<(), kdm_analysis::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spectrum {
    /// Latent dimension of the operator.
    pub latent: usize,
    /// The largest modulus.
    pub spectral_radius: f64,
    /// Eigenvalues with modulus of at least a hundredth of the radius, of those that were found.
    pub leading: usize,
    /// Whether all eigenvalues were found, or the largest ones alone.
    pub complete: bool,
    /// Eigenvalues as (real, imaginary), largest modulus first.
    pub eigenvalues: Vec<(f64, f64)>,
}

impl Spectrum {
    /// The spectrum of `operator`: all of it up to a dimension of [`MOST`], and the [`LEADING`]
    /// largest eigenvalues of larger ones.
    ///
    /// # Errors
    /// When the operator has values that are not finite, or no eigenvalue is found.
    pub fn of(operator: &Operator) -> Result<Self> {
        let complete = operator.dim() <= MOST;
        let mut eigenvalues = if complete {
            operator.eigenvalues()?
        } else {
            operator.leading_eigenvalues(LEADING)?
        };
        let modulus = |l: &(f64, f64)| l.0.hypot(l.1);
        eigenvalues.sort_by(|a, b| modulus(b).total_cmp(&modulus(a)).then(a.1.total_cmp(&b.1)));
        let radius = eigenvalues.first().map_or(0.0, modulus);
        Ok(Self {
            latent: operator.dim(),
            complete,
            spectral_radius: radius,
            leading: eigenvalues.iter().filter(|l| modulus(l) >= 0.01 * radius).count(),
            eigenvalues,
        })
    }
}
