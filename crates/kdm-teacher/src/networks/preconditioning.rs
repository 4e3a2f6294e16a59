//! How a network becomes a denoiser: D(x; s) = c_skip x + c_out F(c_in x; c_noise), for
//! x = x_0 + s e (Karras et al., arXiv:2206.00364, table 1); and the same for discrete DDPM and
//! flow-matching networks.

use kdm_nn::Problem;
use serde::{Deserialize, Serialize};

/// What a discrete DDPM's network predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prediction {
    /// The noise e (Ho et al., arXiv:2006.11239).
    Epsilon,
    /// v = alpha e - sigma x_0 (Salimans and Ho, arXiv:2202.00512).
    V,
    /// x_0 itself.
    Sample,
}

/// The variances of the noise added in each step of a discrete DDPM (Ho et al., arXiv:2006.11239).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Betas {
    /// Evenly spaced.
    Linear {
        /// The first beta.
        start: f64,
        /// The last beta.
        end: f64,
    },
    /// Squares of evenly spaced numbers (latent diffusion).
    ScaledLinear {
        /// The first beta.
        start: f64,
        /// The last beta.
        end: f64,
    },
    /// Of a squared-cosine signal level (Nichol and Dhariwal, arXiv:2102.09672).
    Cosine,
    /// Given one by one.
    Given {
        /// All of them, each between 0 and 1, the first step first.
        betas: Vec<f64>,
    },
}

/// A network's preconditioning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Preconditioning {
    /// Karras et al. (EDM); noise levels are continuous.
    Edm {
        /// Standard deviation of the data.
        sigma_data: f64,
        /// The network's noise condition is ln(sigma) / 4 times this: 1, and 1000 in
        /// openai/consistency_models.
        #[serde(default = "one", skip_serializing_if = "is_one")]
        noise_scale: f64,
    },
    /// Variance preserving (Song et al., arXiv:2011.13456).
    Vp {
        /// Slope of beta(t).
        beta_d: f64,
        /// beta(0).
        beta_min: f64,
        /// The network's times are (m - 1) t.
        m: f64,
        /// The smallest t.
        epsilon_t: f64,
    },
    /// Variance exploding (Song et al.).
    Ve {
        /// The smallest noise level.
        sigma_min: f64,
        /// The largest noise level.
        sigma_max: f64,
    },
    /// Improved DDPM (Nichol and Dhariwal, arXiv:2102.09672); the network has twice the output
    /// channels, of which the first half is used.
    Iddpm {
        /// The smallest ratio of signal levels of neighbouring steps.
        c_1: f64,
        /// Offset of the cosine schedule.
        c_2: f64,
        /// Steps.
        m: usize,
    },
    /// A discrete DDPM. Between its steps the time is interpolated in the noise level's logarithm.
    Ddpm {
        /// The schedule.
        betas: Betas,
        /// Steps.
        steps: usize,
        /// What the network predicts.
        prediction: Prediction,
        /// The network's times are the steps' numbers times this: 1000 / steps where its training
        /// rescaled them (`rescale_timesteps` of OpenAI's programs).
        #[serde(default = "one", skip_serializing_if = "is_one")]
        time_scale: f64,
    },
    /// Flow matching: the network gives a velocity at (1 - t) x_0 + t e.
    Flow {
        /// The network's times are t times this.
        time_scale: f64,
        /// Whether the network's time is 1 at the data, its velocity then being x_0 - e.
        data_at_one: bool,
    },
}

fn one() -> f64 {
    1.0
}
fn is_one(x: &f64) -> bool {
    *x == 1.0
}

/// The factors at one noise level (2206.00364, eq. 7).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factors {
    /// Of x.
    pub c_skip: f64,
    /// Of the network's output.
    pub c_out: f64,
    /// Of the network's input.
    pub c_in: f64,
    /// The network's noise condition.
    pub c_noise: f64,
}

