//! Operators on levels, for sampling.

use super::cosine::{cosines, transform};
use super::levels::{LatentLevel, LevelForm, LevelOperator, Levels};
use crate::host::{narrow, values};

/// An operator on levels for sampling: a row's result has the same bits in any batch.
#[derive(Debug)]
pub(crate) struct FrozenLevels {
    levels: Vec<FrozenLevel>,
    dim: usize,
}

#[derive(Debug)]
struct FrozenLevel {
    level: LatentLevel,
    /// Factors from channel j to channel i, i first: one for all places, or one a place.
    factors: Vec<f32>,
    bias: Vec<f32>,
    /// Of frequencies, the transform.
    basis: Option<Vec<f64>>,
}

impl FrozenLevels {
    pub fn new(operator: &Levels) -> Self {
        let level = |op: &LevelOperator| {
            let (c, weight) = (op.level().channels, values(op.weight.val()));
            let blocks = weight.len() / (c * c);
            let factor = |entry: usize| (0..blocks).map(move |block| (entry, block));
            let factors = (0..c * c).flat_map(factor);
            FrozenLevel {
                level: op.level(),
                factors: factors.map(|(entry, block)| weight[block * c * c + entry]).collect(),
                bias: op.whole_bias(),
                basis: (op.form() == LevelForm::Frequencies).then(|| cosines(op.level().side)),
            }
        };
        Self { levels: operator.levels.iter().map(level).collect(), dim: operator.dim() }
    }

    /// C z of rows: `[N, n]` -> `[N, n]`.
    pub fn run(&self, z: &[f32]) -> Vec<f32> {
        let mut moved = Vec::with_capacity(z.len());
        for row in z.chunks_exact(self.dim) {
            let mut rest = row;
            for level in &self.levels {
                let (own, others) = rest.split_at(level.level.dim());
                rest = others;
                moved.extend(level.run(own));
            }
        }
        moved
    }
}

impl FrozenLevel {
    fn run(&self, z: &[f32]) -> Vec<f32> {
        let places = self.level.places();
        let transformed = |z: &[f32], basis: &[f64], back| -> Vec<f32> {
            let image = |image: &[f32]| {
                let image: Vec<f64> = image.iter().map(|x| f64::from(*x)).collect();
                narrow(&transform(&image, basis, self.level.side, back))
            };
            z.chunks_exact(places).flat_map(image).collect()
        };
        let mut moved = match &self.basis {
            Some(basis) => {
                let mixed = self.mixed(&transformed(z, basis, false));
                transformed(&mixed, basis, true)
            }
            None => self.mixed(z),
        };
        moved.iter_mut().zip(&self.bias).for_each(|(z, b)| *z += b);
        moved
    }

    /// The channels, mixed by the matrices.
    fn mixed(&self, z: &[f32]) -> Vec<f32> {
        let (c, places) = (self.level.channels, self.level.places());
        let width = self.factors.len() / (c * c);
        let mut mixed = vec![0.0; z.len()];
        for (i, to) in mixed.chunks_exact_mut(places).enumerate() {
            for (j, from) in z.chunks_exact(places).enumerate() {
                let factors = &self.factors[(i * c + j) * width..(i * c + j + 1) * width];
                if let [factor] = factors {
                    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
                } else {
                    let terms = to.iter_mut().zip(from).zip(factors);
                    terms.for_each(|((to, from), factor)| *to += factor * from);
                }
            }
        }
        mixed
    }
}
