//! A SongUNet for one-step sampling: its time never changes, so every block's shift is a constant
//! for each class; weights are packed once.

use burn::tensor::Tensor;
use kdm_kernels::{FrozenBlock, FrozenConv, FrozenOutput, Images};

use crate::ForwardMode;
use crate::unet::block::UNetBlock;
use crate::unet::song::{DecoderKind, EncoderKind, Part, SongUNet};

/// A U-Net of the standard kind at one noise condition, for inference on the CPU.
#[derive(Debug)]
pub struct FrozenUNet {
    first: FrozenConv,
    encoder: Vec<Step>,
    /// The decoder's blocks, and whether what the encoder kept is joined.
    decoder: Vec<(Step, bool)>,
    output: FrozenOutput,
    image: usize,
}

/// A block with its shifts: one row for every class, and a last one for none.
#[derive(Debug)]
struct Step {
    block: FrozenBlock,
    shifts: Vec<Vec<f32>>,
}

impl FrozenUNet {
    /// Freezes `unet` at the noise condition `noise`; none when it has other paths than the
    /// standard ones.
    pub fn new(unet: &SongUNet, noise: f32) -> Option<Self> {
        let config = unet.config();
        if config.encoder_type != EncoderKind::Standard
            || config.decoder_type != DecoderKind::Standard
        {
            return None;
        }
        let (device, classes) = (unet.map_layer0.weight.device(), config.label_dim);
        let noise = Tensor::full([classes + 1], noise, &device);
        let labels = Tensor::cat(
            vec![Tensor::eye(classes.max(1), &device), Tensor::zeros([1, classes.max(1)], &device)],
            0,
        );
        let labels = (classes > 0).then_some(labels);
        let embeddings = unet.embed(noise, labels, None, &ForwardMode::evaluation());
        let step = |block: &UNetBlock, size: &mut [usize; 2], joined: usize| {
            let shifts = block.shifts(embeddings.clone());
            let width = shifts.dims()[1];
            let rows = shifts.try_into_vec_as::<f32>().expect("networks compute in f32");
            let (block, result) = block.freeze(*size, joined);
            *size = result;
            Step { block, shifts: rows.chunks_exact(width).map(<[f32]>::to_vec).collect() }
        };

        let mut size = [config.resolution; 2];
        let mut encoder_parts = unet.enc.iter();
        let Some(Part::Conv(first)) = encoder_parts.next() else { return None };
        let mut kept = vec![first.weight.dims()[0]];
        let first = FrozenConv::new(first.tensors(), size);
        let mut encoder = Vec::new();
        for part in encoder_parts {
            let Part::Block(block) = part else { return None };
            encoder.push(step(block, &mut size, 0));
            kept.push(block.outputs());
        }
        let (mut decoder, mut norm, mut output) = (Vec::new(), None, None);
        for (part, joined) in unet.dec.iter().zip(unet.joined()) {
            match part {
                Part::Block(block) => {
                    let width = if joined { kept.pop()? } else { 0 };
                    decoder.push((step(block, &mut size, width), joined));
                }
                Part::Norm(found) => norm = Some(found),
                Part::Conv(conv) => output = Some(FrozenConv::new(conv.tensors(), size)),
            }
        }
        let norm = norm?;
        let output = FrozenOutput::new(norm.tensors(), norm.groups(), norm.epsilon(), output?);
        Some(Self {
            first,
            encoder,
            decoder,
            output,
            image: config.in_channels * config.resolution.pow(2),
        })
    }

    /// Images `[N, in_channels, R, R]` of `classes` (one for each image; the number of classes for
    /// none) -> `[N, out_channels, R, R]`.
    pub fn run(&self, images: &[f32], classes: &[usize]) -> Vec<f32> {
        debug_assert_eq!(images.len(), classes.len() * self.image);
        let run = |step: &Step, x: &Images, joined: Option<&Images>| {
            let shifts: Vec<f32> =
                classes.iter().flat_map(|class| step.shifts[*class].iter().copied()).collect();
            step.block.run(x, joined, &shifts)
        };
        let mut kept = vec![self.first.run(images)];
        for step in &self.encoder {
            let next = run(step, kept.last().expect("the first was kept"), None);
            kept.push(next);
        }
        let mut main: Option<Images> = None;
        for (step, joined) in &self.decoder {
            let skip = joined.then(|| kept.pop().expect("as many as were kept"));
            let next = match &main {
                Some(main) => run(step, main, skip.as_ref()),
                None => run(step, kept.last().expect("the encoder's last"), skip.as_ref()),
            };
            main = Some(next);
        }
        self.output.run(&main.expect("the decoder has blocks"))
    }
}
