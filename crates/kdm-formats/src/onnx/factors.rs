//! A teacher's preconditioning as nodes.

use kdm_teacher::Preconditioning;
use kdm_teacher::networks::preconditioning::Prediction;

use super::graph::{Builder, FLOAT, INT64, Parameter, Value};

/// c_skip, c_out, c_in and c_noise of each image, `[batch, 1]`, as `kdm_teacher::Conditioner` has
/// them.
pub(super) struct Factors {
    pub skip: Skip,
    pub out: Value,
    /// None for a factor of 1.
    pub input: Option<Value>,
    pub noise: Value,
}

/// c_skip.
pub(super) enum Skip {
    /// 0.
    None,
    /// 1.
    Whole,
    /// Between.
    Scaled(Value),
}

impl Builder {
    /// The factors at noise levels `[batch, 1]`. `levels`: the discrete ones, where the kind has
    /// such.
    pub fn factors(&mut self, kind: &Preconditioning, levels: &[f64], sigma: &str) -> Factors {
        match kind {
            Preconditioning::Edm { sigma_data, noise_scale } => {
                let square = self.node("Mul", &[sigma, sigma], &[]);
                let total = self.plus(&square, sigma_data * sigma_data);
                let root = self.node("Sqrt", &[&total], &[]);
                let scaled = self.scaled(sigma, *sigma_data);
                let log = self.node("Log", &[sigma], &[]);
                let inverse = self.node("Reciprocal", &[&total], &[]);
                Factors {
                    skip: Skip::Scaled(self.scaled(&inverse, sigma_data * sigma_data)),
                    out: self.node("Div", &[&scaled, &root], &[]),
                    input: Some(self.node("Reciprocal", &[&root], &[])),
                    noise: self.scaled(&log, noise_scale / 4.0),
                }
            }
            Preconditioning::Ve { .. } => {
                let half = self.scaled(sigma, 0.5);
                let noise = self.node("Log", &[&half], &[]);
                Factors { skip: Skip::Whole, out: sigma.to_string(), input: None, noise }
            }
            Preconditioning::Vp { beta_d, beta_min, m, .. } => {
                let time = self.vp_time(sigma, *beta_d, *beta_min);
                Factors {
                    skip: Skip::Whole,
                    out: self.scaled(sigma, -1.0),
                    input: Some(self.unit_scale(sigma)),
                    noise: self.scaled(&time, m - 1.0),
                }
            }
            Preconditioning::Flow { time_scale, data_at_one } => {
                let more = self.plus(sigma, 1.0);
                let rest = self.node("Reciprocal", &[&more], &[]);
                let t = self.node("Mul", &[sigma, &rest], &[]);
                let (time, sign) = if *data_at_one { (&rest, 1.0) } else { (&t, -1.0) };
                Factors {
                    skip: Skip::Scaled(rest.clone()),
                    out: self.scaled(&t, sign),
                    noise: self.scaled(time, *time_scale),
                    input: Some(rest),
                }
            }
            Preconditioning::Iddpm { .. } => Factors {
                skip: Skip::Whole,
                out: self.scaled(sigma, -1.0),
                input: Some(self.unit_scale(sigma)),
                noise: self.nearest_level(sigma, levels),
            },
            Preconditioning::Ddpm { prediction, time_scale, .. } => {
                let time = self.level_between(sigma, levels);
                let noise = self.scaled(&time, *time_scale);
                let input = self.unit_scale(sigma);
                let (skip, out) = match prediction {
                    Prediction::Epsilon => (Skip::Whole, self.scaled(sigma, -1.0)),
                    Prediction::V => {
                        let scaled = self.node("Mul", &[sigma, &input], &[]);
                        let square = self.node("Mul", &[&input, &input], &[]);
                        (Skip::Scaled(square), self.scaled(&scaled, -1.0))
                    }
                    Prediction::Sample => {
                        let name = format!("one_{}", self.fresh());
                        (Skip::None, self.exact(&name, &[1, 1], &[1.0]))
                    }
                };
                Factors { skip, out, input: Some(input), noise }
            }
        }
    }

