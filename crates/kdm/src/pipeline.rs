//! The way from teacher to report, stage by stage. Each stage leaves its result in a folder and goes on from what is
//! there already.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;
use kdm_analysis::clusters::{ClusterConfig, cluster};
use kdm_analysis::figures::{self, Curve, Group};
use kdm_analysis::{Figure, Report, Spectrum, Table};
use kdm_core::sampler::{Sampler, one_hot};
use kdm_core::student::StudentFile;
use kdm_core::{DistillTask, Student, distill};
use kdm_data::atomic;
use kdm_data::pairs::{self, Manifest, NoiseSource, PairStore, STORE_VERSION, Worker};
use kdm_kernels::random;
use kdm_metrics::{energy_distance, paired, share_outside, sliced_wasserstein2};
use kdm_teacher::distribution::Distribution;
use kdm_teacher::{Checkerboard, Denoiser, FlowTask, Process, Solver, Teacher, solve};
use kdm_train::{CHECKPOINT, METRICS, Report as Step, read_metrics, train};
use serde_json::{Value, json};

use crate::experiment::TeacherKind;
use crate::progress::Progress;
use crate::{Experiment, Failure, Outcome};

/// The configuration in a run folder.
pub const CONFIG: &str = "config.toml";
/// The student to use, in a run folder.
pub const STUDENT: &str = "student.safetensors";
/// The teacher, in a run folder.
pub const TEACHER: &str = "teacher.safetensors";
/// The evaluation, in a run folder.
pub const EVALUATION: &str = "evaluation.json";

/// Test pairs' seeds begin this far behind the training pairs'.
const TEST_SEEDS: u64 = 1 << 40;
/// Streams of the experiment's seed.
const TEACHER_STREAM: u64 = 10;
const STUDENT_STREAM: u64 = 11;
const TRAINING_STREAM: u64 = 12;
const METRIC_SEED: u64 = 13;

/// Makes `folder` a run of this experiment, or goes on with the one it holds when `resume` is set.
///
/// # Errors
/// When the folder holds something and `resume` is not set, or holds a run of another configuration.
pub fn open_run(folder: &Path, experiment: &Experiment, resume: bool) -> Outcome<()> {
    let config = folder.join(CONFIG);
    let occupied = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if !occupied {
        atomic::create_folder(folder)?;
        atomic::write(&config, experiment.to_toml().as_bytes())?;
        return Ok(());
    }
    let shown = folder.display();
    if !resume {
        return Err(Failure::Usage(format!(
            "`{shown}` is not empty: go on with the run in it with --resume, or choose another folder with --out"
        )));
    }
    if !config.exists() {
        return Err(Failure::Usage(format!(
            "`{shown}` holds no run ({CONFIG} is missing): choose another folder with --out"
        )));
    }
    let begun = Experiment::read(&config)?;
    match first_difference(&json!(begun), &json!(experiment), "") {
        None => Ok(()),
        Some((key, old, new)) => Err(Failure::Usage(format!(
            "`{}`: `{key}`: the run was begun with {old}, and this command asks for {new}; \
             resume with the same preset and --set, or begin another run with another --out",
            config.display()
        ))),
    }
}

fn first_difference(a: &Value, b: &Value, path: &str) -> Option<(String, String, String)> {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let keys: std::collections::BTreeSet<&String> = x.keys().chain(y.keys()).collect();
            keys.into_iter().find_map(|key| {
                let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                first_difference(x.get(key).unwrap_or(&Value::Null), y.get(key).unwrap_or(&Value::Null), &at)
            })
        }
        _ if a == b => None,
        _ => Some((path.to_string(), a.to_string(), b.to_string())),
    }
}

/// The first folder `runs/NNNNN-name` that isn't there yet.
pub fn next_run_folder(name: &str) -> PathBuf {
    let taken = |i: usize| {
        std::fs::read_dir("runs").is_ok_and(|entries| {
            entries.flatten().any(|e| e.file_name().to_string_lossy().starts_with(&format!("{i:05}-")))
        })
    };
    let i = (0..).find(|i| !taken(*i)).expect("numbers don't end");
    Path::new("runs").join(format!("{i:05}-{name}"))
}

fn report_step(progress: &mut Progress) -> impl FnMut(Step) + '_ {
    |step: Step| {
        let note = if step.loss.is_finite() { format!("loss {:.4}", step.loss) } else { String::new() };
        progress.set(step.iteration, step.iterations, &note);
    }
}

