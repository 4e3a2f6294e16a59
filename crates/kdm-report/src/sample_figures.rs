//! Samples of a student: points in the plane with their clusters, or images.

use std::collections::BTreeMap;

use kdm_analysis::clusters::PointClusters;
use kdm_analysis::gallery::{ClassImages, Gallery, ImageGallery, ImageRows, PointGallery};

use crate::plot::{Mark, Plot, Series, half_edge};
use crate::{Figure, Section, Table, grid};

/// Points drawn in scatter plots.
const POINTS: usize = 8000;
/// Columns of image grids.
const COLUMNS: usize = 16;

/// The section on a student's samples; empty where there is nothing that can be drawn.
pub fn sample_section(gallery: &Gallery) -> Section {
    let mut section = Section::new("Samples");
    if let Some(points) = &gallery.points {
        section.figures.extend(point_figures(points));
        section.tables.push(cluster_table(&points.clusters));
    }
    if let Some(images) = gallery.images.as_ref().filter(|images| grid::shows(&images.shape)) {
        section.figures.extend(image_figures(images));
    }
    section
}

/// Points as groups of one colour, outliers as black crosses. `points`: the points that were sorted
/// into clusters, or the noise they are from.
fn groups(clusters: &PointClusters, points: &[f32]) -> Vec<Series> {
    let mut groups: BTreeMap<Option<usize>, Vec<(f64, f64)>> = BTreeMap::new();
    let mut outliers = Vec::new();
    for (i, p) in points.chunks(2).enumerate() {
        let p = (f64::from(p[0]), f64::from(p[1]));
        match (clusters.outlier[i], clusters.colour[i]) {
            (true, _) | (_, None) => outliers.push(p),
            (false, colour) => groups.entry(colour).or_default().push(p),
        }
    }
    let coloured = groups.into_iter().map(|(colour, points)| Series {
        points,
        colour,
        name: None,
        mark: Mark::Dots,
    });
    let outliers = Series {
        points: outliers,
        colour: None,
        name: Some("outliers".into()),
        mark: Mark::Crosses,
    };
    coloured.chain([outliers]).collect()
}

fn point_figures(gallery: &PointGallery) -> Vec<Figure> {
    let PointGallery { teacher, student, noise, clusters } = gallery;
    let half = half_edge(teacher.as_ref().unwrap_or(student));
    let some = |points: &[f32]| points[..points.len().min(2 * POINTS)].to_vec();
    let figure = |title: &str, series: Vec<Series>, half: f64, caption: &str| {
        Figure::new(title, Plot::points(series, half), caption)
    };
    let mut figures = Vec::new();
    if let Some(teacher) = teacher {
        let caption = "Samples of the teacher, many network passes each.";
        figures.push(figure("Teacher", vec![Series::of_rows(&some(teacher), 0)], half, caption));
    }
    let caption = match teacher {
        Some(_) => {
            "One-step samples of the student, from the same noise. It should look like the \
             teacher's."
        }
        None => "One-step samples of the student.",
    };
    figures.push(figure("Student", vec![Series::of_rows(&some(student), 3)], half, caption));
    let caption = "The student's samples, a colour for each cluster. Crosses are outliers: in \
                   sparse places, far from their neighbours, or outside all modes of the data.";
    let sorted = &student[..noise.len()];
    figures.push(figure("Outputs by cluster", groups(clusters, sorted), half, caption));
    let caption = "The noise each of these samples came from, in its sample's colour. Clusters of \
                   outputs are regions of noise, and outliers come from the borders between them.";
    let half = half_edge(noise);
    figures.push(figure("Noise by cluster", groups(clusters, noise), half, caption));
    figures
}

fn cluster_table(clusters: &PointClusters) -> Table {
    let config = clusters.config;
    let rows = vec![
        [
            "clusters".into(),
            clusters.sizes.len().to_string(),
            format!(
                "density-based clusters of outputs (eps {}, {} neighbours); ones that touch join",
                config.eps, config.min_neighbours
            ),
        ],
        [
            "outliers".into(),
            format!("{} of {}", clusters.outliers, clusters.outlier.len()),
            format!("outputs in no cluster, or of z-score above {}", config.z_score),
        ],
    ];
    Table::of("Clusters of outputs", rows)
}

