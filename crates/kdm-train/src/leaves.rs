//! A batch in equal parts, its leaves, whose gradients are summed along one fixed binary tree:
//! whoever computes a leaf, and in whatever order, the sum has the same bits.

use std::ops::Range;

use burn::tensor::Tensor;

use crate::Losses;

/// One of the equal parts of a batch. What is random in it must be a function of the iteration and
/// of the leaf, whoever computes it.
///
/// ```
/// use kdm_train::Leaf;
///
/// assert_eq!(Leaf::WHOLE.rows(128), 0..128);
/// assert_eq!(Leaf { index: 3, count: 4 }.rows(128), 96..128);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Which one, from 0.
    pub index: usize,
    /// How many there are, a power of two.
    pub count: usize,
}

impl Leaf {
    /// A batch that is one leaf.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// The leaf's rows of a batch of `batch`, a multiple of the number of leaves.
    pub fn rows(self, batch: usize) -> Range<usize> {
        let rows = batch / self.count;
        self.index * rows..(self.index + 1) * rows
    }

    /// The seed of random numbers that a leaf draws for itself, such as its dropout: `seed` where
    /// the batch is one leaf.
    pub fn seed(self, seed: u64) -> u64 {
        if self.count == 1 { seed } else { kdm_random::derive_seed(seed, self.index as u64) }
    }
}

/// A sum along the complete binary tree over leaves that come one after the other. It holds at most
/// one value for each level of the tree.
#[derive(Debug)]
pub(crate) struct TreeSum<T> {
    /// Sums of whole subtrees, the largest first, each with its number of leaves.
    nodes: Vec<(usize, T)>,
}

impl<T> TreeSum<T> {
    pub(crate) fn new() -> Self {
        Self { nodes: Vec::new() }
    }

    /// Adds the next leaf; `add` sums two neighbouring subtrees, the left one first.
    pub(crate) fn push(&mut self, leaf: T, add: impl Fn(T, T) -> T) {
        let (mut leaves, mut value) = (1, leaf);
        while self.nodes.last().is_some_and(|(of, _)| *of == leaves) {
            let (_, left) = self.nodes.pop().expect("just seen");
            (leaves, value) = (2 * leaves, add(left, value));
        }
        self.nodes.push((leaves, value));
    }

    /// The sum over all leaves, of which there are a power of two, at least one.
    pub(crate) fn finish(mut self) -> T {
        debug_assert_eq!(self.nodes.len(), 1, "a whole tree");
        self.nodes.pop().expect("at least one leaf").1
    }
}

/// What a leaf gives: the gradients of an optimizer's parameters, in the module's order, and the
/// losses. Parameters that took no part in the loss have no gradient, in every leaf.
#[derive(Clone, Debug)]
pub(crate) struct LeafGradient {
    pub(crate) gradients: Vec<(String, Tensor<1>)>,
    pub(crate) losses: Losses,
}

impl LeafGradient {
    /// The sum of two, outside autodiff.
    pub(crate) fn add(self, other: Self) -> Self {
        let gradients = self.gradients.into_iter().zip(other.gradients);
        let gradients = gradients.map(|((name, a), (_, b))| (name, a + b)).collect();
        Self { gradients, losses: self.losses.zip(other.losses, |a, b| a + b) }
    }

    /// All numbers in a row: what workers sum.
    pub(crate) fn to_vec(&self) -> Vec<f32> {
        let count: usize = self.tensors().map(|tensor| tensor.shape().num_elements()).sum();
        let mut all = Vec::with_capacity(count);
        for tensor in self.tensors() {
            let data = tensor.clone().into_data();
            all.extend_from_slice(data.as_slice::<f32>().expect("gradients are f32"));
        }
        all
    }

    /// The same with other numbers, those of [`Self::to_vec`].
    pub(crate) fn with_values(self, values: &[f32]) -> Self {
        let mut at = 0;
        let mut next = |old: Tensor<1>| {
            let n = old.shape().num_elements();
            at += n;
            Tensor::from_floats(&values[at - n..at], &old.device())
        };
        let gradients = self.gradients.into_iter();
        let gradients = gradients.map(|(name, old)| (name, next(old))).collect();
        let total = next(self.losses.total);
        let terms = self.losses.terms.into_iter().map(|(name, old)| (name, next(old))).collect();
        Self { gradients, losses: Losses { total, terms } }
    }

    /// Of a sum over `count` leaves, a power of two: the mean.
    pub(crate) fn mean(self, count: usize) -> Self {
        let share = 1.0 / count as f64;
        let gradients = self.gradients.into_iter().map(|(name, sum)| (name, sum * share)).collect();
        Self { gradients, losses: self.losses.map(|sum| sum * share) }
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor<1>> {
        let terms = self.losses.terms.iter().map(|(_, value)| value);
        let gradients = self.gradients.iter().map(|(_, gradient)| gradient);
        gradients.chain([&self.losses.total]).chain(terms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum by the tree's definition.
    fn by_halves(leaves: &[f32]) -> f32 {
        match leaves {
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len() / 2);
                by_halves(left) + by_halves(right)
            }
        }
    }

    /// Numbers whose sum depends on the order.
    #[test]
    fn leaves_are_summed_along_the_tree() {
        let sum = |leaves: &[f32]| {
            let mut sum = TreeSum::new();
            leaves.iter().for_each(|leaf| sum.push(*leaf, |a, b| a + b));
            sum.finish()
        };
        let mut orders = 0;
        for count in [1, 2, 4, 8, 16] {
            for seed in 0..50 {
                let leaves = kdm_random::normal_vec(seed, count);
                assert_eq!(sum(&leaves).to_bits(), by_halves(&leaves).to_bits());
                let in_a_row = leaves.iter().copied().reduce(|a, b| a + b).unwrap();
                orders += usize::from(in_a_row != by_halves(&leaves));
            }
        }
        assert!(orders > 10, "the order shows in {orders} of 250 sums");
    }

    #[test]
    fn leaves_share_out_a_batch() {
        for count in [1, 2, 8] {
            let rows = (0..count).flat_map(|index| Leaf { index, count }.rows(24));
            assert!(rows.eq(0..24));
        }
        assert_eq!(Leaf::WHOLE.seed(7), 7);
        let seeds = [0, 1].map(|index| Leaf { index, count: 2 }.seed(7));
        assert_ne!(seeds[0], seeds[1]);
    }
}
