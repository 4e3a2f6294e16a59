//! A student looked into, and its report: what `kdm-analysis` and `kdm-report` need is read here,
//! and what they make is written.

use std::path::{Path, PathBuf};

use kdm_analysis::clusters::ModeOf;
use kdm_analysis::gallery::PointClustering;
use kdm_analysis::memorization::{KnownImages, MEASURED};
use kdm_analysis::states::STATE_SAMPLES;
use kdm_analysis::trajectory::{SAMPLES, TIMES};
use kdm_analysis::{
    Analysis, ClusterConfig, KnownStates, KnownTeacher, Memorization, Subject, TeacherPath,
    memorization,
};
use kdm_data::pairs::PairStore;
use kdm_data::{Samples, Split, atomic};
use kdm_metrics::FeatureSpace;
use kdm_metrics::catalog::Values;
use kdm_metrics::{Extractor, Statistics};
use kdm_report::{
    Page, RunFacts, Section, analysis_sections, metric_table, run_headline, training_section,
};
use kdm_teacher::{Denoiser, Distribution, Process, Teacher, state_time, trajectory};
use kdm_train::{METRICS, read_metrics};
use serde_json::Value;

use super::images::open_images;
use super::pairs::Drawing;
use crate::experiment::TeacherKind;
use crate::run_folder::{CONFIG, REPORT, STUDENT};
use crate::run_time::RunTime;
use crate::student::LoadedStudent;
use crate::{Context, Experiment, Outcome};

/// What a student is looked into with.
#[derive(Clone, Copy, Debug)]
pub struct ExamineInputs<'a> {
    /// The student.
    pub student: &'a LoadedStudent,
    /// Noise and labels, and the teacher's samples from them where they are known.
    pub samples: &'a Samples,
    /// The network that turns images into features.
    pub extractor: Option<&'a Extractor>,
    /// The data set's features.
    pub reference: Option<&'a Statistics>,
    /// The data set's name, or empty.
    pub data: &'a str,
    /// The distribution that points should follow, where it is known.
    pub distribution: Option<&'a Distribution>,
    /// How points in the plane are sorted into clusters, and how many of them.
    pub clusters: (ClusterConfig, usize),
    /// The teacher, to follow it from noise to image.
    pub teacher: Option<(&'a Teacher, &'a Process)>,
    /// The teacher's states on the way from the samples' noise; none where they aren't known, and
    /// then those that the teacher is followed by.
    pub states: Option<&'a KnownStates>,
}

/// Looks into a student.
///
/// # Errors
/// When the operator has values that are not finite, features can't be compared, or the observer
/// stops it.
pub fn examine(inputs: &ExamineInputs, context: Context) -> Outcome<Analysis> {
    let ExamineInputs { student, samples, .. } = *inputs;
    let class_names = student.class_names();
    let subject = Subject {
        student: &student.student,
        config: student.config(),
        sampler: &student.sampler,
        device: context.device(),
        samples,
        extractor: inputs.extractor,
        reference: inputs.reference,
        data: inputs.data,
        class_names: &class_names,
    };
    let wide = |row: &[f32]| row.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
    let distribution = inputs.distribution;
    let mode_of = move |row: &[f32]| distribution.and_then(|d| d.mode_of(&wide(row)));
    let (config, clustered) = inputs.clusters;
    let clustering = PointClustering {
        config,
        samples: clustered,
        mode_of: distribution.is_some().then_some(&mode_of as ModeOf),
    };
    // Only students of images are followed.
    let path = (inputs.teacher)
        .filter(|_| student.student.koopman().is_some() && samples.shape.len() == 3)
        .map(|(teacher, process)| teacher_path(teacher, process, samples));
    let of_path = path.as_ref().zip(inputs.teacher).map(|(path, (_, process))| KnownStates {
        // Not the noise, which is where the way begins.
        times: path.times[1..].iter().map(|t| state_time(process, *t)).collect(),
        states: path.states[1..].to_vec(),
    });
    let known = KnownTeacher { path: path.as_ref(), states: inputs.states.or(of_path.as_ref()) };
    Ok(kdm_analysis::analyze(&subject, &clustering, known, context.observer)?)
}

