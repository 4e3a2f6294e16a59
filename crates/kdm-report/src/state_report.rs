//! States between noise and image beside the teacher's, and a generator's rates.

use kdm_analysis::StatePath;
use kdm_analysis::states::Rate;

use crate::plot::{Axis, Panel, Plot, Series};
use crate::{Figure, Table, grid};

/// Rates in the table.
const RATES: usize = 12;

/// Frequencies over rates.
pub fn rate_figure(rates: &[Rate]) -> Figure {
    let points = rates.iter().map(|r| (r.rate, r.turns)).collect();
    let caption = "The generator's coordinates: the rate at which each shrinks from noise to image \
                   (horizontal) and how often it turns meanwhile (vertical). What is far to the \
                   right is forgotten on the way.";
    let panel = Panel {
        title: String::new(),
        x: Axis::linear("rate (1 over the way from noise to image)"),
        y: Axis::linear("turns from noise to image"),
        square: true,
        series: vec![Series::dots(points, 0)],
    };
    Figure::new("Rates and frequencies", Plot { panels: vec![panel] }, caption)
}

/// The slowest rates.
pub fn rate_table(rates: &[Rate]) -> Table {
    let rows = rates.iter().take(RATES).enumerate().map(|(place, rate)| {
        vec![
            (place + 1).to_string(),
            format!("{:.4}", rate.rate),
            format!("{:.4}", rate.turns),
            format!("{:.4}", (-rate.rate).exp()),
        ]
    });
    let columns = ["", "rate", "turns from noise to image", "left at the image"];
    Table::with_columns("Slowest coordinates of the generator", &columns, rows.collect())
}

/// Distances to the teacher's states, time by time.
pub fn state_table(path: &StatePath) -> Table {
    let from_states = path.times.iter().any(|time| time.image.is_some());
    let mut columns =
        vec!["time (0 noise, 1 image)", "decoded by the student", "straight line to its sample"];
    columns.extend(from_states.then_some("image from the teacher's state, to that from the noise"));
    let rows = path.times.iter().map(|time| {
        let mut cells = vec![
            format!("{:.3}", time.tau),
            format!("{:.4}", time.decoded),
            format!("{:.4}", time.straight),
        ];
        cells.extend(time.image.map(|image| format!("{image:.4}")));
        cells
    });
    Table::with_columns("Distance to the teacher's states", &columns, rows.collect())
}

/// Decoded states, a sample a row, with the teacher's below.
pub fn state_figure(path: &StatePath, shape: &[usize]) -> Option<Figure> {
    if !grid::shows(shape) {
        return None;
    }
    let dim: usize = shape.iter().product();
    let count = path.decoded.first()?.len() / dim;
    let rows: Vec<f32> = (0..count)
        .flat_map(|i| [&path.decoded, &path.teacher].map(|times| (i, times)))
        .flat_map(|(i, times)| times.iter().flat_map(move |x| &x[i * dim..(i + 1) * dim]))
        .copied()
        .collect();
    let first = path.times.first().map_or(0.0, |time| time.tau);
    let last = path.times.last().map_or(1.0, |time| time.tau);
    let caption = format!(
        "What the student decodes on its way from the noise at normalised times from {first:.2} \
         (left) to {last:.2} (right), for {count} samples; below each the teacher's own states \
         over their scale. The distances in the table are over {} samples.",
        path.samples
    );
    let png = grid::png(&rows, shape, path.times.len());
    Some(Figure::of_pixels("States between noise and image", png, caption))
}
