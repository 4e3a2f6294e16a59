//! The distillation of a student from stored pairs.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use kdm_data::pairs::{Manifest, PairStore};
use kdm_data::{TensorFile, atomic, hash, model};
use kdm_formats::{features, official};
use kdm_koopman::distill::Trainee;
use kdm_koopman::origin::{Distillation, PairsStamp, Training};
use kdm_koopman::student_file::{KIND as STUDENT_KIND, PerceptualStamp, StudentFile};
use kdm_koopman::warm_start::{self, WarmStart};
use kdm_koopman::{DistillTask, Origin, Reconstruction, Student, StudentConfig};
use kdm_metrics::features::extractor::load_classifier;
use kdm_nn::state::load_state;
use kdm_nn::{Discriminator, DiscriminatorConfig, InitSeed, Lpips, Perceptual, Pooling};
use kdm_train::{CHECKPOINT, Extension, train};
use serde_json::{Value, json};

use super::watched::{Watched, drawn, of_student};
use crate::assets::{self, Role};
use crate::run_folder::{INIT, STUDENT};
use crate::{Context, Experiment, Failure, Outcome};

/// What to do about a distillation whose values are not finite.
const ADVICE: &str = "begin another run with a lower `train.lr`, in another folder (--out); \
                      `train.non_finite` = \"replace\" takes single gradients for 0, as the paper \
                      does";
/// Streams of the experiment's seed.
const STUDENT_STREAM: u64 = 11;
const TRAINING_STREAM: u64 = 12;
const TARGET_STREAM: u64 = 13;

/// The network of a perceptual loss, frozen, and what identifies it.
#[derive(Clone, Debug)]
pub struct LossNetwork {
    /// The network.
    pub network: Perceptual,
    /// Its name and hash.
    pub stamp: PerceptualStamp,
}

/// The files that a loss with a perceptual distance looks through, where they are named.
#[derive(Clone, Copy, Debug, Default)]
pub struct LossFiles<'a> {
    /// LPIPS weights, from `kdm import`.
    pub lpips: Option<&'a Path>,
    /// A classifier: a file of `kdm features train`, or the name of one that ships.
    pub features: Option<&'a Path>,
}

impl<'a> LossFiles<'a> {
    /// Those that the experiment names.
    pub fn of(experiment: &'a Experiment) -> Self {
        let path = |name: &'a Option<String>| name.as_deref().map(Path::new);
        Self {
            lpips: path(&experiment.loss.lpips_weights),
            features: path(&experiment.loss.features),
        }
    }
}

/// The network of a perceptual loss on samples of `shape`, frozen; none where the loss has none.
/// LPIPS is with average pooling, as in the paper.
///
/// # Errors
/// When it is needed and not named, can't be read, or sees no such images.
pub fn open_loss_network(
    reconstruction: Reconstruction,
    files: LossFiles,
    shape: &[usize],
    device: &Device,
) -> Outcome<Option<LossNetwork>> {
    if reconstruction.has_lpips() {
        let Some(path) = files.lpips else {
            return Err(Failure::Usage(
                "the loss has LPIPS, and its weights are not named: give --lpips FILE, from `kdm \
                 import vgg16.pth --heads vgg.pth`"
                    .into(),
            ));
        };
        let (network, sha256) = open_lpips(path, Pooling::Average, device)?;
        let stamp = PerceptualStamp { name: "lpips".into(), sha256: Some(sha256) };
        let network = kdm_nn::frozen(Perceptual::Lpips(network));
        return Ok(Some(LossNetwork { network, stamp }));
    }
    if !reconstruction.has_features() {
        return Ok(None);
    }
    let Some(source) = files.features else {
        return Err(Failure::Usage(
            "the loss has a classifier's features, and the classifier is not named: give \
             --loss-features FILE, from `kdm features train`"
                .into(),
        ));
    };
    let file = assets::open(Role::Features, source)?;
    let (described, network, stamp) = load_classifier(&file, device)?;
    let sees = &described.network;
    if *shape != [sees.in_channels, sees.resolution, sees.resolution] {
        let problem = format!(
            "the classifier sees images {0}x{1}x{1}, not {shape:?}",
            sees.in_channels, sees.resolution
        );
        let action = "train one for these images: `kdm features train`";
        return Err(kdm_data::Error::invalid(file.path(), "config.network", problem, action).into());
    }
    let name = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let stamp = PerceptualStamp { name, sha256: Some(stamp.sha256) };
    let network = kdm_nn::frozen(Perceptual::Classifier(network));
    Ok(Some(LossNetwork { network, stamp }))
}

