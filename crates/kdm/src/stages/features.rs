//! Feature networks and the statistics of data sets that samples are compared with.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use kdm_data::images::{ReadOptions, has_test};
use kdm_data::{ImageSet, Split, TensorFile, hash};
use kdm_metrics::FeatureSpace;
use kdm_metrics::features::classifier_training::ClassifierTask;
use kdm_metrics::features::extractor::ClassifierFile;
use kdm_metrics::statistics::Origin;
use kdm_metrics::{Extractor, Moments, Statistics};
use kdm_nn::{ClassifierConfig, InitSeed};
use kdm_observer::Observer;
use kdm_train::{LoopConfig, OptimizerConfig, Schedule, SharedWork, Task, train};
use serde_json::json;

use super::images::{fit_images, open_set};
use crate::assets::{self, Role};
use crate::experiment::split_problem;
use crate::run_folder::FEATURES;
use crate::usable::{Wanted, instead};
use crate::{Context, Experiment, Failure, Outcome, cache};

/// The features that an experiment's samples are measured by; none when it names none.
///
/// # Errors
/// When they can't be read, or don't fit.
pub fn feature_space(experiment: &Experiment, context: Context) -> Outcome<Option<FeatureSpace>> {
    let e = &experiment.evaluate;
    let (Some(features), Some(reference)) = (&e.features, &e.reference) else {
        return Ok(None);
    };
    let (shape, _) = experiment.sample().expect("checked when loaded");
    open_feature_space(Path::new(features), reference, &shape, context).map(Some)
}

/// A feature network and what to compare with, for images of `shape`.
///
/// # Errors
/// When they can't be read, or don't fit.
pub fn open_feature_space(
    features: &Path,
    reference: &str,
    shape: &[usize],
    context: Context,
) -> Outcome<FeatureSpace> {
    let extractor = open_features(features, context.device())?;
    let reference = open_reference(&extractor, reference, shape, context.observer)?;
    Ok(FeatureSpace { extractor, reference })
}

/// A feature network: a file's, or one that ships with the program.
///
/// # Errors
/// When there is none, or it is damaged.
pub fn open_features(source: &Path, device: &Device) -> Outcome<Extractor> {
    Ok(Extractor::load(&assets::open(Role::Features, source)?, device)?)
}

/// Statistics of features of a data set, which was opened from `source`: of the first `count`
/// images or of all.
///
/// # Errors
/// When its images don't fit the network, or there are fewer than two.
pub fn reference_statistics(
    extractor: &Extractor,
    set: ImageSet,
    source: &str,
    split: Split,
    count: Option<usize>,
    observer: &dyn Observer,
) -> Outcome<Statistics> {
    let set = fit_to_network(extractor, set, source, observer)?;
    let count = count.unwrap_or(set.len());
    if count < 2 || count > set.len() {
        let problem = format!("{count} images are asked for, and there are {}", set.len());
        let action = "give at least 2 and no more";
        return Err(kdm_data::Error::invalid(source, "count", problem, action).into());
    }
    let found = extractor.inspect(&set.images(0..count), &set.shape(), observer)?;
    let data = Path::new(source).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let origin = Origin {
        network: extractor.stamp().clone(),
        data,
        split: split.name().into(),
        sha256: set.sha256(),
    };
    Ok(Statistics::of(&found, origin))
}

/// Images as a feature network takes them: a classifier's smaller ones are zero-padded.
///
/// # Errors
/// When they don't fit.
pub fn fit_to_network(
    extractor: &Extractor,
    set: ImageSet,
    source: &str,
    observer: &dyn Observer,
) -> Outcome<ImageSet> {
    let Some(file) = extractor.classifier() else { return Ok(set) };
    let network = &file.network;
    let shape = [network.in_channels, network.resolution, network.resolution];
    fit_images(set, source, &shape, observer)
}

/// Statistics to compare with: a file's, ones that ship with the program, or those of a data set
/// (its train split), which are computed and kept in the cache.
///
/// # Errors
/// When there are none, or they are of another network.
pub fn open_reference(
    extractor: &Extractor,
    source: &str,
    shape: &[usize],
    observer: &dyn Observer,
) -> Outcome<Statistics> {
    open_reference_with(extractor, source, shape, &ReadOptions::default(), observer)
}

