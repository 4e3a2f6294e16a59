//! Inception v3 (Szegedy et al., arXiv:1512.00567) as the Fréchet inception distance uses it: the
//! TensorFlow network of 2015 in the form of `pytorch-fid`, whose state names these are. It differs
//! from torchvision's in its pooling: averages leave the padding out, and the last block takes
//! maxima.

use burn::module::{Module, Param};
use burn::tensor::module::{avg_pool2d, batch_norm, interpolate, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, InterpolateMode, InterpolateOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor, activation};

use crate::layers::{Conv2d, Conv2dConfig, Named};
use crate::{Init, InitSeed, Linear, LinearConfig};

/// What the network is called in files and tables.
pub const NAME: &str = "inception";
/// Dimension of a feature vector.
pub const FEATURES: usize = 2048;
/// Classes of the logits.
pub const CLASSES: usize = 1008;
/// Height and width of the images that the network sees.
const SIDE: usize = 299;
/// Of batch norm.
const EPSILON: f64 = 1e-3;

#[derive(Module, Debug)]
struct BatchNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    running_mean: Param<Tensor<1>>,
    running_var: Param<Tensor<1>>,
}

/// Convolution, batch norm, ReLU.
#[derive(Module, Debug)]
struct BasicConv {
    conv: Conv2d,
    bn: BatchNorm,
}

impl BasicConv {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let bn = &self.bn;
        let (weight, bias) = (bn.weight.val(), bn.bias.val());
        let h = self.conv.forward(x);
        activation::relu(batch_norm(
            h,
            weight,
            bias,
            bn.running_mean.val(),
            bn.running_var.val(),
            EPSILON,
        ))
    }
}

/// The network.
#[derive(Module, Debug)]
pub struct Inception {
    flat: Named<BasicConv>,
    fc: Linear,
}

