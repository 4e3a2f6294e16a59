//! The structure of the noise (paper, claim 4): where clusters and outliers of samples lie in the
//! noise and in the latent spaces, and which samples are neighbours there.

use kdm_metrics::manifold::nearest;
use serde::{Serialize, Serializer};

use crate::clusters::{ClusterConfig, Clusters, PointClusters, cluster_with_chosen_eps};
use crate::rows::distance;

/// Neighbours that are looked at.
pub const NEIGHBOURS: usize = 5;
/// Samples whose neighbours are kept.
const QUERIES: usize = 8;
/// Clusters whose noise is kept.
const CLUSTERS: usize = 8;
/// The seed of the random pairs that neighbours are compared with.
const PAIR_SEED: u64 = 22;

/// A space in which every sample has a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SampleSpace {
    /// x_T.
    Noise,
    /// z_T.
    Latent,
    /// C z_T.
    Pushed,
    /// Features of samples.
    Features,
    /// The samples themselves.
    Outputs,
}

impl SampleSpace {
    /// Its key in JSON.
    pub fn key(self) -> &'static str {
        match self {
            Self::Noise => "noise",
            Self::Latent => "latent",
            Self::Pushed => "pushed",
            Self::Features => "features",
            Self::Outputs => "outputs",
        }
    }
}

/// Samples in one space.
#[derive(Clone, Copy, Debug)]
pub struct Embedding<'a> {
    /// Which space.
    pub space: SampleSpace,
    /// Rows of `width` values, one a sample.
    pub rows: &'a [f32],
    /// Values of a row.
    pub width: usize,
}

impl Embedding<'_> {
    /// The nearest rows to every row but itself, of those for which `counts` is true; nearest
    /// first.
    fn neighbours(&self, counts: impl Fn(usize) -> bool) -> Vec<Vec<usize>> {
        let places: Vec<usize> = (0..self.rows.len() / self.width).filter(|i| counts(*i)).collect();
        let among: Vec<f32> = places
            .iter()
            .flat_map(|i| &self.rows[i * self.width..(i + 1) * self.width])
            .copied()
            .collect();
        let found = nearest(self.rows, &among, self.width, NEIGHBOURS + 1);
        let others = |(i, row): (usize, Vec<(usize, f64)>)| {
            row.into_iter().map(|(at, _)| places[at]).filter(|j| *j != i).take(NEIGHBOURS).collect()
        };
        found.into_iter().enumerate().map(others).collect()
    }
}

/// The structure of the noise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NoiseStructure {
    /// None with fewer than ten samples.
    #[serde(rename = "neighbour_likeness", skip_serializing_if = "Option::is_none")]
    pub neighbourhoods: Option<Neighbourhoods>,
    /// Clusters of outputs mapped to the noise; none where too few samples are in clusters.
    #[serde(rename = "noise_structure", skip_serializing_if = "Option::is_none")]
    pub mapped: Option<MappedClusters>,
    /// The clusters of outputs; none where there is nothing to find them by.
    #[serde(skip)]
    pub clusters: Option<OutputClusters>,
}

/// Clusters of outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputClusters {
    /// The space they were found in.
    pub space: SampleSpace,
    /// The clusters.
    pub clusters: Clusters,
    /// The distance within which samples are neighbours.
    pub eps: f64,
    /// Their noise in the plane; none with fewer than three clusters, or of points in the plane,
    /// where the noise itself can be drawn.
    pub noise_plane: Option<NoisePlane>,
}

impl OutputClusters {
    /// Clusters of the rows of `seen`, at a distance that is chosen by them.
    pub fn chosen(seen: Embedding) -> Self {
        let (clusters, config) =
            cluster_with_chosen_eps(seen.rows, seen.width, ClusterConfig::default());
        Self { space: seen.space, clusters, eps: config.eps, noise_plane: None }
    }

    /// Clusters of points in the plane, as they were found for the gallery of samples.
    pub fn of_points(found: &PointClusters) -> Self {
        let clusters = Clusters {
            cluster: found.cluster.clone(),
            outlier: found.outlier.clone(),
            sizes: found.sizes.clone(),
            outliers: found.outliers,
        };
        Self { space: SampleSpace::Outputs, clusters, eps: found.config.eps, noise_plane: None }
    }

    /// How many of the first `samples` are in clusters.
    pub fn clustered(&self, samples: usize) -> usize {
        self.clusters.cluster.iter().take(samples).flatten().count()
    }
}

