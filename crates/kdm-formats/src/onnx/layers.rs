//! Layers as nodes.

use kdm_nn::unet::diffusers::Activation;
use kdm_nn::unet::plan::{ChannelOrder, QueryLayers};
use kdm_nn::{Linear, Resize, StateDict, state};

use std::ops::Range;

use super::graph::{Builder, Parameter, Value};

/// The weights of one network.
pub(super) struct Weights<'a> {
    pub state: &'a StateDict,
    /// What tells its tensors from those of the model's other networks.
    pub network: &'a str,
}

/// An affine layer's weights, in rows of `inputs`, and its bias.
pub(super) struct Affine {
    pub inputs: usize,
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

impl Weights<'_> {
    /// Whether there is such a layer.
    pub fn has(&self, layer: &str) -> bool {
        self.state.contains_key(&format!("{layer}.weight"))
    }

    /// Weights and bias (zeros where there is none) of a layer's outputs `rows`: of an affine layer
    /// or of a convolution, whose kernels then lie in a row each.
    pub fn affine(&self, layer: &str, rows: Range<usize>) -> Affine {
        self.chosen(layer, rows)
    }

    /// [`Self::affine`] of outputs in another order.
    pub fn chosen(&self, layer: &str, rows: impl Iterator<Item = usize> + Clone) -> Affine {
        let (shape, weight) = self.values(&format!("{layer}.weight"));
        let inputs = shape[1..].iter().product();
        let weight = rows.clone().flat_map(|row| weight[row * inputs..(row + 1) * inputs].to_vec());
        let weight = weight.collect();
        let bias = match self.has_bias(layer) {
            true => {
                let (_, bias) = self.values(&format!("{layer}.bias"));
                rows.map(|row| bias[row]).collect()
            }
            false => rows.map(|_| 0.0).collect(),
        };
        Affine { inputs, weight, bias }
    }

    fn has_bias(&self, layer: &str) -> bool {
        self.state.contains_key(&format!("{layer}.bias"))
    }

    pub fn values(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let data = &self.state[name];
        (data.shape().to_vec(), data.iter::<f32>().collect())
    }

    /// Its name among all of the model.
    pub fn name(&self, layer: &str) -> String {
        format!("{}.{layer}", self.network)
    }

    /// Outputs of an affine layer, channels out of a convolution, or features of a norm.
    pub fn outputs(&self, layer: &str) -> usize {
        self.state[&format!("{layer}.weight")].shape()[0]
    }
}

impl Affine {
    /// What it makes of one row.
    pub fn of(&self, x: &[f32]) -> Vec<f32> {
        let dot = |row: &[f32]| -> f64 {
            row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum()
        };
        let rows = self.weight.chunks_exact(self.inputs).zip(&self.bias);
        rows.map(|(row, b)| (dot(row) + f64::from(*b)) as f32).collect()
    }

    fn outputs(&self) -> usize {
        self.bias.len()
    }
}

/// Self-attention on images of height and width `side`.
pub(super) struct Attention<'a> {
    /// The layer's name.
    pub layer: &'a str,
    pub queries: QueryLayers,
    pub heads: usize,
    pub side: usize,
}

impl Builder {
    /// x times its sigmoid.
    pub fn silu(&mut self, x: &str) -> Value {
        let gate = self.node("Sigmoid", &[x], &[]);
        self.node("Mul", &[x, &gate], &[])
    }

    /// An activation.
    pub fn activated(&mut self, x: &str, activation: Activation) -> Value {
        match activation {
            Activation::Silu => self.silu(x),
            Activation::Relu => self.node("Relu", &[x], &[]),
            Activation::Gelu => {
                // x Phi(x); ONNX has it as an operator from opset 20 on.
                let within = self.scaled(x, 0.5f64.sqrt());
                let error = self.node("Erf", &[&within], &[]);
                let twice = self.plus(&error, 1.0);
                let half = self.scaled(x, 0.5);
                self.node("Mul", &[&half, &twice], &[])
            }
        }
    }

    /// A value times a number.
    pub fn scaled(&mut self, x: &str, factor: f64) -> Value {
        if factor == 1.0 {
            return x.to_string();
        }
        let name = format!("factor_{}_{x}", self.fresh());
        let factor = self.constant(&name, &[], &[factor as f32]);
        self.node("Mul", &[x, &factor], &[])
    }

