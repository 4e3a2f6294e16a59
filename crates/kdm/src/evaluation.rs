//! Evaluation: a student beside the teacher's stored samples, and both beside a data set's
//! features.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use kdm_data::pairs::{PairBatch, PairStore};
use kdm_data::{ImageSet, Split, TensorFile, hash};
use kdm_koopman::sampler::one_hot;
use kdm_koopman::{StudentConfig, distill};
use kdm_metrics::inception_score::{agreement, classes_of, inception_score};
use kdm_metrics::kernel_distance::kernel_distance;
use kdm_metrics::manifold::{NEIGHBOURS, manifold};
use kdm_metrics::statistics::Origin;
use kdm_metrics::{
    Extractor, Features, Moments, Statistics, energy_distance, frechet, frechet_distance, images,
    paired,
};
use kdm_metrics::{share_outside, sliced_wasserstein2};
use kdm_nn::fixed_batches::{Rows, in_image_blocks};
use kdm_nn::{Discriminator, Lpips, Perceptual};
use kdm_teacher::{Checkerboard, Teacher, solve};

use crate::assets::{self, Role};
use crate::pipeline::{Drawing, LoadedStudent, fit_images};
use crate::progress::Progress;
use crate::{Failure, Outcome};

/// The seed of random projections, and of subsets of features.
const PROJECTION_SEED: u64 = 14;
const SUBSET_SEED: u64 = 15;

/// Networks that a loss may take beside the student's.
#[derive(Clone, Debug, Default)]
pub struct LossNetworks {
    /// With the perceptual distances.
    pub perceptual: Option<Perceptual>,
    /// For the adversarial term, which is left out without it.
    pub discriminator: Option<Discriminator>,
}

/// Groups of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MetricGroup {
    /// The loss's terms, latent noise and dropout off: latent, rec, push, total.
    Losses,
    /// Errors to the teacher's sample from the same noise: rmse, median_error, coordinate_rmse; of
    /// images psnr, ssim, and lpips where its weights are given.
    Paired,
    /// Between the two sets of samples: sliced_wasserstein2, energy_distance; with a known board
    /// off_board, teacher_off_board, off_board_excess (in percent).
    Distribution,
    /// Of features of a network (Inception's are the field's FID, others are named feature_...):
    /// Fréchet distance to the reference, the teacher's own, and extrapolated to infinitely many
    /// samples; kernel distance; inception score; precision, recall, density, coverage. With a
    /// classifier's features how often classes are met.
    Features,
}

/// What features are computed with and compared to.
#[derive(Clone, Debug)]
pub struct FeatureSetting {
    /// The network.
    pub extractor: Extractor,
    /// The data set's statistics.
    pub reference: Statistics,
}

/// What is measured, and by what.
#[derive(Clone, Debug)]
pub struct Measuring {
    /// Which metrics.
    pub groups: Vec<MetricGroup>,
    /// Whether the data are the checkerboard's.
    pub board: bool,
    /// Random projections of the sliced Wasserstein distance.
    pub directions: usize,
    /// For the losses.
    pub networks: LossNetworks,
    /// LPIPS as its authors compute it, for the paired metrics; left out without its weights.
    pub lpips: Option<Lpips>,
    /// For metrics of features, which are left out without a network.
    pub features: Option<FeatureSetting>,
}

/// The teacher's samples that others are measured beside.
#[derive(Clone, Debug)]
pub struct Beside<'a> {
    config: &'a StudentConfig,
    pairs: &'a PairBatch,
    features: Option<Features>,
}

impl<'a> Beside<'a> {
    /// `pairs` of samples as `config` says.
    pub fn new(measuring: &Measuring, config: &'a StudentConfig, pairs: &'a PairBatch) -> Self {
        let setting = measuring
            .features
            .as_ref()
            .filter(|_| measuring.groups.contains(&MetricGroup::Features));
        let features = setting
            .map(|s| inspect(&s.extractor, &pairs.images, &config.shape, "teacher's features"));
        Self { config, pairs, features }
    }
}

