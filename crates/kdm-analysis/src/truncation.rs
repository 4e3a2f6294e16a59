//! What samples lose when the operator keeps only the modes that carry most on real latents, and
//! when it keeps as many of the directions in which pushed latents vary most.

use kdm_koopman::editing::mean_row;
use kdm_koopman::operator::{Affine, Dense};
use kdm_koopman::{Koopman, Operator, Sampler, Student};
use kdm_metrics::{Error, Features, Statistics};
use kdm_observer::Observer;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::rows::deviation;
use crate::subject::{Activations, Subject};
use crate::{Modes, Principal, Result};

/// Samples whose images are kept at each rank.
const KEPT_IMAGES: usize = 16;

/// Samples by modes kept: none, 1, 2, 4, ... and all. In JSON a list of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Truncation {
    /// Whether features are Inception's, whose Fréchet distance is the field's FID.
    pub inception: bool,
    /// Standard deviation of a coordinate of the whole operator's samples.
    pub deviation: f64,
    /// Few modes first.
    pub rows: Vec<TruncationRow>,
}

/// Samples of an operator cut to one rank.
#[derive(Clone, Debug, PartialEq)]
pub struct TruncationRow {
    /// Modes kept.
    pub modes: usize,
    /// Their rank: 1 for a real eigenvalue, 2 for a pair.
    pub rank: usize,
    /// By modes.
    pub by_modes: TruncationError,
    /// By as many principal directions, the best linear operator of that rank on these latents.
    pub by_principal: TruncationError,
    /// The first samples by modes, rows of `dim` values.
    pub images: Vec<f32>,
}

/// How far samples of a cut operator are from those of the whole one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TruncationError {
    /// Root mean square of a coordinate's difference from the whole operator's sample.
    pub coordinate_rmse: f64,
    /// Fréchet distance of features to the data's; none without a reference.
    pub frechet: Option<f64>,
}

impl Truncation {
    /// The key of Fréchet distances: `fid` or `feature_fid`.
    pub fn frechet_key(&self) -> &'static str {
        if self.inception { "fid" } else { "feature_fid" }
    }
}

/// A row with the key of its Fréchet distances.
struct KeyedRow<'a>(&'a TruncationRow, &'static str);

struct KeyedError(TruncationError, &'static str);

impl Serialize for KeyedError {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("coordinate_rmse", &self.0.coordinate_rmse)?;
        map.serialize_entry(self.1, &self.0.frechet)?;
        map.end()
    }
}

impl Serialize for KeyedRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let Self(row, key) = *self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("modes", &row.modes)?;
        map.serialize_entry("rank", &row.rank)?;
        map.serialize_entry("coordinate_rmse", &row.by_modes.coordinate_rmse)?;
        map.serialize_entry(key, &row.by_modes.frechet)?;
        map.serialize_entry("principal", &KeyedError(row.by_principal, key))?;
        map.end()
    }
}

impl Serialize for Truncation {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rows.iter().map(|row| KeyedRow(row, self.frechet_key())))
    }
}

/// `student` with another operator.
fn with_operator(student: &Koopman, affine: &Affine, device: &burn::tensor::Device) -> Koopman {
    Koopman { operator: Operator::Dense(Dense::of(affine, device)), ..student.clone() }
}

/// The Fréchet distance of features to the data set's.
///
/// # Errors
/// When features are not finite.
fn frechet_to(reference: &Statistics, found: &Features) -> Result<f64> {
    Ok(reference.distance_to(found).map_err(Error::from)?)
}

