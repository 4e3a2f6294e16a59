//! What each level of a latent is for: its part of the operator's spectrum, what distances within
//! it mean, and what of an image changes when the level is taken from another sample.

use kdm_data::Samples;
use kdm_koopman::level_editing::exchanged;
use kdm_koopman::operator::LevelForm;
use kdm_koopman::{Operator, Stepwise};
use kdm_observer::Observer;
use serde::Serialize;

use crate::Result;
use crate::rows::{deviation, pair_distances};
use crate::semantics::{Correlation, correlation};
use crate::subject::{Activations, Subject};

/// Samples whose levels are exchanged, each with those of the next; and those that are shown.
const EXCHANGED: usize = 64;
const SHOWN: usize = 4;
/// Height and width of the blocks whose means are what is seen from afar.
const BLOCK: usize = 4;
/// Seeds of the bootstrap.
const PIXELS_SEED: u64 = 18;
const FEATURES_SEED: u64 = 19;

/// The levels of a latent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LevelAnalysis {
    /// Finest first.
    pub levels: Vec<Level>,
    /// Rows of a sample, the one that it takes levels from, and with each of the other's levels in
    /// turn, finest first.
    #[serde(skip)]
    pub images: Vec<f32>,
}

/// A level.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Level {
    /// Channels of its images.
    pub channels: usize,
    /// Height and width of them.
    pub side: usize,
    /// Its part of the operator; none for an operator on all of the latent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spectrum: Option<LevelSpectrum>,
    /// Correlation of distances of C z_T at this level with those of images, over pairs of samples.
    pub pixels: Option<Correlation>,
    /// The same with those of images' features.
    pub features: Option<Correlation>,
    /// What of an image changes when the level is another sample's.
    pub exchange: Exchange,
}

/// The eigenvalues of a level's matrices.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LevelSpectrum {
    /// How many there are: of one matrix that all places share, or of all matrices.
    pub count: usize,
    /// Places that share them.
    pub shared_by: usize,
    /// The largest modulus.
    pub spectral_radius: f64,
    /// The median modulus.
    pub median_modulus: f64,
    /// The largest of them as (real, imaginary), 32 at most.
    pub leading: Vec<(f64, f64)>,
}

/// Eigenvalues of a level that are kept.
const LEADING: usize = 32;

/// What changes with a level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Exchange {
    /// The change of an image, as a coordinate RMSE.
    pub coordinate_rmse: f64,
    /// The same over the images' standard deviation.
    pub of_deviation: f64,
    /// The share of the squared change that is seen from afar: in the means of blocks of 4x4
    /// pixels. None for images that have none.
    pub coarse: Option<f64>,
}

/// The levels of the student's latent; none where it has one level alone.
///
/// # Errors
/// When the operator has values that are not finite, or the observer stops the work.
pub(crate) fn level_analysis(
    subject: &Subject,
    stepwise: Stepwise,
    activations: &Activations,
    observer: &dyn Observer,
) -> Result<Option<LevelAnalysis>> {
    let config = subject.config;
    let (columns, n) = (config.level_columns(), config.operator_dim());
    if columns.len() < 2 {
        return Ok(None);
    }
    let spectra = spectra(&stepwise.student.operator)?;
    let features = activations.features.as_ref();
    let by_features = features.map(|found| pair_distances(&found.features, found.dim));
    let by_pixels = pair_distances(&activations.images, config.dim());
    let few = subject.samples.first(EXCHANGED);
    let (count, dim) = (few.len(), config.dim());
    let (own, images) = (&activations.pushed[..count * n], &activations.images[..count * dim]);
    let others = [&own[n..], &own[..n]].concat();
    let spread = deviation(&activations.images, dim);
    let (mut levels, mut changed) = (Vec::new(), Vec::new());
    for (i, (level, columns)) in config.latent_levels().iter().zip(columns).enumerate() {
        let mixed = exchanged(own, &others, n, std::slice::from_ref(&columns));
        let drawn =
            stepwise.observed("decoding", &mixed, &few.labels, observer, Stepwise::decode)?;
        let rows = activations.pushed.chunks_exact(n);
        let part: Vec<f32> = rows.flat_map(|row| row[columns.clone()].iter().copied()).collect();
        let distances = pair_distances(&part, columns.len());
        let features = by_features.as_ref();
        levels.push(Level {
            channels: level.channels,
            side: level.side,
            spectrum: spectra.as_ref().map(|all| all[i].clone()),
            pixels: correlation(&distances, &by_pixels, PIXELS_SEED),
            features: features.and_then(|f| correlation(&distances, f, FEATURES_SEED)),
            exchange: exchange(&drawn, images, &config.shape, spread),
        });
        changed.push(drawn);
    }
    let shown = rows_of(&few, images, &changed, dim);
    Ok(Some(LevelAnalysis { levels, images: shown }))
}

/// The images of the first samples: themselves, the next one, and with each level exchanged.
fn rows_of(few: &Samples, images: &[f32], changed: &[Vec<f32>], dim: usize) -> Vec<f32> {
    let count = few.len();
    let image = |of: &[f32], i: usize| of[i * dim..(i + 1) * dim].to_vec();
    let row = |i: usize| {
        let ends = [image(images, i), image(images, (i + 1) % count)];
        ends.into_iter().chain(changed.iter().map(move |drawn| image(drawn, i)))
    };
    (0..SHOWN.min(count)).flat_map(row).flatten().collect()
}

