//! Encoders and decoders as nodes, at one time: what depends on it alone is computed here.

use burn::tensor::Tensor;
use kdm_koopman::student::Network;
use kdm_nn::{ForwardMode, Mlp, PlannedKind, PlannedLayer, Resize, SongUNet, UNetPlan, state};

use super::graph::{Builder, Parameter, Value};
use super::layers::Weights;

/// The embedding that shifts blocks.
enum Embedding<'a> {
    /// The same for all images: the network gives a block's shift.
    Fixed(Vec<f32>),
    /// Of an image's label.
    Rows(&'a str),
}

impl Builder {
    /// A network on flat rows, as `kdm_koopman::Network` runs it. `labels`: one-hot rows; none for
    /// a network without classes. Gives none for a U-Net of other paths than the standard ones.
    pub fn network(
        &mut self,
        x: &str,
        name: &str,
        network: &Network,
        time: f32,
        labels: Option<&str>,
    ) -> Option<Value> {
        match network {
            Network::Mlp(mlp) => Some(self.mlp(x, name, mlp, time, labels)),
            Network::Unet(unet) => {
                let config = unet.config();
                let (side, channels) = (config.resolution as i64, config.in_channels as i64);
                let image = self.reshape(x, &[0, channels, side, side]);
                let image = self.unet(&image, name, unet, time, labels)?;
                Some(self.reshape(&image, &[0, (config.out_channels as i64) * side * side]))
            }
        }
    }

    /// Affine layers with SiLU; the time's column of the first is a part of its bias.
    fn mlp(&mut self, x: &str, name: &str, mlp: &Mlp, time: f32, labels: Option<&str>) -> Value {
        let mut h = match labels.filter(|_| mlp.label_dim > 0) {
            Some(labels) => self.node("Concat", &[x, labels], &[("axis", Parameter::Int(1))]),
            None => x.to_string(),
        };
        for (i, layer) in mlp.layers.iter().enumerate() {
            let state = state::state_dict(layer);
            let values = |name: &str| state[name].iter::<f32>().collect::<Vec<f32>>();
            let [outputs, inputs] = layer.weight.dims();
            let (mut weight, mut bias, mut width) = (values("weight"), values("bias"), inputs);
            if i == 0 {
                let at = inputs - 1 - mlp.label_dim;
                for (bias, row) in bias.iter_mut().zip(weight.chunks_exact(inputs)) {
                    *bias += time * row[at];
                }
                let column = |(j, x): (usize, &f32)| (j % inputs != at).then_some(*x);
                weight = weight.iter().enumerate().filter_map(column).collect();
                width = inputs - 1;
            }
            let name = format!("{name}.layers.{i}");
            h = self.matrix(&h, &name, [outputs, width], [&weight, &bias]);
            if mlp.activate_output || i + 1 < mlp.layers.len() {
                h = self.silu(&h);
            }
        }
        h
    }

    fn unet(
        &mut self,
        x: &str,
        name: &str,
        unet: &SongUNet,
        time: f32,
        labels: Option<&str>,
    ) -> Option<Value> {
        let plan = unet.config().plan()?;
        let state = state::state_dict(unet);
        let all = Weights { state: &state, network: name };
        let noise = Tensor::full([1], time, &unet.device());
        let labels = labels.filter(|_| unet.config().label_dim > 0);
        let rows;
        let embedding = match labels {
            None => {
                let fixed = unet.embed(noise, None, None, &ForwardMode::evaluation());
                Embedding::Fixed(fixed.to_data().iter::<f32>().collect())
            }
            Some(labels) => {
                let dim = unet.config().label_dim as f64;
                let scaled = self.scaled(labels, dim.sqrt());
                let of_label = self.linear(&scaled, &all, "map_label");
                let features: Vec<f32> = unet.noise_features(noise).to_data().iter().collect();
                let name = format!("{name}.time_features");
                let features = self.constant(&name, &[1, features.len()], &features);
                let mut e = self.node("Add", &[&of_label, &features], &[]);
                for layer in ["map_layer0", "map_layer1"] {
                    let linear = self.linear(&e, &all, layer);
                    e = self.silu(&linear);
                }
                rows = e;
                Embedding::Rows(&rows)
            }
        };
        let (mut skips, mut h): (Vec<(Value, usize)>, Value) = (Vec::new(), x.to_string());
        let mut channels = unet.config().in_channels;
        for layer in &plan.encoder {
            h = self.layer(&h, &all, layer, &plan, &embedding, &mut channels, None);
            skips.push((h.clone(), channels));
        }
        for layer in &plan.decoder {
            let takes = matches!(layer.kind, PlannedKind::Block { skip: true, .. });
            let skip = if takes { Some(skips.pop()?) } else { None };
            h = self.layer(&h, &all, layer, &plan, &embedding, &mut channels, skip);
        }
        Some(h)
    }

