//! Affine layers with packed weights.

use crate::cpu::gemm::Packed;
use crate::cpu::linear::rows_times;

/// An affine layer y = x W^T + b.
///
/// ```
/// use kdm_kernels::FrozenLinear;
///
/// let layer = FrozenLinear::new(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], vec![0.5, -0.5]);
/// assert_eq!(layer.run(&[1.0, 0.0, -1.0]), [-1.5, -2.5]);
/// ```
#[derive(Debug)]
pub struct FrozenLinear {
    weights: Packed,
    bias: Vec<f32>,
    inputs: usize,
}

impl FrozenLinear {
    /// Packs `weight` `[outputs, inputs]`, row by row, and `bias` `[outputs]`, of at least one
    /// number.
    pub fn new(weight: &[f32], bias: Vec<f32>) -> Self {
        let outputs = bias.len();
        let inputs = weight.len() / outputs;
        let weights = Packed::from_columns(weight, inputs, inputs, outputs);
        Self { weights, bias, inputs }
    }

    /// `[N, inputs]` -> `[N, outputs]`.
    pub fn run(&self, x: &[f32]) -> Vec<f32> {
        let outputs = self.bias.len();
        let mut y = vec![0.0; x.len() / self.inputs * outputs];
        rows_times(x, self.inputs, &self.weights, outputs, &mut y, &mut [], |rows, _| {
            for row in rows.chunks_exact_mut(outputs) {
                row.iter_mut().zip(&self.bias).for_each(|(y, bias)| *y += bias);
            }
        });
        y
    }
}
