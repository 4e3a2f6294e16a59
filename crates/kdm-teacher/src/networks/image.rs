//! Teachers that are image networks: a U-Net with its preconditioning.

use burn::tensor::{Device, Tensor, TensorData};
use kdm_nn::fixed_batches::{Rows, in_image_blocks};
use kdm_nn::{ForwardMode, FrozenUNet, InitSeed, UNet, UNetConfig};
use serde::{Deserialize, Serialize};

use crate::networks::preconditioning::{Conditioner, Preconditioning};
use crate::{Denoiser, Level};

/// What an image teacher is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkTeacherConfig {
    /// What it draws, in a word: the data set's name where it is known.
    pub data: String,
    /// How the network becomes a denoiser.
    pub preconditioning: Preconditioning,
    /// The network.
    pub network: UNetConfig,
}

impl NetworkTeacherConfig {
    /// All that is impossible: field and problem.
    pub fn problems(&self) -> Vec<(String, String)> {
        let network = self.network.problems().into_iter().map(|(f, p)| (format!("network.{f}"), p));
        let preconditioning =
            self.preconditioning.problem().map(|(f, p)| (format!("preconditioning.{f}"), p));
        let mut problems: Vec<(String, String)> = network.chain(preconditioning).collect();
        let (inputs, outputs) = self.network.channels();
        let wanted = inputs * self.outputs_per_input();
        if outputs != wanted {
            problems.push((
                "network.out_channels".into(),
                format!("is {outputs} and should be {wanted}"),
            ));
        }
        problems
    }

    fn outputs_per_input(&self) -> usize {
        if matches!(self.preconditioning, Preconditioning::Iddpm { .. }) { 2 } else { 1 }
    }

    /// A network with fresh weights.
    pub fn init(&self, seed: u64, device: &Device) -> UNet {
        self.network.init(&mut InitSeed::new(seed), device)
    }
}

/// An image network as a teacher.
#[derive(Clone, Debug)]
pub struct NetworkTeacher {
    /// The network.
    pub network: UNet,
    conditioner: Conditioner,
    channels: usize,
    resolution: usize,
    label_dim: usize,
}

impl NetworkTeacher {
    /// The teacher that `config` tells of.
    pub fn new(config: &NetworkTeacherConfig, network: UNet) -> Self {
        Self {
            network,
            conditioner: Conditioner::new(config.preconditioning.clone()),
            channels: config.network.channels().0,
            resolution: config.network.resolution(),
            label_dim: config.network.label_dim(),
        }
    }
}

impl Denoiser for NetworkTeacher {
    fn shape(&self) -> Vec<usize> {
        vec![self.channels, self.resolution, self.resolution]
    }

    fn label_dim(&self) -> usize {
        self.label_dim
    }

    fn sigma_range(&self) -> (f64, f64) {
        self.conditioner.range()
    }

    fn round_sigma(&self, sigma: f64) -> f64 {
        self.conditioner.round(sigma)
    }

    /// The network computes in f32; the factors are f64, their products with x and F as well.
    fn denoise(&self, x: &[f64], level: Level, labels: &[f32]) -> Vec<f64> {
        // Beyond the largest level that the network knows (and at alpha = 0) the sample is as good
        // as noise.
        let sigma = (level.sigma / level.alpha).min(self.conditioner.range().1).min(MOST_SIGMA);
        if sigma == 0.0 {
            return x.iter().map(|x| x / level.alpha).collect();
        }
        let scale = sigma / level.sigma;
        let f = self.conditioner.factors(sigma);
        let input: Vec<f32> = x.iter().map(|x| (x * scale * f.c_in) as f32).collect();
        let answer = self.answer(&input, f.c_noise as f32, labels);
        x.iter()
            .zip(answer)
            .map(|(x, answer)| f.c_skip * scale * x + f.c_out * f64::from(answer))
            .collect()
    }
}

impl NetworkTeacher {
    /// The network's answer to images at one noise condition.
    fn answer(&self, input: &[f32], condition: f32, labels: &[f32]) -> Vec<f32> {
        let width = self.dim();
        let frozen = match &self.network {
            UNet::Song(network) => FrozenUNet::new(network, condition),
            _ => None,
        };
        if let (Some(frozen), Some(classes)) = (frozen, self.classes(input.len() / width, labels)) {
            let parts = input.chunks(IMAGES * width).zip(classes.chunks(IMAGES));
            return parts.flat_map(|(images, classes)| frozen.run(images, classes)).collect();
        }
        let image = Rows { values: input, width };
        let device = Device::flex();
        let run = |x: Tensor<2>, labels: Option<Tensor<2>>| {
            let n = x.dims()[0];
            let [c, r] = [self.channels, self.resolution];
            let noise = Tensor::from_data(TensorData::new(vec![condition; n], [n]), &device);
            let out = self.network.forward(
                x.reshape([n, c, r, r]),
                noise,
                labels,
                None,
                &ForwardMode::evaluation(),
            );
            // iDDPM's second half of channels is a variance.
            out.slice([0..n, 0..c, 0..r, 0..r]).reshape([n, width])
        };
        match (self.label_dim, labels.is_empty()) {
            (0, _) | (_, true) => in_image_blocks([image], &device, |[x]| run(x, None)),
            (label_dim, false) => {
                let labels = Rows { values: labels, width: label_dim };
                in_image_blocks([image, labels], &device, |[x, y]| run(x, Some(y)))
            }
        }
    }

    /// The class of every row, the number of classes for none; none when a row is no one-hot row.
    fn classes(&self, rows: usize, labels: &[f32]) -> Option<Vec<usize>> {
        if self.label_dim == 0 || labels.is_empty() {
            return Some(vec![self.label_dim; rows]);
        }
        let class = |row: &[f32]| {
            let mut set = row.iter().enumerate().filter(|(_, x)| **x != 0.0);
            match (set.next(), set.next()) {
                (None, _) => Some(self.label_dim),
                (Some((class, 1.0)), None) => Some(class),
                _ => None,
            }
        };
        labels.chunks_exact(self.label_dim).map(class).collect()
    }
}

/// A level at which any image is as good as noise.
const MOST_SIGMA: f64 = 1e5;
/// Images a frozen network takes at a time.
const IMAGES: usize = 16;
