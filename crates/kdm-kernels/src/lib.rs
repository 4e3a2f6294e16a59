//! Fused kernels, as Burn backend extensions with exact gradients.
//!
//! Every operation here has three faces: a function over [`burn::Tensor`]s that the rest of the project calls, a
//! plain-ops body that any Burn backend can run, and a fused loop for the CPU backend `flex`. The loops are ordinary
//! Rust, compiled once for each instruction set (AVX-512, AVX2, portable) and chosen at run time; they use no fused
//! multiply-add and no reordered sum, so every path gives the same bits.
//!
//! This crate knows arrays and nothing of the method: no configuration, no files, no networks.

mod adam;
mod linear_silu;
pub mod random;
mod vector;

pub use adam::{AdamEmaStep, AdamState, adam_ema};
pub use linear_silu::linear_silu;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};

/// The operations that a backend may fuse. The bodies given here are the plain-ops fallbacks.
#[backend_extension(Flex, Autodiff)]
pub trait KernelOps: Backend {
    /// `silu(x weight^T + bias)` for `x` `[N, in]`, `weight` `[out, in]`, `bias` `[out]`.
    fn linear_silu(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        linear_silu::forward_plain::<Self>(x, weight, bias)
    }

    /// Adds `bias` `[M]` to every row of `product` `[N, M]`; gives `(silu(a), a)` of that sum `a`.
    fn bias_silu(product: FloatTensor<Self>, bias: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        linear_silu::bias_silu_plain::<Self>(product, bias)
    }

    /// `grad * silu'(a)`, elementwise.
    fn silu_backward(a: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        linear_silu::silu_backward_plain::<Self>(a, grad)
    }

    /// One step of Adam and of the moving average; gives the new `(param, m, v, ema)`.
    fn adam_ema(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        m: FloatTensor<Self>,
        v: FloatTensor<Self>,
        ema: FloatTensor<Self>,
        step: AdamEmaStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        adam::adam_ema_plain::<Self>(param, grad, m, v, ema, step)
    }
}