/// The first pairs of a store with their states, as far as it keeps them.
pub(super) fn stored_states(store: &PairStore) -> Option<KnownStates> {
    let times = &store.manifest().states;
    if times.is_empty() {
        return None;
    }
    let first: Vec<usize> = store.part().take(STATE_SAMPLES).collect();
    KnownStates::of(&store.batch_with_states(&first), times)
}

/// What the teacher's solver passes through from the noise of the first samples.
pub fn teacher_path(teacher: &dyn Denoiser, process: &Process, samples: &Samples) -> TeacherPath {
    let few = samples.first(SAMPLES);
    let x = few.noise.iter().map(|x| f64::from(*x)).collect();
    let way = trajectory(teacher, process, TIMES, x, &few.labels);
    let scaled = |time: f64, x: &[f64]| -> Vec<f32> {
        let level = process.level(time);
        let scale = (level.alpha.powi(2) + level.sigma.powi(2)).sqrt();
        x.iter().map(|x| (x / scale) as f32).collect()
    };
    TeacherPath {
        times: way.iter().map(|point| point.time).collect(),
        states: way.iter().map(|point| scaled(point.time, &point.x)).collect(),
        denoised: way
            .iter()
            .map(|point| point.denoised.iter().map(|x| *x as f32).collect())
            .collect(),
    }
}

/// The images of the data set `source` that are nearest to the student's samples, to go into
/// [`Analysis::memorization`].
///
/// # Errors
/// When there is no such data set, or its images don't fit the student or the network.
pub fn nearest_training_images(
    student: &LoadedStudent,
    samples: &Samples,
    extractor: &Extractor,
    source: &str,
    context: Context,
) -> Outcome<Memorization> {
    let (shape, observer) = (&student.config().shape, context.observer);
    let train = open_images(source, Split::Train, shape, observer)?;
    let test = open_images(source, Split::Test, shape, observer).ok();
    let images = train.images(0..train.len());
    let test = test.map(|set| set.images(0..set.len().min(MEASURED)));
    let few = samples.first(MEASURED);
    let drawn = student.sampler.sample_observed(&few.noise, &few.labels, observer)?;
    let known = KnownImages { train: &images, test: test.as_deref() };
    Ok(memorization(extractor, known, &drawn, shape, observer)?)
}

/// What the report of a run is of.
#[derive(Clone, Copy, Debug)]
pub struct ReportInputs<'a> {
    /// How long it took.
    pub time: &'a RunTime<'a>,
    /// The experiment.
    pub experiment: &'a Experiment,
    /// The teacher.
    pub teacher: &'a Teacher,
    /// How its pairs were drawn.
    pub drawing: &'a Drawing,
    /// The student.
    pub student: &'a LoadedStudent,
    /// The test pairs.
    pub test: &'a kdm_data::pairs::PairStore,
    /// The evaluation.
    pub values: &'a Values,
    /// What features are computed with and compared to.
    pub features: Option<&'a FeatureSpace>,
}

