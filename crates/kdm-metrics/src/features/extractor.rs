//! Networks that turn images into features, and what they make of a set of images.
//!
//! A figure is only comparable with one of the same network: every result carries the network's
//! stamp. Distances of Inception's features are the field's FID; those of a classifier trained here
//! are another quantity.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use kdm_data::model::State;
use kdm_data::{Error, Result, TensorFile, model};
use kdm_nn::fixed_batches::{Rows, in_image_blocks};
use kdm_nn::state::load_state;
use kdm_nn::{Classifier, ClassifierConfig, Inception, InitSeed, inception};
use serde::{Deserialize, Serialize};
use serde_json::Value;

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

/// Which network made features: its name and the hash of its weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// `inception`, or the data set of a classifier.
    pub name: String,
    /// Of configuration and weights.
    pub sha256: String,
}

/// A feature network ready to run.
#[derive(Clone, Debug)]
pub struct Extractor {
    network: Network,
    stamp: Stamp,
}

#[derive(Clone, Debug)]
enum Network {
    Inception(Box<Inception>),
    Classifier(Box<(ClassifierFile, Classifier)>),
}

/// Features and logits of images, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Numbers of a feature.
    pub dim: usize,
    /// `[N, dim]`.
    pub features: Vec<f32>,
    /// Numbers of a row of logits.
    pub classes: usize,
    /// `[N, classes]`.
    pub logits: Vec<f32>,
}

impl Extractor {
    /// Reads a feature network's model file: Inception's from `kdm import`, or a classifier's from
    /// `kdm features train`.
    ///
    /// # Errors
    /// When the file is damaged or is no feature network's.
    pub fn load(file: &TensorFile) -> Result<Self> {
        let device = Device::flex();
        if file.metadata()["kind"] == inception::NAME {
            let (config, state): (Value, _) = model::parse(file, inception::NAME)?;
            let network = fitted(file, Inception::init(&mut InitSeed::new(0), &device), &state)?;
            let stamp =
                Stamp { name: inception::NAME.into(), sha256: model::fingerprint(&config, &state) };
            return Ok(Self { network: Network::Inception(Box::new(network)), stamp });
        }
        let (config, network, stamp) = load_classifier(file, &device)?;
        Ok(Self { network: Network::Classifier(Box::new((config, network))), stamp })
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

    /// Numbers of a feature.
    pub fn features(&self) -> usize {
        match &self.network {
            Network::Inception(_) => inception::FEATURES,
            Network::Classifier(both) => both.0.network.features(),
        }
    }

    /// Whether images of this shape can be seen.
    ///
    /// # Errors
    /// The problem.
    pub fn fits(&self, shape: &[usize]) -> std::result::Result<(), String> {
        let ok = match &self.network {
            Network::Inception(_) => matches!(shape, [1 | 3, _, _]),
            Network::Classifier(both) => {
                let network = &both.0.network;
                *shape == [network.in_channels, network.resolution, network.resolution]
            }
        };
        if ok {
            Ok(())
        } else {
            Err(format!("the features `{}` are not of images {shape:?}", self.stamp.name))
        }
    }

    /// Features of images `[N, C, H, W]` (of `shape` `[C, H, W]` that [`Self::fits`]) in [-1, 1].
    /// The network sees them as files would hold them: clipped, in 256 steps.
    pub fn inspect(&self, images: &[f32], shape: &[usize]) -> Features {
        let [c, h, w] = shape[..] else { panic!("checked by `fits`") };
        let seen: Vec<f32> = images.iter().map(|x| as_byte(*x)).collect();
        let device = Device::flex();
        let dim = self.features();
        let rows = Rows { values: &seen, width: c * h * w };
        let joined = in_image_blocks([rows], &device, |[x]: [Tensor<2>; 1]| {
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
        });
        let width = joined.len() / (images.len() / (c * h * w)).max(1);
        let part = |range: std::ops::Range<usize>| -> Vec<f32> {
            joined.chunks_exact(width).flat_map(|row| &row[range.clone()]).copied().collect()
        };
        Features { dim, features: part(0..dim), classes: width - dim, logits: part(dim..width) }
    }
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

/// Reads a classifier's model file of `kdm features train`.
///
/// # Errors
/// When the file is damaged or no classifier's.
pub fn load_classifier(
    file: &TensorFile,
    device: &Device,
) -> Result<(ClassifierFile, Classifier, Stamp)> {
    let (config, state): (ClassifierFile, _) = model::parse(file, CLASSIFIER)?;
    if let Some((field, problem)) = config.network.problems().into_iter().next() {
        return Err(Error::invalid(file.path(), format!("config.network.{field}"), problem, MEND));
    }
    let network = fitted(file, config.network.init(&mut InitSeed::new(0), device), &state)?;
    let stamp = Stamp { name: config.data.clone(), sha256: model::fingerprint(&config, &state) };
    Ok((config, network, stamp))
}

/// What to do about a file that is no feature network's.
const MEND: &str =
    "give pytorch-fid's Inception after `kdm import`, or a classifier of `kdm features train`";

fn fitted<M: Module>(file: &TensorFile, network: M, state: &State) -> Result<M> {
    load_state(network, state).map_err(|e| Error::invalid(file.path(), "tensors", e.0, MEND))
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