    fn layer(
        &mut self,
        x: &str,
        weights: &Weights,
        layer: &PlannedLayer,
        plan: &UNetPlan,
        embedding: &Embedding,
        channels: &mut usize,
        skip: Option<(Value, usize)>,
    ) -> Value {
        let PlannedLayer { name, side, kind } = layer;
        let (resize, heads) = match kind {
            PlannedKind::Conv => {
                *channels = weights.outputs(name);
                return self.conv(x, weights, name);
            }
            PlannedKind::OutputNorm => {
                let normed = self.group_norm(x, weights, name, *side, plan.epsilon);
                return self.silu(&normed);
            }
            PlannedKind::Block { resize, heads, .. } => (*resize, *heads),
        };
        let part = |part: &str| format!("{name}.{part}");
        let x = match skip {
            Some((skip, more)) => {
                *channels += more;
                self.node("Concat", &[x, &skip], &[("axis", Parameter::Int(1))])
            }
            None => x.to_string(),
        };
        let before = match resize {
            Resize::Keep => *side,
            Resize::Down => 2 * side,
            Resize::Up => side / 2,
        };
        let normed = self.group_norm(&x, weights, &part("norm0"), before, plan.epsilon);
        let active = self.silu(&normed);
        let resized = self.resized(&active, resize, *channels, &plan.taps);
        let hidden = self.conv(&resized, weights, &part("conv0"));
        let outputs = weights.outputs(&part("conv0"));
        let shift = self.shift(weights, &part("affine"), embedding, outputs);
        let shifted = self.node("Add", &[&hidden, &shift], &[]);
        let normed = self.group_norm(&shifted, weights, &part("norm1"), *side, plan.epsilon);
        let active = self.silu(&normed);
        let h = self.conv(&active, weights, &part("conv1"));
        let mut rest = self.resized(&x, resize, *channels, &plan.taps);
        if weights.has(&part("skip")) {
            rest = self.conv(&rest, weights, &part("skip"));
        }
        *channels = outputs;
        let sum = self.node("Add", &[&h, &rest], &[]);
        let mixed = self.scaled(&sum, plan.scale);
        if heads == 0 {
            return mixed;
        }
        let normed = self.group_norm(&mixed, weights, &part("norm2"), *side, plan.epsilon);
        let attended = self.attention(&normed, weights, &part("qkv"), heads, *side);
        let projected = self.conv(&attended, weights, &part("proj"));
        let sum = self.node("Add", &[&projected, &mixed], &[]);
        self.scaled(&sum, plan.scale)
    }

    /// What the embedding adds to a block's channels.
    fn shift(
        &mut self,
        weights: &Weights,
        layer: &str,
        embedding: &Embedding,
        outputs: usize,
    ) -> Value {
        match embedding {
            Embedding::Rows(rows) => {
                let rows = self.linear(rows, weights, layer);
                self.reshape(&rows, &[0, outputs as i64, 1, 1])
            }
            Embedding::Fixed(e) => {
                let shift = weights.affine(layer, e);
                self.constant(&weights.name(&format!("{layer}.shift")), &[outputs, 1, 1], &shift)
            }
        }
    }
}
