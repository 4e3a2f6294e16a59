//! The way from teacher to report, stage by stage. Each stage leaves its result in a folder and
//! goes on from what is there already.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use kdm_analysis::clusters::ClusterConfig;
use kdm_data::pairs::{
    self, Manifest, NoiseSource, PairStore, STORE_VERSION, TeacherStamp, Worker, label_of_seed,
    noise_of_seed,
};
use kdm_data::{ImageSet, Split, atomic, model};
use kdm_formats::{features, official};
use kdm_koopman::sampler::{Sampler, one_hot};
use kdm_koopman::student::StudentFile;
use kdm_koopman::{DistillTask, Koopman, LossConfig, Student};
use kdm_metrics::features::extractor::load_classifier;
use kdm_nn::state::load_state;
use kdm_nn::{Discriminator, DiscriminatorConfig, InitSeed, Lpips, Perceptual, Pooling};
use kdm_report::Report;
use kdm_teacher::{
    Denoiser, Distribution, EdmTask, FlowTask, Guided, Process, Solver, Teacher, solve,
};
use kdm_train::{Report as Step, train};
use serde_json::{Value, json};

use crate::assets::{self, Role};
use crate::evaluation::{
    FeatureSetting, LossNetworks, Measuring, MetricGroup, evaluate, open_features, open_reference,
    speed,
};
use crate::examination::{Subject, examine};
use crate::experiment::TeacherKind;
use crate::portrait::{
    Sitting, curve_figure, metric_table, portrait, spectra_figure, structure_table, write_report,
};
use crate::progress::Progress;
use crate::{Experiment, Failure, Outcome};

/// The configuration in a run folder.
pub const CONFIG: &str = "config.toml";
/// The student to use, in a run folder.
pub const STUDENT: &str = "student.safetensors";
/// The teacher, in a run folder.
pub const TEACHER: &str = "teacher.safetensors";
/// The feature network, in the folder it was trained in.
pub const FEATURES: &str = "features.safetensors";
/// The evaluation, in a run folder.
pub const EVALUATION: &str = "evaluation.json";

/// Test pairs' seeds begin this far behind the training pairs'.
const TEST_SEEDS: u64 = 1 << 40;
/// Streams of the experiment's seed.
const TEACHER_STREAM: u64 = 10;
const STUDENT_STREAM: u64 = 11;
const TRAINING_STREAM: u64 = 12;
const TARGET_STREAM: u64 = 13;

/// Makes `folder` a run of this experiment, or goes on with the one it holds when `resume` is set.
///
/// # Errors
/// When the folder holds something and `resume` is not set, or holds a run of another
/// configuration.
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
            "`{shown}` is not empty: go on with the run in it with --resume, or choose another \
             folder with --out"
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
                first_difference(
                    x.get(key).unwrap_or(&Value::Null),
                    y.get(key).unwrap_or(&Value::Null),
                    &at,
                )
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
            entries
                .flatten()
                .any(|e| e.file_name().to_string_lossy().starts_with(&format!("{i:05}-")))
        })
    };
    let i = (0..).find(|i| !taken(*i)).expect("numbers don't end");
    Path::new("runs").join(format!("{i:05}-{name}"))
}

