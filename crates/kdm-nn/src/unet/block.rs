//! The residual block that the U-Nets of NVlabs' kinds are made of: two convolutions with group
//! norm and SiLU, a shift (or a scale and a shift) from the time embedding, dropout, a residual
//! path, and self-attention where asked for. `kdm_kernels::residual_block` specifies what it
//! computes.
//!
//! Song et al., arXiv:2011.13456; Dhariwal and Nichol, arXiv:2105.05233; Karras et al.,
//! arXiv:2206.00364, appendix F.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use kdm_kernels::{
    BlockOptions, BlockTensors, BlockWeights, Dropout, FrozenBlock, Layout, Resize, residual_block,
};

use crate::layers::feature_map::FeatureMap;
use crate::layers::{Conv2d, Conv2dConfig, Filter, GroupNorm};
use crate::{Demand, ForwardMode, Init, InitSeed, Linear, LinearConfig};

/// What all blocks of one network share.
#[derive(Clone, Debug)]
pub(crate) struct BlockStyle {
    /// Features of the time embedding.
    pub embedding: usize,
    /// Probability of dropout.
    pub dropout: f64,
    /// Factor of the sum of the block's two paths.
    pub skip_scale: f64,
    /// Of the group norms.
    pub epsilon: f64,
    /// Whether the embedding gives a scale too.
    pub adaptive_scale: bool,
    /// Whether the residual path of a block that resizes has a convolution even when the channels
    /// are equal.
    pub resample_with_conv: bool,
    /// The resampling filter.
    pub filter: Filter,
    /// First weights.
    pub init: Init,
    /// First weights of the last convolutions.
    pub init_last: Init,
    /// First weights of the attention's queries, keys and values.
    pub init_attention: Init,
}

impl BlockStyle {
    /// A group norm with these channels.
    pub fn norm(&self, channels: usize, device: &Device) -> GroupNorm {
        GroupNorm::new(self.groups(channels), channels, self.epsilon, device)
    }

    /// Groups of a norm with these channels.
    pub fn groups(&self, channels: usize) -> usize {
        GroupNorm::edm_groups(channels)
    }
}

/// One block of a network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockConfig {
    /// Channels in, those of a skip connection included.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
    /// What it does to the images' size.
    pub resize: Resize,
    /// Heads of the self-attention; 0 for none.
    pub heads: usize,
}

/// A residual block; state names as NVlabs/edm writes them.
#[derive(Module, Debug)]
pub(crate) struct UNetBlock {
    norm0: GroupNorm,
    conv0: Conv2d,
    affine: Linear,
    norm1: GroupNorm,
    conv1: Conv2d,
    skip: Option<Conv2d>,
    norm2: Option<GroupNorm>,
    qkv: Option<Conv2d>,
    proj: Option<Conv2d>,
    heads: usize,
    dropout: f64,
    skip_scale: f64,
    adaptive_scale: bool,
    #[module(skip)]
    resize: Resize,
    #[module(skip)]
    filter: Filter,
}

impl BlockConfig {
    /// A block without attention that keeps its channels.
    pub fn resized(channels: usize, resize: Resize) -> Self {
        Self { inputs: channels, outputs: channels, resize, heads: 0 }
    }

    /// Whether the residual path has a convolution.
    fn has_residual_conv(&self, style: &BlockStyle) -> bool {
        self.inputs != self.outputs || (self.resize != Resize::Keep && style.resample_with_conv)
    }

    /// Fresh weights.
    pub fn init(&self, style: &BlockStyle, seed: &mut InitSeed, device: &Device) -> UNetBlock {
        let &Self { inputs, outputs, resize, heads } = self;
        let mut conv = |inputs, outputs, kernel, init| {
            Conv2dConfig::same(inputs, outputs, kernel).init(init, seed, device)
        };
        let conv0 = conv(inputs, outputs, 3, style.init);
        let conv1 = conv(outputs, outputs, 3, style.init_last);
        let skip = self.has_residual_conv(style).then(|| conv(inputs, outputs, 1, style.init));
        let qkv = (heads > 0).then(|| conv(outputs, 3 * outputs, 1, style.init_attention));
        let proj = (heads > 0).then(|| conv(outputs, outputs, 1, style.init_last));
        let shifts = if style.adaptive_scale { 2 * outputs } else { outputs };
        let affine = LinearConfig { inputs: style.embedding, outputs: shifts }
            .init_with(style.init, true, seed, device);
        UNetBlock {
            norm0: style.norm(inputs, device),
            conv0,
            affine,
            norm1: style.norm(outputs, device),
            conv1,
            skip,
            norm2: (heads > 0).then(|| style.norm(outputs, device)),
            qkv,
            proj,
            heads,
            dropout: style.dropout,
            skip_scale: style.skip_scale,
            adaptive_scale: style.adaptive_scale,
            resize,
            filter: style.filter.clone(),
        }
    }

