//! Students of different kinds on the same pairs for the same compute, beside their teacher at many
//! steps and at few.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use kdm_data::atomic;
use kdm_koopman::sampler::one_hot;
use kdm_report::{Figure, Report, Table, grid};
use kdm_teacher::{Guided, Solver, solve};
use serde::Serialize;
use serde_json::json;

use crate::evaluation::{Beside, LossNetworks, Measuring, MetricGroup, measure};
use crate::pipeline::{
    Drawing, LoadedStudent, Prepared, distill, feature_setting, prepare, pretty,
};
use crate::{Experiment, Outcome};

/// The results, in a comparison's folder.
pub const COMPARISON: &str = "comparison.json";

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// A student's name, or the teacher's solver and steps.
    pub name: String,
    /// Network passes a sample.
    pub passes: usize,
    /// Numbers in the weights; none for the teacher.
    pub parameters: Option<usize>,
    /// Floating-point operations a sample; none for the teacher.
    pub flops: Option<f64>,
    /// Iterations of the training; none for the teacher.
    pub iterations: Option<u64>,
    /// Milliseconds a sample, in this run on this machine.
    pub milliseconds: f64,
    /// The metrics.
    pub values: BTreeMap<String, f64>,
}

/// The teacher's solvers with few steps.
const FEW: [(Solver, usize); 5] = [
    (Solver::Heun, 5),
    (Solver::Heun, 3),
    (Solver::Heun, 2),
    (Solver::Euler, 2),
    (Solver::Euler, 1),
];
/// Images in a figure.
const SHOWN: usize = 40;
const COLUMNS: usize = 20;

/// Runs a comparison in `folder`; finished students are kept and not trained again.
///
/// # Errors
/// When a stage fails.
pub fn compare(experiment: &Experiment, folder: &Path) -> Outcome<Vec<Row>> {
    let variants = experiment.variants()?;
    let Prepared { teacher, drawing, pairs, test } = prepare(experiment, folder)?;
    let manifest = test.manifest().clone();
    let noisy = test.range(0..test.len());
    let labels = one_hot(&noisy.labels, manifest.label_dim);
    let sized =
        experiment.student_config(manifest.shape.clone(), manifest.label_dim, manifest.noise_std);
    let measuring = Measuring {
        groups: vec![MetricGroup::Paired, MetricGroup::Distribution, MetricGroup::Features],
        board: false,
        directions: experiment.evaluate.directions,
        networks: LossNetworks::default(),
        lpips: None,
        features: feature_setting(experiment)?,
    };
    let beside = Beside::new(&measuring, &sized, &noisy);
    let mut rows = Vec::new();
    let mut figures = Vec::new();
    let mut show = |name: &str, drawn: &[f32]| {
        if grid::shows(&manifest.shape) {
            let some = &drawn[..drawn.len().min(SHOWN * sized.dim())];
            let caption =
                "Samples from the same noise and labels as in the other pictures, place by place.";
            let png = grid::png(some, &manifest.shape, COLUMNS);
            figures.push(Figure { title: name.into(), png, caption: caption.into() });
        }
    };

    let x: Vec<f64> = noisy.noise.iter().map(|x| f64::from(*x)).collect();
    let guided = Guided { denoiser: &teacher, weight: drawing.guidance };
    for (solver, steps) in [(drawing.solver, drawing.steps)].into_iter().chain(FEW) {
        let stored = (solver, steps) == (drawing.solver, drawing.steps);
        let started = Instant::now();
        // The stored samples are timed on a part.
        let part = if stored { x.len().min(64 * sized.dim()) } else { x.len() };
        let label_part = &labels[..part / sized.dim() * manifest.label_dim];
        let drawn = solve(&guided, &drawing.process, solver, steps, x[..part].to_vec(), label_part);
        let milliseconds = 1e3 * started.elapsed().as_secs_f64() / (part / sized.dim()) as f64;
        let drawn: Vec<f32> = if stored {
            noisy.images.clone()
        } else {
            drawn.into_iter().map(|x| x as f32).collect()
        };
        let name = format!("teacher {} {steps}", json!(solver).as_str().unwrap_or_default());
        show(&name, &drawn);
        let passes = Drawing { solver, steps, ..drawing.clone() }.evaluations(manifest.label_dim);
        let values = measure(&drawn, &beside, &measuring)?;
        rows.push(Row {
            name,
            passes,
            parameters: None,
            flops: None,
            iterations: None,
            milliseconds,
            values,
        });
    }
    for variant in &variants {
        let place = folder.join("variants").join(&variant.name);
        atomic::create_folder(&place)?;
        tracing::info!("{}: {} iterations", variant.name, variant.train.iterations);
        let student = LoadedStudent::open(&distill(variant, &pairs, &place)?)?;
        let started = Instant::now();
        let drawn = student.sampler.sample(&noisy.noise, &labels);
        let milliseconds = 1e3 * started.elapsed().as_secs_f64() / test.len() as f64;
        show(&variant.name, &drawn);
        let config = &student.file.student;
        rows.push(Row {
            name: variant.name.clone(),
            passes: 1,
            parameters: Some(config.parameters()),
            flops: Some(config.flops(false, true)),
            iterations: Some(variant.train.iterations),
            milliseconds,
            values: measure(&drawn, &beside, &measuring)?,
        });
    }
    atomic::write(&folder.join(COMPARISON), pretty(&json!(rows)).as_bytes())?;
    let report = Report {
        title: format!("kdm: {}", experiment.name),
        summary: format!(
            "{} students trained on the same {} pairs, each for the floating-point operations of {} iterations of the \
             first configuration, beside their teacher. Numbers are on {} test pairs.",
            variants.len(),
            experiment.pairs.count,
            experiment.train.iterations,
            test.len()
        ),
        figures,
        tables: vec![table(&rows)],
        config: experiment.to_toml(),
    };
    atomic::write(&folder.join("report.html"), report.html().as_bytes())?;
    Ok(rows)
}

