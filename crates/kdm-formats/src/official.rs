//! The official KDM checkpoints: `torch.save` of a whole module. The settings are read off the file itself.
//!
//! Read here: students made of perceptrons, which is what the official checkerboard model is.

use std::path::Path;

use burn::tensor::{Device, TensorData};
use kdm_core::student::StudentFile;
use kdm_core::{
    EigenvalueTarget, LossConfig, NetworkConfig, OperatorConfig, OperatorKind, Reconstruction, Student, StudentConfig,
};
use kdm_data::{Error, Result};
use kdm_nn::StateDict;
use kdm_nn::state::load_state;
use serde_json::json;

use crate::pickle::{Id, Value};
use crate::torch::TorchFile;

/// A foreign student.
#[derive(Debug)]
pub struct Imported {
    /// What it is.
    pub file: StudentFile,
    /// Its networks.
    pub student: Student,
    /// What was found in the file, a line each.
    pub found: Vec<String>,
    /// What was left out, and why, a line each.
    pub ignored: Vec<String>,
}

/// The three networks' names in the file and here.
const NETWORKS: [(&str, &str); 3] = [
    ("x0_observables_encoder", "clean_encoder"),
    ("xT_observables_encoder", "noise_encoder"),
    ("x0_observables_decoder", "decoder"),
];

const MEND: &str = "give an official KDM checkerboard checkpoint (a whole module written by torch.save)";

/// Reads an official KDM checkpoint.
///
/// # Errors
/// When the file is damaged or refused, or is no student made of perceptrons.
pub fn import(path: &Path) -> Result<Imported> {
    let torch = TorchFile::open(path)?;
    let p = &torch.pickle;
    let invalid = |field: &str, problem: String| Error::invalid(path, field, problem, MEND);
    let class = p.class(p.root).ok_or_else(|| invalid("data.pkl", "holds no module".into()))?.to_string();
    let modules = p.field(p.root, "_modules").ok_or_else(|| invalid(&class, "has no parts".into()))?;
    let part = |name: &str| p.field(modules, name).ok_or_else(|| invalid(name, "is missing".into()));

    let mut state = StateDict::new();
    let mut networks = Vec::new();
    for (theirs, ours) in NETWORKS {
        let network = perceptron(&torch, part(theirs)?, theirs)?;
        for (i, layer) in network.layers.iter().enumerate() {
            state.insert(format!("{ours}.layers.{i}.weight"), layer.weight.clone());
            state.insert(format!("{ours}.layers.{i}.bias"), layer.bias.clone());
        }
        networks.push(network);
    }
    let operator = linear(&torch, part("koopman_operator")?, "koopman_operator")?;
    let n = operator.outputs;
    state.insert("operator.linear.weight".into(), operator.weight.clone());
    state.insert("operator.linear.bias".into(), operator.bias.clone());

    let [clean, noise, decoder] = &networks[..] else { unreachable!("three networks were read") };
    let (dim, layers, hidden) = (decoder.outputs(), clean.layers.len(), clean.layers[0].outputs);
    for (field, ok) in [
        ("x0_observables_encoder", clean.ends_in_silu && clean.outputs() == n && clean.inputs() == dim + 1),
        ("xT_observables_encoder", noise.ends_in_silu && noise.outputs() == n && noise.inputs() == dim + 1),
        ("x0_observables_decoder", !decoder.ends_in_silu && decoder.inputs() == n + 1),
        ("koopman_operator", operator.inputs == n),
    ] {
        if !ok {
            return Err(invalid(field, "has sizes or activations that don't fit the other parts".into()));
        }
    }

    let attribute = |name: &str| p.field(p.root, name);
    let reconstruction = match attribute("rec_loss_type").and_then(|id| p.text(id)) {
        Some("L2") | None => Reconstruction::L2,
        Some(other) => return Err(invalid("rec_loss_type", format!("is `{other}`, and a perceptron's is `L2`"))),
    };
    let latent_noise = attribute("noisy_latent").and_then(|id| p.number(id)).unwrap_or(0.0);
    let file = StudentFile {
        student: StudentConfig {
            shape: vec![dim],
            label_dim: 0,
            noise_std: 1.0,
            latent: n,
            network: NetworkConfig::Mlp { hidden, layers },
            operator: OperatorConfig { kind: OperatorKind::Dense, projection: None, control: false },
        },
        loss: LossConfig {
            reconstruction,
            push_weight: 0.0,
            eigenvalues: EigenvalueTarget::None,
            latent_noise,
            ..LossConfig::default()
        },
        target_seed: 0,
        origin: json!({
            "imported_from": path.file_name().unwrap_or_default().to_string_lossy(),
            "class": class,
        }),
    };
    if let Some((field, problem)) = file.loss.problems().into_iter().next() {
        return Err(invalid(&field, problem));
    }
    let student = load_state(file.student.init(0, &Device::flex()), &state).map_err(|e| invalid("tensors", e.0))?;
    let numbers: usize = state.values().map(|t| t.shape().num_elements()).sum();
    let known: Vec<&str> = NETWORKS.iter().map(|(theirs, _)| *theirs).chain(["koopman_operator"]).collect();
    let ignored = p
        .entries(modules)
        .into_iter()
        .filter(|(name, _)| !known.contains(name))
        .map(|(name, _)| format!("`{name}`: no part of the student"))
        .collect();
    let found = vec![
        format!("an official KDM checkpoint, class `{class}`"),
        format!("encoders and decoder: perceptrons of {layers} layers, width {hidden}; points of {dim} numbers"),
        format!("operator: dense, {n} x {n}, with bias"),
        format!("{} tensors, {numbers} numbers", state.len()),
        format!("latent noise in training: {latent_noise}; noise of standard deviation 1"),
    ];
    Ok(Imported { file, student, found, ignored })
}

