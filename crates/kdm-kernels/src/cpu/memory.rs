//! Memory for results, and what the program asks of its allocator, mimalloc.

use rayon::prelude::*;

/// Numbers that a task clears.
const TASK: usize = 64 * 1024;

/// `len` zeros, cleared by all threads: the standard library's one thread would take a tenth of a
/// training step.
#[expect(unsafe_code, reason = "there is no safe way to have several threads write fresh memory")]
pub(crate) fn zeros(len: usize) -> Vec<f32> {
    if len <= TASK {
        return vec![0.0; len];
    }
    let mut values: Vec<f32> = Vec::with_capacity(len);
    values.spare_capacity_mut()[..len].par_chunks_mut(TASK).for_each(|part| {
        part.iter_mut().for_each(|value| {
            value.write(0.0);
        });
    });
    // SAFETY: the capacity is at least `len`, and the first `len` numbers were written above.
    unsafe { values.set_len(len) };
    values
}

#[cfg(feature = "mimalloc")]
/// `mi_option_purge_delay` of mimalloc 3: how long freed memory is kept before the system gets it
/// back.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Has mimalloc keep what is freed. A training step frees and takes gigabytes, and the system
/// clears each page that it gives out: 10% of a step's time. The program's largest footprint stays
/// the same.
#[cfg(feature = "mimalloc")]
#[expect(unsafe_code, reason = "the allocator's options are behind a C function")]
pub fn keep_freed_memory() {
    // SAFETY: sets a number that the allocator reads; any value is allowed, at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_zero() {
        for len in [0, 1, TASK, TASK + 1, 5 * TASK + 3] {
            assert_eq!(zeros(len), vec![0.0; len]);
        }
    }
}
