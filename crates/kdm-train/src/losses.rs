//! What a training minimises, in one iteration.

use burn::tensor::Tensor;

/// The loss of one iteration.
#[derive(Clone, Debug)]
pub struct Losses {
    /// What is minimised: one value.
    pub total: Tensor<1>,
    /// Its terms by name, one value each, for the log.
    pub terms: Vec<(&'static str, Tensor<1>)>,
}

impl Losses {
    /// Each value changed by `change`, outside autodiff.
    pub(crate) fn map(self, change: impl Fn(Tensor<1>) -> Tensor<1>) -> Self {
        let terms = self.terms.into_iter().map(|(name, value)| (name, change(value)));
        Self { terms: terms.collect(), total: change(self.total) }
    }

    /// Each value joined with the same of another batch.
    pub(crate) fn zip(self, other: Self, join: impl Fn(Tensor<1>, Tensor<1>) -> Tensor<1>) -> Self {
        let terms = self.terms.into_iter().zip(other.terms);
        let terms = terms.map(|((name, a), (_, b))| (name, join(a, b))).collect();
        Self { terms, total: join(self.total, other.total) }
    }
}
