//! Curves of trainings, from the rows of their logs.

use serde_json::Value;

use crate::plot::{Axis, Plot, Series};
use crate::{Figure, Section};

/// The section on an experiment's trainings. `student` and `teacher`: rows of their logs, JSON
/// objects with `iteration` and values by names such as "train/loss"; empty for no log.
pub fn training_section(student: &[Value], teacher: &[Value]) -> Section {
    let figures = [distillation_figure(student), spectrum_figure(student), teacher_figure(teacher)];
    Section { figures: figures.into_iter().flatten().collect(), ..Section::new("Training") }
}

/// A student's loss and its terms.
pub fn distillation_figure(rows: &[Value]) -> Option<Figure> {
    let keys = [
        ("train/loss", "training loss"),
        ("train/latent", "latent"),
        ("train/rec", "reconstruction"),
        ("train/push", "push"),
        ("validation/rmse", "validation rmse"),
    ];
    let caption = "The loss and its terms over the training, on a logarithmic axis. The validation \
                   error is on pairs held out, with averaged weights and without latent noise.";
    figure("Distillation", caption, "loss, or rmse", &keys, rows)
}

/// A teacher's loss.
pub fn teacher_figure(rows: &[Value]) -> Option<Figure> {
    let keys = [("train/loss", "training loss"), ("validation/loss", "validation loss")];
    let caption = "Mean squared error of the velocity. It can't reach zero, since a noisy point \
                   may come from many samples. Validation is on fresh samples, with averaged \
                   weights.";
    figure("Teacher training", caption, "loss", &keys, rows)
}

/// The operator's spectrum over its training; none where the log has none.
pub fn spectrum_figure(rows: &[Value]) -> Option<Figure> {
    let named: Vec<(String, String)> = (0..=5)
        .map(|i| 1 << (2 * i))
        .map(|k: usize| (format!("validation/modulus_{k}"), format!("k = {k}")))
        .collect();
    let keys: Vec<(&str, &str)> =
        named.iter().map(|(key, name)| (key.as_str(), name.as_str())).collect();
    let caption = "Moduli of the averaged operator's eigenvalues over the training: the largest, \
                   the 4th, 16th, 64th, ... by size. The further the curves spread, the fewer \
                   directions the operator keeps.";
    figure("Spectrum through training", caption, "modulus of the k-th eigenvalue", &keys, rows)
}

/// Curves of the values with these keys, each with its name in the legend; none where there is
/// nothing to draw. `values`: what the vertical axis shows.
pub fn figure(
    title: &str,
    caption: &str,
    values: &str,
    keys: &[(&str, &str)],
    rows: &[Value],
) -> Option<Figure> {
    let point = |row: &Value, key: &str| Some((row["iteration"].as_f64()?, row[key].as_f64()?));
    let curve = |(key, name): &(&str, &str)| {
        Series::line(*name, rows.iter().filter_map(|row| point(row, key)).collect())
    };
    let plot = Plot::curves(
        Axis::linear("iteration"),
        Axis::log10(values),
        keys.iter().map(curve).collect(),
    );
    plot.map(|plot| Figure::new(title, plot, caption))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_logged_is_drawn() {
        let student = [
            json!({"iteration": 1, "train/loss": 1.0}),
            json!({"iteration": 2, "train/loss": null}),
            json!({"iteration": 2, "validation/modulus_1": 0.9}),
        ];
        let section = training_section(&student, &[]);
        let titles: Vec<&str> = section.figures.iter().map(|f| f.title.as_str()).collect();
        assert_eq!(titles, ["Distillation", "Spectrum through training"]);
        assert!(training_section(&[], &[]).is_empty());
    }
}
