//! One-step samples of a student to be looked at: points in the plane with their clusters, or
//! images beside the teacher's, by class, and between two samples.

use kdm_data::{Labels, Samples};
use kdm_koopman::interpolation::{End, InterpolationSpace, between};
use kdm_observer::Observer;
use serde::Serialize;

use crate::Result;
use crate::clusters::{ClusterConfig, ModeOf, PointClusters, point_clusters};
use crate::subject::Subject;

/// Images in a gallery.
const IMAGES: usize = 64;
/// Noises drawn in each class; of few classes, which lie in rows then, more of them.
const CLASS_ROWS: usize = 6;
const FEW_CLASSES: usize = 4;
const FEW_CLASS_COLUMNS: usize = 12;
/// Pairs of samples with images between them, and images of each pair.
const PAIRS: usize = 6;
const STEPS: usize = 10;

/// How points in the plane are sorted into clusters.
#[derive(Clone, Copy)]
pub struct PointClustering<'a> {
    /// How clusters and outliers are found.
    pub config: ClusterConfig,
    /// Samples sorted into clusters, the first ones.
    pub samples: usize,
    /// The modes of the distribution that samples should follow, where it is known.
    pub mode_of: Option<ModeOf<'a>>,
}

impl std::fmt::Debug for PointClustering<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PointClustering").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Samples of a student. In JSON the clusters of points alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Gallery {
    /// Of students of points in the plane.
    #[serde(flatten)]
    pub points: Option<PointGallery>,
    /// Of students of images.
    #[serde(skip)]
    pub images: Option<ImageGallery>,
}

/// Points in the plane, rows of two values.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PointGallery {
    /// The teacher's samples; none where they aren't known.
    #[serde(skip)]
    pub teacher: Option<Vec<f32>>,
    /// The student's samples from the same noise.
    #[serde(skip)]
    pub student: Vec<f32>,
    /// Noise of the samples in [`Self::clusters`].
    #[serde(skip)]
    pub noise: Vec<f32>,
    /// Clusters of the first of the student's samples.
    #[serde(flatten)]
    pub clusters: PointClusters,
}

/// Images, rows of values in [-1, 1].
#[derive(Clone, Debug, PartialEq)]
pub struct ImageGallery {
    /// `[C, H, W]`.
    pub shape: Vec<usize>,
    /// The teacher's; none where they aren't known.
    pub teacher: Option<Vec<f32>>,
    /// The student's from the same noise.
    pub student: Vec<f32>,
    /// Noises in every class; none for an unconditional student.
    pub classes: Option<ClassImages>,
    /// From one sample to another along the great circle between their noises, a pair a row; none
    /// for a direct student, as is the next.
    pub between_noises: Option<ImageRows>,
    /// The same samples joined by a straight line between their latents.
    pub between_latents: Option<ImageRows>,
}

/// Some noises, each drawn in every class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassImages {
    /// The images.
    pub rows: ImageRows,
    /// Whether classes lie in rows and noises in columns, as of few classes, and not the other way
    /// round.
    pub class_a_row: bool,
    /// Names of the classes; none where they are not known.
    pub names: Vec<String>,
}

/// Images in rows of one length.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageRows {
    /// Images in a row.
    pub columns: usize,
    /// Row by row.
    pub images: Vec<f32>,
}

/// Draws a gallery; empty for students of points that are not in the plane.
///
/// # Errors
/// When the observer stops it.
pub(crate) fn gallery(
    subject: &Subject,
    clustering: &PointClustering,
    observer: &dyn Observer,
) -> Result<Gallery> {
    match subject.config.shape.len() {
        _ if subject.config.dim() == 2 => {
            let points = Some(point_gallery(subject, clustering, observer)?);
            Ok(Gallery { points, images: None })
        }
        3 => Ok(Gallery { points: None, images: Some(image_gallery(subject, observer)?) }),
        _ => Ok(Gallery::default()),
    }
}

fn teacher_of(samples: &Samples) -> Option<Vec<f32>> {
    (!samples.images.is_empty()).then(|| samples.images.clone())
}

fn point_gallery(
    subject: &Subject,
    clustering: &PointClustering,
    observer: &dyn Observer,
) -> Result<PointGallery> {
    let samples = subject.samples;
    let student = subject.sampler.sample_observed(&samples.noise, &samples.labels, observer)?;
    let clustered = 2 * clustering.samples.min(samples.len());
    let clusters = point_clusters(&student[..clustered], 2, clustering.config, clustering.mode_of);
    let noise = samples.noise[..clustered].to_vec();
    Ok(PointGallery { teacher: teacher_of(samples), student, noise, clusters })
}

