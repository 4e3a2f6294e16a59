//! Metrics as a table.

use crate::Table;
use crate::format::significant;

/// A table of metrics: each row a metric's key, its value, and how to read it.
pub fn metric_table(title: &str, rows: &[(&str, f64, &str)]) -> Table {
    let row = |(key, value, reading): &(&str, f64, &str)| {
        [(*key).to_string(), significant(*value), (*reading).to_string()]
    };
    Table::of(title, rows.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_order() {
        let table = metric_table("Evaluation", &[("rmse", 0.5, "an error"), ("fid", 12.0, "f")]);
        assert_eq!(table.rows[1], ["fid", "12.00", "f"]);
        assert!(table.text().starts_with("rmse"));
    }
}