/// LPIPS from its model file, and the hash of its weights.
///
/// # Errors
/// When the file is damaged or not of LPIPS.
pub fn open_lpips(path: &Path, pooling: Pooling, device: &Device) -> Outcome<(Lpips, String)> {
    let network = Lpips::init(pooling, &mut InitSeed::new(0), device);
    open_weights(path, features::LPIPS, network)
}

/// A discriminator of images of `channels` from its model file.
///
/// # Errors
/// When the file is damaged or no discriminator's.
pub fn open_discriminator(path: &Path, channels: usize, device: &Device) -> Outcome<Discriminator> {
    let config = DiscriminatorConfig { in_channels: channels };
    let network = config.init(&mut InitSeed::new(0), device);
    Ok(open_weights(path, official::DISCRIMINATOR, network)?.0)
}

/// A network that stands alone in a model file of this kind, and the hash of its weights.
fn open_weights<M: Module>(path: &Path, kind: &str, network: M) -> Outcome<(M, String)> {
    let (config, state): (Value, _) = model::read(path, kind)?;
    let sha256 = model::fingerprint(&config, &state);
    let network = load_state(network, &state).map_err(|e| {
        kdm_data::Error::invalid(path, "tensors", e.to_string(), "import the weights again")
    })?;
    Ok((network, sha256))
}

/// The student that the experiment distills from the pairs of `store`.
///
/// # Errors
/// When there are too few pairs for the training, or no such student for samples like these.
pub fn student_for(experiment: &Experiment, store: &PairStore) -> Outcome<StudentConfig> {
    let (manifest, held_out) = (store.manifest(), experiment.train.held_out);
    if held_out >= store.len() {
        return Err(Failure::Usage(format!(
            "`train.held_out` is {held_out}, and `{}` has {} pairs; lower it with --set \
             train.held_out=N",
            store.folder().display(),
            store.len()
        )));
    }
    let shape = manifest.shape.clone();
    let student = experiment.student_config(shape, manifest.label_dim, manifest.noise_std);
    match student.problems().into_iter().next() {
        Some(problem) => Err(problem.within("student").into()),
        None => Ok(student),
    }
}

/// The student's file that a distillation in `folder` begins with; none for fresh weights.
fn init_file(folder: &Path) -> Outcome<Option<TensorFile>> {
    let path = folder.join(INIT);
    Ok(path.exists().then(|| TensorFile::open(&path)).transpose()?)
}

/// `student` with the weights of the student's file `from`, where they fit.
///
/// # Errors
/// When the file is no student's, or nothing of it fits.
fn begin_with(student: Student, from: &TensorFile) -> Outcome<(Student, WarmStart)> {
    let (_, weights): (StudentFile, _) = model::parse(from, STUDENT_KIND)?;
    let (student, taken, of) = warm_start::begin_with(student, &weights);
    if taken == 0 {
        let problem = "none of its weights fits the student that is trained";
        let action = "give a student of the same method and sizes, or leave --init-from out";
        return Err(kdm_data::Error::invalid(from.path(), "tensors", problem, action).into());
    }
    Ok((student, WarmStart { sha256: hash::sha256(from.bytes()), taken, of }))
}

/// Whether the student of this experiment can begin with the weights of the student's file `from`.
///
/// # Errors
/// When the file is no student's, or nothing of it fits. Nothing is written.
pub fn check_init(
    experiment: &Experiment,
    store: &PairStore,
    from: &TensorFile,
    device: &Device,
) -> Outcome<()> {
    begin_with(student_for(experiment, store)?.init(0, device), from).map(drop)
}

