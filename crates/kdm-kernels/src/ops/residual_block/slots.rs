//! The tensors of a residual block, in one list.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType};

/// Makes of one list of slots and fields: [`Slot`], [`SLOTS`], [`BlockSlots`], and the ways between
/// fields and an array.
macro_rules! slots {
    ($($slot:ident, $field:ident: $what:literal;)*) => {
        /// Places of a block's tensors in an array of all.
        #[derive(Clone, Copy, Debug)]
        pub(crate) enum Slot {
            $(#[doc = $what] $slot,)*
        }

        /// How many tensors a block has at most.
        pub(crate) const SLOTS: usize = [$(Slot::$slot),*].len();

        /// A block's tensors, or their gradients, in the order of its slots; what a block doesn't
        /// have is there and not read.
        #[derive(ExtensionType)]
        pub struct BlockSlots<B: Backend> {
            $(#[doc = $what] pub $field: FloatTensor<B>,)*
        }

        impl<B: Backend> BlockSlots<B> {
            pub(crate) fn from_slots(slots: [FloatTensor<B>; SLOTS]) -> Self {
                let [$($field),*] = slots;
                Self { $($field),* }
            }

            pub(crate) fn into_slots(self) -> [FloatTensor<B>; SLOTS] {
                let Self { $($field),* } = self;
                [$($field),*]
            }
        }
    };
}

slots! {
    X, x: "The input.";
    SkipConnection, skip_connection: "Concatenated to the input's channels.";
    Embedding, embedding: "Shift `[N, outputs]`, or scale and shift `[N, 2 outputs]`.";
    Norm0Weight, norm0_weight: "Norm before the first convolution, `[inputs]`.";
    Norm0Bias, norm0_bias: "`[inputs]`.";
    Conv0Weight, conv0_weight: "First convolution, `[outputs, inputs, 3, 3]`.";
    Conv0Bias, conv0_bias: "`[outputs]`.";
    Norm1Weight, norm1_weight: "Norm before the second convolution, `[outputs]`.";
    Norm1Bias, norm1_bias: "`[outputs]`.";
    Conv1Weight, conv1_weight: "Second convolution, `[outputs, outputs, 3, 3]`.";
    Conv1Bias, conv1_bias: "`[outputs]`.";
    SkipWeight, skip_weight: "The skip path's convolution, `[outputs, inputs, 1, 1]`.";
    SkipBias, skip_bias: "`[outputs]`.";
    Norm2Weight, norm2_weight: "Norm before the attention, `[outputs]`.";
    Norm2Bias, norm2_bias: "`[outputs]`.";
    QkvWeight, qkv_weight: "Queries, keys and values, `[3 outputs, outputs, 1, 1]`.";
    QkvBias, qkv_bias: "`[3 outputs]`.";
    ProjWeight, proj_weight: "The attention's result, `[outputs, outputs, 1, 1]`.";
    ProjBias, proj_bias: "`[outputs]`.";
}

/// What a block's forward pass leaves, in the options' layout.
#[derive(ExtensionType)]
pub struct BlockPassed<B: Backend> {
    /// The result.
    pub y: FloatTensor<B>,
    /// What came out of the first convolution.
    pub hidden: FloatTensor<B>,
    /// What went into the attention; the result itself without one.
    pub mixed: FloatTensor<B>,
}