    /// What it takes an image; `side` is the result's height and width. A convolution's input
    /// follows from that of the norm before it, and is not kept.
    pub fn demand(&self, style: &BlockStyle, side: usize) -> Demand {
        let &Self { inputs, outputs, heads, .. } = self;
        let conv = |inputs, outputs, kernel| Demand {
            activations: 0.0,
            ..Conv2dConfig::same(inputs, outputs, kernel).demand(side)
        };
        let shifts = if style.adaptive_scale { 2 * outputs } else { outputs };
        let main = [
            Demand::norm(inputs, side),
            conv(inputs, outputs, 3),
            Demand::linear(style.embedding, shifts, true),
            Demand::norm(outputs, side),
            conv(outputs, outputs, 3),
        ];
        let residual = self.has_residual_conv(style).then(|| conv(inputs, outputs, 1));
        let attention = (heads > 0).then(|| {
            let pixels = (side * side) as f64;
            let weights = Demand {
                operations: 4.0 * pixels * pixels * outputs as f64,
                activations: pixels * (heads as f64 * pixels + 3.0 * outputs as f64),
                ..Demand::default()
            };
            let layers = [conv(outputs, 3 * outputs, 1), weights, conv(outputs, outputs, 1)];
            Demand::norm(outputs, side) + layers.into_iter().sum()
        });
        main.into_iter().chain(residual).chain(attention).sum()
    }
}

impl UNetBlock {
    /// Images `[N, inputs, H, W]` (the channels of the skip connection come after those of `x`),
    /// embedding `[N, E]` -> `[N, outputs, H', W']`.
    pub(crate) fn forward(
        &self,
        x: FeatureMap,
        skip_connection: Option<FeatureMap>,
        embedding: Tensor<2>,
        mode: &ForwardMode,
    ) -> FeatureMap {
        let skip_channels = skip_connection.as_ref().map_or(0, |skip| skip.channels);
        let inputs = [x.channels, skip_channels];
        let options = self.options(x.layout, x.size(), inputs, mode.dropout(self.dropout));
        let (channels, layout) = (options.outputs, options.layout);
        let tensors = BlockTensors {
            x: x.tensor,
            skip_connection: skip_connection.map(|skip| skip.tensor),
            embedding: self.shifts(embedding),
            weights: self.weights(),
        };
        FeatureMap { tensor: residual_block(tensors, options), channels, layout }
    }

    fn weights(&self) -> BlockWeights {
        BlockWeights {
            norms: [self.norm0.tensors(), self.norm1.tensors()],
            convs: [self.conv0.tensors(), self.conv1.tensors()],
            skip: self.skip.as_ref().map(Conv2d::tensors),
            attention: match (&self.norm2, &self.qkv, &self.proj) {
                (Some(norm), Some(qkv), Some(proj)) => {
                    Some((norm.tensors(), [qkv.tensors(), proj.tensors()]))
                }
                _ => None,
            },
        }
    }

    /// The block for inference, on images of height and width `size`, the last `skip_channels` of
    /// whose channels come through a skip connection; and the size of its result.
    pub(crate) fn freeze(
        &self,
        size: [usize; 2],
        skip_channels: usize,
    ) -> (FrozenBlock, [usize; 2]) {
        let inputs = [self.norm0.weight.dims()[0] - skip_channels, skip_channels];
        let options = self.options(Layout::Maps, size, inputs, None);
        (FrozenBlock::new(self.weights(), &options), options.result_size())
    }

    /// Channels of the result.
    pub(crate) fn outputs(&self) -> usize {
        self.conv0.weight.dims()[0]
    }

    /// What the embeddings `[M, E]` come to in this block: `[M, shifts]`.
    pub(crate) fn shifts(&self, embeddings: Tensor<2>) -> Tensor<2> {
        self.affine.forward(embeddings)
    }

    /// All but the weights.
    fn options(
        &self,
        layout: Layout,
        size: [usize; 2],
        inputs: [usize; 2],
        dropout: Option<Dropout>,
    ) -> BlockOptions {
        let attention_groups = self.norm2.as_ref().map_or(1, GroupNorm::groups);
        BlockOptions {
            layout,
            size,
            inputs,
            outputs: self.outputs(),
            resize: self.resize,
            taps: self.filter.taps(),
            groups: [self.norm0.groups(), self.norm1.groups(), attention_groups],
            epsilon: self.norm0.epsilon(),
            scale: self.skip_scale as f32,
            adaptive: self.adaptive_scale,
            skip: self.skip.is_some(),
            heads: self.heads,
            dropout,
        }
    }
}
