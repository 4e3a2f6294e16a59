//! Networks that turn images into features and logits.
//!
//! A metric of features is only comparable with one of the same network: every result carries the
//! network's stamp. Distances of Inception's features are the field's FID; those of a classifier
//! trained here are another quantity.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use kdm_data::model::State;
use kdm_data::{Error, Result, TensorFile, model};
use kdm_nn::fixed_batches::{Rows, in_image_batches};
use kdm_nn::state::load_state;
use kdm_nn::{Classifier, ClassifierConfig, Inception, InitSeed, Problem, inception};
use kdm_observer::{Observer, Stopped};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::catalog::{self, FeatureMetrics};
use crate::error::UnfitImages;
use crate::stamp::Stamp;

/// The kind that classifiers' model files name.
pub const CLASSIFIER: &str = "classifier";

/// What a classifier's model file says beside its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierFile {
    /// The data set it was trained on.
    pub data: String,
    /// Names of the classes.
    pub class_names: Vec<String>,
    /// The network.
    pub network: ClassifierConfig,
}

/// A feature network ready to run.
#[derive(Clone, Debug)]
pub struct Extractor {
    network: Network,
    stamp: Stamp,
    device: Device,
}

#[derive(Clone, Debug)]
enum Network {
    Inception(Box<Inception>),
    Classifier(Box<(ClassifierFile, Classifier)>),
}

/// Features and logits of images, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Values of a feature vector.
    pub dim: usize,
    /// `[N, dim]`.
    pub features: Vec<f32>,
    /// Values of a row of logits.
    pub classes: usize,
    /// `[N, classes]`.
    pub logits: Vec<f32>,
}

impl Features {
    /// Images.
    pub fn len(&self) -> usize {
        self.features.len() / self.dim
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }
}

impl Extractor {
    /// Reads a feature network's model file: Inception's from `kdm import`, or a classifier's from
    /// `kdm features train`. The network computes on `device`.
    ///
    /// # Errors
    /// When the file is damaged or is no feature network's.
    pub fn load(file: &TensorFile, device: &Device) -> Result<Self> {
        if file.metadata()["kind"] == inception::NAME {
            let (config, state): (Value, _) = model::parse(file, inception::NAME)?;
            let network = fitted(file, Inception::init(&mut InitSeed::new(0), device), &state)?;
            let stamp =
                Stamp { name: inception::NAME.into(), sha256: model::fingerprint(&config, &state) };
            let (network, device) = (Network::Inception(Box::new(network)), device.clone());
            return Ok(Self { network, stamp, device });
        }
        let (config, network, stamp) = load_classifier(file, device)?;
        let network = Network::Classifier(Box::new((config, network)));
        Ok(Self { network, stamp, device: device.clone() })
    }

    /// Which network this is.
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// Whether distances of these features are what the field calls FID.
    pub fn is_inception(&self) -> bool {
        matches!(self.network, Network::Inception(_))
    }

    /// The classifier's file; none for Inception, whose classes are not the data's.
    pub fn classifier(&self) -> Option<&ClassifierFile> {
        match &self.network {
            Network::Inception(_) => None,
            Network::Classifier(both) => Some(&both.0),
        }
    }

    /// Values of a feature vector.
    pub fn features(&self) -> usize {
        match &self.network {
            Network::Inception(_) => inception::FEATURES,
            Network::Classifier(both) => both.0.network.features(),
        }
    }

    /// Values of a row of logits.
    pub fn classes(&self) -> usize {
        match &self.network {
            Network::Inception(_) => inception::CLASSES,
            Network::Classifier(both) => both.0.network.classes,
        }
    }

