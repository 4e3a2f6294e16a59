//! The teacher of an experiment: in closed form, from a file, or trained.

use std::path::Path;

use burn::tensor::Device;
use kdm_data::pairs::{label_of_seed, noise_of_seed};
use kdm_data::{Labels, Samples, Split, TensorFile, atomic, tensors};
use kdm_nn::{Mlp, UNet};
use kdm_observer::Observer;
use kdm_teacher::distributions::DistributionConfig;
use kdm_teacher::networks::FlowMlp;
use kdm_teacher::networks::image::NetworkTeacher;
use kdm_teacher::{
    Churn, Denoiser, EdmTask, FlowTask, Guided, Level, Process, Teacher, solve_stochastic,
    solve_watched,
};
use kdm_train::{CHECKPOINT, Task, train};

use super::images::open_images;
use super::pairs::{Drawing, at_a_time};
use super::watched::{Watched, of_teacher};
use crate::assets::{self, Role};
use crate::experiment::TeacherKind;
use crate::nearest::did_you_mean;
use crate::run_folder::TEACHER;
use crate::sample_files::NoiseScale;
use crate::{Context, Experiment, Failure, Outcome};

/// The stream of an experiment's seed that its teacher is trained with.
const TEACHER_STREAM: u64 = 10;
/// The best weights of a teacher's training.
const BEST: &str = "teacher-best.safetensors";

/// A teacher by its file, by the name of one that ships with the program, or by the name of one in
/// closed form (`checkerboard`, `gaussian`, `mixture`).
///
/// # Errors
/// When there is none of that name, or its file is damaged.
pub fn open_teacher(model: &str, device: &Device) -> Outcome<Teacher> {
    if let Some(config) = DistributionConfig::by_name(model) {
        return Ok(Teacher::exact(config)?);
    }
    let file = assets::open(Role::Teacher, Path::new(model)).map_err(|failure| match failure {
        Failure::Usage(text) => {
            let meant = match text.contains("did you mean") {
                true => String::new(),
                false => did_you_mean(model, DistributionConfig::NAMES),
            };
            let exact = DistributionConfig::NAMES.join(", ");
            Failure::Usage(format!("{text}; or one of the exact teachers {exact}{meant}"))
        }
        other => other,
    })?;
    Ok(Teacher::from_file(&file, device)?)
}

/// Noise x_T and the classes that these seeds draw, the same as for pairs of `process`; no images
/// yet.
pub fn draw_noise(teacher: &Teacher, process: &Process, seeds: &[u64]) -> Samples {
    let (dim, classes) = (teacher.dim(), teacher.label_dim());
    let mut noise = vec![0.0; seeds.len() * dim];
    let rows = noise.chunks_mut(dim).zip(seeds);
    rows.for_each(|(row, seed)| noise_of_seed(*seed, process.noise_std(), row));
    let label = |seed: &u64| (classes > 0).then(|| label_of_seed(*seed, classes));
    let (labels, seeds) = (seeds.iter().map(label).collect(), seeds.to_vec());
    Samples { shape: teacher.shape(), noise, images: Vec::new(), labels, seeds, states: Vec::new() }
}

/// Samples that the teacher draws from `start`'s noise, row by row, along `drawing`; or, with
/// `churn` and the seed of its noise, by the stochastic sampler of Karras et al. A sample depends
/// on its own noise and label alone.
///
/// # Errors
/// When the observer stops it.
pub fn draw_samples(
    teacher: &Teacher,
    drawing: &Drawing,
    start: Samples,
    scale: NoiseScale,
    churn: Option<(Churn, u64)>,
    observer: &dyn Observer,
) -> Outcome<Samples> {
    let Drawing { process, solver, steps, guidance, .. } = drawing;
    let Samples { noise, labels, .. } = &start;
    let (dim, count) = (teacher.dim(), labels.len());
    let std = match scale {
        NoiseScale::Unit => process.noise_std(),
        NoiseScale::SigmaMax => 1.0,
    };
    let guided = Guided { denoiser: teacher, weight: *guidance };
    let at_a_time = at_a_time(teacher);
    let evaluations = solver.evaluations(*steps) as f64;
    let mut progress = observer.begin("teacher's samples", "samples");
    let mut images = Vec::with_capacity(noise.len());
    for start in (0..count).step_by(at_a_time) {
        progress.advance(start as u64, count as u64, "")?;
        let rows = start..(start + at_a_time).min(count);
        let labels = labels.range(rows.clone());
        let mut watch = |made: usize| {
            let share = made as f64 / evaluations * rows.len() as f64;
            progress.advance(start as u64 + share as u64, count as u64, "")
        };
        let part = &noise[rows.start * dim..rows.end * dim];
        let x: Vec<f64> = part.iter().map(|e| f64::from(*e) * std).collect();
        let x = match churn {
            None => solve_watched(&guided, process, (*solver, *steps), x, &labels, &mut watch)?,
            Some((churn, first)) => {
                let seeds: Vec<u64> = rows.map(|i| first.wrapping_add(i as u64)).collect();
                solve_stochastic(&guided, process, churn, *steps, x, &labels, &seeds)
            }
        };
        images.extend(x.into_iter().map(|x| x as f32));
    }
    progress.report(count as u64, count as u64, "");
    progress.finish("");
    Ok(Samples { shape: teacher.shape(), images, ..start })
}

