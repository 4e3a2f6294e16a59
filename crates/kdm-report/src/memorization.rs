//! Nearest training images: whether samples are new.

use kdm_analysis::Memorization;

use crate::{Figure, Section, grid, value_table};

/// The section on memorization.
pub fn memorization_section(found: &Memorization) -> Section {
    let title = "Nearest training images";
    let near = &found.nearest;
    let figure = || {
        let caption = format!(
            "Samples in the first row; below each the training images nearest to it in the feature \
             space of `{}`, nearest first. A sample that equals the image below it is a copy.",
            near.features
        );
        Figure::new(title, grid::png(&near.images, &near.shape, near.samples), caption)
    };
    Section {
        figures: grid::shows(&near.shape).then(figure).into_iter().collect(),
        tables: vec![value_table(title, &found.values())],
        ..Section::new("Memorization")
    }
}
