//! A DDPM++ for sampling at one noise level: the level never changes, so every block's shift is a
//! constant for each class; weights are packed once.

use burn::tensor::Tensor;
use kdm_kernels::{FrozenBlock, FrozenConv, FrozenOutput, Images};

use crate::ForwardMode;
use crate::state::to_host;
use crate::unet::block::UNetBlock;
use crate::unet::paths::{DecoderLayer, EncoderLayer};
use crate::unet::song::{DecoderKind, EncoderKind, SongUNet};

/// A U-Net with the standard encoder and decoder at one noise condition, for inference on the CPU.
/// An image's result has the same bits whatever other images it came with.
#[derive(Debug)]
pub struct FrozenUNet {
    first: FrozenConv,
    encoder: Vec<Step>,
    /// The decoder's blocks, and whether each takes a skip connection.
    decoder: Vec<(Step, bool)>,
    output: FrozenOutput,
    /// Values of an input image.
    image: usize,
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
                    encoder.push(Step::new(block, &embeddings, &mut size, 0));
                    skips.push(block.outputs());
                }
                EncoderLayer::AddInput(_) | EncoderLayer::MixInput(_) => return None,
            }
        }
        let (mut decoder, mut norm, mut output) = (Vec::new(), None, None);
        for layer in unet.dec.flat.iter() {
            match layer {
                DecoderLayer::Block(block) => {
                    decoder.push((Step::new(block, &embeddings, &mut size, 0), false));
                }
                DecoderLayer::BlockWithSkip(block) => {
                    let channels = skips.pop()?;
                    decoder.push((Step::new(block, &embeddings, &mut size, channels), true));
                }
                DecoderLayer::OutputNorm(found) => norm = Some(found),
                DecoderLayer::OutputConv(conv) => {
                    output = Some(FrozenConv::new(conv.tensors(), size));
                }
            }
        }
        let norm = norm?;
        let output = FrozenOutput::new(norm.tensors(), norm.groups(), norm.epsilon(), output?);
        let image = config.in_channels * config.resolution.pow(2);
        Some(Self { first: first?, encoder, decoder, output, image })
    }

    /// Images `[N, in_channels, R, R]` of `classes` (one for each image; the number of classes for
    /// none) -> `[N, out_channels, R, R]`.
    pub fn run(&self, images: &[f32], classes: &[usize]) -> Vec<f32> {
        debug_assert_eq!(images.len(), classes.len() * self.image);
        let mut skips = vec![self.first.run(images)];
        for step in &self.encoder {
            let next = step.run(skips.last().expect("the first convolution's"), None, classes);
            skips.push(next);
        }
        let mut main: Option<Images> = None;
        for (step, with_skip) in &self.decoder {
            let skip = with_skip.then(|| skips.pop().expect("a skip connection for every block"));
            let x = main.as_ref().or(skips.last()).expect("the encoder's last");
            main = Some(step.run(x, skip.as_ref(), classes));
        }
        self.output.run(&main.expect("the decoder has blocks"))
    }
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
        let device = Device::flex();
        let mut config = SongUNetConfig::ddpmpp(16, 3, 2, 8, &[1, 2], 1, &[8]);
        config.label_dim = 2;
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

        let images = normal_vec(100, 3 * 3 * 256);
        let x = Tensor::from_data(TensorData::new(images.clone(), [3, 3, 16, 16]), &device);
        let labels =
            Tensor::from_data(TensorData::new(vec![0f32, 1., 0., 0., 1., 0.], [3, 2]), &device);
        let noise = Tensor::full([3], 0.5, &device);
        let mode = ForwardMode::evaluation();
        let expected = to_host(network.forward(x, noise, Some(labels), None, &mode));
        let found = frozen.run(&images, &[1, 2, 0]);
        let scale = expected.iter().fold(0f32, |most, y| most.max(y.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            // f32 rounding through some dozen layers.
            assert!((found - expected).abs() < 1e-4 * scale, "{found} {expected}");
        }
        assert_eq!(frozen.run(&images[768..1536], &[2]), found[512..1024]);
    }

    #[test]
    fn only_the_standard_paths_are_frozen() {
        let mut config = SongUNetConfig::ddpmpp(8, 3, 3, 8, &[1, 2], 1, &[]);
        config.encoder_type = EncoderKind::Residual;
        let network = config.init(&mut InitSeed::new(1), &Device::flex());
        assert!(FrozenUNet::new(&network, 0.5).is_none());
    }
}