    /// The catalog's names of metrics of these features.
    pub fn metrics(&self) -> &'static FeatureMetrics {
        if self.is_inception() { &catalog::OF_INCEPTION } else { &catalog::OF_CLASSIFIER }
    }

    /// Whether the network takes images of this shape: `[C, H, W]` with 1 or 3 channels for
    /// Inception, a classifier's own for a classifier.
    ///
    /// # Errors
    /// When it doesn't.
    pub fn fits(&self, shape: &[usize]) -> std::result::Result<(), UnfitImages> {
        let expected = match &self.network {
            Network::Inception(_) if matches!(shape, [1 | 3, _, _]) => return Ok(()),
            Network::Inception(_) => "[1 or 3, H, W]".to_string(),
            Network::Classifier(both) => {
                let network = &both.0.network;
                let expected = [network.in_channels, network.resolution, network.resolution];
                if *shape == expected {
                    return Ok(());
                }
                format!("{expected:?}")
            }
        };
        Err(UnfitImages { network: self.stamp.name.clone(), expected, found: shape.to_vec() })
    }

    /// Features of images `[N, C, H, W]` in [-1, 1], with `shape` `[C, H, W]`. Each image's
    /// features are its own, to the bit. The network sees images as files would hold them: clipped,
    /// in 256 steps.
    ///
    /// # Errors
    /// When the network doesn't take such images (see [`Self::fits`]), or the observer stops it.
    pub fn inspect(
        &self,
        images: &[f32],
        shape: &[usize],
        observer: &dyn Observer,
    ) -> crate::Result<Features> {
        self.fits(shape)?;
        let (dim, classes) = (self.features(), self.classes());
        let mut found = Features { dim, features: Vec::new(), classes, logits: Vec::new() };
        in_parts(images, shape, "features", observer, |part| {
            for row in self.rows(part, shape).chunks_exact(dim + classes) {
                found.features.extend(&row[..dim]);
                found.logits.extend(&row[dim..]);
            }
        })?;
        Ok(found)
    }

    /// Features and logits of images that [`Self::fits`], joined: `[N, dim + classes]`.
    fn rows(&self, images: &[f32], shape: &[usize]) -> Vec<f32> {
        let [c, h, w] = shape[..] else { panic!("checked by `fits`") };
        let seen: Vec<f32> = images.iter().map(|x| as_byte(*x)).collect();
        let rows = Rows { values: &seen, width: c * h * w };
        in_image_batches([rows], &self.device, |[x]: [Tensor<2>; 1]| {
            let n = x.dims()[0];
            let x = x.reshape([n, c, h, w]);
            let (features, logits) = match &self.network {
                Network::Inception(network) => {
                    let found = network.forward(if c == 1 { x.repeat_dim(1, 3) } else { x });
                    (found.features, found.logits)
                }
                Network::Classifier(both) => {
                    let found = both.1.forward(x);
                    (found.features, found.logits)
                }
            };
            Tensor::cat(vec![features, logits], 1)
        })
    }
}

/// Images that a network sees between two reports; a whole number of blocks.
const REPORTED: usize = 1024;

/// Calls `each` with some images at a time, and reports progress of `task`.
///
/// # Errors
/// When the observer stops it.
pub(crate) fn in_parts(
    images: &[f32],
    shape: &[usize],
    task: &str,
    observer: &dyn Observer,
    mut each: impl FnMut(&[f32]),
) -> std::result::Result<(), Stopped> {
    let dim: usize = shape.iter().product();
    let total = images.len() / dim;
    let mut progress = observer.begin(task, "images");
    let mut done = 0;
    for part in images.chunks(REPORTED * dim) {
        progress.advance(done as u64, total as u64, "")?;
        each(part);
        done += part.len() / dim;
    }
    progress.report(done as u64, total as u64, "");
    progress.finish("");
    Ok(())
}

/// A value as a byte of a picture holds it, in [-1, 1].
fn as_byte(x: f32) -> f32 {
    (127.5 * (x + 1.0)).round().clamp(0.0, 255.0) / 127.5 - 1.0
}

/// Images `[N, dim]` as tensors.
pub(crate) fn image_tensor(values: Vec<f32>, [c, h, w]: [usize; 3], device: &Device) -> Tensor<4> {
    let n = values.len() / (c * h * w);
    Tensor::from_data(TensorData::new(values, [n, c, h, w]), device)
}

/// Reads a classifier's model file of `kdm features train`: what it says, the network on `device`,
/// and its stamp.
///
/// # Errors
/// When the file is damaged or no classifier's.
pub fn load_classifier(
    file: &TensorFile,
    device: &Device,
) -> Result<(ClassifierFile, Classifier, Stamp)> {
    let (config, state): (ClassifierFile, _) = model::parse(file, CLASSIFIER)?;
    if let Some(problem) = config.network.problems().into_iter().next() {
        let Problem { field, problem } = problem.within("config.network");
        return Err(Error::invalid(file.path(), field, problem, ACTION));
    }
    model::check_size(file, config.network.least_parameters())?;
    let network = fitted(file, config.network.init(&mut InitSeed::new(0), device), &state)?;
    let stamp = Stamp { name: config.data.clone(), sha256: model::fingerprint(&config, &state) };
    Ok((config, network, stamp))
}

/// What to do about a file that is no feature network's.
const ACTION: &str =
    "give pytorch-fid's Inception after `kdm import`, or a classifier of `kdm features train`";

fn fitted<M: Module>(file: &TensorFile, network: M, state: &State) -> Result<M> {
    load_state(network, state)
        .map_err(|e| Error::invalid(file.path(), "tensors", e.to_string(), ACTION))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_bytes() {
        assert_eq!(as_byte(-1.3), -1.0);
        assert_eq!(as_byte(2.0), 1.0);
        // 127.5 + 0.2 * 127.5 = 153.
        assert_eq!(as_byte(0.2), 153.0 / 127.5 - 1.0);
        assert_eq!(as_byte(0.2018), as_byte(0.2));
    }
}
