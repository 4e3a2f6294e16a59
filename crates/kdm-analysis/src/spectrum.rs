//! The spectrum of a Koopman operator.

use kdm_koopman::Operator;
use serde::Serialize;

/// Operators on more numbers are not taken apart: the time grows with their cube, the memory with
/// their square.
pub const MOST: usize = 4096;
/// Eigenvalues found of those.
pub const LEADING: usize = 32;

/// Eigenvalues of the operator's linear part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spectrum {
    /// Numbers of a latent.
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
    /// The spectrum of `operator`: all of it up to [`MOST`] numbers, and the [`LEADING`] largest
    /// eigenvalues of larger ones.
    ///
    /// # Errors
    /// The problem, when the operator has values that are not finite, or none is found.
    pub fn of(operator: &Operator) -> Result<Self, String> {
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
