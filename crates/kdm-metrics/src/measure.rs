//! All metrics of a set of samples at once: against the teacher's samples from the same noise, and
//! by features against a data set.

use kdm_data::Samples;
use kdm_nn::Lpips;
use kdm_observer::Observer;

use crate::catalog::{self, Values};
use crate::features::frechet::{LEAST_EXTRAPOLATED, extrapolated};
use crate::features::inception_score::{SPLITS, agreement, classes_of, inception_score};
use crate::features::kernel_distance::kernel_distance;
use crate::features::manifold::{NEIGHBOURS, manifold};
use crate::features::{Extractor, Features, Statistics, lpips};
use crate::{Result, energy_distance, images, off_board, paired, sliced_wasserstein2};

/// Seeds of random projections and of subsets of features.
const PROJECTION_SEED: u64 = 14;
const SUBSET_SEED: u64 = 15;

/// Groups of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetricGroup {
    /// The terms of the loss, latent noise and dropout off: latent, rec, push, total and, where
    /// there are such terms, adversarial and eigen. They need the student, so [`measure()`] leaves
    /// them out.
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
    /// classifier's features the class accuracy.
    Features,
}

impl MetricGroup {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Losses, Self::Paired, Self::Distribution, Self::Features];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Losses => "losses",
            Self::Paired => "paired",
            Self::Distribution => "distribution",
            Self::Features => "features",
        }
    }

    /// The group of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.name() == name)
    }
}

/// A feature network, and the data set's features that others are compared with.
#[derive(Clone, Debug)]
pub struct FeatureSpace {
    /// The network.
    pub extractor: Extractor,
    /// The data set's statistics, of this network's features.
    pub reference: Statistics,
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct MeasureOptions {
    /// Which metrics.
    pub groups: Vec<MetricGroup>,
    /// Whether a point of the plane lies where the data can be, where that is known: for metrics of
    /// the board.
    pub inside: Option<fn(&[f64]) -> bool>,
    /// Random projections of the sliced Wasserstein distance, at least 1.
    pub directions: usize,
    /// LPIPS as its authors compute it, for the paired metrics; left out without its weights.
    pub lpips: Option<Lpips>,
    /// For metrics of features, which are left out without a network.
    pub features: Option<FeatureSpace>,
}

impl MeasureOptions {
    fn has(&self, group: MetricGroup) -> bool {
        self.groups.contains(&group)
    }

    fn feature_space(&self) -> Option<&FeatureSpace> {
        self.features.as_ref().filter(|_| self.has(MetricGroup::Features))
    }
}

/// The teacher's samples, which those of students from the same noise are compared with; their
/// features are computed once.
#[derive(Clone, Debug)]
pub struct TeacherSamples<'a> {
    samples: &'a Samples,
    features: Option<Features>,
}

impl<'a> TeacherSamples<'a> {
    /// `samples` with images and, where the teacher is conditional, labels.
    ///
    /// # Errors
    /// When the feature network takes no such images, or the observer stops it.
    pub fn new(
        samples: &'a Samples,
        options: &MeasureOptions,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let inspect = |space: &FeatureSpace| {
            space.extractor.inspect(&samples.images, &samples.shape, observer)
        };
        let features = options.feature_space().map(inspect).transpose()?;
        Ok(Self { samples, features })
    }
}

/// The metrics of samples `drawn` from the teacher's noise and labels, `[N, dim]`, whoever drew
/// them; all groups but the losses.
///
/// # Errors
/// When features are not finite, or the observer stops it.
pub fn measure(
    drawn: &[f32],
    teacher: &TeacherSamples,
    options: &MeasureOptions,
    observer: &dyn Observer,
) -> Result<Values> {
    let samples = teacher.samples;
    let mut values = Values::default();
    if options.has(MetricGroup::Paired) {
        values.extend(paired_values(drawn, samples, options.lpips.as_ref(), observer)?);
    }
    if let (Some(space), Some(theirs)) = (options.feature_space(), &teacher.features) {
        let ours = space.extractor.inspect(drawn, &samples.shape, observer)?;
        values.extend(feature_values(space, &ours, Some(theirs), observer)?);
        if space.extractor.classifier().is_some() {
            values.extend(class_values(&ours, theirs, &samples.labels.classes()));
        }
    }
    if options.has(MetricGroup::Distribution) {
        values.extend(distribution_values(drawn, samples, options));
    }
    Ok(values)
}

/// The metrics of features of images alone, whoever made them: against the reference, and where the
/// network is a classifier and there are `labels`, the class accuracy.
///
/// # Errors
/// When features are not finite.
pub fn measure_features(
    ours: &Features,
    labels: &[u32],
    space: &FeatureSpace,
    observer: &dyn Observer,
) -> Result<Values> {
    let mut values = feature_values(space, ours, None, observer)?;
    if space.extractor.classifier().is_some() && !labels.is_empty() {
        let found = classes_of(&ours.logits, ours.classes);
        values.insert(&catalog::CLASS_AGREEMENT, agreement(&found, labels));
    }
    Ok(values)
}

