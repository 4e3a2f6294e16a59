//! The official KDM checkpoints: `torch.save` of a whole module, whose settings are read off the
//! file itself; or a state dict of one, whose settings are the paper's. And the discriminators
//! saved beside them.

use std::path::Path;

use burn::tensor::Device;
use kdm_data::{Error, Result};
use kdm_koopman::student::StudentFile;
use kdm_koopman::{
    EigenvalueTarget, LossConfig, NetworkConfig, OperatorConfig, OperatorKind, Reconstruction,
    StudentConfig,
};
use kdm_nn::state::load_state;
use kdm_nn::unet::song::{DecoderKind, Embedding, EncoderKind};
use kdm_nn::{DiscriminatorConfig, InitSeed, SongUNetConfig, StateDict, UNetConfig};
use serde_json::json;

use crate::edm::check_size;
use crate::imported::{Imported, Model, counted};
use crate::infer;
use crate::pickle::{Id, Value};
use crate::torch::TorchFile;

/// The three networks' names in the file and here, and of their projections.
const NETWORKS: [(&str, &str, &str); 3] = [
    ("x0_observables_encoder", "clean_encoder", "projection.clean"),
    ("xT_observables_encoder", "noise_encoder", "projection.noise"),
    ("x0_observables_decoder", "decoder", "projection.decoder"),
];

/// The kind that discriminators' model files name.
pub const DISCRIMINATOR: &str = "discriminator";

const MEND: &str =
    "give an official KDM checkpoint: a whole module written by torch.save, or its state dict";

/// Whether the names are those of a student.
pub fn is_student(state: &StateDict) -> bool {
    NETWORKS
        .iter()
        .all(|(theirs, ..)| state.keys().any(|name| name.starts_with(&format!("{theirs}."))))
}

/// Whether a module is a student.
pub fn recognises(torch: &TorchFile, id: Id) -> bool {
    NETWORKS.iter().all(|(theirs, ..)| torch.child(id, theirs).is_some())
}

/// Reads a module.
///
/// # Errors
/// When a tensor is damaged, or the parts don't fit each other.
pub fn import(torch: &TorchFile, id: Id) -> Result<Imported> {
    let mut state = StateDict::new();
    let mut ignored = Vec::new();
    for (name, child) in torch.children(id) {
        if name == "lpips" {
            ignored.push(
                "`lpips`: VGG weights for the training's loss; bring them in from their own files"
                    .to_string(),
            );
            continue;
        }
        state.extend(
            torch.state(child)?.into_iter().map(|(part, data)| (format!("{name}.{part}"), data)),
        );
    }
    check_activations(torch, id)?;
    let settings = Settings { torch, id };
    let class = torch.module(id).map_or("", |(class, _)| class).to_string();
    student(
        torch.path(),
        state,
        Some(&settings),
        &format!("an official KDM checkpoint, class `{class}`"),
        ignored,
    )
}

/// Reads a state dict.
///
/// # Errors
/// As [`import`].
pub fn from_state(path: &Path, state: StateDict) -> Result<Imported> {
    let (lpips, state): (StateDict, StateDict) =
        state.into_iter().partition(|(name, _)| name.starts_with("lpips."));
    let mut ignored = Vec::new();
    if !lpips.is_empty() {
        ignored.push(
            "`lpips`: VGG weights for the training's loss; bring them in from their own files"
                .to_string(),
        );
    }
    ignored.push("a state dict has no settings: the loss is taken to be the paper's".to_string());
    student(path, state, None, "a state dict of an official KDM checkpoint", ignored)
}

/// The plain attributes of the student's module.
struct Settings<'a> {
    torch: &'a TorchFile,
    id: Id,
}

impl Settings<'_> {
    fn number(&self, name: &str) -> Option<f64> {
        self.torch.number(self.id, name)
    }
    fn text(&self, name: &str) -> Option<&str> {
        self.torch.text(self.id, name)
    }
}

/// One of the three networks.
enum Part {
    Perceptron { inputs: usize, outputs: usize, hidden: usize, layers: usize },
    Unet(SongUNetConfig),
}

