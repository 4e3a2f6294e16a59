//! What a forward pass is for: evaluation, or a training step with its dropout. Dropout is a
//! function of the step's seed, so that a resumed training drops the same values.

use std::cell::Cell;

use burn::tensor::{Tensor, TensorData};
use kdm_kernels::Dropout;

/// What forward passes are for. One mode serves all passes of a training step: it counts the layers
/// that have dropped values, so that each of them has its own random numbers.
#[derive(Debug)]
pub struct ForwardMode {
    seed: Option<u64>,
    drawn: Cell<u64>,
}

impl ForwardMode {
    /// Evaluation: nothing is dropped.
    pub fn evaluation() -> Self {
        Self { seed: None, drawn: Cell::new(0) }
    }

    /// A training step: which values are dropped is a function of `seed`.
    pub fn training(seed: u64) -> Self {
        Self { seed: Some(seed), drawn: Cell::new(0) }
    }

    /// The dropout of the next layer, each value with probability `p` in [0, 1); none in
    /// evaluation, and when `p` is 0.
    pub fn dropout(&self, p: f64) -> Option<Dropout> {
        let seed = self.seed.filter(|_| p > 0.0)?;
        self.drawn.set(self.drawn.get() + 1);
        Some(Dropout { p, seed: kdm_random::derive_seed(seed, self.drawn.get()) })
    }

    /// `x`, `[N, M]`, with each row set to 0 with probability `p` in [0, 1); the others stay as
    /// they are (label dropout, Ho and Salimans, arXiv:2207.12598). All of `x` in evaluation.
    pub fn drop_rows(&self, x: Tensor<2>, p: f64) -> Tensor<2> {
        let Some(dropout) = self.dropout(p) else { return x };
        let [rows, _] = x.dims();
        let kept = |row: usize| {
            f32::from(u8::from(kdm_random::uniform_f64(dropout.seed, row as u64) >= p))
        };
        let mask: Vec<f32> = (0..rows).map(kept).collect();
        let mask = Tensor::from_data(TensorData::new(mask, [rows, 1]), &x.device());
        x * mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn each_layer_of_a_training_pass_has_its_own_seed() {
        let mode = ForwardMode::training(1);
        let (a, b) = (mode.dropout(0.3), mode.dropout(0.3));
        assert!(a.is_some() && a != b);
        assert_eq!(ForwardMode::training(1).dropout(0.3), a);
        assert_ne!(ForwardMode::training(2).dropout(0.3), a);
        assert_eq!(mode.dropout(0.0), None);
        assert_eq!(ForwardMode::evaluation().dropout(0.3), None);
    }

    #[test]
    fn whole_rows_are_dropped() {
        let x = Tensor::<2>::ones([4000, 3], &Device::flex());
        let sums = ForwardMode::training(5).drop_rows(x, 0.25).sum_dim(1).into_data();
        let sums = sums.as_slice::<f32>().unwrap();
        assert!(sums.iter().all(|s| *s == 0.0 || (s - 3.0).abs() < 1e-6));
        let dropped = sums.iter().filter(|s| **s == 0.0).count();
        // Binomial: 1000 +- five standard deviations of 27.4.
        assert!(dropped.abs_diff(1000) < 137, "{dropped}");
    }
}
