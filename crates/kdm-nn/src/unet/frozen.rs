//! A DDPM++ for sampling at one noise level: the level never changes, so every block's shift is a
//! constant for each class; weights are packed once.

use std::borrow::Cow;

use burn::tensor::Tensor;
use kdm_kernels::{FrozenBlock, FrozenConv, FrozenOutput, Images};

use crate::ForwardMode;
use crate::layers::{Conv2d, GroupNorm};
use crate::state::to_host;
use crate::unet::block::UNetBlock;
use crate::unet::paths::{DecoderLayer, EncoderLayer};
use crate::unet::song::{DecoderKind, EncoderKind, SongUNet};

/// A U-Net with the standard encoder and decoder at one noise condition, for inference on the CPU.
/// An image's result has the same bits whatever other images it came with.
#[derive(Debug)]
pub struct FrozenUNet {
    first: FrozenConv,
    encoder: Vec<Down>,
    decoder: Vec<Up>,
    output: FrozenOutput,
    /// Values of each input of an image, finest first.
    inputs: Vec<usize>,
}

/// A layer of the encoder.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most layers are blocks")]
enum Down {
    Block(Step),
    /// The next level's input is added through a convolution.
    AddLevel(FrozenConv),
}

/// A layer of the decoder.
#[derive(Debug)]
enum Up {
    Block(Step),
    /// A block that takes a skip connection.
    BlockWithSkip(Step),
    /// The output of a level, beside the main path.
    LevelOutput(FrozenOutput),
}

/// A block with its shifts: one row for every class, and a last one for none.
#[derive(Debug)]
struct Step {
    block: FrozenBlock,
    shifts: Vec<Vec<f32>>,
}

impl Step {
    /// Freezes `block` on images of height and width `size`, which becomes its result's, with the
    /// shifts for `embeddings`.
    fn new(
        block: &UNetBlock,
        embeddings: &Tensor<2>,
        size: &mut [usize; 2],
        skip_channels: usize,
    ) -> Self {
        let shifts = block.shifts(embeddings.clone());
        let width = shifts.dims()[1];
        let rows = to_host(shifts);
        let (block, result) = block.freeze(*size, skip_channels);
        *size = result;
        Self { block, shifts: rows.chunks_exact(width).map(<[f32]>::to_vec).collect() }
    }

    fn run(&self, x: &Images, skip: Option<&Images>, classes: &[usize]) -> Images {
        let shifts: Vec<f32> =
            classes.iter().flat_map(|class| self.shifts[*class].iter().copied()).collect();
        self.block.run(x, skip, &shifts)
    }
}