    /// A value and a number.
    pub fn plus(&mut self, x: &str, more: f64) -> Value {
        let name = format!("term_{}_{x}", self.fresh());
        let term = self.constant(&name, &[], &[more as f32]);
        self.node("Add", &[x, &term], &[])
    }

    /// x W^T + b of rows, with weights `[outputs, inputs]`.
    pub fn matrix(
        &mut self,
        x: &str,
        name: &str,
        sizes: [usize; 2],
        weights: [&[f32]; 2],
    ) -> Value {
        let weight = self.constant(&format!("{name}.weight"), &sizes, weights[0]);
        let bias = self.constant(&format!("{name}.bias"), &sizes[..1], weights[1]);
        self.node("Gemm", &[x, &weight, &bias], &[("transB", Parameter::Int(1))])
    }

    /// An affine layer by name.
    pub fn linear(&mut self, x: &str, weights: &Weights, layer: &str) -> Value {
        let affine = weights.affine(layer, 0..weights.outputs(layer));
        self.affine(x, &weights.name(layer), &affine)
    }

    /// An affine layer.
    pub fn affine(&mut self, x: &str, name: &str, affine: &Affine) -> Value {
        let sizes = [affine.outputs(), affine.inputs];
        self.matrix(x, name, sizes, [&affine.weight, &affine.bias])
    }

    /// A linear layer of its own.
    pub fn linear_of(&mut self, x: &str, name: &str, linear: &Linear) -> Value {
        let state = state::state_dict(linear);
        let values = |part: &str| state[part].iter::<f32>().collect::<Vec<f32>>();
        self.matrix(x, name, linear.weight.dims(), [&values("weight"), &values("bias")])
    }

    /// A convolution that keeps the size, of an odd kernel.
    pub fn conv(&mut self, x: &str, weights: &Weights, layer: &str) -> Value {
        let shape = weights.state[&format!("{layer}.weight")].shape();
        self.conv_with(x, weights, layer, 1, [shape[2] / 2; 4])
    }

    /// A convolution with zero padding above, to the left, below and to the right.
    pub fn conv_with(
        &mut self,
        x: &str,
        weights: &Weights,
        layer: &str,
        stride: usize,
        padding: [usize; 4],
    ) -> Value {
        let (shape, values) = weights.values(&format!("{layer}.weight"));
        let (_, bias) = weights.values(&format!("{layer}.bias"));
        let name = weights.name(layer);
        let weight = self.constant(&format!("{name}.weight"), &shape, &values);
        let bias = self.constant(&format!("{name}.bias"), &shape[..1], &bias);
        let parameters = [
            ("pads", Parameter::Ints(&padding.map(|n| n as i64))),
            ("strides", Parameter::Ints(&[stride as i64; 2])),
        ];
        self.node("Conv", &[x, &weight, &bias], &parameters)
    }

    /// An affine layer of every pixel's channels.
    fn pixelwise(&mut self, x: &str, name: &str, affine: &Affine) -> Value {
        let shape = [affine.outputs(), affine.inputs, 1, 1];
        let weight = self.constant(&format!("{name}.weight"), &shape, &affine.weight);
        let bias = self.constant(&format!("{name}.bias"), &shape[..1], &affine.bias);
        self.node("Conv", &[x, &weight, &bias], &[])
    }

    /// A group norm of images: ONNX normalises instances, which groups are when an image's channels
    /// are gathered so.
    pub fn group_norm(
        &mut self,
        x: &str,
        weights: &Weights,
        layer: &str,
        groups: usize,
        side: usize,
        epsilon: f64,
    ) -> Value {
        let channels = weights.outputs(layer);
        let gathered = self.reshape(x, &[0, groups as i64, -1]);
        let name = weights.name(layer);
        let ones = self.constant(&format!("{name}.ones"), &[groups], &vec![1.0; groups]);
        let zeros = self.constant(&format!("{name}.zeros"), &[groups], &vec![0.0; groups]);
        let epsilon = [("epsilon", Parameter::Float(epsilon as f32))];
        let normed = self.node("InstanceNormalization", &[&gathered, &ones, &zeros], &epsilon);
        let side = side as i64;
        let back = self.reshape(&normed, &[0, channels as i64, side, side]);
        let scale = weights.values(&format!("{layer}.weight")).1;
        let shift = weights.values(&format!("{layer}.bias")).1;
        let scale = self.constant(&format!("{name}.weight"), &[channels, 1, 1], &scale);
        let shift = self.constant(&format!("{name}.bias"), &[channels, 1, 1], &shift);
        let scaled = self.node("Mul", &[&back, &scale], &[]);
        self.node("Add", &[&scaled, &shift], &[])
    }

