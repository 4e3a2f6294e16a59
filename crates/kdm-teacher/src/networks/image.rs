//! Teachers that are image networks: a U-Net with its preconditioning.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use kdm_data::Labels;
use kdm_nn::fixed_batches::{Rows, in_image_batches};
use kdm_nn::{ForwardMode, FrozenUNet, InitSeed, Problem, UNet, UNetConfig};
use serde::{Deserialize, Serialize};

use crate::denoiser::{known_class, unlabelled};
use crate::networks::preconditioning::{Conditioner, Preconditioning};
use crate::{Denoiser, Level};

/// What an image teacher is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkTeacherConfig {
    /// What it generates, in a word: the data set's name where it is known.
    pub data: String,
    /// The names of its classes in order; none where they are not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_names: Vec<String>,
    /// How the network becomes a denoiser.
    pub preconditioning: Preconditioning,
    /// The network.
    pub network: UNetConfig,
}

impl NetworkTeacherConfig {
    /// All that is impossible.
    pub fn problems(&self) -> Vec<Problem> {
        let network = self.network.problems().into_iter().map(|p| p.within("network"));
        let preconditioning = self.preconditioning.problem().map(|p| p.within("preconditioning"));
        let mut problems: Vec<Problem> = network.chain(preconditioning).collect();
        let (inputs, outputs) = self.network.channels();
        let wanted = inputs * self.outputs_per_input();
        if outputs != wanted {
            let text = format!("is {outputs} and should be {wanted}");
            problems.push(Problem::new("network.out_channels", text));
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
    device: Device,
}

impl NetworkTeacher {
    /// The teacher of `config`, with a network of [`NetworkTeacherConfig::init`]; it computes where
    /// the network's weights are.
    pub fn new(config: &NetworkTeacherConfig, network: UNet) -> Self {
        let device = network.devices().first().cloned().expect("a network has weights");
        Self {
            device,
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
    fn denoise(&self, x: &[f64], level: Level, labels: &Labels) -> Vec<f64> {
        // Beyond the largest level that the network knows (and at alpha = 0) the sample is as good
        // as noise.
        let sigma = (level.sigma / level.alpha).min(self.conditioner.range().1).min(MOST_SIGMA);
        if sigma == 0.0 {
            return x.iter().map(|x| x / level.alpha).collect();
        }
        let scale = sigma / level.sigma;
        let f = self.conditioner.factors(sigma);
        let input: Vec<f32> = x.iter().map(|x| (x * scale * f.c_in) as f32).collect();
        let output = self.run(&input, f.c_noise as f32, labels);
        x.iter()
            .zip(output)
            .map(|(x, output)| f.c_skip * scale * x + f.c_out * f64::from(output))
            .collect()
    }
}

impl NetworkTeacher {
    /// The network's output for images at one noise condition.
    fn run(&self, input: &[f32], condition: f32, labels: &Labels) -> Vec<f32> {
        if kdm_kernels::is_cpu(&self.device)
            && let UNet::Song(network) = &self.network
            && let Some(frozen) = FrozenUNet::new(network, condition)
        {
            return self.run_frozen(&frozen, input, labels);
        }
        let image = Rows { values: input, width: self.dim() };
        if self.label_dim == 0 || unlabelled(labels) {
            return in_image_batches([image], &self.device, |[x]| self.forward(x, condition, None));
        }
        let labels = Rows { values: &labels.one_hot(self.label_dim), width: self.label_dim };
        in_image_batches([image, labels], &self.device, |[x, labels]| {
            self.forward(x, condition, Some(labels))
        })
    }

    fn run_frozen(&self, frozen: &FrozenUNet, input: &[f32], labels: &Labels) -> Vec<f32> {
        // The frozen network's last class is none.
        let class = |row| known_class(labels, self.label_dim, row).unwrap_or(self.label_dim);
        let classes: Vec<usize> = (0..labels.len()).map(class).collect();
        let parts = input.chunks(IMAGES * self.dim()).zip(classes.chunks(IMAGES));
        parts.flat_map(|(images, classes)| frozen.run(images, classes)).collect()
    }

    /// The network on images `[N, dim]` and one-hot labels.
    fn forward(&self, x: Tensor<2>, condition: f32, labels: Option<Tensor<2>>) -> Tensor<2> {
        let [n, width] = x.dims();
        let [c, r] = [self.channels, self.resolution];
        let noise = Tensor::from_data(TensorData::new(vec![condition; n], [n]), &self.device);
        let mode = ForwardMode::evaluation();
        let out = self.network.forward(x.reshape([n, c, r, r]), noise, labels, None, &mode);
        // iDDPM's second half of channels is a variance.
        out.slice([0..n, 0..c, 0..r, 0..r]).reshape([n, width])
    }
}

/// A level at which any image is as good as noise.
const MOST_SIGMA: f64 = 1e5;
/// Images a frozen network takes at a time.
const IMAGES: usize = 16;
