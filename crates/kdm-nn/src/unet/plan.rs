//! A DDPM++ as plain data, for those who write it down elsewhere: its layers in order, with all
//! that their weights don't tell. The weights are those of
//! [`state_dict`](crate::state::state_dict), by the layers' names.

use crate::unet::song::{DecoderKind, EncoderKind, SongUNetConfig};
use crate::unet::topology::{DecoderStep, EncoderStep, Planned};
use kdm_kernels::Resize;

/// The layers of a U-Net with the standard encoder and decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct UNetPlan {
    /// From the image to the coarsest level.
    pub encoder: Vec<PlannedLayer>,
    /// From there to the result.
    pub decoder: Vec<PlannedLayer>,
    /// Added to the variance by the group norms.
    pub epsilon: f64,
    /// Factor of the sum of a block's two paths.
    pub scale: f64,
    /// Taps of the filter that halves and doubles images, of sum 1; doubling multiplies by 2 a
    /// side.
    pub taps: Vec<f32>,
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedLayer {
    /// What its weights' names begin with, such as `enc.16x16_block0`.
    pub name: String,
    /// Height and width of its result.
    pub side: usize,
    /// What it does.
    pub kind: PlannedKind,
}

/// What a layer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlannedKind {
    /// A 3x3 convolution.
    Conv,
    /// A residual block, as `kdm_kernels::residual_block` specifies it. Its groups are those of
    /// [`GroupNorm::edm_groups`](crate::layers::GroupNorm::edm_groups).
    Block {
        /// What it does to the image's size.
        resize: Resize,
        /// Heads of its attention; 0 for none.
        heads: usize,
        /// Whether it takes the last skip connection that is left.
        skip: bool,
    },
    /// Group norm and SiLU before the last convolution.
    OutputNorm,
}

impl SongUNetConfig {
    /// The layers; none for other encoders and decoders than the standard ones. The configuration
    /// has no [`Self::problems`].
    pub fn plan(&self) -> Option<UNetPlan> {
        let standard = self.encoder_type == EncoderKind::Standard
            && self.decoder_type == DecoderKind::Standard;
        if !standard {
            return None;
        }
        let (encoder, decoder) = self.topology();
        let style = self.style();
        let block = |resize, heads, skip| PlannedKind::Block { resize, heads, skip };
        let first = |layer: &Planned<EncoderStep>| {
            let kind = match layer.step {
                EncoderStep::Block(config) => block(config.resize, config.heads, false),
                EncoderStep::FirstConv(_) | EncoderStep::AddInput(_) | EncoderStep::MixInput(_) => {
                    PlannedKind::Conv
                }
            };
            PlannedLayer { name: format!("enc.{}", layer.name), side: layer.side, kind }
        };
        let second = |layer: &Planned<DecoderStep>| {
            let kind = match layer.step {
                DecoderStep::Block(config) => block(config.resize, config.heads, false),
                DecoderStep::BlockWithSkip(config) => block(config.resize, config.heads, true),
                DecoderStep::OutputNorm(_) => PlannedKind::OutputNorm,
                DecoderStep::OutputConv(_) => PlannedKind::Conv,
            };
            PlannedLayer { name: format!("dec.{}", layer.name), side: layer.side, kind }
        };
        Some(UNetPlan {
            encoder: encoder.iter().map(first).collect(),
            decoder: decoder.iter().map(second).collect(),
            epsilon: style.epsilon,
            scale: style.skip_scale,
            taps: style.filter.taps(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InitSeed;
    use crate::state::state_dict;
    use burn::tensor::Device;

    /// Every layer has weights of its name, and every weight but the embedding's is of a layer.
    #[test]
    fn the_plan_names_all_weights() {
        let config = SongUNetConfig::ddpmpp(16, 3, 2, 8, &[1, 2], 1, &[8]);
        let plan = config.plan().unwrap();
        let state = state_dict(&config.init(&mut InitSeed::new(1), &Device::flex()));
        let layers: Vec<&str> =
            plan.encoder.iter().chain(&plan.decoder).map(|layer| layer.name.as_str()).collect();
        let of = |name: &str, layer: &str| name.starts_with(&format!("{layer}."));
        for layer in &layers {
            assert!(state.keys().any(|name| of(name, layer)), "{layer}");
        }
        for name in state.keys().filter(|name| !name.starts_with("map_")) {
            assert!(layers.iter().any(|layer| of(name, layer)), "{name}");
        }
        let mut other = config;
        other.encoder_type = EncoderKind::Residual;
        assert_eq!(other.plan(), None);
    }
}
