//! The workers of a data-parallel training: processes that each compute some leaves of every batch
//! and then take the same step.

use std::fmt::Debug;

use kdm_data::hash::sha256;

use crate::{Error, Result};

/// The workers of a training, as one of them sees them. They are numbered from 0 and are a power of
/// two. All of them call the functions of this module in the same order.
pub trait Workers: Debug + Send + Sync {
    /// This one's number.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Sends `outgoing` to worker `peer` and fills `incoming` with what that one sends, which is of
    /// that length. Waits for as long as the other takes; where it is lost, so is this one.
    fn exchange(&self, peer: usize, outgoing: &[u8], incoming: &mut [u8]);
}

/// A single worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alone;

impl Workers for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn exchange(&self, _: usize, _: &[u8], _: &mut [u8]) {
        unreachable!("there is no other worker")
    }
}

impl dyn Workers + '_ {
    /// Whether this is the first worker, which writes files and speaks for all.
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// The other workers that this one meets, nearest first: in round k the one whose number
    /// differs in bit k.
    fn peers(&self) -> impl DoubleEndedIterator<Item = (usize, usize)> + use<> {
        let (rank, size) = (self.rank(), self.size());
        debug_assert!(size.is_power_of_two());
        (0..size.trailing_zeros()).map(move |k| (rank ^ 1 << k, 1 << k))
    }

    /// Replaces `values` by their sum over all workers, along the complete binary tree over them:
    /// ((0 + 1) + (2 + 3)) + ..., in the same order for every element. All have as many values.
    ///
    /// Recursive halving and doubling (Thakur, Rabenseifner and Gropp, "Optimization of collective
    /// communication operations in MPICH", 2005): in each round a worker sends half of what it is
    /// still responsible for and sums the other half, nearest peers first; then the sums go back
    /// the same way. A worker sends and receives 2 (1 - 1/n) times the values.
    pub fn sum(&self, values: &mut [f32]) {
        let rank = self.rank();
        let mut received = vec![0.0f32; values.len().div_ceil(2)];
        let (mut start, mut end) = (0, values.len());
        let mut rounds = Vec::new();
        for (peer, bit) in self.peers() {
            let middle = start + (end - start) / 2;
            rounds.push((peer, bit, start, middle, end));
            let (left, right) = values[start..end].split_at_mut(middle - start);
            let low = rank & bit == 0;
            let (own, given) = if low { (left, right) } else { (right, left) };
            let received = &mut received[..own.len()];
            self.exchange(peer, bytemuck::cast_slice(given), bytemuck::cast_slice_mut(received));
            // Of two numbers the sum is the same in either order.
            own.iter_mut().zip(received).for_each(|(own, other)| *own += *other);
            (start, end) = if low { (start, middle) } else { (middle, end) };
        }
        for (peer, bit, start, middle, end) in rounds.into_iter().rev() {
            let (left, right) = values[start..end].split_at_mut(middle - start);
            let (own, others) = if rank & bit == 0 { (left, right) } else { (right, left) };
            self.exchange(peer, bytemuck::cast_slice(own), bytemuck::cast_slice_mut(others));
        }
    }

    /// Whether `flag` is set for some worker.
    pub fn any(&self, flag: bool) -> bool {
        let mut any = [u8::from(flag)];
        for (peer, _) in self.peers() {
            let mut other = [0];
            self.exchange(peer, &any, &mut other);
            any[0] |= other[0];
        }
        any[0] != 0
    }

    /// Waits until all workers have come here.
    pub fn meet(&self) {
        self.any(false);
    }

    /// What the first worker says.
    pub fn first_says(&self, bytes: Vec<u8>) -> Vec<u8> {
        let mut said = bytes;
        for (peer, bit) in self.peers() {
            let mut length = [0; 8];
            self.exchange(peer, &(said.len() as u64).to_le_bytes(), &mut length);
            let mut other = vec![0; u64::from_le_bytes(length) as usize];
            self.exchange(peer, &said, &mut other);
            if self.rank() & bit != 0 {
                said = other;
            }
        }
        said
    }

    /// Whether the first worker says so.
    pub fn first_decides(&self, yes: bool) -> bool {
        self.first_says(vec![u8::from(yes)]) == [1]
    }

    /// What each worker says, in their order; all say as many bytes.
    pub(crate) fn all_say(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let (rank, width) = (self.rank(), bytes.len());
        let mut said = vec![0; self.size() * width];
        said[rank * width..(rank + 1) * width].copy_from_slice(bytes);
        for (peer, bit) in self.peers() {
            // The block of `bit` workers that this one knows of, and the peer's.
            let block = |of: usize| (of & !(bit - 1)) * width..((of & !(bit - 1)) + bit) * width;
            let mut other = vec![0; bit * width];
            self.exchange(peer, &said[block(rank)], &mut other);
            said[block(peer)].copy_from_slice(&other);
        }
        said.chunks(width.max(1)).map(<[u8]>::to_vec).collect()
    }

    /// Whether all workers have the same; `what` of it is compared, a name and its content each.
    ///
    /// # Errors
    /// [`Error::Workers`] for all of them, with the first thing that differs and the first worker
    /// that has another than worker 0.
    pub fn agree(&self, what: &[(&'static str, &str)]) -> Result<()> {
        if self.size() == 1 {
            return Ok(());
        }
        for (name, content) in what {
            let said = self.all_say(sha256(content.as_bytes()).as_bytes());
            if let Some(worker) = said.iter().position(|of| *of != said[0]) {
                let size = self.size();
                let problem = format!("worker {worker} of {size} has another {name} than worker 0");
                let action = "start all of them by one command, with the same program, \
                              configuration and files";
                return Err(Error::Workers { problem, action: action.into() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod threads {
    //! Workers that are threads of a test.

    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    #[derive(Debug)]
    pub(crate) struct Thread {
        rank: usize,
        to: Vec<Sender<Vec<u8>>>,
        from: Vec<Mutex<Receiver<Vec<u8>>>>,
    }

    impl Workers for Thread {
        fn rank(&self) -> usize {
            self.rank
        }

        fn size(&self) -> usize {
            self.to.len()
        }

        fn exchange(&self, peer: usize, outgoing: &[u8], incoming: &mut [u8]) {
            self.to[peer].send(outgoing.to_vec()).unwrap();
            incoming.copy_from_slice(&self.from[peer].lock().unwrap().recv().unwrap());
        }
    }

    /// What `work` gives for each of `size` workers.
    pub(crate) fn of<T: Send>(size: usize, work: impl Fn(&dyn Workers) -> T + Sync) -> Vec<T> {
        let mut to: Vec<Vec<Sender<Vec<u8>>>> = vec![Vec::new(); size];
        let mut from: Vec<Vec<Mutex<Receiver<Vec<u8>>>>> = (0..size).map(|_| Vec::new()).collect();
        for sender in &mut to {
            for receiver in &mut from {
                let (one, other) = channel();
                sender.push(one);
                receiver.push(Mutex::new(other));
            }
        }
        let workers: Vec<Thread> = to
            .into_iter()
            .zip(from)
            .enumerate()
            .map(|(rank, (to, from))| Thread { rank, to, from })
            .collect();
        let work = &work;
        std::thread::scope(|scope| {
            let running: Vec<_> =
                workers.iter().map(|worker| scope.spawn(move || work(worker))).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any number of workers has the sum of the tree over eight leaves, to the bit.
    #[test]
    fn sums_do_not_depend_on_the_number_of_workers() {
        for count in [0, 1, 2, 7, 1000] {
            let leaf = |leaf: usize| kdm_random::normal_vec(leaf as u64, count);
            let add = |a: Vec<f32>, b: Vec<f32>| -> Vec<f32> {
                a.into_iter().zip(b).map(|(a, b)| a + b).collect()
            };
            let sums = |size: usize| {
                threads::of(size, |workers| {
                    let (mut sum, own) = (crate::leaves::TreeSum::new(), 8 / size);
                    let first = workers.rank() * own;
                    (first..first + own).for_each(|i| sum.push(leaf(i), add));
                    let mut sum = sum.finish();
                    workers.sum(&mut sum);
                    sum.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
                })
            };
            let expected = sums(1).remove(0);
            for size in [2, 4, 8] {
                for sum in sums(size) {
                    assert_eq!(sum, expected, "{count} values of {size} workers");
                }
            }
        }
    }

    #[test]
    fn workers_hear_of_one_another() {
        for size in [1, 2, 4, 8] {
            let told = threads::of(size, |workers| {
                let rank = workers.rank();
                let first = workers.first_says(vec![rank as u8 + 1; rank + 3]);
                let all = workers.all_say(&[rank as u8, 7]);
                workers.meet();
                (first, all, workers.any(false), workers.any(rank + 1 == size), workers.leads())
            });
            for (rank, (first, all, none, last, leads)) in told.into_iter().enumerate() {
                assert_eq!((first, none, last, leads), (vec![1; 3], false, true, rank == 0));
                assert!(all.into_iter().eq((0..size).map(|rank| vec![rank as u8, 7])));
            }
        }
    }

    #[test]
    fn a_difference_is_told_to_all() {
        let told = threads::of(4, |workers| {
            let own = if workers.rank() == 2 { "other" } else { "same" };
            let error = workers.agree(&[("store", "one"), ("program", own)]).unwrap_err();
            (error.to_string(), workers.agree(&[("store", "one")]).is_ok())
        });
        for (message, same) in told {
            assert!(message.contains("worker 2 of 4 has another program"), "{message}");
            assert!(same);
        }
    }
}
