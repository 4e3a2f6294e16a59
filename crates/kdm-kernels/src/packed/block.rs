//! Residual blocks with packed weights.

use super::{Images, host};
use crate::cpu::buffer_pool::scratch;
use crate::cpu::conv::Use;
use crate::cpu::residual_block::{Block, Passed, Tensors};
use crate::ops::layout::padded;
use crate::ops::residual_block::{BlockOptions, BlockWeights, SLOTS, Slot, Weight};

/// A residual block; see [`residual_block()`](crate::residual_block).
#[derive(Debug)]
pub struct FrozenBlock(Block);

impl FrozenBlock {
    /// Packs the weights of a block on maps, whatever the layout of `options`.
    ///
    /// # Panics
    /// When a weight is not of f32.
    pub fn new(weights: BlockWeights, options: &BlockOptions) -> Self {
        let mut values: [Vec<f32>; SLOTS] = std::array::from_fn(|_| Vec::new());
        for (slot, weight) in weights.slots() {
            values[slot as usize] = match weight {
                Weight::One(tensor) => host(tensor),
                Weight::Four(tensor) => host(tensor),
            };
        }
        Self(Block::new(options, &std::array::from_fn(|i| &values[i][..]), Use::Few))
    }

    /// The block of `x`, to whose channels those of `skip_connection` are concatenated; `embedding`
    /// has a row for every image, as [`crate::BlockTensors`] has it. Images and channels must be
    /// those of the options.
    pub fn run(&self, x: &Images, skip_connection: Option<&Images>, embedding: &[f32]) -> Images {
        let options = self.0.options();
        let mut tensors: Tensors = [&[]; SLOTS];
        tensors[Slot::X as usize] = &x.values;
        if let Some(kept) = skip_connection {
            tensors[Slot::SkipConnection as usize] = &kept.values;
        }
        tensors[Slot::Embedding as usize] = embedding;
        let (size, channels) = (options.result_size(), options.outputs);
        let len = x.count * size[0] * size[1] * padded(channels);
        let (mut values, mut hidden) = (scratch(len), scratch(len));
        let mut mixed = scratch(if options.heads > 0 { len } else { 0 });
        self.0.run(
            &tensors,
            x.count,
            Passed { y: &mut values, hidden: &mut hidden, mixed: &mut mixed },
        );
        Images { values, count: x.count, size, channels }
    }
}
