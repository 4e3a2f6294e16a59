//! Clusters of outputs, and the outliers between them (paper, section on the structure of the noise
//! space).

use rayon::prelude::*;
use serde::Serialize;

use crate::rows::distance;

/// Points sorted into clusters.
///
/// ```
/// use kdm_analysis::clusters::{ClusterConfig, cluster};
///
/// // Six points near 0, six near 5, and one alone.
/// let points: Vec<f32> = (0..6).flat_map(|i| [0.01 * i as f32, 5.0 + 0.01 * i as f32]).collect();
/// let found = cluster(&[points, vec![2.5]].concat(), 1, ClusterConfig::default());
/// assert_eq!((found.sizes, found.outliers), (vec![6, 6], 1));
/// assert_eq!(found.cluster[12], None);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Clusters {
    /// Each point's cluster, largest cluster first; none for a point in a sparse region.
    #[serde(skip)]
    pub cluster: Vec<Option<usize>>,
    /// Whether a point is an outlier: in no cluster, or further from its neighbours than the others
    /// by z-score.
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
    /// A mean distance to the nearest neighbours this many standard deviations above the mean makes
    /// an outlier.
    pub z_score: f64,
}

impl Default for ClusterConfig {
    /// The paper's values.
    fn default() -> Self {
        Self { eps: 0.15, min_neighbours: 5, z_score: 3.0 }
    }
}

/// Density-based clustering (DBSCAN, Ester et al. 1996) of rows of `dim` values, and outliers.
/// Quadratic in the number of rows.
pub fn cluster(points: &[f32], dim: usize, config: ClusterConfig) -> Clusters {
    let rows: Vec<&[f32]> = points.chunks(dim).collect();
    let (neighbours, sparseness): (Vec<Vec<usize>>, Vec<f64>) = rows
        .par_iter()
        .map(|a| {
            let mut all: Vec<f64> = rows.iter().map(|b| distance(a, b)).collect();
            let near = (0..all.len()).filter(|j| all[*j] <= config.eps).collect();
            // The nearest is the point itself, at distance 0.
            let k = config.min_neighbours.saturating_add(1).min(all.len());
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
    let outlier: Vec<bool> = label
        .iter()
        .zip(&sparseness)
        .map(|(label, s)| label.is_none() || *s > mean + config.z_score * std)
        .collect();
    Clusters {
        cluster: label.into_iter().map(|l| l.map(|k| rank[k])).collect(),
        outliers: outlier.iter().filter(|o| **o).count(),
        outlier,
        sizes: order.iter().map(|k| sizes[*k]).collect(),
    }
}

/// Distances that [`cluster_with_chosen_eps`] tries: these shares of rows have their nearest
/// neighbours closer.
const SHARES: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/// Share of all rows that makes a cluster count in the choice.
const LARGE: f64 = 0.02;

/// Clusters with an `eps` that suits the rows, where none is known: of nine distances to the
/// nearest neighbours (quantiles from a tenth to nine tenths), the one whose large clusters are
/// furthest apart for their density, as the sum over clusters of p (1 - eps / s), with p a
/// cluster's share of all rows and s the distance of its core to the next core; 0 for fewer than
/// two clusters. Too small a distance leaves rows out and splits clusters, too large a one joins
/// them all (after the density-based validation of Moulavi et al. 2014). Gives the configuration
/// too.
pub fn cluster_with_chosen_eps(
    points: &[f32],
    dim: usize,
    config: ClusterConfig,
) -> (Clusters, ClusterConfig) {
    let rows: Vec<&[f32]> = points.chunks(dim).collect();
    let reach: Vec<f64> = rows
        .par_iter()
        .map(|a| {
            let mut all: Vec<f64> = rows.iter().map(|b| distance(a, b)).collect();
            let k = config.min_neighbours.clamp(1, all.len());
            *all.select_nth_unstable_by(k - 1, f64::total_cmp).1
        })
        .collect();
    let mut sorted = reach.clone();
    sorted.sort_by(f64::total_cmp);
    let validity = |found: &Clusters, eps: f64| {
        let large =
            found.sizes.iter().filter(|size| **size as f64 >= LARGE * rows.len() as f64).count();
        if large < 2 {
            return 0.0;
        }
        let core: Vec<(usize, usize)> = (0..rows.len())
            .filter(|i| reach[*i] <= eps)
            .filter_map(|i| found.cluster[i].filter(|c| *c < large).map(|c| (i, c)))
            .collect();
        let apart = |c: usize| {
            let (own, others): (Vec<_>, Vec<_>) = core.iter().partition(|(_, of)| *of == c);
            let next = |i: usize| {
                others
                    .iter()
                    .map(|(j, _)| distance(rows[i], rows[*j]))
                    .fold(f64::INFINITY, f64::min)
            };
            own.iter().map(|(i, _)| next(*i)).fold(f64::INFINITY, f64::min)
        };
        let share = |c: usize| found.sizes[c] as f64 / rows.len() as f64;
        (0..large).into_par_iter().map(|c| share(c) * (1.0 - eps / apart(c)).max(0.0)).sum::<f64>()
    };
    let attempt = |share: f64| {
        let config =
            ClusterConfig { eps: sorted[((sorted.len() - 1) as f64 * share) as usize], ..config };
        let found = cluster(points, dim, config);
        (validity(&found, config.eps), found, config)
    };
    let all = SHARES.map(attempt);
    let (_, found, config) =
        all.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).expect("there are nine");
    (found, config)
}

/// Clusters of points in the plane, and the colours they are drawn in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PointClusters {
    /// See [`Clusters::cluster`].
    #[serde(skip)]
    pub cluster: Vec<Option<usize>>,
    /// Each point's colour: the mode of the distribution it is in where that is known, else its
    /// cluster.
    #[serde(skip)]
    pub colour: Vec<Option<usize>>,
    /// Whether a point is an outlier.
    #[serde(skip)]
    pub outlier: Vec<bool>,
    /// Sizes of the clusters, largest first.
    #[serde(rename = "clusters")]
    pub sizes: Vec<usize>,
    /// Outliers in all.
    pub outliers: usize,
    /// How they were found.
    #[serde(skip)]
    pub config: ClusterConfig,
}

