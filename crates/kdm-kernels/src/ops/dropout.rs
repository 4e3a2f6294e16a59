//! Dropout as a function of a seed: which values are dropped depends on the seed and their place
//! alone, so that the backward pass draws the same ones again instead of storing them.
//!
//! Places are hashed by two rounds of multiplication and exclusive or (constants of Ellis' search
//! for low bias, `lowbias32`), which is plenty for dropout and a few instructions a vector.

use burn::tensor::{Tensor, TensorData};

use kdm_random::derive_seed;

use super::layout::padded;

/// Each value is put to 0 with probability `p`; the others are divided by 1 - p.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability, at least 0 and below 1.
    pub p: f64,
    /// What decides which values are dropped.
    pub seed: u64,
}

impl Dropout {
    /// Drops from a run of values of image `image` that begins at `place`.
    #[inline(always)]
    pub(crate) fn apply(self, image: usize, place: usize, values: &mut [f32]) {
        let key = derive_seed(self.seed, image as u64);
        let (first, second) = (key as u32, (key >> 32) as u32);
        let limit = (self.p * 4_294_967_296.0) as u32;
        let keep = (1.0 / (1.0 - self.p)) as f32;
        for (i, value) in values.iter_mut().enumerate() {
            let hash = mix(mix(((place + i) as u32) ^ first) ^ second);
            *value *= if hash < limit { 0.0 } else { keep };
        }
    }
}

/// `x` `[N, C, H, W]` with values dropped (Srivastava et al., JMLR 15, 2014); as it is where there
/// is no dropout.
pub fn dropout(x: Tensor<4>, dropout: Option<Dropout>) -> Tensor<4> {
    let Some(dropout) = dropout else { return x };
    let shape @ [count, channels, height, width] = x.dims();
    let factors = factors(dropout, count, channels, height * width);
    let factors = Tensor::from_data(TensorData::new(factors, shape), &x.device());
    x * factors
}

#[inline(always)]
fn mix(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

/// The factors of [`Dropout`] for images of `channels` channels and `pixels` pixels, `[count,
/// channels, pixels]`.
pub(crate) fn factors(dropout: Dropout, count: usize, channels: usize, pixels: usize) -> Vec<f32> {
    let width = padded(channels);
    let mut all = Vec::with_capacity(count * channels * pixels);
    for image in 0..count {
        let mut map = vec![1.0; pixels * width];
        dropout.apply(image, 0, &mut map);
        all.extend(
            (0..channels)
                .flat_map(|c| map.iter().skip(c).step_by(width).copied().collect::<Vec<f32>>()),
        );
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_dropped_is_the_probability_and_neighbours_are_independent() {
        let (n, p) = (200_000, 0.3);
        let values = factors(Dropout { p, seed: 5 }, 2, 10, n / 20);
        assert_eq!(values.len(), n);
        let dropped = |x: &f32| *x == 0.0;
        let share = values.iter().filter(|x| dropped(x)).count() as f64 / n as f64;
        // Five standard deviations of a binomial share: 5 sqrt(0.21 / 2e5).
        assert!((share - p).abs() < 0.0052, "{share}");
        assert!(values.iter().all(|x| dropped(x) || (x - 1.0 / 0.7).abs() < 1e-6));
        for distance in [1, 16, n / 20, n / 2] {
            let both = values
                .iter()
                .zip(&values[distance..])
                .filter(|(a, b)| dropped(a) && dropped(b))
                .count();
            let share = both as f64 / (n - distance) as f64;
            assert!((share - p * p).abs() < 0.0052, "{distance}: {share}");
        }
        assert_ne!(values, factors(Dropout { p, seed: 6 }, 2, 10, n / 20));
    }
}
