//! Calls into crates below whose signatures are changing, in one place.

use burn::tensor::Device;
use kdm_data::Labels;
use kdm_koopman::interpolation::{End, Space, between};
use kdm_koopman::{Koopman, Sampler, StudentConfig, stepwise};
use kdm_metrics::{Extractor, Features};
use kdm_observer::Observer;

use crate::{Error, Result};

pub(crate) fn sample(
    sampler: &Sampler,
    config: &StudentConfig,
    noise: &[f32],
    labels: &Labels,
    observer: &dyn Observer,
) -> Result<Vec<f32>> {
    observer.check()?;
    Ok(sampler.sample(noise, &labels.one_hot(config.label_dim)))
}

pub(crate) fn inspect(
    extractor: &Extractor,
    images: &[f32],
    shape: &[usize],
    observer: &dyn Observer,
) -> Result<Features> {
    observer.check()?;
    Ok(extractor.inspect(images, shape))
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Stepwise<'a> {
    pub student: &'a Koopman,
    pub config: &'a StudentConfig,
    pub device: &'a Device,
}

impl<'a> Stepwise<'a> {
    fn old(&self) -> stepwise::Stepwise<'a> {
        stepwise::Stepwise { student: self.student, config: self.config }
    }
    pub fn encode_noise(&self, rows: &[f32], labels: &Labels) -> Vec<f32> {
        self.old().encode_noise(rows, &labels.one_hot(self.config.label_dim))
    }
    pub fn push(&self, rows: &[f32], labels: &Labels) -> Vec<f32> {
        self.old().push(rows, &labels.one_hot(self.config.label_dim))
    }
    pub fn decode(&self, rows: &[f32], labels: &Labels) -> Vec<f32> {
        self.old().decode(rows, &labels.one_hot(self.config.label_dim))
    }
    pub fn control(&self, labels: &Labels) -> Vec<f32> {
        self.old().control(&labels.one_hot(self.config.label_dim))
    }
}

/// Images between samples i and j of rows of noise.
pub(crate) fn way(
    stepwise: &Stepwise,
    noise: &[f32],
    labels: &Labels,
    [i, j]: [usize; 2],
    space: Space,
    steps: usize,
) -> Vec<f32> {
    let (dim, k) = (stepwise.config.dim(), stepwise.config.label_dim);
    let rows = labels.one_hot(k);
    let end =
        |i: usize| End { noise: &noise[i * dim..(i + 1) * dim], label: &rows[i * k..(i + 1) * k] };
    between(stepwise.student, stepwise.config, space, end(i), end(j), steps)
}

pub(crate) fn operator_error(reason: String) -> Error {
    Error::Decomposition { of: "the eigenvalues of the operator", reason }
}

pub(crate) fn feature_error(reason: String) -> Error {
    Error::Features { reason }
}
