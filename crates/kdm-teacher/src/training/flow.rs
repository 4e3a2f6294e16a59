//! Training of the velocity network of flow matching (Lipman et al., arXiv:2210.02747, eq. 23 with
//! noise at t = 1).

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use kdm_data::Labels;
use kdm_nn::Mlp;
use kdm_nn::state::state_dict;
use kdm_train::{Leaf, Losses, SharedWork, Stepper, Task};

use crate::Denoiser;
use crate::distributions::Distribution;
use crate::networks::FlowMlpConfig;
use crate::teacher::{KIND, TeacherConfig};

/// Training of the velocity network: mean squared error to e - x_0, t uniform in [0, 1).
#[derive(Clone, Debug)]
pub struct FlowTask {
    /// What the teacher is.
    pub config: FlowMlpConfig,
    /// Where samples come from.
    pub distribution: Distribution,
    /// Samples an iteration.
    pub batch: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// Where to compute; an autodiff device.
    pub device: Device,
}

/// Seeds of validation draws lie beyond all iterations.
const VALIDATION: u64 = u64::MAX;
const VALIDATION_BATCH: usize = 8192;

impl FlowTask {
    /// The mean squared error over a leaf of `batch` draws that are a function of `draw`.
    fn squared_error(
        &self,
        network: &Mlp,
        draw: u64,
        (batch, leaf): (usize, Leaf),
        device: &Device,
    ) -> Tensor<1> {
        let seed = kdm_random::derive_seed(self.seed, draw);
        let (rows, dim) = (leaf.rows(batch), self.distribution.dim());
        let (n, values) = (rows.len(), rows.start * dim..rows.end * dim);
        let (points, classes) = self.distribution.sample(kdm_random::derive_seed(seed, 0), batch);
        let x0: Vec<f32> = points[values.clone()].iter().map(|x| *x as f32).collect();
        let classes = &classes[rows.clone()];
        let e = kdm_random::normal_range(kdm_random::derive_seed(seed, 1), values);
        let t: Vec<f32> = rows
            .map(|i| kdm_random::uniform_f64(kdm_random::derive_seed(seed, 2), i as u64) as f32)
            .collect();
        let tensor =
            |data, width| Tensor::<2>::from_data(TensorData::new(data, [n, width]), device);
        let labels = (network.label_dim > 0)
            .then(|| tensor(Labels::of(classes).one_hot(network.label_dim), network.label_dim));
        let (x0, e, t) = (tensor(x0, dim), tensor(e, dim), tensor(t, 1));
        let target = e.clone() - x0.clone();
        let xt = x0 + target.clone() * t.clone();
        (network.forward(xt, t, labels) - target).square().mean()
    }
}

impl Task for FlowTask {
    type Model = Mlp;

    fn name(&self) -> &'static str {
        "teacher"
    }

    fn iterate(&self, model: Mlp, iteration: u64, stepper: &mut Stepper) -> (Mlp, Losses) {
        stepper.minimise(0, model, |model, leaf| {
            let rows = (self.batch, leaf);
            let total = self.squared_error(model, iteration, rows, &self.device);
            Losses { total, terms: Vec::new() }
        })
    }

    /// The loss of a fixed draw of points, noise and times.
    fn validate(&self, averaged: &Mlp, shared: SharedWork) -> Vec<(String, f64)> {
        let device = self.device.clone().inner();
        let loss = |leaf| {
            let rows = (VALIDATION_BATCH, leaf);
            let loss = self.squared_error(averaged, VALIDATION, rows, &device);
            f64::from(loss.into_scalar::<f32>())
        };
        vec![("loss".into(), shared.mean_over_leaves(VALIDATION_BATCH, loss))]
    }

    fn save(&self, averaged: &Mlp, path: &Path) -> kdm_train::Result<()> {
        let config = TeacherConfig::FlowMlp(self.config.clone());
        Ok(kdm_data::model::write(path, KIND, &config, &state_dict(averaged))?)
    }
}
