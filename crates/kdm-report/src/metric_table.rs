//! Metrics as a table.

use kdm_metrics::Values;

use crate::Table;
use crate::format::significant;

/// A table of metrics: each row a metric's key, its value, and how to read it.
pub fn metric_table(title: &str, rows: &[(&str, f64, &str)]) -> Table {
    let row = |(key, value, reading): &(&str, f64, &str)| {
        [(*key).to_string(), significant(*value), (*reading).to_string()]
    };
    Table::of(title, rows.iter().map(row).collect())
}

/// Values of the catalog as a table, in the catalog's order, with units beside the readings.
pub fn value_table(title: &str, values: &Values) -> Table {
    let readings: Vec<String> = values
        .iter()
        .map(|(metric, _)| match metric.unit {
            "" => metric.reading.to_string(),
            unit => format!("{} ({unit})", metric.reading),
        })
        .collect();
    let rows: Vec<(&str, f64, &str)> = values
        .iter()
        .zip(&readings)
        .map(|((metric, value), reading)| (metric.key, value, reading.as_str()))
        .collect();
    metric_table(title, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_metrics::catalog;

    #[test]
    fn rows_keep_their_order() {
        let table = metric_table("Evaluation", &[("rmse", 0.5, "an error"), ("fid", 12.0, "f")]);
        assert_eq!(table.rows[1], ["fid", "12.00", "f"]);
        assert!(table.text().starts_with("rmse"));
    }

    #[test]
    fn values_are_read_as_the_catalog_says() {
        let values = Values::from_iter([(&catalog::PSNR, 31.5), (&catalog::RMSE, 0.25)]);
        let table = value_table("Evaluation", &values);
        assert_eq!(table.rows[0], ["rmse", "0.2500", catalog::RMSE.reading]);
        assert!(table.rows[1][2].ends_with("(dB)"), "{table:?}");
    }
}