impl FrozenUNet {
    /// Freezes `unet` at the noise condition `noise`; none when it has another encoder or decoder
    /// than the standard ones.
    pub fn new(unet: &SongUNet, noise: f32) -> Option<Self> {
        let config = unet.config();
        if config.encoder_type != EncoderKind::Standard
            || config.decoder_type != DecoderKind::Standard
        {
            return None;
        }
        let (device, classes) = (unet.device(), config.label_dim);
        let noise = Tensor::full([classes + 1], noise, &device);
        let labels = Tensor::cat(
            vec![Tensor::eye(classes.max(1), &device), Tensor::zeros([1, classes.max(1)], &device)],
            0,
        );
        let labels = (classes > 0).then_some(labels);
        let embeddings = unet.embed(noise, labels, None, &ForwardMode::evaluation());

        let mut size = [config.resolution; 2];
        let (mut first, mut encoder, mut skips) = (None, Vec::new(), Vec::new());
        for layer in unet.enc.flat.iter() {
            match layer {
                EncoderLayer::FirstConv(conv) => {
                    first = Some(FrozenConv::new(conv.tensors(), size));
                    skips.push(conv.weight.dims()[0]);
                }
                EncoderLayer::Block(block) => {
                    encoder.push(Down::Block(Step::new(block, &embeddings, &mut size, 0)));
                    skips.push(block.outputs());
                }
                EncoderLayer::AddLevel(conv) => {
                    encoder.push(Down::AddLevel(FrozenConv::new(conv.tensors(), size)));
                }
                EncoderLayer::AddInput(_) | EncoderLayer::MixInput(_) => return None,
            }
        }
        let (mut decoder, mut normed, mut output) = (Vec::new(), None, None);
        let frozen_output = |conv: &Conv2d, norm: &mut Option<&GroupNorm>, size| {
            let norm = norm.take()?;
            let conv = FrozenConv::new(conv.tensors(), size);
            Some(FrozenOutput::new(norm.tensors(), norm.groups(), norm.epsilon(), conv))
        };
        for layer in unet.dec.flat.iter() {
            match layer {
                DecoderLayer::Block(block) => {
                    decoder.push(Up::Block(Step::new(block, &embeddings, &mut size, 0)));
                }
                DecoderLayer::BlockWithSkip(block) => {
                    let channels = skips.pop()?;
                    let step = Step::new(block, &embeddings, &mut size, channels);
                    decoder.push(Up::BlockWithSkip(step));
                }
                DecoderLayer::OutputNorm(norm) => normed = Some(norm),
                DecoderLayer::OutputConv(conv) => {
                    output = Some(frozen_output(conv, &mut normed, size)?);
                }
                DecoderLayer::LevelConv(conv) => {
                    let level = frozen_output(conv, &mut normed, size)?;
                    decoder.push(Up::LevelOutput(level));
                }
            }
        }
        let values = |[channels, side]: [usize; 2]| channels * side * side;
        let inputs = config.inputs().into_iter().map(values).collect();
        Some(Self { first: first?, encoder, decoder, output: output?, inputs })
    }

    /// Images `[N, in_channels, R, R]` of `classes` (one for each image; the number of classes for
    /// none) -> `[N, out_channels, R, R]`. In a row the images of coarser levels come after the
    /// image, finest first, and so they do in the result.
    pub fn run(&self, rows: &[f32], classes: &[usize]) -> Vec<f32> {
        let mut inputs = split(rows, &self.inputs).into_iter();
        let mut skips = vec![self.first.run(&inputs.next().expect("the image"))];
        for step in &self.encoder {
            let next = match step {
                Down::Block(step) => {
                    step.run(skips.last().expect("the first convolution's"), None, classes)
                }
                Down::AddLevel(conv) => {
                    let level = inputs.next().expect("an input for every level that takes one");
                    skips.pop().expect("a halving block goes before").plus(&conv.run(&level))
                }
            };
            skips.push(next);
        }
        let mut main: Option<Images> = None;
        let mut outputs = Vec::new();
        for layer in &self.decoder {
            let (step, skip) = match layer {
                Up::Block(step) => (step, None),
                Up::BlockWithSkip(step) => (step, skips.pop()),
                Up::LevelOutput(output) => {
                    outputs.push(output.run(main.as_ref().expect("a block goes before")));
                    continue;
                }
            };
            let x = main.as_ref().or(skips.last()).expect("the encoder's last");
            main = Some(step.run(x, skip.as_ref(), classes));
        }
        outputs.push(self.output.run(&main.expect("the decoder has blocks")));
        outputs.reverse();
        joined(outputs, classes.len())
    }
}

/// Rows in which values of these numbers follow each other, in parts: `[N, sum]` -> `[N, width]`
/// each.
fn split<'a>(rows: &'a [f32], widths: &[usize]) -> Vec<Cow<'a, [f32]>> {
    if widths.len() == 1 {
        return vec![Cow::Borrowed(rows)];
    }
    let (whole, mut start) = (widths.iter().sum::<usize>(), 0);
    let part = |width: &usize| {
        let columns = start..start + width;
        start = columns.end;
        let values = rows.chunks_exact(whole).flat_map(|row| row[columns.clone()].iter().copied());
        Cow::Owned(values.collect())
    };
    widths.iter().map(part).collect()
}

