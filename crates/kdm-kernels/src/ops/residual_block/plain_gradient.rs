//! The gradient of a residual block in plain operations: the steps of `specification.rs`
//! backwards, with what they need computed anew from `hidden` and `mixed`.

use burn::backend::tensor::FloatTensor;

use super::specification::{CONV0, CONV1, NORMS, PROJ, QKV, SKIP, Second, Specification};
use super::{SLOTS, Slot};
use crate::ops::planes::{channel_sums, image_sums, part};
use crate::ops::{KernelOps, attention, resample};

/// Gradients by slot; those of slots that the block doesn't have are what was there before.
struct Found<'a, B: KernelOps> {
    block: &'a Specification<'a, B>,
    grads: [FloatTensor<B>; SLOTS],
}

impl<B: KernelOps> Found<'_, B> {
    fn set(&mut self, slot: Slot, grad: FloatTensor<B>) {
        self.grads[slot as usize] = grad;
    }

    /// Of a convolution of `x`: keeps its weights' gradients and gives that of `x`.
    fn conv(
        &mut self,
        [weight, bias]: [Slot; 2],
        x: FloatTensor<B>,
        grad: FloatTensor<B>,
    ) -> FloatTensor<B> {
        let values = self.block.of(weight);
        self.set(bias, channel_sums::<B>(grad.clone()));
        self.set(weight, B::conv_same_weight_gradient(x, grad.clone(), values.clone()));
        B::conv_same_input_gradient(grad, values)
    }

    /// Of a norm of `x`: keeps its weights' gradients and gives that of `x`.
    fn norm(
        &mut self,
        norm: usize,
        x: FloatTensor<B>,
        silu: bool,
        grad: FloatTensor<B>,
    ) -> FloatTensor<B> {
        let [weight, bias] = NORMS[norm].map(|slot| self.block.of(slot));
        let options = self.block.norm_options(norm, silu);
        let (to_x, to_weight, to_bias) = B::group_norm_backward(x, weight, bias, grad, options);
        self.set(NORMS[norm][0], to_weight);
        self.set(NORMS[norm][1], to_bias);
        to_x
    }

    /// Of the attention: that of `mixed`.
    fn attention(&mut self, mixed: FloatTensor<B>, grad: FloatTensor<B>) -> FloatTensor<B> {
        let heads = self.block.options.heads;
        let grad = self.block.scaled(grad);
        let normed = self.block.norm(2, mixed.clone(), false);
        let qkv = self.block.conv(normed.clone(), QKV);
        let attended = attention::forward_plain::<B>(qkv.clone(), heads);
        let to_attended = self.conv(PROJ, attended, grad.clone());
        let to_qkv = attention::backward_plain::<B>(qkv, to_attended, heads);
        let to_normed = self.conv(QKV, normed, to_qkv);
        B::float_add(self.norm(2, mixed, false, to_normed), grad)
    }

    /// From the second convolution's input to `hidden`; keeps the embedding's gradient.
    fn second(
        &mut self,
        before: FloatTensor<B>,
        modulated: Option<(FloatTensor<B>, FloatTensor<B>)>,
        grad: FloatTensor<B>,
    ) -> FloatTensor<B> {
        let grad = match self.block.dropout() {
            Some(factors) => B::float_mul(grad, factors),
            None => grad,
        };
        let Some((modulated, normed)) = modulated else {
            let to_hidden = self.norm(1, before, true, grad);
            self.set(Slot::Embedding, image_sums::<B>(to_hidden.clone()));
            return to_hidden;
        };
        // modulated = normed (1 + s) + t
        let grad = B::silu_backward(modulated, grad);
        let to_scale = image_sums::<B>(B::float_mul(grad.clone(), normed));
        let to_shift = image_sums::<B>(grad.clone());
        self.set(Slot::Embedding, B::float_cat(vec![to_scale, to_shift], 1));
        let to_normed = B::float_mul(grad, self.block.modulation());
        self.norm(1, before, false, to_normed)
    }
}

/// The gradients of a block's tensors from `grad`, that of its result, all as planes; `hidden` and
/// `mixed` are what the forward pass left.
pub(super) fn gradients<B: KernelOps>(
    block: &Specification<B>,
    hidden: FloatTensor<B>,
    mixed: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; SLOTS] {
    let o = block.options;
    let mut found = Found { block, grads: block.tensors.clone() };
    let grad = if o.heads > 0 { found.attention(mixed, grad) } else { grad };

    let grad = block.scaled(grad);
    let Second { before, modulated, dropped } = block.second(hidden);
    let to_dropped = found.conv(CONV1, dropped, grad.clone());
    let to_hidden = found.second(before, modulated, to_dropped);

    let x = block.input();
    let back = |grad| resample::backward_plain::<B>(grad, o.resize, &o.taps, o.size);
    let activated = block.norm(0, x.clone(), true);
    let to_resized = found.conv(CONV0, block.resized(activated), to_hidden);
    let to_x = found.norm(0, x.clone(), true, back(to_resized));

    let to_skip = if o.skip { found.conv(SKIP, block.resized(x), grad) } else { grad };
    let to_x = B::float_add(to_x, back(to_skip));

    let [a, b] = o.inputs;
    if b > 0 {
        found.set(Slot::X, part::<B>(to_x.clone(), 1, 0, a));
        found.set(Slot::SkipConnection, part::<B>(to_x, 1, a, a + b));
    } else {
        found.set(Slot::X, to_x);
    }
    found.grads
}
