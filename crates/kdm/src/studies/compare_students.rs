//! Students of different kinds on the same pairs for the same compute, beside their teacher at many
//! steps and at few.

use std::path::Path;
use std::time::Instant;

use kdm_analysis::ComparisonRow;
use kdm_data::{Samples, atomic};
use kdm_metrics::{MeasureOptions, MetricGroup, TeacherSamples, measure};
use kdm_observer::Observer;
use kdm_report::{Page, comparison_section};
use kdm_teacher::{Solver, Teacher};
use serde_json::json;

use crate::run_folder::{COMPARISON, pretty};
use crate::stages::distill::distill;
use crate::stages::examine::write_report;
use crate::stages::features::feature_space;
use crate::stages::pairs::Drawing;
use crate::stages::run::{Prepared, prepare};
use crate::stages::teacher::draw_from;
use crate::student::LoadedStudent;
use crate::{Context, Experiment, Outcome};

/// The teacher's solvers with few steps.
const FEW: [(Solver, usize); 5] = [
    (Solver::Heun, 5),
    (Solver::Heun, 3),
    (Solver::Heun, 2),
    (Solver::Euler, 2),
    (Solver::Euler, 1),
];
/// Samples that the teacher's stored solver is timed on.
const TIMED: usize = 64;

/// Runs a comparison in `folder`; finished students are kept and not trained again.
///
/// # Errors
/// When a stage fails or is stopped.
pub fn compare(
    experiment: &Experiment,
    folder: &Path,
    context: Context,
) -> Outcome<Vec<ComparisonRow>> {
    let variants = experiment.variants()?;
    let Prepared { teacher, drawing, pairs, test } = prepare(experiment, folder, context)?;
    let samples = test.range(0..test.len());
    let options = MeasureOptions {
        groups: vec![MetricGroup::Paired, MetricGroup::Distribution, MetricGroup::Features],
        inside: None,
        directions: experiment.evaluate.directions,
        lpips: None,
        features: feature_space(experiment, context)?,
    };
    let beside = TeacherSamples::new(&samples, &options, context.observer)?;
    let mut rows = Vec::new();
    for (solver, steps) in [(drawing.solver, drawing.steps)].into_iter().chain(FEW) {
        let few = Drawing { solver, steps, ..drawing.clone() };
        let drawn = TeacherDraws::new(&teacher, &drawing, &few, &samples, context.observer)?;
        let values = measure(&drawn.images, &beside, &options, context.observer)?;
        rows.push(ComparisonRow {
            name: format!("teacher {} {steps}", json!(solver).as_str().unwrap_or_default()),
            passes: few.evaluations(test.manifest().label_dim),
            parameters: None,
            flops: None,
            iterations: None,
            milliseconds: drawn.milliseconds,
            values,
            images: drawn.images,
        });
    }
    for variant in &variants {
        let place = folder.join("variants").join(&variant.name);
        atomic::create_folder(&place)?;
        let iterations = variant.train.iterations;
        context.observer.info(&format!("{}: {iterations} iterations", variant.name));
        let path = distill(variant, pairs.clone(), &place, context)?;
        let student = LoadedStudent::open(&path, context.device())?;
        let started = Instant::now();
        let (noise, labels) = (&samples.noise, &samples.labels);
        let images = student.sampler.sample_observed(noise, labels, context.observer)?;
        let milliseconds = 1e3 * started.elapsed().as_secs_f64() / test.len() as f64;
        rows.push(ComparisonRow {
            name: variant.name.clone(),
            passes: 1,
            parameters: Some(student.config().parameters() as usize),
            flops: Some(student.config().flops(false, true)),
            iterations: Some(iterations),
            milliseconds,
            values: measure(&images, &beside, &options, context.observer)?,
            images,
        });
    }
    atomic::write(&folder.join(COMPARISON), pretty(&json!(rows)).as_bytes())?;
    let page = Page {
        title: experiment.name.clone(),
        summary: format!(
            "{} students trained on the same {} pairs, each for the floating-point operations of \
             {} iterations of the first configuration, beside their teacher. Numbers are on {} \
             test pairs.",
            variants.len(),
            experiment.pairs.count,
            experiment.train.iterations,
            test.len()
        ),
        sections: vec![comparison_section(&rows, &samples.shape)],
        config: experiment.to_toml(),
        ..Page::default()
    };
    write_report(folder, &page, context)?;
    Ok(rows)
}

/// The teacher's samples by one solver.
struct TeacherDraws {
    images: Vec<f32>,
    milliseconds: f64,
}

impl TeacherDraws {
    /// Samples of the stored solver are those of the store; it is timed on a part.
    fn new(
        teacher: &Teacher,
        stored: &Drawing,
        drawing: &Drawing,
        samples: &Samples,
        observer: &dyn Observer,
    ) -> Outcome<Self> {
        let stored = (drawing.solver, drawing.steps) == (stored.solver, stored.steps);
        let part = if stored { samples.first(TIMED) } else { samples.clone() };
        let started = Instant::now();
        let drawn = draw_from(teacher, drawing, &part, observer)?;
        let milliseconds = 1e3 * started.elapsed().as_secs_f64() / part.len() as f64;
        let images = if stored { samples.images.clone() } else { drawn };
        Ok(Self { images, milliseconds })
    }
}
