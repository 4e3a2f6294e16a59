//! A small convolutional classifier of small images, of our own: its features stand in for
//! Inception's where images are far from photographs, or nothing can be downloaded.

use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};
use serde::{Deserialize, Serialize};

use crate::layers::{Conv2d, Conv2dConfig, GroupNorm};
use crate::{Init, InitSeed, Linear, LinearConfig, Problem};

/// The classifier's sizes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierConfig {
    /// Height and width of images, a multiple of 8, at most 1024.
    pub resolution: usize,
    /// Channels of images, at most 4096.
    pub in_channels: usize,
    /// Classes, at most 4096.
    pub classes: usize,
    /// Channels of the first layer, at most 4096; each halving of the image doubles them, so there
    /// are 8 times as many features.
    pub width: usize,
}

/// A convolution, group norm, SiLU.
#[derive(Module, Debug)]
struct Layer {
    conv: Conv2d,
    norm: GroupNorm,
}

/// Three times: a 3x3 convolution and one of 4x4 that halves the image; then the mean over the
/// image, and one affine layer.
#[derive(Module, Debug)]
pub struct Classifier {
    layers: Vec<Layer>,
    head: Linear,
}

/// What a classifier computes from N images.
#[derive(Clone, Debug)]
pub struct ClassifierOutput {
    /// The last layer's activations, averaged over the image: `[N, features]`.
    pub features: Tensor<2>,
    /// The logarithms of the classes' probabilities up to a constant: `[N, classes]`.
    pub logits: Tensor<2>,
}

/// Of the group norms.
const EPSILON: f64 = 1e-5;

impl ClassifierConfig {
    /// Dimension of a feature vector.
    pub fn features(&self) -> usize {
        8 * self.width
    }

    /// A number of weights that the classifier has at least: those of its widest convolution.
    pub fn least_parameters(&self) -> usize {
        self.width.saturating_mul(self.width).saturating_mul(4 * 8 * 16)
    }

    /// All that is impossible about it; none when a classifier can be made.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        // A group of the first layer's norm has four channels.
        for (field, value, least) in [
            ("in_channels", self.in_channels, 1),
            ("classes", self.classes, 1),
            ("width", self.width, 4),
        ] {
            if !(least..=1 << 12).contains(&value) {
                let problem = format!("is {value} and must be between {least} and 4096");
                problems.push(Problem::new(field, problem));
            }
        }
        if self.resolution == 0 || self.resolution > 1 << 10 || !self.resolution.is_multiple_of(8) {
            let problem = format!("is {} and must be a multiple of 8", self.resolution);
            problems.push(Problem::new("resolution", problem));
        }
        problems
    }

    /// Fresh weights on `device`. The configuration has no [`Self::problems`].
    pub fn init(&self, seed: &mut InitSeed, device: &Device) -> Classifier {
        let mut layers = Vec::new();
        let mut add = |inputs, outputs, halve: bool| {
            let config = if halve {
                Conv2dConfig::halving(inputs, outputs, 4)
            } else {
                Conv2dConfig::same(inputs, outputs, 3)
            };
            let conv = config.init(Init::Kaiming(1.0), seed, device);
            let norm = GroupNorm::new(GroupNorm::edm_groups(outputs), outputs, EPSILON, device);
            layers.push(Layer { conv, norm });
        };
        add(self.in_channels, self.width, false);
        for level in 0..3 {
            let width = self.width << level;
            if level > 0 {
                add(width, width, false);
            }
            add(width, 2 * width, true);
        }
        let head = LinearConfig { inputs: self.features(), outputs: self.classes };
        Classifier { layers, head: head.init(seed, device) }
    }
}

impl Classifier {
    /// The activations of all layers, first to last: images `[N, C, R, R]` in [-1, 1] -> `[N, C',
    /// R', R']` each.
    pub fn activations(&self, x: Tensor<4>) -> Vec<Tensor<4>> {
        let (mut h, mut activations) = (x, Vec::new());
        for layer in &self.layers {
            h = layer.norm.forward_silu(layer.conv.forward(h));
            activations.push(h.clone());
        }
        activations
    }

    /// Features and logits of images `[N, C, R, R]` in [-1, 1].
    pub fn forward(&self, x: Tensor<4>) -> ClassifierOutput {
        let h = self.activations(x).pop().expect("a classifier has layers");
        let [n, c, height, width] = h.dims();
        let features = h.reshape([n, c, height * width]).mean_dim(2).squeeze_dim::<2>(2);
        ClassifierOutput { logits: self.head.forward(features.clone()), features }
    }
}

/// Mean cross-entropy in nats of logits `[N, K]` with one-hot rows `[N, K]`: `[1]`.
pub fn cross_entropy(logits: Tensor<2>, labels: Tensor<2>) -> Tensor<1> {
    let n = logits.dims()[0];
    -(activation::log_softmax(logits, 1) * labels).sum() / n as f64
}