/// Evaluates a student on all pairs of a store.
///
/// # Errors
/// When the pairs are of another kind than the student.
pub fn evaluate(
    student: &LoadedStudent,
    store: &PairStore,
    measuring: &Measuring,
) -> Outcome<BTreeMap<String, f64>> {
    student.check_pairs(store)?;
    let Measuring { groups, networks, .. } = measuring;
    let config = &student.file.student;
    let mut values = BTreeMap::new();
    if groups.contains(&MetricGroup::Losses) {
        let objective = student.file.objective(networks.perceptual.clone());
        let terms = distill::evaluate_losses(
            &student.student,
            networks.discriminator.as_ref(),
            config,
            &objective,
            store,
            0..store.len(),
            &Device::flex(),
        );
        values.extend(terms);
    }
    if groups.iter().any(|g| *g != MetricGroup::Losses) {
        let pairs = store.range(0..store.len());
        let drawn = student.sampler.sample(&pairs.noise, &one_hot(&pairs.labels, config.label_dim));
        values.extend(measure(&drawn, &Beside::new(measuring, config, &pairs), measuring)?);
    }
    Ok(values)
}

/// The metrics of samples `[N, dim]` drawn from the teacher's noise and labels, whoever drew them;
/// all groups but losses.
///
/// # Errors
/// When features can't be compared.
pub fn measure(
    drawn: &[f32],
    beside: &Beside,
    measuring: &Measuring,
) -> Outcome<BTreeMap<String, f64>> {
    let Beside { config, pairs, features } = beside;
    let Measuring { groups, board, directions, .. } = measuring;
    let (dim, mut values) = (config.dim(), BTreeMap::new());
    if groups.contains(&MetricGroup::Paired) {
        let p = paired(drawn, &pairs.images, dim);
        values.insert("rmse".into(), p.rmse);
        values.insert("median_error".into(), p.median_error);
        values.insert("coordinate_rmse".into(), p.coordinate_rmse);
        if let [channels, height, width] = config.shape[..] {
            values.insert("psnr".into(), images::psnr(drawn, &pairs.images, dim));
            if height.min(width) >= images::WINDOW {
                values.insert(
                    "ssim".into(),
                    images::ssim(drawn, &pairs.images, [channels, height, width]),
                );
            }
            if let Some(lpips) = &measuring.lpips {
                values.insert(
                    "lpips".into(),
                    perceptual_distance(lpips, drawn, &pairs.images, [channels, height, width]),
                );
            }
        }
    }
    if let (Some(setting), Some(teacher)) = (&measuring.features, features) {
        values.extend(feature_metrics(setting, config, drawn, teacher, &pairs.labels)?);
    }
    if groups.contains(&MetricGroup::Distribution) {
        values.insert(
            "sliced_wasserstein2".into(),
            sliced_wasserstein2(drawn, &pairs.images, dim, *directions, PROJECTION_SEED),
        );
        // Quadratic in the samples: 10 000 points of each give it to three digits in a second; of
        // images, fewer.
        let most = ((1e10 / dim as f64).sqrt() as usize).min(10_000);
        let some = |x: &[f32]| x[..x.len().min(most * dim)].to_vec();
        values.insert(
            "energy_distance".into(),
            energy_distance(&some(drawn), &some(&pairs.images), dim),
        );
        if *board && dim == 2 {
            let off = |points: &[f32]| 100.0 * share_outside(points, dim, Checkerboard::contains);
            let (student, teacher) = (off(drawn), off(&pairs.images));
            values.insert("off_board".into(), student);
            values.insert("teacher_off_board".into(), teacher);
            values.insert("off_board_excess".into(), student - teacher);
        }
    }
    Ok(values)
}

/// A feature network: a file's, or one that ships with the program.
///
/// # Errors
/// When there is none, or it is damaged.
pub fn open_features(source: &Path) -> Outcome<Extractor> {
    Ok(Extractor::load(&assets::open(Role::Features, source)?)?)
}

/// Images whose features are computed at a time.
const INSPECTED: usize = 1024;

