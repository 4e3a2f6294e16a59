//! Students as ONNX files, which onnxruntime, onnxruntime-web and others draw with: one graph from
//! noise and labels to images, or encoder, operator and decoder as a graph each; and teachers'
//! denoisers.
//!
//! Time embeddings and all else that never changes are computed here; a factorized operator is one
//! matrix. The number of rows is free. Operators are those of opset 17 and before.

mod denoiser;
mod factors;
mod graph;
mod layers;
mod network;
mod operator;
mod proto;
mod unet;

use kdm_data::{Error, Result, atomic};
use kdm_koopman::student::{CLEAN_TIME, Koopman, NOISE_TIME};
use kdm_koopman::{Student, StudentConfig, StudentFile};
use prost::Message;
use serde_json::json;

use std::path::{Path, PathBuf};

use graph::{Builder, Value};

pub use denoiser::export_denoiser;

/// The version of ONNX's set of operators.
const OPSET: i64 = 17;
/// The version of ONNX's format of that time.
const IR_VERSION: i64 = 8;
/// The largest message that protobuf has.
const MOST_BYTES: usize = (1 << 31) - 1;

/// The element type that weights are stored in. Results are computed in f32 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// As they are.
    #[default]
    F32,
    /// Half the file, and 11 bits of precision.
    F16,
}

/// How a student is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnnxOptions {
    /// Encoder, operator and decoder as a file each, in a folder, rather than all in one.
    pub parts: bool,
    /// How weights are stored.
    pub precision: Precision,
    /// Names of the classes, in their order; empty where they have none.
    pub class_names: Vec<String>,
}

/// Writes a student as ONNX to the file `out`, or in parts to the folder `out`. `told`: what its
/// model file, which lies at `path`, says. Gives the files' paths.
///
/// Inputs and outputs, with a free number of rows: `noise` is x_T at its full scale, `[batch, C, H,
/// W]` or `[batch, D]`; `labels`, of conditional students, one-hot rows `[batch, classes]`, zeros
/// for no class; `images` in [-1, 1], of the noise's shape; `latent` z_T and `pushed` C z_T + B y
/// between the parts, `[batch, n]`. The metadata has the student's configuration (`kdm`, JSON),
/// `class_names` (JSON), `noise_std`, `label_dim` and `value_range`.
///
/// # Errors
/// When the student has no parts, is too large for the format (2 GiB), or a file can't be written.
pub fn export_onnx(
    told: &StudentFile,
    student: &Student,
    path: &Path,
    out: &Path,
    options: &OnnxOptions,
) -> Result<Vec<PathBuf>> {
    let graphs = match (student, options.parts) {
        (Student::Koopman(student), true) => parts(student, &told.student, options.precision),
        (Student::Direct(_), true) => {
            let problem = "is a direct student, which has no encoder, operator and decoder";
            return Err(Error::invalid(path, "method", problem, "leave --parts out"));
        }
        _ => vec![("student", whole(student, &told.student, options.precision))],
    };
    let mut written = Vec::new();
    if options.parts {
        atomic::create_folder(out)?;
    }
    for (name, graph) in graphs {
        let place =
            if options.parts { out.join(format!("{name}.onnx")) } else { out.to_path_buf() };
        write(&message(graph, told, &options.class_names), path, &place)?;
        written.push(place);
    }
    Ok(written)
}

/// Writes the model of the file at `path`.
fn write(model: &proto::Model, path: &Path, out: &Path) -> Result<()> {
    let bytes = model.encode_to_vec();
    if bytes.len() > MOST_BYTES {
        let problem = format!("takes {} bytes as ONNX, whose files hold 2 GiB", bytes.len());
        return Err(Error::invalid(path, "size", problem, "write it with --dtype f16"));
    }
    atomic::write(out, &bytes)
}

fn entry(key: &str, value: impl ToString) -> proto::Entry {
    proto::Entry { key: key.to_string(), value: value.to_string() }
}

fn message(graph: proto::Graph, told: &StudentFile, class_names: &[String]) -> proto::Model {
    let mut metadata = vec![
        entry("kdm", json!(told)),
        entry("noise_std", told.student.noise_std),
        entry("label_dim", told.student.label_dim),
    ];
    if told.student.shape.len() == 3 {
        metadata.push(entry("value_range", "[-1, 1]"));
    }
    model_of(graph, "A one-step generator: noise to images in one pass.", metadata, class_names)
}

fn model_of(
    graph: proto::Graph,
    text: &str,
    mut metadata_props: Vec<proto::Entry>,
    class_names: &[String],
) -> proto::Model {
    if !class_names.is_empty() {
        metadata_props.push(entry("class_names", json!(class_names)));
    }
    proto::Model {
        ir_version: IR_VERSION,
        producer_name: "kdm".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: text.into(),
        graph: Some(graph),
        opset_import: vec![proto::OperatorSet { domain: String::new(), version: OPSET }],
        metadata_props,
    }
}

