//! Seeded initial weights. Every tensor gets its own stream of one seed, so a network's weights depend on the seed and
//! the order of its layers alone, not on the device or on other random draws.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use kdm_kernels::random;

/// Hands out one seed a tensor.
#[derive(Debug)]
pub struct InitSeed {
    seed: u64,
    drawn: u64,
}

impl InitSeed {
    /// The streams of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// The next stream's seed.
    pub fn next_seed(&mut self) -> u64 {
        self.drawn += 1;
        random::derive_seed(self.seed, self.drawn)
    }

    /// A parameter uniform in [-bound, bound).
    pub fn uniform<const D: usize>(&mut self, shape: [usize; D], bound: f64, device: &Device) -> Param<Tensor<D>> {
        let seed = self.next_seed();
        let n: usize = shape.iter().product();
        let values: Vec<f32> =
            (0..n as u64).map(|i| (bound * (2.0 * random::uniform_f64(seed, i) - 1.0)) as f32).collect();
        param(values, shape, device)
    }
}

/// A parameter with these values, in row-major order.
pub fn param<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    let tensor = Tensor::from_data(TensorData::new(values, shape), device);
    Param::from_tensor(tensor)
}