/// The opposite of [`split`], of `count` rows.
fn joined(mut parts: Vec<Vec<f32>>, count: usize) -> Vec<f32> {
    if parts.len() == 1 {
        return parts.swap_remove(0);
    }
    let row = |i: usize| {
        parts.iter().flat_map(move |part| {
            let width = part.len() / count;
            part[i * width..(i + 1) * width].iter().copied()
        })
    };
    (0..count).flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{StateDict, load_state, state_dict};
    use crate::{InitSeed, SongUNetConfig};
    use burn::tensor::{Device, TensorData};
    use kdm_random::normal_vec;

    /// A frozen network computes what the network does, for each class and for none, whichever
    /// images are run together.
    #[test]
    fn freezing_changes_no_result() {
        let mut config = SongUNetConfig::ddpmpp(16, 3, 2, 8, &[1, 2], 1, &[8]);
        config.label_dim = 2;
        frozen_and_not(&config);
        // Levels with inputs and outputs of their own, the third without an input.
        let mut config = SongUNetConfig::ddpmpp(16, 3, 2, 8, &[1, 2, 2], 1, &[8]);
        (config.label_dim, config.level_inputs, config.level_outputs) = (2, vec![5], vec![4, 3]);
        frozen_and_not(&config);
        (config.level_inputs, config.level_outputs) = (vec![0, 7], vec![0, 1]);
        frozen_and_not(&config);
    }

    fn frozen_and_not(config: &SongUNetConfig) {
        assert_eq!(config.problems(), []);
        let device = Device::flex();
        let network = config.init(&mut InitSeed::new(1), &device);
        // Fresh last layers are all but zero: these aren't.
        let stirred = |(i, (name, data)): (usize, (String, TensorData))| {
            let shape = data.shape().to_vec();
            let noise = normal_vec(i as u64, shape.iter().product());
            let fan_in = shape.iter().skip(1).product::<usize>() as f32;
            let values: Vec<f32> = noise.into_iter().map(|x| x / fan_in.sqrt()).collect();
            (name, TensorData::new(values, shape))
        };
        let state: StateDict = state_dict(&network).into_iter().enumerate().map(stirred).collect();
        let network = load_state(network, &state).unwrap();
        let frozen = FrozenUNet::new(&network, 0.5).unwrap();

        let values = |images: Vec<[usize; 2]>| images.iter().map(|[c, side]| c * side * side).sum();
        let (width, results): (usize, usize) = (values(config.inputs()), values(config.outputs()));
        let images = normal_vec(100, 3 * width);
        let x = Tensor::from_data(TensorData::new(images.clone(), [3, width]), &device);
        let labels =
            Tensor::from_data(TensorData::new(vec![0f32, 1., 0., 0., 1., 0.], [3, 2]), &device);
        let noise = Tensor::full([3], 0.5, &device);
        let mode = ForwardMode::evaluation();
        let expected = to_host(network.forward_rows(x, noise, Some(labels), &mode));
        let found = frozen.run(&images, &[1, 2, 0]);
        assert_eq!((expected.len(), found.len()), (3 * results, 3 * results));
        let scale = expected.iter().fold(0f32, |most, y| most.max(y.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            // f32 rounding through some dozen layers.
            assert!((found - expected).abs() < 1e-4 * scale, "{found} {expected}");
        }
        assert_eq!(frozen.run(&images[width..2 * width], &[2]), found[results..2 * results]);
    }

    #[test]
    fn only_the_standard_paths_are_frozen() {
        let mut config = SongUNetConfig::ddpmpp(8, 3, 3, 8, &[1, 2], 1, &[]);
        config.encoder_type = EncoderKind::Residual;
        let network = config.init(&mut InitSeed::new(1), &Device::flex());
        assert!(FrozenUNet::new(&network, 0.5).is_none());
    }
}