fn student(
    path: &Path,
    mut theirs: StateDict,
    settings: Option<&Settings>,
    what: &str,
    mut ignored: Vec<String>,
) -> Result<Imported> {
    let invalid = |field: &str, problem: String| Error::invalid(path, field, problem, MEND);
    let mut state = StateDict::new();
    let mut parts = Vec::new();
    let mut projected = Vec::new();
    for (name, ours, projection) in NETWORKS {
        let mut network = taken(&mut theirs, &format!("{name}."));
        let linear = taken(&mut network, "linear.");
        if !linear.is_empty() {
            projected.push(linear.get("weight").map(|w| w.shape().to_vec()).unwrap_or_default());
            state.extend(
                linear.into_iter().map(|(part, data)| (format!("{projection}.{part}"), data)),
            );
            network = taken(&mut network, "main_module.");
        }
        if infer::is_unet(&network) {
            let config = match infer::unet(&network).map_err(|e| invalid(name, e))? {
                UNetConfig::SongUnet(config) => config,
                _ => return Err(invalid(name, "is a U-Net of another kind than DDPM++".into())),
            };
            state.extend(
                infer::without_filters(network)
                    .into_iter()
                    .map(|(part, d)| (format!("{ours}.{part}"), d)),
            );
            parts.push(Part::Unet(config));
        } else {
            parts.push(perceptron(&network).map_err(|e| invalid(name, e))?);
            let layer = |(part, data): (String, _)| {
                // main.0, main.2, ... here are layers 0, 1, ...
                let mut levels = part.splitn(3, '.').skip(1);
                let place: usize = levels.next()?.parse().ok()?;
                Some((format!("{ours}.layers.{}.{}", place / 2, levels.next()?), data))
            };
            state.extend(network.into_iter().filter_map(layer));
        }
    }

    let operator = taken(&mut theirs, "koopman_operator.");
    let (kind, n) = match (operator.get("weight"), operator.get("nu_log")) {
        (Some(weight), _) => (OperatorKind::Dense, weight.shape().first().copied().unwrap_or(0)),
        (None, Some(nu)) => (OperatorKind::Factorized, nu.shape().num_elements()),
        (None, None) => {
            return Err(invalid(
                "koopman_operator",
                "is neither a matrix nor a factorized one".into(),
            ));
        }
    };
    for (name, data) in operator {
        let name = match kind {
            OperatorKind::Dense => format!("operator.linear.{name}"),
            OperatorKind::Factorized => format!("operator.{}", name.to_lowercase()),
        };
        state.insert(name, data);
    }
    let control = taken(&mut theirs, "koopman_control.");
    let with_control = !control.is_empty();
    state.extend(control.into_iter().map(|(name, data)| (format!("control.{name}"), data)));
    ignored.extend(theirs.keys().map(|name| format!("`{name}`: no part of the student")));

    let [clean, noise, decoder] = &parts[..] else { unreachable!("three networks were read") };
    let (shape, label_dim, latent, network, described) = together(clean, noise, decoder, settings)
        .map_err(|(field, problem)| invalid(field, problem))?;
    let projection = match &projected[..] {
        [] => None,
        [_, _, _] => Some(n),
        _ => {
            return Err(invalid(
                "linear",
                "stands in some of the three networks and not in others".into(),
            ));
        }
    };
    let noise_std = settings.and_then(|s| s.number("initial_noise_factor"));
    let noise_std = noise_std.unwrap_or(if shape.len() == 1 { 1.0 } else { 80.0 });
    let (loss, notes) = loss_of(settings, shape.len() == 1);
    ignored.extend(notes);
    let file = StudentFile {
        student: StudentConfig {
            method: kdm_koopman::Method::Koopman,
            shape,
            label_dim,
            noise_std,
            latent,
            network,
            operator: OperatorConfig { kind, projection, control: with_control },
        },
        loss,
        target_seed: 0,
        origin: json!({
            "imported_from": path.file_name().unwrap_or_default().to_string_lossy(),
            "found": what,
        }),
    };
    let problems = file.student.problems().into_iter().chain(file.loss.problems());
    if let Some((field, problem)) = problems.into_iter().next() {
        return Err(invalid(&field, problem));
    }
    // The network is made only if it is of the size that the file's weights are.
    let told = counted(&state);
    let numbers: usize = state.values().map(|t| t.shape().num_elements()).sum();
    if let Ok(unets) = file.student.unets() {
        check_size(path, &UNetConfig::SongUnet(unets.encoder), numbers)?;
    }
    if n.saturating_mul(n) > numbers || latent.saturating_mul(projection.unwrap_or(0)) > numbers {
        return Err(invalid(
            "koopman_operator",
            format!("tells of {n} x {n} numbers, and the file has {numbers}"),
        ));
    }
    let student = load_state(file.student.init(0, &Device::flex()), &state)
        .map_err(|e| invalid("tensors", e.0))?;
    let on = projection.map_or(String::new(), |p| format!(", on a projection to {p} numbers"));
    let with = if with_control { ", with control" } else { "" };
    let operator = match kind {
        OperatorKind::Dense => "dense, with bias",
        OperatorKind::Factorized => "factorized",
    };
    let found = vec![
        what.to_string(),
        described,
        format!("operator: {operator}, {n} x {n}{on}{with}"),
        told,
        format!(
            "noise of standard deviation {noise_std}; latent noise in training: {}; loss: {}",
            file.loss.latent_noise,
            json!(file.loss.reconstruction)
        ),
    ];
    Ok(Imported { model: Model::Student { file, student }, found, ignored })
}