/// Gives the mode of the distribution that a row is in, or none.
pub type ModeOf<'a> = &'a dyn Fn(&[f32]) -> Option<usize>;

/// Clusters of rows of `dim` values; `mode_of` where the distribution they should follow is known.
pub fn point_clusters(
    points: &[f32],
    dim: usize,
    config: ClusterConfig,
    mode_of: Option<ModeOf>,
) -> PointClusters {
    let found = cluster(points, dim, config);
    let colour = match mode_of {
        None => found.cluster.clone(),
        Some(mode_of) => points.chunks(dim).map(mode_of).collect(),
    };
    let Clusters { cluster, outlier, sizes, outliers } = found;
    PointClusters { cluster, colour, outlier, sizes, outliers, config }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_random::normal_vec;

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

    /// Three blobs of 20 dimensions, whatever their scale: the distance is found.
    #[test]
    fn a_distance_is_chosen_at_any_scale() {
        for scale in [1e-3f32, 1.0, 1e3] {
            let noise = normal_vec(3, 300 * 20);
            let points: Vec<f32> = noise
                .chunks(20)
                .enumerate()
                .flat_map(|(i, row)| {
                    row.iter()
                        .enumerate()
                        .map(move |(j, x)| scale * (x + if j == i % 3 { 12.0 } else { 0.0 }))
                })
                .collect();
            let (found, _) = cluster_with_chosen_eps(&points, 20, ClusterConfig::default());
            assert_eq!(found.sizes.len(), 3, "{:?}", found.sizes);
            assert!(found.sizes.iter().sum::<usize>() > 240, "{:?}", found.sizes);
            let first = found
                .cluster
                .iter()
                .step_by(3)
                .flatten()
                .collect::<std::collections::BTreeSet<_>>();
            assert_eq!(first.len(), 1);
        }
    }
}
