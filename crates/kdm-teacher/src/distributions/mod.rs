//! Data distributions with a denoiser in closed form: they teach without training, and trained
//! teachers learn from their samples.

mod checkerboard;
mod gaussian;
mod mixture;

pub use checkerboard::Checkerboard;
pub use gaussian::Gaussian;
pub use mixture::{Component, Mixture};

use kdm_data::Labels;
use kdm_nn::Problem;
use serde::{Deserialize, Serialize};

use crate::{Denoiser, Level};

/// The description of a distribution, as in presets and model files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "name", rename_all = "kebab-case")]
pub enum DistributionConfig {
    /// Uniform on the dark squares of a 4 x 4 board, [`Checkerboard`].
    Checkerboard {
        /// Whether a square is a class.
        #[serde(default)]
        conditional: bool,
    },
    /// N(mean, covariance).
    Gaussian {
        /// Mean.
        mean: Vec<f64>,
        /// Covariance by rows.
        covariance: Vec<Vec<f64>>,
    },
    /// A mixture of isotropic Gaussians.
    Mixture {
        /// Its Gaussians.
        components: Vec<Component>,
        /// Whether a component is a class.
        #[serde(default)]
        conditional: bool,
    },
}

impl DistributionConfig {
    /// The names of distributions with usual numbers.
    pub const NAMES: [&str; 3] = ["checkerboard", "gaussian", "mixture"];

    /// The distribution of this name with usual numbers: the board, a correlated Gaussian, eight
    /// Gaussians on a ring.
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "checkerboard" => Some(Self::Checkerboard { conditional: false }),
            "gaussian" => Some(Self::Gaussian {
                mean: vec![0.5, -0.5],
                covariance: vec![vec![1.0, 0.6], vec![0.6, 0.5]],
            }),
            "mixture" => {
                let component = |k: usize| {
                    let angle = std::f64::consts::TAU * k as f64 / 8.0;
                    Component {
                        weight: 1.0,
                        mean: vec![3.0 * angle.cos(), 3.0 * angle.sin()],
                        std: 0.3,
                    }
                };
                Some(Self::Mixture {
                    components: (0..8).map(component).collect(),
                    conditional: false,
                })
            }
            _ => None,
        }
    }

    /// Its name, one of [`Self::NAMES`].
    pub fn name(&self) -> &'static str {
        match self {
            Self::Checkerboard { .. } => "checkerboard",
            Self::Gaussian { .. } => "gaussian",
            Self::Mixture { .. } => "mixture",
        }
    }

    /// The distribution.
    ///
    /// # Errors
    /// When the numbers are impossible.
    pub fn build(&self) -> Result<Distribution, Problem> {
        Ok(match self.clone() {
            Self::Checkerboard { conditional } => {
                Distribution::Checkerboard(Checkerboard::new(conditional))
            }
            Self::Gaussian { mean, covariance } => {
                Distribution::Gaussian(Gaussian::new(mean, covariance)?)
            }
            Self::Mixture { components, conditional } => {
                Distribution::Mixture(Mixture::new(components, conditional)?)
            }
        })
    }
}

/// A data distribution; also the exact teacher of itself.
#[derive(Clone, Debug)]
pub enum Distribution {
    /// See [`Checkerboard`].
    Checkerboard(Checkerboard),
    /// See [`Gaussian`].
    Gaussian(Gaussian),
    /// See [`Mixture`].
    Mixture(Mixture),
}

impl Distribution {
    /// `n` points row by row and their modes (squares, components; 0 for the Gaussian), the stream
    /// of `seed`.
    pub fn sample(&self, seed: u64, n: usize) -> (Vec<f64>, Vec<u32>) {
        match self {
            Self::Checkerboard(_) => Checkerboard::sample(seed, n),
            Self::Gaussian(g) => (g.sample(seed, n), vec![0; n]),
            Self::Mixture(m) => m.sample(seed, n),
        }
    }

    /// The mode a clean point belongs to; none for a point off the board.
    pub fn mode_of(&self, point: &[f64]) -> Option<usize> {
        match self {
            Self::Checkerboard(_) => Checkerboard::square_of(point),
            Self::Gaussian(_) => Some(0),
            Self::Mixture(m) => Some(m.component_of(point)),
        }
    }

    fn denoiser(&self) -> &dyn Denoiser {
        match self {
            Self::Checkerboard(d) => d,
            Self::Gaussian(d) => d,
            Self::Mixture(d) => d,
        }
    }
}

impl Denoiser for Distribution {
    fn shape(&self) -> Vec<usize> {
        self.denoiser().shape()
    }

    fn label_dim(&self) -> usize {
        self.denoiser().label_dim()
    }

    fn denoise(&self, x: &[f64], level: Level, labels: &Labels) -> Vec<f64> {
        self.denoiser().denoise(x, level, labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Process, Solver, solve};

    /// Following the exact flow from noise must give back the distribution: the share of each mode,
    /// with or without labels, on both processes.
    #[test]
    fn exact_flows_end_in_the_distribution() {
        for name in ["checkerboard", "mixture"] {
            let d = DistributionConfig::by_name(name).unwrap().build().unwrap();
            for process in [Process::Flow, Process::EDM] {
                let n = 8000;
                let start: Vec<f64> = kdm_random::normal_vec(5, 2 * n)
                    .into_iter()
                    .map(|e| f64::from(e) * process.noise_std())
                    .collect();
                let end = solve(&d, &process, Solver::Heun, 40, start, &Labels::none(n));
                let mut counts = [0usize; 8];
                let mut off = 0;
                for p in end.chunks(2) {
                    match d.mode_of(p) {
                        Some(k) => counts[k] += 1,
                        None => off += 1,
                    }
                }
                // Five binomial deviations are 15%; the 40 steps leave under 2% off the board.
                assert!(off < n / 50, "{name} {process:?}: {off} off");
                assert!(
                    counts.iter().all(|c| c.abs_diff(n / 8) < n / 8 * 3 / 20 + off),
                    "{name} {counts:?}"
                );
            }
        }
    }

    #[test]
    fn labels_choose_the_mode() {
        for name in ["checkerboard", "mixture"] {
            let mut config = DistributionConfig::by_name(name).unwrap();
            match &mut config {
                DistributionConfig::Checkerboard { conditional }
                | DistributionConfig::Mixture { conditional, .. } => *conditional = true,
                DistributionConfig::Gaussian { .. } => {}
            }
            let d = config.build().unwrap();
            assert_eq!(d.label_dim(), 8);
            let start: Vec<f64> =
                kdm_random::normal_vec(6, 160).into_iter().map(f64::from).collect();
            let labels: Labels = (0..80).map(|row| Some(row % 8)).collect();
            let end = solve(&d, &Process::Flow, Solver::Heun, 30, start, &labels);
            for (row, p) in end.chunks(2).enumerate() {
                assert_eq!(d.mode_of(p), Some(row % 8), "{name} {p:?}");
            }
        }
    }

    /// Each row's bits don't depend on the batch.
    #[test]
    fn rows_are_independent() {
        for name in DistributionConfig::NAMES {
            let d = DistributionConfig::by_name(name).unwrap().build().unwrap();
            let x: Vec<f64> = kdm_random::normal_vec(7, 2000).into_iter().map(f64::from).collect();
            let level = Level { alpha: 0.5, sigma: 0.5 };
            let whole = d.denoise(&x, level, &Labels::none(1000));
            let one = Labels::none(1);
            let single: Vec<f64> = x.chunks(2).flat_map(|p| d.denoise(p, level, &one)).collect();
            assert_eq!(whole, single);
        }
    }
}
