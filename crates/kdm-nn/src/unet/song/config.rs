//! The architecture of a DDPM++ or NCSN++, and what is impossible about it.

use serde::{Deserialize, Serialize};

use crate::layers::Filter;
use crate::unet::block::BlockStyle;
use crate::unet::paths;
use crate::unet::sizes::{UNetSizes, most_problem, usual_embedding};
use crate::unet::topology::{
    DecoderKind, DecoderStep, EncoderKind, EncoderStep, Family, Planned, topology,
};
use crate::{Demand, Init, Problem};

/// How the noise level is embedded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Embedding {
    /// Sinusoids of fixed frequencies (DDPM++).
    #[default]
    Positional,
    /// Random Fourier features (NCSN++).
    Fourier,
}

/// The architecture of a DDPM++ or NCSN++. The fields' names are those of NVlabs/edm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SongUNetConfig {
    /// Height and width of images; the number of levels must let it halve.
    pub resolution: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Width of the one-hot label: the number of classes; 0 for none.
    #[serde(default)]
    pub label_dim: usize,
    /// Width of the augmentation's label; 0 for none.
    #[serde(default)]
    pub augment_dim: usize,
    /// Base width: channels of the first convolution. Even, and group norm must divide it.
    pub model_channels: usize,
    /// Width of each level, finest first, as a multiple (1 to 64) of the base width; each level
    /// after the first halves the image.
    pub channel_mult: Vec<usize>,
    /// Width of the embedding, as a multiple of the base width.
    #[serde(default = "usual_embedding")]
    pub channel_mult_emb: usize,
    /// Blocks a level of the encoder, at most 64; a level of the decoder has one more.
    pub num_blocks: usize,
    /// Sides of the images on which blocks have attention.
    pub attn_resolutions: Vec<usize>,
    /// Probability of dropout in blocks, in [0, 1).
    #[serde(default)]
    pub dropout: f64,
    /// Probability of leaving the label out in training, in [0, 1), as classifier-free guidance
    /// needs.
    #[serde(default)]
    pub label_dropout: f64,
    /// How the noise level is embedded.
    #[serde(default)]
    pub embedding_type: Embedding,
    /// Width of the noise level's features, as a multiple of the base width.
    #[serde(default = "one")]
    pub channel_mult_noise: usize,
    /// The encoder's kind.
    #[serde(default)]
    pub encoder_type: EncoderKind,
    /// The decoder's kind.
    #[serde(default)]
    pub decoder_type: DecoderKind,
    /// Taps of the resampling filter, an even number of them; they are normalised to sum 1.
    #[serde(default = "box_filter")]
    pub resample_filter: Vec<f64>,
    /// Channels of the inputs that coarser levels have of their own, from the second level on; 0,
    /// and what is missing, for none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub level_inputs: Vec<usize>,
    /// Channels of the outputs that coarser levels have of their own; see `level_inputs`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub level_outputs: Vec<usize>,
}

fn one() -> usize {
    1
}
fn box_filter() -> Vec<f64> {
    vec![1.0, 1.0]
}

/// Of the group norms.
const EPSILON: f64 = 1e-6;

impl SongUNetConfig {
    /// The DDPM++ architecture with these sizes, unconditional and without dropout; see the fields
    /// of these names.
    pub fn ddpmpp(
        resolution: usize,
        in_channels: usize,
        out_channels: usize,
        model_channels: usize,
        channel_mult: &[usize],
        num_blocks: usize,
        attn_resolutions: &[usize],
    ) -> Self {
        Self {
            resolution,
            in_channels,
            out_channels,
            label_dim: 0,
            augment_dim: 0,
            model_channels,
            channel_mult: channel_mult.to_vec(),
            channel_mult_emb: 4,
            num_blocks,
            attn_resolutions: attn_resolutions.to_vec(),
            dropout: 0.0,
            label_dropout: 0.0,
            embedding_type: Embedding::Positional,
            channel_mult_noise: 1,
            encoder_type: EncoderKind::Standard,
            decoder_type: DecoderKind::Standard,
            resample_filter: box_filter(),
            level_inputs: Vec::new(),
            level_outputs: Vec::new(),
        }
    }

    /// Channels and side of the images that go in, finest first.
    pub fn inputs(&self) -> Vec<[usize; 2]> {
        self.images(self.in_channels, &self.level_inputs)
    }

    /// Channels and side of the images that come out, finest first.
    pub fn outputs(&self) -> Vec<[usize; 2]> {
        self.images(self.out_channels, &self.level_outputs)
    }

    fn images(&self, finest: usize, coarser: &[usize]) -> Vec<[usize; 2]> {
        let channels = std::iter::once(&finest).chain(coarser).enumerate();
        let images = channels.map(|(level, channels)| [*channels, self.resolution >> level]);
        images.filter(|[channels, _]| *channels > 0).collect()
    }

