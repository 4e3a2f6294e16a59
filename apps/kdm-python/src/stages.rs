//! The functions of the package: `distill`, `evaluate`, `analyze`, and what is about them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kdm::data::output::check_folder;
use kdm::experiment::PRESETS;
use kdm::metrics::MetricGroup;
use kdm::runtime::Machine;
use kdm::stages::analyze::{AnalysisRequest, write_analysis};
use kdm::stages::begin_distill::DistillRequest;
use kdm::stages::evaluate::{DEFAULT_GROUPS, EvaluationRequest};
use kdm::train::read_metrics;
use kdm::{Outcome, analysis, assets};
use pyo3::prelude::*;
use serde_json::json;

use crate::arguments::{self, Model, ModelSource, Pairs};
use crate::arrays::plain;
use crate::errors::{given, usage};
use crate::student::Student;
use crate::work::{Watching, work};

/// Distills a student from stored pairs, in the folder `out`, as `kdm distill` does.
///
/// The experiment is a preset's name, a TOML file, or a dictionary that says what a file would,
/// over the preset or file that it names as its "base":
///
///     {"base": "checkerboard", "train": {"iterations": 2000, "lr": 1e-3}}
///
/// `on_progress` is called with a `Progress` some times a second. Ctrl-C, or an exception of
/// `on_progress`, stops the training at its next iteration and leaves a checkpoint; `resume=True`
/// goes on from it, and ends in the bytes of a training that was never stopped. `init_from` is a
/// student whose weights the new one begins with, where they fit.
#[pyfunction]
#[pyo3(signature = (
    pairs, experiment, *, out, resume=false, init_from=None, on_progress=None,
    checkpoint_minutes=5.0
))]
pub fn distill(
    py: Python<'_>,
    pairs: Pairs<'_>,
    experiment: &Bound<'_, PyAny>,
    out: PathBuf,
    resume: bool,
    init_from: Option<PathBuf>,
    on_progress: Option<&Bound<'_, PyAny>>,
    checkpoint_minutes: f64,
) -> PyResult<Student> {
    if !(0.0..=1e6).contains(&checkpoint_minutes) {
        let problem = format!("checkpoint_minutes {checkpoint_minutes}: give 0 or more");
        given(py, Err(usage(problem)))?;
    }
    let experiment = arguments::experiment(experiment)?;
    let keep_every = Duration::from_secs_f64(60.0 * checkpoint_minutes);
    let watching = Watching { on_progress, keep_every };
    let pairs = pairs.source().folder().to_path_buf();
    let student = work(py, &watching, |context| {
        experiment.check_fits(Machine::of(&out), &["student"])?;
        let request = DistillRequest {
            experiment: &experiment,
            pairs: &pairs,
            init_from: init_from.as_deref(),
            out: &out,
            resume,
        };
        let (student, held) = request.begin(context)?.run(context);
        match held {
            Some(folder) => folder.after(student),
            None => student,
        }
    })?;
    Student::open(py, student)
}

/// Measures a student on all pairs of a store, as `kdm evaluate --json` does.
///
/// `metrics` are some of "losses", "paired", "distribution" and "features"; all but the last unless
/// given. Features need a network, `features`, and what they are compared with, `reference`.
#[pyfunction]
#[pyo3(signature = (
    student, pairs, *, metrics=None, data=None, directions=256, features=None, reference=None,
    lpips=None, loss_features=None, discriminator=None, on_progress=None
))]
pub fn evaluate<'py>(
    py: Python<'py>,
    student: Model<'py>,
    pairs: Pairs<'py>,
    metrics: Option<Vec<String>>,
    data: Option<String>,
    directions: usize,
    features: Option<PathBuf>,
    reference: Option<PathBuf>,
    lpips: Option<PathBuf>,
    loss_features: Option<PathBuf>,
    discriminator: Option<PathBuf>,
    on_progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let groups = match metrics {
        None => DEFAULT_GROUPS.to_vec(),
        Some(names) => given(py, groups(&names))?,
    };
    let reference = reference.map(|source| source.to_string_lossy().into_owned());
    let request = EvaluationRequest {
        groups: &groups,
        data: data.as_deref(),
        directions,
        lpips: lpips.as_deref(),
        loss_features: loss_features.as_deref(),
        discriminator: discriminator.as_deref(),
        features: features.as_deref(),
        reference: reference.as_deref(),
    };
    let (model, pairs) = (student.source(), pairs.source());
    let found = work(py, &Watching::by(on_progress), |context| {
        request.check()?;
        model.with(context.runtime, |student| {
            let store = pairs.open(context.observer)?;
            request.open(student, &store, context)?.measure(context)
        })
    })?;
    plain(py, &found.json())
}

