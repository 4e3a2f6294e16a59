//! The network of a DDPM++ or NCSN++: embeddings, encoder, decoder.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use super::config::{Embedding, SongUNetConfig};
use crate::layers::{
    fourier_embedding, fourier_frequencies, positional_embedding, positional_frequencies,
    swap_halves,
};
use crate::state::to_host;
use crate::unet::diffusers::Activation;
use crate::unet::paths::{Decoder, Encoder};
use crate::unet::plan::{EmbeddingPlan, LabelPlan, NVLABS, UNetPlan, nvlabs_layers};
use crate::{ForwardMode, Init, InitSeed, Linear, LinearConfig};

/// The network; see [`SongUNetConfig`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use kdm_nn::{ForwardMode, InitSeed, SongUNetConfig};
///
/// // 8x8 images of 3 channels; widths 8 and 16, one block a level, attention on 4x4.
/// let config = SongUNetConfig::ddpmpp(8, 3, 3, 8, &[1, 2], 1, &[4]);
/// assert!(config.problems().is_empty());
/// let device = Device::flex();
/// let network = config.init(&mut InitSeed::new(1), &device);
///
/// let images = Tensor::zeros([2, 3, 8, 8], &device);
/// let noise = Tensor::zeros([2], &device);
/// let mode = ForwardMode::evaluation();
/// assert_eq!(network.forward(images, noise, None, None, &mode).dims(), [2, 3, 8, 8]);
/// ```
#[derive(Module, Debug)]
pub struct SongUNet {
    map_noise: Option<Fourier>,
    map_label: Option<Linear>,
    map_augment: Option<Linear>,
    map_layer0: Linear,
    map_layer1: Linear,
    pub(crate) enc: Encoder,
    pub(crate) dec: Decoder,
    #[module(skip)]
    config: SongUNetConfig,
}

/// Random frequencies that stay as they are.
#[derive(Module, Debug)]
struct Fourier {
    freqs: Param<Tensor<1>>,
}

/// Standard deviation of the random frequencies.
const FOURIER_SCALE: f32 = 16.0;

impl SongUNetConfig {
    /// A network with fresh weights on `device`. The configuration has no [`Self::problems`].
    pub fn init(&self, seed: &mut InitSeed, device: &Device) -> SongUNet {
        let style = self.style();
        let (encoder, decoder) = self.topology();
        let enc = Encoder::init(&encoder, &style, seed, device);
        let dec = Decoder::init(&decoder, &style, seed, device);
        let (noise, wide) = (self.noise_width(), style.embedding);
        let mut linear = |inputs, outputs, bias| {
            LinearConfig { inputs, outputs }.init_with(Init::Xavier(1.0), bias, seed, device)
        };
        let map_label = (self.label_dim > 0).then(|| linear(self.label_dim, noise, true));
        let map_augment = (self.augment_dim > 0).then(|| linear(self.augment_dim, noise, false));
        let (map_layer0, map_layer1) = (linear(noise, wide, true), linear(wide, wide, true));
        let map_noise = (self.embedding_type == Embedding::Fourier).then(|| {
            let freqs = kdm_random::normal_vec(seed.next_seed(), noise / 2).into_iter();
            let freqs: Vec<f32> = freqs.map(|x| FOURIER_SCALE * x).collect();
            let freqs = Tensor::from_data(TensorData::new(freqs, [noise / 2]), device);
            Fourier { freqs: Param::from_tensor(freqs).set_require_grad(false) }
        });
        let config = self.clone();
        SongUNet { map_noise, map_label, map_augment, map_layer0, map_layer1, enc, dec, config }
    }
}

impl SongUNet {
    /// The architecture.
    pub fn config(&self) -> &SongUNetConfig {
        &self.config
    }

    /// Images `[N, in_channels, R, R]`, noise conditions `[N]`, one-hot labels `[N, label_dim]`
    /// (none: any class), augmentation labels `[N, augment_dim]` (none: no augmentation) -> `[N,
    /// out_channels, R, R]`.
    pub fn forward(
        &self,
        x: Tensor<4>,
        noise: Tensor<1>,
        labels: Option<Tensor<2>>,
        augment: Option<Tensor<2>>,
        mode: &ForwardMode,
    ) -> Tensor<4> {
        let mut outputs = self.forward_levels(vec![x], noise, labels, augment, mode);
        outputs.swap_remove(0)
    }