/// [`open_reference`] of a data set that is read as `options` say.
///
/// # Errors
/// As there.
pub fn open_reference_with(
    extractor: &Extractor,
    source: &str,
    shape: &[usize],
    options: &ReadOptions,
    observer: &dyn Observer,
) -> Outcome<Statistics> {
    extractor.fits(shape).map_err(|problem| Failure::Usage(format!("--features: {problem}")))?;
    let path = Path::new(source);
    let statistics = if is_statistics_file(path) {
        statistics_file(path).map_err(|failure| instead(path, Wanted::Statistics, failure))?
    } else if let Some(statistics) = built_in_statistics(extractor, source)? {
        statistics
    } else {
        cached_statistics(extractor, source, options, observer)?
    };
    let checked = statistics.check(extractor.stamp(), extractor.features());
    checked.map_err(kdm_metrics::Error::from)?;
    if statistics.is_of_unknown_network() {
        observer.warn(&format!(
            "{source} doesn't say of which network it is; it is taken to be of `{}`, which has as \
             many features",
            extractor.stamp().name
        ));
    }
    Ok(statistics)
}

/// Whether a file is one of statistics: an `.npz` of images is a data set.
fn is_statistics_file(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("safetensors" | "pkl") => true,
        Some("npz") => !Statistics::is_absent_from(path),
        _ => false,
    }
}

/// The statistics in a file, also those in a pickle.
fn statistics_file(path: &Path) -> Outcome<Statistics> {
    if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("pkl")) {
        return Ok(Statistics::open(path)?);
    }
    let found = kdm_formats::statistics::read(path)?;
    let moments = Moments { count: 0, mean: found.mean, covariance: found.covariance };
    Ok(Statistics::foreign(path, moments, Vec::new()).checked(path)?)
}

/// Statistics that ship, where they are of this network.
fn built_in_statistics(extractor: &Extractor, source: &str) -> Outcome<Option<Statistics>> {
    if !assets::is_built_in(Role::Statistics, source) {
        return Ok(None);
    }
    let statistics = Statistics::load(&assets::open(Role::Statistics, Path::new(source))?)?;
    Ok((&statistics.origin.network == extractor.stamp()).then_some(statistics))
}

/// Statistics of a data set, from the cache if they are there. A file's name is a hash of network
/// and images.
fn cached_statistics(
    extractor: &Extractor,
    source: &str,
    options: &ReadOptions,
    observer: &dyn Observer,
) -> Outcome<Statistics> {
    let set = open_set(source, Split::Train, options, observer)?;
    let key = hash::sha256(format!("{} {}", extractor.stamp().sha256, set.sha256()).as_bytes());
    let folder = cache::folder();
    let path = folder.join(format!("{}-{}.safetensors", extractor.stamp().name, &key[..16]));
    if let Ok(file) = TensorFile::open(&path)
        && let Ok(statistics) = Statistics::load(&file)
    {
        return Ok(statistics);
    }
    let statistics = reference_statistics(extractor, set, source, Split::Train, None, observer)?;
    kdm_data::atomic::create_folder(&folder)?;
    statistics.write(&path)?;
    observer.info(&format!("statistics of {source} are kept in {}", path.display()));
    Ok(statistics)
}

/// How a feature network is trained.
#[derive(Clone, Debug)]
pub struct FeatureTraining {
    /// A labelled data set.
    pub data: String,
    /// A labelled set to validate on, all of it; none for the test split of `data`, or where it has
    /// none for a tenth of its images.
    pub test_data: Option<String>,
    /// Side of the images; smaller ones are zero-padded.
    pub resolution: usize,
    /// Crops and resizes images to `resolution` instead.
    pub resize: bool,
    /// Channels of the first layer; features are 8 times as many.
    pub width: usize,
    /// Times that the whole set is seen.
    pub epochs: f64,
    /// Images an iteration.
    pub batch: usize,
    /// Equal parts of a batch whose gradients are computed one by one; a power of two that divides
    /// it.
    pub leaves: usize,
    /// Learning rate, falling to zero.
    pub lr: f64,
    /// Seed of everything random.
    pub seed: u64,
}

/// A trained feature network.
#[derive(Clone, Debug, serde::Serialize)]
pub struct TrainedFeatures {
    /// Its file.
    pub path: PathBuf,
    /// Share of test images whose class it tells.
    pub accuracy: f64,
}

/// A data set with classes.
fn labelled(set: ImageSet, source: &str) -> Outcome<ImageSet> {
    if set.classes() == 0 {
        let action = "give one with classes: sub-folders, or labels in dataset.json";
        return Err(kdm_data::Error::invalid(source, "classes", "the set has none", action).into());
    }
    Ok(set)
}

/// Share of the images that are split off for validation where there are no others.
pub const TEST_SHARE: f64 = 0.1;

