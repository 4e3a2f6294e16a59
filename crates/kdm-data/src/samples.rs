//! Samples on the host, with the noise they are from, their labels and their seeds: the one type in
//! which a pair store gives them, a sampler draws them, and metrics and analysis read them.

use std::ops::Range;

/// The class of each sample; none for a sample without one, such as all of an unconditional model.
///
/// ```
/// use kdm_data::Labels;
///
/// let labels = Labels::of(&[2, 0]);
/// assert_eq!(labels.class(0), Some(2));
/// assert_eq!(labels.one_hot(3), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
/// // Without classes there are no rows to give to a network.
/// assert!(Labels::none(2).one_hot(0).is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<Option<u32>>);

impl Labels {
    /// `n` samples without a class.
    pub fn none(n: usize) -> Self {
        Self(vec![None; n])
    }

    /// A class a sample.
    pub fn of(classes: &[u32]) -> Self {
        Self(classes.iter().map(|class| Some(*class)).collect())
    }

    /// `n` samples of one class.
    pub fn all(class: u32, n: usize) -> Self {
        Self(vec![Some(class); n])
    }

    /// From one-hot rows of `label_dim` values, or rows of zeros for no class.
    ///
    /// # Errors
    /// The first row that is neither.
    pub fn from_one_hot(rows: &[f32], label_dim: usize) -> Result<Self, usize> {
        let class = |(i, row): (usize, &[f32])| {
            let ones = row.iter().filter(|x| **x == 1.0).count();
            let zeros = row.iter().filter(|x| **x == 0.0).count();
            if ones + zeros != row.len() || ones > 1 {
                return Err(i);
            }
            Ok(row.iter().position(|x| *x == 1.0).map(|class| class as u32))
        };
        rows.chunks(label_dim.max(1)).enumerate().map(class).collect::<Result<_, _>>().map(Self)
    }

    /// Samples.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The class of sample `i`, less than [`Self::len`].
    pub fn class(&self, i: usize) -> Option<u32> {
        self.0[i]
    }

    /// The class of each sample.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<u32>> + '_ {
        self.0.iter().copied()
    }

    /// The classes, of samples that all have one; empty where one has none.
    pub fn classes(&self) -> Vec<u32> {
        self.0.iter().copied().collect::<Option<Vec<u32>>>().unwrap_or_default()
    }

    /// The labels of some samples in a row.
    pub fn range(&self, range: Range<usize>) -> Self {
        Self(self.0[range].to_vec())
    }

    /// Each label `times` times, one after the other.
    pub fn repeat_each(&self, times: usize) -> Self {
        Self(self.0.iter().flat_map(|class| std::iter::repeat_n(*class, times)).collect())
    }

    /// Adds the labels of more samples.
    pub fn append(&mut self, more: &Self) {
        self.0.extend(&more.0);
    }

    /// One-hot rows of `label_dim` values, as networks take them; zeros for a sample without a
    /// class or of one beyond `label_dim`. Empty when `label_dim` is 0.
    pub fn one_hot(&self, label_dim: usize) -> Vec<f32> {
        let mut rows = vec![0.0; self.len() * label_dim];
        for (row, class) in self.iter().enumerate() {
            if let Some(class) = class
                && (class as usize) < label_dim
            {
                rows[row * label_dim + class as usize] = 1.0;
            }
        }
        rows
    }
}

impl FromIterator<Option<u32>> for Labels {
    fn from_iter<I: IntoIterator<Item = Option<u32>>>(classes: I) -> Self {
        Self(classes.into_iter().collect())
    }
}

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
        }
    }

    /// Adds more samples, of the same shape and with the same parts known.
    pub fn append(&mut self, more: Self) {
        assert_eq!(self.shape, more.shape, "samples of one shape");
        self.noise.extend(more.noise);
        self.images.extend(more.images);
        self.labels.append(&more.labels);
        self.seeds.extend(more.seeds);
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
    fn one_hot_rows_come_back() {
        let labels: Labels = [Some(1), None, Some(0)].into_iter().collect();
        let rows = labels.one_hot(2);
        assert_eq!(rows, [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
        assert_eq!(Labels::from_one_hot(&rows, 2), Ok(labels.clone()));
        assert_eq!(Labels::from_one_hot(&[1.0, 0.0, 0.5, 0.5], 2), Err(1));
        assert_eq!(Labels::from_one_hot(&[1.0, 1.0], 2), Err(0));
        assert!(labels.classes().is_empty());
        assert_eq!(Labels::of(&[3, 4]).repeat_each(2).classes(), [3, 3, 4, 4]);
        // A class that the network doesn't know is no class to it.
        assert_eq!(Labels::all(5, 1).one_hot(2), [0.0, 0.0]);
    }

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
