//! A teacher's denoiser D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) as a graph, its
//! preconditioning with it.

use std::path::Path;

use kdm_data::{Error, Result};
use kdm_nn::UNet;
use kdm_teacher::{Conditioner, NetworkTeacherConfig, Preconditioning};
use serde_json::json;

use super::graph::{Builder, Value};
use super::network::Condition;
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
/// When the network is none of EDM's with the standard encoder and decoder, its preconditioning has
/// discrete noise levels, it is too large for the format (2 GiB), or the file can't be written.
pub fn export_denoiser(
    config: &NetworkTeacherConfig,
    network: &UNet,
    path: &Path,
    out: &Path,
    options: &OnnxOptions,
) -> Result<()> {
    let mut builder = Builder::new("denoiser", options.precision);
    graph(&mut builder, config, network).ok_or_else(|| {
        let problem = "is no network of EDM's kind (DDPM++) with continuous noise levels, which \
                       alone can be written as a denoiser";
        let action = "write it as a state dict, to a .safetensors file";
        Error::invalid(path, "network", problem, action)
    })?;
    let (least, most) = Conditioner::new(config.preconditioning.clone()).range();
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

/// c_skip, c_out, c_in and c_noise of each image, `[batch, 1]`; none to leave a factor of 1 out.
struct Factors {
    skip: Option<Value>,
    out: Value,
    input: Option<Value>,
    noise: Value,
}

fn graph(builder: &mut Builder, config: &NetworkTeacherConfig, network: &UNet) -> Option<()> {
    let UNet::Song(unet) = network else { return None };
    let (channels, side) = (config.network.channels().0, config.network.resolution());
    let shape = [channels, side, side];
    let x = builder.input("x", &shape, "x_0 + sigma e");
    let sigma = builder.input("sigma", &[], "the noise level of each image, above 0");
    let classes = config.network.label_dim();
    let labels = (classes > 0)
        .then(|| builder.input("labels", &[classes], "one-hot rows; zeros for no class"));
    let sigma = builder.reshape(&sigma, &[-1, 1]);
    let Factors { skip, out, input, noise } = factors(builder, &config.preconditioning, &sigma)?;
    let mut times = |x: &str, factor: Option<&str>| match factor {
        None => x.to_string(),
        Some(factor) => {
            let factor = builder.reshape(factor, &[-1, 1, 1, 1]);
            builder.node("Mul", &[x, &factor], &[])
        }
    };
    let scaled = times(&x, input.as_deref());
    let kept = times(&x, skip.as_deref());
    let condition = Condition::Rows(&noise);
    let output = builder.unet(&scaled, "network", unet, condition, labels.as_deref())?;
    let out = builder.reshape(&out, &[-1, 1, 1, 1]);
    let moved = builder.node("Mul", &[&output, &out], &[]);
    let denoised = builder.node("Add", &[&kept, &moved], &[]);
    builder.output(denoised, "denoised", &shape, "D(x; sigma)");
    Some(())
}

/// The factors of noise levels `[batch, 1]`, as `kdm_teacher::Conditioner` has them; none for
/// discrete levels.
fn factors(builder: &mut Builder, kind: &Preconditioning, sigma: &str) -> Option<Factors> {
    let square = builder.node("Mul", &[sigma, sigma], &[]);
    let negative = builder.scaled(sigma, -1.0);
    Some(match kind {
        Preconditioning::Edm { sigma_data, noise_scale } => {
            let total = builder.plus(&square, sigma_data * sigma_data);
            let root = builder.node("Sqrt", &[&total], &[]);
            let scaled = builder.scaled(sigma, *sigma_data);
            let log = builder.node("Log", &[sigma], &[]);
            let inverse = builder.node("Reciprocal", &[&total], &[]);
            Factors {
                skip: Some(builder.scaled(&inverse, sigma_data * sigma_data)),
                out: builder.node("Div", &[&scaled, &root], &[]),
                input: Some(builder.node("Reciprocal", &[&root], &[])),
                noise: builder.scaled(&log, noise_scale / 4.0),
            }
        }
        Preconditioning::Ve { .. } => {
            let half = builder.scaled(sigma, 0.5);
            let noise = builder.node("Log", &[&half], &[]);
            Factors { skip: None, out: sigma.to_string(), input: None, noise }
        }
        Preconditioning::Vp { beta_d, beta_min, m, .. } => {
            let total = builder.plus(&square, 1.0);
            let root = builder.node("Sqrt", &[&total], &[]);
            let log = builder.node("Log", &[&total], &[]);
            let log = builder.scaled(&log, 2.0 * beta_d);
            let under = builder.plus(&log, beta_min * beta_min);
            let time = builder.node("Sqrt", &[&under], &[]);
            let time = builder.plus(&time, -beta_min);
            Factors {
                skip: None,
                out: negative,
                input: Some(builder.node("Reciprocal", &[&root], &[])),
                noise: builder.scaled(&time, (m - 1.0) / beta_d),
            }
        }
        Preconditioning::Flow { time_scale, data_at_one } => {
            let more = builder.plus(sigma, 1.0);
            let rest = builder.node("Reciprocal", &[&more], &[]);
            let t = builder.node("Mul", &[sigma, &rest], &[]);
            let (time, sign) = if *data_at_one { (&rest, 1.0) } else { (&t, -1.0) };
            Factors {
                skip: Some(rest.clone()),
                out: builder.scaled(&t, sign),
                noise: builder.scaled(time, *time_scale),
                input: Some(rest),
            }
        }
        Preconditioning::Iddpm { .. } | Preconditioning::Ddpm { .. } => return None,
    })
}