/// Images that the teacher draws from the noise x_T of `samples`, along `drawing`.
///
/// # Errors
/// When the observer stops it.
pub fn draw_from(
    teacher: &Teacher,
    drawing: &Drawing,
    samples: &Samples,
    observer: &dyn Observer,
) -> Outcome<Vec<f32>> {
    let Drawing { process, solver, steps, guidance, .. } = drawing;
    let guided = Guided { denoiser: teacher, weight: *guidance };
    let evaluations = solver.evaluations(*steps) as f64;
    let (count, at_a_time) = (samples.len(), at_a_time(teacher));
    let mut progress = observer.begin("teacher's samples", "samples");
    let mut images = Vec::with_capacity(samples.noise.len());
    for start in (0..count).step_by(at_a_time) {
        let part = samples.range(start..(start + at_a_time).min(count));
        let mut watch = |made: usize| {
            let share = made as f64 / evaluations * part.len() as f64;
            progress.advance(start as u64 + share as u64, count as u64, "")
        };
        let x = part.noise.iter().map(|x| f64::from(*x)).collect();
        let how = (*solver, *steps);
        let drawn = solve_watched(&guided, process, how, x, &part.labels, &mut watch)?;
        images.extend(drawn.into_iter().map(|x| x as f32));
    }
    progress.finish("");
    Ok(images)
}

/// D(x; sigma), the teacher's clean samples for rows of noisy ones x_0 + sigma e.
pub fn denoise(teacher: &Teacher, noisy: &[f32], sigma: f64, labels: Labels) -> Samples {
    let x: Vec<f64> = noisy.iter().map(|x| f64::from(*x)).collect();
    let clean = teacher.denoise(&x, Level { alpha: 1.0, sigma }, &labels);
    let images = clean.into_iter().map(|x| x as f32).collect();
    Samples { shape: teacher.shape(), images, labels, ..Samples::default() }
}

/// The experiment's teacher, trained in `folder` if it has to be, in `folder/teacher.safetensors`.
/// Several workers of the runtime train it together, and the first one writes the files.
///
/// # Errors
/// When a file can't be read or written, or the training stops.
pub fn make_teacher(experiment: &Experiment, folder: &Path, context: Context) -> Outcome<Teacher> {
    let path = folder.join(TEACHER);
    // A training that was made longer goes on, where its checkpoint is still there.
    let trained = |file: &TensorFile| file.metadata()["iteration"].as_u64();
    let done = TensorFile::open(&folder.join(CHECKPOINT)).ok().as_ref().and_then(trained);
    let longer = done.is_some_and(|done| done < experiment.teacher.train.iterations);
    let workers = context.runtime.workers();
    if workers.first_decides(!path.exists() || longer) {
        match experiment.teacher.kind {
            TeacherKind::Network => train_network(experiment, folder, &path, context)?,
            TeacherKind::FlowMlp => train_flow_mlp(experiment, folder, &path, context)?,
            _ if !workers.leads() => {}
            TeacherKind::Exact => {
                Teacher::exact(experiment.exact()).expect("checked when loaded").save(&path)?;
            }
            TeacherKind::File => copy_teacher(experiment, folder, &path, context.device())?,
        }
    }
    workers.meet();
    Ok(Teacher::load(&path, context.device())?)
}

/// Copies the file that the experiment names.
fn copy_teacher(
    experiment: &Experiment,
    folder: &Path,
    path: &Path,
    device: &Device,
) -> Outcome<()> {
    let file = teacher_file(experiment, device)?;
    atomic::create_folder(folder)?;
    Ok(tensors::write_copy(path, &file)?)
}

