//! All of a student's analysis.

use kdm_observer::Observer;
use serde::Serialize;
use serde_json::Value;

use crate::clusters::PointClusters;
use crate::gallery::{Gallery, PointClustering, gallery};
use crate::levels::{LevelAnalysis, level_analysis};
use crate::memorization::Memorization;
use crate::modes::{Conditioning, largest_first};
use crate::semantics::{Semantics, semantics};
use crate::spectrum::MOST;
use crate::states::{KnownStates, Rate, StatePath, rates, state_path};
use crate::structure::{
    Embedding, LEAST_CLUSTERED, NoiseStructure, OutputClusters, SampleSpace, noise_structure,
};
use crate::subject::{Activations, Subject};
use crate::trajectory::{TeacherPath, Trajectory, trajectory};
use crate::truncation::{Truncation, truncation};
use crate::{Error, Modes, Note, Principal, Result, Spectrum};

/// Samples that modes are ranked on and truncation is measured by; correlations are of half as many
/// pairs.
const SAMPLES: usize = 1000;

/// What is found in a student. In JSON one object with the keys of all parts; images are left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Analysis {
    /// Samples to look at.
    #[serde(flatten)]
    pub gallery: Gallery,
    /// The operator and its latents; none for a direct student.
    #[serde(flatten)]
    pub operator: Option<OperatorAnalysis>,
    /// The nearest training images, where they were looked for: [`analyze`] does not.
    #[serde(rename = "neighbours", skip_serializing_if = "Option::is_none")]
    pub memorization: Option<Memorization>,
    /// What was left out, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// What is known of the teacher's way from the noise of the first samples to their images.
#[derive(Clone, Copy, Debug, Default)]
pub struct KnownTeacher<'a> {
    /// Of [`SAMPLES`](crate::trajectory::SAMPLES) samples.
    pub path: Option<&'a TeacherPath>,
    /// Of more samples, at normalised times.
    pub states: Option<&'a KnownStates>,
}

/// What only a Koopman student has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperatorAnalysis {
    /// Eigenvalues.
    #[serde(flatten)]
    pub spectrum: Spectrum,
    /// Rates and frequencies of a generator, the slowest first; none for other operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rates: Option<Vec<Rate>>,
    /// The way from noise to image beside the teacher's; none where its states aren't known.
    #[serde(rename = "states", skip_serializing_if = "Option::is_none")]
    pub state_path: Option<StatePath>,
    /// Modes; none without a basis of eigenvectors, or for a large operator.
    #[serde(flatten)]
    pub modes: Option<ModeAnalysis>,
    /// The levels of the latent; none where there is one alone.
    #[serde(flatten)]
    pub levels: Option<LevelAnalysis>,
    /// What distances between latents mean.
    #[serde(flatten)]
    pub semantics: Semantics,
    /// Clusters and neighbours of samples, in the noise and in latents.
    #[serde(flatten)]
    pub structure: NoiseStructure,
    /// Shape of a sample.
    #[serde(skip)]
    pub shape: Vec<usize>,
    /// The samples that all this is of, row by row.
    #[serde(skip)]
    pub images: Vec<f32>,
}

/// The operator's modes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModeAnalysis {
    /// The one that carries most on real latents first.
    pub modes: Vec<RankedMode>,
    /// How much the operator stretches, and how its directions disturb each other.
    pub conditioning: Conditioning,
    /// Modes without a principal logarithm: see [`Modes::without_logarithm`].
    pub without_logarithm: usize,
    /// What samples lose without some of the modes.
    pub truncation: Truncation,
    /// From noise to image; none for points.
    #[serde(skip)]
    pub trajectory: Option<Trajectory>,
}

/// A mode and what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RankedMode {
    /// (real, imaginary); of a conjugate pair the one with positive imaginary part.
    pub eigenvalue: (f64, f64),
    /// See [`Modes::amplitudes`].
    pub amplitude: f64,
}

impl Analysis {
    /// The numbers as one JSON object; values that are not finite are null.
    ///
    /// # Panics
    /// Never: this is plain data with keys of text.
    pub fn json(&self) -> Value {
        serde_json::to_value(self).expect("plain data")
    }

