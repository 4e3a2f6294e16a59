//! Random permutations whose places can be computed one by one.

use crate::streams::uniform_u64;

/// A random permutation of 0..n any place of which can be computed alone: a four-round Feistel
/// network (Luby and Rackoff, SIAM J. Comput. 17, 1988) over the smallest even number of bits that
/// holds n, walked until it lands inside (Black and Rogaway, CT-RSA 2002). Nothing is stored, so a
/// shuffled epoch over a million pairs costs no memory and resumes anywhere.
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    seed: u64,
    n: u64,
    half_bits: u32,
}

impl Permutation {
    /// The permutation of 0..n drawn by `seed`; n at least 1.
    pub fn new(seed: u64, n: u64) -> Self {
        let bits = 64 - n.saturating_sub(1).leading_zeros();
        Self { seed, n, half_bits: bits.div_ceil(2).max(1) }
    }

    /// Where place `i` goes: a number less than n. `i` must be less than n too; the walk may not
    /// end otherwise.
    pub fn at(&self, i: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let mut x = i;
        loop {
            let (mut left, mut right) = (x >> self.half_bits, x & mask);
            for round in 0..4 {
                let mixed = uniform_u64(self.seed, right | round << 60);
                (left, right) = (right, left ^ (mixed & mask));
            }
            x = left << self.half_bits | right;
            if x < self.n {
                return x;
            }
        }
    }
}