/// The experiment's teacher, trained in `folder` if it has to be, in `folder/teacher.safetensors`.
///
/// # Errors
/// When a file can't be read or written, or the training stops.
pub fn make_teacher(experiment: &Experiment, folder: &Path) -> Outcome<Teacher> {
    let path = folder.join(TEACHER);
    if path.exists() {
        return Ok(Teacher::load(&path)?);
    }
    match experiment.teacher.kind {
        TeacherKind::Exact => {
            let exact = Teacher::exact(experiment.teacher.data.clone());
            exact.expect("checked when loaded").save(&path)?;
        }
        TeacherKind::FlowMlp => {
            atomic::create_folder(folder)?;
            let seed = random::derive_seed(experiment.seed, TEACHER_STREAM);
            let device = Device::flex().autodiff();
            let config = experiment.flow_mlp();
            let task = FlowTask {
                distribution: experiment.distribution(),
                config: config.clone(),
                batch: experiment.teacher.train.batch,
                seed,
                device: device.clone(),
            };
            let network = config.init(&task.distribution, seed, &device);
            let mut progress = Progress::new("teacher", "iterations");
            let best = folder.join("teacher-best.safetensors");
            let outcome =
                train(&task, network, &experiment.teacher_loop(), folder, &best, &mut report_step(&mut progress))?;
            kdm_train::Task::save(&task, &outcome.averaged, &path)?;
            let loss =
                outcome.best.map_or(String::new(), |(value, at)| format!(", validation loss {value:.4} at {at}"));
            progress.finish(&format!("trained{loss}"));
        }
    }
    Ok(Teacher::load(&path)?)
}

/// How pairs are drawn.
#[derive(Clone, Debug)]
pub struct Drawing {
    /// Which noise levels.
    pub process: Process,
    /// Which solver.
    pub solver: Solver,
    /// Solver steps.
    pub steps: usize,
    /// Pairs a batch.
    pub batch: usize,
}

/// The plan of a store drawn from `teacher`.
pub fn pair_plan(
    teacher: &Teacher,
    drawing: &Drawing,
    first_seed: u64,
    count: usize,
    dtype: pairs::ImageType,
    shard_size: usize,
) -> Manifest {
    let Drawing { process, solver, steps, .. } = drawing;
    Manifest {
        version: STORE_VERSION,
        teacher: Some(teacher.stamp()),
        sampling: json!({
            "process": process, "solver": solver, "steps": steps, "evaluations": solver.evaluations(*steps),
        }),
        noise: NoiseSource::Seeded { generator: random::GENERATOR.into(), first_seed: Some(first_seed) },
        noise_std: process.noise_std(),
        shape: teacher.shape(),
        dtype,
        label_dim: teacher.label_dim(),
        count,
        shard_size,
        history: Vec::new(),
        shards: Vec::new(),
        checksum: String::new(),
    }
}

/// Draws a store, or what is missing of it.
///
/// # Errors
/// When the folder holds another store, or can't be written.
pub fn draw_pairs(
    teacher: &Teacher,
    plan: &Manifest,
    drawing: &Drawing,
    folder: &Path,
    worker: Worker,
    what: &str,
) -> Outcome<Manifest> {
    let mut progress = Progress::new(what, "pairs");
    let mut drawn = 0;
    let mut draw = |noise: &[f32], labels: &[u32]| {
        drawn += noise.len() / plan.dim();
        let x = noise.iter().map(|x| f64::from(*x)).collect();
        let labels = one_hot(labels, plan.label_dim);
        let images = solve(teacher, &drawing.process, drawing.solver, drawing.steps, x, &labels);
        images.into_iter().map(|x| x as f32).collect()
    };
    let manifest = pairs::generate(folder, plan, worker, drawing.batch, &mut draw, &mut |p| {
        progress.set(p.done as u64, p.total as u64, "");
    })?;
    let state =
        if manifest.is_complete() { "the store is complete" } else { "other workers still have shards to write" };
    progress.finish(&format!(
        "{drawn} pairs drawn, {} evaluations each; {state}",
        drawing.solver.evaluations(drawing.steps)
    ));
    Ok(manifest)
}

