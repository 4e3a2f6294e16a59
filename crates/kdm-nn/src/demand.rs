//! What a network takes, counted from its sizes before it is made.

/// What a pass of a network over one sample, and its training, take. Counted as floats, so that no
/// size overflows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Demand {
    /// Numbers of its weights.
    pub parameters: f64,
    /// Floating-point operations of a pass: matrix products, convolutions and attention, a
    /// multiplication and an addition counted as two.
    pub operations: f64,
    /// Numbers that a pass keeps for the gradients: what goes into each layer and norm. What is in
    /// memory while a step is computed is of this size, and up to twice it.
    pub activations: f64,
}

impl std::ops::Add for Demand {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            parameters: self.parameters + other.parameters,
            operations: self.operations + other.operations,
            activations: self.activations + other.activations,
        }
    }
}

impl std::iter::Sum for Demand {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), std::ops::Add::add)
    }
}

impl Demand {
    /// An affine layer; `bias` says whether it has one.
    pub fn linear(inputs: usize, outputs: usize, bias: bool) -> Self {
        let (inputs, outputs) = (inputs as f64, outputs as f64);
        Self {
            parameters: inputs * outputs + if bias { outputs } else { 0.0 },
            operations: 2.0 * inputs * outputs,
            activations: inputs,
        }
    }

    /// A group norm over images of this side, with the activation after it.
    pub(crate) fn norm(channels: usize, side: usize) -> Self {
        let channels = channels as f64;
        let activations = channels * (side as f64).powi(2);
        Self { parameters: 2.0 * channels, operations: 0.0, activations }
    }
}