/// The spectrum of each level; none for an operator on all of the latent.
fn spectra(operator: &Operator) -> Result<Option<Vec<LevelSpectrum>>> {
    let Some(levels) = operator.levels() else { return Ok(None) };
    let modulus = |l: &(f64, f64)| l.0.hypot(l.1);
    let of = |level: &kdm_koopman::operator::LevelOperator| -> Result<LevelSpectrum> {
        let mut found = level.eigenvalues()?;
        found.sort_by(|a, b| modulus(b).total_cmp(&modulus(a)).then(a.1.total_cmp(&b.1)));
        let shared = level.form() == LevelForm::Shared;
        let spectrum = LevelSpectrum {
            count: found.len(),
            shared_by: if shared { level.level().places() } else { 1 },
            spectral_radius: found.first().map_or(0.0, modulus),
            median_modulus: found.get(found.len() / 2).map_or(0.0, modulus),
            leading: found.into_iter().take(LEADING).collect(),
        };
        Ok(spectrum)
    };
    levels.levels.iter().map(of).collect::<Result<_>>().map(Some)
}

/// What changed from `before` to `after`, images of `shape` whose deviation is `spread`.
fn exchange(after: &[f32], before: &[f32], shape: &[usize], spread: f64) -> Exchange {
    let change: Vec<f64> =
        after.iter().zip(before).map(|(after, before)| f64::from(after - before)).collect();
    let squares: f64 = change.iter().map(|x| x * x).sum();
    let rmse = (squares / change.len() as f64).sqrt();
    let coarse = coarse_squares(&change, shape).filter(|_| squares > 0.0);
    Exchange {
        coordinate_rmse: rmse,
        of_deviation: rmse / spread,
        coarse: coarse.map(|coarse| coarse / squares),
    }
}

/// The sum of squares that is left of images when every block of 4x4 pixels is its mean; none where
/// blocks don't fit.
fn coarse_squares(images: &[f64], shape: &[usize]) -> Option<f64> {
    let [_, height, width] = shape[..] else { return None };
    if !height.is_multiple_of(BLOCK) || !width.is_multiple_of(BLOCK) {
        return None;
    }
    let plane = |plane: &[f64]| {
        let mut sums = vec![0.0; (height / BLOCK) * (width / BLOCK)];
        for (i, x) in plane.iter().enumerate() {
            sums[(i / width / BLOCK) * (width / BLOCK) + i % width / BLOCK] += x;
        }
        // A block's mean, squared, once a pixel.
        sums.into_iter().map(|sum| sum * sum / (BLOCK * BLOCK) as f64).sum::<f64>()
    };
    Some(images.chunks_exact(height * width).map(plane).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SmallStudent;
    use kdm_koopman::OperatorKind;
    use kdm_observer::Silent;

    #[test]
    fn what_is_seen_from_afar() {
        let shape = [1, 4, 8];
        // One block is all 1; the other is half 1 and half -1, of mean 0.
        let half = |i: usize| if i.is_multiple_of(2) { 1.0 } else { -1.0 };
        let image: Vec<f32> = (0..32).map(|i| if i % 8 < 4 { 1.0 } else { half(i) }).collect();
        let found = exchange(&image, &[0.0; 32], &shape, 2.0);
        assert_eq!(found, Exchange { coordinate_rmse: 1.0, of_deviation: 0.5, coarse: Some(0.5) });
        assert_eq!(exchange(&image[..9], &[0.0; 9], &[1, 3, 3], 1.0).coarse, None);
        assert_eq!(exchange(&[1.0; 32], &[1.0; 32], &shape, 2.0).coarse, None);
    }

    #[test]
    fn every_level_is_looked_at() {
        for (kind, counts) in [
            (OperatorKind::Channels, Some([(1, 64), (2, 16)])),
            (OperatorKind::Places, Some([(64, 1), (32, 1)])),
            (OperatorKind::Dense, None),
        ] {
            let small = SmallStudent::of_images(kind, &[1, 2], 3);
            let subject = small.subject();
            let stepwise = subject.stepwise().unwrap();
            let activations = Activations::of(&subject, stepwise, &Silent).unwrap();
            let found = level_analysis(&subject, stepwise, &activations, &Silent).unwrap().unwrap();
            let spectra: Vec<Option<(usize, usize)>> = found
                .levels
                .iter()
                .map(|level| level.spectrum.as_ref().map(|s| (s.count, s.shared_by)))
                .collect();
            let expected = match counts {
                Some(counts) => counts.map(Some).to_vec(),
                None => vec![None; 2],
            };
            assert_eq!(spectra, expected);
            assert_eq!(found.images.len(), 4 * (2 + 2) * 64);
            for level in &found.levels {
                assert!(level.exchange.coordinate_rmse > 0.0 && level.pixels.is_some());
                let coarse = level.exchange.coarse.unwrap();
                assert!((0.0..=1.0).contains(&coarse), "{coarse}");
            }
        }
        let flat = SmallStudent::new(&[3], 0);
        let subject = flat.subject();
        let stepwise = subject.stepwise().unwrap();
        let activations = Activations::of(&subject, stepwise, &Silent).unwrap();
        assert_eq!(level_analysis(&subject, stepwise, &activations, &Silent).unwrap(), None);
    }
}