fn groups(names: &[String]) -> Outcome<Vec<MetricGroup>> {
    let known = || MetricGroup::ALL.map(MetricGroup::name).join(", ");
    let group = |name: &String| {
        let problem = || usage(format!("metrics: no group `{name}`; give some of {}", known()));
        MetricGroup::by_name(name).ok_or_else(problem)
    };
    names.iter().map(group).collect()
}

/// Looks into a student and gives what `kdm analyze --json` does: the operator's spectrum, its
/// modes and what each carries, truncation, clusters, and more.
///
/// Noise is that of the first pairs of a store, or of the seeds 0, 1, ...: of as many as
/// `samples`, 10 000 unless given. A folder `out` gets the report with its figures.
#[pyfunction]
#[pyo3(signature = (
    student, *, pairs=None, out=None, samples=None, features=None, reference=None,
    neighbours=None, teacher=None, on_progress=None
))]
pub fn analyze<'py>(
    py: Python<'py>,
    student: Model<'py>,
    pairs: Option<Pairs<'py>>,
    out: Option<PathBuf>,
    samples: Option<usize>,
    features: Option<PathBuf>,
    reference: Option<PathBuf>,
    neighbours: Option<PathBuf>,
    teacher: Option<PathBuf>,
    on_progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    const MOST: usize = 10_000_000;
    if let Some(samples) = samples.filter(|samples| !(1..=MOST).contains(samples)) {
        given(py, Err(usage(format!("samples {samples}: give 1 to {MOST}"))))?;
    }
    let text = |source: Option<PathBuf>| source.map(|s| s.to_string_lossy().into_owned());
    let (reference, neighbours, teacher) = (text(reference), text(neighbours), text(teacher));
    let pairs = pairs.map(|pairs| pairs.source().folder().to_path_buf());
    let request = AnalysisRequest {
        pairs: pairs.as_deref(),
        samples,
        clusters: analysis::ClusterConfig::default(),
        features: features.as_deref(),
        reference: reference.as_deref(),
        neighbours: neighbours.as_deref(),
        teacher: teacher.as_deref(),
    };
    let model = student.source();
    let found = work(py, &Watching::by(on_progress), |context| {
        let read = match &model {
            ModelSource::Named(path) => Some(*path),
            ModelSource::Loaded(student) => Some(student.path.as_path()),
        };
        if let Some(out) = &out {
            let inputs = [read, request.pairs, request.neighbours.map(Path::new)];
            check_folder(out, &assets::paths(&inputs))?;
        }
        model.with(context.runtime, |student| {
            let opened = request.open(student, context)?;
            let found = opened.run(out.as_deref(), context)?;
            if let Some(out) = &out {
                write_analysis(student, &found, out, context)?;
            }
            Ok(found)
        })
    })?;
    plain(py, &found.json())
}

/// The names of the presets.
#[pyfunction]
pub fn presets() -> Vec<&'static str> {
    PRESETS.iter().map(|(name, _)| *name).collect()
}

/// Every value of an experiment, as `distill` takes it.
#[pyfunction]
pub fn experiment<'py>(experiment: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = experiment.py();
    plain(py, &json!(arguments::experiment(experiment)?))
}

/// The rows of a training's log, for curves: the folder is that of `distill`.
#[pyfunction]
pub fn training_log(py: Python<'_>, folder: PathBuf) -> PyResult<Bound<'_, PyAny>> {
    let rows = given(py, read_metrics(&folder).map_err(Into::into))?;
    plain(py, &json!(rows))
}