/// Distills a student from the store in `pairs_folder`, in the run folder `folder`. Gives the file of the student to
/// use: the averaged weights that did best on the held-out pairs, or the last averaged ones when none are held out.
///
/// # Errors
/// When the pairs are damaged or too few, a file can't be written, or the training stops.
pub fn distill(experiment: &Experiment, pairs_folder: &Path, folder: &Path) -> Outcome<PathBuf> {
    let store = PairStore::open_verified(pairs_folder)?;
    let manifest = store.manifest().clone();
    let held_out = experiment.train.held_out;
    if held_out >= store.len() {
        return Err(Failure::Usage(format!(
            "`train.held_out` is {held_out}, and `{}` has {} pairs; lower it with --set train.held_out=N",
            pairs_folder.display(),
            store.len()
        )));
    }
    let student = experiment.student_config(manifest.shape.clone(), manifest.label_dim, manifest.noise_std);
    if let Some((field, problem)) = student.problems().into_iter().next() {
        return Err(Failure::Usage(format!("`student.{field}` {problem}; change it in the file or with --set")));
    }
    let file = StudentFile {
        student: student.clone(),
        loss: experiment.loss.clone(),
        origin: json!({
            "experiment": experiment.name,
            "seed": experiment.seed,
            "train": experiment.train,
            "pairs": {
                "teacher": manifest.teacher, "sampling": manifest.sampling,
                "count": manifest.count, "plan": manifest.plan_hash(),
            },
        }),
    };
    let device = Device::flex().autodiff();
    let seed = random::derive_seed(experiment.seed, TRAINING_STREAM);
    let task = DistillTask::new(store, held_out, experiment.train.batch, seed, file.clone(), device.clone());
    let fresh = student.init(random::derive_seed(experiment.seed, STUDENT_STREAM), &device);
    let best_path = folder.join("best.safetensors");
    let mut progress = Progress::new("distill", "iterations");
    let outcome = train(&task, fresh, &experiment.student_loop(), folder, &best_path, &mut report_step(&mut progress))?;
    file.save(&outcome.averaged, &folder.join("last-ema.safetensors"))?;
    file.save(&outcome.last, &folder.join("last.safetensors"))?;
    let path = folder.join(STUDENT);
    let best = match outcome.best {
        Some((value, iteration)) => {
            let (best, student) = StudentFile::load(&best_path, &Device::flex())?;
            best.save(&student, &path)?;
            format!("best {} {value:.4} at {iteration}", experiment.train.best_by)
        }
        None => {
            file.save(&outcome.averaged, &path)?;
            "no pairs held out: the last averaged weights are kept".into()
        }
    };
    if outcome.replaced > 0 {
        tracing::warn!("gradients that weren't finite were replaced in {} iterations", outcome.replaced);
    }
    progress.finish(&format!("{}; {best}", path.display()));
    Ok(path)
}

/// A student loaded for sampling.
#[derive(Debug)]
pub struct LoadedStudent {
    /// What its file says.
    pub file: StudentFile,
    /// Its networks.
    pub student: Student,
    /// Its sampler.
    pub sampler: Sampler,
}

impl LoadedStudent {
    /// Reads a student's model file.
    ///
    /// # Errors
    /// When the file is damaged or no student's.
    pub fn open(path: &Path) -> Outcome<Self> {
        let device = Device::flex();
        let (file, student) = StudentFile::load(path, &device)?;
        let sampler = Sampler::new(student.clone(), file.student.dim(), file.student.label_dim, &device);
        Ok(Self { file, student, sampler })
    }

    /// Whether pairs of this store are of the student's kind.
    ///
    /// # Errors
    /// When shapes, classes or the noise's deviation differ.
    pub fn check_pairs(&self, store: &PairStore) -> Outcome<()> {
        let (config, manifest) = (&self.file.student, store.manifest());
        let same_std = (config.noise_std / manifest.noise_std - 1.0).abs() < 0.05;
        let problem = if config.shape != manifest.shape {
            format!("the student draws {:?} and the pairs are {:?}", config.shape, manifest.shape)
        } else if config.label_dim != manifest.label_dim {
            format!("the student knows {} classes and the pairs {}", config.label_dim, manifest.label_dim)
        } else if !same_std {
            format!(
                "the student takes noise of deviation {} and the pairs have {}",
                config.noise_std, manifest.noise_std
            )
        } else {
            return Ok(());
        };
        let mend = "give the pairs of the teacher it was distilled from";
        Err(kdm_data::Error::invalid(store.folder(), "pairs", problem, mend).into())
    }
}

