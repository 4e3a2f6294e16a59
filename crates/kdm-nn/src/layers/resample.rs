//! The filter that halves and doubles images `[N, C, H, W]`.

use burn::tensor::module::{conv_transpose2d, conv2d};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn::tensor::{Device, Tensor, TensorData};

/// A separable filter of even length for halving and doubling images: the outer product of its taps
/// with themselves, normalised to sum 1, channel by channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    taps: Vec<f64>,
}

/// Why taps are no resampling filter. The text begins with a verb, as a
/// [`Problem`](crate::Problem)'s does.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FilterError {
    /// Such a filter can't double a size.
    #[error("has {count} taps and must have an even number of them")]
    UnevenTaps {
        /// How many taps there are: none, or an odd number.
        count: usize,
    },
    /// Taps that can't be normalised.
    #[error("has taps {taps:?} whose sum is {sum}")]
    Sum {
        /// The taps.
        taps: Vec<f64>,
        /// Their sum: 0 or not finite.
        sum: f64,
    },
}

impl Filter {
    /// The filter of these taps.
    ///
    /// # Errors
    /// When there is an odd number of taps or none, or their sum is 0 or not finite.
    pub fn new(taps: &[f64]) -> Result<Self, FilterError> {
        let sum: f64 = taps.iter().sum();
        if taps.is_empty() || !taps.len().is_multiple_of(2) {
            return Err(FilterError::UnevenTaps { count: taps.len() });
        }
        if sum == 0.0 || !sum.is_finite() {
            return Err(FilterError::Sum { taps: taps.to_vec(), sum });
        }
        Ok(Self { taps: taps.iter().map(|tap| tap / sum).collect() })
    }

    /// Zero padding on each side with which [`Self::down`] halves an image of even sides exactly.
    pub fn padding(&self) -> usize {
        (self.taps.len() - 1) / 2
    }

    /// `[N, C, H, W]` -> `[N, C, H/2, W/2]`, with `padding` zeros around.
    pub fn down(&self, x: Tensor<4>, padding: usize) -> Tensor<4> {
        let c = x.dims()[1];
        let weight = self.weight(c, 1.0, &x.device());
        conv2d(x, weight, None, ConvOptions::new([2, 2], [padding; 2], [1, 1], c))
    }

    /// `[N, C, H, W]` -> `[N, C, 2H, 2W]`.
    pub fn up(&self, x: Tensor<4>) -> Tensor<4> {
        let c = x.dims()[1];
        let weight = self.weight(c, 4.0, &x.device());
        let options = ConvTransposeOptions::new([2, 2], [self.padding(); 2], [0, 0], [1, 1], c);
        conv_transpose2d(x, weight, None, options)
    }

    /// The taps, of sum 1.
    pub(crate) fn taps(&self) -> Vec<f32> {
        self.taps.iter().map(|tap| *tap as f32).collect()
    }

    fn weight(&self, channels: usize, gain: f64, device: &Device) -> Tensor<4> {
        let k = self.taps.len();
        let one =
            self.taps.iter().flat_map(|a| self.taps.iter().map(move |b| (gain * a * b) as f32));
        let one: Vec<f32> = one.collect();
        Tensor::from_data(TensorData::new(one.repeat(channels), [channels, 1, k, k]), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::to_host;

    /// Means of four pixels down, each pixel four times up: [1, 1] is a box filter.
    #[test]
    fn two_equal_taps_average_and_repeat() {
        let filter = Filter::new(&[1.0, 1.0]).unwrap();
        let values = vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let x = Tensor::<4>::from_data(TensorData::new(values, [1, 1, 2, 4]), &Device::flex());
        let down = filter.down(x.clone(), filter.padding());
        assert_eq!(to_host(down.clone()), [3.5, 5.5]);
        assert_eq!(to_host(filter.up(down)), [3.5, 3.5, 5.5, 5.5, 3.5, 3.5, 5.5, 5.5]);
    }

    #[test]
    fn impossible_taps_say_what_was_found() {
        let uneven = Filter::new(&[1.0, 2.0, 1.0]).unwrap_err();
        assert_eq!(uneven, FilterError::UnevenTaps { count: 3 });
        assert_eq!(Filter::new(&[]), Err(FilterError::UnevenTaps { count: 0 }));
        let sum = Filter::new(&[1.0, -1.0]).unwrap_err();
        assert_eq!(sum.to_string(), "has taps [1.0, -1.0] whose sum is 0");
    }
}