/// Makes the distillation in `folder` begin with the weights of the student's file `from`, of which
/// it keeps a copy, so that it goes on without it.
///
/// # Errors
/// When it was begun with others, or the folder can't be written.
pub fn claim_init(folder: &Path, from: &TensorFile) -> Outcome<()> {
    let begun = folder.join(CHECKPOINT).exists();
    match init_file(folder)? {
        Some(kept) if kept.bytes() == from.bytes() => Ok(()),
        None if !begun => Ok(atomic::write(&folder.join(INIT), from.bytes())?),
        other => {
            let shown = folder.display();
            let with = if other.is_some() { "another student's" } else { "fresh" };
            Err(Failure::Usage(format!(
                "--init-from {}: the training in `{shown}` was begun with {with} weights; leave it \
                 out to go on with that, or choose another folder with --out",
                from.path().display()
            )))
        }
    }
}

/// Distills a student from the pairs of `store`, in the run folder `folder`. Gives the file of the
/// student to use: the averaged weights that did best on the held-out pairs, or the last averaged
/// ones when none are held out. The student begins with the weights of the folder's [`INIT`] where
/// there is one.
///
/// Several workers of the runtime train together, and the first one writes the files.
///
/// # Errors
/// When the pairs are too few, workers have different ones, a file can't be read or written, or the
/// training stops.
pub fn distill(
    experiment: &Experiment,
    store: PairStore,
    folder: &Path,
    context: Context,
) -> Outcome<PathBuf> {
    let student = student_for(experiment, &store)?;
    let (manifest, held_out) = (store.manifest().clone(), experiment.train.held_out);
    let (device, workers) = (context.runtime.training(), context.runtime.workers());
    workers.agree(&[("store of pairs", &json!(manifest).to_string())])?;
    let files = LossFiles::of(experiment);
    let network =
        open_loss_network(experiment.loss.reconstruction, files, &student.shape, &device)?;
    let looping = experiment.student_loop();
    let mut file = StudentFile {
        student,
        loss: experiment.loss.config(),
        target_seed: kdm_random::derive_seed(experiment.seed, TARGET_STREAM),
        perceptual: network.as_ref().map(|network| network.stamp.clone()),
        origin: Origin::default(),
    };
    let fresh = file.student.init(student_seed(experiment), &device);
    let mut inputs = experiment.student_inputs(&manifest.plan_hash());
    let (begin, warm) = match init_file(folder)? {
        None => (fresh, None),
        Some(from) => {
            let (begin, warm) = begin_with(fresh, &from)?;
            inputs["init_from"] = json!(warm.sha256);
            let share = 100.0 * warm.taken as f64 / warm.of as f64;
            context.observer.info(&format!(
                "{share:.1}% of the student's {} numbers begin with those of --init-from",
                warm.of
            ));
            (begin, Some(warm))
        }
    };
    let extended = kdm_train::extensions(folder, &looping)?;
    file.origin = origin(experiment, &manifest, warm, extended);
    let seed = kdm_random::derive_seed(experiment.seed, TRAINING_STREAM);
    let network = network.map(|network| network.network);
    let batch = experiment.train.batch;
    let (config, plain) = (file.student.clone(), context.device());
    let shown = drawn(&config.shape).unwrap_or(0).min(manifest.count);
    let samples = store.range(manifest.count - shown..manifest.count);
    let task = DistillTask::new(store, held_out, batch, seed, file.clone(), network, device);
    let best_path = folder.join("best.safetensors");
    let trainee = task.begin(begin, student_seed(experiment));
    let draw = |trainee: &Trainee| {
        let some = shown > 0;
        some.then(|| of_student(&trainee.student, &config, &samples, plain)).flatten()
    };
    let task = Watched { task, draw };
    let observer = context.observer;
    let trained = train(&task, trainee, &looping, &inputs, folder, &best_path, workers, observer)
        .map_err(|e| e.advise(ADVICE))?;
    let path = folder.join(STUDENT);
    if !workers.leads() {
        return Ok(path);
    }
    file.save(&trained.averaged.student, &folder.join("last-ema.safetensors"))?;
    file.save(&trained.last.student, &folder.join("last.safetensors"))?;
    match trained.best {
        Some(_) => atomic::copy(&best_path, &path)?,
        None => {
            file.save(&trained.averaged.student, &path)?;
            context.observer.info("no pairs held out: the last averaged weights are kept");
        }
    }
    if trained.replaced > 0 {
        context.observer.warn(&format!(
            "gradients that weren't finite were replaced in {} iterations",
            trained.replaced
        ));
    }
    Ok(path)
}