/// Groups of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MetricGroup {
    /// The loss's terms, latent noise off: latent, rec, push, total.
    Losses,
    /// Errors to the teacher's sample from the same noise: rmse, median_error, coordinate_rmse.
    Paired,
    /// Distances between the two sets of samples: sliced_wasserstein2, energy_distance; with a known board
    /// off_board, teacher_off_board, off_board_excess (in percent).
    Distribution,
}

/// Evaluates a student on all pairs of a store. `board`: whether the data are the checkerboard's.
///
/// # Errors
/// When the pairs are of another kind than the student.
pub fn evaluate(
    student: &LoadedStudent,
    store: &PairStore,
    groups: &[MetricGroup],
    board: bool,
    directions: usize,
) -> Outcome<BTreeMap<String, f64>> {
    student.check_pairs(store)?;
    let config = &student.file.student;
    let mut values = BTreeMap::new();
    if groups.contains(&MetricGroup::Losses) {
        let seed = random::derive_seed(METRIC_SEED, 0);
        let targets = student.file.loss.eigenvalues.targets(config.operator_dim(), seed);
        let terms = distill::evaluate_losses(
            &student.student,
            &student.file,
            store,
            0..store.len(),
            targets.as_deref(),
            &Device::flex(),
        );
        values.extend(terms);
    }
    if groups.iter().any(|g| *g != MetricGroup::Losses) {
        let pairs = store.range(0..store.len());
        let dim = config.dim();
        let drawn = student.sampler.sample(&pairs.noise, &one_hot(&pairs.labels, config.label_dim));
        if groups.contains(&MetricGroup::Paired) {
            let p = paired(&drawn, &pairs.images, dim);
            values.insert("rmse".into(), p.rmse);
            values.insert("median_error".into(), p.median_error);
            values.insert("coordinate_rmse".into(), p.coordinate_rmse);
        }
        if groups.contains(&MetricGroup::Distribution) {
            let seed = random::derive_seed(METRIC_SEED, 1);
            values.insert(
                "sliced_wasserstein2".into(),
                sliced_wasserstein2(&drawn, &pairs.images, dim, directions, seed),
            );
            // Quadratic in the points: 10 000 of each give it to three digits in a second.
            let some = |x: &[f32]| x[..x.len().min(10_000 * dim)].to_vec();
            values.insert("energy_distance".into(), energy_distance(&some(&drawn), &some(&pairs.images), dim));
            if board && dim == 2 {
                let off = |points: &[f32]| 100.0 * share_outside(points, dim, Checkerboard::contains);
                let (student, teacher) = (off(&drawn), off(&pairs.images));
                values.insert("off_board".into(), student);
                values.insert("teacher_off_board".into(), teacher);
                values.insert("off_board_excess".into(), student - teacher);
            }
        }
    }
    Ok(values)
}

/// How each metric is read.
pub fn reading(name: &str) -> &'static str {
    match name {
        "latent" => "mean squared distance of C z_T to z_0",
        "rec" => "distance d of an image to its reconstruction D(z_0)",
        "push" => "distance d of the teacher's image to the one-step image",
        "eigen" => "eigenvalue loss and inverse consistency",
        "total" => "the weighted sum of the loss's terms",
        "rmse" => "root mean squared distance to the teacher's sample from the same noise",
        "median_error" => "half of the samples are closer than this to the teacher's",
        "coordinate_rmse" => "the same root mean square for a single coordinate",
        "sliced_wasserstein2" => "distance between the two sets of samples, over random projections",
        "energy_distance" => "distance between the two sets of samples; 0 for equal distributions",
        "off_board" => "percent of the student's samples on no dark square",
        "teacher_off_board" => "percent of the teacher's samples on no dark square",
        "off_board_excess" => "percentage points the student is worse by",
        _ => "",
    }
}

/// A square's half edge that shows nearly all points: a little beyond the 99.5th percentile of the coordinates.
pub fn view(points: &[f32]) -> f64 {
    let mut magnitudes: Vec<f32> = points.iter().map(|x| x.abs()).collect();
    magnitudes.sort_by(f32::total_cmp);
    let index = (magnitudes.len() * 995 / 1000).min(magnitudes.len().saturating_sub(1));
    f64::from(magnitudes.get(index).copied().unwrap_or(1.0)).max(1e-3) * 1.15
}

