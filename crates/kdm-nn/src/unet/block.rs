//! The residual block that both kinds of U-Net are made of: two convolutions with group norm and
//! SiLU, a shift (or a scale and a shift) from the time embedding, dropout, a skip path, and
//! self-attention where asked for.
//!
//! Song et al., arXiv:2011.13456; Dhariwal and Nichol, arXiv:2105.05233; Karras et al.,
//! arXiv:2206.00364, appendix F.

use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};
use kdm_kernels::{
    BlockOptions, BlockTensors, BlockWeights, Dropout, FrozenBlock, Layout, Resize, residual_block,
};

use crate::layers::feature_map::FeatureMap;
use crate::layers::{Conv2d, Conv2dConfig, Filter, GroupNorm, Resample};
use crate::{ForwardMode, Init, InitSeed, Linear, LinearConfig};

/// What all blocks of one network share.
#[derive(Clone, Debug)]
pub(crate) struct BlockStyle {
    /// Features of the time embedding.
    pub embedding: usize,
    /// Probability of dropout.
    pub dropout: f64,
    /// Factor of the sum of the two paths.
    pub skip_scale: f64,
    /// Of the group norms.
    pub epsilon: f64,
    /// Whether the embedding gives a scale too.
    pub adaptive_scale: bool,
    /// Whether a resampled skip path has a convolution even when the channels are equal.
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

/// One block of a network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockConfig {
    pub inputs: usize,
    pub outputs: usize,
    pub resample: Resample,
    /// Heads of the self-attention; 0 for none.
    pub heads: usize,
}

/// A residual block; state names as NVlabs/edm writes them.
#[derive(Module, Debug)]
pub struct UNetBlock {
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
    resample: Resample,
    #[module(skip)]
    filter: Filter,
}

impl BlockConfig {
    pub fn init(&self, style: &BlockStyle, seed: &mut InitSeed, device: &Device) -> UNetBlock {
        let &Self { inputs, outputs, resample, heads } = self;
        let norm = |channels| {
            GroupNorm::new(GroupNorm::edm_groups(channels), channels, style.epsilon, device)
        };
        let mut conv = |inputs, outputs, kernel, init| {
            Conv2dConfig::same(inputs, outputs, kernel).init(init, seed, device)
        };
        let conv0 = conv(inputs, outputs, 3, style.init);
        let conv1 = conv(outputs, outputs, 3, style.init_last);
        let with_skip =
            inputs != outputs || (resample != Resample::Keep && style.resample_with_conv);
        let skip = with_skip.then(|| conv(inputs, outputs, 1, style.init));
        let qkv = (heads > 0).then(|| conv(outputs, 3 * outputs, 1, style.init_attention));
        let proj = (heads > 0).then(|| conv(outputs, outputs, 1, style.init_last));
        let shifts = if style.adaptive_scale { 2 * outputs } else { outputs };
        let affine = LinearConfig { inputs: style.embedding, outputs: shifts }
            .init_with(style.init, true, seed, device);
        UNetBlock {
            norm0: norm(inputs),
            conv0,
            affine,
            norm1: norm(outputs),
            conv1,
            skip,
            norm2: (heads > 0).then(|| norm(outputs)),
            qkv,
            proj,
            heads,
            dropout: style.dropout,
            skip_scale: style.skip_scale,
            adaptive_scale: style.adaptive_scale,
            resample,
            filter: style.filter.clone(),
        }
    }

    /// Floating-point operations an image, of convolutions, affine layers and attention; `size` is
    /// the output's side.
    pub fn flops(&self, style: &BlockStyle, size: usize) -> f64 {
        let &Self { inputs, outputs, resample, heads } = self;
        let pixels = (size * size) as f64;
        let (inputs_f, outputs_f) = (inputs as f64, outputs as f64);
        let with_skip =
            inputs != outputs || (resample != Resample::Keep && style.resample_with_conv);
        let conv = 9.0 * (inputs_f + outputs_f) * outputs_f
            + if with_skip { inputs_f * outputs_f } else { 0.0 };
        let attention =
            if heads > 0 { 4.0 * outputs_f * outputs_f + 2.0 * pixels * outputs_f } else { 0.0 };
        let shifts = if style.adaptive_scale { 2.0 } else { 1.0 } * outputs_f;
        2.0 * (pixels * (conv + attention) + style.embedding as f64 * shifts)
    }
}

impl UNetBlock {
    /// Images `[N, inputs, H, W]` (those of `joined` come after those of `x`), embedding `[N, E]`
    /// -> `[N, outputs, H', W']`.
    pub(crate) fn forward(
        &self,
        x: FeatureMap,
        joined: Option<FeatureMap>,
        embedding: Tensor<2>,
        mode: &ForwardMode,
    ) -> FeatureMap {
        let inputs = [x.channels, joined.as_ref().map_or(0, |joined| joined.channels)];
        let options = self.options(x.layout, x.size(), inputs, mode.dropout(self.dropout));
        let (channels, layout) = (options.outputs, options.layout);
        let tensors = BlockTensors {
            x: x.tensor,
            skip_connection: joined.map(|joined| joined.tensor),
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

    /// The block for inference, on images of height and width `size`, the last `joined` of whose
    /// channels are joined; and the size of its result.
    pub(crate) fn freeze(&self, size: [usize; 2], joined: usize) -> (FrozenBlock, [usize; 2]) {
        let inputs = [self.norm0.weight.dims()[0] - joined, joined];
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
            resize: match self.resample {
                Resample::Keep => Resize::Keep,
                Resample::Down => Resize::Down,
                Resample::Up => Resize::Up,
            },
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

/// softmax(q^T k / sqrt(channels)) over keys, applied to v. All `[B, channels, pixels]`.
pub(crate) fn attention(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>) -> Tensor<3> {
    let channels = q.dims()[1] as f64;
    let weights = activation::softmax((q / channels.sqrt()).swap_dims(1, 2).matmul(k), 2);
    v.matmul(weights.swap_dims(1, 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;
    use kdm_random::normal_vec;

    /// Attention's gradient with respect to queries, keys and values, against central differences.
    #[test]
    fn gradients_of_attention_equal_finite_differences() {
        let device = Device::flex().autodiff();
        let shape = [3, 4, 2, 6];
        let values = normal_vec(1, 144);
        let weights =
            Tensor::<3>::from_data(TensorData::new(normal_vec(2, 48), [4, 2, 6]), &device);
        let loss = |values: Vec<f32>| {
            let qkv =
                Tensor::<4>::from_data(TensorData::new(values, shape), &device).require_grad();
            let part = |i: usize| qkv.clone().slice([i..i + 1]).squeeze_dim::<3>(0);
            ((attention(part(0), part(1), part(2)) * weights.clone()).sum(), qkv)
        };
        let (value, qkv) = loss(values.clone());
        let grad = qkv.grad(&value.backward()).unwrap().into_data();
        let grad = grad.as_slice::<f32>().unwrap();
        for k in (0..144).step_by(5) {
            let moved = |delta: f32| {
                let mut values = values.clone();
                values[k] += delta;
                loss(values).0.into_scalar::<f32>()
            };
            let difference = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            // f32 rounds a sum of size 10 by 1e-6, over 2e-2; the third derivative times 1e-4 / 6.
            assert!((difference - grad[k]).abs() < 1e-3, "{k}: {difference} {}", grad[k]);
        }
    }
}
