//! Metrics as a table.

use kdm_metrics::Values;

use crate::Table;
use crate::format::significant;

/// A table of metrics in the catalog's order: each row a metric's key, its value, and how to read
/// it.
pub fn metric_table(title: &str, values: &Values) -> Table {
    let row = |(metric, value): (&kdm_metrics::catalog::Metric, f64)| {
        let unit = match metric.unit {
            "" => String::new(),
            unit => format!(" [{unit}]"),
        };
        [metric.key.to_string(), significant(value), format!("{}{unit}", metric.reading)]
    };
    Table::of(title, values.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_metrics::catalog;

    #[test]
    fn rows_stand_in_the_catalogs_order() {
        let values = Values::from_iter([(&catalog::PSNR, 12.0), (&catalog::RMSE, 0.5)]);
        let table = metric_table("Evaluation", &values);
        assert_eq!(table.rows[0][..2], ["rmse", "0.5000"]);
        assert!(table.rows[1][2].ends_with("[dB]"), "{:?}", table.rows[1]);
        assert!(table.text().starts_with("rmse"));
    }
}