/// Looks into a run's student and writes the page, with the logs in `folder/distill` and
/// `folder/teacher`; gives the page's path.
///
/// # Errors
/// When the student can't be looked into, or files can't be read or written.
pub fn write_run_report(
    inputs: &ReportInputs,
    folder: &Path,
    context: Context,
) -> Outcome<PathBuf> {
    let ReportInputs { time, experiment, teacher, drawing, student, test, values, features } =
        *inputs;
    let pairs = test.range(0..test.len());
    let states = stored_states(test);
    let data = test.manifest().teacher.as_ref().map(|t| t.data.clone()).unwrap_or_default();
    let distribution = experiment.distribution();
    let found = examine(
        &ExamineInputs {
            student,
            samples: &pairs,
            extractor: features.map(|f| &f.extractor),
            reference: features.map(|f| &f.reference),
            data: &data,
            distribution: distribution.as_ref(),
            clusters: (ClusterConfig::default(), experiment.evaluate.clusters),
            teacher: Some((teacher, &drawing.process)),
            states: states.as_ref(),
        },
        context,
    )?;
    let (distillation, training) =
        (log_rows(&folder.join("distill"))?, log_rows(&folder.join("teacher"))?);
    let mut sections = vec![Section {
        tables: vec![metric_table("Evaluation", values)],
        ..Section::new("Evaluation")
    }];
    sections.extend(analysis_sections(&found));
    sections.push(training_section(&distillation, &training));
    let facts = RunFacts {
        values,
        pairs: experiment.pairs.count - experiment.train.held_out,
        test: test.len(),
        classes: student.config().label_dim,
        variety: variety(student, &pairs),
        made: made(folder, time, context),
    };
    let headline = run_headline(facts, &mut sections);
    let page = Page {
        title: experiment.name.clone(),
        headline,
        summary: format!(
            "A {} teacher, {} pairs of {} evaluations each ({} to train on, {} held out to choose \
             the best weights by), and a student that draws in one step. Numbers are on {} other \
             pairs, to test, whose noise no part of the training saw.",
            match experiment.teacher.kind {
                TeacherKind::Exact => "closed-form",
                TeacherKind::FlowMlp => "flow-matching",
                TeacherKind::Network | TeacherKind::File => "diffusion",
            },
            experiment.pairs.count,
            drawing.evaluations(teacher.label_dim()),
            experiment.pairs.count - experiment.train.held_out,
            experiment.train.held_out,
            test.len()
        ),
        sections,
        config: experiment.to_toml(),
    };
    write_report(folder, &page, context)
}

/// Samples that the variety of a student is measured on.
const VARIED: usize = 256;

/// The variance of a student's samples over different noises, as a share of the teacher's.
fn variety(student: &LoadedStudent, pairs: &Samples) -> f64 {
    let few = pairs.first(VARIED);
    let drawn = student.sampler.sample(&few.noise, &few.labels);
    let (dim, rows) = (few.shape.iter().product::<usize>(), few.len() as f64);
    let variance = |values: &[f32]| -> f64 {
        let of = |column: usize| {
            let all = || values.iter().skip(column).step_by(dim).map(|x| f64::from(*x));
            let mean = all().sum::<f64>() / rows;
            all().map(|x| (x - mean).powi(2)).sum::<f64>() / rows
        };
        (0..dim).map(of).sum()
    };
    variance(&drawn) / variance(&few.images).max(f64::MIN_POSITIVE)
}

/// How a run in `folder` was made, for its report.
fn made(folder: &Path, time: &RunTime, context: Context) -> Vec<(String, String)> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").ok();
    let model = cpu.as_deref().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_string())
    });
    let vectors = kdm_kernels::instruction_set().map(|set| set.to_string()).ok();
    let machine = [
        model,
        Some(format!("{} threads", context.runtime.threads())),
        vectors,
        Some(std::env::consts::OS.to_string()),
    ];
    let machine: Vec<String> = machine.into_iter().flatten().collect();
    let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    [
        ("Time", time.told()),
        ("Machine", machine.join(", ")),
        ("Date", now.replace('T', " ").replace('Z', " UTC")),
        ("Version", format!("kdm {}", env!("CARGO_PKG_VERSION"))),
        ("Again", format!("kdm run {}", folder.join(CONFIG).display())),
        ("Explore", explore(&folder.join(STUDENT))),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .to_vec()
}

/// How to explore a student.
fn explore(student: &Path) -> String {
    format!("kdm serve --model {}, then open http://127.0.0.1:8000/", student.display())
}

/// The rows of a training's log; none where there is no log.
fn log_rows(folder: &Path) -> Outcome<Vec<Value>> {
    if !folder.join(METRICS).exists() {
        return Ok(Vec::new());
    }
    Ok(read_metrics(folder)?)
}

/// Writes a page into `folder`, and each of its figures into `folder/figures`; gives the page's
/// path.
///
/// # Errors
/// When the folder can't be written.
pub fn write_report(folder: &Path, page: &Page, context: Context) -> Outcome<PathBuf> {
    let figures = folder.join("figures");
    for figure in page.figures() {
        atomic::create_folder(&figures)?;
        let (name, bytes) = figure.file(context.figures);
        atomic::write(&figures.join(name), &bytes)?;
    }
    let path = folder.join(REPORT);
    atomic::write(&path, page.html().as_bytes())?;
    Ok(path)
}
