//! What a forward pass is for: an answer, or a training step with its dropout. Dropout is a function of the pass's
//! seed, so that a resumed training drops the same values.

use std::cell::Cell;

use burn::tensor::{Tensor, TensorData};
use kdm_kernels::random;
use rayon::prelude::*;

/// One forward pass.
#[derive(Debug)]
pub struct Pass {
    seed: Option<u64>,
    drawn: Cell<u64>,
}

impl Pass {
    /// Nothing is dropped.
    pub fn evaluation() -> Self {
        Self { seed: None, drawn: Cell::new(0) }
    }

    /// Values are dropped as `seed` says.
    pub fn training(seed: u64) -> Self {
        Self { seed: Some(seed), drawn: Cell::new(0) }
    }

    /// `x` with each value put to 0 with probability `p`, and the others divided by 1 - p.
    pub fn dropout<const D: usize>(&self, x: Tensor<D>, p: f64) -> Tensor<D> {
        self.masked(x, p, 1, 1.0 / (1.0 - p))
    }

    /// `x` with each row put to 0 with probability `p`; the others stay as they are.
    pub fn drop_rows(&self, x: Tensor<2>, p: f64) -> Tensor<2> {
        let width = x.dims()[1];
        self.masked(x, p, width, 1.0)
    }

    /// Runs of `block` values are put to 0 together, or multiplied by `keep`.
    fn masked<const D: usize>(&self, x: Tensor<D>, p: f64, block: usize, keep: f64) -> Tensor<D> {
        let Some(seed) = self.seed.filter(|_| p > 0.0) else { return x };
        self.drawn.set(self.drawn.get() + 1);
        let seed = random::derive_seed(seed, self.drawn.get());
        let mut mask = vec![0.0f32; x.shape().num_elements()];
        mask.par_chunks_mut(4096 * block).enumerate().for_each(|(task, chunk)| {
            for (i, run) in chunk.chunks_mut(block).enumerate() {
                let at = (task * 4096 + i) as u64;
                run.fill(if random::uniform_f64(seed, at) < p { 0.0 } else { keep as f32 });
            }
        });
        let mask = Tensor::from_data(TensorData::new(mask, x.dims()), &x.device());
        x * mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn dropout_follows_its_seed_and_keeps_the_mean() {
        let x = Tensor::<2>::ones([100, 1000], &Device::flex());
        let drop = |seed| Pass::training(seed).dropout(x.clone(), 0.3).to_data();
        assert_eq!(drop(1), drop(1));
        assert_ne!(drop(1), drop(2));
        // 100 000 values: the mean's standard error is sqrt(0.3 / 0.7 / 1e5) = 0.0021; five of them.
        let mean = Tensor::<2>::from_data(drop(1), &Device::flex()).mean().into_scalar::<f32>();
        assert!((mean - 1.0).abs() < 0.0105, "{mean}");
        assert_eq!(Pass::evaluation().dropout(x.clone(), 0.3).to_data(), x.to_data());
        let pass = Pass::training(1);
        assert_ne!(pass.dropout(x.clone(), 0.3).to_data(), pass.dropout(x.clone(), 0.3).to_data());
    }

    #[test]
    fn whole_rows_are_dropped() {
        let x = Tensor::<2>::ones([4000, 3], &Device::flex());
        let sums = Pass::training(5).drop_rows(x, 0.25).sum_dim(1).into_data();
        let sums = sums.as_slice::<f32>().unwrap();
        assert!(sums.iter().all(|s| *s == 0.0 || (s - 3.0).abs() < 1e-6));
        let dropped = sums.iter().filter(|s| **s == 0.0).count();
        // Binomial: 1000 +- five standard deviations of 27.4.
        assert!(dropped.abs_diff(1000) < 137, "{dropped}");
    }
}