/// What a training reports, on a progress bar.
pub fn report_step(progress: &mut Progress) -> impl FnMut(Step) + '_ {
    |step: Step| {
        let note =
            if step.loss.is_finite() { format!("loss {:.4}", step.loss) } else { String::new() };
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
            Teacher::exact(experiment.exact()).expect("checked when loaded").save(&path)?
        }
        TeacherKind::File => {
            let source = experiment.teacher.path.clone().unwrap_or_default();
            if source.is_empty() {
                let mend = "give the teacher's model file with --set teacher.path=FILE";
                return Err(Failure::Usage(format!("`teacher.path` is missing; {mend}")));
            }
            let source = Path::new(&source);
            if !source.exists() && !assets::is_built_in(Role::Teacher, &source.to_string_lossy()) {
                return Err(Failure::Usage(format!(
                    "`teacher.path`: there is no `{}`; bring a teacher in with `kdm import FILE --out {}`, or name another \
                     with --set teacher.path=FILE",
                    source.display(),
                    source.display()
                )));
            }
            let file = assets::open(Role::Teacher, source)?;
            let teacher = Teacher::from_file(&file)?;
            let (shape, label_dim) = experiment.sample().expect("checked when loaded");
            if teacher.shape() != shape || teacher.label_dim() != label_dim {
                let problem = format!(
                    "draws {:?} of {} classes, and the experiment is of {shape:?} and {label_dim}",
                    teacher.shape(),
                    teacher.label_dim()
                );
                let mend = "give another teacher, or set teacher.shape and teacher.label_dim";
                return Err(kdm_data::Error::invalid(source, "teacher", problem, mend).into());
            }
            atomic::create_folder(folder)?;
            atomic::write(&path, file.bytes())?;
        }
        TeacherKind::Network => train_network(experiment, folder, &path)?,
        TeacherKind::FlowMlp => {
            atomic::create_folder(folder)?;
            let seed = kdm_random::derive_seed(experiment.seed, TEACHER_STREAM);
            let device = Device::flex().autodiff();
            let config = experiment.flow_mlp();
            let task = FlowTask {
                distribution: experiment
                    .distribution()
                    .expect("a flow-matching teacher learns one"),
                config: config.clone(),
                batch: experiment.teacher.train.batch,
                seed,
                device: device.clone(),
            };
            let network = config.init(&task.distribution, seed, &device);
            let mut progress = Progress::new("teacher", "iterations");
            let best = folder.join("teacher-best.safetensors");
            let outcome = train(
                &task,
                network,
                &experiment.teacher_loop(),
                folder,
                &best,
                &mut report_step(&mut progress),
            )?;
            kdm_train::Task::save(&task, &outcome.averaged, &path)?;
            let loss = outcome.best.map_or(String::new(), |(value, at)| {
                format!(", validation loss {value:.4} at {at}")
            });
            progress.finish(&format!("trained{loss}"));
        }
    }
    Ok(Teacher::load(&path)?)
}

/// The images of `source` as images of `shape` `[C, H, W]`; smaller ones are put on black ground.
///
/// # Errors
/// When they don't fit.
pub fn fit_images(images: ImageSet, source: &str, shape: &[usize]) -> Outcome<ImageSet> {
    let [channels, height, width] = images.shape();
    let bad = |problem: String| {
        let mend = "take a data set of that size, or set the network's resolution and channels to \
                    the data's";
        kdm_data::Error::invalid(source, "images", problem, mend)
    };
    if shape.len() != 3 || shape[1] != shape[2] || channels != shape[0] {
        return Err(
            bad(format!("are [{channels}, {height}, {width}], and {shape:?} are needed")).into()
        );
    }
    if [height, width] != shape[1..] {
        tracing::info!(
            "{source}: images of {height}x{width} are put on black ground of {0}x{0}",
            shape[1]
        );
    }
    Ok(images.padded(shape[1]).map_err(bad)?)
}

/// Trains an image teacher in `folder` and writes it to `path`.
fn train_network(experiment: &Experiment, folder: &Path, path: &Path) -> Outcome<()> {
    let config = experiment.network_teacher().expect("checked when loaded");
    let source = experiment.teacher.dataset.clone().unwrap_or_default();
    let (channels, side) = (config.network.channels().0, config.network.resolution());
    let images =
        fit_images(ImageSet::open(&source, Split::Train)?, &source, &[channels, side, side])?;
    if config.network.label_dim() > images.classes() {
        let problem = format!(
            "has {} classes, and the network {}",
            images.classes(),
            config.network.label_dim()
        );
        let mend = "set teacher.network.label_dim to the data's";
        return Err(kdm_data::Error::invalid(&source, "dataset.json", problem, mend).into());
    }
    atomic::create_folder(folder)?;
    let t = &experiment.teacher.train;
    let seed = kdm_random::derive_seed(experiment.seed, TEACHER_STREAM);
    let device = Device::flex().autodiff();
    let network = config.init(seed, &device);
    let task = EdmTask { config, images, batch: t.batch, seed, augment: t.augment, device };
    let mut progress = Progress::new("teacher", "iterations");
    let best = folder.join("teacher-best.safetensors");
    let outcome = train(
        &task,
        network,
        &experiment.teacher_loop(),
        folder,
        &best,
        &mut report_step(&mut progress),
    )?;
    kdm_train::Task::save(&task, &outcome.averaged, path)?;
    progress.finish("trained; the averaged weights are kept");
    Ok(())
}

