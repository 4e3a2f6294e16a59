//! A teacher's denoiser D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) as a graph, its
//! preconditioning with it.

use std::path::Path;

use kdm_data::Result;
use kdm_nn::{UNet, state};
use kdm_teacher::{Conditioner, NetworkTeacherConfig};
use serde_json::json;

use super::factors::Skip;
use super::graph::{Builder, Value};
use super::layers::Weights;
use super::unet::Condition;
use super::{OnnxOptions, entry, model_of, write};

/// Writes the denoiser of an image teacher as ONNX to the file `out`. `path`: where its model file
/// lies. `options.parts` is none of it.
///
/// Inputs and output, with a free number of rows: `x`, images x_0 + sigma e, `[batch, C, H, W]`;
/// `sigma`, the noise level of each, `[batch]`, above 0; `labels`, of conditional teachers, one-hot
/// rows `[batch, classes]`, zeros for no class; `denoised` D(x; sigma), of x's shape. The metadata
/// has the teacher's configuration (`kdm`, JSON), `class_names` (JSON), `label_dim`, `value_range`
/// and the noise levels that the network knows (`sigma_min`, and `sigma_max` where there is a
/// largest).
///
/// # Errors
/// When it is too large for the format (2 GiB), or the file can't be written.
pub fn export_denoiser(
    config: &NetworkTeacherConfig,
    network: &UNet,
    path: &Path,
    out: &Path,
    options: &OnnxOptions,
) -> Result<()> {
    let conditioner = Conditioner::new(config.preconditioning.clone());
    let mut builder = Builder::new("denoiser", options.precision);
    graph(&mut builder, config, &conditioner, network);
    let (least, most) = conditioner.range();
    let mut metadata = vec![
        entry("kdm", json!(config)),
        entry("label_dim", config.network.label_dim()),
        entry("value_range", "[-1, 1]"),
        entry("sigma_min", least),
    ];
    if most.is_finite() {
        metadata.push(entry("sigma_max", most));
    }
    let text = "A diffusion model's denoiser: noisy images and their noise levels to clean ones.";
    write(&model_of(builder.finish(), text, metadata, &options.class_names), path, out)
}

fn graph(
    builder: &mut Builder,
    config: &NetworkTeacherConfig,
    conditioner: &Conditioner,
    network: &UNet,
) {
    let (channels, side) = (config.network.channels().0, config.network.resolution());
    let shape = [channels, side, side];
    let x = builder.input("x", &shape, "x_0 + sigma e");
    let sigma = builder.input("sigma", &[], "the noise level of each image, above 0");
    let classes = config.network.label_dim();
    let labels = (classes > 0)
        .then(|| builder.input("labels", &[classes], "one-hot rows; zeros for no class"));
    let sigma = builder.reshape(&sigma, &[-1, 1]);
    let factors = builder.factors(&config.preconditioning, conditioner.levels(), &sigma);
    let scaled = match &factors.input {
        Some(factor) => builder.times(&x, factor),
        None => x.clone(),
    };
    let state = state::state_dict(network);
    let weights = Weights { state: &state, network: "network" };
    let (plan, noise) = (network.plan(), Condition::Rows(&factors.noise));
    let inputs = std::slice::from_ref(&scaled);
    let output = builder.unet(inputs, &weights, &plan, noise, labels.as_deref()).swap_remove(0);
    let last = &plan.layers.last().expect("a plan has layers").name;
    let output = if weights.outputs(last) == channels {
        output
    } else {
        // What the network says of the variance comes after the image's channels.
        builder.columns(&output, 0..channels)
    };
    let moved = builder.times(&output, &factors.out);
    let denoised = match &factors.skip {
        Skip::None => moved,
        Skip::Whole => builder.node("Add", &[&x, &moved], &[]),
        Skip::Scaled(factor) => {
            let kept = builder.times(&x, factor);
            builder.node("Add", &[&kept, &moved], &[])
        }
    };
    builder.output(denoised, "denoised", &shape, "D(x; sigma)");
}

impl Builder {
    /// Images times a factor each, `[batch, 1]`.
    fn times(&mut self, images: &str, factor: &str) -> Value {
        let factor = self.reshape(factor, &[-1, 1, 1, 1]);
        self.node("Mul", &[images, &factor], &[])
    }
}
