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
    Section {
        figures: grid::shows(&near.shape)
            .then(|| Figure::of_pixels(title, png(), caption))
            .into_iter()
            .collect(),
        tables: vec![metric_table(title, &found.values())],
        ..Section::new("Memorization")
    }
}
