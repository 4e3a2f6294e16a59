//! Editing by level: latents of one sample with some levels moved, or taken from another. Coarse
//! levels hold what is seen from afar, fine ones the detail.

use std::ops::Range;

use crate::StudentConfig;
use crate::error::{Error, Result};

impl StudentConfig {
    /// Where each level of the latent lies in a latent of the operator, finest first. One level for
    /// a student without levels, or with a projection of them.
    pub fn level_columns(&self) -> Vec<Range<usize>> {
        if self.operator.projection.is_some() {
            return std::iter::once(0..self.operator_dim()).collect();
        }
        let mut start = 0;
        let columns = |dim: usize| {
            let columns = start..start + dim;
            start = columns.end;
            columns
        };
        self.latent_levels().iter().map(|level| level.dim()).map(columns).collect()
    }

    /// The columns of these levels, 0 the finest.
    ///
    /// # Errors
    /// When the student has no such level.
    pub fn columns_of(&self, levels: &[usize]) -> Result<Vec<Range<usize>>> {
        let all = self.level_columns();
        let columns = |level: &usize| {
            let unknown = || Error::UnknownLevel { level: *level, levels: all.len() };
            all.get(*level).cloned().ok_or_else(unknown)
        };
        levels.iter().map(columns).collect()
    }
}

/// A direction of the latent space within these columns: the rest of it is 0.
pub fn within(direction: &[f64], columns: &[Range<usize>]) -> Vec<f64> {
    let mut part = vec![0.0; direction.len()];
    for columns in columns {
        part[columns.clone()].copy_from_slice(&direction[columns.clone()]);
    }
    part
}

/// Latents `[N, n]` with these columns taken from `others`, `[N, n]`.
pub fn exchanged(latents: &[f32], others: &[f32], n: usize, columns: &[Range<usize>]) -> Vec<f32> {
    let mut mixed = latents.to_vec();
    for (row, other) in mixed.chunks_exact_mut(n).zip(others.chunks_exact(n)) {
        for columns in columns {
            row[columns.clone()].copy_from_slice(&other[columns.clone()]);
        }
    }
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::student_of_levels;

    #[test]
    fn columns_of_levels() {
        let config = student_of_levels();
        assert_eq!(config.problems(), []);
        assert_eq!(config.level_columns(), [0..64, 64..96]);
        assert_eq!(config.columns_of(&[1]).unwrap(), [64..96]);
        let unknown = config.columns_of(&[2]).unwrap_err();
        assert!(matches!(unknown, Error::UnknownLevel { level: 2, levels: 2 }));
        assert!(unknown.to_string().contains("(the finest) to 1"));
        let moved = within(&[1.0, 2.0, 3.0], &[1..2]);
        assert_eq!(moved, [0.0, 2.0, 0.0]);
        let mixed = exchanged(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0], 2, &[1..2]);
        assert_eq!(mixed, [1.0, 6.0, 3.0, 8.0]);
    }
}
