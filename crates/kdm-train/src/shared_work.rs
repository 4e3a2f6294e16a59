//! Work beside the gradients that the workers of a training share out: validation.

use std::convert::Infallible;

use bytemuck::Pod;

use crate::{Alone, Leaf, Workers};

/// Work in parts that the workers of a training share out. What the parts are must not depend on
/// the number of workers; their results come back in order, to every worker, so that whatever is
/// made of them has the same bits however many workers there are.
///
/// ```
/// use kdm_train::SharedWork;
///
/// let squares = SharedWork::ALONE.each(4, |part| vec![part * part]);
/// assert_eq!(squares.concat(), [0, 1, 4, 9]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SharedWork<'a> {
    workers: &'a dyn Workers,
    leaves: usize,
}

impl SharedWork<'static> {
    /// Work of a single worker, whose batches are one leaf.
    pub const ALONE: Self = Self { workers: &Alone, leaves: 1 };
}

impl<'a> SharedWork<'a> {
    /// Work of `workers`, each of which calls the same functions of it in the same order; batches
    /// are `leaves` parts, of which a task may make its parts.
    pub fn new(workers: &'a dyn Workers, leaves: usize) -> Self {
        Self { workers, leaves }
    }

    /// How many leaves a batch has.
    pub fn leaves(self) -> usize {
        self.leaves
    }

    /// The results of the parts 0, 1, ... `count`. One worker computes each, and all have them.
    pub fn each<T: Pod>(self, count: usize, mut part: impl FnMut(usize) -> Vec<T>) -> Vec<Vec<T>> {
        match self.try_each(count, |i| Ok::<_, Infallible>(part(i))) {
            Ok(results) => results,
        }
    }

    /// [`Self::each`] of parts that can fail. A worker whose part does has to end all others, who
    /// wait for it.
    ///
    /// # Errors
    /// Those of a part, for the worker that computed it.
    pub fn try_each<T: Pod, E>(
        self,
        count: usize,
        mut part: impl FnMut(usize) -> Result<Vec<T>, E>,
    ) -> Result<Vec<Vec<T>>, E> {
        let (rank, size) = (self.workers.rank(), self.workers.size());
        let own: Vec<Vec<T>> =
            (rank..count).step_by(size).map(&mut part).collect::<Result<_, E>>()?;
        if size == 1 {
            return Ok(own);
        }
        let mut own = own.into_iter();
        let mut results = Vec::with_capacity(count);
        // In a round each worker tells of one part; the last round may have fewer.
        for first in (0..count).step_by(size) {
            let told = self.tell(&own.next().unwrap_or_default());
            results.extend(told.into_iter().take(count - first));
        }
        Ok(results)
    }

    /// What each worker has, in their order.
    fn tell<T: Pod>(self, own: &[T]) -> Vec<Vec<T>> {
        let bytes: &[u8] = bytemuck::cast_slice(own);
        let lengths = self.workers.all_say(&(bytes.len() as u64).to_le_bytes());
        let lengths: Vec<usize> =
            lengths.iter().map(|n| bytemuck::pod_read_unaligned::<u64>(n) as usize).collect();
        let mut padded = bytes.to_vec();
        padded.resize(lengths.iter().copied().max().unwrap_or(0), 0);
        let said = match padded.len() {
            0 => vec![Vec::new(); lengths.len()],
            _ => self.workers.all_say(&padded),
        };
        let told = said.iter().zip(lengths);
        told.map(|(bytes, length)| bytemuck::pod_collect_to_vec(&bytes[..length])).collect()
    }

    /// The mean of `value` over the leaves of a batch of which `most` can be made, each computed by
    /// one worker.
    pub fn mean_over_leaves(self, most: usize, mut value: impl FnMut(Leaf) -> f64) -> f64 {
        let count = self.leaves.min(most);
        let values = self.each(count, |index| vec![value(Leaf { index, count })]);
        values.concat().iter().sum::<f64>() / count as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::threads;

    /// Parts of unequal lengths, more and fewer of them than workers, and none.
    #[test]
    fn results_are_the_same_for_all_and_in_order() {
        let part = |i: usize| vec![i as f64 + 0.5; i % 3];
        for count in [0, 1, 3, 8, 21] {
            let expected: Vec<Vec<f64>> = (0..count).map(part).collect();
            for size in [1, 2, 4, 8] {
                let told = threads::of(size, |workers| {
                    let mut computed = 0;
                    let results = SharedWork::new(workers, 8).each(count, |i| {
                        computed += 1;
                        part(i)
                    });
                    (results, computed)
                });
                let computed: usize = told.iter().map(|(_, computed)| computed).sum();
                assert_eq!(computed, count, "each part is computed once by {size} workers");
                assert!(told.iter().all(|(results, _)| *results == expected));
                assert!(told.iter().all(|(_, n)| *n <= count.div_ceil(size)));
            }
        }
    }

    #[test]
    fn a_part_that_fails_is_told() {
        let failing = |i: usize| if i == 2 { Err("two") } else { Ok(vec![i as u64]) };
        assert_eq!(SharedWork::ALONE.try_each(4, failing), Err("two"));
        assert_eq!(SharedWork::ALONE.try_each(2, failing), Ok(vec![vec![0], vec![1]]));
    }
}