/// Features of images of `shape`, with a progress bar.
pub fn inspect(extractor: &Extractor, images: &[f32], shape: &[usize], what: &str) -> Features {
    let dim: usize = shape.iter().product();
    let mut progress = Progress::new(what, "images");
    let mut all: Option<Features> = None;
    for (i, part) in images.chunks(INSPECTED * dim).enumerate() {
        let found = extractor.inspect(part, shape);
        match &mut all {
            None => all = Some(found),
            Some(all) => {
                all.features.extend(found.features);
                all.logits.extend(found.logits);
            }
        }
        progress.set(
            ((i + 1) * INSPECTED).min(images.len() / dim) as u64,
            (images.len() / dim) as u64,
            "",
        );
    }
    progress.finish("seen");
    all.expect("at least one image")
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
) -> Outcome<Statistics> {
    let set = match extractor.classifier() {
        Some(file) => {
            let network = &file.network;
            fit_images(set, source, &[network.in_channels, network.resolution, network.resolution])?
        }
        None => set,
    };
    let count = count.unwrap_or(set.len());
    if count < 2 || count > set.len() {
        let problem = format!("{count} images are asked for, and there are {}", set.len());
        return Err(kdm_data::Error::invalid(
            source,
            "count",
            problem,
            "give at least 2 and no more",
        )
        .into());
    }
    let found = inspect(extractor, &set.images(0..count), &set.shape(), "features");
    let data = Path::new(source).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let origin = Origin {
        network: extractor.stamp().clone(),
        data,
        split: split.name().into(),
        sha256: set.sha256(),
    };
    Ok(Statistics::of(&found, origin))
}

/// Statistics to compare with: a file's, ones that ship with the program, or those of a data set
/// (its train split), which are computed and kept in the cache.
///
/// # Errors
/// When there are none, or they are of another network.
pub fn open_reference(extractor: &Extractor, source: &str, shape: &[usize]) -> Outcome<Statistics> {
    extractor.fits(shape).map_err(|problem| Failure::Usage(format!("--features: {problem}")))?;
    let path = Path::new(source);
    let is_file = path.extension().is_some_and(|e| e == "npz" || e == "safetensors");
    let built_in = || -> Outcome<Option<Statistics>> {
        if !assets::is_built_in(Role::Statistics, source) {
            return Ok(None);
        }
        let statistics = Statistics::load(&assets::open(Role::Statistics, path)?)?;
        Ok((&statistics.origin.network == extractor.stamp()).then_some(statistics))
    };
    let statistics = if is_file {
        Statistics::open(path)?
    } else if let Some(statistics) = built_in()? {
        statistics
    } else {
        cached_statistics(extractor, source)?
    };
    let dim = extractor.features();
    statistics.check(extractor.stamp(), dim).map_err(|problem| {
        let mend = "make them with the same network: `kdm features stats`";
        kdm_data::Error::invalid(path, "reference", problem, mend)
    })?;
    Ok(statistics)
}

/// Statistics of a data set, from the cache if they are there. A file's name is a hash of network
/// and images.
fn cached_statistics(extractor: &Extractor, source: &str) -> Outcome<Statistics> {
    let set = ImageSet::open(source, Split::Train)?;
    let key = hash::sha256(format!("{} {}", extractor.stamp().sha256, set.sha256()).as_bytes());
    let folder = cache_folder();
    let path = folder.join(format!("{}-{}.safetensors", extractor.stamp().name, &key[..16]));
    if let Ok(file) = TensorFile::open(&path)
        && let Ok(statistics) = Statistics::load(&file)
    {
        return Ok(statistics);
    }
    let statistics = reference_statistics(extractor, set, source, Split::Train, None)?;
    kdm_data::atomic::create_folder(&folder)?;
    statistics.write(&path)?;
    tracing::info!("statistics of {source} are kept in {}", path.display());
    Ok(statistics)
}

/// Where computed statistics are kept: `KDM_CACHE`, or `kdm` in the user's cache folder.
fn cache_folder() -> PathBuf {
    let named =
        |key: &str| std::env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("KDM_CACHE")
        .or_else(|| named("XDG_CACHE_HOME").map(|folder| folder.join("kdm")))
        .or_else(|| named("HOME").map(|folder| folder.join(".cache/kdm")))
        .unwrap_or_else(|| std::env::temp_dir().join("kdm"))
}

/// LPIPS between images of `shape` and theirs, averaged: both clipped to [-1, 1], as pictures are.
fn perceptual_distance(
    lpips: &Lpips,
    a: &[f32],
    b: &[f32],
    [channels, height, width]: [usize; 3],
) -> f64 {
    let dim = channels * height * width;
    let perceptual = Perceptual::Lpips(lpips.clone());
    let distances = in_image_blocks(
        [a, b].map(|values| Rows { values, width: dim }),
        &Device::flex(),
        |rows| {
            let [a, b] = rows.map(|x: Tensor<2>| {
                let n = x.dims()[0];
                x.clamp(-1.0, 1.0).reshape([n, channels, height, width])
            });
            perceptual.forward(a, b).unsqueeze_dim(1)
        },
    );
    distances.iter().map(|d| f64::from(*d)).sum::<f64>() / distances.len() as f64
}

