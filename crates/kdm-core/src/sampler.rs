//! One-step sampling on host arrays.

use burn::tensor::{Device, Tensor};
use kdm_nn::blocks::{Rows, in_blocks};

use crate::Student;

/// A student ready to draw. A sample's bits depend on its own noise and label alone, not on the batch.
#[derive(Clone, Debug)]
pub struct Sampler {
    student: Student,
    dim: usize,
    label_dim: usize,
    device: Device,
}

impl Sampler {
    /// Takes a student outside autodiff, for samples of `dim` values and labels of `label_dim` classes.
    pub fn new(student: Student, dim: usize, label_dim: usize, device: &Device) -> Self {
        Self { student, dim, label_dim, device: device.clone() }
    }

    /// x_0 for rows of x_T (with its full standard deviation); `labels` are one-hot rows, or empty, which leaves a
    /// conditional student's label at zero.
    pub fn sample(&self, noise: &[f32], labels: &[f32]) -> Vec<f32> {
        self.run(noise, labels, |student, x, y| student.generate(x, y))
    }

    fn run(
        &self,
        rows: &[f32],
        labels: &[f32],
        network: impl Fn(&Student, Tensor<2>, Option<Tensor<2>>) -> Tensor<2>,
    ) -> Vec<f32> {
        let x = Rows { values: rows, width: self.dim };
        if self.label_dim == 0 {
            return in_blocks([x], &self.device, |[x]| network(&self.student, x, None));
        }
        let zeros = vec![0.0; if labels.is_empty() { rows.len() / self.dim * self.label_dim } else { 0 }];
        let y = Rows { values: if labels.is_empty() { &zeros } else { labels }, width: self.label_dim };
        in_blocks([x, y], &self.device, |[x, y]| network(&self.student, x, Some(y)))
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
