//! Images between the blocks of a U-Net. On the CPU they are channel-last, as the kernels want
//! them.

use burn::tensor::Tensor;
use kdm_kernels::{Layout, from_maps, layout, to_maps};

/// Images of C channels, height H and width W in the layout that suits their device.
#[derive(Clone, Debug)]
pub(crate) struct FeatureMap {
    /// `[N, C, H, W]` as [`Layout::Planes`], or `[N, H, W, padded C]` as [`Layout::Maps`].
    pub tensor: Tensor<4>,
    /// Channels, without the padding.
    pub channels: usize,
    /// Which of the two it is.
    pub layout: Layout,
}

impl FeatureMap {
    /// From `[N, C, H, W]`.
    pub fn new(planes: Tensor<4>) -> Self {
        let (channels, layout) = (planes.dims()[1], layout(&planes));
        let tensor = if layout == Layout::Maps { to_maps(planes) } else { planes };
        Self { tensor, channels, layout }
    }

    /// As `[N, C, H, W]`.
    pub fn planes(&self) -> Tensor<4> {
        match self.layout {
            Layout::Maps => from_maps(self.tensor.clone(), self.channels),
            Layout::Planes => self.tensor.clone(),
        }
    }

    /// The sum of two of one shape.
    pub fn plus(self, other: Self) -> Self {
        Self { tensor: self.tensor + other.tensor, ..self }
    }

    /// All values times `factor`.
    pub fn times(self, factor: f64) -> Self {
        Self { tensor: self.tensor * factor, ..self }
    }

    /// Height and width.
    pub fn size(&self) -> [usize; 2] {
        let [_, a, b, c] = self.tensor.dims();
        if self.layout == Layout::Maps { [a, b] } else { [b, c] }
    }
}
