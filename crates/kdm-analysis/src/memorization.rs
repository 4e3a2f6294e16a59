//! Nearest training images: whether samples are new, or copies of what the teacher learned from.

use kdm_metrics::manifold::nearest;
use kdm_metrics::{Extractor, Values, catalog};
use kdm_observer::Observer;
use serde::{Serialize, Serializer};

use crate::Result;

/// Samples, and images of the test split, whose neighbours are measured.
pub const MEASURED: usize = 1000;
/// Samples whose neighbours are kept, and neighbours kept of each.
const SHOWN: usize = 16;
const NEIGHBOURS: usize = 4;
/// Share of test images that are closer to a training image than what is called close.
const CLOSE: f64 = 0.01;

/// Images that samples may be copies of: rows of values in [-1, 1] of the samples' shape.
#[derive(Clone, Copy, Debug)]
pub struct KnownImages<'a> {
    /// The train split, at least one image.
    pub train: &'a [f32],
    /// The test split, of which the first [`MEASURED`] are used; none or empty without one.
    pub test: Option<&'a [f32]>,
}

/// Distances of samples to the training images nearest to them, in feature space. In JSON its
/// [`Self::values`].
#[derive(Clone, Debug, PartialEq)]
pub struct Memorization {
    /// Median distance to the nearest training image.
    pub distance: f64,
    /// The same of images of the test split.
    pub distance_of_test: Option<f64>,
    /// Share of samples that are nearer to a training image than all but 1% of the test images are:
    /// about 0.01 for new images, 1 for copies.
    pub copies: Option<f64>,
    /// The first samples and their nearest training images.
    pub nearest: NearestImages,
}

/// Samples beside the training images nearest to them.
#[derive(Clone, Debug, PartialEq)]
pub struct NearestImages {
    /// The network whose features they are near in.
    pub features: String,
    /// `[C, H, W]`.
    pub shape: Vec<usize>,
    /// Samples in rows.
    pub samples: usize,
    /// The samples, then the nearest image of each, then the second nearest, and so on.
    pub images: Vec<f32>,
}

impl Memorization {
    /// Its numbers as metrics.
    pub fn values(&self) -> Values {
        [
            (&catalog::NEIGHBOUR_DISTANCE, Some(self.distance)),
            (&catalog::NEIGHBOUR_DISTANCE_TEST, self.distance_of_test),
            (&catalog::COPIES, self.copies),
        ]
        .into_iter()
        .filter_map(|(metric, value)| Some((metric, value?)))
        .collect()
    }
}

impl Serialize for Memorization {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.values().serialize(serializer)
    }
}

/// The training images nearest to samples of `shape` in the feature space of `extractor`, which
/// takes images of that shape. Of the samples (at least one) the first [`MEASURED`] are used.
///
/// # Errors
/// When the observer stops it.
pub fn memorization(
    extractor: &Extractor,
    known: KnownImages,
    samples: &[f32],
    shape: &[usize],
    observer: &dyn Observer,
) -> Result<Memorization> {
    let dim: usize = shape.iter().product();
    let some = |images: &[f32]| images[..images.len().min(MEASURED * dim)].to_vec();
    let features = |images: &[f32]| -> Result<Vec<f32>> {
        Ok(extractor.inspect(images, shape, observer)?.features)
    };
    let width = extractor.features();
    let of_train = features(known.train)?;
    let of_samples = features(&some(samples))?;
    let of_test = match known.test.filter(|images| !images.is_empty()) {
        Some(images) => Some(features(&some(images))?),
        None => None,
    };
    let shown = SHOWN.min(samples.len() / dim);
    let near = nearest(&of_samples[..shown * width], &of_train, width, NEIGHBOURS);
    let mut images = samples[..shown * dim].to_vec();
    for k in 0..NEIGHBOURS.min(known.train.len() / dim) {
        near.iter()
            .for_each(|row| images.extend(&known.train[row[k].0 * dim..(row[k].0 + 1) * dim]));
    }
    let nearest = NearestImages {
        features: extractor.stamp().name.clone(),
        shape: shape.to_vec(),
        samples: shown,
        images,
    };
    let distances = distances_to(&of_train, &of_samples, of_test.as_deref(), width);
    Ok(Memorization { nearest, ..distances })
}

/// The numbers of a [`Memorization`], from rows of features.
fn distances_to(
    train: &[f32],
    samples: &[f32],
    test: Option<&[f32]>,
    width: usize,
) -> Memorization {
    let closest = |rows: &[f32]| -> Vec<f64> {
        let mut found: Vec<f64> =
            nearest(rows, train, width, 1).into_iter().map(|row| row[0].1).collect();
        found.sort_by(f64::total_cmp);
        found
    };
    let median = |sorted: &[f64]| sorted[sorted.len() / 2];
    let of_samples = closest(samples);
    let of_test = test.map(closest);
    let copies = of_test.as_ref().map(|theirs| {
        let close = theirs[(theirs.len() as f64 * CLOSE) as usize];
        of_samples.iter().filter(|d| **d < close).count() as f64 / of_samples.len() as f64
    });
    Memorization {
        distance: median(&of_samples),
        distance_of_test: of_test.as_deref().map(median),
        copies,
        nearest: NearestImages {
            features: String::new(),
            shape: Vec::new(),
            samples: 0,
            images: Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_random::normal_vec;

    /// Copies of training rows are found to be copies; of rows drawn as the test's, about one in a
    /// hundred is (a binomial of 1000 draws, whose threshold is itself the tenth smallest of 1000).
    #[test]
    fn copies_are_found() {
        let width = 8;
        let train = normal_vec(1, 2000 * width);
        let test = normal_vec(2, 1000 * width);
        let copied = distances_to(&train, &train[..100 * width], Some(&test), width);
        assert_eq!((copied.distance, copied.copies), (0.0, Some(1.0)));
        let new = distances_to(&train, &normal_vec(3, 1000 * width), Some(&test), width);
        assert!(new.copies.unwrap() < 0.03, "{new:?}");
        let ratio = new.distance / new.distance_of_test.unwrap();
        assert!((ratio - 1.0).abs() < 0.05, "{new:?}");
        // One copied row among new ones.
        let mut one = normal_vec(4, 50 * width);
        one[..width].copy_from_slice(&train[7 * width..8 * width]);
        let found = distances_to(&train, &one, Some(&test), width);
        assert!((0.02..0.15).contains(&found.copies.unwrap()), "{found:?}");
        let without = distances_to(&train, &one, None, width);
        assert_eq!(without.values().len(), 1);
        assert_eq!(
            serde_json::to_value(&without).unwrap(),
            serde_json::json!({"neighbour_distance": without.distance})
        );
    }
}