const NOISE: &str = "x_T, whose standard deviation is the metadata's noise_std";
const LABELS: &str = "one-hot rows; zeros for no class";
const IMAGES: &str = "samples x_0; images in [-1, 1]";
const LATENT: &str = "z_T, the latent of the noise";
const PUSHED: &str = "C z_T + B y, the latent of the image";

/// The input of labels; none for an unconditional student.
fn labels(builder: &mut Builder, config: &StudentConfig) -> Option<Value> {
    (config.label_dim > 0).then(|| builder.input("labels", &[config.label_dim], LABELS))
}

/// The noise as flat rows, divided by what networks take it divided by.
fn noise(builder: &mut Builder, config: &StudentConfig, scale: f64) -> Value {
    let noise = builder.input("noise", &config.shape, NOISE);
    let flat = if config.shape.len() > 1 { builder.reshape(&noise, &[0, -1]) } else { noise };
    builder.scaled(&flat, 1.0 / scale)
}

fn images(builder: &mut Builder, config: &StudentConfig, flat: Value) {
    let shape: Vec<i64> = [0].into_iter().chain(config.shape.iter().map(|n| *n as i64)).collect();
    let shaped = if config.shape.len() > 1 { builder.reshape(&flat, &shape) } else { flat };
    builder.output(shaped, "images", &config.shape, IMAGES);
}

fn whole(student: &Student, config: &StudentConfig, precision: Precision) -> proto::Graph {
    let mut builder = Builder::new("student", precision);
    let drawn = match student {
        Student::Direct(direct) => {
            let x = noise(&mut builder, config, direct.noise_scale);
            let y = labels(&mut builder, config);
            builder.network(&x, "network", &direct.network, NOISE_TIME, y.as_deref())
        }
        Student::Koopman(student) => {
            let x = noise(&mut builder, config, student.noise_scale);
            let y = labels(&mut builder, config);
            let z = encode(&mut builder, student, &x, y.as_deref());
            let pushed = push(&mut builder, student, &z, y.as_deref());
            decode(&mut builder, student, &pushed, y.as_deref())
        }
    };
    images(&mut builder, config, drawn);
    builder.finish()
}

fn parts(
    student: &Koopman,
    config: &StudentConfig,
    precision: Precision,
) -> Vec<(&'static str, proto::Graph)> {
    let n = config.operator_dim();
    let mut encoder = Builder::new("encoder", precision);
    let x = noise(&mut encoder, config, student.noise_scale);
    let y = labels(&mut encoder, config);
    let z = encode(&mut encoder, student, &x, y.as_deref());
    encoder.output(z, "latent", &[n], LATENT);

    let mut operator = Builder::new("operator", precision);
    let z = operator.input("latent", &[n], LATENT);
    let y = student.control.as_ref().and_then(|_| labels(&mut operator, config));
    let pushed = push(&mut operator, student, &z, y.as_deref());
    operator.output(pushed, "pushed", &[n], PUSHED);

    let mut decoder = Builder::new("decoder", precision);
    let z = decoder.input("pushed", &[n], PUSHED);
    let y = labels(&mut decoder, config);
    let drawn = decode(&mut decoder, student, &z, y.as_deref());
    images(&mut decoder, config, drawn);
    let graphs = [("encoder", encoder), ("operator", operator), ("decoder", decoder)];
    graphs.map(|(name, builder)| (name, builder.finish())).into()
}

/// z_T of flat rows.
fn encode(builder: &mut Builder, student: &Koopman, x: &str, labels: Option<&str>) -> Value {
    let z = builder.network(x, "noise_encoder", &student.noise_encoder, NOISE_TIME, labels);
    match &student.projection {
        Some(projection) => builder.linear_of(&z, "projection.noise", &projection.noise),
        None => z,
    }
}

/// C z_T + B y.
fn push(builder: &mut Builder, student: &Koopman, z: &str, labels: Option<&str>) -> Value {
    let pushed = builder.operator(z, &student.operator);
    match (&student.control, labels) {
        (Some(control), Some(labels)) => {
            let shift = builder.linear_of(labels, "control", control);
            builder.node("Add", &[&pushed, &shift], &[])
        }
        _ => pushed,
    }
}

/// D(z) as flat rows.
fn decode(builder: &mut Builder, student: &Koopman, z: &str, labels: Option<&str>) -> Value {
    let z = match &student.projection {
        Some(projection) => builder.linear_of(z, "projection.decoder", &projection.decoder),
        None => z.to_string(),
    };
    builder.network(&z, "decoder", &student.decoder, CLEAN_TIME, labels)
}
