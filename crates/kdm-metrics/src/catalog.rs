//! The catalog of all metrics, loss terms and logged values: what each is called, its unit, how to
//! read it, and which way is better. Keys are those of `evaluate --json` and of training logs.
//!
//! ```
//! use kdm_metrics::catalog::{self, Better, Values};
//!
//! let mut values = Values::default();
//! values.insert(&catalog::PSNR, 31.5);
//! values.insert(&catalog::RMSE, 0.25);
//! // In the catalog's order, whatever the order in which they came.
//! let keys: Vec<&str> = values.iter().map(|(metric, _)| metric.key).collect();
//! assert_eq!(keys, ["rmse", "psnr"]);
//! assert_eq!(serde_json::to_string(&values).unwrap(), r#"{"rmse":0.25,"psnr":31.5}"#);
//! assert_eq!(catalog::find("psnr").unwrap().better, Better::Larger);
//! ```

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

/// Which way a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// Smaller values are better.
    Smaller,
    /// Larger values are better.
    Larger,
    /// Neither: a fact beside the metrics, or best at some value between.
    Neither,
}

/// One metric, loss term or logged value. All there are stand in this module.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Metric {
    /// Its name in files and on the command line.
    pub key: &'static str,
    /// Its name in tables and plots.
    pub label: &'static str,
    /// Its unit; empty for pure numbers, and for distances in the units of the samples.
    pub unit: &'static str,
    /// How to read it, a phrase without a full stop.
    pub reading: &'static str,
    /// Which way is better.
    pub better: Better,
}

/// Defines metrics, and [`ALL`] with them in this order.
macro_rules! metrics {
    ($(
        $name:ident: $key:literal, $label:literal, $unit:literal, $better:ident, $reading:literal;
    )*) => {
        $(
            #[doc = concat!("`", $key, "`: ", $reading, ".")]
            pub static $name: Metric = Metric {
                key: $key,
                label: $label,
                unit: $unit,
                reading: $reading,
                better: Better::$better,
            };
        )*

        /// All of them, in the order in which they are shown.
        pub static ALL: &[&Metric] = &[$(&$name),*];
    };
}