/// The file that the experiment names, of a teacher that draws what the experiment is of.
///
/// # Errors
/// When none is named or there, or it draws something else.
pub(super) fn teacher_file(experiment: &Experiment, device: &Device) -> Outcome<TensorFile> {
    let source = experiment.teacher.path.clone().unwrap_or_default();
    if source.is_empty() {
        return Err(Failure::Usage(
            "`teacher.path` is missing; give the teacher's model file with --set teacher.path=FILE"
                .into(),
        ));
    }
    let source = Path::new(&source);
    if !source.exists() && !assets::is_built_in(Role::Teacher, &source.to_string_lossy()) {
        let shown = source.display();
        return Err(Failure::Usage(format!(
            "`teacher.path`: there is no `{shown}`; bring a teacher in with `kdm import FILE --out \
             {shown}`, or name another with --set teacher.path=FILE"
        )));
    }
    let file = assets::open(Role::Teacher, source)?;
    let teacher = Teacher::from_file(&file, device)?;
    if experiment.pairs.guidance != 1.0 && teacher.needs_class() {
        let problem = "was trained with a class for every sample, and guidance needs one that \
                       draws without a class too";
        let action = "set pairs.guidance=1";
        return Err(kdm_data::Error::invalid(source, "teacher", problem, action).into());
    }
    let (shape, label_dim) = experiment.sample().expect("checked when loaded");
    if teacher.shape() != shape || teacher.label_dim() != label_dim {
        let problem = format!(
            "draws {:?} of {} classes, and the experiment is of {shape:?} and {label_dim}",
            teacher.shape(),
            teacher.label_dim()
        );
        let action = "give another teacher, or set teacher.shape and teacher.label_dim";
        return Err(kdm_data::Error::invalid(source, "teacher", problem, action).into());
    }
    Ok(file)
}

/// Trains an MLP by flow matching in `folder` and writes it to `path`.
fn train_flow_mlp(
    experiment: &Experiment,
    folder: &Path,
    path: &Path,
    context: Context,
) -> Outcome<()> {
    atomic::create_folder(folder)?;
    let seed = kdm_random::derive_seed(experiment.seed, TEACHER_STREAM);
    let device = context.runtime.training();
    let config = experiment.flow_mlp();
    let task = FlowTask {
        distribution: experiment.distribution().expect("a flow-matching teacher learns one"),
        config: config.clone(),
        batch: experiment.teacher.train.batch,
        seed,
        device: device.clone(),
    };
    let network = config.init(&task.distribution, seed, &device);
    let dim = task.distribution.shape().iter().product();
    let process = experiment.pairs.process;
    let draw = |network: &Mlp| of_teacher(&FlowMlp::new(network.clone(), dim), &process);
    let task = Watched { task, draw };
    train_task(experiment, &task, network, folder, path, context)
}

/// Trains an image teacher in `folder` and writes it to `path`.
fn train_network(
    experiment: &Experiment,
    folder: &Path,
    path: &Path,
    context: Context,
) -> Outcome<()> {
    let mut config = experiment.network_teacher().expect("checked when loaded");
    let source = experiment.teacher.dataset.clone().unwrap_or_default();
    let (channels, side) = (config.network.channels().0, config.network.resolution());
    let shape = [channels, side, side];
    let images = open_images(&source, Split::Train, &shape, context.observer)?;
    if config.network.label_dim() > images.classes() {
        let problem = format!(
            "has {} classes, and the network {}",
            images.classes(),
            config.network.label_dim()
        );
        let action = "set teacher.network.label_dim to the data's";
        return Err(kdm_data::Error::invalid(&source, "dataset.json", problem, action).into());
    }
    config.class_names = images.class_names();
    config.class_names.truncate(config.network.label_dim());
    atomic::create_folder(folder)?;
    let t = &experiment.teacher.train;
    let seed = kdm_random::derive_seed(experiment.seed, TEACHER_STREAM);
    let device = context.runtime.training();
    let network = config.init(seed, &device);
    let task = EdmTask {
        config: config.clone(),
        images,
        batch: t.batch,
        seed,
        augment: t.augment,
        device,
    };
    let process = experiment.pairs.process;
    let draw = |network: &UNet| {
        let teacher = NetworkTeacher::new(&config, network.clone());
        of_teacher(&teacher, &process.fit(&teacher))
    };
    let task = Watched { task, draw };
    train_task(experiment, &task, network, folder, path, context)
}

