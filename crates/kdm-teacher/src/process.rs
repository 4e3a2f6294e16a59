//! The two ways from noise to samples, as one differential equation.
//!
//! Diffusion (Karras et al., arXiv:2206.00364): x = x_0 + t e, t the noise's standard deviation,
//! from sigma_max to 0. Flow matching (Lipman et al., arXiv:2210.02747): x = (1 - t) x_0 + t e, t
//! from 1 to 0. With D the posterior mean at the level of t, both follow dx/dt = (x - D) / t.

use kdm_nn::Problem;
use serde::{Deserialize, Serialize};

use crate::{Denoiser, Level};

/// Most steps of a solver: their times are listed before the first, and more gain nothing.
pub const MOST_STEPS: usize = 1_000_000;

/// Which noise levels a sample passes through.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "kebab-case")]
pub enum Process {
    /// Noise is added to the sample; t is its standard deviation.
    Diffusion {
        /// The smallest t before 0.
        sigma_min: f64,
        /// The first t.
        sigma_max: f64,
        /// Spacing: t is uniform in its rho-th root (2206.00364, eq. 5).
        rho: f64,
    },
    /// Sample and noise are mixed; t is the noise's share, uniform from 1 to 0.
    Flow,
}

impl Process {
    /// EDM's levels: 0.002 to 80, rho 7.
    pub const EDM: Self = Self::Diffusion { sigma_min: 0.002, sigma_max: 80.0, rho: 7.0 };

    /// The process within the noise levels that a teacher knows ([`Denoiser::sigma_range`],
    /// [`Denoiser::round_sigma`]).
    pub fn fit(self, denoiser: &dyn Denoiser) -> Self {
        let Self::Diffusion { sigma_min, sigma_max, rho } = self else { return self };
        let (least, most) = denoiser.sigma_range();
        let within = |sigma: f64| denoiser.round_sigma(sigma.clamp(least, most));
        Self::Diffusion { sigma_min: within(sigma_min), sigma_max: within(sigma_max), rho }
    }

    /// `steps` + 1 times, falling, the last one 0; of a diffusion as in 2206.00364, eq. 5. `steps`
    /// is at least 1; callers keep it to [`MOST_STEPS`].
    pub fn times(&self, steps: usize) -> Vec<f64> {
        let mut times: Vec<f64> = match *self {
            Self::Flow => (0..steps).map(|i| 1.0 - i as f64 / steps as f64).collect(),
            Self::Diffusion { sigma_min, sigma_max, rho } => {
                let (max, min) = (sigma_max.powf(1.0 / rho), sigma_min.powf(1.0 / rho));
                let last = (steps - 1).max(1) as f64;
                (0..steps).map(|i| (max + i as f64 / last * (min - max)).powf(rho)).collect()
            }
        };
        times.push(0.0);
        times
    }

    /// The level at time `t`.
    pub fn level(&self, t: f64) -> Level {
        match self {
            Self::Flow => Level { alpha: 1.0 - t, sigma: t },
            Self::Diffusion { .. } => Level { alpha: 1.0, sigma: t },
        }
    }

    /// Normalised time at time `t`, from 0 (noise) to 1 (image): of a diffusion by the logarithm of
    /// the noise level, ln(sigma_max / t) / ln(sigma_max / sigma_min), at most 1; of a flow 1 - t.
    pub fn tau(&self, t: f64) -> f64 {
        match *self {
            Self::Flow => 1.0 - t,
            Self::Diffusion { sigma_min, sigma_max, .. } => {
                ((sigma_max / t).ln() / (sigma_max / sigma_min).ln()).min(1.0)
            }
        }
    }

    /// Standard deviation of the noise a sample starts from.
    pub fn noise_std(&self) -> f64 {
        match *self {
            Self::Flow => 1.0,
            Self::Diffusion { sigma_max, .. } => sigma_max,
        }
    }

    /// What is impossible about these numbers.
    pub fn problem(&self) -> Option<Problem> {
        let Self::Diffusion { sigma_min, sigma_max, rho } = *self else { return None };
        if !(sigma_min > 0.0 && sigma_min.is_finite()) {
            return Some(Problem::new("sigma_min", format!("is {sigma_min} and must be above 0")));
        }
        if !(sigma_max > sigma_min && sigma_max.is_finite()) {
            let problem = format!("is {sigma_max} and must be above sigma_min, {sigma_min}");
            return Some(Problem::new("sigma_max", problem));
        }
        (!(rho > 0.0 && rho.is_finite()))
            .then(|| Problem::new("rho", format!("is {rho} and must be above 0")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edm_times_are_the_published_ones() {
        let times = Process::EDM.times(18);
        assert_eq!(times.len(), 19);
        assert_eq!((times[0].round(), times[18]), (80.0, 0.0));
        // sigma_1 of 18 by eq. 5: (80^(1/7) + (0.002^(1/7) - 80^(1/7)) / 17)^7.
        assert!((times[1] - 57.585_984_6).abs() < 1e-6, "{}", times[1]);
        assert!((times[17] - 0.002).abs() < 1e-12);
        assert_eq!(Process::Flow.times(4), [1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(Process::EDM.times(1).len(), 2);
    }

    /// tau grows from noise to image, with even ratios of sigma, and ends in 1.
    #[test]
    fn tau_is_the_logarithm_of_sigma() {
        let (edm, middle) = (Process::EDM, (80.0f64 * 0.002).sqrt());
        assert_eq!((edm.tau(80.0), edm.tau(0.0)), (0.0, 1.0));
        assert!((edm.tau(middle) - 0.5).abs() < 1e-12 && (edm.tau(0.002) - 1.0).abs() < 1e-12);
        assert_eq!((Process::Flow.tau(1.0), Process::Flow.tau(0.25)), (0.0, 0.75));
    }
}
