//! The spectrum of a Koopman operator.

use kdm_core::Operator;
use serde::Serialize;

/// Eigenvalues of the operator's linear part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spectrum {
    /// Numbers of a latent.
    pub latent: usize,
    /// The largest modulus.
    pub spectral_radius: f64,
    /// Eigenvalues with modulus of at least a hundredth of the radius.
    pub leading: usize,
    /// Eigenvalues as (real, imaginary), largest modulus first.
    pub eigenvalues: Vec<(f64, f64)>,
}

impl Spectrum {
    /// The spectrum of `operator`.
    ///
    /// # Errors
    /// The problem, when the operator has values that are not finite.
    pub fn of(operator: &Operator) -> Result<Self, String> {
        let mut eigenvalues = operator.eigenvalues()?;
        let modulus = |l: &(f64, f64)| l.0.hypot(l.1);
        eigenvalues.sort_by(|a, b| modulus(b).total_cmp(&modulus(a)).then(a.1.total_cmp(&b.1)));
        let radius = eigenvalues.first().map_or(0.0, modulus);
        Ok(Self {
            latent: eigenvalues.len(),
            spectral_radius: radius,
            leading: eigenvalues.iter().filter(|l| modulus(l) >= 0.01 * radius).count(),
            eigenvalues,
        })
    }
}
