//! The structure of the noise (paper, claim 4): clusters and outliers of samples, and where they
//! lie in the noise and in the latent spaces; and which samples are neighbours there.

use kdm_analysis::clusters::{ClusterConfig, Clusters, chosen};
use kdm_analysis::semantics::distance;
use kdm_metrics::manifold::nearest;
use kdm_report::plots::{self, Group};
use kdm_report::{Figure, Table, grid};
use serde_json::json;

use crate::examination::Found;
use crate::portrait::shown;

/// Neighbours that are looked at, and shown.
const NEIGHBOURS: usize = 5;
/// Samples whose neighbours are shown.
const QUERIES: usize = 8;
/// Clusters shown, samples of each, and outliers.
const CLUSTERS: usize = 8;
const MEMBERS: usize = 16;
const OUTLIERS: usize = 32;
/// The seed of the random pairs that neighbours are compared with.
const PAIR_SEED: u64 = 22;

/// A space in which every sample has a row.
#[derive(Clone, Copy, Debug)]
pub struct Space<'a> {
    /// For programs.
    pub key: &'a str,
    /// For readers.
    pub name: &'a str,
    /// Rows.
    pub rows: &'a [f32],
    /// Numbers of a row.
    pub width: usize,
}

impl Space<'_> {
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

/// Adds what is found to `found`. `spaces`: the noise first. `images`: the samples, of `shape`.
/// `seen`: where their clusters are looked for, features or the points themselves; none for no
/// clusters.
pub fn structure_of_noise(
    found: &mut Found,
    spaces: &[Space],
    images: &[f32],
    shape: &[usize],
    seen: Option<Space>,
) {
    neighbourhoods(found, spaces, images, shape);
    let Some(seen) = seen else { return };
    let (clusters, config) = chosen(seen.rows, seen.width, ClusterConfig::default());
    mapped(found, spaces, &clusters, config, seen.name);
    if grid::shows(shape) {
        found.figures.extend(members(&clusters, images, shape));
    }
    // In the plane the portrait draws the noise itself.
    if shape.iter().product::<usize>() > 2 {
        found.figures.extend(noise_figure(spaces[0], &clusters));
    }
}

/// What is nearest to samples in each space, and how alike that is.
fn neighbourhoods(found: &mut Found, spaces: &[Space], images: &[f32], shape: &[usize]) {
    let dim: usize = shape.iter().product();
    let count = images.len() / dim;
    if count < 2 * NEIGHBOURS {
        return;
    }
    let image = |i: usize| &images[i * dim..(i + 1) * dim];
    let apart = |i: usize, j: usize| distance(image(i), image(j));
    let other = |i: usize| {
        let step = 1 + (kdm_random::uniform_f64(PAIR_SEED, i as u64) * (count - 1) as f64) as usize;
        (i + step) % count
    };
    let by_chance = (0..count).map(|i| apart(i, other(i))).sum::<f64>() / count as f64;
    let all: Vec<Vec<Vec<usize>>> = spaces.iter().map(|space| space.neighbours(|_| true)).collect();
    let mut values = serde_json::Map::new();
    let mut rows: Vec<[String; 3]> = Vec::new();
    for (space, near) in spaces.iter().zip(&all) {
        let nearest =
            near.iter().enumerate().map(|(i, row)| apart(i, row[0])).sum::<f64>() / count as f64;
        values.insert(space.key.into(), json!(nearest / by_chance));
        let note = "distance of a sample to the one nearest to it in that space, over that of two \
                    samples by chance";
        rows.push([space.name.into(), shown(nearest / by_chance), note.into()]);
    }
    found.values.insert("neighbour_likeness".into(), values.into());
    found.tables.push(Table::of("Neighbours are alike", rows));
    if !grid::shows(shape) {
        return;
    }
    let white = vec![1.0; dim];
    let mut tiles: Vec<f32> = Vec::new();
    for i in 0..QUERIES.min(count) {
        tiles.extend(image(i));
        for near in &all {
            tiles.extend(&white);
            near[i].iter().for_each(|j| tiles.extend(image(*j)));
        }
    }
    let names: Vec<&str> = spaces.iter().map(|space| space.name).collect();
    found.figures.push(Figure {
        title: "Neighbours".into(),
        png: grid::png(&tiles, shape, 1 + spaces.len() * (1 + NEIGHBOURS)),
        caption: format!(
            "A sample in the first column, and beside it the {NEIGHBOURS} samples nearest to it by {}. Where neighbours look alike, \
             the space is arranged by what images show.",
            names.join(", then by ")
        ),
    });
}

