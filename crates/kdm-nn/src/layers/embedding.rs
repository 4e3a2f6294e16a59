//! Embeddings of a time or noise level: cosines and sines of it at many frequencies.

use std::f64::consts::PI;

use burn::tensor::{Device, Tensor, TensorData};

/// Sinusoids of fixed frequencies, 10000^(-i / (`width`/2 - `shift`)) for i below `width`/2,
/// cosines first: `[N]` -> `[N, width]`, `width` even (Ho et al., arXiv:2006.11239, appendix B).
pub fn positional_embedding(time: Tensor<1>, width: usize, shift: f64) -> Tensor<2> {
    let frequencies = positional_frequencies(width, shift, &time.device());
    cos_sin(time.unsqueeze_dim::<2>(1).matmul(frequencies.unsqueeze::<2>()))
}

/// The frequencies of [`positional_embedding`], `[width/2]`.
pub fn positional_frequencies(width: usize, shift: f64, device: &Device) -> Tensor<1> {
    let half = width / 2;
    let frequency = |i: usize| (1.0 / 10000f64).powf(i as f64 / (half as f64 - shift)) as f32;
    let frequencies: Vec<f32> = (0..half).map(frequency).collect();
    Tensor::from_data(TensorData::new(frequencies, [half]), device)
}

/// Random Fourier features, cos(2 pi f t) for each of the frequencies f, then sin(2 pi f t): `[N]`,
/// `[width/2]` -> `[N, width]` (Tancik et al., arXiv:2006.10739; Song et al., arXiv:2011.13456,
/// appendix H).
pub fn fourier_embedding(time: Tensor<1>, frequencies: Tensor<1>) -> Tensor<2> {
    let frequencies = fourier_frequencies(frequencies);
    cos_sin(time.unsqueeze_dim::<2>(1).matmul(frequencies.unsqueeze::<2>()))
}

/// 2 pi f of frequencies f: what [`fourier_embedding`] multiplies times with.
pub fn fourier_frequencies(frequencies: Tensor<1>) -> Tensor<1> {
    frequencies * (2.0 * PI)
}

/// The two halves of every row swapped: `[N, width]` in and out, `width` even.
pub fn swap_halves(x: Tensor<2>) -> Tensor<2> {
    let mut halves = x.chunk(2, 1);
    halves.swap(0, 1);
    Tensor::cat(halves, 1)
}

fn cos_sin(angles: Tensor<2>) -> Tensor<2> {
    Tensor::cat(vec![angles.clone().cos(), angles.sin()], 1)
}