impl Preconditioning {
    /// EDM's for images in [-1, 1].
    pub const EDM: Self = Self::Edm { sigma_data: 0.5, noise_scale: 1.0 };
    /// EDM's as openai/consistency_models trains its teachers.
    pub const KARRAS: Self = Self::Edm { sigma_data: 0.5, noise_scale: 1000.0 };
    /// A discrete DDPM of 1000 steps with evenly spaced variances, which predicts the noise.
    pub const DDPM_LINEAR: Self = Self::Ddpm {
        betas: Betas::Linear { start: 1e-4, end: 0.02 },
        steps: 1000,
        prediction: Prediction::Epsilon,
        time_scale: 1.0,
    };
    /// The same with the variances of a squared-cosine signal level.
    pub const DDPM_COSINE: Self = Self::Ddpm {
        betas: Betas::Cosine,
        steps: 1000,
        prediction: Prediction::Epsilon,
        time_scale: 1.0,
    };
    /// Flow matching whose time is 0 at the noise and 1 at the data, as torchcfm's.
    pub const FLOW_TO_DATA: Self = Self::Flow { time_scale: 1.0, data_at_one: true };
    /// VP's published constants.
    pub const VP: Self = Self::Vp { beta_d: 19.9, beta_min: 0.1, m: 1000.0, epsilon_t: 1e-5 };
    /// VE's published constants.
    pub const VE: Self = Self::Ve { sigma_min: 0.02, sigma_max: 100.0 };
    /// iDDPM's published constants.
    pub const IDDPM: Self = Self::Iddpm { c_1: 0.001, c_2: 0.008, m: 1000 };

    /// This DDPM of 1000 steps with another number of steps, as OpenAI's programs make them:
    /// evenly spaced variances shrink by as much as there are more of them, and the network is
    /// given times from 0 to 1000 if its training rescaled them. None of others.
    pub fn with_steps(&self, steps: usize, rescaled: bool) -> Option<Self> {
        let Self::Ddpm { betas, prediction, .. } = self else { return None };
        let scale = 1000.0 / steps as f64;
        let betas = match betas {
            Betas::Linear { start, end } => {
                Betas::Linear { start: start * scale, end: end * scale }
            }
            Betas::Cosine => Betas::Cosine,
            Betas::ScaledLinear { .. } | Betas::Given { .. } => return None,
        };
        let time_scale = if rescaled { scale } else { 1.0 };
        Some(Self::Ddpm { betas, steps, prediction: *prediction, time_scale })
    }

    /// What is impossible about these numbers.
    pub fn problem(&self) -> Option<Problem> {
        let positive = |field: &'static str, value: f64| {
            (!(value > 0.0 && value.is_finite()))
                .then(|| Problem::new(field, format!("is {value} and must be above 0")))
        };
        const MOST_STEPS: usize = 1_000_000;
        let steps = |field: &'static str, value: usize| {
            (!(2..=MOST_STEPS).contains(&value)).then(|| {
                Problem::new(field, format!("is {value} and must be between 2 and {MOST_STEPS}"))
            })
        };
        match self {
            Self::Edm { sigma_data, noise_scale } => positive("sigma_data", *sigma_data)
                .or_else(|| positive("noise_scale", *noise_scale)),
            Self::Vp { beta_d, beta_min, m, epsilon_t } => positive("beta_d", *beta_d)
                .or_else(|| positive("beta_min", *beta_min))
                .or_else(|| positive("m", *m))
                .or_else(|| positive("epsilon_t", *epsilon_t)),
            Self::Ve { sigma_min, sigma_max } => positive("sigma_min", *sigma_min)
                .or_else(|| positive("sigma_max", *sigma_max))
                .or_else(|| {
                    (sigma_max <= sigma_min)
                        .then(|| Problem::new("sigma_max", "must be above sigma_min"))
                }),
            Self::Iddpm { c_1, c_2, m } => {
                positive("c_1", *c_1).or_else(|| positive("c_2", *c_2)).or_else(|| steps("m", *m))
            }
            Self::Ddpm { time_scale, .. } if positive("time_scale", *time_scale).is_some() => {
                positive("time_scale", *time_scale)
            }
            Self::Ddpm { betas, steps: n, .. } => steps("steps", *n).or_else(|| {
                let betas = betas.list(*n);
                let problem = match betas.iter().find(|b| !(**b > 0.0 && **b < 1.0)) {
                    Some(bad) => format!("has {bad}, and all must lie between 0 and 1"),
                    None if betas.len() != *n => {
                        format!("has {} numbers for {n} steps", betas.len())
                    }
                    None => return None,
                };
                Some(Problem::new("betas", problem))
            }),
            Self::Flow { time_scale, .. } => positive("time_scale", *time_scale),
        }
    }
}

