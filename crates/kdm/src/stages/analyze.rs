//! The analysis of a student on its own: of what is asked for, and its page.

use std::path::{Path, PathBuf};

use kdm_analysis::{Analysis, ClusterConfig};
use kdm_data::{Array, array, atomic};
use kdm_metrics::{Extractor, Statistics};
use kdm_report::{Page, analysis_sections};
use kdm_teacher::Teacher;
use kdm_teacher::distributions::DistributionConfig;
use serde_json::json;

use super::examine::{
    ExamineInputs, examine, nearest_training_images, stored_states, write_report,
};
use super::features::{open_features, open_reference};
use super::teacher::open_teacher;
use crate::run_folder::pretty;
use crate::student::LoadedStudent;
use crate::{Context, Failure, Outcome};

/// What a student is looked into with; networks by their files, or by the names of those that ship.
#[derive(Clone, Copy, Debug)]
pub struct AnalysisRequest<'a> {
    /// A store of pairs, for the teacher's samples and the noise; none for noise of the seeds 0, 1,
    /// ...
    pub pairs: Option<&'a Path>,
    /// Samples that are drawn and looked at; none for 10 000, of which 5000 are sorted into
    /// clusters where they are points in the plane.
    pub samples: Option<usize>,
    /// How points are sorted into clusters.
    pub clusters: ClusterConfig,
    /// The network that turns images into features.
    pub features: Option<&'a Path>,
    /// What features are compared with when modes are left out: statistics, or a data set; needs
    /// the features.
    pub reference: Option<&'a str>,
    /// A data set whose images that are nearest to samples are looked for; needs the features.
    pub neighbours: Option<&'a str>,
    /// The student's own teacher, to follow it from noise to image.
    pub teacher: Option<&'a str>,
}

/// Samples that are drawn unless other are asked for, and points of them that are sorted into
/// clusters.
const SAMPLES: usize = 10_000;
const CLUSTERED: usize = 5000;

impl Default for AnalysisRequest<'_> {
    fn default() -> Self {
        let (clusters, pairs, features) = (ClusterConfig::default(), None, None);
        let (reference, neighbours, teacher) = (None, None, None);
        Self { pairs, samples: None, clusters, features, reference, neighbours, teacher }
    }
}

/// An analysis that has all it needs.
#[derive(Debug)]
pub struct OpenedAnalysis<'a> {
    request: AnalysisRequest<'a>,
    student: &'a LoadedStudent,
    extractor: Option<Extractor>,
    reference: Option<Statistics>,
    teacher: Option<Teacher>,
}

impl<'a> AnalysisRequest<'a> {
    /// Whether there can be such an analysis, before anything is read.
    ///
    /// # Errors
    /// When there can't.
    pub fn check(&self) -> Outcome<()> {
        let ClusterConfig { eps, z_score, .. } = self.clusters;
        for (flag, ok) in [("--eps", eps > 0.0), ("--z-score", z_score > 0.0)] {
            if !ok {
                return Err(Failure::Usage(format!("{flag}: give a number above 0")));
            }
        }
        Ok(())
    }

    /// Opens what an analysis of `student` needs, beside the pairs.
    ///
    /// # Errors
    /// When it is a direct student, or a network can't be read or doesn't fit.
    pub fn open(self, student: &'a LoadedStudent, context: Context) -> Outcome<OpenedAnalysis<'a>> {
        self.check()?;
        student.koopman()?;
        let shape = &student.config().shape;
        let open = |source| open_features(source, context.device());
        let extractor = self.features.map(open).transpose()?;
        if let Some(Err(problem)) = extractor.as_ref().map(|e| e.fits(shape)) {
            return Err(Failure::Usage(format!("--features: {problem}")));
        }
        let reference = match (&extractor, self.reference) {
            (Some(extractor), Some(source)) => {
                Some(open_reference(extractor, source, shape, context.observer)?)
            }
            _ => None,
        };
        let open = |source| open_teacher(source, context.device());
        let teacher = self.teacher.map(open).transpose()?;
        Ok(OpenedAnalysis { request: self, student, extractor, reference, teacher })
    }
}

impl OpenedAnalysis<'_> {
    /// Looks into the student. A folder that is given is made once the pairs and the teacher are
    /// known to be the student's; see [`write_analysis`].
    ///
    /// # Errors
    /// When the pairs or the teacher are of another student, its operator has values that are not
    /// finite, or the observer stops the work.
    pub fn run(&self, folder: Option<&Path>, context: Context) -> Outcome<Analysis> {
        let Self { request, student, .. } = self;
        let count = request.samples.unwrap_or(SAMPLES);
        let mut states = None;
        let (samples, data) = match request.pairs {
            Some(folder) => {
                let (store, pairs) = student.first_pairs(folder, count)?;
                let teacher = store.manifest().teacher.as_ref();
                states = stored_states(&store);
                (pairs, teacher.map(|t| t.data.clone()).unwrap_or_default())
            }
            None => {
                let seeds: Vec<u64> = (0..count as u64).collect();
                let data = student.file.origin.data().unwrap_or_default();
                (student.draw_noise(&seeds), data.to_string())
            }
        };
        // Noise alone doesn't say which distribution points should follow.
        let distribution = request
            .pairs
            .and_then(|_| DistributionConfig::by_name(&data))
            .and_then(|config| config.build().ok());
        let teacher = self.teacher.as_ref();
        let process = teacher.map(|_| student.process()).transpose()?;
        teacher.map(|teacher| student.check_teacher(teacher)).transpose()?;
        folder.map(atomic::create_folder).transpose()?;
        let inputs = ExamineInputs {
            student,
            samples: &samples,
            extractor: self.extractor.as_ref(),
            reference: self.reference.as_ref(),
            data: &data,
            distribution: distribution.as_ref(),
            clusters: (request.clusters, request.samples.unwrap_or(CLUSTERED)),
            teacher: teacher.zip(process.as_ref()),
            states: states.as_ref(),
        };
        let mut found = examine(&inputs, context)?;
        if let (Some(source), Some(extractor)) = (request.neighbours, &self.extractor) {
            let near = nearest_training_images(student, &samples, extractor, source, context)?;
            found.memorization = Some(near);
        }
        Ok(found)
    }
}

/// Writes the page of an analysis, its figures and `eigenvalues.npy` into `folder`; gives the
/// page's path.
///
/// # Errors
/// When files can't be written.
pub fn write_analysis(
    student: &LoadedStudent,
    found: &Analysis,
    folder: &Path,
    context: Context,
) -> Outcome<PathBuf> {
    let mut summary = student.path.display().to_string();
    if let Some(operator) = &found.operator {
        let pairs: Vec<f32> =
            operator.spectrum.eigenvalues.iter().flat_map(|l| [l.0 as f32, l.1 as f32]).collect();
        let eigenvalues = Array::new([pairs.len() / 2, 2], pairs);
        array::write_npy(&folder.join("eigenvalues.npy"), &eigenvalues)?;
        let (kind, n) = (student.config().operator.kind, operator.spectrum.latent);
        summary = format!("{summary}. Operator: {kind:?}, latent dimension {n}.");
    }
    let page = Page {
        title: "Analysis of a student".into(),
        summary,
        sections: analysis_sections(found),
        config: pretty(&json!(student.file)),
        ..Page::default()
    };
    write_report(folder, &page, context)
}