/// Removes the part under `prefix` and gives it without the prefix.
fn taken(state: &mut StateDict, prefix: &str) -> StateDict {
    let (part, rest): (StateDict, StateDict) =
        std::mem::take(state).into_iter().partition(|(name, _)| name.starts_with(prefix));
    *state = rest;
    part.into_iter().map(|(name, data)| (name[prefix.len()..].to_string(), data)).collect()
}

/// Sizes of `main.0`, `main.2`, ...
fn perceptron(state: &StateDict) -> std::result::Result<Part, String> {
    let shape = |i: usize| state.get(&format!("main.{}.weight", 2 * i)).map(|w| w.shape().to_vec());
    let shapes: Vec<Vec<usize>> = (0..).map_while(shape).collect();
    let (Some(first), Some(last)) = (shapes.first(), shapes.last()) else {
        return Err(
            "is neither a U-Net nor a perceptron, which is what students are made of".into()
        );
    };
    if shapes.iter().any(|s| s.len() != 2 || s.contains(&0)) {
        return Err("has layers of the wrong rank".into());
    }
    if shapes[..shapes.len() - 1].iter().any(|s| s[0] != first[0])
        || shapes.windows(2).any(|w| w[0][0] != w[1][1])
    {
        return Err("has layers of different widths".into());
    }
    Ok(Part::Perceptron {
        inputs: first[1],
        outputs: last[0],
        hidden: first[0],
        layers: shapes.len(),
    })
}

type Together = (Vec<usize>, usize, usize, NetworkConfig, String);

/// Shape of samples, classes, numbers of the latent, networks, and a description, of three networks
/// that fit each other.
fn together(
    clean: &Part,
    noise: &Part,
    decoder: &Part,
    settings: Option<&Settings>,
) -> std::result::Result<Together, (&'static str, String)> {
    let [(clean_name, ..), (noise_name, ..), (decoder_name, ..)] = NETWORKS;
    let misfit = |name| (name, "has sizes that don't fit the other parts".to_string());
    match (clean, noise, decoder) {
        (
            Part::Perceptron { inputs, outputs: latent, hidden, layers },
            Part::Perceptron { inputs: i2, outputs: l2, hidden: h2, layers: n2 },
            Part::Perceptron { inputs: i3, outputs: dim, hidden: h3, layers: n3 },
        ) => {
            // The input is joined with the time.
            if *inputs != dim + 1 {
                return Err(misfit(clean_name));
            }
            if (i2, l2, h2, n2) != (inputs, latent, hidden, layers) {
                return Err(misfit(noise_name));
            }
            if *i3 != latent + 1 || h3 != hidden || n3 != layers {
                return Err(misfit(decoder_name));
            }
            let described = format!(
                "encoders and decoder: perceptrons of {layers} layers, width {hidden}; points of \
                 {dim} numbers"
            );
            let network = NetworkConfig::Mlp { hidden: *hidden, layers: *layers };
            Ok((vec![*dim], 0, *latent, network, described))
        }
        (Part::Unet(clean), Part::Unet(noise), Part::Unet(decoder)) => {
            let standard = SongUNetConfig {
                label_dim: clean.label_dim,
                ..SongUNetConfig::ddpmpp(
                    clean.resolution,
                    clean.in_channels,
                    clean.out_channels,
                    clean.model_channels,
                    &clean.channel_mult,
                    clean.num_blocks,
                    &clean.attn_resolutions,
                )
            };
            if clean.embedding_type != Embedding::Positional
                || clean.encoder_type != EncoderKind::Standard
                || clean.decoder_type != DecoderKind::Standard
                || *clean != standard
            {
                return Err((clean_name, "is a U-Net of another kind than DDPM++".into()));
            }
            if noise != clean {
                return Err(misfit(noise_name));
            }
            let swapped = SongUNetConfig {
                in_channels: clean.out_channels,
                out_channels: clean.in_channels,
                ..standard
            };
            if *decoder != swapped {
                return Err(misfit(decoder_name));
            }
            let side = clean.resolution;
            let described = format!(
                "encoders and decoder: DDPM++ U-Nets of width {} x {:?}, {} blocks, attention at {:?}; images {}x{side}x{side}, \
                 {} latent channels, {} classes",
                clean.model_channels,
                clean.channel_mult,
                clean.num_blocks,
                clean.attn_resolutions,
                clean.in_channels,
                clean.out_channels,
                clean.label_dim
            );
            let network = NetworkConfig::Unet {
                model_channels: clean.model_channels,
                channel_mult: clean.channel_mult.clone(),
                num_blocks: clean.num_blocks,
                attn_resolutions: clean.attn_resolutions.clone(),
                dropout: settings.map_or(0.0, dropout),
            };
            let latent = clean.out_channels.saturating_mul(side * side);
            Ok((vec![clean.in_channels, side, side], clean.label_dim, latent, network, described))
        }
        _ => Err((noise_name, "is of another kind than the clean encoder".into())),
    }
}