/// The names and sizes of all convolutions.
fn convolutions() -> Vec<(String, Conv2dConfig)> {
    let mut all = Vec::new();
    let mut add = |name: &str, inputs, outputs, kernel, stride, padding| {
        let config = Conv2dConfig { inputs, outputs, kernel, stride, padding, bias: false };
        all.push((name.to_string(), config));
    };
    add("Conv2d_1a_3x3", 3, 32, [3, 3], 2, [0, 0]);
    add("Conv2d_2a_3x3", 32, 32, [3, 3], 1, [0, 0]);
    add("Conv2d_2b_3x3", 32, 64, [3, 3], 1, [1, 1]);
    add("Conv2d_3b_1x1", 64, 80, [1, 1], 1, [0, 0]);
    add("Conv2d_4a_3x3", 80, 192, [3, 3], 1, [0, 0]);
    let mut mixed = |block: &str, branches: &[(&str, usize, usize, [usize; 2], usize)]| {
        for &(branch, inputs, outputs, kernel, stride) in branches {
            let padding = if stride == 2 { [0, 0] } else { kernel.map(|k| k / 2) };
            let name = format!("Mixed_{block}.branch{branch}");
            add(&name, inputs, outputs, kernel, stride, padding);
        }
    };
    for (block, c, pool) in [("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)] {
        mixed(
            block,
            &[
                ("1x1", c, 64, [1, 1], 1),
                ("5x5_1", c, 48, [1, 1], 1),
                ("5x5_2", 48, 64, [5, 5], 1),
                ("3x3dbl_1", c, 64, [1, 1], 1),
                ("3x3dbl_2", 64, 96, [3, 3], 1),
                ("3x3dbl_3", 96, 96, [3, 3], 1),
                ("_pool", c, pool, [1, 1], 1),
            ],
        );
    }
    mixed(
        "6a",
        &[
            ("3x3", 288, 384, [3, 3], 2),
            ("3x3dbl_1", 288, 64, [1, 1], 1),
            ("3x3dbl_2", 64, 96, [3, 3], 1),
            ("3x3dbl_3", 96, 96, [3, 3], 2),
        ],
    );
    for (block, c) in [("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)] {
        mixed(
            block,
            &[
                ("1x1", 768, 192, [1, 1], 1),
                ("7x7_1", 768, c, [1, 1], 1),
                ("7x7_2", c, c, [1, 7], 1),
                ("7x7_3", c, 192, [7, 1], 1),
                ("7x7dbl_1", 768, c, [1, 1], 1),
                ("7x7dbl_2", c, c, [7, 1], 1),
                ("7x7dbl_3", c, c, [1, 7], 1),
                ("7x7dbl_4", c, c, [7, 1], 1),
                ("7x7dbl_5", c, 192, [1, 7], 1),
                ("_pool", 768, 192, [1, 1], 1),
            ],
        );
    }
    mixed(
        "7a",
        &[
            ("3x3_1", 768, 192, [1, 1], 1),
            ("3x3_2", 192, 320, [3, 3], 2),
            ("7x7x3_1", 768, 192, [1, 1], 1),
            ("7x7x3_2", 192, 192, [1, 7], 1),
            ("7x7x3_3", 192, 192, [7, 1], 1),
            ("7x7x3_4", 192, 192, [3, 3], 2),
        ],
    );
    for (block, c) in [("7b", 1280), ("7c", 2048)] {
        mixed(
            block,
            &[
                ("1x1", c, 320, [1, 1], 1),
                ("3x3_1", c, 384, [1, 1], 1),
                ("3x3_2a", 384, 384, [1, 3], 1),
                ("3x3_2b", 384, 384, [3, 1], 1),
                ("3x3dbl_1", c, 448, [1, 1], 1),
                ("3x3dbl_2", 448, 384, [3, 3], 1),
                ("3x3dbl_3a", 384, 384, [1, 3], 1),
                ("3x3dbl_3b", 384, 384, [3, 1], 1),
                ("_pool", c, 192, [1, 1], 1),
            ],
        );
    }
    all
}

/// What the network computes from N images.
#[derive(Clone, Debug)]
pub struct InceptionOutput {
    /// The features that distances are computed from, `[N, 2048]`.
    pub features: Tensor<2>,
    /// Logits of the 1008 classes, `[N, 1008]`, without the last layer's bias, as the inception
    /// score takes them.
    pub logits: Tensor<2>,
}

impl Inception {
    /// Random weights on `device`; those of a file replace them.
    pub fn init(seed: &mut InitSeed, device: &Device) -> Self {
        let convolution = |(name, config): (String, Conv2dConfig)| {
            let conv = config.init(Init::PyTorch, seed, device);
            let channels = config.outputs;
            let constant = |value: f64| Param::from_tensor(Tensor::full([channels], value, device));
            let bn = BatchNorm {
                weight: constant(1.0),
                bias: constant(0.0),
                running_mean: constant(0.0),
                running_var: constant(1.0),
            };
            (name, BasicConv { conv, bn })
        };
        let flat = Named(convolutions().into_iter().map(convolution).collect());
        Self { flat, fc: LinearConfig { inputs: FEATURES, outputs: CLASSES }.init(seed, device) }
    }

    /// The convolution of a branch of a block; of the block alone when `branch` is empty.
    fn conv(&self, block: &str, branch: &str, x: Tensor<4>) -> Tensor<4> {
        let full = if branch.is_empty() {
            block.to_string()
        } else {
            format!("Mixed_{block}.branch{branch}")
        };
        let found = self.flat.0.iter().find(|(name, _)| *name == full);
        found.expect("a name of `convolutions`").1.forward(x)
    }

    /// Convolutions of one block, one after the other.
    fn chain(&self, block: &str, branches: &[&str], x: &Tensor<4>) -> Tensor<4> {
        branches.iter().fold(x.clone(), |x, branch| self.conv(block, branch, x))
    }

    /// Features and logits of images `[N, 3, H, W]` in [-1, 1], resized to 299x299 (bilinear,
    /// corners not aligned).
    pub fn forward(&self, x: Tensor<4>) -> InceptionOutput {
        let n = x.dims()[0];
        let [_, _, height, width] = x.dims();
        let mut h = x;
        if [height, width] != [SIDE, SIDE] {
            let options = InterpolateOptions::new(InterpolateMode::Bilinear)
                .with_output_size([SIDE, SIDE])
                .with_align_corners(false);
            h = interpolate(h, options);
        }
        for name in ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"] {
            h = self.conv(name, "", h);
        }
        h = max_pool(h, 2);
        for name in ["Conv2d_3b_1x1", "Conv2d_4a_3x3"] {
            h = self.conv(name, "", h);
        }
        h = max_pool(h, 2);
        for block in ["5b", "5c", "5d"] {
            h = Tensor::cat(
                vec![
                    self.chain(block, &["1x1"], &h),
                    self.chain(block, &["5x5_1", "5x5_2"], &h),
                    self.chain(block, &["3x3dbl_1", "3x3dbl_2", "3x3dbl_3"], &h),
                    self.conv(block, "_pool", average_pool(h)),
                ],
                1,
            );
        }
        h = Tensor::cat(
            vec![
                self.chain("6a", &["3x3"], &h),
                self.chain("6a", &["3x3dbl_1", "3x3dbl_2", "3x3dbl_3"], &h),
                max_pool(h, 2),
            ],
            1,
        );
        for block in ["6b", "6c", "6d", "6e"] {
            h = Tensor::cat(
                vec![
                    self.chain(block, &["1x1"], &h),
                    self.chain(block, &["7x7_1", "7x7_2", "7x7_3"], &h),
                    self.chain(
                        block,
                        &["7x7dbl_1", "7x7dbl_2", "7x7dbl_3", "7x7dbl_4", "7x7dbl_5"],
                        &h,
                    ),
                    self.conv(block, "_pool", average_pool(h)),
                ],
                1,
            );
        }
        h = Tensor::cat(
            vec![
                self.chain("7a", &["3x3_1", "3x3_2"], &h),
                self.chain("7a", &["7x7x3_1", "7x7x3_2", "7x7x3_3", "7x7x3_4"], &h),
                max_pool(h, 2),
            ],
            1,
        );
        for block in ["7b", "7c"] {
            let (three, double) = (
                self.chain(block, &["3x3_1"], &h),
                self.chain(block, &["3x3dbl_1", "3x3dbl_2"], &h),
            );
            let parts = vec![
                self.chain(block, &["1x1"], &h),
                self.conv(block, "3x3_2a", three.clone()),
                self.conv(block, "3x3_2b", three),
                self.conv(block, "3x3dbl_3a", double.clone()),
                self.conv(block, "3x3dbl_3b", double),
                self.conv(
                    block,
                    "_pool",
                    if block == "7b" { average_pool(h) } else { max_pool(h, 1) },
                ),
            ];
            h = Tensor::cat(parts, 1);
        }
        let [_, c, height, width] = h.dims();
        let features = h.reshape([n, c, height * width]).mean_dim(2).squeeze_dim::<2>(2);
        let logits = features.clone().matmul(self.fc.weight.val().transpose());
        InceptionOutput { features, logits }
    }
}

/// Means of 3x3 pixels, zero padding left out; the size is kept.
fn average_pool(x: Tensor<4>) -> Tensor<4> {
    avg_pool2d(
        x,
        AvgPoolOptions::new([3, 3])
            .with_stride([1, 1])
            .with_padding([1, 1])
            .with_count_include_pad(false),
    )
}

/// Maxima of 3x3 pixels; at stride 1 the size is kept.
fn max_pool(x: Tensor<4>, stride: usize) -> Tensor<4> {
    let padding = if stride == 1 { [1, 1] } else { [0, 0] };
    max_pool2d(x, MaxPoolOptions::new([3, 3]).with_stride([stride; 2]).with_padding(padding))
}
