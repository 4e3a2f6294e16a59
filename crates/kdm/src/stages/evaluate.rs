//! The evaluation of a student against stored pairs, and of images that are there already.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use kdm_data::Split;
use kdm_data::images::ReadOptions;
use kdm_data::pairs::PairStore;
use kdm_koopman::distill;
use kdm_metrics::statistics::Origin;
use kdm_metrics::{FeatureSpace, Stamp, measure_features};
use kdm_metrics::{MeasureOptions, MetricGroup, TeacherSamples, Values, measure};
use kdm_nn::{Discriminator, Lpips, Perceptual, Pooling, vgg};
use kdm_observer::Observer;
use kdm_teacher::distributions::DistributionConfig;
use kdm_teacher::{Checkerboard, Teacher, solve};
use kdm_train::SharedWork;
use serde_json::{Value, json};

use super::distill::{LossFiles, open_discriminator, open_loss_network, open_lpips};
use super::features::{fit_to_network, open_feature_space, open_features, open_reference_with};
use super::images::open_set;
use super::pairs::Drawing;
use crate::assets::{self, Role};
use crate::experiment::lpips_fits;
use crate::student::LoadedStudent;
use crate::timing::alternating;
use crate::{Context, Failure, Outcome};

/// Networks that a loss may take beside the student's.
#[derive(Clone, Debug, Default)]
pub struct LossNetworks {
    /// With the perceptual distances.
    pub perceptual: Option<Perceptual>,
    /// For the adversarial term, which is left out without it.
    pub discriminator: Option<Discriminator>,
}

/// Where a data set's points can be, for metrics of the checkerboard; none for other data.
pub fn board(data: &str) -> Option<fn(&[f64]) -> bool> {
    (data == "checkerboard").then_some(Checkerboard::contains as fn(&[f64]) -> bool)
}

/// The network that a student's loss looked through, for measuring the loss's terms: the file that
/// is given, or the classifier of that name that ships with the program. None where the loss has no
/// such network.
///
/// # Errors
/// When it is needed and not given, or another network is.
pub fn open_students_loss_network(
    student: &LoadedStudent,
    files: LossFiles,
    device: &Device,
) -> Outcome<Option<Perceptual>> {
    let reconstruction = student.file.loss.reconstruction;
    let trained = student.file.perceptual.as_ref();
    let shipped = trained
        .map(|stamp| stamp.name.as_str())
        .filter(|name| files.features.is_none() && assets::is_built_in(Role::Features, name));
    let files = LossFiles { features: files.features.or(shipped.map(Path::new)), ..files };
    let shape = &student.config().shape;
    let Some(found) = open_loss_network(reconstruction, files, shape, device)? else {
        return Ok(None);
    };
    if let (Some(trained), Some(ours)) =
        (trained.and_then(|stamp| stamp.sha256.as_ref()), found.stamp.sha256.as_ref())
        && trained != ours
    {
        let problem = format!(
            "the student's loss looked through the network {trained:.12}, and this is {ours:.12}"
        );
        let action = "give the file that it was trained with";
        return Err(kdm_data::Error::invalid(&student.path, "perceptual", problem, action).into());
    }
    Ok(Some(found.network))
}

/// Evaluates a student on all pairs of a store. Several workers of the runtime share out the loss's
/// terms and the drawing of samples; the first one measures these, and the others give the terms
/// alone.
///
/// # Errors
/// When the pairs are of another kind than the student, a sample is not finite, features can't be
/// compared, or the observer stops the work.
pub fn evaluate(
    student: &LoadedStudent,
    store: &PairStore,
    options: &MeasureOptions,
    networks: &LossNetworks,
    context: Context,
) -> Outcome<Values> {
    student.check_pairs(store)?;
    let mut values = Values::default();
    if options.groups.contains(&MetricGroup::Losses) {
        values.extend(loss_values(student, store, networks, context)?);
    }
    if options.groups.iter().any(|group| *group != MetricGroup::Losses) {
        let drawn = draw_together(student, store, context)?;
        student.check_finite(&drawn)?;
        if !context.runtime.workers().leads() {
            return Ok(values);
        }
        let (pairs, observer) = (store.range(0..store.len()), context.observer);
        let teacher = TeacherSamples::new(&pairs, options, observer)?;
        values.extend(measure(&drawn, &teacher, options, observer)?);
    }
    Ok(values)
}

