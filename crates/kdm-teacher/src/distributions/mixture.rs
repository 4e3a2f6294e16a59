//! The teacher of a mixture of isotropic Gaussians, in closed form.

use kdm_data::Labels;
use kdm_nn::Problem;
use serde::{Deserialize, Serialize};

use crate::denoiser::{known_class, map_rows};
use crate::{Denoiser, Level};

/// One Gaussian of a mixture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Share of the data, relative to the other components' weights; above 0.
    pub weight: f64,
    /// Centre.
    pub mean: Vec<f64>,
    /// Standard deviation along every axis, above 0.
    pub std: f64,
}

/// Data drawn from a mixture of isotropic Gaussians; when conditional, a component is a class.
#[derive(Clone, Debug)]
pub struct Mixture {
    components: Vec<Component>,
    conditional: bool,
}

impl Mixture {
    /// The mixture of these components; `conditional`: whether a component is a class.
    ///
    /// # Errors
    /// When there are none, their dimensions differ, or a weight or deviation is not above 0.
    pub fn new(components: Vec<Component>, conditional: bool) -> Result<Self, Problem> {
        let problem = |text: &str| Err(Problem::new("components", text));
        let Some(first) = components.first() else {
            return problem("must have at least one component");
        };
        let dim = first.mean.len();
        if dim == 0 || components.iter().any(|c| c.mean.len() != dim) {
            return problem("must have means of one length");
        }
        if components.iter().any(|c| !(c.weight > 0.0 && c.std > 0.0)) {
            return problem("must have weights and deviations above 0");
        }
        Ok(Self { components, conditional })
    }

    /// The component that most probably gave a clean sample.
    pub fn component_of(&self, x: &[f64]) -> usize {
        let level = Level { alpha: 1.0, sigma: 0.0 };
        let scores: Vec<f64> = self.components.iter().map(|c| log_density(c, x, level)).collect();
        (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or(0)
    }

    /// `n` points row by row and the numbers of their components, the stream of `seed`.
    pub fn sample(&self, seed: u64, n: usize) -> (Vec<f64>, Vec<u32>) {
        let dim = self.components[0].mean.len();
        let total: f64 = self.components.iter().map(|c| c.weight).sum();
        let noise = kdm_random::normal_vec(kdm_random::derive_seed(seed, 0), n * dim);
        let mut classes = Vec::with_capacity(n);
        let mut points = Vec::with_capacity(n * dim);
        for i in 0..n {
            let mut u = kdm_random::uniform_f64(kdm_random::derive_seed(seed, 1), i as u64) * total;
            let last = self.components.len() - 1;
            let k = self.components.iter().position(|c| {
                u -= c.weight;
                u < 0.0
            });
            let k = k.unwrap_or(last);
            let c = &self.components[k];
            points.extend((0..dim).map(|j| c.mean[j] + c.std * f64::from(noise[i * dim + j])));
            classes.push(k as u32);
        }
        (points, classes)
    }
}

/// ln of weight times the density of alpha x_0 + sigma e under this component, up to a constant
/// that all components share.
fn log_density(c: &Component, x: &[f64], level: Level) -> f64 {
    let variance = (level.alpha * c.std).powi(2) + level.sigma.powi(2);
    let squares: f64 = x.iter().zip(&c.mean).map(|(x, m)| (x - level.alpha * m).powi(2)).sum();
    c.weight.ln() - 0.5 * squares / variance - 0.5 * x.len() as f64 * variance.ln()
}

impl Denoiser for Mixture {
    fn shape(&self) -> Vec<usize> {
        vec![self.components[0].mean.len()]
    }

    fn label_dim(&self) -> usize {
        if self.conditional { self.components.len() } else { 0 }
    }

    /// Each component's own posterior mean, weighted by its posterior probability.
    fn denoise(&self, x: &[f64], level: Level, labels: &Labels) -> Vec<f64> {
        map_rows(x, self.dim(), |row, x, out| {
            let class = known_class(labels, self.label_dim(), row);
            let allowed = |k: usize| class.is_none_or(|class| class == k);
            let logs: Vec<f64> = self
                .components
                .iter()
                .enumerate()
                .map(|(k, c)| if allowed(k) { log_density(c, x, level) } else { f64::NEG_INFINITY })
                .collect();
            let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = logs.iter().map(|l| (l - top).exp()).sum();
            for (c, log) in self.components.iter().zip(&logs) {
                let share = (log - top).exp() / total;
                let variance = c.std * c.std;
                let gain =
                    level.alpha * variance / (level.alpha.powi(2) * variance + level.sigma.powi(2));
                for ((out, x), m) in out.iter_mut().zip(x).zip(&c.mean) {
                    *out += share * (m + gain * (x - level.alpha * m));
                }
            }
        })
    }
}