/// The dropout of the clean encoder's blocks.
fn dropout(settings: &Settings) -> f64 {
    let torch = settings.torch;
    let encoder = torch.child(settings.id, NETWORKS[0].0);
    let unet = encoder.and_then(|id| torch.child(id, "main_module").or(Some(id)));
    let blocks = unet
        .and_then(|id| torch.child(id, "enc"))
        .map(|enc| torch.children(enc))
        .unwrap_or_default();
    blocks.iter().find_map(|(_, block)| torch.number(*block, "dropout")).unwrap_or(0.0)
}

/// The loss that the settings tell of, and notes on what can't be told.
fn loss_of(settings: Option<&Settings>, points: bool) -> (LossConfig, Vec<String>) {
    let mut notes = Vec::new();
    let weight =
        |name: &str, default: f64| settings.and_then(|s| s.number(name)).unwrap_or(default);
    let rec = settings.and_then(|s| s.text("rec_loss_type")).unwrap_or("L2");
    let reconstruction = match rec.to_lowercase().as_str() {
        "l2" | "mse" => Reconstruction::L2,
        "lpips" => Reconstruction::Lpips,
        "both" | "l2+lpips" | "lpips+l2" | "l2_lpips" => Reconstruction::L2Lpips,
        other if other.contains("huber") || other.contains("hober") => Reconstruction::Huber,
        _ => {
            notes.push(format!(
                "`rec_loss_type` = {rec}: not known; distances are told as squared errors"
            ));
            Reconstruction::L2
        }
    };
    let eigen = settings.and_then(|s| s.text("koopman_loss_type")).unwrap_or("NoLoss");
    let eigenvalues = match eigen.to_lowercase().as_str() {
        "noloss" | "none" => EigenvalueTarget::None,
        "onthecircle" => EigenvalueTarget::One,
        "uniform" => EigenvalueTarget::Uniform,
        "gradual" => EigenvalueTarget::Gradual,
        _ => {
            notes.push(format!("`koopman_loss_type` = {eigen}: not known; left out of the loss"));
            EigenvalueTarget::None
        }
    };
    if matches!(eigenvalues, EigenvalueTarget::Uniform | EigenvalueTarget::Gradual) {
        notes.push(
            "`uniform_vec`: the eigenvalues' targets; others are drawn from the same distribution"
                .into(),
        );
    }
    let loss = LossConfig {
        reconstruction,
        latent_weight: weight("w_latent", 1.0),
        rec_weight: weight("w_rec", 1.0),
        // The checkerboard's model has no push term, and nothing in its file says so.
        push_weight: if points { 0.0 } else { weight("w_push", 1.0) },
        adversarial_weight: if points { 0.0 } else { weight("advers_w", 1.0) },
        lpips_weights: None,
        features: None,
        eigenvalues,
        latent_noise: weight("noisy_latent", 0.0),
    };
    (loss, notes)
}

/// Perceptrons end where they should: activations stand after every layer, but not after the
/// decoder's last.
fn check_activations(torch: &TorchFile, id: Id) -> Result<()> {
    for (name, ..) in NETWORKS {
        let Some(main) = torch.child(id, name).and_then(|part| torch.child(part, "main")) else {
            continue;
        };
        let mut linear = false;
        for (key, module) in torch.children(main) {
            let class = torch.module(module).map_or("no module", |(class, _)| class);
            let fits = match class {
                "Linear" => !linear,
                "Swish" | "SiLU" => linear,
                _ => false,
            };
            if !fits {
                let problem =
                    format!("has `{class}` at place {key}, where linear layers and SiLU alternate");
                return Err(Error::invalid(torch.path(), name, problem, MEND));
            }
            linear = class == "Linear";
        }
        if linear != (name == NETWORKS[2].0) {
            return Err(Error::invalid(
                torch.path(),
                name,
                "ends in another activation than the paper's",
                MEND,
            ));
        }
    }
    Ok(())
}

