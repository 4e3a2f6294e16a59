//! Whole numbers that flags take, bounded: what is far beyond any use is a mistake, and is told
//! before work begins that would never end.

use clap::builder::RangedU64ValueParser;

/// Samples, images or pairs that are worked on at once.
pub const SAMPLES: u64 = 1_000_000;
/// Steps and repetitions.
pub const STEPS: u64 = 1_000_000;
/// Samples that a network is trained on at once.
pub const BATCH: u64 = 65_536;
/// Threads.
pub const THREADS: u64 = 4096;

/// Numbers from `least` to `most`.
pub fn within(least: u64, most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least..=most)
}