/// What the student draws from the noise of all pairs of a store: each worker of the runtime draws
/// an equal part. A sample's bits depend on its own noise and label alone.
fn draw_together(
    student: &LoadedStudent,
    store: &PairStore,
    context: Context,
) -> Outcome<Vec<f32>> {
    let (workers, total) = (context.runtime.workers(), store.len());
    let (size, sampler) = (workers.size(), &student.sampler);
    let parts = SharedWork::new(workers, 1).try_each(size, |part| {
        let pairs = store.range(part * total / size..(part + 1) * total / size);
        sampler.sample_observed(&pairs.noise, &pairs.labels, context.observer)
    })?;
    Ok(parts.concat())
}

/// What is measured of a student, and with what; networks by their files, or by the names of those
/// that ship.
#[derive(Clone, Copy, Debug)]
pub struct EvaluationRequest<'a> {
    /// The groups of metrics; [`DEFAULT_GROUPS`] where there are none.
    pub groups: &'a [MetricGroup],
    /// The data, where it isn't what the store says: `checkerboard` measures points off the board.
    pub data: Option<&'a str>,
    /// Random projections of the sliced Wasserstein distance, at least 1.
    pub directions: usize,
    /// LPIPS weights: for the paired metric, and for a loss that has it.
    pub lpips: Option<&'a Path>,
    /// The classifier of the student's loss.
    pub loss_features: Option<&'a Path>,
    /// A discriminator, for the adversarial term, which is left out without one.
    pub discriminator: Option<&'a Path>,
    /// The feature network.
    pub features: Option<&'a Path>,
    /// What features are compared with: statistics, or a data set.
    pub reference: Option<&'a str>,
}

/// The groups that are measured unless others are asked for.
pub const DEFAULT_GROUPS: [MetricGroup; 3] =
    [MetricGroup::Losses, MetricGroup::Paired, MetricGroup::Distribution];

/// Random projections of the sliced Wasserstein distance unless other are asked for.
pub const DIRECTIONS: usize = 256;

impl Default for EvaluationRequest<'_> {
    fn default() -> Self {
        let (data, lpips, loss_features, discriminator) = (None, None, None, None);
        let (features, reference) = (None, None);
        Self {
            groups: &DEFAULT_GROUPS,
            data,
            directions: DIRECTIONS,
            lpips,
            loss_features,
            discriminator,
            features,
            reference,
        }
    }
}

/// What is missing where features are measured; `FLAG` stands for what asked for them.
pub const NEEDS_FEATURES: &str = "FLAG: name the network with --features (Inception's file of `kdm \
                                  import`, a classifier of `kdm features train`, or \
                                  fashion-mnist) and what to compare with by --reference";

/// The metrics of a student, and what they are of.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The metrics.
    pub values: Values,
    /// Pairs they were measured on.
    pub pairs: usize,
    /// The feature network and what it was compared with, where features were measured.
    pub features: Option<(Stamp, Origin)>,
}

impl Evaluation {
    /// The metrics by their keys, with `pairs` and `features`.
    pub fn json(&self) -> Value {
        let mut object = json!(self.values);
        if let Some((network, reference)) = &self.features {
            object["features"] = json!({"network": network, "reference": reference});
        }
        object["pairs"] = json!(self.pairs);
        object
    }
}

/// A student's evaluation that has all it needs.
#[derive(Debug)]
pub struct OpenedEvaluation<'a> {
    student: &'a LoadedStudent,
    store: &'a PairStore,
    options: MeasureOptions,
    networks: LossNetworks,
}