/// Metrics shown in the table, where they were measured, and their headings.
const SHOWN_METRICS: [(&str, &str); 11] = [
    ("coordinate_rmse", "rmse"),
    ("ssim", "ssim"),
    ("sliced_wasserstein2", "sw2"),
    ("fid", "FID"),
    ("feature_fid", "feature FID"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("feature_precision", "precision"),
    ("feature_recall", "recall"),
    ("class_agreement", "class"),
    ("class_same_as_teacher", "same class"),
];

/// The rows as a table.
pub fn table(rows: &[Row]) -> Table {
    let metrics: Vec<(&str, &str)> = SHOWN_METRICS
        .into_iter()
        .filter(|(key, _)| rows.iter().any(|row| row.values.contains_key(*key)))
        .collect();
    let headings = ["", "passes", "parameters", "iterations", "ms a sample"].into_iter();
    let cells = |row: &Row| {
        let given = [
            row.name.clone(),
            row.passes.to_string(),
            row.parameters.map(|n| format!("{:.2} M", n as f64 / 1e6)).unwrap_or_default(),
            row.iterations.map(|n| n.to_string()).unwrap_or_default(),
            format!("{:.2}", row.milliseconds),
        ];
        let metric = |(key, _): &(&str, &str)| {
            row.values.get(*key).map(|x| format!("{x:.3}")).unwrap_or_default()
        };
        given.into_iter().chain(metrics.iter().map(metric)).collect()
    };
    Table {
        title: "Comparison".into(),
        columns: headings
            .chain(metrics.iter().map(|(_, heading)| *heading))
            .map(String::from)
            .collect(),
        rows: rows.iter().map(cells).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_show_what_was_measured() {
        let row = |name: &str, fid| Row {
            name: name.into(),
            passes: 1,
            parameters: Some(1_500_000),
            flops: None,
            iterations: None,
            milliseconds: 2.0,
            values: BTreeMap::from([("feature_fid".to_string(), fid)]),
        };
        let text = table(&[row("a", 1.0), row("b", 2.5)]).markdown();
        assert!(text.contains("| feature FID |") && !text.contains("| FID |"), "{text}");
        assert!(text.contains("| b | 1 | 1.50 M |  | 2.00 | 2.500 |"), "{text}");
    }
}
