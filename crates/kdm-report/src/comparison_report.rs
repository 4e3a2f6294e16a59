//! Students of different kinds and their teacher, side by side.

use kdm_analysis::ComparisonRow;
use kdm_metrics::catalog::{self, Metric};

use crate::{Figure, Section, Table, grid};

/// Images of a figure, and how many stand side by side.
const IMAGES: usize = 40;
const COLUMNS: usize = 20;

/// Metrics in the table, where they were measured.
static METRICS: [&Metric; 11] = [
    &catalog::COORDINATE_RMSE,
    &catalog::SSIM,
    &catalog::SLICED_WASSERSTEIN2,
    &catalog::FID,
    &catalog::FEATURE_FID,
    &catalog::PRECISION,
    &catalog::RECALL,
    &catalog::FEATURE_PRECISION,
    &catalog::FEATURE_RECALL,
    &catalog::CLASS_AGREEMENT,
    &catalog::CLASS_SAME_AS_TEACHER,
];

/// The section of a comparison, of samples of `shape`.
pub fn comparison_section(rows: &[ComparisonRow], shape: &[usize]) -> Section {
    let dim: usize = shape.iter().product();
    let caption = "Samples from the same noise and labels as in the other figures, place by place.";
    let figure = |row: &ComparisonRow| {
        let some = &row.images[..row.images.len().min(IMAGES * dim)];
        Figure::of_pixels(row.name.as_str(), grid::png(some, shape, COLUMNS), caption)
    };
    let shown = rows.iter().filter(|row| grid::shows(shape) && !row.images.is_empty());
    Section {
        figures: shown.map(figure).collect(),
        tables: vec![comparison_table(rows)],
        ..Section::new("Comparison")
    }
}

/// The rows as a table.
pub fn comparison_table(rows: &[ComparisonRow]) -> Table {
    let measured = |metric: &Metric| rows.iter().any(|row| row.values.get(metric).is_some());
    let metrics: Vec<&Metric> = METRICS.into_iter().filter(|metric| measured(metric)).collect();
    let mut columns = vec!["", "passes", "parameters", "iterations", "ms a sample"];
    columns.extend(metrics.iter().map(|metric| metric.label));
    let cells = |row: &ComparisonRow| {
        let given = [
            row.name.clone(),
            row.passes.to_string(),
            row.parameters.map(|n| format!("{:.2} M", n as f64 / 1e6)).unwrap_or_default(),
            row.iterations.map(|n| n.to_string()).unwrap_or_default(),
            format!("{:.2}", row.milliseconds),
        ];
        let metric = |metric: &&Metric| {
            row.values.get(metric).map(|x| format!("{x:.3}")).unwrap_or_default()
        };
        given.into_iter().chain(metrics.iter().map(metric)).collect()
    };
    Table::with_columns("Comparison", &columns, rows.iter().map(cells).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_metrics::Values;

    #[test]
    fn tables_show_what_was_measured() {
        let row = |name: &str, fid| ComparisonRow {
            name: name.into(),
            passes: 1,
            parameters: Some(1_500_000),
            flops: None,
            iterations: None,
            milliseconds: 2.0,
            values: Values::from_iter([(&catalog::FEATURE_FID, fid)]),
            images: vec![0.0; 4],
        };
        let rows = [row("a", 1.0), row("b", 2.5)];
        let text = comparison_table(&rows).markdown();
        assert!(text.contains("| feature FID |") && !text.contains("| FID |"), "{text}");
        assert!(text.contains("| b | 1 | 1.50 M |  | 2.00 | 2.500 |"), "{text}");
        assert_eq!(comparison_section(&rows, &[1, 2, 2]).figures.len(), 2);
        assert_eq!(comparison_section(&rows, &[4]).figures.len(), 0);
    }
}