impl Betas {
    fn list(&self, steps: usize) -> Vec<f64> {
        let even = |start: f64, end: f64| {
            (0..steps).map(move |i| start + (end - start) * i as f64 / (steps - 1) as f64)
        };
        match self {
            Self::Linear { start, end } => even(*start, *end).collect(),
            Self::ScaledLinear { start, end } => {
                even(start.sqrt(), end.sqrt()).map(|x| x * x).collect()
            }
            Self::Cosine => {
                let level =
                    |t: f64| ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
                let n = steps as f64;
                (0..steps)
                    .map(|i| (1.0 - level((i + 1) as f64 / n) / level(i as f64 / n)).min(0.999))
                    .collect()
            }
            Self::Given { betas } => betas.clone(),
        }
    }
}

/// A preconditioning with its tables.
#[derive(Clone, Debug)]
pub struct Conditioner {
    kind: Preconditioning,
    /// Discrete noise levels, rising; empty for continuous ones.
    levels: Vec<f64>,
}

impl Conditioner {
    /// The tables of `kind`, which has no [`Preconditioning::problem`].
    pub fn new(kind: Preconditioning) -> Self {
        let levels = match &kind {
            Preconditioning::Iddpm { c_1, c_2, m } => iddpm_levels(*c_1, *c_2, *m),
            Preconditioning::Ddpm { betas, steps, .. } => {
                let mut signal = 1.0;
                let level = |beta: f64| {
                    signal *= 1.0 - beta;
                    ((1.0 - signal) / signal).sqrt()
                };
                betas.list(*steps).into_iter().map(level).collect()
            }
            _ => Vec::new(),
        };
        Self { kind, levels }
    }

    /// Discrete noise levels, rising; empty for continuous ones.
    pub fn levels(&self) -> &[f64] {
        &self.levels
    }

    /// The noise levels that the network knows: the least and the largest.
    pub fn range(&self) -> (f64, f64) {
        match &self.kind {
            Preconditioning::Edm { .. } | Preconditioning::Flow { .. } => (0.0, f64::INFINITY),
            Preconditioning::Vp { beta_d, beta_min, epsilon_t, .. } => {
                let sigma = |t: f64| (0.5 * beta_d * t * t + beta_min * t).exp_m1().sqrt();
                (sigma(*epsilon_t), sigma(1.0))
            }
            Preconditioning::Ve { sigma_min, sigma_max } => (*sigma_min, *sigma_max),
            Preconditioning::Iddpm { .. } | Preconditioning::Ddpm { .. } => {
                (self.levels[0], self.levels[self.levels.len() - 1])
            }
        }
    }

    /// The nearest noise level that the network was trained at; `sigma` itself for a network of
    /// continuous levels.
    pub fn round(&self, sigma: f64) -> f64 {
        match self.kind {
            Preconditioning::Iddpm { .. } if sigma > 0.0 => self.levels[self.nearest(sigma)],
            _ => sigma,
        }
    }

    fn nearest(&self, sigma: f64) -> usize {
        let after = self.levels.partition_point(|u| *u < sigma).min(self.levels.len() - 1);
        match after.checked_sub(1) {
            Some(before) if sigma - self.levels[before] <= self.levels[after] - sigma => before,
            _ => after,
        }
    }