/// What a feature network learns from, and what it is validated on.
fn training_images(
    training: &FeatureTraining,
    observer: &dyn Observer,
) -> Outcome<(ImageSet, ImageSet)> {
    let FeatureTraining { data, resolution, .. } = training;
    let options =
        if training.resize { ReadOptions::resized(*resolution) } else { ReadOptions::default() };
    let open = |source: &str, split| open_set(source, split, &options, observer);
    let images = open(data, Split::Train)?;
    let shape = [images.shape()[0], *resolution, *resolution];
    let fit = |set, source: &str| labelled(fit_images(set, source, &shape, observer)?, source);
    let images = fit(images, data)?;
    if let Some(source) = &training.test_data {
        return Ok((images, fit(open(source, Split::Train)?, source)?));
    }
    if has_test(data)? {
        return Ok((images, fit(open(data, Split::Test)?, data)?));
    }
    let (images, test) = images.split_off(TEST_SHARE, training.seed);
    observer.info(&format!(
        "{data} has no test images: {} of its images are kept to validate on, {} are left",
        test.len(),
        images.len()
    ));
    if test.is_empty() {
        let action = "give more images, or others with --test-data";
        let problem = "there are too few to validate on some";
        return Err(kdm_data::Error::invalid(data, "images", problem, action).into());
    }
    Ok((images, test))
}

/// Trains a small classifier in `folder`, whose features can then measure samples. Several workers
/// of the runtime train it together, and the first one writes the files.
///
/// # Errors
/// When the data don't fit, a file can't be written, or the training stops.
pub fn train_features(
    training: &FeatureTraining,
    folder: &Path,
    context: Context,
) -> Outcome<TrainedFeatures> {
    let FeatureTraining { resolution, width, batch, leaves, lr, seed, .. } = *training;
    if let Some(problem) = split_problem(leaves, batch) {
        return Err(Failure::Usage(format!("--leaves {leaves}: {problem}; give 1, 2, 4, ...")));
    }
    let observer = context.observer;
    let (images, test) = training_images(training, observer)?;
    let shape = images.shape();
    let classes = images.classes().max(test.classes());
    let network = ClassifierConfig { resolution, in_channels: shape[0], classes, width };
    if let Some(problem) = network.problems().into_iter().next() {
        return Err(Failure::Usage(format!("--{} {}", problem.field, problem.problem)));
    }
    let iterations = (training.epochs * images.len() as f64 / batch as f64).ceil().max(1.0) as u64;
    let stem = Path::new(&training.data).file_stem().unwrap_or_default();
    let class_names = (0..classes as u32).map(|class| images.class_name(class)).collect();
    let file = ClassifierFile { data: stem.to_string_lossy().into_owned(), class_names, network };
    let device = context.runtime.training();
    let looping = LoopConfig {
        iterations,
        leaves,
        lr,
        schedule: Schedule::Cosine,
        warmup: 100.min(iterations / 10),
        optimizer: OptimizerConfig {
            ema_rampup: Some(0.05),
            ema_decay: 0.999,
            ..OptimizerConfig::default()
        },
        log_every: 50,
        validate_every: (iterations / 6).max(1),
        checkpoint_every: 250,
        best_by: "error".into(),
        length_key: Some("/iterations"),
    };
    let mut inputs = json!({
        "classifier": file, "data": images.sha256(), "batch": batch, "seed": seed,
        "iterations": iterations,
    });
    if leaves > 1 {
        inputs["leaves"] = json!(leaves);
    }
    let init = kdm_random::derive_seed(seed, 0);
    let network = file.network.init(&mut InitSeed::new(init), &device);
    let seed = kdm_random::derive_seed(seed, 1);
    let task = ClassifierTask { file, images, test, batch, seed, device };
    kdm_data::atomic::create_folder(folder)?;
    let workers = context.runtime.workers();
    let _held = workers.leads().then(|| kdm_data::lock::FolderLock::take(folder)).transpose()?;
    let best = folder.join("best.safetensors");
    let trained = train(&task, network, &looping, &inputs, folder, &best, workers, observer)
        .map_err(|e| e.advise("train with a lower --lr, in another folder (--out)"))?;
    let path = folder.join(FEATURES);
    if workers.leads() {
        task.save(&trained.averaged, &path)?;
    }
    let shared = SharedWork::new(workers, leaves);
    let accuracy = task.accuracy(&trained.averaged, shared);
    observer.info(&format!("test accuracy {:.2}%", 100.0 * accuracy));
    Ok(TrainedFeatures { path, accuracy })
}