    /// The clusters of outputs; none where there is nothing to find them by.
    pub fn clusters(&self) -> Option<ClusterCount> {
        let found =
            self.operator.as_ref().and_then(|operator| operator.structure.clusters.as_ref());
        let points = self.gallery.points.as_ref().map(|points| &points.clusters);
        let found = found.map(|found| &found.clusters);
        let of_points = || points.map(|p| (p.sizes.len(), p.outliers, p.outlier.len()));
        let (clusters, outliers, samples) =
            found.map(|f| (f.sizes.len(), f.outliers, f.outlier.len())).or_else(of_points)?;
        Some(ClusterCount { clusters, outliers, samples })
    }
}

/// How many clusters of outputs there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterCount {
    /// Clusters.
    pub clusters: usize,
    /// Outliers among the samples.
    pub outliers: usize,
    /// Samples that were sorted.
    pub samples: usize,
}

/// Analyzes a student on the subject's samples; the operator and latents on the first 1000 of them.
/// `clustering`: for points in the plane. `teacher`: what its
/// teacher passes through, as far as it is known.
///
/// ```
/// use burn::tensor::Device;
/// use kdm_analysis::gallery::PointClustering;
/// use kdm_analysis::{ClusterConfig, KnownTeacher, Subject, analyze};
/// use kdm_data::{Labels, Samples};
/// use kdm_koopman::{Method, NetworkConfig, OperatorConfig, OperatorKind, Sampler, StudentConfig};
/// use kdm_observer::Silent;
///
/// let config = StudentConfig {
///     method: Method::Koopman,
///     shape: vec![2],
///     label_dim: 0,
///     noise_std: 1.0,
///     latent: 8,
///     levels: Vec::new(),
///     network: NetworkConfig::Mlp { hidden: 16, layers: 2 },
///     operator: OperatorConfig { kind: OperatorKind::Dense, projection: None, control: false },
/// };
/// let device = Device::flex();
/// let student = config.init(0, &device);
/// let sampler = Sampler::new(student.clone(), &config, &device);
/// let samples = Samples {
///     shape: vec![2],
///     noise: kdm_random::normal_vec(1, 2 * 50),
///     labels: Labels::none(50),
///     ..Samples::default()
/// };
/// let subject = Subject {
///     student: &student,
///     config: &config,
///     sampler: &sampler,
///     device: &device,
///     samples: &samples,
///     extractor: None,
///     reference: None,
///     data: "",
///     class_names: &[],
/// };
/// let clustering =
///     PointClustering { config: ClusterConfig::default(), samples: 50, mode_of: None };
/// let found = analyze(&subject, &clustering, KnownTeacher::default(), &Silent)?;
/// assert_eq!(found.json()["latent"], 8);
/// assert_eq!(found.operator.unwrap().spectrum.eigenvalues.len(), 8);
/// # Ok::<(), kdm_analysis::Error>(())
/// ```
///
/// # Errors
/// When the operator has values that are not finite, features can't be compared, arrays have wrong
/// lengths, or the observer stops it. An operator that can't be split into modes is no error but a
/// [`Note`], of which the observer is warned.
pub fn analyze(
    subject: &Subject,
    clustering: &PointClustering,
    teacher: KnownTeacher,
    observer: &dyn Observer,
) -> Result<Analysis> {
    subject.check()?;
    let mut notes = Vec::new();
    let spectrum = subject.student.koopman().map(|s| Spectrum::of(&s.operator)).transpose()?;
    let gallery = gallery(subject, clustering, observer)?;
    let operator = match spectrum {
        None => None,
        Some(spectrum) => {
            let samples = subject.samples.first(SAMPLES);
            let subject = subject.on(&samples);
            let points = gallery.points.as_ref().map(|points| &points.clusters);
            Some(analyze_operator(&subject, spectrum, (points, teacher), &mut notes, observer)?)
        }
    };
    for note in &notes {
        let text = note.to_string();
        if note.is_warning() { observer.warn(&text) } else { observer.info(&text) }
    }
    Ok(Analysis { gallery, operator, memorization: None, notes })
}