struct Layer {
    weight: TensorData,
    bias: TensorData,
    inputs: usize,
    outputs: usize,
}

struct Perceptron {
    layers: Vec<Layer>,
    ends_in_silu: bool,
}

impl Perceptron {
    fn inputs(&self) -> usize {
        self.layers[0].inputs
    }
    fn outputs(&self) -> usize {
        self.layers[self.layers.len() - 1].outputs
    }
}

/// A module whose `main` is a sequence of linear layers with SiLU between.
fn perceptron(torch: &TorchFile, id: Id, name: &str) -> Result<Perceptron> {
    let p = &torch.pickle;
    let class = p.class(id).unwrap_or("no module").to_string();
    let invalid = |problem: String| Error::invalid(torch.path(), name, problem, MEND);
    let sequence = p
        .field(id, "_modules")
        .and_then(|modules| p.field(modules, "main"))
        .and_then(|main| p.field(main, "_modules"))
        .ok_or_else(|| invalid(format!("is a `{class}`, not a perceptron, which is what this program imports")))?;
    let mut layers: Vec<Layer> = Vec::new();
    let mut ends_in_silu = false;
    for (key, module) in p.entries(sequence) {
        let class = p.class(module).unwrap_or_default();
        match class.rsplit('.').next().unwrap_or_default() {
            "Linear" if layers.is_empty() || ends_in_silu => {
                layers.push(linear(torch, module, &format!("{name}.main.{key}"))?);
                ends_in_silu = false;
            }
            "Swish" | "SiLU" if !layers.is_empty() && !ends_in_silu => ends_in_silu = true,
            _ => return Err(invalid(format!("has `{class}` at place {key}, where linear layers and SiLU alternate"))),
        }
    }
    let (Some(first), Some(last)) = (layers.first(), layers.last()) else {
        return Err(invalid("has no layers".into()));
    };
    let inner = &layers[..layers.len() - 1];
    let hidden = if layers.len() > 1 { first.outputs } else { last.outputs };
    let chained = layers.windows(2).all(|w| w[0].outputs == w[1].inputs);
    if !chained || inner.iter().any(|l| l.outputs != hidden) {
        return Err(invalid("has layers of different widths".into()));
    }
    Ok(Perceptron { layers, ends_in_silu })
}

fn linear(torch: &TorchFile, id: Id, name: &str) -> Result<Layer> {
    let p = &torch.pickle;
    let invalid = |problem: &str| Error::invalid(torch.path(), name, problem, MEND);
    let parameters = p.field(id, "_parameters").ok_or_else(|| invalid("is no linear layer"))?;
    let get = |part: &str| {
        let id = p.field(parameters, part).filter(|id| !matches!(p.get(*id), Value::None));
        torch.tensor(id.ok_or_else(|| invalid("lacks a weight or a bias"))?, &format!("{name}.{part}"))
    };
    let (weight, bias) = (get("weight")?, get("bias")?);
    let ([outputs, inputs], [n]) = (&weight.shape[..], &bias.shape[..]) else {
        return Err(invalid("has a weight or a bias of the wrong rank"));
    };
    let (outputs, inputs) = (*outputs, *inputs);
    if outputs != *n || outputs == 0 || inputs == 0 {
        return Err(invalid("has a weight and a bias of different sizes"));
    }
    Ok(Layer {
        weight: TensorData::new(weight.data, weight.shape),
        bias: TensorData::new(bias.data, bias.shape),
        inputs,
        outputs,
    })
}