/// Errors to the teacher's samples.
fn paired_values(
    drawn: &[f32],
    teacher: &Samples,
    network: Option<&Lpips>,
    observer: &dyn Observer,
) -> Result<Values> {
    let dim = teacher.dim();
    let mut values = paired(drawn, &teacher.images, dim).values();
    if let [channels, height, width] = teacher.shape[..] {
        let shape = [channels, height, width];
        values.insert(&catalog::PSNR, images::psnr(drawn, &teacher.images, dim));
        if height.min(width) >= images::WINDOW {
            values.insert(&catalog::SSIM, images::ssim(drawn, &teacher.images, shape));
        }
        if let Some(network) = network {
            let distance = lpips(network, drawn, &teacher.images, shape, observer)?;
            values.insert(&catalog::LPIPS, distance);
        }
    }
    Ok(values)
}

/// Distances between the two sets of samples.
fn distribution_values(drawn: &[f32], teacher: &Samples, options: &MeasureOptions) -> Values {
    let (dim, theirs) = (teacher.dim(), &teacher.images);
    let sliced = sliced_wasserstein2(drawn, theirs, dim, options.directions, PROJECTION_SEED);
    // Quadratic in the samples: 10 000 points of each give it to three digits in a second; of
    // images, fewer.
    let most = ((1e10 / dim as f64).sqrt() as usize).min(10_000) * dim;
    let some = |x: &'_ [f32]| x[..x.len().min(most)].to_vec();
    let energy = energy_distance(&some(drawn), &some(theirs), dim);
    let mut values = Values::from_iter([
        (&catalog::SLICED_WASSERSTEIN2, sliced),
        (&catalog::ENERGY_DISTANCE, energy),
    ]);
    if let (Some(inside), 2) = (options.inside, dim) {
        values.extend(off_board(drawn, theirs, dim, inside));
    }
    values
}

/// Features of images against the reference, beside the teacher's where there are such.
fn feature_values(
    space: &FeatureSpace,
    ours: &Features,
    theirs: Option<&Features>,
    observer: &dyn Observer,
) -> Result<Values> {
    let FeatureSpace { extractor, reference } = space;
    let (dim, count, names) = (ours.dim, ours.len(), extractor.metrics());
    if count < 10 * dim {
        observer.warn(&format!(
            "distances of {dim} features from {count} samples are biased upwards; compare at equal \
             numbers of samples, or give more"
        ));
    }
    let mut values = Values::default();
    if count > 1 {
        values.insert(names.fid, reference.distance_to(ours)?);
        if let Some(theirs) = theirs {
            values.insert(names.fid_teacher, reference.distance_to(theirs)?);
        }
    }
    if count >= LEAST_EXTRAPOLATED {
        let found = extrapolated(&ours.features, dim, &reference.moments, SUBSET_SEED)?;
        values.insert(names.fid_infinity, found.value);
    }
    let real = &reference.features;
    if real.len() / dim > NEIGHBOURS && count > NEIGHBOURS {
        let found = kernel_distance(&ours.features, real, dim, SUBSET_SEED);
        values.insert(names.kid, found.mean);
        values.insert(names.kid_deviation, found.deviation);
        let all = real.len().min(ours.features.len());
        let found = manifold(&real[..all], &ours.features[..all], dim, NEIGHBOURS);
        values.insert(names.precision, found.precision);
        values.insert(names.recall, found.recall);
        values.insert(names.density, found.density);
        values.insert(names.coverage, found.coverage);
    }
    if count >= SPLITS {
        let score = inception_score(&ours.logits, ours.classes, SPLITS);
        values.insert(names.inception_score, score.mean);
    }
    Ok(values)
}

