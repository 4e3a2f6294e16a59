//! The inception score (Salimans et al., arXiv:1606.03498), and the classes that a classifier
//! assigns to samples.

use serde::Serialize;

/// Mean and deviation over splits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct InceptionScore {
    /// exp E KL(p(y|x) | p(y)): 1 at worst, the number of classes at best.
    pub mean: f64,
    /// Standard deviation over splits.
    pub deviation: f64,
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::MIN, f32::max);
    let powers: Vec<f64> = logits.iter().map(|x| f64::from(x - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|x| x / sum).collect()
}

/// Parts that the score's authors cut samples into.
pub const SPLITS: usize = 10;

/// Of logits, rows of `classes` values, cut into `splits` parts of equal size (a rest is left out);
/// at least one row a part.
pub fn inception_score(logits: &[f32], classes: usize, splits: usize) -> InceptionScore {
    let rows = logits.len() / classes / splits;
    let scores: Vec<f64> = logits
        .chunks_exact(rows * classes)
        .take(splits)
        .map(|part| {
            let all: Vec<Vec<f64>> = part.chunks_exact(classes).map(softmax).collect();
            let mean = |k: usize| all.iter().map(|p| p[k]).sum::<f64>() / rows as f64;
            let means: Vec<f64> = (0..classes).map(mean).collect();
            let divergence = |p: &Vec<f64>| -> f64 {
                p.iter().zip(&means).filter(|(p, _)| **p > 0.0).map(|(p, m)| p * (p / m).ln()).sum()
            };
            (all.iter().map(divergence).sum::<f64>() / rows as f64).exp()
        })
        .collect();
    let mean = scores.iter().sum::<f64>() / splits as f64;
    let deviation = (scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / splits as f64).sqrt();
    InceptionScore { mean, deviation }
}

/// The most probable class of each row of logits.
pub fn classes_of(logits: &[f32], classes: usize) -> Vec<u32> {
    let best = |row: &[f32]| {
        row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(k, _)| k as u32)
    };
    logits.chunks_exact(classes).map(best).collect()
}

/// The share of samples, 0 to 1, on which two lists of classes agree.
pub fn agreement(a: &[u32], b: &[u32]) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Certain and evenly spread over k of 5 classes: the score is k. Uncertain: 1.
    #[test]
    fn score_counts_classes() {
        let logits: Vec<f32> = (0..40)
            .flat_map(|i| (0..5).map(move |k| if k == i % 4 { 60.0 } else { 0.0 }))
            .collect();
        let score = inception_score(&logits, 5, 10);
        assert!((score.mean - 4.0).abs() < 1e-9 && score.deviation < 1e-9, "{score:?}");
        assert!((inception_score(&[0.5; 100], 5, 2).mean - 1.0).abs() < 1e-12);
        assert_eq!(classes_of(&logits[..15], 5), [0, 1, 2]);
        assert_eq!(agreement(&[1, 2, 3, 4], &[1, 0, 3, 4]), 0.75);
    }
}
