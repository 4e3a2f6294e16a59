//! The two halves of a U-Net of NVlabs' kinds: what [`topology`](super::topology) plans, with
//! weights, and how an image goes through it.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::layers::feature_map::FeatureMap;
use crate::layers::{Conv2d, Filter, GroupNorm, Named};
use crate::unet::block::{BlockStyle, UNetBlock};
use crate::unet::topology::{DecoderStep, EncoderStep, Planned};
use crate::{Demand, ForwardMode, InitSeed};

/// A layer of the encoder; see [`EncoderStep`].
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "most layers are blocks")]
pub(crate) enum EncoderLayer {
    FirstConv(Conv2d),
    Block(UNetBlock),
    AddInput(Conv2d),
    MixInput(Conv2d),
    AddLevel(Conv2d),
}

/// A layer of the decoder; see [`DecoderStep`].
#[derive(Module, Debug)]
pub(crate) enum DecoderLayer {
    Block(UNetBlock),
    BlockWithSkip(UNetBlock),
    OutputNorm(GroupNorm),
    OutputConv(Conv2d),
    LevelConv(Conv2d),
}

/// From the image down to the coarsest level.
#[derive(Module, Debug)]
pub(crate) struct Encoder {
    /// The layers in order.
    pub flat: Named<EncoderLayer>,
    /// Halves the input's path.
    #[module(skip)]
    filter: Filter,
}

/// From the coarsest level up to the image.
#[derive(Module, Debug)]
pub(crate) struct Decoder {
    /// The layers in order.
    pub flat: Named<DecoderLayer>,
    /// Doubles the output's path.
    #[module(skip)]
    filter: Filter,
}

impl Encoder {
    /// Fresh weights.
    pub fn init(
        layers: &[Planned<EncoderStep>],
        style: &BlockStyle,
        seed: &mut InitSeed,
        device: &Device,
    ) -> Self {
        let mut layer = |step: EncoderStep| match step {
            EncoderStep::FirstConv(conv) => {
                EncoderLayer::FirstConv(conv.init(style.init, seed, device))
            }
            EncoderStep::Block(block) => EncoderLayer::Block(block.init(style, seed, device)),
            EncoderStep::AddInput(conv) => {
                EncoderLayer::AddInput(conv.init(style.init, seed, device))
            }
            EncoderStep::MixInput(conv) => {
                EncoderLayer::MixInput(conv.init(style.init, seed, device))
            }
            EncoderStep::AddLevel(conv) => {
                EncoderLayer::AddLevel(conv.init(style.init, seed, device))
            }
        };
        let flat = layers.iter().map(|planned| (planned.name.clone(), layer(planned.step)));
        Self { flat: Named(flat.collect()), filter: style.filter.clone() }
    }

    /// Images `[N, C, R, R]`, those that coarser levels take, finest first, and embeddings `[N, E]`
    /// -> the skip connections in order; the last one is what the decoder begins with.
    pub fn forward(
        &self,
        image: Tensor<4>,
        levels: Vec<Tensor<4>>,
        embedding: &Tensor<2>,
        mode: &ForwardMode,
    ) -> Vec<FeatureMap> {
        let mut input = image;
        let mut levels = levels.into_iter();
        let mut skips: Vec<FeatureMap> = Vec::new();
        for layer in self.flat.iter() {
            let next = match layer {
                EncoderLayer::FirstConv(conv) => FeatureMap::new(conv.forward(input.clone())),
                EncoderLayer::Block(block) => {
                    let main = skips.last().expect("a convolution goes first").clone();
                    block.forward(main, None, embedding.clone(), mode)
                }
                EncoderLayer::AddInput(conv) => {
                    input = self.filter.down(input, self.filter.padding());
                    let main = skips.pop().expect("a halving block goes before");
                    main.plus(FeatureMap::new(conv.forward(input.clone())))
                }
                EncoderLayer::MixInput(conv) => {
                    // Fused: the convolution sees the zeros that the filter would add.
                    let wide = conv.forward_padded(input, [1 + self.filter.padding(); 2]);
                    let main = skips.pop().expect("a halving block goes before");
                    let main =
                        main.plus(FeatureMap::new(self.filter.down(wide, 0))).times(0.5f64.sqrt());
                    input = main.planes();
                    main
                }
                EncoderLayer::AddLevel(conv) => {
                    let level = levels.next().expect("an image for every level that takes one");
                    let main = skips.pop().expect("a halving block goes before");
                    main.plus(FeatureMap::new(conv.forward(level)))
                }
            };
            skips.push(next);
        }
        skips
    }
}

