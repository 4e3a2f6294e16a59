//! Whether distances in one space tell distances in another (paper, the claim that latents of like
//! images are near each other): correlations over independent pairs of samples, with intervals.

use serde::Serialize;

/// How distances of two spaces go together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Correlation {
    /// Pearson's correlation coefficient.
    pub value: f64,
    /// 95% interval of it, by the percentile bootstrap.
    pub interval: (f64, f64),
    /// Spearman's, of ranks.
    pub of_ranks: f64,
    /// Pairs it is of.
    pub pairs: usize,
}

/// Draws of the bootstrap.
const DRAWS: usize = 2000;
/// Fewer pairs have no interval worth the name.
const LEAST: usize = 10;

fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let sum =
        |f: &dyn Fn(f64, f64) -> f64| x.iter().zip(y).map(|(x, y)| f(x - mx, y - my)).sum::<f64>();
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}

/// Ranks from 0; equal values share their mean rank.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let same =
            order[start..].iter().take_while(|i| values[**i] == values[order[start]]).count();
        let mean = start as f64 + 0.5 * (same - 1) as f64;
        order[start..start + same].iter().for_each(|i| ranks[*i] = mean);
        start += same;
    }
    ranks
}

/// The correlation of two quantities of the same independent pairs; none where there are fewer than
/// ten of them or one quantity is constant.
pub fn correlation(x: &[f64], y: &[f64], seed: u64) -> Option<Correlation> {
    let n = x.len();
    if n < LEAST {
        return None;
    }
    let value = pearson(x, y);
    if !value.is_finite() {
        return None;
    }
    let mut draws: Vec<f64> = (0..DRAWS as u64)
        .map(|draw| {
            let stream = kdm_random::derive_seed(seed, draw);
            let place = |i: usize| (kdm_random::uniform_f64(stream, i as u64) * n as f64) as usize;
            let (x, y): (Vec<f64>, Vec<f64>) = (0..n).map(place).map(|i| (x[i], y[i])).unzip();
            pearson(&x, &y)
        })
        .filter(|r| r.is_finite())
        .collect();
    draws.sort_by(f64::total_cmp);
    let at = |share: f64| draws[((draws.len() - 1) as f64 * share).round() as usize];
    Some(Correlation {
        value,
        interval: (at(0.025), at(0.975)),
        of_ranks: pearson(&ranks(x), &ranks(y)),
        pairs: n,
    })
}

/// Euclidean distances between rows 0 and 1, 2 and 3, ...: pairs without a common row, so that they
/// are independent.
pub fn pair_distances(rows: &[f32], width: usize) -> Vec<f64> {
    rows.chunks_exact(2 * width).map(|pair| distance(&pair[..width], &pair[width..])).collect()
}

/// Euclidean distances of rows of `a` to those of `b` in the same places.
pub fn distances(a: &[f32], b: &[f32], width: usize) -> Vec<f64> {
    a.chunks_exact(width).zip(b.chunks_exact(width)).map(|(a, b)| distance(a, b)).collect()
}

/// The Euclidean distance of two rows.
pub fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
}

/// How much a map stretches distances: ratios of the distances of what it gives to those of what it
/// was given.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Stretch {
    /// The median ratio.
    pub median: f64,
    /// The largest seen: a lower bound of the map's Lipschitz constant.
    pub largest: f64,
}

/// The stretch over pairs; none without pairs that are apart.
pub fn stretch(given: &[f64], got: &[f64]) -> Option<Stretch> {
    let mut ratios: Vec<f64> =
        given.iter().zip(got).filter(|(d, _)| **d > 0.0).map(|(given, got)| got / given).collect();
    ratios.sort_by(f64::total_cmp);
    Some(Stretch { median: *ratios.get(ratios.len() / 2)?, largest: *ratios.last()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_random::normal_vec;

    /// y = 2 x has correlation 1; a decreasing curve has rank correlation -1; ties share ranks.
    #[test]
    fn closed_forms() {
        let x: Vec<f64> = (1..=20).map(f64::from).collect();
        let line = correlation(&x, &x.iter().map(|x| 2.0 * x).collect::<Vec<f64>>(), 1).unwrap();
        assert!((line.value - 1.0).abs() < 1e-12 && (line.interval.0 - 1.0).abs() < 1e-12);
        let falling = correlation(&x, &x.iter().map(|x| 1.0 / x).collect::<Vec<f64>>(), 1).unwrap();
        assert!((falling.of_ranks + 1.0).abs() < 1e-12 && falling.value > -1.0);
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [2.5, 0.0, 2.5, 1.0]);
        assert_eq!(correlation(&x, &[4.0; 20], 1), None);
        assert_eq!(correlation(&x[..9], &x[..9], 1), None);
        assert_eq!(pair_distances(&[0.0, 0.0, 3.0, 4.0, 1.0, 1.0, 1.0, 2.0], 2), [5.0, 1.0]);
        assert_eq!(
            stretch(&[1.0, 2.0, 0.0, 1.0], &[3.0, 1.0, 5.0, 1.0]),
            Some(Stretch { median: 1.0, largest: 3.0 })
        );
        assert_eq!(stretch(&[0.0], &[1.0]), None);
    }

    /// Jointly normal quantities of correlation 0.6: about 95% of intervals hold it (a binomial of
    /// 100 draws: at least 88), and they are as wide as theory says, 2 * 1.96 (1 - r^2) / sqrt(n).
    #[test]
    fn intervals_hold_the_truth() {
        let n = 200;
        let mut held = 0;
        let mut width = 0.0;
        for seed in 0..100 {
            let e = normal_vec(seed, 2 * n);
            let x: Vec<f64> = e[..n].iter().map(|x| f64::from(*x)).collect();
            let y: Vec<f64> =
                x.iter().zip(&e[n..]).map(|(x, e)| 0.6 * x + 0.8 * f64::from(*e)).collect();
            let found = correlation(&x, &y, seed).unwrap();
            held += usize::from((found.interval.0..=found.interval.1).contains(&0.6));
            width += (found.interval.1 - found.interval.0) / 100.0;
        }
        assert!((88..=100).contains(&held), "{held}");
        let theory = 2.0 * 1.96 * (1.0 - 0.36) / (n as f64).sqrt();
        assert!((width - theory).abs() < 0.1 * theory, "{width} {theory}");
    }
}