    /// The factors at noise level `sigma`, above 0.
    pub fn factors(&self, sigma: f64) -> Factors {
        let s = sigma;
        let unit = (s * s + 1.0).sqrt();
        match &self.kind {
            Preconditioning::Edm { sigma_data, noise_scale } => {
                let total = s.hypot(*sigma_data);
                Factors {
                    c_skip: (sigma_data / total).powi(2),
                    c_out: s * sigma_data / total,
                    c_in: 1.0 / total,
                    c_noise: noise_scale * s.ln() / 4.0,
                }
            }
            Preconditioning::Vp { beta_d, beta_min, m, .. } => {
                let t = ((beta_min * beta_min + 2.0 * beta_d * (s * s).ln_1p()).sqrt() - beta_min)
                    / beta_d;
                Factors { c_skip: 1.0, c_out: -s, c_in: 1.0 / unit, c_noise: (m - 1.0) * t }
            }
            Preconditioning::Ve { .. } => {
                Factors { c_skip: 1.0, c_out: s, c_in: 1.0, c_noise: (0.5 * s).ln() }
            }
            Preconditioning::Iddpm { .. } => {
                // The network counts its steps from the quietest: levels[k] is u_{m-1-k}.
                Factors {
                    c_skip: 1.0,
                    c_out: -s,
                    c_in: 1.0 / unit,
                    c_noise: self.nearest(s) as f64,
                }
            }
            Preconditioning::Ddpm { prediction, time_scale, .. } => {
                let (c_skip, c_out) = match prediction {
                    Prediction::Epsilon => (1.0, -s),
                    Prediction::V => (1.0 / (unit * unit), -s / unit),
                    Prediction::Sample => (0.0, 1.0),
                };
                Factors { c_skip, c_out, c_in: 1.0 / unit, c_noise: time_scale * self.time(s) }
            }
            Preconditioning::Flow { time_scale, data_at_one } => {
                // At t = s / (1 + s) the flow's point is (1 - t) x, and x_0 = point - t v.
                let t = s / (1.0 + s);
                let (time, sign) = if *data_at_one { (1.0 - t, 1.0) } else { (t, -1.0) };
                Factors {
                    c_skip: 1.0 - t,
                    c_out: sign * t,
                    c_in: 1.0 - t,
                    c_noise: time_scale * time,
                }
            }
        }
    }

    /// The discrete DDPM's time at `sigma`, interpolated in ln(sigma).
    fn time(&self, sigma: f64) -> f64 {
        let last = self.levels.len() - 1;
        let after = self.levels.partition_point(|u| *u < sigma).clamp(1, last);
        let (low, high) = (self.levels[after - 1].ln(), self.levels[after].ln());
        ((after - 1) as f64 + (sigma.ln() - low) / (high - low)).clamp(0.0, last as f64)
    }
}

