//! A Koopman student's parts one by one, on host rows outside autodiff.

use burn::tensor::{Device, Tensor, TensorData};
use kdm_nn::ForwardMode;
use kdm_nn::fixed_batches::{Rows, in_blocks, in_image_blocks};

use crate::{Koopman, StudentConfig};

/// A student and what it is.
#[derive(Clone, Copy, Debug)]
pub struct Stepwise<'a> {
    /// The networks, on the CPU.
    pub student: &'a Koopman,
    /// Its configuration.
    pub config: &'a StudentConfig,
}

impl Stepwise<'_> {
    /// z_T = E_T(x_T): rows of `dim` values, one-hot rows of labels (empty when unconditional) ->
    /// rows of n values.
    pub fn encode_noise(&self, noise: &[f32], labels: &[f32]) -> Vec<f32> {
        let mode = ForwardMode::evaluation();
        self.run(noise, self.config.dim(), labels, |x, y| self.student.encode_noise(x, y, &mode))
    }

    /// z_0 = E_0(x_0); see [`Self::encode_noise`].
    pub fn encode_clean(&self, images: &[f32], labels: &[f32]) -> Vec<f32> {
        let mode = ForwardMode::evaluation();
        self.run(images, self.config.dim(), labels, |x, y| self.student.encode_clean(x, y, &mode))
    }

    /// z^_0 = C z_T + B y; rows of n values each.
    pub fn push(&self, latents: &[f32], labels: &[f32]) -> Vec<f32> {
        self.run(latents, self.config.operator_dim(), labels, |z, y| self.student.push(z, y))
    }

    /// D(z): rows of n values -> rows of `dim` values.
    pub fn decode(&self, latents: &[f32], labels: &[f32]) -> Vec<f32> {
        let mode = ForwardMode::evaluation();
        self.run(latents, self.config.operator_dim(), labels, |z, y| {
            self.student.decode(z, y, &mode)
        })
    }

    /// B y for one-hot rows of labels: rows of n values; empty without control.
    pub fn control(&self, labels: &[f32]) -> Vec<f32> {
        let Some(control) = &self.student.control else { return Vec::new() };
        let (rows, width) = (labels.len() / self.config.label_dim, self.config.label_dim);
        let labels = Tensor::<2>::from_data(
            TensorData::new(labels.to_vec(), [rows, width]),
            &Device::flex(),
        );
        control.forward(labels).try_into_vec_as::<f32>().expect("students compute in f32")
    }

    fn run(
        &self,
        values: &[f32],
        width: usize,
        labels: &[f32],
        part: impl Fn(Tensor<2>, Option<Tensor<2>>) -> Tensor<2>,
    ) -> Vec<f32> {
        let (x, device) = (Rows { values, width }, Device::flex());
        let image = self.config.shape.len() == 3;
        if self.config.label_dim == 0 {
            let network = |[x]: [Tensor<2>; 1]| part(x, None);
            return if image {
                in_image_blocks([x], &device, network)
            } else {
                in_blocks([x], &device, network)
            };
        }
        let y = Rows { values: labels, width: self.config.label_dim };
        let network = |[x, y]: [Tensor<2>; 2]| part(x, Some(y));
        if image {
            in_image_blocks([x, y], &device, network)
        } else {
            in_blocks([x, y], &device, network)
        }
    }
}