impl Decoder {
    /// Fresh weights.
    pub fn init(
        layers: &[Planned<DecoderStep>],
        style: &BlockStyle,
        seed: &mut InitSeed,
        device: &Device,
    ) -> Self {
        let mut layer = |step: DecoderStep| match step {
            DecoderStep::Block(block) => DecoderLayer::Block(block.init(style, seed, device)),
            DecoderStep::BlockWithSkip(block) => {
                DecoderLayer::BlockWithSkip(block.init(style, seed, device))
            }
            DecoderStep::OutputNorm(channels) => {
                DecoderLayer::OutputNorm(style.norm(channels, device))
            }
            DecoderStep::OutputConv(conv) => {
                DecoderLayer::OutputConv(conv.init(style.init_last, seed, device))
            }
            DecoderStep::LevelConv(conv) => {
                DecoderLayer::LevelConv(conv.init(style.init_last, seed, device))
            }
        };
        let flat = layers.iter().map(|planned| (planned.name.clone(), layer(planned.step)));
        Self { flat: Named(flat.collect()), filter: style.filter.clone() }
    }

    /// The encoder's skip connections and embeddings `[N, E]` -> the last block's result, and the
    /// outputs, finest first: `[N, C', R, R]` when there are layers for it, then those of coarser
    /// levels that have one.
    pub fn forward(
        &self,
        mut skips: Vec<FeatureMap>,
        embedding: &Tensor<2>,
        mode: &ForwardMode,
    ) -> (FeatureMap, Vec<Tensor<4>>) {
        let mut main = skips.last().expect("an encoder has layers").clone();
        let mut normed: Option<Tensor<4>> = None;
        let mut output: Option<Tensor<4>> = None;
        let mut levels: Vec<Tensor<4>> = Vec::new();
        for layer in self.flat.iter() {
            match layer {
                DecoderLayer::Block(block) => {
                    main = block.forward(main, None, embedding.clone(), mode);
                }
                DecoderLayer::BlockWithSkip(block) => {
                    let skip = skips.pop().expect("a skip connection for every block");
                    main = block.forward(main, Some(skip), embedding.clone(), mode);
                }
                DecoderLayer::OutputNorm(norm) => {
                    normed = Some(norm.forward_silu(main.planes()));
                }
                DecoderLayer::OutputConv(conv) => {
                    let drawn = conv.forward(normed.take().expect("a norm goes before"));
                    output = Some(match output {
                        Some(coarser) => self.filter.up(coarser) + drawn,
                        None => drawn,
                    });
                }
                DecoderLayer::LevelConv(conv) => {
                    levels.push(conv.forward(normed.take().expect("a norm goes before")));
                }
            }
        }
        (main, output.into_iter().chain(levels.into_iter().rev()).collect())
    }
}

/// What the two halves take an image.
pub(crate) fn demand(
    encoder: &[Planned<EncoderStep>],
    decoder: &[Planned<DecoderStep>],
    style: &BlockStyle,
) -> Demand {
    let encoder = encoder.iter().map(|layer| match layer.step {
        EncoderStep::Block(block) => block.demand(style, layer.side),
        EncoderStep::FirstConv(conv)
        | EncoderStep::AddInput(conv)
        | EncoderStep::MixInput(conv)
        | EncoderStep::AddLevel(conv) => conv.demand(layer.side),
    });
    let decoder = decoder.iter().map(|layer| match layer.step {
        DecoderStep::Block(block) | DecoderStep::BlockWithSkip(block) => {
            block.demand(style, layer.side)
        }
        DecoderStep::OutputConv(conv) | DecoderStep::LevelConv(conv) => conv.demand(layer.side),
        DecoderStep::OutputNorm(channels) => Demand::norm(channels, layer.side),
    });
    encoder.chain(decoder).sum()
}