/// The nearest samples in each space; in JSON [`Self::likeness`] by space.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbourhoods {
    /// Mean distance of a sample to the one nearest to it in a space, over that of two random
    /// samples: 1 where neighbours are no more alike than any two.
    pub likeness: Vec<(SampleSpace, f64)>,
    /// For each of the first samples its nearest samples in each of these spaces, nearest first.
    pub nearest: Vec<Vec<Vec<usize>>>,
}

impl Serialize for Neighbourhoods {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.likeness.iter().map(|(space, value)| (space.key(), value)))
    }
}

/// How well neighbours in each space tell clusters of outputs apart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MappedClusters {
    /// The distance within which samples are neighbours, in the space of the clusters.
    pub eps: f64,
    /// Sizes of the clusters, largest first.
    pub sizes: Vec<usize>,
    /// Outliers in all.
    pub outliers: usize,
    /// Samples whose neighbours are looked at: the first of those that were sorted into clusters.
    pub samples: usize,
    /// Probability that two random samples in clusters are in the same one.
    pub chance: f64,
    /// By space; in JSON beside the other keys.
    #[serde(flatten, serialize_with = "by_space")]
    pub spaces: Vec<(SampleSpace, ClusterAgreement)>,
}

fn by_space<S: Serializer>(
    rows: &[(SampleSpace, ClusterAgreement)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(rows.iter().map(|(space, row)| (space.key(), row)))
}

/// How clusters of outputs lie in one space.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClusterAgreement {
    /// Share of samples in clusters whose nearest neighbour is in the same cluster.
    pub same_cluster: f64,
    /// Mean share of an outlier's neighbours that are not in the cluster most of them are in; none
    /// without outliers.
    pub mixed_outliers: Option<f64>,
    /// The same of other samples.
    pub mixed_others: Option<f64>,
}

/// The noise of clusters along the two directions that separate the clusters' mean noises most.
/// Directions are found on samples of even places, and points are those of odd ones, so that what
/// separates them is no chance.
#[derive(Clone, Debug, PartialEq)]
pub struct NoisePlane {
    /// Coordinates, cluster by cluster, largest first.
    pub clusters: Vec<Vec<(f64, f64)>>,
}

/// The structure of the noise of samples. `embeddings`: the noise first, then latents. `images`:
/// the samples, of `shape`. `clusters`: of these samples, and of more behind them or not; none
/// where there is nothing to find them by.
pub fn noise_structure(
    embeddings: &[Embedding],
    images: &[f32],
    shape: &[usize],
    clusters: Option<OutputClusters>,
) -> NoiseStructure {
    let dim = shape.iter().product();
    let neighbourhoods = neighbourhoods(embeddings, images, dim);
    let clusters = clusters.map(|found| {
        let noise_plane = if dim > 2 { noise_plane(embeddings[0], &found.clusters) } else { None };
        OutputClusters { noise_plane, ..found }
    });
    let samples = images.len() / dim;
    let mapped = clusters.as_ref().and_then(|found| map_clusters(embeddings, found, samples));
    NoiseStructure { neighbourhoods, mapped, clusters }
}

/// The samples nearest to each in each space, and how alike they are.
fn neighbourhoods(embeddings: &[Embedding], images: &[f32], dim: usize) -> Option<Neighbourhoods> {
    let count = images.len() / dim;
    if count < 2 * NEIGHBOURS {
        return None;
    }
    let image = |i: usize| &images[i * dim..(i + 1) * dim];
    let apart = |i: usize, j: usize| distance(image(i), image(j));
    let other = |i: usize| {
        let step = 1 + (kdm_random::uniform_f64(PAIR_SEED, i as u64) * (count - 1) as f64) as usize;
        (i + step) % count
    };
    let by_chance = (0..count).map(|i| apart(i, other(i))).sum::<f64>() / count as f64;
    let all: Vec<Vec<Vec<usize>>> = embeddings.iter().map(|e| e.neighbours(|_| true)).collect();
    let likeness = |near: &Vec<Vec<usize>>| {
        let nearest =
            near.iter().enumerate().map(|(i, row)| apart(i, row[0])).sum::<f64>() / count as f64;
        nearest / by_chance
    };
    Some(Neighbourhoods {
        likeness: embeddings.iter().zip(&all).map(|(e, near)| (e.space, likeness(near))).collect(),
        nearest: (0..QUERIES.min(count))
            .map(|i| all.iter().map(|near| near[i].clone()).collect())
            .collect(),
    })
}

/// Samples in clusters that are needed to map clusters back to the noise.
pub const LEAST_CLUSTERED: usize = 2 * NEIGHBOURS;