fn analyze_operator(
    subject: &Subject,
    spectrum: Spectrum,
    (points, teacher): (Option<&PointClusters>, KnownTeacher),
    notes: &mut Vec<Note>,
    observer: &dyn Observer,
) -> Result<OperatorAnalysis> {
    let stepwise = subject.stepwise()?;
    let activations = Activations::of(subject, stepwise, observer)?;
    let semantics = semantics(subject, stepwise, &activations);
    observer.check()?;
    let levels = level_analysis(subject, stepwise, &activations, observer)?;
    let structure = structure(subject, &activations, points);
    if let (Some(found), None) = (&structure.clusters, &structure.mapped) {
        let clustered = found.clustered(subject.samples.len());
        notes.push(Note::TooFewClustered { clustered, least: LEAST_CLUSTERED });
    }
    observer.check()?;
    let (modes, state_path) = analyze_modes(subject, &activations, teacher, notes, observer)?;
    let rates = stepwise.student.operator.generator().map(rates);
    let (shape, images) = (subject.config.shape.clone(), activations.images);
    Ok(OperatorAnalysis {
        spectrum,
        rates,
        state_path,
        modes,
        levels,
        semantics,
        structure,
        shape,
        images,
    })
}

/// Clusters and neighbours of the samples. `points`: the clusters of points in the plane.
fn structure(
    subject: &Subject,
    activations: &Activations,
    points: Option<&PointClusters>,
) -> NoiseStructure {
    let Activations { latents, pushed, images, features } = activations;
    let (dim, n) = (subject.config.dim(), subject.config.operator_dim());
    let of = |space, rows, width| Embedding { space, rows, width };
    let embeddings = [
        of(SampleSpace::Noise, &subject.samples.noise[..], dim),
        of(SampleSpace::Latent, &latents[..], n),
        of(SampleSpace::Pushed, &pushed[..], n),
    ];
    let seen = match features {
        Some(found) => Some(of(SampleSpace::Features, &found.features[..], found.dim)),
        // Points are what there is to see.
        None => {
            (subject.config.shape.len() == 1).then(|| of(SampleSpace::Outputs, &images[..], dim))
        }
    };
    let clusters =
        points.map(OutputClusters::of_points).or_else(|| seen.map(OutputClusters::chosen));
    noise_structure(&embeddings, images, &subject.config.shape, clusters)
}