fn image_gallery(subject: &Subject, observer: &dyn Observer) -> Result<ImageGallery> {
    let (config, few) = (subject.config, subject.samples.first(IMAGES));
    let (dim, classes) = (config.dim(), config.label_dim);
    let by_class = || -> Result<ClassImages> {
        let class_a_row = classes <= FEW_CLASSES;
        let noises = few.first(if class_a_row { FEW_CLASS_COLUMNS } else { CLASS_ROWS });
        let row = |i: usize| &noises.noise[i * dim..(i + 1) * dim];
        let (columns, rows) =
            if class_a_row { (noises.len(), classes) } else { (classes, noises.len()) };
        let places = (0..rows).flat_map(|y| (0..columns).map(move |x| (x, y)));
        let of = |(x, y): (usize, usize)| if class_a_row { (x, y) } else { (y, x) };
        let drawn: Vec<(usize, usize)> = places.map(of).collect();
        let noise: Vec<f32> = drawn.iter().flat_map(|(noise, _)| row(*noise)).copied().collect();
        let labels: Vec<u32> = drawn.iter().map(|(_, class)| *class as u32).collect();
        let images = subject.sampler.sample_observed(&noise, &Labels::of(&labels), observer)?;
        let names = subject.class_names.to_vec();
        Ok(ClassImages { rows: ImageRows { columns, images }, class_a_row, names })
    };
    let end =
        |i: usize| End { noise: &few.noise[i * dim..(i + 1) * dim], class: few.labels.class(i) };
    let interpolated = |space| {
        let stepwise = subject.stepwise().ok()?;
        let pairs = (few.len() / 2).min(PAIRS);
        let images = (0..pairs)
            .flat_map(|i| between(stepwise, space, end(2 * i), end(2 * i + 1), STEPS))
            .collect();
        Some(ImageRows { columns: STEPS, images })
    };
    Ok(ImageGallery {
        shape: config.shape.clone(),
        teacher: teacher_of(&few),
        student: subject.sampler.sample_observed(&few.noise, &few.labels, observer)?,
        classes: if classes > 0 { Some(by_class()?) } else { None },
        between_noises: interpolated(InterpolationSpace::Noise),
        between_latents: interpolated(InterpolationSpace::Latent),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SmallStudent;
    use kdm_koopman::Method;
    use kdm_observer::Silent;

    /// Points have clusters, coloured by their modes where these are known; images have classes and
    /// ways between samples, which a direct student has not.
    #[test]
    fn galleries_hold_what_the_student_has() {
        let left = |row: &[f32]| Some(usize::from(row[0] > 0.0));
        let clustering = PointClustering {
            config: ClusterConfig { eps: 0.5, ..ClusterConfig::default() },
            samples: 30,
            mode_of: Some(&left),
        };
        let plane = SmallStudent::new(&[2], 0);
        let found = gallery(&plane.subject(), &clustering, &Silent).unwrap();
        let points = found.points.as_ref().unwrap();
        assert_eq!((points.student.len(), points.noise.len()), (80, 60));
        assert_eq!(points.clusters.colour[3], left(&points.student[6..8]));
        let json = serde_json::to_value(&found).unwrap();
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["clusters", "outliers"]);

        let images = SmallStudent::new(&[3, 1, 2], 3);
        let found = gallery(&images.subject(), &clustering, &Silent).unwrap().images.unwrap();
        // Of few classes each has a row.
        let classes = found.classes.unwrap();
        assert!(classes.class_a_row);
        let classes = classes.rows;
        assert_eq!((classes.columns, classes.images.len()), (12, 12 * 3 * 6));
        // The first noise has the label 0.
        let off = classes.images[..6].iter().zip(&found.student).map(|(a, b)| (a - b).abs());
        assert!(off.fold(0.0, f32::max) < 1e-6);
        assert_eq!(found.between_latents.unwrap().images.len(), 6 * 10 * 6);
        assert!(found.teacher.is_none());

        let direct = SmallStudent::of(&[3, 1, 2], 0, Method::Direct);
        let found = gallery(&direct.subject(), &clustering, &Silent).unwrap().images.unwrap();
        assert!(found.between_noises.is_none() && found.classes.is_none());
    }
}