/// The network of a perceptual loss on samples of `shape`, frozen; none where the loss has none.
/// LPIPS (with average pooling, as in the paper) is of the file that a command or else the
/// configuration names.
///
/// # Errors
/// When it is needed and not named, can't be read, or sees no such images.
pub fn load_perceptual(
    loss: &LossConfig,
    lpips: Option<&Path>,
    shape: &[usize],
    device: &Device,
) -> Outcome<Option<Perceptual>> {
    let network = if loss.reconstruction.has_lpips() {
        let Some(path) = lpips.or(loss.lpips_weights.as_deref().map(Path::new)) else {
            return Err(Failure::Usage(
                "the loss has LPIPS, and its weights are not named: give --lpips FILE, from `kdm \
                 import vgg16.pth --heads vgg.pth`"
                    .into(),
            ));
        };
        Perceptual::Lpips(load_lpips(path, Pooling::Average, device)?)
    } else if let Some(source) =
        loss.features.as_deref().filter(|_| loss.reconstruction.has_features())
    {
        let file = assets::open(Role::Features, Path::new(source))?;
        let (described, network, _) = load_classifier(&file, device)?;
        let sees = &described.network;
        if *shape != [sees.in_channels, sees.resolution, sees.resolution] {
            let problem = format!(
                "the classifier sees images {0}x{1}x{1}, not {shape:?}",
                sees.in_channels, sees.resolution
            );
            let mend = "train one for these images: `kdm features train`";
            return Err(
                kdm_data::Error::invalid(file.path(), "config.network", problem, mend).into()
            );
        }
        Perceptual::Classifier(network)
    } else {
        return Ok(None);
    };
    Ok(Some(kdm_nn::frozen(network)))
}

/// LPIPS from its model file.
///
/// # Errors
/// When the file is damaged or not of LPIPS.
pub fn load_lpips(path: &Path, pooling: Pooling, device: &Device) -> Outcome<Lpips> {
    load_weights(path, features::LPIPS, Lpips::init(pooling, &mut InitSeed::new(0), device))
}

/// A network that stands alone in a model file of this kind.
fn load_weights<M: Module>(path: &Path, kind: &str, network: M) -> Outcome<M> {
    let (_, state): (Value, _) = model::read(path, kind)?;
    let mend = "import the weights again";
    Ok(load_state(network, &state)
        .map_err(|e| kdm_data::Error::invalid(path, "tensors", e.0, mend))?)
}

/// A discriminator from its model file.
///
/// # Errors
/// When the file is damaged or no discriminator's.
pub fn load_discriminator(path: &Path, channels: usize) -> Outcome<Discriminator> {
    let network =
        DiscriminatorConfig { in_channels: channels }.init(&mut InitSeed::new(0), &Device::flex());
    load_weights(path, official::DISCRIMINATOR, network)
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
    /// Weight of classifier-free guidance; 1 for the teacher itself.
    pub guidance: f64,
    /// Pairs a batch.
    pub batch: usize,
}

impl Drawing {
    /// Network passes a pair; guidance takes two where one is taken without.
    pub fn evaluations(&self, label_dim: usize) -> usize {
        let passes = if self.guidance != 1.0 && label_dim > 0 { 2 } else { 1 };
        passes * self.solver.evaluations(self.steps)
    }
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
    let Drawing { process, solver, steps, guidance, .. } = drawing;
    let mut sampling = json!({
        "process": process, "solver": solver, "steps": steps, "evaluations": drawing.evaluations(teacher.label_dim()),
    });
    if *guidance != 1.0 {
        sampling["guidance"] = json!(guidance);
    }
    Manifest {
        version: STORE_VERSION,
        teacher: Some(teacher.stamp()),
        sampling,
        noise: NoiseSource::Seeded {
            generator: kdm_random::GENERATOR.into(),
            first_seed: Some(first_seed),
        },
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
        let guided = Guided { denoiser: teacher, weight: drawing.guidance };
        let images = solve(&guided, &drawing.process, drawing.solver, drawing.steps, x, &labels);
        images.into_iter().map(|x| x as f32).collect()
    };
    let manifest = pairs::generate(folder, plan, worker, drawing.batch, &mut draw, &mut |p| {
        progress.set(p.done as u64, p.total as u64, "");
    })?;
    let state = if manifest.is_complete() {
        "the store is complete"
    } else {
        "other workers still have shards to write"
    };
    progress.finish(&format!(
        "{drawn} pairs drawn, {} evaluations each; {state}",
        drawing.evaluations(plan.label_dim)
    ));
    Ok(manifest)
}

