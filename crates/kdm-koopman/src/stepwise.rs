//! A Koopman student step by step, on host rows outside autodiff.

use burn::tensor::{Device, Tensor};
use kdm_data::Labels;
use kdm_nn::ForwardMode;
use kdm_nn::fixed_batches::{self, Rows, in_batches, in_image_batches};

use kdm_observer::{Observer, Stopped};

use crate::host::{rows, values};
use crate::{Koopman, StudentConfig};

/// Images whose parts are computed between two looks at an observer: some batches.
const IMAGES: usize = 16;

/// A student's encoders, operator and decoder, one by one. Samples are rows of `dim` values,
/// latents rows of n, the dimension of the operator; there is one label a row (none for a row
/// without a class). A row's answer has the same bits in any batch.
#[derive(Clone, Copy, Debug)]
pub struct Stepwise<'a> {
    /// The networks, on `device`.
    pub student: &'a Koopman,
    /// Their configuration.
    pub config: &'a StudentConfig,
    /// Where they compute, outside autodiff.
    pub device: &'a Device,
}

impl Stepwise<'_> {
    /// z_T = E_T(x_T): `[N, dim]`, x_T with its full standard deviation -> `[N, n]`.
    pub fn encode_noise(&self, noise: &[f32], labels: &Labels) -> Vec<f32> {
        let mode = ForwardMode::evaluation();
        self.run(noise, self.config.dim(), labels, |x, y| self.student.encode_noise(x, y, &mode))
    }

    /// z_0 = E_0(x_0): `[N, dim]` -> `[N, n]`.
    pub fn encode_clean(&self, images: &[f32], labels: &Labels) -> Vec<f32> {
        let mode = ForwardMode::evaluation();
        self.run(images, self.config.dim(), labels, |x, y| self.student.encode_clean(x, y, &mode))
    }

    /// z^_0 = C z_T + B y: `[N, n]` -> `[N, n]`.
    pub fn push(&self, latents: &[f32], labels: &Labels) -> Vec<f32> {
        self.run(latents, self.config.operator_dim(), labels, |z, y| self.student.push(z, y))
    }

    /// z^_0 = C E_T(x_T) + B y: `[N, dim]` -> `[N, n]`.
    pub fn push_noise(&self, noise: &[f32], labels: &Labels) -> Vec<f32> {
        self.push(&self.encode_noise(noise, labels), labels)
    }

    /// Latents of a generator a time `time` later, its control with it: `[N, n]` -> `[N, n]`. None
    /// where the operator is none.
    pub fn advance(&self, latents: &[f32], labels: &Labels, time: f32) -> Option<Vec<f32>> {
        let generator = self.student.operator.generator()?;
        let at = |rows: usize| Tensor::full([rows], time, self.device);
        Some(self.run(latents, self.config.operator_dim(), labels, |z, y| {
            let rows = z.dims()[0];
            self.student.advance(generator, z, at(rows), y)
        }))
    }

    /// z_s = E_T(x_s, s) of states that are as loud as x_T, at the normalised time `tau`:
    /// `[N, dim]` -> `[N, n]`. None where the operator is no generator.
    pub fn encode_state(&self, states: &[f32], labels: &Labels, tau: f32) -> Option<Vec<f32>> {
        self.student.operator.generator()?;
        let mode = ForwardMode::evaluation();
        Some(self.run(states, self.config.dim(), labels, |x, y| {
            let tau = Tensor::full([x.dims()[0]], tau, self.device);
            self.student.encode_state(x, tau, y, &mode)
        }))
    }

    /// D(z, s) at the normalised time `tau`: states over their scale, `[N, n]` -> `[N, dim]`.
    pub fn decode_at(&self, latents: &[f32], labels: &Labels, tau: f32) -> Vec<f32> {
        let mode = ForwardMode::evaluation();
        self.run(latents, self.config.operator_dim(), labels, |z, y| {
            let tau = Tensor::full([z.dims()[0]], tau, self.device);
            self.student.decode_at(z, tau, y, &mode)
        })
    }

    /// D(z): `[N, n]` -> `[N, dim]`.
    pub fn decode(&self, latents: &[f32], labels: &Labels) -> Vec<f32> {
        let mode = ForwardMode::evaluation();
        self.run(latents, self.config.operator_dim(), labels, |z, y| {
            self.student.decode(z, y, &mode)
        })
    }

    /// [`Self::push_noise`] with label rows y of any values, `[N, label_dim]`: one-hot rows for
    /// classes, weights for a mix of them. Empty for an unconditional student.
    pub fn push_noise_labelled(&self, noise: &[f32], y: &[f32]) -> Vec<f32> {
        let (mode, dim) = (ForwardMode::evaluation(), self.config.dim());
        self.run_labelled(noise, dim, y, |x, y| {
            self.student.push(self.student.encode_noise(x, y.clone(), &mode), y)
        })
    }

    /// [`Self::decode`] with label rows of any values, as [`Self::push_noise_labelled`] takes them.
    pub fn decode_labelled(&self, latents: &[f32], y: &[f32]) -> Vec<f32> {
        let (mode, n) = (ForwardMode::evaluation(), self.config.operator_dim());
        self.run_labelled(latents, n, y, |z, y| self.student.decode(z, y, &mode))
    }

    /// B y, `[N, n]`; empty for a student without control.
    pub fn control(&self, labels: &Labels) -> Vec<f32> {
        let (Some(control), width) = (&self.student.control, self.config.label_dim) else {
            return Vec::new();
        };
        values(control.forward(rows(labels.one_hot(width), width, self.device)))
    }

    /// One of the steps above, such as [`Self::encode_noise`], on rows in parts: the observer is
    /// told of them as `task` and may stop between two.
    ///
    /// # Errors
    /// When the observer stops it.
    pub fn observed(
        &self,
        task: &str,
        values: &[f32],
        labels: &Labels,
        observer: &dyn Observer,
        step: impl Fn(&Self, &[f32], &Labels) -> Vec<f32>,
    ) -> Result<Vec<f32>, Stopped> {
        // Whole batches, so that none is filled up with zeros but the last.
        let at_a_time = match self.config.shape.len() {
            3 => IMAGES,
            _ => fixed_batches::ROWS_PER_BATCH,
        };
        let width = values.len() / labels.len().max(1);
        observer.in_parts((task, "samples"), labels.len(), at_a_time, |rows| {
            step(self, &values[rows.start * width..rows.end * width], &labels.range(rows))
        })
    }

    fn run(
        &self,
        values: &[f32],
        width: usize,
        labels: &Labels,
        step: impl Fn(Tensor<2>, Option<Tensor<2>>) -> Tensor<2>,
    ) -> Vec<f32> {
        self.run_labelled(values, width, &labels.one_hot(self.config.label_dim), step)
    }

    fn run_labelled(
        &self,
        values: &[f32],
        width: usize,
        y: &[f32],
        step: impl Fn(Tensor<2>, Option<Tensor<2>>) -> Tensor<2>,
    ) -> Vec<f32> {
        let (x, device, classes) = (Rows { values, width }, self.device, self.config.label_dim);
        let image = self.config.shape.len() == 3;
        if classes == 0 {
            let network = |[x]: [Tensor<2>; 1]| step(x, None);
            return if image {
                in_image_batches([x], device, network)
            } else {
                in_batches([x], device, network)
            };
        }
        let y = Rows { values: y, width: classes };
        let network = |[x, y]: [Tensor<2>; 2]| step(x, Some(y));
        if image {
            in_image_batches([x, y], device, network)
        } else {
            in_batches([x, y], device, network)
        }
    }
}
