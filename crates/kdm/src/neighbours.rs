//! Nearest images of a data set: whether samples are new, or copies of what the teacher learned
//! from.

use std::collections::BTreeMap;

use kdm_data::{ImageSet, Split};
use kdm_metrics::Extractor;
use kdm_metrics::manifold::nearest;
use kdm_report::{Figure, grid};

use crate::Outcome;
use crate::evaluation::inspect;
use crate::pipeline::fit_images;

/// Samples shown with their neighbours, and neighbours shown of each.
const SHOWN: usize = 16;
const NEIGHBOURS_SHOWN: usize = 4;
/// Samples, and images of the test split, whose neighbours are measured.
pub const MEASURED: usize = 1000;
/// Share of test images that a distance is called close by.
const CLOSE: f64 = 0.01;

/// Samples beside what is nearest to them.
#[derive(Clone, Debug)]
pub struct Neighbours {
    /// Samples in the first row, their nearest images below each.
    pub figure: Figure,
    /// `neighbour_distance`: median distance to the nearest training image, in feature space; and
    /// where there is a test split, `neighbour_distance_test`, the same of its images, and
    /// `copies`, the share of samples that are nearer to a training image than all but 1% of the
    /// test images are: about 0.01 for new images.
    pub values: BTreeMap<String, f64>,
}

/// The nearest images of the data set `source`'s train split to samples of `shape`, in the feature
/// space of `extractor`.
///
/// # Errors
/// When there is no such data set, or its images don't fit the samples or the network.
pub fn neighbours(
    extractor: &Extractor,
    source: &str,
    samples: &[f32],
    shape: &[usize],
) -> Outcome<Neighbours> {
    let dim: usize = shape.iter().product();
    let train = fit_images(ImageSet::open(source, Split::Train)?, source, shape)?;
    let images = train.images(0..train.len());
    let of_train = inspect(extractor, &images, shape, "features of training images").features;
    let features = |images: &[f32]| {
        inspect(extractor, &images[..images.len().min(MEASURED * dim)], shape, "features").features
    };
    let width = extractor.features();
    let of_samples = features(samples);
    let mut found: Vec<f64> =
        nearest(&of_samples, &of_train, width, 1).into_iter().map(|row| row[0].1).collect();
    let mut values = BTreeMap::from([("neighbour_distance".to_string(), median(&mut found))]);
    if let Ok(test) = ImageSet::open(source, Split::Test) {
        let test = fit_images(test.first(MEASURED), source, shape)?;
        let of_test = features(&test.images(0..test.len()));
        let mut theirs: Vec<f64> =
            nearest(&of_test, &of_train, width, 1).into_iter().map(|row| row[0].1).collect();
        values.insert("neighbour_distance_test".into(), median(&mut theirs));
        let close = theirs[(theirs.len() as f64 * CLOSE) as usize];
        values.insert(
            "copies".into(),
            found.iter().filter(|d| **d < close).count() as f64 / found.len() as f64,
        );
    }

    let shown = SHOWN.min(samples.len() / dim);
    let near = nearest(&of_samples[..shown * width], &of_train, width, NEIGHBOURS_SHOWN);
    let mut rows = samples[..shown * dim].to_vec();
    for k in 0..NEIGHBOURS_SHOWN.min(train.len()) {
        near.iter().for_each(|row| rows.extend(&images[row[k].0 * dim..(row[k].0 + 1) * dim]));
    }
    let figure = Figure {
        title: "Nearest training images".into(),
        png: grid::png(&rows, shape, shown),
        caption: format!(
            "Samples in the first row; below each the training images nearest to it in the feature space of `{}`, nearest first. \
             A sample that equals the image below it is a copy.",
            extractor.stamp().name
        ),
    };
    Ok(Neighbours { figure, values })
}

/// Sorts, and takes the middle.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