/// Distills a student from the store in `pairs_folder`, in the run folder `folder`. Gives the file
/// of the student to use: the averaged weights that did best on the held-out pairs, or the last
/// averaged ones when none are held out.
///
/// # Errors
/// When the pairs are damaged or too few, a file can't be written, or the training stops.
pub fn distill(experiment: &Experiment, pairs_folder: &Path, folder: &Path) -> Outcome<PathBuf> {
    let store = PairStore::open_verified(pairs_folder)?;
    let manifest = store.manifest().clone();
    let held_out = experiment.train.held_out;
    if held_out >= store.len() {
        return Err(Failure::Usage(format!(
            "`train.held_out` is {held_out}, and `{}` has {} pairs; lower it with --set \
             train.held_out=N",
            pairs_folder.display(),
            store.len()
        )));
    }
    let student =
        experiment.student_config(manifest.shape.clone(), manifest.label_dim, manifest.noise_std);
    if let Some((field, problem)) = student.problems().into_iter().next() {
        return Err(Failure::Usage(format!(
            "`student.{field}` {problem}; change it in the file or with --set"
        )));
    }
    let file = StudentFile {
        student: student.clone(),
        loss: experiment.loss.clone(),
        target_seed: kdm_random::derive_seed(experiment.seed, TARGET_STREAM),
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
    let seed = kdm_random::derive_seed(experiment.seed, TRAINING_STREAM);
    let perceptual = load_perceptual(&file.loss, None, &student.shape, &device)?;
    let task = DistillTask::new(
        store,
        held_out,
        experiment.train.batch,
        seed,
        file.clone(),
        perceptual,
        device,
    );
    let fresh = task.init(kdm_random::derive_seed(experiment.seed, STUDENT_STREAM));
    let best_path = folder.join("best.safetensors");
    let mut progress = Progress::new("distill", "iterations");
    let mut looping = experiment.student_loop();
    looping.config = json!({"experiment": experiment, "pairs": manifest.plan_hash()});
    let outcome =
        train(&task, fresh, &looping, folder, &best_path, &mut report_step(&mut progress))?;
    file.save(&outcome.averaged.student, &folder.join("last-ema.safetensors"))?;
    file.save(&outcome.last.student, &folder.join("last.safetensors"))?;
    let path = folder.join(STUDENT);
    let best = match outcome.best {
        Some((value, iteration)) => {
            atomic::copy(&best_path, &path)?;
            format!("best {} {value:.4} at {iteration}", experiment.train.best_by)
        }
        None => {
            file.save(&outcome.averaged.student, &path)?;
            "no pairs held out: the last averaged weights are kept".into()
        }
    };
    if outcome.replaced > 0 {
        tracing::warn!(
            "gradients that weren't finite were replaced in {} iterations",
            outcome.replaced
        );
    }
    progress.finish(&format!("{}; {best}", path.display()));
    Ok(path)
}

/// A student loaded for sampling.
#[derive(Debug)]
pub struct LoadedStudent {
    /// Its file.
    pub path: PathBuf,
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
        let (file, student) = StudentFile::from_file(&assets::open(Role::Student, path)?, &device)?;
        let sampler = Sampler::new(student.clone(), &file.student, &device);
        Ok(Self { path: path.to_path_buf(), file, student, sampler })
    }

    /// The networks of the method.
    ///
    /// # Errors
    /// When it is a direct student.
    pub fn koopman(&self) -> Outcome<&Koopman> {
        self.student.koopman().ok_or_else(|| {
            let problem = "a direct student has no latent and no operator";
            kdm_data::Error::invalid(
                &self.path,
                "method",
                problem,
                "give a student of the method `koopman`",
            )
            .into()
        })
    }

    /// What is wrong with its operator, as an error.
    pub fn bad_operator(&self, problem: String) -> Failure {
        kdm_data::Error::invalid(&self.path, "operator", problem, "distill the student again")
            .into()
    }

    /// Noise x_T and one-hot label rows that these seeds draw, the same as for pairs.
    pub fn draw(&self, seeds: &[u64]) -> (Vec<f32>, Vec<f32>) {
        let config = &self.file.student;
        let dim = config.dim();
        let mut noise = vec![0.0; seeds.len() * dim];
        noise
            .chunks_mut(dim)
            .zip(seeds)
            .for_each(|(row, seed)| noise_of_seed(*seed, config.noise_std, row));
        let classes: Vec<u32> =
            seeds.iter().map(|seed| label_of_seed(*seed, config.label_dim)).collect();
        (noise, one_hot(&classes, config.label_dim))
    }

    /// The hashes of the student's teacher and of another, when both are known and differ.
    fn other_teacher(&self, theirs: Option<&TeacherStamp>) -> Option<(String, String)> {
        let ours = self.file.origin["pairs"]["teacher"]["sha256"].as_str()?;
        let theirs = &theirs?.sha256;
        let short = |hash: &str| hash.get(..12).unwrap_or(hash).to_string();
        (ours != theirs).then(|| (short(ours), short(theirs)))
    }

    /// Whether this teacher is the student's own.
    ///
    /// # Errors
    /// When it is another.
    pub fn check_teacher(&self, teacher: &Teacher) -> Outcome<()> {
        match self.other_teacher(Some(&teacher.stamp())) {
            Some((ours, theirs)) => {
                let problem = format!(
                    "the student was distilled from the teacher {ours}, and this is another, \
                     {theirs}"
                );
                let mend = "give the teacher it was distilled from";
                Err(kdm_data::Error::invalid(&self.path, "teacher", problem, mend).into())
            }
            None => Ok(()),
        }
    }

    /// Whether pairs of this store are of the student's kind.
    ///
    /// # Errors
    /// When shapes, classes, the noise's deviation or the teacher differ.
    pub fn check_pairs(&self, store: &PairStore) -> Outcome<()> {
        let (config, manifest) = (&self.file.student, store.manifest());
        let same_std = (config.noise_std / manifest.noise_std - 1.0).abs() < 0.05;
        let problem = if config.shape != manifest.shape {
            format!("the student draws {:?} and the pairs are {:?}", config.shape, manifest.shape)
        } else if config.label_dim != manifest.label_dim {
            format!(
                "the student knows {} classes and the pairs {}",
                config.label_dim, manifest.label_dim
            )
        } else if let Some((ours, theirs)) = self.other_teacher(manifest.teacher.as_ref()) {
            format!(
                "the student was distilled from the teacher {ours}, and the pairs are of another \
                 teacher, {theirs}"
            )
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

/// What all students of an experiment share.
#[derive(Debug)]
pub struct Prepared {
    /// The teacher.
    pub teacher: Teacher,
    /// How its pairs were drawn.
    pub drawing: Drawing,
    /// The folder of the pairs to train on.
    pub pairs: PathBuf,
    /// The pairs to measure by.
    pub test: PairStore,
}

/// Makes the teacher and draws both stores of pairs in `folder`, or goes on with what is there.
///
/// # Errors
/// When a stage fails; what earlier stages made is kept.
pub fn prepare(experiment: &Experiment, folder: &Path) -> Outcome<Prepared> {
    let teacher_folder = folder.join("teacher");
    atomic::create_folder(&teacher_folder)?;
    let teacher = make_teacher(experiment, &teacher_folder)?;

    let p = &experiment.pairs;
    let drawing = Drawing {
        process: p.process.fit(&teacher),
        solver: p.solver,
        steps: p.steps,
        guidance: p.guidance,
        batch: p.batch,
    };
    let plan =
        |first_seed, count| pair_plan(&teacher, &drawing, first_seed, count, p.dtype, p.shard_size);
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
    let test = PairStore::open_verified(&test)?;
    Ok(Prepared { teacher, drawing, pairs, test })
}

/// The features that an experiment's samples are measured by; none when it names none.
///
/// # Errors
/// When they can't be read, or don't fit.
pub fn feature_setting(experiment: &Experiment) -> Outcome<Option<FeatureSetting>> {
    let (Some(features), Some(reference)) =
        (&experiment.evaluate.features, &experiment.evaluate.reference)
    else {
        return Ok(None);
    };
    let extractor = open_features(Path::new(features))?;
    let (shape, _) = experiment.sample().expect("checked when loaded");
    let reference = open_reference(&extractor, reference, &shape)?;
    Ok(Some(FeatureSetting { extractor, reference }))
}

/// The whole way, from teacher to report, in `folder`.
///
/// # Errors
/// When a stage fails; what earlier stages made is kept.
pub fn run(experiment: &Experiment, folder: &Path) -> Outcome<BTreeMap<String, f64>> {
    let started = Instant::now();
    let Prepared { teacher, drawing, pairs, test } = prepare(experiment, folder)?;
    let student_folder = folder.join("distill");
    atomic::create_folder(&student_folder)?;
    let distilled = distill(experiment, &pairs, &student_folder)?;
    let path = folder.join(STUDENT);
    atomic::copy(&distilled, &path)?;

    let student = LoadedStudent::open(&path)?;
    let data = experiment.distribution();
    let board = matches!(data, Some(Distribution::Checkerboard(_)));
    let perceptual =
        load_perceptual(&student.file.loss, None, &student.file.student.shape, &Device::flex())?;
    let networks = LossNetworks { perceptual, ..LossNetworks::default() };
    let measuring = Measuring {
        groups: vec![
            MetricGroup::Losses,
            MetricGroup::Paired,
            MetricGroup::Distribution,
            MetricGroup::Features,
        ],
        board,
        directions: experiment.evaluate.directions,
        networks,
        lpips: None,
        features: feature_setting(experiment)?,
    };
    let mut values = evaluate(&student, &test, &measuring)?;
    values.extend(speed(&teacher, &drawing, &student, &test));
    atomic::write(&folder.join(EVALUATION), pretty(&json!(values)).as_bytes())?;

    let pairs = test.range(0..test.len());
    let labels = one_hot(&pairs.labels, student.file.student.label_dim);
    let sitting = Sitting {
        noise: &pairs.noise,
        labels: &labels,
        teacher: Some(&pairs.images),
        clusters: ClusterConfig::default(),
        clustered: experiment.evaluate.clusters,
        data: data.as_ref(),
    };
    let portrait = portrait(&student, sitting)?;
    let setting = measuring.features.as_ref();
    let subject = Subject {
        student: &student,
        noise: &pairs.noise,
        labels: &labels,
        extractor: setting.map(|s| &s.extractor),
        reference: setting.map(|s| &s.reference),
        data: &test.manifest().teacher.as_ref().map(|t| t.data.clone()).unwrap_or_default(),
    };
    let found = examine(subject, Some((&teacher, &drawing.process)))?;
    let mut tables = vec![metric_table("Evaluation", &values), structure_table(&portrait)];
    tables.extend(found.tables);
    let mut figures = portrait.figures;
    figures.extend(found.figures);
    let curves = [
        ("train/loss", "training loss"),
        ("train/latent", "latent"),
        ("train/rec", "reconstruction"),
        ("train/push", "push"),
        ("validation/rmse", "validation rmse"),
    ];
    let caption = "The loss and its terms over the training, on a logarithmic axis. The validation error is on pairs held out, \
                   with averaged weights and without latent noise.";
    figures.extend(curve_figure(&student_folder, "Distillation", caption, &curves)?);
    figures.extend(spectra_figure(&student_folder)?);
    let teacher_curves = [("train/loss", "training loss"), ("validation/loss", "validation loss")];
    let caption = "Mean squared error of the velocity. It can't reach zero: at a noisy point the way to the sample is not \
                   certain. Validation is on fresh samples, with averaged weights.";
    figures.extend(curve_figure(
        &folder.join("teacher"),
        "Teacher training",
        caption,
        &teacher_curves,
    )?);
    let report = Report {
        title: format!("kdm: {}", experiment.name),
        summary: format!(
            "A {} teacher, {} pairs of {} evaluations each, and a student that needs one mode. Numbers are on {} test \
             pairs whose noise no part of the training saw.",
            match experiment.teacher.kind {
                TeacherKind::Exact => "closed-form",
                TeacherKind::FlowMlp => "flow-matching",
                TeacherKind::Network | TeacherKind::File => "diffusion",
            },
            experiment.pairs.count,
            drawing.evaluations(teacher.label_dim()),
            test.len()
        ),
        figures,
        tables,
        config: experiment.to_toml(),
    };
    write_report(folder, &report)?;
    tracing::info!("the whole run took {:.0} s", started.elapsed().as_secs_f64());
    Ok(values)
}

/// JSON for a person.
pub fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("plain data") + "\n"
}
