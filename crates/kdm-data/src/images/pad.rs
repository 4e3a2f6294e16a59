//! Zero padding of images to squares.

use super::ImageSet;
use crate::machine::free_memory;

/// Why images can't be padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PadError {
    /// They are larger than what they should be padded to.
    #[error("images of {height}x{width} pixels don't fit into {side}x{side}; give a larger size")]
    Smaller {
        /// Their height.
        height: usize,
        /// Their width.
        width: usize,
        /// The side of the squares they should fit into.
        side: usize,
    },
    /// The padded images are more than the machine can hold.
    #[error(
        "{images} images of {side}x{side} pixels take more memory than this machine has free; \
         give a smaller size"
    )]
    Memory {
        /// How many there are.
        images: usize,
        /// The side of the squares.
        side: usize,
    },
}

impl ImageSet {
    /// The images with zero padding to `side` x `side` pixels, centred. The padding's bytes are 0,
    /// its values -1. As they are when that is their size.
    ///
    /// # Errors
    /// When they are larger, or would be more than fits into the memory that is free.
    pub fn padded(self, side: usize) -> Result<Self, PadError> {
        let (h, w) = (self.height, self.width);
        if (h, w) == (side, side) {
            return Ok(self);
        }
        if h > side || w > side {
            return Err(PadError::Smaller { height: h, width: w, side });
        }
        let planes = self.bytes.len() / (h * w);
        let size = side.checked_mul(side).and_then(|plane| plane.checked_mul(planes));
        let fits = |size: &usize| free_memory().is_none_or(|free| *size as u64 <= free);
        let Some(size) = size.filter(fits) else {
            return Err(PadError::Memory { images: self.len(), side });
        };
        let mut bytes = vec![0; size];
        let (top, left) = ((side - h) / 2, (side - w) / 2);
        for (plane, out) in self.bytes.chunks_exact(h * w).zip(bytes.chunks_exact_mut(side * side))
        {
            for (row, out) in plane.chunks_exact(w).zip(out.chunks_exact_mut(side).skip(top)) {
                out[left..left + w].copy_from_slice(row);
            }
        }
        Ok(Self { height: side, width: side, bytes, ..self })
    }
}