    /// Halves or doubles images of so many channels by a separable filter.
    pub fn resized(&mut self, x: &str, resize: Resize, channels: usize, taps: &[f32]) -> Value {
        let padding = (taps.len() - 1) / 2;
        match resize {
            Resize::Keep => x.to_string(),
            Resize::Down => self.filtered("Conv", x, channels, taps, 1.0, padding),
            Resize::Up => self.filtered("ConvTranspose", x, channels, taps, 4.0, padding),
        }
    }

    /// Images halved by a filter that sees no zeros around them.
    pub fn halved_within(&mut self, x: &str, channels: usize, taps: &[f32]) -> Value {
        self.filtered("Conv", x, channels, taps, 1.0, 0)
    }

    fn filtered(
        &mut self,
        kind: &str,
        x: &str,
        channels: usize,
        taps: &[f32],
        gain: f32,
        padding: usize,
    ) -> Value {
        let length = taps.len();
        let one: Vec<f32> =
            taps.iter().flat_map(|a| taps.iter().map(move |b| gain * a * b)).collect();
        let name = format!("filter_{}", self.fresh());
        let filter = self.constant(&name, &[channels, 1, length, length], &one.repeat(channels));
        let parameters = [
            ("group", Parameter::Int(channels as i64)),
            ("pads", Parameter::Ints(&[padding as i64; 4])),
            ("strides", Parameter::Ints(&[2, 2])),
        ];
        self.node(kind, &[x, &filter], &parameters)
    }

    /// What the pixels attend to: values by the softmax of queries and keys, before the last layer.
    pub fn attention(&mut self, x: &str, weights: &Weights, attention: Attention) -> Value {
        let Attention { layer, queries, heads, side } = attention;
        let part = |name: &str| format!("{layer}.{name}");
        let channels = match queries {
            QueryLayers::Together(name, _) => weights.outputs(&part(name)) / 3,
            QueryLayers::Apart([name, ..]) => weights.outputs(&part(name)),
        };
        let depth = channels / heads;
        let shape = [0, heads as i64, depth as i64, (side * side) as i64];
        let [queries, keys, taken] = [0, 1, 2].map(|which| {
            let (name, affine) = match queries {
                QueryLayers::Together(name, order) => {
                    let place = |c| ChannelOrder::place(order, which, c, [heads, depth]);
                    let role = ["queries", "keys", "values"][which];
                    let affine = weights.chosen(&part(name), (0..channels).map(place));
                    (format!("{}.{role}", part(name)), affine)
                }
                QueryLayers::Apart(names) => {
                    let name = part(names[which]);
                    let affine = weights.affine(&name, 0..channels);
                    (name, affine)
                }
            };
            let found = self.pixelwise(x, &weights.name(&name), &affine);
            self.reshape(&found, &shape)
        });
        let queries = self.scaled(&queries, 1.0 / (depth as f64).sqrt());
        let turned = [("perm", Parameter::Ints(&[0, 1, 3, 2]))];
        let queries = self.node("Transpose", &[&queries], &turned);
        let products = self.node("MatMul", &[&queries, &keys], &[]);
        let shares = self.node("Softmax", &[&products], &[("axis", Parameter::Int(-1))]);
        let shares = self.node("Transpose", &[&shares], &turned);
        let mixed = self.node("MatMul", &[&taken, &shares], &[]);
        self.reshape(&mixed, &[0, channels as i64, side as i64, side as i64])
    }

    /// [`Self::linear`] of every pixel's channels.
    pub fn linear_of_pixels(&mut self, x: &str, weights: &Weights, layer: &str) -> Value {
        let affine = weights.affine(layer, 0..weights.outputs(layer));
        self.pixelwise(x, &weights.name(layer), &affine)
    }
}
