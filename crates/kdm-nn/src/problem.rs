//! What is impossible about a configuration.

use std::fmt;

/// One thing that is impossible about a configuration: which field, and why. A sentence when put
/// together: "`train.lr` is -1 and must be above 0".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub struct Problem {
    /// The field's dotted name.
    pub field: String,
    /// What is wrong with it, beginning with a verb.
    pub problem: String,
}

impl Problem {
    /// A problem of `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    /// The same with the field inside `section`.
    pub fn within(self, section: &str) -> Self {
        Self { field: format!("{section}.{}", self.field), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.field, self.problem)
    }
}
