//! What the program asks of its allocator, mimalloc.

/// `mi_option_purge_delay` of mimalloc 3: how long freed memory is kept before the system gets it back.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Has mimalloc keep what is freed. A training step frees and takes gigabytes, and the system clears each page that it
/// gives out: 10% of a step's time. The program's largest footprint stays the same.
#[expect(unsafe_code, reason = "the allocator's options are behind a C function")]
pub fn keep_freed_memory() {
    // SAFETY: sets a number that the allocator reads; any value is allowed, at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) }
}
