//! Nearest training images: whether samples are new.

use kdm_analysis::Memorization;

use crate::{Figure, Section, grid, metric_table};

/// The section on memorization.
pub fn memorization_section(found: &Memorization) -> Section {
    let title = "Nearest training images";
    let near = &found.nearest;
    let caption = format!(
        "Samples in the first row; below each the training images nearest to it in the feature \
         space of `{}`, nearest first. A sample that equals the image below it is a copy.",
        near.features
    );
    let png = || grid::png(&near.images, &near.shape, near.samples);
    let rows: Vec<(&str, f64, &str)> =
        found.values().into_iter().map(|(key, value)| (key, value, reading(key))).collect();
    Section {
        figures: grid::shows(&near.shape)
            .then(|| Figure::new(title, png(), caption))
            .into_iter()
            .collect(),
        tables: vec![metric_table(title, &rows)],
        ..Section::new("Memorization")
    }
}

fn reading(key: &str) -> &'static str {
    match key {
        "neighbour_distance" => {
            "median distance of a sample to the nearest training image, in feature space"
        }
        "neighbour_distance_test" => "the same of images of the test split",
        _ => {
            "share of samples nearer to a training image than all but 1% of the test split; 0.01 \
             for new images"
        }
    }
}