/// The Fréchet distance of features to a data set's.
///
/// # Errors
/// When features are not finite.
pub fn distance_to(reference: &Statistics, found: &Features) -> Outcome<f64> {
    let moments = Moments::of(&found.features, found.dim);
    Ok(frechet_distance(&moments, &reference.moments).map_err(bad_features)?)
}

fn bad_features(problem: String) -> kdm_data::Error {
    kdm_data::Error::invalid("samples", "features", problem, "look at the student's images")
}

/// Metrics of features of the student's images and the teacher's.
fn feature_metrics(
    setting: &FeatureSetting,
    config: &StudentConfig,
    drawn: &[f32],
    teacher: &Features,
    labels: &[u32],
) -> Outcome<BTreeMap<String, f64>> {
    let FeatureSetting { extractor, reference } = setting;
    let student = inspect(extractor, drawn, &config.shape, "student's features");
    let (dim, count) = (student.dim, drawn.len() / config.dim());
    if count < 10 * dim {
        tracing::warn!(
            "distances of {dim} features from {count} samples are biased upwards; compare at equal numbers of samples, or \
             give more"
        );
    }
    let prefix = if extractor.is_inception() { "" } else { "feature_" };
    let mut values = BTreeMap::new();
    let mut put = |name: &str, value: f64| values.insert(format!("{prefix}{name}"), value);
    if count > 1 {
        put("fid", distance_to(reference, &student)?);
        put("fid_teacher", distance_to(reference, teacher)?);
    }
    if count >= 100 {
        let found = frechet::extrapolated(&student.features, dim, &reference.moments, SUBSET_SEED);
        let found = found.map_err(bad_features)?;
        put("fid_infinity", found.value);
    }
    let real = &reference.features;
    if real.len() / dim > NEIGHBOURS && count > NEIGHBOURS {
        let found = kernel_distance(&student.features, real, dim, SUBSET_SEED);
        put("kid", found.mean);
        put("kid_deviation", found.deviation);
        let all = real.len().min(student.features.len());
        let found = manifold(&real[..all], &student.features[..all], dim, NEIGHBOURS);
        put("precision", found.precision);
        put("recall", found.recall);
        put("density", found.density);
        put("coverage", found.coverage);
    }
    if count >= SPLITS {
        put("inception_score", inception_score(&student.logits, student.classes, SPLITS).mean);
    }
    if extractor.classifier().is_some() {
        let (ours, theirs) = (
            classes_of(&student.logits, student.classes),
            classes_of(&teacher.logits, teacher.classes),
        );
        values.insert("class_same_as_teacher".into(), agreement(&ours, &theirs));
        if config.label_dim > 0 {
            values.insert("class_agreement".into(), agreement(&ours, labels));
            values.insert("class_agreement_teacher".into(), agreement(&theirs, labels));
        }
    }
    Ok(values)
}

/// Splits of the inception score (Salimans et al.).
const SPLITS: usize = 10;

/// Seconds that teacher and student take for the same samples.
pub fn speed(
    teacher: &Teacher,
    drawing: &Drawing,
    student: &LoadedStudent,
    store: &PairStore,
) -> Vec<(String, f64)> {
    let dim = student.file.student.dim();
    let pairs = store.range(0..store.len().min((4096 / dim).max(16)));
    let labels = one_hot(&pairs.labels, student.file.student.label_dim);
    let x: Vec<f64> = pairs.noise.iter().map(|x| f64::from(*x)).collect();
    let by_teacher = || {
        std::hint::black_box(solve(
            teacher,
            &drawing.process,
            drawing.solver,
            drawing.steps,
            x.clone(),
            &labels,
        ));
    };
    let by_student = || {
        std::hint::black_box(student.sampler.sample(&pairs.noise, &labels));
    };
    let [teacher_time, student_time] = alternating([&by_teacher, &by_student], SPEED_RUNS);
    vec![("speed_up".into(), teacher_time / student_time)]
}

/// Runs that the speed-up's medians are of.
const SPEED_RUNS: usize = 5;

/// Median seconds of two pieces of work over `runs` runs by turns, after one each to warm up.
pub fn alternating(work: [&dyn Fn(); 2], runs: usize) -> [f64; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for run in 0..=runs {
        for (work, times) in work.iter().zip(&mut times) {
            let started = Instant::now();
            work();
            if run > 0 {
                times.push(started.elapsed().as_secs_f64());
            }
        }
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[runs / 2]
    })
}
