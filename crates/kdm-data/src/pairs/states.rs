//! States between noise and image: what a teacher's solution passed through on the way, kept beside
//! both where a store is asked to. They are half-precision floats of full scale; the manifest tells
//! at which times they are.

use half::f16;
use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};

use super::manifest::Manifest;
use super::plausible::Fault;
use super::store::read_row;
use crate::tensors::RawTensor;
use crate::{Samples, TensorFile};

/// The name of the states in a shard, `[pairs, states, ...]`.
pub(super) const STATES: &str = "states";
/// States that a store may keep of a pair.
pub const MOST_STATES: usize = 1000;

/// When a state is: x = alpha x_0 + sigma e, with e of deviation 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateTime {
    /// Normalised time, which grows from 0 (noise) to 1 (image). Of a diffusion it is
    /// ln(sigma_max / sigma) / ln(sigma_max / sigma_min), of a flow the image's share.
    pub tau: f64,
    /// The share of the image, 0 to 1.
    pub alpha: f64,
    /// The noise's standard deviation.
    pub sigma: f64,
}

impl StateTime {
    /// A time between noise of deviation `noise_std` and the image on a straight way: alpha = tau
    /// and sigma = (1 - tau) `noise_std`.
    pub fn straight(tau: f64, noise_std: f64) -> Self {
        Self { tau, alpha: tau, sigma: (1.0 - tau) * noise_std }
    }

    /// sqrt(alpha^2 + sigma^2): divided by it, a state has deviation 1 where image and noise have.
    pub fn scale(&self) -> f64 {
        self.alpha.hypot(self.sigma)
    }
}

/// One state of each sample over its scale, rows of a sample's values: of sample i the state number
/// `chosen(i)` of those at `times`, all of which the samples carry.
pub fn scaled_states(
    samples: &Samples,
    times: &[StateTime],
    chosen: impl Fn(usize) -> usize,
) -> Vec<f32> {
    let dim = samples.dim();
    let rows = samples.states.chunks_exact(dim * times.len()).enumerate();
    rows.flat_map(|(i, row)| {
        let place = chosen(i);
        let scale = times[place].scale() as f32;
        row[place * dim..(place + 1) * dim].iter().map(move |x| x / scale)
    })
    .collect()
}

/// What can't be of the times of states.
pub(super) fn times_fault(times: &[StateTime]) -> Option<Fault> {
    if times.len() > MOST_STATES {
        let problem = format!("are {}, and {MOST_STATES} are the most", times.len());
        return Some((STATES, problem));
    }
    let bad = times.iter().enumerate().find(|(i, time)| {
        let after = *i == 0 || time.tau > times[i - 1].tau;
        let level = (0.0..=1.0).contains(&time.alpha) && (0.0..=1e6).contains(&time.sigma);
        !(after && time.tau > 0.0 && time.tau < 1.0 && level && time.scale() > 0.0)
    })?;
    let problem = format!(
        "number {} is {:?}; times tau grow between 0 and 1, alpha is from 0 to 1 and sigma from 0",
        bad.0, bad.1
    );
    Some((STATES, problem))
}

/// States as they are kept.
pub(super) fn halves(states: &[f32]) -> Vec<f16> {
    states.iter().map(|x| f16::from_f32(*x)).collect()
}

/// The tensor of the states of `n` pairs.
pub(super) fn tensor<'a>(plan: &Manifest, n: usize, halves: &'a [f16]) -> RawTensor<'a> {
    let shape = shape(plan, n);
    RawTensor { dtype: Dtype::F16, shape, bytes: bytemuck::cast_slice(halves) }
}

/// `[n, states, ...]`.
pub(super) fn shape(plan: &Manifest, n: usize) -> Vec<usize> {
    [&[n, plan.states.len()], plan.shape.as_slice()].concat()
}

/// The states of the first `count` pairs of a file.
pub(super) fn read(file: &TensorFile, plan: &Manifest, count: usize) -> Vec<f32> {
    let width = plan.states.len() * plan.dim();
    let mut states = vec![0.0; count * width];
    if width > 0 {
        states.chunks_mut(width).enumerate().for_each(|(i, row)| read_row(file, STATES, i, row));
    }
    states
}