/// How often a classifier assigns the classes that images were drawn for, if there are such, and
/// those of the teacher's images.
fn class_values(ours: &Features, theirs: &Features, labels: &[u32]) -> Values {
    let [ours, theirs] = [ours, theirs].map(|f| classes_of(&f.logits, f.classes));
    let mut values =
        Values::from_iter([(&catalog::CLASS_SAME_AS_TEACHER, agreement(&ours, &theirs))]);
    if !labels.is_empty() {
        values.insert(&catalog::CLASS_AGREEMENT, agreement(&ours, labels));
        values.insert(&catalog::CLASS_AGREEMENT_TEACHER, agreement(&theirs, labels));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::features::statistics::Origin;
    use crate::features::{CLASSIFIER, ClassifierFile};
    use burn::tensor::Device;
    use kdm_data::{Labels, TensorFile, model};
    use kdm_nn::state::state_dict;
    use kdm_nn::{ClassifierConfig, InitSeed};
    use kdm_observer::{Event, Silent};
    use std::cell::Cell;

    fn keys(values: &Values) -> Vec<&'static str> {
        values.iter().map(|(metric, _)| metric.key).collect()
    }

    fn options(groups: &[MetricGroup]) -> MeasureOptions {
        let groups = groups.to_vec();
        MeasureOptions { groups, inside: None, directions: 20, lpips: None, features: None }
    }

    fn points(images: Vec<f32>) -> Samples {
        let labels = Labels::none(images.len() / 2);
        Samples { shape: vec![2], images, labels, ..Samples::default() }
    }

    /// A classifier with random weights, and the features of images by it.
    fn feature_space(shape: [usize; 3], images: &[f32]) -> FeatureSpace {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("classifier.safetensors");
        let network =
            ClassifierConfig { resolution: shape[1], in_channels: shape[0], classes: 3, width: 4 };
        let weights = network.init(&mut InitSeed::new(5), &Device::flex());
        let class_names = ["a", "b", "c"].map(String::from).to_vec();
        let file = ClassifierFile { data: "noise".into(), class_names, network };
        model::write(&path, CLASSIFIER, &file, &state_dict(&weights)).unwrap();
        let file = TensorFile::open(&path).unwrap();
        let extractor = Extractor::load(&file, &Device::flex()).unwrap();
        let origin = Origin {
            network: extractor.stamp().clone(),
            data: "noise".into(),
            split: "train".into(),
            sha256: String::new(),
        };
        let found = extractor.inspect(images, &shape, &Silent).unwrap();
        FeatureSpace { extractor, reference: Statistics::of(&found, origin) }
    }

    #[test]
    fn groups_are_known_by_name() {
        for group in MetricGroup::ALL {
            assert_eq!(MetricGroup::by_name(group.name()), Some(group));
        }
        assert_eq!(MetricGroup::by_name("fid"), None);
    }

    /// Shifted by 0.3 along an axis: every distance is 0.3, and points beyond x = 0 have crossed
    /// the border.
    #[test]
    fn metrics_of_points() {
        let teacher = points(vec![-1.0, 0.0, -0.2, 0.5, 0.4, 0.5, -0.1, -2.0]);
        let drawn: Vec<f32> = teacher.images.chunks(2).flat_map(|p| [p[0] + 0.3, p[1]]).collect();
        let all = MetricGroup::ALL;
        let options = MeasureOptions { inside: Some(|point| point[0] < 0.0), ..options(&all) };
        let beside = TeacherSamples::new(&teacher, &options, &Silent).unwrap();
        let values = measure(&drawn, &beside, &options, &Silent).unwrap();
        let get = |metric| values.get(metric).unwrap();
        for metric in [&catalog::RMSE, &catalog::MEDIAN_ERROR] {
            assert!((get(metric) - 0.3).abs() < 1e-6);
        }
        assert!((get(&catalog::COORDINATE_RMSE) - 0.3 / 2f64.sqrt()).abs() < 1e-6);
        assert!(get(&catalog::SLICED_WASSERSTEIN2) < 0.3 && get(&catalog::ENERGY_DISTANCE) > 0.0);
        let board = [&catalog::OFF_BOARD, &catalog::TEACHER_OFF_BOARD, &catalog::OFF_BOARD_EXCESS];
        assert_eq!(board.map(get), [75.0, 25.0, 50.0]);
        assert_eq!(values.len(), 8);
    }

    #[test]
    fn only_the_groups_that_are_wanted_are_measured() {
        let teacher = points(vec![0.0, 1.0, 2.0, 3.0]);
        for (groups, expected) in [
            (vec![MetricGroup::Losses], vec![]),
            (vec![MetricGroup::Paired], vec!["rmse", "median_error", "coordinate_rmse"]),
            (vec![MetricGroup::Distribution], vec!["sliced_wasserstein2", "energy_distance"]),
            (vec![MetricGroup::Features], vec![]),
        ] {
            let options = options(&groups);
            let beside = TeacherSamples::new(&teacher, &options, &Silent).unwrap();
            let values = measure(&teacher.images, &beside, &options, &Silent).unwrap();
            assert_eq!(keys(&values), expected);
            assert!(values.iter().all(|(_, value)| value == 0.0));
        }
    }

    /// The teacher's own images are at no distance from themselves, and as far from the data as the
    /// teacher's. Numbers of samples decide which metrics of features there are.
    #[test]
    fn metrics_of_images() {
        let (shape, dim) = ([1, 16, 16], 256);
        let images = kdm_random::normal_vec(1, 120 * dim);
        let labels = (0..120).map(|i| Some(i % 3)).collect();
        let teacher = Samples { shape: shape.to_vec(), images, labels, ..Samples::default() };
        let space = feature_space(shape, &kdm_random::normal_vec(2, 50 * dim));
        let groups = [MetricGroup::Paired, MetricGroup::Features];
        let options = MeasureOptions { features: Some(space), ..options(&groups) };
        let measured = |samples: &Samples| {
            let beside = TeacherSamples::new(samples, &options, &Silent).unwrap();
            measure(&samples.images, &beside, &options, &Silent).unwrap()
        };
        let values = measured(&teacher);
        let paired = ["rmse", "median_error", "coordinate_rmse", "psnr", "ssim"];
        let features = [
            "feature_fid",
            "feature_fid_teacher",
            "feature_fid_infinity",
            "feature_kid",
            "feature_kid_deviation",
            "feature_inception_score",
            "feature_precision",
            "feature_recall",
            "feature_density",
            "feature_coverage",
        ];
        let classes = ["class_agreement", "class_agreement_teacher", "class_same_as_teacher"];
        assert_eq!(keys(&values), [&paired[..], &features, &classes].concat());
        let get = |metric| values.get(metric).unwrap();
        assert_eq!((get(&catalog::RMSE), get(&catalog::PSNR)), (0.0, 100.0));
        assert!((get(&catalog::SSIM) - 1.0).abs() < 1e-12);
        assert_eq!(get(&catalog::FEATURE_FID), get(&catalog::FEATURE_FID_TEACHER));
        assert_eq!(get(&catalog::CLASS_SAME_AS_TEACHER), 1.0);
        assert_eq!(get(&catalog::CLASS_AGREEMENT), get(&catalog::CLASS_AGREEMENT_TEACHER));
        // Of images alone, whoever drew them: the same values.
        let space = options.features.as_ref().unwrap();
        let ours = space.extractor.inspect(&teacher.images, &shape, &Silent).unwrap();
        let alone = measure_features(&ours, &teacher.labels.classes(), space, &Silent).unwrap();
        let expected: Vec<&str> =
            features.into_iter().filter(|key| !key.ends_with("teacher")).collect();
        assert_eq!(keys(&alone), [&expected[..], &["class_agreement"]].concat());
        assert!(alone.iter().all(|(metric, value)| values.get(metric) == Some(value)));
        // Of few samples without classes.
        let few = Samples { labels: Labels::none(4), ..teacher.first(4) };
        let expected = ["feature_fid", "feature_fid_teacher", "class_same_as_teacher"];
        assert_eq!(keys(&measured(&few)), [&paired[..], &expected].concat());
    }

    #[test]
    fn what_cannot_be_measured_is_an_error() {
        let shape = [1, 16, 16];
        let space = feature_space(shape, &kdm_random::normal_vec(2, 10 * 256));
        let options = MeasureOptions { features: Some(space), ..options(&[MetricGroup::Features]) };
        let images = kdm_random::normal_vec(1, 4 * 256);
        let labels = Labels::none(4);
        let mut teacher = Samples { shape: shape.to_vec(), images, labels, ..Samples::default() };
        struct Stop;
        impl Observer for Stop {
            fn event(&self, _: &Event) {}
            fn stopping(&self) -> bool {
                true
            }
        }
        let stopped = TeacherSamples::new(&teacher, &options, &Stop).unwrap_err();
        assert!(matches!(stopped, Error::Stopped(_)), "{stopped}");
        let beside = TeacherSamples::new(&teacher, &options, &Silent).unwrap();
        let not_finite = measure(&vec![f32::NAN; 4 * 256], &beside, &options, &Silent).unwrap_err();
        assert!(matches!(not_finite, Error::Frechet(_)), "{not_finite}");
        teacher.shape = vec![4, 8, 8];
        let unfit = TeacherSamples::new(&teacher, &options, &Silent).unwrap_err();
        assert!(unfit.to_string().contains("[1, 16, 16]"), "{unfit}");
    }

    /// Fewer than ten samples a feature (319 of 32) are few, and the observer is warned.
    #[test]
    fn few_samples_are_warned_of() {
        let shape = [1, 16, 16];
        let space = feature_space(shape, &kdm_random::normal_vec(2, 10 * 256));
        for (count, warned) in [(319, 1), (320, 0)] {
            let found = |seed| {
                let images = kdm_random::normal_vec(seed, count * 256);
                space.extractor.inspect(&images, &shape, &Silent).unwrap()
            };
            let warnings = Cell::new(0);
            let count_warnings = |event: &Event| {
                if matches!(event, Event::Warning(_)) {
                    warnings.set(warnings.get() + 1);
                }
            };
            feature_values(&space, &found(3), Some(&found(4)), &count_warnings).unwrap();
            assert_eq!(warnings.get(), warned);
        }
    }
}
