//! One-step sampling on host arrays.

use burn::tensor::{Device, Tensor};
use kdm_nn::blocks::{Rows, in_blocks, in_image_blocks};

use crate::{NetworkConfig, Student, StudentConfig};

/// A student ready to draw. A sample's bits depend on its own noise and label alone, not on the batch.
#[derive(Clone, Debug)]
pub struct Sampler {
    student: Student,
    dim: usize,
    label_dim: usize,
    images: bool,
    device: Device,
}

impl Sampler {
    /// Takes the student of `config`, outside autodiff.
    pub fn new(student: Student, config: &StudentConfig, device: &Device) -> Self {
        let images = matches!(config.network, NetworkConfig::Unet { .. });
        Self { student, dim: config.dim(), label_dim: config.label_dim, images, device: device.clone() }
    }

    /// x_0 for rows of x_T (with its full standard deviation); `labels` are one-hot rows, or empty, which leaves a
    /// conditional student's label at zero.
    pub fn sample(&self, noise: &[f32], labels: &[f32]) -> Vec<f32> {
        let x = Rows { values: noise, width: self.dim };
        let device = &self.device;
        if self.label_dim == 0 {
            let draw = |[x]: [Tensor<2>; 1]| self.student.generate(x, None);
            return if self.images { in_image_blocks([x], device, draw) } else { in_blocks([x], device, draw) };
        }
        let zeros = vec![0.0; if labels.is_empty() { noise.len() / self.dim * self.label_dim } else { 0 }];
        let y = Rows { values: if labels.is_empty() { &zeros } else { labels }, width: self.label_dim };
        let draw = |[x, y]: [Tensor<2>; 2]| self.student.generate(x, Some(y));
        if self.images { in_image_blocks([x, y], device, draw) } else { in_blocks([x, y], device, draw) }
    }
}

/// One-hot rows of `label_dim` values; empty when there are no classes.
pub fn one_hot(classes: &[u32], label_dim: usize) -> Vec<f32> {
    let mut rows = vec![0.0; classes.len() * label_dim];
    for (row, class) in classes.iter().enumerate() {
        if let Some(place) = rows.get_mut(row * label_dim + *class as usize) {
            *place = 1.0;
        }
    }
    rows
}
