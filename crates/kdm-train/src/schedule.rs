//! Learning rates over a training.

use serde::{Deserialize, Serialize};

/// How the learning rate moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The same throughout, as in the paper.
    Constant,
    /// A half cosine from the base rate to zero at the last iteration (Loshchilov & Hutter,
    /// arXiv:1608.03983, one cycle).
    Cosine,
}

impl Schedule {
    /// Whether the rate of an iteration depends on how many there are in all.
    pub fn depends_on_length(self) -> bool {
        self == Self::Cosine
    }

    /// The factor of the base rate at `iteration` (from 0) of `iterations`, after a linear warm-up
    /// over the first `warmup`.
    pub fn factor(self, iteration: u64, iterations: u64, warmup: u64) -> f64 {
        if iteration < warmup {
            return (iteration + 1) as f64 / warmup as f64;
        }
        match self {
            Self::Constant => 1.0,
            Self::Cosine => {
                let span = iterations.saturating_sub(warmup).max(1) as f64;
                let progress = ((iteration - warmup) as f64 / span).min(1.0);
                0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_rises_and_the_cosine_falls_to_zero() {
        let factors: Vec<f64> = (0..=100).map(|i| Schedule::Cosine.factor(i, 100, 10)).collect();
        assert_eq!(factors[0], 0.1);
        assert_eq!(factors[10], 1.0);
        assert!((factors[55] - 0.5).abs() < 1e-12 && factors[100].abs() < 1e-12);
        assert!(factors[..10].is_sorted() && factors[10..].is_sorted_by(|a, b| a >= b));
        assert_eq!(Schedule::Constant.factor(99, 100, 0), 1.0);
    }
}
