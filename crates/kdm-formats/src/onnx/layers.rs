//! Layers as nodes.

use kdm_nn::layers::GroupNorm;
use kdm_nn::{Linear, Resize, StateDict, state};

use super::graph::{Builder, Parameter, Value};

/// The weights of one network.
pub(super) struct Weights<'a> {
    pub state: &'a StateDict,
    /// What tells its tensors from those of the model's other networks.
    pub network: &'a str,
}

impl Weights<'_> {
    /// Whether there is such a layer.
    pub fn has(&self, layer: &str) -> bool {
        self.state.contains_key(&format!("{layer}.weight"))
    }

    /// What an affine layer makes of one row.
    pub fn affine(&self, layer: &str, x: &[f32]) -> Vec<f32> {
        let (shape, weight) = self.values(&format!("{layer}.weight"));
        let (_, bias) = self.values(&format!("{layer}.bias"));
        let dot = |row: &[f32]| -> f64 {
            row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum()
        };
        let rows = weight.chunks_exact(shape[1]).zip(&bias);
        rows.map(|(row, b)| (dot(row) + f64::from(*b)) as f32).collect()
    }

    fn values(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let data = &self.state[name];
        (data.shape().to_vec(), data.iter::<f32>().collect())
    }

    /// Its name among all of the model.
    pub fn name(&self, layer: &str) -> String {
        format!("{}.{layer}", self.network)
    }

    /// Channels out of a convolution, or features of a norm.
    pub fn outputs(&self, layer: &str) -> usize {
        self.state[&format!("{layer}.weight")].shape()[0]
    }
}

impl Builder {
    /// x times its sigmoid.
    pub fn silu(&mut self, x: &str) -> Value {
        let gate = self.node("Sigmoid", &[x], &[]);
        self.node("Mul", &[x, &gate], &[])
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

    /// A linear layer by name.
    pub fn linear(&mut self, x: &str, weights: &Weights, layer: &str) -> Value {
        let (shape, values) = weights.values(&format!("{layer}.weight"));
        let (_, bias) = weights.values(&format!("{layer}.bias"));
        self.matrix(x, &weights.name(layer), [shape[0], shape[1]], [&values, &bias])
    }

    /// A linear layer of its own.
    pub fn linear_of(&mut self, x: &str, name: &str, linear: &Linear) -> Value {
        let state = state::state_dict(linear);
        let values = |part: &str| state[part].iter::<f32>().collect::<Vec<f32>>();
        self.matrix(x, name, linear.weight.dims(), [&values("weight"), &values("bias")])
    }

    /// A convolution that keeps the size, of an odd kernel.
    pub fn conv(&mut self, x: &str, weights: &Weights, layer: &str) -> Value {
        let (shape, values) = weights.values(&format!("{layer}.weight"));
        let (_, bias) = weights.values(&format!("{layer}.bias"));
        self.conv_of(x, &weights.name(layer), &shape, &values, &bias)
    }

    fn conv_of(
        &mut self,
        x: &str,
        name: &str,
        shape: &[usize],
        values: &[f32],
        bias: &[f32],
    ) -> Value {
        let weight = self.constant(&format!("{name}.weight"), shape, values);
        let bias = self.constant(&format!("{name}.bias"), &shape[..1], bias);
        let pad = shape[2] as i64 / 2;
        self.node("Conv", &[x, &weight, &bias], &[("pads", Parameter::Ints(&[pad; 4]))])
    }

    /// A group norm of images: ONNX normalises instances, which groups are when an image's channels
    /// are gathered so.
    pub fn group_norm(
        &mut self,
        x: &str,
        weights: &Weights,
        layer: &str,
        side: usize,
        epsilon: f64,
    ) -> Value {
        let channels = weights.outputs(layer);
        let groups = GroupNorm::edm_groups(channels);
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
        let (kind, gain) = match resize {
            Resize::Keep => return x.to_string(),
            Resize::Down => ("Conv", 1.0),
            Resize::Up => ("ConvTranspose", 4.0),
        };
        let length = taps.len();
        let one: Vec<f32> =
            taps.iter().flat_map(|a| taps.iter().map(move |b| gain * a * b)).collect();
        let name = format!("filter_{}", self.fresh());
        let filter = self.constant(&name, &[channels, 1, length, length], &one.repeat(channels));
        let pad = (length as i64 - 1) / 2;
        let parameters = [
            ("group", Parameter::Int(channels as i64)),
            ("pads", Parameter::Ints(&[pad; 4])),
            ("strides", Parameter::Ints(&[2, 2])),
        ];
        self.node(kind, &[x, &filter], &parameters)
    }

    /// Self-attention: `qkv` gives queries, keys and values, which lie interleaved in a head's
    /// channels there; here their rows are gathered.
    pub fn attention(
        &mut self,
        x: &str,
        weights: &Weights,
        layer: &str,
        heads: usize,
        side: usize,
    ) -> Value {
        let (shape, values) = weights.values(&format!("{layer}.weight"));
        let (_, bias) = weights.values(&format!("{layer}.bias"));
        let (channels, inputs) = (shape[0] / 3, shape[1]);
        let depth = channels / heads;
        let (side, heads, deep) = (side as i64, heads as i64, depth as i64);
        let mut part = |which: usize| {
            let rows: Vec<usize> = (0..channels).map(|c| 3 * c + which).collect();
            let weight: Vec<f32> =
                rows.iter().flat_map(|r| values[r * inputs..(r + 1) * inputs].to_vec()).collect();
            let bias: Vec<f32> = rows.iter().map(|r| bias[*r]).collect();
            let name = format!("{}.{}", weights.name(layer), ["queries", "keys", "values"][which]);
            let found = self.conv_of(x, &name, &[channels, inputs, 1, 1], &weight, &bias);
            self.reshape(&found, &[0, heads, deep, side * side])
        };
        let [queries, keys, taken] = [part(0), part(1), part(2)];
        let queries = self.scaled(&queries, 1.0 / (depth as f64).sqrt());
        let turned = [("perm", Parameter::Ints(&[0, 1, 3, 2]))];
        let queries = self.node("Transpose", &[&queries], &turned);
        let products = self.node("MatMul", &[&queries, &keys], &[]);
        let shares = self.node("Softmax", &[&products], &[("axis", Parameter::Int(-1))]);
        let shares = self.node("Transpose", &[&shares], &turned);
        let mixed = self.node("MatMul", &[&taken, &shares], &[]);
        self.reshape(&mixed, &[0, channels as i64, side, side])
    }
}