/// The colours of samples: their modes where the distribution is known, else density-based clusters; and the outliers.
#[derive(Clone, Debug)]
pub struct Structure {
    /// Each sample's colour.
    pub colour: Vec<Option<usize>>,
    /// Whether it is an outlier.
    pub outlier: Vec<bool>,
    /// Sizes of the density-based clusters.
    pub cluster_sizes: Vec<usize>,
    /// Outliers among the samples.
    pub outliers: usize,
}

/// Finds the structure of samples.
pub fn structure(samples: &[f32], dim: usize, config: ClusterConfig, data: Option<&Distribution>) -> Structure {
    let found = cluster(samples, dim, config);
    let colour = match data {
        None => found.cluster,
        Some(data) => {
            let mode = |row: &[f32]| data.mode_of(&row.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
            samples.chunks(dim).map(mode).collect()
        }
    };
    Structure { colour, outlier: found.outlier, cluster_sizes: found.sizes, outliers: found.outliers }
}

impl Structure {
    /// Points (the samples themselves, or the noise they are from) as groups of one colour, outliers as black crosses.
    pub fn groups(&self, points: &[f32]) -> Vec<Group> {
        let mut groups: BTreeMap<Option<usize>, Vec<(f64, f64)>> = BTreeMap::new();
        let mut stray = Vec::new();
        for (i, p) in points.chunks(2).enumerate() {
            let p = (f64::from(p[0]), f64::from(p[1]));
            match (self.outlier[i], self.colour[i]) {
                (true, _) | (_, None) => stray.push(p),
                (false, colour) => groups.entry(colour).or_default().push(p),
            }
        }
        let coloured = groups.into_iter().map(|(colour, points)| Group { points, colour, name: None, crosses: false });
        let stray = Group { points: stray, colour: None, name: Some("outliers".into()), crosses: true };
        coloured.chain([stray]).collect()
    }
}

/// Writes each figure into `folder/figures`.
///
/// # Errors
/// When the folder can't be written.
pub fn write_figures(folder: &Path, figures: &[Figure]) -> Outcome<()> {
    let folder = folder.join("figures");
    atomic::create_folder(&folder)?;
    for figure in figures {
        let name: String =
            figure.title.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        atomic::write(&folder.join(format!("{name}.png")), &figure.png)?;
    }
    Ok(())
}

/// Points drawn in scatter figures.
const SHOWN: usize = 8000;

/// The figures of a student of points: its samples beside the teacher's, the noise by cluster, the spectrum.
pub fn point_figures(
    student: &LoadedStudent,
    noise: &[f32],
    labels: &[f32],
    teacher: Option<&[f32]>,
    clusters: ClusterConfig,
    clustered: usize,
    data: Option<&Distribution>,
) -> Outcome<(Vec<Figure>, Structure, Spectrum)> {
    let drawn = student.sampler.sample(noise, labels);
    let half = view(teacher.unwrap_or(&drawn));
    let some = |x: &[f32], n: usize| x[..x.len().min(2 * n)].to_vec();
    let mut figures = Vec::new();
    if let Some(teacher) = teacher {
        figures.push(Figure {
            title: "Teacher".into(),
            png: figures::scatter("Teacher", &[Group::of(&some(teacher, SHOWN), 0)], half),
            caption: "Samples of the teacher, many network passes each.".into(),
        });
    }
    figures.push(Figure {
        title: "Student".into(),
        png: figures::scatter("Student", &[Group::of(&some(&drawn, SHOWN), 5)], half),
        caption: "One-step samples of the student, from the same noise. It should look like the teacher's.".into(),
    });
    let (drawn, noise) = (some(&drawn, clustered), some(noise, clustered));
    let structure = structure(&drawn, 2, clusters, data);
    figures.push(Figure {
        title: "Outputs by cluster".into(),
        png: figures::scatter("Outputs by cluster", &structure.groups(&drawn), half),
        caption:
            "The student's samples, a colour for each cluster. Crosses are outliers: in sparse places, far from their \
                  neighbours, or on no dark square of the board."
                .into(),
    });
    figures.push(Figure {
        title: "Noise by cluster".into(),
        png: figures::scatter("Noise by cluster", &structure.groups(&noise), view(&noise)),
        caption:
            "The noise each of these samples came from, in its sample's colour. Clusters of outputs are regions of \
                  noise, and outliers come from the borders between them."
                .into(),
    });
    let spectrum = spectrum(student)?;
    figures.push(spectrum_figure(&spectrum));
    Ok((figures, structure, spectrum))
}

/// The operator's spectrum.
///
/// # Errors
/// When the operator has values that are not finite.
pub fn spectrum(student: &LoadedStudent) -> Outcome<Spectrum> {
    Spectrum::of(&student.student.operator).map_err(Failure::Usage)
}

/// The spectrum's figure.
pub fn spectrum_figure(spectrum: &Spectrum) -> Figure {
    Figure {
        title: "Spectrum".into(),
        png: figures::spectrum("Spectrum of the operator", &spectrum.eigenvalues),
        caption: format!(
            "Eigenvalues of the Koopman operator with the unit circle. The largest has modulus {:.4}; {} of {} reach a \
             hundredth of that. Directions with small eigenvalues are forgotten on the way from noise to image.",
            spectrum.spectral_radius, spectrum.leading, spectrum.latent
        ),
    }
}

/// The curves of a training's log.
///
/// # Errors
/// When the log can't be read.
pub fn curve_figure(folder: &Path, title: &str, keys: &[(&str, &str)]) -> Outcome<Option<Figure>> {
    if !folder.join(METRICS).exists() {
        return Ok(None);
    }
    let lines = read_metrics(folder)?;
    let curve = |(key, name): &(&str, &str)| Curve {
        name: (*name).to_string(),
        points: lines.iter().filter_map(|line| Some((line["iteration"].as_f64()?, line[*key].as_f64()?))).collect(),
    };
    let curves: Vec<Curve> = keys.iter().map(curve).collect();
    Ok(figures::curves(title, &curves).map(|png| Figure {
        title: title.to_string(),
        png,
        caption: "Values over the training, on a logarithmic axis. Validation is on pairs held out, with averaged \
                  weights and without latent noise."
            .into(),
    }))
}

/// The whole way, from teacher to report, in `folder`.
///
/// # Errors
/// When a stage fails; what earlier stages made is kept.
pub fn run(experiment: &Experiment, folder: &Path) -> Outcome<BTreeMap<String, f64>> {
    let started = Instant::now();
    let teacher_folder = folder.join("teacher");
    atomic::create_folder(&teacher_folder)?;
    let teacher = make_teacher(experiment, &teacher_folder)?;

    let p = &experiment.pairs;
    let drawing = Drawing { process: p.process, solver: p.solver, steps: p.steps, batch: p.batch };
    let plan = |first_seed, count| pair_plan(&teacher, &drawing, first_seed, count, p.dtype, p.shard_size);
    let (pairs, test) = (folder.join("pairs"), folder.join("pairs-test"));
    draw_pairs(&teacher, &plan(p.first_seed, p.count), &drawing, &pairs, Worker::ALONE, "pairs")?;
    draw_pairs(
        &teacher,
        &plan(p.first_seed.wrapping_add(TEST_SEEDS), p.test),
        &drawing,
        &test,
        Worker::ALONE,
        "test pairs",
    )?;

    let student_folder = folder.join("distill");
    atomic::create_folder(&student_folder)?;
    let distilled = distill(experiment, &pairs, &student_folder)?;
    let path = folder.join(STUDENT);
    let bytes = std::fs::read(&distilled).map_err(kdm_data::Error::io("read", &distilled))?;
    atomic::write(&path, &bytes)?;

    let student = LoadedStudent::open(&path)?;
    let store = PairStore::open_verified(&test)?;
    let board = experiment.teacher.data.name() == "checkerboard";
    let all = [MetricGroup::Losses, MetricGroup::Paired, MetricGroup::Distribution];
    let mut values = evaluate(&student, &store, &all, board, experiment.evaluate.directions)?;
    values.extend(speed(&teacher, &drawing, &student, &store));
    atomic::write(&folder.join(EVALUATION), pretty(&json!(values)).as_bytes())?;

    let pairs = store.range(0..store.len());
    let labels = one_hot(&pairs.labels, student.file.student.label_dim);
    let data = experiment.distribution();
    let (mut figures, structure, spectrum) = point_figures(
        &student,
        &pairs.noise,
        &labels,
        Some(&pairs.images),
        ClusterConfig::default(),
        experiment.evaluate.clusters,
        Some(&data),
    )?;
    let curves = [
        ("train/loss", "training loss"),
        ("train/latent", "latent"),
        ("train/rec", "reconstruction"),
        ("train/push", "push"),
        ("validation/rmse", "validation rmse"),
    ];
    figures.extend(curve_figure(&student_folder, "Distillation", &curves)?);
    let teacher_curves = [("train/loss", "training loss"), ("validation/loss", "validation loss")];
    figures.extend(curve_figure(&teacher_folder, "Teacher training", &teacher_curves)?);
    write_figures(folder, &figures)?;
    let report = Report {
        title: format!("kdm: {}", experiment.name),
        summary: format!(
            "A {} teacher, {} pairs of {} evaluations each, and a student that needs one pass. Numbers are on {} test \
             pairs whose noise no part of the training saw.",
            match experiment.teacher.kind {
                TeacherKind::Exact => "closed-form",
                TeacherKind::FlowMlp => "flow-matching",
            },
            p.count,
            p.solver.evaluations(p.steps),
            p.test
        ),
        figures,
        tables: vec![metric_table(&values), structure_table(&structure, &spectrum)],
        config: experiment.to_toml(),
    };
    atomic::write(&folder.join("report.html"), report.html().as_bytes())?;
    tracing::info!("the whole run took {:.0} s", started.elapsed().as_secs_f64());
    Ok(values)
}

/// Seconds that teacher and student take for the same samples.
fn speed(teacher: &Teacher, drawing: &Drawing, student: &LoadedStudent, store: &PairStore) -> Vec<(String, f64)> {
    let pairs = store.range(0..store.len().min(2048));
    let labels = one_hot(&pairs.labels, student.file.student.label_dim);
    let median = |work: &dyn Fn()| {
        let mut times: Vec<f64> = (0..5)
            .map(|_| {
                let started = Instant::now();
                work();
                started.elapsed().as_secs_f64()
            })
            .collect();
        times.sort_by(f64::total_cmp);
        times[2]
    };
    let x: Vec<f64> = pairs.noise.iter().map(|x| f64::from(*x)).collect();
    let teacher_time = median(&|| {
        std::hint::black_box(solve(teacher, &drawing.process, drawing.solver, drawing.steps, x.clone(), &labels));
    });
    let student_time = median(&|| {
        std::hint::black_box(student.sampler.sample(&pairs.noise, &labels));
    });
    vec![("speed_up".into(), teacher_time / student_time)]
}

/// Numbers of an evaluation as a table.
pub fn metric_table(values: &BTreeMap<String, f64>) -> Table {
    let row = |(name, value): (&String, &f64)| {
        let note = if name == "speed_up" {
            "times faster a sample than the teacher, on this machine in this run"
        } else {
            reading(name)
        };
        [name.clone(), format!("{value:.4}"), note.to_string()]
    };
    Table { title: "Evaluation".into(), rows: values.iter().map(row).collect() }
}

/// Numbers of the clusters and the spectrum as a table.
pub fn structure_table(structure: &Structure, spectrum: &Spectrum) -> Table {
    let n = structure.outlier.len();
    Table {
        title: "Structure".into(),
        rows: vec![
            [
                "spectral_radius".into(),
                format!("{:.4}", spectrum.spectral_radius),
                "largest modulus of an eigenvalue".into(),
            ],
            [
                "leading".into(),
                format!("{} of {}", spectrum.leading, spectrum.latent),
                "eigenvalues of at least a hundredth of it".into(),
            ],
            [
                "clusters".into(),
                format!("{}", structure.cluster_sizes.len()),
                "density-based clusters of outputs (eps 0.15, 5 neighbours); squares that touch at a corner may join"
                    .into(),
            ],
            [
                "outliers".into(),
                format!("{} of {n}", structure.outliers),
                "outputs in no cluster, or of z-score above 3".into(),
            ],
        ],
    }
}

/// JSON for a person.
pub fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("plain data") + "\n"
}

/// Whether a run folder's training has begun.
pub fn has_checkpoint(folder: &Path) -> bool {
    folder.join(CHECKPOINT).exists()
}