    /// 1 / sqrt(s^2 + 1).
    fn unit_scale(&mut self, sigma: &str) -> Value {
        let square = self.node("Mul", &[sigma, sigma], &[]);
        let total = self.plus(&square, 1.0);
        let root = self.node("Sqrt", &[&total], &[]);
        self.node("Reciprocal", &[&root], &[])
    }

    /// VP's t = (sqrt(b^2 + 2 d ln(1 + s^2)) - b) / d, in f32 without the differences of nearly
    /// equal numbers: ln(1 + x) = ln(u) x / (u - 1) with u = 1 + x rounded (Higham, Accuracy and
    /// Stability of Numerical Algorithms, problem 1.5), and sqrt(b^2 + y) - b = y / (sqrt(b^2 + y)
    /// + b).
    fn vp_time(&mut self, sigma: &str, d: f64, b: f64) -> Value {
        let square = self.node("Mul", &[sigma, sigma], &[]);
        let u = self.plus(&square, 1.0);
        let log = self.node("Log", &[&u], &[]);
        let less = self.plus(&u, -1.0);
        // Below the least that isn't 0, so that only 0 changes.
        let name = format!("least_{}", self.fresh());
        let least = self.exact(&name, &[], &[f32::EPSILON / 2.0]);
        let less = self.node("Max", &[&less, &least], &[]);
        let ratio = self.node("Div", &[&square, &less], &[]);
        let log = self.node("Mul", &[&log, &ratio], &[]);
        let y = self.scaled(&log, 2.0 * d);
        let total = self.plus(&y, b * b);
        let root = self.node("Sqrt", &[&total], &[]);
        let total = self.plus(&root, b);
        let quotient = self.node("Div", &[&y, &total], &[]);
        self.scaled(&quotient, 1.0 / d)
    }

    /// How many of the rising `bounds` lie below each noise level, `[batch, 1]`, as a float.
    fn count_below(&mut self, sigma: &str, bounds: &[f64]) -> Value {
        let bounds = self.table("bounds", bounds);
        let below = self.node("Less", &[&bounds, sigma], &[]);
        let ones = self.cast(&below, FLOAT);
        let axis = self.integers(&[1]);
        self.node("ReduceSum", &[&ones, &axis], &[("keepdims", Parameter::Int(1))])
    }

    /// The number of the nearest level: the lower one half way between two.
    fn nearest_level(&mut self, sigma: &str, levels: &[f64]) -> Value {
        let middles: Vec<f64> = levels.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
        self.count_below(sigma, &middles)
    }

    /// The number of the level, interpolated in its logarithm.
    fn level_between(&mut self, sigma: &str, levels: &[f64]) -> Value {
        let last = levels.len() - 1;
        // The interval's number: how many of the levels within lie below.
        let low = self.count_below(sigma, &levels[1..last]);
        let index = self.cast(&low, INT64);
        let logs: Vec<f64> = levels.iter().map(|level| level.ln()).collect();
        let steps: Vec<f64> = logs.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let [logs, steps] = [&logs[..last], &steps].map(|values| {
            let table = self.table("logs", values);
            self.node("Gather", &[&table, &index], &[])
        });
        let log = self.node("Log", &[sigma], &[]);
        let above = self.node("Sub", &[&log, &logs], &[]);
        let part = self.node("Div", &[&above, &steps], &[]);
        let time = self.node("Add", &[&low, &part], &[]);
        let [least, most] = [0.0, last as f32].map(|bound| {
            let name = format!("bound_{}", self.fresh());
            self.exact(&name, &[], &[bound])
        });
        self.node("Clip", &[&time, &least, &most], &[])
    }

    /// Known numbers in a row.
    fn table(&mut self, name: &str, values: &[f64]) -> Value {
        let name = format!("{name}_{}", self.fresh());
        let values: Vec<f32> = values.iter().map(|x| *x as f32).collect();
        self.exact(&name, &[values.len()], &values)
    }

    fn cast(&mut self, x: &str, to: i32) -> Value {
        self.node("Cast", &[x], &[("to", Parameter::Int(i64::from(to)))])
    }
}