    /// All that is impossible about it; none when a network can be made.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.sizes().problems();
        problems.extend(most_problem("label_dim", self.label_dim));
        problems.extend(most_problem("augment_dim", self.augment_dim));
        problems.extend(most_problem("channel_mult_noise", self.channel_mult_noise));
        if self.channel_mult_noise == 0 || !self.noise_width().is_multiple_of(2) {
            problems.push(Problem::new(
                "channel_mult_noise",
                "times model_channels must be even and above 0",
            ));
        }
        if let Err(problem) = Filter::new(&self.resample_filter) {
            problems.push(Problem::new("resample_filter", problem.to_string()));
        }
        problems
    }

    /// What it takes an image. The configuration has no [`Self::problems`].
    pub fn demand(&self) -> Demand {
        let (encoder, decoder) = self.topology();
        let (noise, wide) = (self.noise_width(), self.sizes().embedding());
        let labels = (self.label_dim > 0).then(|| Demand::linear(self.label_dim, noise, true));
        let augment = Demand::linear(self.augment_dim, noise, false);
        let embedding = [Demand::linear(noise, wide, true), Demand::linear(wide, wide, true)];
        let embedding = embedding.into_iter().chain(labels).chain([augment]).sum::<Demand>();
        embedding + paths::demand(&encoder, &decoder, &self.style())
    }

    /// Width of the noise level's features.
    pub(super) fn noise_width(&self) -> usize {
        self.model_channels.saturating_mul(self.channel_mult_noise)
    }

    /// The layers of encoder and decoder.
    pub(in crate::unet) fn topology(
        &self,
    ) -> (Vec<Planned<EncoderStep>>, Vec<Planned<DecoderStep>>) {
        topology(&self.sizes(), Family::Song(self.encoder_type, self.decoder_type))
    }

    /// What the blocks have in common.
    pub(in crate::unet) fn style(&self) -> BlockStyle {
        BlockStyle {
            embedding: self.sizes().embedding(),
            dropout: self.dropout,
            skip_scale: 0.5f64.sqrt(),
            epsilon: EPSILON,
            adaptive_scale: false,
            resample_with_conv: true,
            filter: Filter::new(&self.resample_filter).expect("checked by `problems`"),
            init: Init::Xavier(1.0),
            init_last: Init::Xavier(1e-5),
            init_attention: Init::Xavier(0.2f64.sqrt()),
        }
    }

    /// What it has in common with ADM.
    pub(super) fn sizes(&self) -> UNetSizes<'_> {
        UNetSizes {
            resolution: self.resolution,
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            model_channels: self.model_channels,
            channel_mult: &self.channel_mult,
            channel_mult_emb: self.channel_mult_emb,
            num_blocks: self.num_blocks,
            attn_resolutions: &self.attn_resolutions,
            dropout: self.dropout,
            label_dropout: self.label_dropout,
            level_inputs: &self.level_inputs,
            level_outputs: &self.level_outputs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InitSeed;
    use crate::state::state_dict;
    use burn::module::Module;
    use burn::tensor::Device;

    /// On one level without attention, every weight of a convolution is used once a pixel, every
    /// weight of an affine layer once, each in a multiplication and an addition.
    #[test]
    fn operations_are_counted_as_weights_are_used() {
        let mut config = SongUNetConfig::ddpmpp(4, 3, 2, 8, &[2], 2, &[]);
        (config.label_dim, config.augment_dim) = (5, 9);
        let network = config.init(&mut InitSeed::new(1), &Device::flex());
        let state = state_dict(&network);
        // `in0` has attention on all images: beside its weights, two products of pixels and pixels.
        let attention = 2.0 * 2.0 * 16.0 * 16.0 * 16.0;
        let weights = state.values().map(|data| data.shape().to_vec());
        let expected = weights.map(|shape| {
            let weights = shape.iter().product::<usize>() as f64;
            match shape.len() {
                4 => 2.0 * 16.0 * weights,
                2 => 2.0 * weights,
                _ => 0.0,
            }
        });
        assert_eq!(config.demand().operations, expected.sum::<f64>() + attention);
        assert_eq!(config.demand().parameters, network.num_params() as f64);
    }

    /// Levels' own inputs and outputs are counted, and told in order.
    #[test]
    fn levels_have_inputs_and_outputs_of_their_own() {
        let mut config = SongUNetConfig::ddpmpp(16, 3, 2, 8, &[1, 2, 2], 1, &[]);
        (config.level_inputs, config.level_outputs) = (vec![0, 5], vec![4, 6]);
        assert_eq!(config.problems(), []);
        assert_eq!(config.inputs(), [[3, 16], [5, 4]]);
        assert_eq!(config.outputs(), [[2, 16], [4, 8], [6, 4]]);
        let network = config.init(&mut InitSeed::new(1), &Device::flex());
        assert_eq!(config.demand().parameters, network.num_params() as f64);
        config.level_inputs.push(1);
        assert_eq!(config.problems()[0].field, "level_inputs");
    }
}