/// How well clusters of outputs are told apart by neighbours in each space, and whether outliers
/// lie between them.
fn mapped(
    found: &mut Found,
    spaces: &[Space],
    clusters: &Clusters,
    config: ClusterConfig,
    seen: &str,
) {
    let total = clusters.cluster.len();
    let clustered = clusters.sizes.iter().sum::<usize>();
    if clustered < 2 * NEIGHBOURS {
        tracing::info!("{clusters:?}: too few samples are in clusters of {seen} to map them back");
        return;
    }
    let chance =
        clusters.sizes.iter().map(|size| (*size as f64 / clustered as f64).powi(2)).sum::<f64>();
    let mut values = serde_json::Map::from_iter([
        ("eps".to_string(), json!(config.eps)),
        ("sizes".to_string(), json!(clusters.sizes)),
        ("outliers".to_string(), json!(clusters.outliers)),
        ("chance".to_string(), json!(chance)),
    ]);
    let mut rows = Vec::new();
    let percent = |x: Option<f64>| x.map_or_else(String::new, |x| format!("{:.1}%", 100.0 * x));
    for space in spaces {
        let near = space.neighbours(|i| clusters.cluster[i].is_some());
        let same =
            |i: usize| near[i].first().is_some_and(|j| clusters.cluster[*j] == clusters.cluster[i]);
        let agreement = (0..total).filter(|i| clusters.cluster[*i].is_some() && same(*i)).count()
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
        let (outliers, others) = (mean(true), mean(false));
        values.insert(
            space.key.into(),
            json!({"same_cluster": agreement, "mixed_outliers": outliers, "mixed_others": others}),
        );
        rows.push(vec![
            space.name.to_string(),
            percent(Some(agreement)),
            percent(outliers),
            percent(others),
        ]);
    }
    rows.push(vec!["by chance".into(), percent(Some(chance)), String::new(), String::new()]);
    found.values.insert("noise_structure".into(), values.into());
    found.tables.push(Table {
        title: format!(
            "Clusters mapped back: {} by {seen} (eps {}), {} outliers of {total}",
            clusters.sizes.len(),
            shown(config.eps),
            clusters.outliers
        ),
        columns: [
            "neighbours by",
            "nearest is of the same cluster",
            "an outlier's neighbours of other clusters than most of them",
            "the same of other samples",
        ]
        .map(String::from)
        .to_vec(),
        rows,
    });
}

/// Samples of the largest clusters, and outliers.
fn members(clusters: &Clusters, images: &[f32], shape: &[usize]) -> Vec<Figure> {
    let dim: usize = shape.iter().product();
    let pick = |which: &dyn Fn(usize) -> bool, most: usize| -> Vec<f32> {
        let places = (0..clusters.cluster.len()).filter(|i| which(*i)).take(most);
        places.flat_map(|i| images[i * dim..(i + 1) * dim].iter().copied()).collect()
    };
    let mut figures = Vec::new();
    let shown = clusters.sizes.len().min(CLUSTERS);
    let mut rows: Vec<f32> = Vec::new();
    for cluster in 0..shown {
        rows.extend(pick(&|i| clusters.cluster[i] == Some(cluster), MEMBERS));
        rows.resize((cluster + 1) * MEMBERS * dim, 1.0);
    }
    if shown > 0 {
        let sizes: Vec<String> = clusters.sizes.iter().take(shown).map(usize::to_string).collect();
        figures.push(Figure {
            title: "Clusters".into(),
            png: grid::png(&rows, shape, MEMBERS),
            caption: format!(
                "Samples of the largest density-based clusters of outputs in feature space, one a \
                 row; they hold {} samples of {}.",
                sizes.join(", "),
                clusters.cluster.len()
            ),
        });
    }
    if clusters.outliers > 0 {
        figures.push(Figure {
            title: "Outliers".into(),
            png: grid::png(&pick(&|i| clusters.outlier[i], OUTLIERS), shape, MEMBERS),
            caption: "Samples in no cluster or far from their neighbours by z-score: rare images, \
                      and failed ones."
                .into(),
        });
    }
    figures
}

