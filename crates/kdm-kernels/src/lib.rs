//! Fused kernels, as Burn backend extensions with exact gradients.
//!
//! Every operation here has three faces: a function over [`burn::Tensor`]s that the rest of the
//! project calls, a plain body that any Burn backend can run, and a fused loop for the CPU backend
//! `flex`. The loops are ordinary Rust, compiled once for each instruction set (AVX-512, AVX2,
//! NEON, portable) and chosen at run time; [`PATH_VARIABLE`] forces one. Elementwise loops use no
//! fused multiply-add and no reordered sum, so every path gives the same bits; convolutions and
//! norms sum in an order that the instruction set decides, and give the same bits on the same kind
//! of processor.
//!
//! This crate knows arrays and nothing of the method: no configuration, no files, no networks.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use kdm_kernels::linear_silu;
//!
//! let device = Device::flex().autodiff();
//! let x = Tensor::<2>::from_data([[1.0, 2.0]], &device);
//! let weight = Tensor::<2>::from_data([[0.5, 0.25], [1.0, -1.0]], &device).require_grad();
//! let bias = Tensor::<1>::from_data([0.0, 1.0], &device);
//! let y = linear_silu(x, weight.clone(), bias); // silu of [1, 0]
//! assert!((y.clone().sum().into_scalar::<f32>() - 0.731_058_6).abs() < 1e-6);
//! let grads = y.sum().backward();
//! assert_eq!(weight.grad(&grads).unwrap().dims(), [2, 2]);
//! ```
//!
//! # How to read it
//! - `ops/` says what an operation is: a file for each, with its function over tensors, its plain
//!   body and its gradient. [`KernelOps`] lists them; `ops/residual_block/specification.rs` defines
//!   the largest on one page.
//! - `cpu/` computes them in fused loops. Begin with `cpu/mod.rs`, which says which loop computes
//!   which operation, then `cpu/gemm.rs`, which nearly all others are made of.
//! - `packed/` are the same layers frozen for sampling: weights packed once, no tensors made.

#![expect(
    clippy::needless_range_loop,
    reason = "loops over the lanes of several arrays at once are written by index"
)]

mod cpu;
mod ops;
mod packed;
#[cfg(test)]
mod testing;

#[cfg(feature = "mimalloc")]
pub use cpu::memory::keep_freed_memory;
pub use cpu::simd::{InstructionSetError, PATH_VARIABLE, instruction_set};
pub use ops::KernelOps;
pub use ops::adam::{AdamEmaStep, AdamState, adam_ema, sum_of_squares};
pub use ops::conv::conv_same;
pub use ops::dropout::{Dropout, dropout};
pub use ops::group_norm::{GroupNormOptions, group_norm};
pub use ops::layout::{Layout, from_maps, is_cpu, layout, to_maps};
pub use ops::linear::linear;
pub use ops::linear_silu::linear_silu;
pub use ops::resample::Resize;
pub use ops::residual_block::{
    BlockOptions, BlockPassed, BlockSlots, BlockTensors, BlockWeights, ConvWeights, Norm,
    residual_block,
};
pub use packed::{FrozenBlock, FrozenConv, FrozenLinear, FrozenOutput, Images};
