//! Encoders and decoders as nodes, at one time: what depends on it alone is computed here.

use burn::tensor::Tensor;
use kdm_koopman::student::Network;
use kdm_nn::{ForwardMode, Mlp, SongUNet, state};

use super::graph::{Builder, Parameter, Value};
use super::layers::Weights;
use super::unet::Condition;

impl Builder {
    /// A network on flat rows, as `kdm_koopman::Network` runs it. `labels`: one-hot rows; none for
    /// a network without classes.
    pub fn network(
        &mut self,
        x: &str,
        name: &str,
        network: &Network,
        time: f32,
        labels: Option<&str>,
    ) -> Value {
        match network {
            Network::Mlp(mlp) => self.mlp(x, name, mlp, time, labels),
            Network::Unet(unet) => {
                let config = unet.config();
                let inputs = self.levels(x, &config.inputs());
                let state = state::state_dict(unet);
                let weights = Weights { state: &state, network: name };
                let plan = unet.plan();
                let outputs = self.unet(&inputs, &weights, &plan, at(unet, time), labels);
                self.flattened(&outputs, &config.outputs())
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
}

/// A network's condition at one time.
fn at<'a>(unet: &SongUNet, time: f32) -> Condition<'a> {
    let noise = Tensor::full([1], time, &unet.device());
    if unet.config().label_dim > 0 {
        return Condition::Features(state::to_host(unet.noise_features(noise)));
    }
    Condition::Embedding(state::to_host(unet.embed(noise, None, None, &ForwardMode::evaluation())))
}
