//! What a residual block is: its definition in plain operations on planes `[N, C, H, W]`, which
//! any backend runs and with which the CPU's loops are compared.
//!
//! With x the input (its channels, then the skip connection's), e the embedding and r the
//! resampling:
//!
//! ```text
//! hidden = conv0(r(silu(norm0(x))))
//! h      = silu(norm1(hidden + e))                 or, adaptive with e = (s, t),
//!          silu(norm1(hidden) (1 + s) + t)
//! mixed  = scale (conv1(dropout(h)) + skip(r(x)))
//! y      = scale (proj(attention(qkv(norm2(mixed)))) + mixed), or mixed without attention
//! ```
//!
//! `skip` is a 1x1 convolution, or nothing where the block keeps the number of channels.

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;

use super::{BlockOptions, SLOTS, Slot};
use crate::ops::planes::{constants, part};
use crate::ops::{GroupNormOptions, KernelOps, attention, dropout, resample};

/// A block: its tensors, images as planes, and its options (whose layout is not read).
pub(super) struct Specification<'a, B: KernelOps> {
    pub tensors: &'a [FloatTensor<B>; SLOTS],
    pub options: &'a BlockOptions,
}

/// Weight and bias of a block's norms.
pub(super) const NORMS: [[Slot; 2]; 3] = [
    [Slot::Norm0Weight, Slot::Norm0Bias],
    [Slot::Norm1Weight, Slot::Norm1Bias],
    [Slot::Norm2Weight, Slot::Norm2Bias],
];
pub(super) const CONV0: [Slot; 2] = [Slot::Conv0Weight, Slot::Conv0Bias];
pub(super) const CONV1: [Slot; 2] = [Slot::Conv1Weight, Slot::Conv1Bias];
pub(super) const SKIP: [Slot; 2] = [Slot::SkipWeight, Slot::SkipBias];
pub(super) const QKV: [Slot; 2] = [Slot::QkvWeight, Slot::QkvBias];
pub(super) const PROJ: [Slot; 2] = [Slot::ProjWeight, Slot::ProjBias];

/// What happens between `hidden` and the second convolution.
pub(super) struct Second<B: KernelOps> {
    /// What the norm takes.
    pub before: FloatTensor<B>,
    /// What SiLU takes, and what of it the norm gave; none when the norm applies SiLU itself.
    pub modulated: Option<(FloatTensor<B>, FloatTensor<B>)>,
    /// What the convolution takes.
    pub dropped: FloatTensor<B>,
}

impl<B: KernelOps> Specification<'_, B> {
    pub fn of(&self, slot: Slot) -> FloatTensor<B> {
        self.tensors[slot as usize].clone()
    }

    pub fn norm_options(&self, norm: usize, silu: bool) -> GroupNormOptions {
        let BlockOptions { groups, epsilon, .. } = self.options;
        GroupNormOptions { groups: groups[norm], epsilon: *epsilon, silu }
    }

    pub fn norm(&self, norm: usize, x: FloatTensor<B>, silu: bool) -> FloatTensor<B> {
        let [weight, bias] = NORMS[norm].map(|slot| self.of(slot));
        B::group_norm(x, weight, bias, self.norm_options(norm, silu))
    }

    pub fn conv(&self, x: FloatTensor<B>, weights: [Slot; 2]) -> FloatTensor<B> {
        let [weight, bias] = weights.map(|slot| self.of(slot));
        B::conv_same(x, weight, bias)
    }

    pub fn resized(&self, x: FloatTensor<B>) -> FloatTensor<B> {
        resample::forward_plain::<B>(x, self.options.resize, &self.options.taps)
    }

    pub fn scaled(&self, x: FloatTensor<B>) -> FloatTensor<B> {
        let scale = self.options.scale;
        if scale == 1.0 { x } else { B::float_mul_scalar(x, scale.into()) }
    }

    /// Channels `first` to `first + outputs` of the embedding, `[N, outputs, 1, 1]`.
    fn embedding(&self, first: usize) -> FloatTensor<B> {
        let c = self.options.outputs;
        let rows = part::<B>(self.of(Slot::Embedding), 1, first, first + c);
        let n = rows.shape()[0];
        B::float_reshape(rows, Shape::new([n, c, 1, 1]))
    }

    /// 1 + s of an adaptive block.
    pub fn modulation(&self) -> FloatTensor<B> {
        B::float_add_scalar(self.embedding(0), 1.into())
    }

    /// The factors of the dropout; none without one.
    pub fn dropout(&self) -> Option<FloatTensor<B>> {
        let dropout = self.options.dropout?;
        let embedding = &self.tensors[Slot::Embedding as usize];
        let (n, c) = (embedding.shape()[0], self.options.outputs);
        let [height, width] = self.options.result_size();
        let factors = dropout::factors(dropout, n, c, height * width);
        Some(constants::<B, 4>(factors, [n, c, height, width], embedding))
    }

    /// The block.
    pub fn result(&self) -> FloatTensor<B> {
        let x = self.input();
        let hidden = self.hidden(x.clone());
        self.attended(self.mixed(x, hidden))
    }

    /// x.
    pub fn input(&self) -> FloatTensor<B> {
        if self.options.inputs[1] > 0 {
            B::float_cat(vec![self.of(Slot::X), self.of(Slot::SkipConnection)], 1)
        } else {
            self.of(Slot::X)
        }
    }

    /// What comes out of the first convolution.
    pub fn hidden(&self, x: FloatTensor<B>) -> FloatTensor<B> {
        self.conv(self.resized(self.norm(0, x, true)), CONV0)
    }

    /// From there to the second convolution.
    pub fn second(&self, hidden: FloatTensor<B>) -> Second<B> {
        let (before, modulated, h) = if self.options.adaptive {
            let normed = self.norm(1, hidden.clone(), false);
            let scaled = B::float_mul(normed.clone(), self.modulation());
            let modulated = B::float_add(scaled, self.embedding(self.options.outputs));
            let h = B::float_mul(modulated.clone(), B::sigmoid(modulated.clone()));
            (hidden, Some((modulated, normed)), h)
        } else {
            let before = B::float_add(hidden, self.embedding(0));
            (before.clone(), None, self.norm(1, before, true))
        };
        let dropped = match self.dropout() {
            Some(factors) => B::float_mul(h, factors),
            None => h,
        };
        Second { before, modulated, dropped }
    }

    /// The sum of the two paths.
    pub fn mixed(&self, x: FloatTensor<B>, hidden: FloatTensor<B>) -> FloatTensor<B> {
        let h = self.conv(self.second(hidden).dropped, CONV1);
        let skip = self.resized(x);
        let skip = if self.options.skip { self.conv(skip, SKIP) } else { skip };
        self.scaled(B::float_add(h, skip))
    }

    /// The attention.
    pub fn attended(&self, mixed: FloatTensor<B>) -> FloatTensor<B> {
        if self.options.heads == 0 {
            return mixed;
        }
        let qkv = self.conv(self.norm(2, mixed.clone(), false), QKV);
        let attended = attention::forward_plain::<B>(qkv, self.options.heads);
        self.scaled(B::float_add(self.conv(attended, PROJ), mixed))
    }
}