/// u_{m-1} .. u_0 of 2206.00364, table 1: u_m = 0,
/// u_{j-1} = sqrt((u_j^2 + 1) / max(a(j-1)/a(j), c_1) - 1), a(j) = sin^2(pi j / (2 m (c_2 + 1))).
fn iddpm_levels(c_1: f64, c_2: f64, m: usize) -> Vec<f64> {
    let a = |j: usize| {
        (std::f64::consts::FRAC_PI_2 * j as f64 / (m as f64 * (c_2 + 1.0))).sin().powi(2)
    };
    let mut u: f64 = 0.0;
    (1..=m)
        .rev()
        .map(|j| {
            u = ((u * u + 1.0) / (a(j - 1) / a(j)).max(c_1) - 1.0).sqrt();
            u
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Table 1 of Karras et al.: sigma_max of VP is 152, of iDDPM 20 291; sigma(t) and t(sigma) of
    /// VP are inverse.
    #[test]
    fn published_ranges() {
        let range = |kind| Conditioner::new(kind).range();
        let (low, high) = range(Preconditioning::VP);
        assert!((high - 152.17).abs() < 0.01 && (low - 0.001).abs() < 0.0001, "{low} {high}");
        let vp = Conditioner::new(Preconditioning::VP);
        assert!((vp.factors(high).c_noise - 999.0).abs() < 1e-9);
        assert!((vp.factors(low).c_noise - 999.0 * 1e-5).abs() < 1e-9);
        let (low, high) = range(Preconditioning::IDDPM);
        assert!((high - 20291.0).abs() < 1.0 && (low - 0.0064).abs() < 0.0001, "{low} {high}");
        let iddpm = Conditioner::new(Preconditioning::IDDPM);
        assert_eq!(iddpm.factors(high).c_noise, 999.0);
        assert_eq!(iddpm.factors(low).c_noise, 0.0);
        assert_eq!(iddpm.round(1e9), high);
        let level = iddpm.levels[500];
        assert_eq!(iddpm.round(level * 1.0001), level);
        // google/ddpm-cifar10-32: linear betas 1e-4..0.02; abar_999 = 4.0358e-5 (Ho et al.: about
        // 4e-5).
        let betas = Betas::Linear { start: 1e-4, end: 0.02 };
        let ddpm = Conditioner::new(Preconditioning::Ddpm {
            betas,
            steps: 1000,
            prediction: Prediction::Epsilon,
            time_scale: 1.0,
        });
        let (low, high) = ddpm.range();
        assert!((low - (1e-4f64 / (1.0 - 1e-4)).sqrt()).abs() < 1e-12);
        assert!((1.0 / (1.0 + high * high) - 4.0358e-5).abs() < 1e-8, "{high}");
        for k in [0, 1, 500, 998, 999] {
            assert!((ddpm.factors(ddpm.levels[k]).c_noise - k as f64).abs() < 1e-9);
        }
    }

    /// With an ideal network the denoiser is exact, in every form: for a single clean sample x_0
    /// the noise is e = (x - x_0) / s, and the output of each kind of network follows from its
    /// definition.
    #[test]
    fn an_ideal_network_denoises_exactly() {
        let (x0, e) = (0.37, -1.21);
        let ddpm = |prediction| Preconditioning::Ddpm {
            betas: Betas::Cosine,
            steps: 1000,
            prediction,
            time_scale: 1.0,
        };
        for s in [0.03, 0.7, 15.0] {
            let x = x0 + s * e;
            let unit = f64::hypot(1.0, s);
            let (alpha, sigma) = (1.0 / unit, s / unit);
            for (kind, output) in [
                (Preconditioning::VP, e),
                (Preconditioning::VE, -e),
                (Preconditioning::IDDPM, e),
                (ddpm(Prediction::Epsilon), e),
                (ddpm(Prediction::V), alpha * e - sigma * x0),
                (ddpm(Prediction::Sample), x0),
                (Preconditioning::Flow { time_scale: 1.0, data_at_one: false }, e - x0),
                (Preconditioning::Flow { time_scale: 1000.0, data_at_one: true }, x0 - e),
            ] {
                let f = Conditioner::new(kind.clone()).factors(s);
                let d = f.c_skip * x + f.c_out * output;
                assert!((d - x0).abs() < 1e-12, "{kind:?} at {s}: {d}");
                assert_eq!(kind.problem(), None);
            }
        }
        // EDM's factors give its training target unit variance and its output the least error
        // (appendix B.6).
        let f = Conditioner::new(Preconditioning::EDM).factors(0.5);
        assert!((f.c_skip - 0.5).abs() < 1e-15 && (f.c_in * f.c_in - 2.0).abs() < 1e-12);
        assert!((f.c_out - 0.125f64.sqrt()).abs() < 1e-15);
    }

    /// consistency_models' noise condition is 1000 ln(sigma) / 4; torchcfm's time is 1 at the data,
    /// and 1 - t at (1 - t) x_0 + t e.
    #[test]
    fn conditions_of_other_programs() {
        let karras = Conditioner::new(Preconditioning::KARRAS);
        let edm = Conditioner::new(Preconditioning::EDM);
        for s in [0.002, 0.5, 80.0] {
            let (ours, usual) = (karras.factors(s), edm.factors(s));
            assert_eq!(ours.c_noise, 250.0 * f64::ln(s));
            assert_eq!(Factors { c_noise: usual.c_noise, ..ours }, usual);
            let flow = Conditioner::new(Preconditioning::FLOW_TO_DATA).factors(s);
            let t = s / (1.0 + s);
            assert_eq!((flow.c_noise, flow.c_in, flow.c_out), (1.0 - t, 1.0 - t, t));
        }
    }

    #[test]
    fn impossible_numbers_are_named() {
        for (kind, field) in [
            (Preconditioning::Edm { sigma_data: 0.0, noise_scale: 1.0 }, "sigma_data"),
            (Preconditioning::Ve { sigma_min: 2.0, sigma_max: 1.0 }, "sigma_max"),
            (Preconditioning::Iddpm { c_1: 0.1, c_2: 0.1, m: 1 }, "m"),
            (
                Preconditioning::Ddpm {
                    betas: Betas::Given { betas: vec![0.1; 3] },
                    steps: 4,
                    prediction: Prediction::V,
                    time_scale: 1.0,
                },
                "betas",
            ),
            (Preconditioning::Flow { time_scale: f64::NAN, data_at_one: true }, "time_scale"),
        ] {
            assert_eq!(kind.problem().unwrap().field, field);
        }
    }
}