/// Trains `network` in `folder` and writes its averaged weights to `path`.
fn train_task<T: Task>(
    experiment: &Experiment,
    task: &T,
    network: T::Model,
    folder: &Path,
    path: &Path,
    context: Context,
) -> Outcome<()> {
    let best = folder.join(BEST);
    let looping = experiment.teacher_loop();
    let inputs = experiment.teacher_inputs();
    let advice =
        "begin another training with a lower `teacher.train.lr`, in another folder (--out)";
    let (workers, observer) = (context.runtime.workers(), context.observer);
    let trained = train(task, network, &looping, &inputs, folder, &best, workers, observer)
        .map_err(|e| e.advise(advice))?;
    if workers.leads() {
        task.save(&trained.averaged, path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;
    use kdm_observer::Silent;

    fn made(settings: &[&str], folder: &Path) -> Outcome<Teacher> {
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        let experiment = Experiment::load("checkerboard", &settings)?;
        make_teacher(&experiment, folder, Context::silent(&Runtime::cpu()))
    }

    /// An exact teacher is written and read back; a file that is there is taken as it is.
    #[test]
    fn a_teacher_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let settings = ["teacher.kind=exact", "teacher.data={name='mixture'}"];
        let exact = made(&settings[..1], folder.path()).unwrap();
        assert_eq!(exact.stamp().data, "checkerboard");
        let again = made(&settings[..1], folder.path()).unwrap();
        assert_eq!(again.stamp(), exact.stamp());
        let by_name = open_teacher("checkerboard", Runtime::cpu().device()).unwrap();
        assert_eq!(by_name.stamp(), exact.stamp());
    }

    /// A flow-matching teacher in leaves is the teacher of the whole batches, but for rounding.
    #[test]
    fn leaves_change_a_teacher_by_rounding() {
        let trained = |last: &[&str]| {
            let folder = tempfile::tempdir().unwrap();
            let small = ["teacher.kind=flow-mlp", "teacher.hidden=8", "teacher.train.batch=32"];
            let train = ["teacher.train.iterations=60", "teacher.train.ema_decay=0"];
            let teacher = made(&[&small[..], &train, last].concat(), folder.path()).unwrap();
            denoise(&teacher, &kdm_random::normal_vec(1, 40), 1.0, Labels::none(20)).images
        };
        let off =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let quick = "teacher.train.lr=1e-2";
        let [whole, parts] =
            ["1", "8"].map(|leaves| trained(&[quick, &format!("teacher.train.leaves={leaves}")]));
        let untrained = trained(&["teacher.train.lr=1e-9"]);
        assert!(off(&whole, &untrained) > 0.02);
        assert!(off(&whole, &parts) < 1e-5);
    }

    /// A teacher that isn't there, or draws other samples, is refused before any work.
    #[test]
    fn another_teacher_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = ["teacher.kind=file", "teacher.shape=[2]"];
        let failure = made(&file, folder.path()).unwrap_err();
        assert!(failure.to_string().contains("`teacher.path` is missing"), "{failure}");
        let missing = [file[0], file[1], "teacher.path=nowhere.safetensors"];
        let failure = made(&missing, folder.path()).unwrap_err();
        assert!(failure.to_string().contains("kdm import"), "{failure}");
        let other = [file[0], file[1], "teacher.path=fashion-mnist"];
        let failure = made(&other, folder.path()).unwrap_err();
        assert!(failure.to_string().contains("teacher.shape"), "{failure}");
        assert!(open_teacher("chekerboard", Runtime::cpu().device()).is_err());
    }

    /// The probability-flow ODE from unit noise and the denoiser agree with the closed form: at
    /// sigma close to 0 a sample of the data is its own denoised one.
    #[test]
    fn samples_lie_where_the_data_do() {
        let teacher = open_teacher("checkerboard", Runtime::cpu().device()).unwrap();
        let drawing = Drawing {
            process: kdm_teacher::Process::Flow,
            solver: kdm_teacher::Solver::Heun,
            steps: 40,
            guidance: 1.0,
            batch: 64,
        };
        let noise = kdm_random::normal_vec(3, 2 * 64);
        let labels = Labels::none(64);
        let start = Samples { shape: vec![2], noise, labels, ..Samples::default() };
        let samples =
            draw_samples(&teacher, &drawing, start, NoiseScale::Unit, None, &Silent).unwrap();
        let clean = denoise(&teacher, &samples.images, 1e-3, Labels::none(64));
        let off = clean.images.iter().zip(&samples.images).map(|(a, b)| (a - b).abs());
        // Samples near a square's edge are moved by about sigma.
        assert!(off.fold(0.0, f32::max) < 0.05);
    }
}