impl OpenedEvaluation<'_> {
    /// Measures.
    ///
    /// # Errors
    /// As [`evaluate`].
    pub fn measure(self, context: Context) -> Outcome<Evaluation> {
        let Self { student, store, options, networks } = self;
        let values = evaluate(student, store, &options, &networks, context)?;
        let stamps =
            |space: FeatureSpace| (space.extractor.stamp().clone(), space.reference.origin);
        Ok(Evaluation { values, pairs: store.len(), features: options.features.map(stamps) })
    }
}

impl EvaluationRequest<'_> {
    /// Opens what an evaluation of `student` on all pairs of `store` needs.
    ///
    /// # Errors
    /// When something else is asked for than can be measured, or a network can't be read or doesn't
    /// fit.
    pub fn open<'a>(
        &self,
        student: &'a LoadedStudent,
        store: &'a PairStore,
        context: Context,
    ) -> Outcome<OpenedEvaluation<'a>> {
        self.check()?;
        let groups = if self.groups.is_empty() { &DEFAULT_GROUPS[..] } else { self.groups };
        let drawn_from = store.manifest().teacher.as_ref().map(|teacher| teacher.data.as_str());
        let options = MeasureOptions {
            groups: groups.to_vec(),
            inside: self.data.or(drawn_from).and_then(board),
            directions: self.directions,
            lpips: self.paired_lpips(student, groups, context)?,
            features: self.feature_space(student, groups, context)?,
        };
        let networks = self.loss_networks(student, groups, context)?;
        Ok(OpenedEvaluation { student, store, options, networks })
    }

    /// Whether there can be such an evaluation, before anything is read.
    ///
    /// # Errors
    /// When there can't.
    pub fn check(&self) -> Outcome<()> {
        if self.directions == 0 {
            return Err(Failure::Usage("--directions 0: give at least 1".into()));
        }
        match self.data {
            Some(name) if DistributionConfig::by_name(name).is_none() => {
                let known = DistributionConfig::NAMES.join(", ");
                Err(Failure::Usage(format!("--data {name}: give one of {known}")))
            }
            _ => Ok(()),
        }
    }

    /// The networks of the loss's terms.
    fn loss_networks(
        &self,
        student: &LoadedStudent,
        groups: &[MetricGroup],
        context: Context,
    ) -> Outcome<LossNetworks> {
        if !groups.contains(&MetricGroup::Losses) {
            return Ok(LossNetworks::default());
        }
        let shape = &student.config().shape;
        if self.discriminator.is_some() && shape.len() != 3 {
            return Err(Failure::Usage(
                "--discriminator: it judges images, and this student draws points; leave it out"
                    .into(),
            ));
        }
        let files = LossFiles { lpips: self.lpips, features: self.loss_features };
        let open = |path: &Path| open_discriminator(path, shape[0], context.device());
        Ok(LossNetworks {
            perceptual: open_students_loss_network(student, files, context.device())?,
            discriminator: self.discriminator.map(open).transpose()?,
        })
    }

    /// LPIPS for the paired metrics, where its weights are given.
    fn paired_lpips(
        &self,
        student: &LoadedStudent,
        groups: &[MetricGroup],
        context: Context,
    ) -> Outcome<Option<Lpips>> {
        let paired = groups.contains(&MetricGroup::Paired);
        let Some(path) = self.lpips.filter(|_| paired) else { return Ok(None) };
        let shape = &student.config().shape;
        if !lpips_fits(shape) {
            return Err(Failure::Usage(format!(
                "--lpips: it sees images of at least {} pixels a side and 1 or 3 channels, not \
                 {shape:?}; leave it out",
                vgg::LEAST_SIDE
            )));
        }
        Ok(Some(open_lpips(path, Pooling::Max, context.device())?.0))
    }

    /// The features and what they are compared with, where they are asked for.
    fn feature_space(
        &self,
        student: &LoadedStudent,
        groups: &[MetricGroup],
        context: Context,
    ) -> Outcome<Option<FeatureSpace>> {
        if !groups.contains(&MetricGroup::Features) {
            return Ok(None);
        }
        let (Some(features), Some(reference)) = (self.features, self.reference) else {
            return Err(Failure::Usage(NEEDS_FEATURES.replace("FLAG", "--metrics features")));
        };
        open_feature_space(features, reference, &student.config().shape, context).map(Some)
    }
}

