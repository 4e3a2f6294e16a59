//! The levels of a latent: what each is for.

use kdm_analysis::levels::{Level, LevelAnalysis};

use crate::format::{correlation, percent};
use crate::{Figure, Table, grid};

/// A row for each level, finest first.
pub(crate) fn level_table(found: &LevelAnalysis) -> Table {
    let of_features = found.levels.iter().any(|level| level.features.is_some());
    let of_operator = found.levels.iter().any(|level| level.spectrum.is_some());
    let mut columns = vec!["level", "latent"];
    columns.extend(of_operator.then_some(["eigenvalues", "moduli"]).into_iter().flatten());
    columns.push("correlation with distances of pixels");
    columns.extend(of_features.then_some("of features"));
    columns.extend(["change when exchanged", "of it in means of 4x4 pixels"]);
    let row = |(i, level): (usize, &Level)| {
        let mut cells =
            vec![i.to_string(), format!("{}x{}x{}", level.channels, level.side, level.side)];
        if of_operator {
            let shared = |s: &kdm_analysis::levels::LevelSpectrum| match s.shared_by {
                1 => s.count.to_string(),
                places => format!("{} at each of {places} places", s.count),
            };
            let spectrum = level.spectrum.as_ref();
            cells.push(spectrum.map_or_else(String::new, shared));
            cells.push(spectrum.map_or_else(String::new, |s| {
                format!("at most {:.3}, median {:.3}", s.spectral_radius, s.median_modulus)
            }));
        }
        cells.push(correlation(level.pixels));
        cells.extend(of_features.then(|| correlation(level.features)));
        let exchange = level.exchange;
        cells.push(format!(
            "{:.4} ({} of the deviation)",
            exchange.coordinate_rmse,
            percent(exchange.of_deviation)
        ));
        cells.push(exchange.coarse.map_or_else(String::new, percent));
        cells
    };
    let rows = found.levels.iter().enumerate().map(row).collect();
    Table::with_columns("Levels of the latent", &columns, rows)
}

/// Samples with a level of another one; none for images that can't be shown.
pub(crate) fn level_figure(found: &LevelAnalysis, shape: &[usize]) -> Option<Figure> {
    let caption = format!(
        "A row shows a sample, a second one, and then the first with one level of its latent C z_T \
         taken from the second: level 0, the finest, to level {}, the coarsest. The class stays \
         that of the first.",
        found.levels.len() - 1
    );
    let columns = 2 + found.levels.len();
    let png = || grid::png(&found.images, shape, columns);
    grid::shows(shape).then(|| Figure::of_pixels("Exchanged levels", png(), caption))
}
