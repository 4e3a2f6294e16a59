//! The structure of the noise: neighbours of samples in each space, clusters of outputs, and where
//! they lie in the noise.

use kdm_analysis::clusters::Clusters;
use kdm_analysis::structure::{
    MappedClusters, NEIGHBOURS, Neighbourhoods, NoisePlane, OutputClusters, SampleSpace,
};
use kdm_analysis::{Note, OperatorAnalysis};

use crate::format::{percent, significant};
use crate::plot::{Mark, Plot, Series};
use crate::{Figure, Section, Table, grid};

/// Clusters shown, samples of each, and outliers.
const CLUSTERS: usize = 8;
const MEMBERS: usize = 16;
const OUTLIERS: usize = 32;

/// The section on the structure of the noise. `notes`: what the analysis left out, which is said
/// before the figures.
pub fn cluster_section(found: &OperatorAnalysis, notes: &[Note]) -> Section {
    let OperatorAnalysis { structure, shape, images, .. } = found;
    let mut section = Section::new("Structure of the noise");
    let about = |note: &&Note| matches!(note, Note::TooFewClustered { .. });
    section.text = notes.iter().filter(about).map(|note| format!("Note: {note}. ")).collect();
    if let Some(near) = &structure.neighbourhoods {
        section.tables.push(likeness_table(near));
        if grid::shows(shape) {
            section.figures.push(neighbour_figure(near, images, shape));
        }
    }
    if let Some(clusters) = &structure.clusters {
        if let Some(mapped) = &structure.mapped {
            section.tables.push(mapped_table(mapped, clusters));
        }
        if grid::shows(shape) {
            section.figures.extend(member_figures(&clusters.clusters, images, shape));
        }
        section.figures.extend(clusters.noise_plane.as_ref().map(noise_figure));
    }
    section
}

fn space_name(space: SampleSpace) -> &'static str {
    match space {
        SampleSpace::Noise => "noise x_T",
        SampleSpace::Latent => "latent z_T",
        SampleSpace::Pushed => "latent C z_T",
        SampleSpace::Features => "features",
        SampleSpace::Outputs => "outputs",
    }
}

fn likeness_table(near: &Neighbourhoods) -> Table {
    let note = "distance of a sample to the one nearest to it in that space, over that of two \
                random samples";
    let row = |(space, value): &(SampleSpace, f64)| {
        [space_name(*space).into(), significant(*value), note.into()]
    };
    Table::of("Neighbours are alike", near.likeness.iter().map(row).collect())
}

fn neighbour_figure(near: &Neighbourhoods, images: &[f32], shape: &[usize]) -> Figure {
    let dim: usize = shape.iter().product();
    let white = vec![1.0; dim];
    let image = |i: usize| &images[i * dim..(i + 1) * dim];
    let mut tiles: Vec<f32> = Vec::new();
    for (i, spaces) in near.nearest.iter().enumerate() {
        tiles.extend(image(i));
        for places in spaces {
            tiles.extend(&white);
            places.iter().for_each(|j| tiles.extend(image(*j)));
        }
    }
    let names: Vec<&str> = near.likeness.iter().map(|(space, _)| space_name(*space)).collect();
    let caption = format!(
        "A sample in the first column, and beside it the {NEIGHBOURS} samples nearest to it by {}. \
         Where neighbours look alike, the space is arranged by what images show.",
        names.join(", then by ")
    );
    let png = grid::png(&tiles, shape, 1 + names.len() * (1 + NEIGHBOURS));
    Figure::of_pixels("Neighbours", png, caption)
}

fn mapped_table(mapped: &MappedClusters, found: &OutputClusters) -> Table {
    let mut rows: Vec<Vec<String>> = mapped
        .spaces
        .iter()
        .map(|(space, row)| {
            vec![
                space_name(*space).to_string(),
                percent(row.same_cluster),
                percent(row.mixed_outliers),
                percent(row.mixed_others),
            ]
        })
        .collect();
    rows.push(vec!["by chance".into(), percent(mapped.chance), String::new(), String::new()]);
    let sorted = found.clusters.cluster.len();
    let mut title = format!(
        "Clusters mapped back: {} by {} (eps {}), {} outliers of {sorted}",
        mapped.sizes.len(),
        space_name(found.space),
        significant(mapped.eps),
        mapped.outliers,
    );
    if mapped.samples < sorted {
        title += &format!("; neighbours among the first {}", mapped.samples);
    }
    let columns = [
        "neighbours by",
        "nearest is of the same cluster",
        "an outlier's neighbours outside their most common cluster",
        "the same of other samples",
    ];
    Table::with_columns(title, &columns, rows)
}

/// Samples of the largest clusters, and outliers.
fn member_figures(clusters: &Clusters, images: &[f32], shape: &[usize]) -> Vec<Figure> {
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
        let caption = format!(
            "Samples of the largest density-based clusters of outputs in feature space, one a row; \
             they hold {} samples of {}.",
            sizes.join(", "),
            clusters.cluster.len()
        );
        figures.push(Figure::of_pixels("Clusters", grid::png(&rows, shape, MEMBERS), caption));
    }
    if clusters.outliers > 0 {
        let caption = "Samples in no cluster or far from their neighbours by z-score: rare images, \
                       and failed ones.";
        let png = grid::png(&pick(&|i| clusters.outlier[i], OUTLIERS), shape, MEMBERS);
        figures.push(Figure::of_pixels("Outliers", png, caption));
    }
    figures
}

fn noise_figure(plane: &NoisePlane) -> Figure {
    let group = |(c, points): (usize, &Vec<(f64, f64)>)| Series {
        points: points.clone(),
        colour: Some(c),
        name: Some(format!("cluster {}", c + 1)),
        mark: Mark::Dots,
    };
    let groups: Vec<Series> = plane.clusters.iter().enumerate().map(group).collect();
    let reach =
        plane.clusters.iter().flatten().fold(0.0f64, |most, p| most.max(p.0.abs()).max(p.1.abs()));
    let title = "Noise of the clusters";
    let caption = "The noise that samples are from, in their cluster's colour, along the two \
                   directions in which the clusters' mean noises are furthest apart: found on one \
                   half of the samples, drawn for the other. Where colours mix, a cluster is no \
                   region of the noise (of a conditional student the label decides most).";
    let (first, second) = ("noise along the first direction", "noise along the second direction");
    Figure::new(title, Plot::scatter(first, second, groups, 1.1 * reach.max(1e-3)), caption)
}