/// The seed of the fresh weights.
fn student_seed(experiment: &Experiment) -> u64 {
    kdm_random::derive_seed(experiment.seed, STUDENT_STREAM)
}

/// Where a student of this experiment, trained on the pairs of `manifest`, is from.
fn origin(
    experiment: &Experiment,
    manifest: &Manifest,
    init_from: Option<WarmStart>,
    extended: Vec<Extension>,
) -> Origin {
    let Value::Object(mut settings) = json!(experiment.train) else { unreachable!("a section") };
    ["iterations", "batch"].iter().for_each(|key| drop(settings.remove(*key)));
    Origin::distilled(Distillation {
        experiment: experiment.name.clone(),
        seed: experiment.seed,
        train: Training {
            iterations: experiment.train.iterations,
            batch: experiment.train.batch,
            settings,
        },
        pairs: PairsStamp {
            teacher: manifest.teacher.clone(),
            sampling: json!(manifest.sampling),
            count: manifest.count,
            plan: manifest.plan_hash(),
        },
        init_from,
        extended,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;
    use crate::stages::pairs::{Drawing, StorePlan, draw_pairs, pair_plan};
    use crate::student::LoadedStudent;
    use kdm_data::pairs::{ImageType, Worker};
    use kdm_observer::{Event, Observer, Silent};
    use std::cell::Cell;

    fn experiment(settings: &[&str]) -> Experiment {
        let tiny = [
            "teacher.kind=exact",
            "pairs.count=96",
            "pairs.test=32",
            "student.latent=8",
            "student.network={kind='mlp',hidden=16,layers=2}",
            "train.batch=16",
            "train.iterations=12",
            "train.held_out=16",
            "train.log_every=4",
            "train.validate_every=6",
            "train.checkpoint_every=5",
        ];
        let all: Vec<String> = tiny.iter().chain(settings).map(ToString::to_string).collect();
        Experiment::load("checkerboard", &all).unwrap()
    }

    fn store(folder: &Path) -> PairStore {
        let experiment = experiment(&[]);
        let teacher = kdm_teacher::Teacher::exact(experiment.exact()).unwrap();
        let drawing = Drawing { steps: 4, ..Drawing::of(&experiment, &teacher) };
        let (dtype, shard_size) = (ImageType::F32, 40);
        let plan = StorePlan { first_seed: 0, count: 96, dtype, shard_size, states: 0 };
        let plan = pair_plan(&teacher, &drawing, plan).unwrap();
        draw_pairs(&teacher, &plan, &drawing, folder, Worker::ALONE, "pairs", &Silent).unwrap();
        PairStore::open_verified(folder).unwrap()
    }

    /// Stops the training once it has come to its eighth iteration.
    #[derive(Default)]
    struct StopAtEight(Cell<u64>);

    impl Observer for StopAtEight {
        fn event(&self, event: &Event) {
            if let Event::Advanced { done, .. } = event {
                self.0.set(*done);
            }
        }

        fn stopping(&self) -> bool {
            self.0.get() >= 8
        }
    }

    /// A distillation that was stopped goes on and ends in the bytes of one that was not; the
    /// student's file says which experiment and which teacher it is from.
    #[test]
    fn a_stopped_distillation_goes_on_to_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let (runtime, experiment) = (Runtime::cpu(), experiment(&[]));
        let pairs = store(&folder.path().join("pairs"));
        let place = |name: &str| {
            let place = folder.path().join(name);
            atomic::create_folder(&place).unwrap();
            place
        };
        let silent = Context::silent(&runtime);
        let whole = distill(&experiment, pairs.clone(), &place("whole"), silent).unwrap();
        let stopping = StopAtEight::default();
        let context = Context { observer: &stopping, ..Context::silent(&runtime) };
        let failure = distill(&experiment, pairs.clone(), &place("again"), context).unwrap_err();
        assert_eq!(failure.exit_code(), 130);
        assert!(failure.to_string().contains("--resume"), "{failure}");
        let again = distill(&experiment, pairs, &place("again"), silent).unwrap();
        assert_eq!(std::fs::read(&whole).unwrap(), std::fs::read(&again).unwrap());

        let student = LoadedStudent::open(&whole, runtime.device()).unwrap();
        let origin = &student.file.origin;
        assert_eq!(origin.data(), Some("checkerboard"));
        let training = &origin.distillation().unwrap().train;
        assert_eq!((training.iterations, training.batch), (12, 16));
        assert_eq!(student.file.perceptual, None);
        assert!(student.process().is_ok());
    }

    /// A batch in leaves has the loss, its terms and the gradient of the whole batch, but for
    /// rounding: noise belongs to a row, whichever leaf it is in.
    #[test]
    fn leaves_change_a_distillation_by_rounding() {
        let folder = tempfile::tempdir().unwrap();
        let (runtime, pairs) = (Runtime::cpu(), store(&folder.path().join("pairs")));
        let logged = |leaves: usize| {
            let settings = [format!("train.leaves={leaves}"), "train.log_every=1".into()];
            let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
            let place = folder.path().join(format!("leaves-{leaves}"));
            atomic::create_folder(&place).unwrap();
            let experiment = experiment(&settings);
            distill(&experiment, pairs.clone(), &place, Context::silent(&runtime)).unwrap();
            kdm_train::read_metrics(&place).unwrap()
        };
        let whole = logged(1);
        for (line, expected) in logged(4).iter().zip(&whole) {
            for key in ["train/loss", "train/latent", "train/push", "train/gradient_norm"] {
                let [found, expected] = [line, expected].map(|line| line[key].as_f64());
                let close = |found: f64, expected: f64| (found / expected - 1.0).abs() < 1e-3;
                assert!(found.zip(expected).is_none_or(|(a, b)| close(a, b)), "{key}: {line}");
                assert_eq!(found.is_some(), expected.is_some());
            }
        }
        assert!(whole.iter().any(|line| line["train/latent"].is_f64()));
    }

    #[test]
    fn a_distillation_without_pairs_to_train_on_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let settings = ["pairs.count=1000", "train.held_out=96"];
        let (runtime, experiment) = (Runtime::cpu(), experiment(&settings));
        let pairs = store(&folder.path().join("pairs"));
        let failure =
            distill(&experiment, pairs, folder.path(), Context::silent(&runtime)).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.to_string().contains("`train.held_out` is 96"), "{failure}");
    }

    #[test]
    fn a_loss_needs_its_network() {
        let runtime = Runtime::cpu();
        let open = |reconstruction, files, shape: &[usize]| {
            open_loss_network(reconstruction, files, shape, runtime.device())
        };
        let none = LossFiles::default();
        assert!(open(Reconstruction::L2, none, &[2]).unwrap().is_none());
        for (kind, flag) in
            [(Reconstruction::Lpips, "--lpips"), (Reconstruction::L2Features, "--loss-features")]
        {
            let failure = open(kind, none, &[1, 32, 32]).unwrap_err();
            assert!(failure.to_string().contains(flag), "{failure}");
        }
        let files = LossFiles { features: Some(Path::new("fashion-mnist-loss")), ..none };
        let found = open(Reconstruction::L2Features, files, &[1, 32, 32]).unwrap().unwrap();
        assert_eq!(found.stamp.name, "fashion-mnist-loss");
        assert!(found.stamp.sha256.is_some());
        let failure = open(Reconstruction::L2Features, files, &[3, 32, 32]).unwrap_err();
        assert!(failure.to_string().contains("kdm features train"), "{failure}");
    }
}