/// How well clusters of outputs are told apart by neighbours in each space, and whether outliers
/// lie between them, of the first `samples`; none where too few of them are in clusters.
fn map_clusters(
    embeddings: &[Embedding],
    found: &OutputClusters,
    samples: usize,
) -> Option<MappedClusters> {
    let clusters = &found.clusters;
    let total = clusters.cluster.len().min(samples);
    let clustered = found.clustered(total);
    if clustered < LEAST_CLUSTERED {
        return None;
    }
    let mut sizes = vec![0usize; clusters.sizes.len()];
    clusters.cluster[..total].iter().flatten().for_each(|cluster| sizes[*cluster] += 1);
    let chance = sizes.iter().map(|size| (*size as f64 / clustered as f64).powi(2)).sum::<f64>();
    let agreement = |embedding: &Embedding| {
        let near = embedding.neighbours(|i| i < total && clusters.cluster[i].is_some());
        let same =
            |i: usize| near[i].first().is_some_and(|j| clusters.cluster[*j] == clusters.cluster[i]);
        let same_cluster = (0..total).filter(|i| clusters.cluster[*i].is_some() && same(*i)).count()
            as f64
            / clustered as f64;
        // Neighbours that are not of the cluster most of them are of.
        let mixed = |i: usize| {
            let of = |j: &usize| {
                near[i].iter().filter(|k| clusters.cluster[**k] == clusters.cluster[*j]).count()
            };
            let most = near[i].iter().map(of).max().unwrap_or(0);
            1.0 - most as f64 / near[i].len() as f64
        };
        let mean = |outlier: bool| {
            let all: Vec<f64> =
                (0..total).filter(|i| clusters.outlier[*i] == outlier).map(mixed).collect();
            (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
        };
        ClusterAgreement { same_cluster, mixed_outliers: mean(true), mixed_others: mean(false) }
    };
    Some(MappedClusters {
        eps: found.eps,
        sizes: clusters.sizes.clone(),
        outliers: clusters.outliers,
        samples: total,
        chance,
        spaces: embeddings.iter().map(|e| (e.space, agreement(e))).collect(),
    })
}

/// See [`NoisePlane`]; none with fewer than three clusters.
fn noise_plane(noise: Embedding, clusters: &Clusters) -> Option<NoisePlane> {
    let kept = clusters.sizes.len().min(CLUSTERS);
    if kept < 3 {
        return None;
    }
    let width = noise.width;
    let row = |i: usize| &noise.rows[i * width..(i + 1) * width];
    let of = |cluster: usize, part: usize| {
        (0..clusters.cluster.len())
            .filter(move |i| i % 2 == part && clusters.cluster[*i] == Some(cluster))
    };
    let mean = |places: Vec<usize>| -> Vec<f64> {
        let mut sum = vec![0.0; width];
        places
            .iter()
            .for_each(|i| sum.iter_mut().zip(row(*i)).for_each(|(s, x)| *s += f64::from(*x)));
        sum.into_iter().map(|s| s / places.len().max(1) as f64).collect()
    };
    let whole = mean((0..kept).flat_map(|c| of(c, 0)).collect());
    let centres: Vec<Vec<f64>> = (0..kept)
        .map(|c| mean(of(c, 0).collect()).iter().zip(&whole).map(|(a, b)| a - b).collect())
        .collect();
    let centres = faer::Mat::from_fn(width, kept, |j, c| centres[c][j]);
    let directions = centres.thin_svd().ok()?.U().subcols(0, 2).to_owned();
    let place = |i: usize| {
        let along = |k: usize| {
            row(i).iter().enumerate().map(|(j, x)| f64::from(*x) * directions[(j, k)]).sum::<f64>()
        };
        (along(0), along(1))
    };
    Some(NoisePlane { clusters: (0..kept).map(|c| of(c, 1).map(place).collect()).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clusters::point_clusters;
    use kdm_random::normal_vec;

    /// Outputs that are the sign of the noise's first coordinate: neighbours in the noise are of
    /// the same cluster, neighbours in a space of unrelated numbers only by chance, and outliers
    /// are where the sign turns.
    #[test]
    fn clusters_are_found_again_in_the_noise() {
        let noise = normal_vec(1, 2 * 600);
        let unrelated = normal_vec(2, 3 * 600);
        let outputs: Vec<f32> =
            noise.chunks(2).flat_map(|x| [(30.0 * x[0]).clamp(-3.0, 3.0), 0.1 * x[1]]).collect();
        let embeddings = [
            Embedding { space: SampleSpace::Noise, rows: &noise, width: 2 },
            Embedding { space: SampleSpace::Latent, rows: &unrelated, width: 3 },
        ];
        let seen = Embedding { space: SampleSpace::Outputs, rows: &outputs, width: 2 };
        let found =
            noise_structure(&embeddings, &outputs, &[2], Some(OutputClusters::chosen(seen)));
        let values = &serde_json::to_value(&found).unwrap();
        let structure = &values["noise_structure"];
        assert_eq!(structure["sizes"].as_array().unwrap().len(), 2, "{structure}");
        let of = |path: &str| structure.pointer(path).unwrap().as_f64().unwrap();
        assert!(of("/noise/same_cluster") > 0.95, "{structure}");
        // 600 draws of probability a half: four standard errors.
        assert!((of("/latent/same_cluster") - of("/chance")).abs() < 0.09, "{structure}");
        assert!(of("/noise/mixed_outliers") > 3.0 * of("/noise/mixed_others"), "{structure}");
        let likeness = &values["neighbour_likeness"];
        assert!(likeness["noise"].as_f64().unwrap() < 0.2, "{likeness}");
        assert!((likeness["latent"].as_f64().unwrap() - 1.0).abs() < 0.15, "{likeness}");
        // Points in the plane need no directions to be drawn along.
        assert_eq!(found.clusters.unwrap().noise_plane, None);
    }

    /// Clusters of more samples than are mapped count the same, and are mapped by those there are.
    #[test]
    fn clusters_of_more_samples_are_mapped() {
        let points = normal_vec(5, 2 * 400);
        let outputs: Vec<f32> = points.iter().map(|x| 4.0 * x.signum() + 0.1 * x).collect();
        let found = point_clusters(&outputs, 2, ClusterConfig::default(), None);
        let few = &points[..2 * 100];
        let noise = Embedding { space: SampleSpace::Noise, rows: few, width: 2 };
        let clusters = OutputClusters::of_points(&found);
        let found = noise_structure(&[noise], &outputs[..2 * 100], &[2], Some(clusters));
        let mapped = found.mapped.unwrap();
        assert_eq!((mapped.sizes.len(), mapped.samples), (4, 100));
        assert_eq!(mapped.sizes, found.clusters.unwrap().clusters.sizes);
        // Quadrants, each of a quarter of the samples: 0.25 and a little.
        assert!((0.25..0.30).contains(&mapped.chance), "{}", mapped.chance);
        assert!(mapped.spaces[0].1.same_cluster > 0.8, "{mapped:?}");
    }

    /// On a line of samples that are their own noise, neighbours are the next ones.
    #[test]
    fn neighbours_on_a_line() {
        let line: Vec<f32> = (0..20).map(|i| i as f32 + 0.001 * (i * i) as f32).collect();
        let embedding = Embedding { space: SampleSpace::Noise, rows: &line, width: 1 };
        let found = noise_structure(&[embedding], &line, &[1], None);
        let near = found.neighbourhoods.unwrap();
        assert_eq!(near.nearest[0], [[1, 2, 3, 4, 5]]);
        assert_eq!(near.nearest[7][0][..2], [6, 8]);
        assert!(found.mapped.is_none() && found.clusters.is_none());
        let few = Embedding { rows: &line[..9], ..embedding };
        assert!(noise_structure(&[few], &line[..9], &[1], None).neighbourhoods.is_none());
    }

    /// Noises of three clusters that are apart in two of many directions are separated; of two
    /// clusters there is no plane.
    #[test]
    fn the_noise_has_a_plane_where_there_are_clusters() {
        let mut noise = normal_vec(4, 10 * 60);
        for (i, row) in noise.chunks_mut(10).enumerate() {
            row[i / 2 % 3] += 20.0;
        }
        let embedding = Embedding { space: SampleSpace::Noise, rows: &noise, width: 10 };
        let of = |k: usize| Clusters {
            cluster: (0..60).map(|i| Some(i / 2 % k)).collect(),
            outlier: vec![false; 60],
            sizes: vec![60 / k; k],
            outliers: 0,
        };
        let plane = noise_plane(embedding, &of(3)).unwrap();
        let centre = |c: usize| {
            let n = plane.clusters[c].len() as f64;
            let sum = plane.clusters[c].iter().fold((0.0, 0.0), |s, p| (s.0 + p.0, s.1 + p.1));
            (sum.0 / n, sum.1 / n)
        };
        // Means are 20 sqrt(2) apart; ten points of deviation 1 leave them to about 1.
        for (a, b) in [(0, 1), (1, 2), (0, 2)] {
            let (a, b) = (centre(a), centre(b));
            let apart = (a.0 - b.0).hypot(a.1 - b.1);
            assert!((apart - 800f64.sqrt()).abs() < 3.0, "{apart}");
        }
        assert!(noise_plane(embedding, &of(2)).is_none());
    }
}