/// What is measured of images that are there already.
#[derive(Clone, Debug)]
pub struct ImagesToMeasure {
    /// A folder, an archive, an `.npz`, or another source of images.
    pub samples: String,
    /// The feature network.
    pub features: PathBuf,
    /// Statistics, or a source of images.
    pub reference: String,
    /// How the samples, and images to compare with, are read.
    pub options: ReadOptions,
}

/// The metrics of images, and what they are of.
#[derive(Clone, Debug)]
pub struct MeasuredImages {
    /// The metrics.
    pub values: Values,
    /// How many images were measured.
    pub images: usize,
    /// The feature network.
    pub network: Stamp,
    /// What they were compared with.
    pub reference: Origin,
}

/// Measures images by their features: whoever drew them, no student is needed.
///
/// # Errors
/// When they can't be read, don't fit the network, or the observer stops the work.
pub fn evaluate_images(wanted: &ImagesToMeasure, context: Context) -> Outcome<MeasuredImages> {
    let observer = context.observer;
    let extractor = open_features(&wanted.features, context.device())?;
    let set = open_set(&wanted.samples, Split::Train, &wanted.options, observer)?;
    let set = fit_to_network(&extractor, set, &wanted.samples, observer)?;
    let (shape, images) = (set.shape(), set.len());
    if images < 2 {
        let problem = format!("holds {images} image, and a distance needs two");
        let action = "give some thousand images";
        return Err(kdm_data::Error::invalid(&wanted.samples, "images", problem, action).into());
    }
    let (reference, options) = (&wanted.reference, &wanted.options);
    let reference = open_reference_with(&extractor, reference, &shape, options, observer)?;
    let ours = extractor.inspect(&set.images(0..images), &shape, observer)?;
    let labels: Vec<u32> = (0..images).filter_map(|i| set.label(i)).collect();
    let space = FeatureSpace { extractor, reference };
    let values = measure_features(&ours, &labels, &space, observer)?;
    let network = space.extractor.stamp().clone();
    Ok(MeasuredImages { values, images, network, reference: space.reference.origin })
}

/// The terms of a student's loss on all pairs of a store.
fn loss_values(
    student: &LoadedStudent,
    store: &PairStore,
    networks: &LossNetworks,
    context: Context,
) -> Outcome<Values> {
    let objective = student.file.objective(networks.perceptual.clone());
    let terms = distill::evaluate_losses(
        (&student.student, networks.discriminator.as_ref()),
        student.config(),
        &objective,
        (store, 0..store.len()),
        context.device(),
        SharedWork::new(context.runtime.workers(), 1),
        context.observer,
    )?;
    Ok(terms.into_iter().map(|(term, value)| (term.metric(), value)).collect())
}

/// How many times faster the student draws the same samples than the teacher.
///
/// # Errors
/// When the observer stops it.
pub fn speed_up(
    teacher: &Teacher,
    drawing: &Drawing,
    student: &LoadedStudent,
    store: &PairStore,
    observer: &dyn Observer,
) -> Outcome<f64> {
    let dim = student.config().dim();
    let pairs = store.range(0..store.len().min((4096 / dim).max(16)));
    let x: Vec<f64> = pairs.noise.iter().map(|x| f64::from(*x)).collect();
    let Drawing { process, solver, steps, .. } = drawing;
    let by_teacher = || {
        std::hint::black_box(solve(teacher, process, *solver, *steps, x.clone(), &pairs.labels));
    };
    let by_student = || {
        std::hint::black_box(student.sampler.sample(&pairs.noise, &pairs.labels));
    };
    let work: [&dyn Fn(); 2] = [&by_teacher, &by_student];
    let [teacher_time, student_time] = alternating(work, SPEED_RUNS, ("speed-up", observer))?;
    Ok(teacher_time / student_time)
}

/// Runs that the speed-up's medians are of.
const SPEED_RUNS: usize = 5;
