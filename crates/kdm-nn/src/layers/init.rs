//! Seeded initial weights. Every tensor gets its own stream of one seed, so a network's weights
//! depend on the seed and the order of its layers alone, not on the device or on other random
//! draws.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};

/// The distribution of a layer's first weights. `fan_in` and `fan_out` are the numbers of values
/// that an output is computed from, and that an input goes into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Weight and bias uniform in +-1/sqrt(fan_in), as PyTorch's layers start.
    PyTorch,
    /// Weight uniform in +-gain sqrt(6 / (fan_in + fan_out)); bias zero (Glorot and Bengio, 2010).
    Xavier(f64),
    /// Weight and bias uniform in +-gain sqrt(3 / fan_in) (He et al., arXiv:1502.01852).
    Kaiming(f64),
    /// All zero.
    Zero,
}

impl Init {
    /// The bounds of weight and bias.
    fn bounds(self, fan_in: usize, fan_out: usize) -> (f64, f64) {
        let (fan_in, fan_out) = (fan_in as f64, fan_out as f64);
        match self {
            Self::PyTorch => (1.0 / fan_in.sqrt(), 1.0 / fan_in.sqrt()),
            Self::Xavier(gain) => (gain * (6.0 / (fan_in + fan_out)).sqrt(), 0.0),
            Self::Kaiming(gain) => (gain * (3.0 / fan_in).sqrt(), gain * (3.0 / fan_in).sqrt()),
            Self::Zero => (0.0, 0.0),
        }
    }
}

/// Hands out one seed a tensor, so that a network's first weights are a function of one seed and
/// the order in which its layers are made.
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
        kdm_random::derive_seed(self.seed, self.drawn)
    }

    /// A parameter of `shape`, uniform in [-bound, bound).
    pub fn uniform<const D: usize>(
        &mut self,
        shape: [usize; D],
        bound: f64,
        device: &Device,
    ) -> Param<Tensor<D>> {
        let seed = self.next_seed();
        let n: usize = shape.iter().product();
        let values: Vec<f32> = match bound {
            0.0 => vec![0.0; n],
            _ => (0..n as u64)
                .map(|i| (bound * (2.0 * kdm_random::uniform_f64(seed, i) - 1.0)) as f32)
                .collect(),
        };
        param(values, shape, device)
    }

    /// A layer's weight and, if asked for, its bias `[outputs]`. `shape` is `[outputs, inputs]`,
    /// and the kernel's sizes after them.
    pub fn layer<const D: usize>(
        &mut self,
        shape: [usize; D],
        init: Init,
        bias: bool,
        device: &Device,
    ) -> (Param<Tensor<D>>, Option<Param<Tensor<1>>>) {
        let area: usize = shape[2..].iter().product();
        let (weight_bound, bias_bound) = init.bounds(shape[1] * area, shape[0] * area);
        let weight = self.uniform(shape, weight_bound, device);
        (weight, bias.then(|| self.uniform([shape[0]], bias_bound, device)))
    }
}

/// A parameter of `shape` with these values, in row-major order.
pub fn param<const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &Device,
) -> Param<Tensor<D>> {
    let tensor = Tensor::from_data(TensorData::new(values, shape), device);
    Param::from_tensor(tensor)
}
