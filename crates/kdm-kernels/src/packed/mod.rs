//! Layers for inference alone: their weights are packed once, their buffers are used over and over,
//! and no tensor is made. They compute what the operations of the same names do, image by image
//! with the same bits in any batch.

use burn::tensor::Tensor;

use crate::cpu::buffer_pool::Scratch;

mod block;
mod conv;
mod linear;

pub use block::FrozenBlock;
pub use conv::{FrozenConv, FrozenOutput};
pub use linear::FrozenLinear;

/// Images in memory, channel-last, between frozen layers: made by [`FrozenConv::run`].
#[derive(Debug)]
pub struct Images {
    values: Scratch,
    count: usize,
    size: [usize; 2],
    channels: usize,
}

impl Images {
    /// The sum with images of the same number, size and channels.
    ///
    /// # Panics
    /// When they differ in one of these.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        let shape = |images: &Self| (images.count, images.size, images.channels);
        assert_eq!(shape(&self), shape(other), "images of one shape");
        self.values.iter_mut().zip(other.values.iter()).for_each(|(a, b)| *a += b);
        self
    }
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().expect("weights are f32")
}