metrics! {
    // Against the teacher's sample from the same noise.
    RMSE: "rmse", "RMSE", "", Smaller,
        "root mean squared distance of a sample to the teacher's sample from the same noise";
    MEDIAN_ERROR: "median_error", "median error", "", Smaller,
        "median distance of a sample to the teacher's sample from the same noise";
    COORDINATE_RMSE: "coordinate_rmse", "RMSE of a coordinate", "", Smaller,
        "root mean squared error of a single coordinate: rmse / sqrt(dimension)";
    // Between sets of samples.
    SLICED_WASSERSTEIN2: "sliced_wasserstein2", "sliced Wasserstein-2", "", Smaller,
        "Wasserstein-2 distance of the samples to the teacher's, over random projections";
    ENERGY_DISTANCE: "energy_distance", "energy distance", "", Smaller,
        "energy distance of the samples to the teacher's; 0 for equal distributions";
    OFF_BOARD: "off_board", "off the board", "%", Smaller,
        "share of the student's samples on no dark square";
    TEACHER_OFF_BOARD: "teacher_off_board", "off the board, teacher", "%", Neither,
        "share of the teacher's samples on no dark square";
    OFF_BOARD_EXCESS: "off_board_excess", "off the board, excess", "percentage points", Smaller,
        "off_board - teacher_off_board: what the student adds";
    SPEED_UP: "speed_up", "speed-up", "", Larger,
        "time of the teacher over time of the student for the same samples, on this machine in \
         this run";
    // Of images, against the teacher's image from the same noise.
    PSNR: "psnr", "PSNR", "dB", Larger,
        "peak signal-to-noise ratio to the teacher's image from the same noise";
    SSIM: "ssim", "SSIM", "", Larger,
        "structural similarity to the teacher's image from the same noise; 1 for equal images";
    LPIPS: "lpips", "LPIPS", "", Smaller,
        "perceptual distance (VGG16) to the teacher's image from the same noise; 0 for equal \
         images";
    // Of Inception's features, against a data set's.
    FID: "fid", "FID", "", Smaller,
        "Fréchet distance of Inception's features to the data's";
    FID_TEACHER: "fid_teacher", "FID, teacher", "", Neither,
        "the same of the teacher's images, as many";
    FID_INFINITY: "fid_infinity", "FID, extrapolated", "", Smaller,
        "fid extrapolated to infinitely many samples";
    KID: "kid", "KID", "", Smaller,
        "kernel distance (MMD^2) of Inception's features to the data's; 0 for equal distributions";
    KID_DEVIATION: "kid_deviation", "KID, deviation", "", Neither,
        "standard deviation of kid over its subsets";
    INCEPTION_SCORE: "inception_score", "inception score", "", Larger,
        "how certain Inception's classes are, and how varied: from 1 to the number of classes";
    PRECISION: "precision", "precision", "", Larger,
        "share of images inside the data's neighbourhoods (5 neighbours, Inception's features)";
    RECALL: "recall", "recall", "", Larger,
        "share of the data inside the images' neighbourhoods";
    DENSITY: "density", "density", "", Larger,
        "mean number of the data's neighbourhoods that an image lies in, over 5; about 1 for the \
         data itself";
    COVERAGE: "coverage", "coverage", "", Larger,
        "share of the data's neighbourhoods that contain an image";
    // The same of another network's features.
    FEATURE_FID: "feature_fid", "feature FID", "", Smaller,
        "Fréchet distance of the features of a classifier of the data; no FID in the usual sense";
    FEATURE_FID_TEACHER: "feature_fid_teacher", "feature FID, teacher", "", Neither,
        "the same of the teacher's images, as many";
    FEATURE_FID_INFINITY: "feature_fid_infinity", "feature FID, extrapolated", "", Smaller,
        "feature_fid extrapolated to infinitely many samples";
    FEATURE_KID: "feature_kid", "feature KID", "", Smaller,
        "kernel distance (MMD^2) of these features to the data's";
    FEATURE_KID_DEVIATION: "feature_kid_deviation", "feature KID, deviation", "", Neither,
        "standard deviation of feature_kid over its subsets";
    FEATURE_INCEPTION_SCORE: "feature_inception_score", "feature inception score", "", Larger,
        "how certain the classifier's classes are, and how varied: from 1 to the number of classes";
    FEATURE_PRECISION: "feature_precision", "feature precision", "", Larger,
        "share of images inside the data's neighbourhoods (5 neighbours, these features)";
    FEATURE_RECALL: "feature_recall", "feature recall", "", Larger,
        "share of the data inside the images' neighbourhoods";
    FEATURE_DENSITY: "feature_density", "feature density", "", Larger,
        "mean number of the data's neighbourhoods that an image lies in, over 5; about 1 for the \
         data itself";
    FEATURE_COVERAGE: "feature_coverage", "feature coverage", "", Larger,
        "share of the data's neighbourhoods that contain an image";
    CLASS_AGREEMENT: "class_agreement", "class accuracy", "", Larger,
        "class accuracy: share of images that the classifier assigns to the class they were drawn \
         for";
    CLASS_AGREEMENT_TEACHER: "class_agreement_teacher", "class accuracy, teacher", "", Neither,
        "the same of the teacher's images";
    CLASS_SAME_AS_TEACHER: "class_same_as_teacher", "class as the teacher's", "", Larger,
        "share of images that the classifier assigns to the same class as the teacher's image from \
         the same noise";
    // Of memorization.
    NEIGHBOUR_DISTANCE: "neighbour_distance", "nearest training image", "", Neither,
        "median distance of a sample to the nearest training image, in feature space";
    NEIGHBOUR_DISTANCE_TEST: "neighbour_distance_test", "nearest training image, test", "", Neither,
        "the same of images of the test split";
    COPIES: "copies", "copies", "", Smaller,
        "share of samples closer to a training image than 99% of the test split are; 0.01 for new \
         images";
    // Terms of a student's loss.
    LATENT: "latent", "latent loss", "", Smaller,
        "mean squared distance of C z_T to z_0";
    REC: "rec", "reconstruction loss", "", Smaller,
        "distance d of an image to its reconstruction D(z_0)";
    PUSH: "push", "push loss", "", Smaller,
        "distance d of the teacher's image to the one-step image";
    ADVERSARIAL: "adversarial", "adversarial loss", "", Smaller,
        "cross-entropy of the discriminator's output on one-step images to \"real\"";
    EIGEN: "eigen", "eigenvalue loss", "", Smaller,
        "eigenvalue loss and inverse consistency";
    TOTAL: "total", "total loss", "", Smaller,
        "the weighted sum of the loss's terms";
    STATE_LATENT: "state_latent", "latent loss of states", "", Smaller,
        "mean squared difference of a state's latent to that carried from the noise, and of its \
         image's to that carried from it";
    STATE_PUSH: "state_push", "image from states", "", Smaller,
        "distance of the image decoded from a state between noise and image to the teacher's";
    STATE: "state", "state loss", "", Smaller,
        "mean squared difference of states decoded on the way from the noise to the teacher's own, \
         over their scale";
    // Of trainings.
    LOSS: "loss", "loss", "", Smaller,
        "what the training minimises";
    DISCRIMINATOR: "discriminator", "discriminator loss", "", Neither,
        "cross-entropy of the discriminator on real and one-step images";
    ERROR: "error", "error rate", "", Smaller,
        "share of test images that the classifier assigns to a wrong class";
    GRADIENT_NORM: "gradient_norm", "gradient norm", "", Neither,
        "Euclidean norm of the gradient";
    LR: "lr", "learning rate", "", Neither,
        "learning rate of the iteration";
    REPLACED: "replaced", "replaced gradients", "iterations", Smaller,
        "iterations so far in which a gradient was not finite and was replaced";
    ITERATIONS_PER_SECOND: "iterations_per_second", "speed", "iterations/s", Larger,
        "iterations a second since the last line of the log";
    MODULUS_1: "modulus_1", "spectral radius", "", Neither,
        "modulus of the operator's largest eigenvalue";
    MODULUS_2: "modulus_2", "2nd modulus", "", Neither,
        "modulus of the operator's 2nd largest eigenvalue";
    MODULUS_4: "modulus_4", "4th modulus", "", Neither,
        "modulus of the operator's 4th largest eigenvalue";
    MODULUS_8: "modulus_8", "8th modulus", "", Neither,
        "modulus of the operator's 8th largest eigenvalue";
    MODULUS_16: "modulus_16", "16th modulus", "", Neither,
        "modulus of the operator's 16th largest eigenvalue";
    MODULUS_32: "modulus_32", "32nd modulus", "", Neither,
        "modulus of the operator's 32nd largest eigenvalue";
    MODULUS_64: "modulus_64", "64th modulus", "", Neither,
        "modulus of the operator's 64th largest eigenvalue";
    MODULUS_128: "modulus_128", "128th modulus", "", Neither,
        "modulus of the operator's 128th largest eigenvalue";
    MODULUS_256: "modulus_256", "256th modulus", "", Neither,
        "modulus of the operator's 256th largest eigenvalue";
    MODULUS_512: "modulus_512", "512th modulus", "", Neither,
        "modulus of the operator's 512th largest eigenvalue";
    MODULUS_1024: "modulus_1024", "1024th modulus", "", Neither,
        "modulus of the operator's 1024th largest eigenvalue";
    MODULUS_2048: "modulus_2048", "2048th modulus", "", Neither,
        "modulus of the operator's 2048th largest eigenvalue";
    MODULUS_4096: "modulus_4096", "4096th modulus", "", Neither,
        "modulus of the operator's 4096th largest eigenvalue";
    MODULUS_8192: "modulus_8192", "8192nd modulus", "", Neither,
        "modulus of the operator's 8192nd largest eigenvalue";
    MODULUS_16384: "modulus_16384", "16384th modulus", "", Neither,
        "modulus of the operator's 16384th largest eigenvalue";
    MODULUS_32768: "modulus_32768", "32768th modulus", "", Neither,
        "modulus of the operator's 32768th largest eigenvalue";
    MODULUS_65536: "modulus_65536", "65536th modulus", "", Neither,
        "modulus of the operator's 65536th largest eigenvalue";
}