/// Samples by modes kept; `ranked`: places of the modes, the one that carries most first.
///
/// # Errors
/// When features can't be compared, or the observer stops it.
pub(crate) fn truncation(
    subject: &Subject,
    activations: &Activations,
    modes: &Modes,
    principal: &Principal,
    ranked: &[usize],
    observer: &dyn Observer,
) -> Result<Truncation> {
    let stepwise = subject.stepwise()?;
    let Subject { config, device, samples, .. } = *subject;
    let centre = mean_row(&activations.latents, config.operator_dim());
    let whole = TruncationError {
        coordinate_rmse: 0.0,
        frechet: (activations.features.as_ref().zip(subject.reference))
            .map(|(features, reference)| frechet_to(reference, features))
            .transpose()?,
    };
    let cut = |affine: &Affine| -> Result<(Vec<f32>, TruncationError)> {
        let student = Student::Koopman(with_operator(stepwise.student, affine, device));
        let sampler = Sampler::new(student, config, device);
        let images = sampler.sample_observed(&samples.noise, &samples.labels, observer)?;
        let square = images
            .iter()
            .zip(&activations.images)
            .map(|(a, b)| f64::from(a - b).powi(2))
            .sum::<f64>();
        let frechet = match (subject.extractor, subject.reference) {
            (Some(extractor), Some(reference)) => {
                let found = extractor.inspect(&images, &config.shape, observer)?;
                Some(frechet_to(reference, &found)?)
            }
            _ => None,
        };
        let coordinate_rmse = (square / images.len() as f64).sqrt();
        Ok((images, TruncationError { coordinate_rmse, frechet }))
    };
    let mut counts: Vec<usize> = (0..).map(|i| 1 << i).take_while(|k| *k < ranked.len()).collect();
    counts.insert(0, 0);
    counts.push(ranked.len());
    let kept_values = KEPT_IMAGES.min(samples.len()) * config.dim();
    let mut progress = observer.begin("truncation", "ranks");
    let mut rows = Vec::new();
    for (done, kept) in counts.iter().copied().enumerate() {
        progress.advance(done as u64, counts.len() as u64, "")?;
        let rank: usize = ranked[..kept].iter().map(|k| modes.modes()[*k].size()).sum();
        let (mut images, by_modes, by_principal) = if kept == ranked.len() {
            (activations.images.clone(), whole, whole)
        } else {
            let (images, by_modes) = cut(&modes.truncated(&ranked[..kept], &centre))?;
            (images, by_modes, cut(&principal.truncated(rank))?.1)
        };
        images.truncate(kept_values);
        rows.push(TruncationRow { modes: kept, rank, by_modes, by_principal, images });
    }
    progress.finish("measured");
    Ok(Truncation {
        inception: subject.extractor.is_some_and(|extractor| extractor.is_inception()),
        deviation: deviation(&activations.images, config.dim()),
        rows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SmallStudent;
    use kdm_observer::Silent;

    /// All modes are the operator itself: no error; none of them give one image for all noise. The
    /// last cut before all of them is the operator without its weakest modes, and the operator put
    /// together from all its modes draws what the operator draws.
    #[test]
    fn full_rank_keeps_everything() {
        let small = SmallStudent::new(&[3], 0);
        let subject = small.subject();
        let stepwise = subject.stepwise().unwrap();
        let activations = Activations::of(&subject, stepwise, &Silent).unwrap();
        let affine = stepwise.student.operator.matrix();
        let modes = Modes::of(&affine).unwrap();
        let principal = Principal::of(&affine, &activations.latents).unwrap();
        let ranked = modes.ranked(&activations.latents);
        let found =
            truncation(&subject, &activations, &modes, &principal, &ranked, &Silent).unwrap();
        let (first, last) = (&found.rows[0], found.rows.last().unwrap());
        assert_eq!((first.modes, first.rank), (0, 0));
        assert_eq!((last.modes, last.rank), (ranked.len(), affine.n));
        assert_eq!(last.by_modes.coordinate_rmse, 0.0);
        assert!(first.images.chunks(3).all(|image| image == &first.images[..3]));
        // One image for all is off by the samples' deviation at least.
        assert!(first.by_modes.coordinate_rmse >= found.deviation);
        let whole = modes.truncated(&ranked, &mean_row(&activations.latents, affine.n));
        let student = with_operator(stepwise.student, &whole, subject.device);
        let again = Sampler::new(Student::Koopman(student), subject.config, subject.device);
        let drawn = again.sample(&subject.samples.noise, &subject.samples.labels);
        let off = drawn.iter().zip(&activations.images).map(|(a, b)| (a - b).abs());
        // Rounding of f32.
        assert!(off.fold(0.0, f32::max) < 1e-4);
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!(json[0]["coordinate_rmse"], first.by_modes.coordinate_rmse);
        let principal = &json[1]["principal"];
        assert!(principal["coordinate_rmse"].is_f64() && principal["feature_fid"].is_null());
    }
}
