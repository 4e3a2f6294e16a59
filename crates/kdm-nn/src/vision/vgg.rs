//! VGG16's features (Simonyan and Zisserman, arXiv:1409.1556) and the LPIPS distance on them (Zhang
//! et al., arXiv:1801.03924). State names are those of torchvision and of the `lpips` package.

use burn::module::{Module, Param};
use burn::tensor::module::{avg_pool2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor, activation};
use serde::{Deserialize, Serialize};

use crate::layers::{Conv2d, Conv2dConfig, Named};
use crate::vision::direction_distance::direction_distance;
use crate::{Init, InitSeed};

/// How activations are halved between stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// As VGG16 was trained, and as the `lpips` package computes.
    Max,
    /// As the KDM paper trains (`piq` with its pooling replaced).
    Average,
}

/// Width and number of convolutions of each stage; the activations after the last of each are
/// compared.
const STAGES: [(usize, usize); 5] = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)];

/// ImageNet's mean and standard deviation, for images in [-1, 1].
const MEAN: [f32; 3] = [-0.030, -0.088, -0.188];
const STD: [f32; 3] = [0.458, 0.448, 0.450];

/// The least height and width of an image: it is halved four times.
pub const LEAST_SIDE: usize = 16;

/// A weight for every feature, `[1, C, 1, 1]`.
#[derive(Module, Debug)]
struct Head {
    weight: Param<Tensor<4>>,
}

/// VGG16's convolutions with the weights of the distance; the state is `features.N.{weight,bias}`
/// and `linN.model.1.weight`.
#[derive(Module, Debug)]
pub struct Lpips {
    features: Named<Conv2d>,
    flat: Named<Head>,
    #[module(skip)]
    pooling: Pooling,
}

impl Lpips {
    /// Random weights on `device`; those of files replace them.
    pub fn init(pooling: Pooling, seed: &mut InitSeed, device: &Device) -> Self {
        let (mut features, mut inputs, mut place) = (Vec::new(), 3, 0);
        for (outputs, convolutions) in STAGES {
            for _ in 0..convolutions {
                let conv = Conv2dConfig::same(inputs, outputs, 3).init(Init::PyTorch, seed, device);
                features.push((place.to_string(), conv));
                inputs = outputs;
                // Each convolution is followed by its activation, ...
                place += 2;
            }
            // ... and each stage by pooling.
            place += 1;
        }
        let head = |(i, (width, _)): (usize, &(usize, usize))| {
            (
                format!("lin{i}.model.1"),
                Head { weight: seed.uniform([1, *width, 1, 1], 1.0, device) },
            )
        };
        let flat = STAGES.iter().enumerate().map(head).collect();
        Self { features: Named(features), flat: Named(flat), pooling }
    }

    /// The activations of the five stages: images `[N, 3, H, W]` in [-1, 1], H and W at least
    /// [`LEAST_SIDE`], -> `[N, C, H', W']` each, H' and W' halved from stage to stage.
    pub fn features(&self, x: Tensor<4>) -> Vec<Tensor<4>> {
        let device = x.device();
        let constant =
            |values: [f32; 3]| Tensor::<1>::from_floats(values, &device).reshape([1, 3, 1, 1]);
        let mut h = (x - constant(MEAN)) / constant(STD);
        let mut convolutions = self.features.iter();
        let mut stages = Vec::new();
        for (i, (_, count)) in STAGES.iter().enumerate() {
            if i > 0 {
                h = match self.pooling {
                    Pooling::Max => max_pool2d(h, MaxPoolOptions::new([2, 2]).with_stride([2, 2])),
                    Pooling::Average => {
                        avg_pool2d(h, AvgPoolOptions::new([2, 2]).with_stride([2, 2]))
                    }
                };
            }
            for conv in convolutions.by_ref().take(*count) {
                h = activation::relu(conv.forward(h));
            }
            stages.push(h.clone());
        }
        stages
    }

    /// The distance of each pair of images, both `[N, 3, H, W]` in [-1, 1], H and W at least
    /// [`LEAST_SIDE`]: `[N]`, at least 0, and 0 for equal images.
    pub fn forward(&self, a: Tensor<4>, b: Tensor<4>) -> Tensor<1> {
        let stages = self.features(a).into_iter().zip(self.features(b)).zip(self.flat.iter());
        let distances =
            stages.map(|((a, b), head)| direction_distance(a, b, Some(head.weight.val())));
        distances.reduce(|sum, d| sum + d).expect("five stages")
    }
}