/// The metric of this key.
pub fn find(key: &str) -> Option<&'static Metric> {
    ALL.iter().copied().find(|metric| metric.key == key)
}

/// The modulus of eigenvalue number `place` (from 1) by size, of the places that are logged: 1, 2,
/// 4, ..., 65536.
pub fn modulus(place: usize) -> Option<&'static Metric> {
    find(&format!("modulus_{place}"))
}

/// Metrics of features, by the network whose features they are of.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FeatureMetrics {
    /// The Fréchet distance.
    pub fid: &'static Metric,
    /// The teacher's.
    pub fid_teacher: &'static Metric,
    /// Extrapolated.
    pub fid_infinity: &'static Metric,
    /// The kernel distance.
    pub kid: &'static Metric,
    /// Its deviation.
    pub kid_deviation: &'static Metric,
    /// The inception score.
    pub inception_score: &'static Metric,
    /// Improved precision.
    pub precision: &'static Metric,
    /// Improved recall.
    pub recall: &'static Metric,
    /// Density.
    pub density: &'static Metric,
    /// Coverage.
    pub coverage: &'static Metric,
}

/// Those of Inception's features: the field's FID and KID.
pub static OF_INCEPTION: FeatureMetrics = FeatureMetrics {
    fid: &FID,
    fid_teacher: &FID_TEACHER,
    fid_infinity: &FID_INFINITY,
    kid: &KID,
    kid_deviation: &KID_DEVIATION,
    inception_score: &INCEPTION_SCORE,
    precision: &PRECISION,
    recall: &RECALL,
    density: &DENSITY,
    coverage: &COVERAGE,
};