/// The convolutions and norms of the official discriminator, by their place, and here.
const DISCRIMINATOR_PARTS: [(&str, &str); 6] = [
    ("model.0", "conv0"),
    ("model.2", "conv1"),
    ("model.3", "norm1"),
    ("model.5", "conv2"),
    ("model.6", "norm2"),
    ("model.8", "conv3"),
];

/// The official name of a tensor of this student.
pub(crate) fn original_name(ours: &str, student: &StudentConfig) -> String {
    let inner = if student.operator.projection.is_some() { "main_module." } else { "" };
    let points = student.network.perceptron().is_some();
    for (theirs, name, projection) in NETWORKS {
        if let Some(rest) = ours.strip_prefix(&format!("{name}.")) {
            // layers.0, layers.1, ... stand at main.0, main.2, ..., activations between them.
            let place = rest.strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
            let place = place.and_then(|(i, part)| Some((i.parse::<usize>().ok()?, part)));
            return match place.filter(|_| points) {
                Some((i, part)) => format!("{theirs}.{inner}main.{}.{part}", 2 * i),
                None => format!("{theirs}.{inner}{rest}"),
            };
        }
        if let Some(rest) = ours.strip_prefix(&format!("{projection}.")) {
            return format!("{theirs}.linear.{rest}");
        }
    }
    if let Some(rest) = ours.strip_prefix("operator.") {
        let rest = rest.strip_prefix("linear.").unwrap_or(rest);
        let rest = match rest {
            "p_re" | "p_im" | "p_inv_re" | "p_inv_im" => rest.replacen('p', "P", 1),
            other => other.to_string(),
        };
        return format!("koopman_operator.{rest}");
    }
    ours.replacen("control.", "koopman_control.", 1)
}

/// The official name of a discriminator's tensor.
pub(crate) fn original_discriminator_name(ours: &str) -> String {
    let place = DISCRIMINATOR_PARTS.iter().find_map(|(theirs, name)| {
        Some(format!("{theirs}.{}", ours.strip_prefix(name)?.strip_prefix('.')?))
    });
    place.unwrap_or_else(|| ours.to_string())
}

/// Whether the names are those of a discriminator.
pub fn is_discriminator(state: &StateDict) -> bool {
    state.get("model.8.weight").is_some_and(|w| w.shape()[..] == [1, 256, 4, 4])
        && state.contains_key("model.6.weight")
}

/// Reads a discriminator's state.
///
/// # Errors
/// When a tensor is missing or of another shape.
pub fn discriminator(path: &Path, theirs: StateDict) -> Result<Imported> {
    let mut state = StateDict::new();
    let mut ignored = Vec::new();
    for (name, data) in theirs {
        let place = DISCRIMINATOR_PARTS.iter().find_map(|(theirs, ours)| {
            let part = name.strip_prefix(theirs)?.strip_prefix('.')?;
            matches!(part, "weight" | "bias").then(|| format!("{ours}.{part}"))
        });
        match place {
            Some(ours) => {
                state.insert(ours, data);
            }
            None => ignored.push(format!(
                "`{name}`: the network is only run in training, on its batch's statistics"
            )),
        }
    }
    let in_channels =
        state.get("conv0.weight").and_then(|w| w.shape().get(1).copied()).unwrap_or(3);
    let config = DiscriminatorConfig { in_channels };
    load_state(config.init(&mut InitSeed::new(0), &Device::flex()), &state).map_err(|e| {
        Error::invalid(path, "tensors", e.0, "give a discriminator of the official KDM code")
    })?;
    let found =
        vec![format!("a discriminator for images of {in_channels} channels"), counted(&state)];
    Ok(Imported {
        model: Model::Weights { kind: DISCRIMINATOR, config: json!(config), state },
        found,
        ignored,
    })
}

/// Whether the value is a dict of tensors.
pub fn is_dict(torch: &TorchFile, id: Id) -> bool {
    matches!(torch.pickle.get(id), Value::Dict(_))
        && torch.pickle.entries(id).iter().any(|(_, id)| torch.is_tensor(*id))
}
