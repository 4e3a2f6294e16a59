//! The whole way, from teacher to report.

use std::path::Path;

use kdm_data::atomic;
use kdm_data::pairs::{PairStore, Worker};
use kdm_metrics::catalog::{self, Values};
use kdm_metrics::{FeatureSpace, MeasureOptions, MetricGroup};
use kdm_teacher::{Distribution, Teacher};
use kdm_train::Workers;
use serde_json::json;

use super::distill::{LossFiles, distill, open_loss_network};
use super::evaluate::{LossNetworks, board, evaluate, speed_up};
use super::examine::{ReportInputs, write_run_report};
use super::features::feature_space;
use super::pairs::{Drawing, StorePlan, draw_pairs, open_shared, pair_plan};
use super::teacher::make_teacher;
use crate::run_folder::{EVALUATION, STUDENT, pretty};
use crate::run_time::RunTime;
use crate::student::LoadedStudent;
use crate::{Context, Experiment, Outcome};

/// Test pairs' seeds begin this far behind the training pairs'.
const TEST_SEEDS: u64 = 1 << 40;

/// What all students of an experiment share.
#[derive(Debug)]
pub struct Prepared {
    /// The teacher.
    pub teacher: Teacher,
    /// How its pairs were drawn.
    pub drawing: Drawing,
    /// The pairs to train on, compared with their checksums.
    pub pairs: PairStore,
    /// The pairs to measure by, likewise.
    pub test: PairStore,
}

/// Makes the teacher and draws both stores of pairs in `folder`, or goes on with what is there.
/// Several workers of the runtime draw their shares of the shards.
///
/// # Errors
/// When a stage fails or is stopped; what earlier stages made is kept.
pub fn prepare(experiment: &Experiment, folder: &Path, context: Context) -> Outcome<Prepared> {
    let teacher_folder = folder.join("teacher");
    atomic::create_folder(&teacher_folder)?;
    let teacher = make_teacher(experiment, &teacher_folder, context)?;
    let p = &experiment.pairs;
    let drawing = Drawing::of(experiment, &teacher);
    let draw = |name: &str, task: &str, first_seed: u64, count: usize| -> Outcome<PairStore> {
        let (dtype, shard_size) = (p.dtype, p.shard_size);
        let plan = StorePlan { first_seed, count, dtype, shard_size, states: p.states };
        let plan = pair_plan(&teacher, &drawing, plan)?;
        let place = folder.join(name);
        let (observer, workers) = (context.observer, context.runtime.workers());
        let worker = share_of(workers);
        draw_pairs(&teacher, &plan, &drawing, &place, worker, task, observer)?;
        workers.meet();
        open_shared(&place, context)
    };
    let pairs = draw("pairs", "pairs", p.first_seed, p.count)?;
    let test = draw("pairs-test", "test pairs", p.first_seed.wrapping_add(TEST_SEEDS), p.test)?;
    Ok(Prepared { teacher, drawing, pairs, test })
}

/// What a worker draws of a store.
fn share_of(workers: &dyn Workers) -> Worker {
    Worker { index: workers.rank(), count: workers.size() }
}

/// The whole way, from teacher to report, in `folder`. Gives the evaluation. Several workers of the
/// runtime share the work, and the first one writes and gives all of the evaluation.
///
/// # Errors
/// When a stage fails or is stopped; what earlier stages made is kept.
pub fn run(experiment: &Experiment, folder: &Path, context: Context) -> Outcome<Values> {
    if !context.runtime.workers().leads() {
        let Prepared { pairs, test, .. } = prepare(experiment, folder, context)?;
        let student = distilled_in(experiment, pairs, folder, context)?;
        let options = measure_options(experiment, None);
        return evaluate_with(experiment, &student, &test, &options, context);
    }
    let time = RunTime::go_on(folder, context.observer);
    let context = Context { observer: &time, ..context };
    let Prepared { teacher, drawing, pairs, test } = prepare(experiment, folder, context)?;
    let student = distilled_in(experiment, pairs, folder, context)?;
    let options = measure_options(experiment, feature_space(experiment, context)?);
    let mut values = evaluate_with(experiment, &student, &test, &options, context)?;
    let speed_up = speed_up(&teacher, &drawing, &student, &test, context.observer)?;
    values.insert(&catalog::SPEED_UP, speed_up);
    atomic::write(&folder.join(EVALUATION), pretty(&json!(values)).as_bytes())?;
    let inputs = ReportInputs {
        time: &time,
        experiment,
        teacher: &teacher,
        drawing: &drawing,
        student: &student,
        test: &test,
        values: &values,
        features: options.features.as_ref(),
    };
    write_run_report(&inputs, folder, context)?;
    context.observer.info(&format!("the whole run took {:.0} s", time.seconds()));
    Ok(values)
}

/// What a run measures.
fn measure_options(experiment: &Experiment, features: Option<FeatureSpace>) -> MeasureOptions {
    MeasureOptions {
        groups: MetricGroup::ALL.to_vec(),
        inside: match experiment.distribution() {
            Some(Distribution::Checkerboard(_)) => board("checkerboard"),
            _ => None,
        },
        directions: experiment.evaluate.directions,
        lpips: None,
        features,
    }
}

/// Evaluates the student of a run on its test pairs.
fn evaluate_with(
    experiment: &Experiment,
    student: &LoadedStudent,
    test: &PairStore,
    options: &MeasureOptions,
    context: Context,
) -> Outcome<Values> {
    let (reconstruction, shape) = (student.file.loss.reconstruction, &student.config().shape);
    let files = LossFiles::of(experiment);
    let network = open_loss_network(reconstruction, files, shape, context.device())?;
    let networks = LossNetworks { perceptual: network.map(|n| n.network), discriminator: None };
    evaluate(student, test, options, &networks, context)
}

/// Distills in `folder/distill`, and copies the student to use into `folder`, from where it is
/// opened.
fn distilled_in(
    experiment: &Experiment,
    pairs: PairStore,
    folder: &Path,
    context: Context,
) -> Outcome<LoadedStudent> {
    let place = folder.join("distill");
    atomic::create_folder(&place)?;
    let distilled = distill(experiment, pairs, &place, context)?;
    let path = folder.join(STUDENT);
    if context.runtime.workers().leads() {
        atomic::copy(&distilled, &path)?;
    }
    context.runtime.workers().meet();
    LoadedStudent::open(&path, context.device())
}