/// Those of a classifier's features, which are other quantities and have other keys.
pub static OF_CLASSIFIER: FeatureMetrics = FeatureMetrics {
    fid: &FEATURE_FID,
    fid_teacher: &FEATURE_FID_TEACHER,
    fid_infinity: &FEATURE_FID_INFINITY,
    kid: &FEATURE_KID,
    kid_deviation: &FEATURE_KID_DEVIATION,
    inception_score: &FEATURE_INCEPTION_SCORE,
    precision: &FEATURE_PRECISION,
    recall: &FEATURE_RECALL,
    density: &FEATURE_DENSITY,
    coverage: &FEATURE_COVERAGE,
};

/// Values of metrics, in the catalog's order. Serialises as an object from key to number (null for
/// a number that is not finite, in JSON).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values(BTreeMap<usize, f64>);

/// The metric's place in [`ALL`].
fn place(metric: &Metric) -> usize {
    ALL.iter().position(|other| other.key == metric.key).expect("metrics are made in the catalog")
}

impl Values {
    /// Puts a value in, in place of one of the same metric.
    pub fn insert(&mut self, metric: &'static Metric, value: f64) {
        self.0.insert(place(metric), value);
    }

    /// The metric's value.
    pub fn get(&self, metric: &Metric) -> Option<f64> {
        self.0.get(&place(metric)).copied()
    }

    /// Metrics and their values, in the catalog's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'static Metric, f64)> + '_ {
        self.0.iter().map(|(place, value)| (ALL[*place], *value))
    }

    /// Values.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As a training's log takes them.
    pub fn named(&self) -> Vec<(String, f64)> {
        self.iter().map(|(metric, value)| (metric.key.to_string(), value)).collect()
    }
}

impl Extend<(&'static Metric, f64)> for Values {
    fn extend<I: IntoIterator<Item = (&'static Metric, f64)>>(&mut self, values: I) {
        values.into_iter().for_each(|(metric, value)| self.insert(metric, value));
    }
}

impl FromIterator<(&'static Metric, f64)> for Values {
    fn from_iter<I: IntoIterator<Item = (&'static Metric, f64)>>(values: I) -> Self {
        let mut all = Self::default();
        all.extend(values);
        all
    }
}

impl IntoIterator for Values {
    type Item = (&'static Metric, f64);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter().collect::<Vec<_>>().into_iter()
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(metric, value)| (metric.key, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_found_by_its_key_alone() {
        for (i, metric) in ALL.iter().enumerate() {
            assert_eq!(place(metric), i, "{} stands twice", metric.key);
            assert_eq!(find(metric.key), Some(*metric));
            let text = [metric.label, metric.reading];
            assert!(text.iter().all(|text| !text.is_empty() && !text.ends_with('.')), "{metric:?}");
            let is_key = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(metric.key.chars().all(is_key), "{}", metric.key);
        }
        assert_eq!(find("no such metric"), None);
        let mut labels: Vec<&str> = ALL.iter().map(|metric| metric.label).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), ALL.len(), "labels that stand twice");
    }

    #[test]
    fn moduli_are_those_of_powers_of_two() {
        assert_eq!(modulus(1).unwrap().label, "spectral radius");
        assert!((0..=16).all(|i| modulus(1 << i).is_some()));
        assert!(modulus(3).is_none());
    }

    #[test]
    fn values_keep_the_catalogs_order_and_the_last_value() {
        let mut values = Values::from_iter([(&TOTAL, 1.0), (&RMSE, 2.0), (&FID, 3.0)]);
        values.extend(Values::from_iter([(&RMSE, 5.0)]));
        let all: Vec<(&str, f64)> = values.iter().map(|(m, v)| (m.key, v)).collect();
        assert_eq!(all, [("rmse", 5.0), ("fid", 3.0), ("total", 1.0)]);
        assert_eq!((values.len(), values.get(&FID), values.get(&KID)), (3, Some(3.0), None));
        values.insert(&FID, f64::NAN);
        let text = serde_json::to_string(&values).unwrap();
        assert_eq!(text, r#"{"rmse":5.0,"fid":null,"total":1.0}"#);
    }
}
