//! Samples on the host, with the noise they are from, their labels and their seeds: the one type in
//! which a pair store gives them, a sampler draws them, and metrics and analysis read them.

use std::ops::Range;

use crate::Labels;

/// Samples row by row with what they are from. Parts that aren't known are empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Shape of one sample: `[D]` for points, `[C, H, W]` for images.
    pub shape: Vec<usize>,
    /// x_T, rows of [`Self::dim`] values with their full standard deviation.
    pub noise: Vec<f32>,
    /// x_0, rows likewise; images in [-1, 1]. Empty for noise that nothing was drawn from yet.
    pub images: Vec<f32>,
    /// The class of each.
    pub labels: Labels,
    /// The seed of each; empty where noise has none.
    pub seeds: Vec<u64>,
    /// States between noise and image, rows of as many times [`Self::dim`] values as there are of
    /// each sample, from noise to image and of full scale; empty where they aren't kept.
    pub states: Vec<f32>,
}

impl Samples {
    /// Values of a sample.
    pub fn dim(&self) -> usize {
        self.shape.iter().product()
    }

    /// Samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Some samples in a row.
    pub fn range(&self, range: Range<usize>) -> Self {
        let rows = |values: &[f32]| match values {
            [] => Vec::new(),
            values => values[range.start * self.dim()..range.end * self.dim()].to_vec(),
        };
        let seeds = if self.seeds.is_empty() { &[] } else { &self.seeds[range.clone()] };
        Self {
            shape: self.shape.clone(),
            noise: rows(&self.noise),
            images: rows(&self.images),
            labels: self.labels.range(range.clone()),
            seeds: seeds.to_vec(),
            states: self.states_of(range),
        }
    }

    fn states_of(&self, range: Range<usize>) -> Vec<f32> {
        let width = self.states.len() / self.len().max(1);
        self.states[range.start * width..range.end * width].to_vec()
    }

    /// Adds more samples, of the same shape and with the same parts known.
    pub fn append(&mut self, more: Self) {
        assert_eq!(self.shape, more.shape, "samples of one shape");
        self.noise.extend(more.noise);
        self.images.extend(more.images);
        self.labels.append(&more.labels);
        self.seeds.extend(more.seeds);
        self.states.extend(more.states);
    }

    /// The first `n` samples, or all of fewer.
    pub fn first(&self, n: usize) -> Self {
        self.range(0..n.min(self.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_are_not_known_stay_empty() {
        let samples = Samples {
            shape: vec![2],
            noise: vec![1.0, 2.0, 3.0, 4.0],
            labels: Labels::none(2),
            ..Samples::default()
        };
        let second = samples.range(1..2);
        assert_eq!((second.noise, second.images, second.labels.len()), (vec![3.0, 4.0], vec![], 1));
        assert_eq!(samples.first(9), samples);
        let mut again = samples.first(1);
        again.append(samples.range(1..2));
        assert_eq!(again, samples);
    }
}