/// The modes, none, with a note, where the operator can't be split into them; and the way from
/// noise to image beside the teacher's, which only a generator has without modes.
fn analyze_modes(
    subject: &Subject,
    activations: &Activations,
    teacher: KnownTeacher,
    notes: &mut Vec<Note>,
    observer: &dyn Observer,
) -> Result<(Option<ModeAnalysis>, Option<StatePath>)> {
    let stepwise = subject.stepwise()?;
    let n = stepwise.student.operator.dim();
    let path = |modes: Option<&Modes>| {
        let known = teacher.states.map(|known| state_path(stepwise, modes, subject.samples, known));
        known.transpose().map(Option::flatten)
    };
    if n > MOST {
        notes.push(Note::OperatorTooLarge { dim: n, most: MOST });
        return Ok((None, path(None)?));
    }
    let affine = stepwise.student.operator.matrix();
    let modes = match Modes::of(&affine) {
        Ok(modes) => modes,
        Err(Error::Operator(kdm_koopman::Error::NoEigenvectors { .. })) => {
            notes.push(Note::NoEigenbasis);
            return Ok((None, path(None)?));
        }
        Err(error) => return Err(error),
    };
    let state_path = path(Some(&modes))?;
    let conditioning = modes.conditioning(&affine)?;
    let amplitudes = modes.amplitudes(&activations.latents);
    let ranked = largest_first(&amplitudes);
    let principal = Principal::of(&affine, &activations.latents)?;
    let truncation = truncation(subject, activations, &modes, &principal, &ranked, observer)?;
    let trajectory = (subject.config.shape.len() == 3)
        .then(|| trajectory(stepwise, &modes, subject.samples, teacher.path))
        .transpose()?;
    let row = |k: &usize| RankedMode {
        eigenvalue: modes.modes()[*k].eigenvalue,
        amplitude: amplitudes[*k],
    };
    let found = ModeAnalysis {
        modes: ranked.iter().map(row).collect(),
        conditioning,
        without_logarithm: modes.without_logarithm(),
        truncation,
        trajectory,
    };
    Ok((Some(found), state_path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clusters::ClusterConfig;
    use crate::testing::SmallStudent;
    use kdm_koopman::Method;
    use kdm_observer::{Event, Silent};

    const CLUSTERING: PointClustering =
        PointClustering { config: CONFIG, samples: 20, mode_of: None };
    const CONFIG: ClusterConfig = ClusterConfig { eps: 0.15, min_neighbours: 5, z_score: 3.0 };

    /// The keys of JSON are those that programs know.
    #[test]
    fn json_has_all_keys() {
        let small = SmallStudent::new(&[2], 2);
        let found =
            analyze(&small.subject(), &CLUSTERING, KnownTeacher::default(), &Silent).unwrap();
        let json = found.json();
        for key in [
            "spectral_radius",
            "leading",
            "complete",
            "latent",
            "eigenvalues",
            "modes",
            "conditioning",
            "without_logarithm",
            "truncation",
            "semantics",
            "stretch",
            "neighbour_likeness",
            "clusters",
            "outliers",
        ] {
            assert!(json.get(key).is_some_and(|value| !value.is_null()), "{key}: {json}");
        }
        assert!(json["semantics"]["pixels_within_class"]["pushed"]["interval"].is_array());
        assert!(json["modes"][0]["amplitude"].is_f64() && json["conditioning"]["norm"].is_f64());
        assert!(json["stretch"]["decoder_small_steps"]["median"].is_f64());
        assert_eq!(json["truncation"][0]["modes"], 0);
        assert!(json.get("neighbours").is_none() && json.get("images").is_none());
        let spaces: Vec<&String> = json["neighbour_likeness"].as_object().unwrap().keys().collect();
        assert_eq!(spaces.len(), 3);
    }

    /// A direct student has samples alone, images have a way from noise to image.
    #[test]
    fn students_have_what_they_have() {
        let direct = SmallStudent::of(&[2], 0, Method::Direct);
        let found =
            analyze(&direct.subject(), &CLUSTERING, KnownTeacher::default(), &Silent).unwrap();
        assert!(found.operator.is_none() && found.gallery.points.is_some());
        let keys: Vec<String> = found.json().as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["clusters", "outliers"]);
        let images = SmallStudent::new(&[3, 1, 2], 0);
        let found =
            analyze(&images.subject(), &CLUSTERING, KnownTeacher::default(), &Silent).unwrap();
        let modes = found.operator.unwrap().modes.unwrap();
        assert_eq!(modes.trajectory.unwrap().images.len(), 9);
    }

    /// What can't be mapped is told; noise of another length is refused; work stops when asked to.
    #[test]
    fn what_is_missing_is_told() {
        struct Stopping;
        impl Observer for Stopping {
            fn event(&self, _: &Event) {}
            fn stopping(&self) -> bool {
                true
            }
        }
        let small = SmallStudent::new(&[5], 0);
        let few = small.subject().samples.first(4);
        let told = std::cell::RefCell::new(Vec::new());
        let keep = |event: &Event| {
            if let Event::Info(text) | Event::Warning(text) = event {
                told.borrow_mut().push(text.to_string());
            }
        };
        let found = analyze(&small.subject().on(&few), &CLUSTERING, KnownTeacher::default(), &keep)
            .unwrap();
        assert!(matches!(found.notes[..], [Note::TooFewClustered { .. }]), "{:?}", found.notes);
        assert!(told.borrow()[0].contains("more samples"));
        assert!(found.json()["notes"][0].as_str().unwrap().contains("more samples"));
        let mut short = few.clone();
        short.noise.pop();
        let refused =
            analyze(&small.subject().on(&short), &CLUSTERING, KnownTeacher::default(), &Silent);
        assert!(matches!(refused, Err(Error::Length { expected: 20, found: 19, .. })));
        let stopped = analyze(&small.subject(), &CLUSTERING, KnownTeacher::default(), &Stopping);
        assert!(matches!(stopped, Err(Error::Stopped)));
    }
}