/// The noise by the two directions that part the clusters' mean noises most: found on every other
/// sample, drawn for the rest, so that what parts them there is no chance. None with fewer than
/// three clusters.
fn noise_figure(noise: Space, clusters: &Clusters) -> Option<Figure> {
    let shown = clusters.sizes.len().min(CLUSTERS);
    if shown < 3 {
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
    let whole = mean((0..shown).flat_map(|c| of(c, 0)).collect());
    let centres: Vec<Vec<f64>> = (0..shown)
        .map(|c| mean(of(c, 0).collect()).iter().zip(&whole).map(|(a, b)| a - b).collect())
        .collect();
    let centres = faer::Mat::from_fn(width, shown, |j, c| centres[c][j]);
    let directions = centres.thin_svd().ok()?.U().subcols(0, 2).to_owned();
    let place = |i: usize| {
        let along = |k: usize| {
            row(i).iter().enumerate().map(|(j, x)| f64::from(*x) * directions[(j, k)]).sum::<f64>()
        };
        (along(0), along(1))
    };
    let groups: Vec<Group> = (0..shown)
        .map(|c| Group {
            points: of(c, 1).map(place).collect(),
            colour: Some(c),
            name: Some(format!("cluster {}", c + 1)),
            crosses: false,
        })
        .collect();
    let reach = groups
        .iter()
        .flat_map(|g| &g.points)
        .fold(0.0f64, |most, p| most.max(p.0.abs()).max(p.1.abs()));
    Some(Figure {
        title: "Noise of the clusters".into(),
        png: plots::scatter("Noise of the clusters", &groups, 1.1 * reach.max(1e-3)),
        caption: "The noise that samples are from, in their cluster's colour, along the two directions in which the clusters' mean \
                  noises are furthest apart: found on one half of the samples, drawn for the \
                  other. Where colours mix, a cluster \
                  is no region of the noise (of a conditional student the label decides most)."
            .into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_random::normal_vec;

    /// Outputs that are the sign of the noise's first coordinate: neighbours in the noise are of
    /// the same cluster, neighbours in a space of other numbers only by chance, and outliers are
    /// where the sign turns.
    #[test]
    fn clusters_are_found_again_in_the_noise() {
        let noise = normal_vec(1, 2 * 600);
        let unrelated = normal_vec(2, 3 * 600);
        let outputs: Vec<f32> =
            noise.chunks(2).flat_map(|x| [(30.0 * x[0]).clamp(-3.0, 3.0), 0.1 * x[1]]).collect();
        let space = |key, rows, width| Space { key, name: key, rows, width };
        let spaces = [space("noise", &noise[..], 2), space("unrelated", &unrelated[..], 3)];
        let mut found = Found::default();
        structure_of_noise(
            &mut found,
            &spaces,
            &outputs,
            &[2],
            Some(space("outputs", &outputs, 2)),
        );
        let values = &found.values["noise_structure"];
        assert_eq!(values["sizes"].as_array().unwrap().len(), 2, "{values}");
        let of = |path: &str| values.pointer(path).unwrap().as_f64().unwrap();
        assert!(of("/noise/same_cluster") > 0.95, "{values}");
        // 600 draws of probability a half: four standard errors.
        assert!((of("/unrelated/same_cluster") - of("/chance")).abs() < 0.09, "{values}");
        assert!(of("/noise/mixed_outliers") > 3.0 * of("/noise/mixed_others"), "{values}");
        let likeness = &found.values["neighbour_likeness"];
        assert!(likeness["noise"].as_f64().unwrap() < 0.2, "{likeness}");
        assert!((likeness["unrelated"].as_f64().unwrap() - 1.0).abs() < 0.15, "{likeness}");
    }

    /// Noises of three clusters that are apart in two of many directions are drawn; of two clusters
    /// nothing is.
    #[test]
    fn the_noise_is_drawn_where_there_are_clusters() {
        let noise = normal_vec(4, 10 * 60);
        let space = Space { key: "noise", name: "noise", rows: &noise, width: 10 };
        let of = |k: usize| Clusters {
            cluster: (0..60).map(|i| Some(i / 2 % k)).collect(),
            outlier: vec![false; 60],
            sizes: vec![60 / k; k],
            outliers: 0,
        };
        assert!(
            noise_figure(space, &of(3)).is_some_and(|figure| figure.png.starts_with(b"\x89PNG"))
        );
        assert!(noise_figure(space, &of(2)).is_none());
    }
}
