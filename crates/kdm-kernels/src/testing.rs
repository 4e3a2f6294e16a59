//! What the kernels' tests share.

use burn::tensor::{Device, Tensor, TensorData};

use kdm_random::normal_vec;

/// Standard normal numbers of a seed.
pub fn tensor<const D: usize>(seed: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(normal_vec(seed, shape.iter().product()), shape), device)
}

/// The largest difference, in units of the expected values' root mean square.
pub fn error<const D: usize>(found: Tensor<D>, expected: Tensor<D>) -> f32 {
    let scale = expected.clone().square().mean().sqrt().into_scalar::<f32>();
    (found - expected).abs().max().into_scalar::<f32>() / scale
}
