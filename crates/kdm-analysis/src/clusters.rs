//! Clusters of outputs, and the outliers between them (paper, section on the structure of the noise space).

use rayon::prelude::*;
use serde::Serialize;

/// Points sorted into clusters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Clusters {
    /// Each point's cluster, largest cluster first; none for a point in a sparse region.
    #[serde(skip)]
    pub cluster: Vec<Option<usize>>,
    /// Whether a point is an outlier: in no cluster, or further from its neighbours than the others by z-score.
    #[serde(skip)]
    pub outlier: Vec<bool>,
    /// Sizes of the clusters.
    pub sizes: Vec<usize>,
    /// Outliers in all.
    pub outliers: usize,
}

/// How points are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClusterConfig {
    /// Points within this distance are neighbours.
    pub eps: f64,
    /// Neighbours, itself included, that make a point a cluster's core.
    pub min_neighbours: usize,
    /// A mean distance to the nearest neighbours this many standard deviations above the mean makes an outlier.
    pub z_score: f64,
}

impl Default for ClusterConfig {
    /// The paper's values.
    fn default() -> Self {
        Self { eps: 0.15, min_neighbours: 5, z_score: 3.0 }
    }
}

/// Density-based clustering (DBSCAN, Ester et al. 1996) of rows of `dim` values, and outliers. Quadratic in the number
/// of rows.
pub fn cluster(points: &[f32], dim: usize, config: ClusterConfig) -> Clusters {
    let rows: Vec<&[f32]> = points.chunks(dim).collect();
    let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
    let (neighbours, sparseness): (Vec<Vec<usize>>, Vec<f64>) = rows
        .par_iter()
        .map(|a| {
            let mut all: Vec<f64> = rows.iter().map(|b| distance(a, b)).collect();
            let near = (0..all.len()).filter(|j| all[*j] <= config.eps).collect();
            // The nearest is the point itself, at distance 0.
            let k = (config.min_neighbours + 1).min(all.len());
            all.select_nth_unstable_by(k - 1, f64::total_cmp);
            (near, all[..k].iter().sum::<f64>() / (k - 1).max(1) as f64)
        })
        .unzip();
    let core = |i: usize| neighbours[i].len() >= config.min_neighbours;
    let mut label: Vec<Option<usize>> = vec![None; rows.len()];
    let mut sizes = Vec::new();
    for start in 0..rows.len() {
        if label[start].is_some() || !core(start) {
            continue;
        }
        let id = sizes.len();
        label[start] = Some(id);
        let (mut open, mut size) = (vec![start], 1);
        while let Some(i) = open.pop() {
            if !core(i) {
                continue;
            }
            for j in &neighbours[i] {
                if label[*j].is_none() {
                    label[*j] = Some(id);
                    size += 1;
                    open.push(*j);
                }
            }
        }
        sizes.push(size);
    }
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|k| std::cmp::Reverse(sizes[*k]));
    let rank: Vec<usize> = {
        let mut rank = vec![0; order.len()];
        order.iter().enumerate().for_each(|(place, k)| rank[*k] = place);
        rank
    };
    let n = sparseness.len().max(1) as f64;
    let mean = sparseness.iter().sum::<f64>() / n;
    let std = (sparseness.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / n).sqrt();
    let outlier: Vec<bool> =
        label.iter().zip(&sparseness).map(|(label, s)| label.is_none() || *s > mean + config.z_score * std).collect();
    Clusters {
        cluster: label.into_iter().map(|l| l.map(|k| rank[k])).collect(),
        outliers: outlier.iter().filter(|o| **o).count(),
        outlier,
        sizes: order.iter().map(|k| sizes[*k]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_kernels::random::normal_vec;

    #[test]
    fn two_blobs_and_a_stray_point() {
        let mut points: Vec<f32> = normal_vec(1, 600).iter().map(|x| 0.1 * x).collect();
        points.extend(normal_vec(2, 400).chunks(2).flat_map(|p| [3.0 + 0.1 * p[0], 0.1 * p[1]]));
        points.extend([1.5, 1.5]);
        let found = cluster(&points, 2, ClusterConfig::default());
        assert_eq!(found.sizes.len(), 2);
        assert!(found.sizes[0] > 280 && found.sizes[1] > 180, "{:?}", found.sizes);
        assert_eq!(found.cluster[500], None);
        assert!(found.outlier[500]);
        assert_eq!(found.cluster[0], Some(0));
        assert_eq!(found.cluster[499], Some(1));
    }
}