fn image_figures(gallery: &ImageGallery) -> Vec<Figure> {
    let shape = &gallery.shape;
    let figure = |title: &str, columns: usize, images: &[f32], caption: &str| {
        Figure::of_pixels(title, grid::png(images, shape, columns), caption)
    };
    let mut figures = Vec::new();
    if let Some(teacher) = &gallery.teacher {
        let caption = "Images of the teacher, many network passes each.";
        figures.push(figure("Teacher", COLUMNS, teacher, caption));
    }
    let caption = match &gallery.teacher {
        Some(_) => {
            "One-step images of the student, each from the same noise as the teacher's in its \
             place."
        }
        None => "One-step images of the student, each from noise of its own.",
    };
    figures.push(figure("Student", COLUMNS, &gallery.student, caption));
    if let Some(classes) = gallery.classes.as_ref().filter(|c| !c.rows.images.is_empty()) {
        let ImageRows { columns, images } = &classes.rows;
        figures.push(figure("Classes", *columns, images, &class_caption(classes)));
    }
    let rows: [(&str, &Option<ImageRows>, &str); 2] = [
        (
            "Between noises",
            &gallery.between_noises,
            "From one sample to another along the great circle between their noises, each image \
             drawn in one step.",
        ),
        (
            "Between latents",
            &gallery.between_latents,
            "From one sample to another along the straight line between their latents at the \
             decoder's input.",
        ),
    ];
    let drawn = |(title, rows, caption): &(&str, &Option<ImageRows>, &str)| {
        let rows = rows.as_ref().filter(|rows| !rows.images.is_empty())?;
        Some(figure(title, rows.columns, &rows.images, caption))
    };
    figures.extend(rows.iter().filter_map(drawn));
    figures
}

/// Names of classes that a caption lists at most.
const LISTED: usize = 20;

fn class_caption(classes: &ClassImages) -> String {
    let (noises, which, from) = match classes.class_a_row {
        true => ("a column", "a row", "from the top"),
        false => ("a row", "a column", "from the left"),
    };
    let names = match &classes.names[..] {
        [] => String::new(),
        names if names.len() > LISTED => String::new(),
        names => format!(" Classes {from}: {}.", names.join(", ")),
    };
    format!(
        "One noise {noises}, one class {which}: what the class decides, and what the noise \
         does.{names}"
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use kdm_analysis::ClusterConfig;

    #[test]
    fn classes_are_named_where_they_lie() {
        let names = ["disc", "ring"].map(String::from).to_vec();
        let rows = ImageRows { columns: 12, images: Vec::new() };
        let classes = ClassImages { rows, class_a_row: true, names };
        let caption = class_caption(&classes);
        assert!(caption.contains("one class a row"), "{caption}");
        assert!(caption.ends_with("Classes from the top: disc, ring."), "{caption}");
        let other = ClassImages { class_a_row: false, names: Vec::new(), ..classes };
        assert!(class_caption(&other).ends_with("what the noise does."));
    }

    #[test]
    fn points_and_images_have_their_figures() {
        let clusters = PointClusters {
            cluster: vec![Some(0), None, Some(1)],
            colour: vec![Some(0), None, Some(1)],
            outlier: vec![false, false, true],
            sizes: vec![1, 1],
            outliers: 1,
            config: ClusterConfig::default(),
        };
        let found = groups(&clusters, &[1.0, 1.0, 2.0, 2.0, 3.0, 3.0]);
        assert_eq!((found[0].points.len(), found[1].points.len()), (1, 2));
        assert_eq!(found[1].mark, Mark::Crosses);
        let points =
            PointGallery { teacher: None, student: vec![0.5; 8], noise: vec![0.25; 6], clusters };
        let section = sample_section(&Gallery { points: Some(points), images: None });
        let titles: Vec<&str> = section.figures.iter().map(|f| f.title.as_str()).collect();
        assert_eq!(titles, ["Student", "Outputs by cluster", "Noise by cluster"]);
        assert_eq!(section.tables[0].rows[1][1], "1 of 3");

        let rows = || Some(ImageRows { columns: 2, images: vec![0.0; 8] });
        let images = ImageGallery {
            shape: vec![1, 1, 2],
            teacher: Some(vec![0.0; 8]),
            student: vec![0.0; 8],
            classes: None,
            between_noises: rows(),
            between_latents: rows(),
        };
        let gallery = Gallery { points: None, images: Some(images.clone()) };
        let section = sample_section(&gallery);
        let titles: Vec<&str> = section.figures.iter().map(|f| f.title.as_str()).collect();
        assert_eq!(titles, ["Teacher", "Student", "Between noises", "Between latents"]);
        // A teacher is told of where there is one.
        assert!(section.figures[1].caption.contains("teacher"));
        let alone = ImageGallery { teacher: None, ..images.clone() };
        let section = sample_section(&Gallery { points: None, images: Some(alone) });
        assert!(section.figures.iter().all(|figure| !figure.caption.contains("teacher")));
        // Four channels are no picture.
        let images = ImageGallery { shape: vec![4, 1, 2], ..images };
        assert!(sample_section(&Gallery { points: None, images: Some(images) }).is_empty());
    }
}