    /// [`Self::forward`] of a network whose coarser levels have inputs or outputs of their own: one
    /// tensor for each of [`SongUNetConfig::inputs`] -> one for each of
    /// [`SongUNetConfig::outputs`].
    pub fn forward_levels(
        &self,
        mut inputs: Vec<Tensor<4>>,
        noise: Tensor<1>,
        labels: Option<Tensor<2>>,
        augment: Option<Tensor<2>>,
        mode: &ForwardMode,
    ) -> Vec<Tensor<4>> {
        debug_assert_eq!(inputs.len(), self.config.inputs().len());
        let embedding = self.embed(noise, labels, augment, mode);
        let levels = inputs.split_off(1);
        let image = inputs.swap_remove(0);
        let skips = self.enc.forward(image, levels, &embedding, mode);
        self.dec.forward(skips, &embedding, mode).1
    }

    /// [`Self::forward_levels`] of flat rows, in which the images of a row follow each other,
    /// finest first: `[N, inputs]` -> `[N, outputs]`.
    pub fn forward_rows(
        &self,
        rows: Tensor<2>,
        noise: Tensor<1>,
        labels: Option<Tensor<2>>,
        mode: &ForwardMode,
    ) -> Tensor<2> {
        let (n, shapes) = (rows.dims()[0], self.config.inputs());
        let inputs = if let [[channels, side]] = shapes[..] {
            vec![rows.reshape([n, channels, side, side])]
        } else {
            let mut start = 0;
            let take = |[channels, side]: [usize; 2]| {
                let columns = start..start + channels * side * side;
                start = columns.end;
                rows.clone().slice([0..n, columns]).reshape([n, channels, side, side])
            };
            shapes.into_iter().map(take).collect()
        };
        let outputs = self.forward_levels(inputs, noise, labels, None, mode);
        let flat = |images: Tensor<4>| {
            let width = images.dims()[1..].iter().product::<usize>();
            images.reshape([n, width])
        };
        let mut flat: Vec<Tensor<2>> = outputs.into_iter().map(flat).collect();
        if flat.len() == 1 { flat.swap_remove(0) } else { Tensor::cat(flat, 1) }
    }

    /// The embedding of noise level, label and augmentation: `[N, embedding]`.
    pub fn embed(
        &self,
        noise: Tensor<1>,
        labels: Option<Tensor<2>>,
        augment: Option<Tensor<2>>,
        mode: &ForwardMode,
    ) -> Tensor<2> {
        let n = noise.dims()[0];
        let device = noise.device();
        let mut embedding = self.noise_features(noise);
        if let Some(map) = &self.map_label {
            let dim = self.config.label_dim;
            let labels = labels.unwrap_or_else(|| Tensor::zeros([n, dim], &device));
            let labels = mode.drop_rows(labels, self.config.label_dropout);
            embedding = embedding + map.forward(labels * (dim as f64).sqrt());
        }
        if let (Some(map), Some(augment)) = (&self.map_augment, augment) {
            embedding = embedding + map.forward(augment);
        }
        self.map_layer1.forward_silu(self.map_layer0.forward_silu(embedding))
    }

    /// Sinusoids of noise conditions `[N]`, the first part of [`Self::embed`]: `[N, features]`.
    pub fn noise_features(&self, noise: Tensor<1>) -> Tensor<2> {
        let features = match &self.map_noise {
            Some(fourier) => fourier_embedding(noise, fourier.freqs.val()),
            None => positional_embedding(noise, self.config.noise_width(), 1.0),
        };
        swap_halves(features)
    }

    /// The network as plain data.
    pub fn plan(&self) -> UNetPlan {
        let (encoder, decoder) = self.config.topology();
        let style = self.config.style();
        let scale = (self.config.label_dim as f64).sqrt();
        UNetPlan {
            embedding: EmbeddingPlan {
                frequencies: to_host(self.noise_frequencies()),
                of_logarithm: false,
                cosines_first: false,
                layers: ["map_layer0", "map_layer1"],
                label: self
                    .map_label
                    .as_ref()
                    .map(|_| LabelPlan::ToFeatures { layer: "map_label", scale }),
                activation: Activation::Silu,
            },
            layers: nvlabs_layers(&encoder, &decoder, &style),
            names: &NVLABS,
            epsilon: style.epsilon,
            adaptive: style.adaptive_scale,
            activation: Activation::Silu,
            taps: style.filter.taps(),
            centers_input: false,
            divides_by_noise: false,
        }
    }

    /// What noise conditions are multiplied with before [`Self::noise_features`] takes their sines,
    /// then their cosines: `[features / 2]`.
    fn noise_frequencies(&self) -> Tensor<1> {
        match &self.map_noise {
            Some(fourier) => fourier_frequencies(fourier.freqs.val()),
            None => positional_frequencies(self.config.noise_width(), 1.0, &self.device()),
        }
    }

    /// The device that its weights are on.
    pub fn device(&self) -> Device {
        self.map_layer0.weight.device()
    }
}
