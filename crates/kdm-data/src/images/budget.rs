//! How much reading images may take, so that a small file can't ask for all memory or for hours.

use crate::machine::free_memory;

/// An image of more decoded bytes than this is looked at.
const LARGE: u64 = 12 << 20;
/// Decoded bytes a byte of file: photographs have 5 to 30, drawings 200, and files made to exhaust
/// a machine 1000.
const MOST_RATIO: u64 = 300;
/// Decoded bytes of large images beyond that ratio, all together.
const MOST_INFLATED: u64 = 256 << 20;
/// Kept bytes where the machine's memory isn't known.
const ASSUMED: u64 = 4 << 30;

/// What is left to spend.
#[derive(Debug)]
pub(super) struct Budget {
    images: u64,
    seen: u64,
    kept: u64,
    inflated: u64,
    most_kept: u64,
}

/// Why no more is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum OverBudget {
    #[error(
        "all {images} images would take about {} of memory decoded, and this machine can spare {}",
        size(*needed), size(*spare)
    )]
    Memory { images: u64, needed: u64, spare: u64 },
    #[error(
        "unpacks to {} from {}, and with it such files unpack to {}: made to exhaust a machine, or \
         flat drawings that can be far smaller",
        size(*decoded), size(*file), size(*sum)
    )]
    Inflated { decoded: u64, file: u64, sum: u64 },
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

impl Budget {
    /// For so many images, on this machine: half of the memory that is free.
    pub(super) fn new(images: usize) -> Self {
        Self::with_memory(images, free_memory().map_or(ASSUMED, |free| free / 2))
    }

    fn with_memory(images: usize, most_kept: u64) -> Self {
        Self { images: images as u64, seen: 0, kept: 0, inflated: 0, most_kept }
    }

    /// Takes what one image needs: a file of so many bytes, which decodes to `decoded`, of which
    /// `kept` stay.
    pub(super) fn take(&mut self, file: u64, decoded: u64, kept: u64) -> Result<(), OverBudget> {
        self.seen += 1;
        self.kept = self.kept.saturating_add(kept);
        if decoded > LARGE && decoded / file.max(1) > MOST_RATIO {
            self.inflated = self.inflated.saturating_add(decoded);
            if self.inflated > MOST_INFLATED {
                return Err(OverBudget::Inflated { decoded, file, sum: self.inflated });
            }
        }
        // What is still to come is taken to be as what came.
        let needed = self.kept / self.seen * self.images.max(self.seen);
        if needed > self.most_kept {
            let (images, spare) = (self.images, self.most_kept);
            return Err(OverBudget::Memory { images, needed, spare });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_of_huge_images_are_refused_and_photographs_are_not() {
        // PNGs of 8000x8000 in 62 kB: a few, not 60.
        let mut budget = Budget::with_memory(60, u64::MAX);
        let taken = (0..60).take_while(|_| budget.take(62_000, 64_000_000, 64_000_000).is_ok());
        assert_eq!(taken.count(), 4);
        // 5000 photographs of 24 million pixels in 8 MB, resized.
        let mut budget = Budget::with_memory(5000, 1 << 30);
        assert!((0..5000).all(|_| budget.take(8_000_000, 72_000_000, 3 * 64 * 64).is_ok()));
        // 100 000 icons.
        let mut budget = Budget::with_memory(100_000, 1 << 30);
        assert!((0..100_000).all(|_| budget.take(90, 3072, 3072).is_ok()));
    }

    #[test]
    fn memory_is_foreseen_by_the_first_image() {
        let mut budget = Budget::with_memory(10_000, 1 << 30);
        let refused = budget.take(1_000_000, 3_000_000, 3_000_000).unwrap_err();
        let message = refused.to_string();
        assert!(message.contains("30.0 GB") && message.contains("1.1 GB"), "{message}");
        assert!(Budget::new(2).take(10, 10, 10).is_ok());
    }
}
