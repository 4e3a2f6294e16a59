//! Images of a person's own: read, resized, parted into what is learned from and what is measured
//! by, and the feature networks that learn from them.

use std::path::Path;

use kdm_data::images::{ReadOptions, has_test, survey};
use kdm_data::{ImageSet, Split, atomic};
use kdm_observer::Observer;

use crate::run_folder::FEATURES;
use crate::stages::features::{FeatureTraining, TEST_SHARE, train_features};
use crate::stages::images::{open_set, with_pickles};
use crate::{Context, Experiment, Failure, Outcome};

/// A data set by its source, and how it is taken.
#[derive(Clone, Debug)]
pub struct OwnImages {
    /// A folder, .zip, .tar or .npz, or a name; see [`ImageSet::open_with`].
    pub source: String,
    /// Height and width to work with, a multiple of 8; none for what there is time for.
    pub resolution: Option<usize>,
    /// How many classes there are, where the images show fewer.
    pub classes: Option<usize>,
}

/// Images of one size, to learn from and to measure by.
#[derive(Clone, Debug)]
pub struct OwnSet {
    /// What teacher and feature networks learn from.
    pub train: ImageSet,
    /// What they don't see.
    pub test: ImageSet,
}

/// The least and the most pixels a side that networks are planned for.
const SIDES: std::ops::RangeInclusive<usize> = 8..=256;
/// Images to learn from at least.
const FEWEST: usize = 20;
/// Images that feature networks learn from without classes, each in four turns.
const TURNED: usize = 5000;
/// Of the seed of a run: which images are kept for tests, and the two feature networks.
const SPLIT_STREAM: u64 = 20;
const FEATURE_STREAMS: [u64; 2] = [21, 22];

/// Channels of a feature network's first layer.
pub(super) const FEATURE_WIDTH: usize = 16;
/// Images a feature network learns from in an iteration.
pub(super) const FEATURE_BATCH: usize = 64;

/// Images that a feature network sees in all, of a set of so many.
pub(super) fn feature_images(count: usize) -> f64 {
    12e3 + 0.5 * count as f64
}

/// Images that a feature network is trained on, of a set of so many.
pub(super) fn feature_count(images: usize, classes: usize) -> usize {
    if classes > 1 { images } else { 4 * images.min(TURNED) }
}

/// The file of a data set in a run's folder: of images to learn from, or of others by a suffix.
pub(super) fn set_file(folder: &Path, name: &str, suffix: &str) -> String {
    folder.join(format!("data/{name}{suffix}.zip")).to_string_lossy().into_owned()
}

/// The file of a feature network in a run's folder.
pub(super) fn feature_file(folder: &Path, name: &str) -> String {
    folder.join(name).join(FEATURES).to_string_lossy().into_owned()
}

impl OwnImages {
    /// The shorter side of the typical image.
    ///
    /// # Errors
    /// When the source can't be read, or the resolution asked for can't be worked with.
    pub fn side(&self, observer: &dyn Observer) -> Outcome<usize> {
        if let Some(side) = self.resolution
            && !(SIDES.contains(&side) && side.is_multiple_of(8))
        {
            let (least, most) = (SIDES.start(), SIDES.end());
            return Err(Failure::Usage(format!(
                "--resolution {side}: give a multiple of 8 from {least} to {most}"
            )));
        }
        let found = survey(&self.source, &with_pickles(&self.options(None)), observer)?;
        let [height, width] = found.median;
        observer.info(&format!(
            "{}: {} images, typically {height}x{width}, {}",
            self.source,
            found.images,
            if found.channels == 1 { "grey" } else { "in colour" }
        ));
        Ok(height.min(width))
    }

    fn options(&self, resolution: Option<usize>) -> ReadOptions {
        ReadOptions { resolution, classes: self.classes, ..ReadOptions::default() }
    }

    /// The images at `resolution`. Where the source has no test images of its own, some are split
    /// off by `seed`, of each class a tenth.
    ///
    /// # Errors
    /// When they can't be read, or are too few.
    pub fn read(&self, resolution: usize, seed: u64, observer: &dyn Observer) -> Outcome<OwnSet> {
        let options = self.options(Some(resolution));
        let train = open_set(&self.source, Split::Train, &options, observer)?;
        let (train, test) = if has_test(&self.source)? {
            (train, open_set(&self.source, Split::Test, &options, observer)?)
        } else {
            train.split_off(TEST_SHARE, kdm_random::derive_seed(seed, SPLIT_STREAM))
        };
        if train.len() < FEWEST {
            let problem = format!("there are {} to learn from", train.len());
            let action = format!("give {FEWEST} or more; some hundred for something to look at");
            return Err(kdm_data::Error::invalid(&self.source, "images", problem, action).into());
        }
        Ok(OwnSet { train, test })
    }

    /// Writes the data set of the run in `folder` and trains its feature networks, as far as they
    /// are not there.
    ///
    /// # Errors
    /// When a file can't be read or written, or the observer stops it.
    pub(super) fn prepare(
        &self,
        name: &str,
        experiment: &Experiment,
        folder: &Path,
        context: Context,
    ) -> Outcome<()> {
        let [data, test, turned, turned_test] =
            ["", "-test", "-turned", "-turned-test"].map(|suffix| set_file(folder, name, suffix));
        let (shape, _) = experiment.sample().expect("checked when loaded");
        let observer = context.observer;
        let there = |path: &String| Path::new(path).exists();
        let put = |set: &ImageSet, path: &String| -> Outcome<()> {
            if !there(path) {
                set.write_zip(Path::new(path), observer)?;
            }
            Ok(())
        };
        if !(there(&data) && there(&test)) {
            let set = self.read(shape[1], experiment.seed, observer)?;
            atomic::create_folder(&folder.join("data"))?;
            put(&set.train, &data)?;
            put(&set.test, &test)?;
        }
        let [train, held] =
            [&data, &test].map(|path| ImageSet::open_zip(Path::new(path), observer));
        let (train, held) = (train?, held?);
        let told = train.classes() > 1;
        if !told {
            put(&train.clone().first(TURNED).quarter_turns(), &turned)?;
            put(&held.first(TURNED).quarter_turns(), &turned_test)?;
        }
        let count = feature_count(train.len(), train.classes());
        let (learn, validate) = if told { (data, test) } else { (turned, turned_test) };
        let epochs = feature_images(count) / count as f64;
        for (place, stream) in ["features", "loss-features"].into_iter().zip(FEATURE_STREAMS) {
            if there(&feature_file(folder, place)) {
                continue;
            }
            let training = FeatureTraining {
                data: learn.clone(),
                test_data: Some(validate.clone()),
                resolution: shape[1],
                resize: false,
                width: FEATURE_WIDTH,
                epochs,
                batch: FEATURE_BATCH,
                leaves: 1,
                lr: 3e-3,
                seed: kdm_random::derive_seed(experiment.seed, stream),
            };
            train_features(&training, &folder.join(place), context)?;
        }
        Ok(())
    }
}
