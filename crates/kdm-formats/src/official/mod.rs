//! The official KDM checkpoints: `torch.save` of a whole module, whose settings are read off the
//! file itself; or a state dict of one, whose settings are the paper's. And the discriminators
//! saved beside them.

mod discriminator;
mod images;
mod loss;
mod names;
mod points;

use std::path::Path;

use burn::tensor::Device;
use kdm_data::{Error, Result};
use kdm_koopman::Origin;
use kdm_koopman::student_file::StudentFile;
use kdm_koopman::{NetworkConfig, OperatorConfig, OperatorKind, StudentConfig};
use kdm_nn::{Problem, SongUNetConfig, StateDict, UNetConfig};
use serde_json::json;

pub(crate) use self::discriminator::original_discriminator_name;
pub use self::discriminator::{DISCRIMINATOR, discriminator, is_discriminator};
use self::loss::{Settings, loss_of};
use self::names::NETWORKS;
pub(crate) use self::names::original_name;
use self::points::MlpSizes;
use crate::edm::check_size;
use crate::imported::{Imported, Model, counted, with_weights};
use crate::infer;
use crate::pickle::Id;
use crate::torch::TorchFile;

const ACTION: &str =
    "give an official KDM checkpoint: a whole module written by torch.save, or its state dict";

const LPIPS: &str =
    "`lpips`: VGG weights for the training's loss; bring them in from their own files";

/// Whether the names are those of a student.
pub fn is_student(state: &StateDict) -> bool {
    NETWORKS
        .iter()
        .all(|(theirs, ..)| state.keys().any(|name| name.starts_with(&format!("{theirs}."))))
}

/// Reads a module; the student is made on `device`.
///
/// # Errors
/// When a tensor is damaged, or the parts don't fit each other.
pub fn import(torch: &TorchFile, id: Id, device: &Device) -> Result<Imported> {
    let mut state = StateDict::new();
    let mut ignored = Vec::new();
    for (name, child) in torch.children(id) {
        if name == "lpips" {
            ignored.push(LPIPS.to_string());
            continue;
        }
        state.extend(
            torch.state(child)?.into_iter().map(|(part, data)| (format!("{name}.{part}"), data)),
        );
    }
    points::check_activations(torch, id)?;
    let settings = Settings { torch, id };
    let class = torch.module(id).map_or("", |(class, _)| class);
    let what = format!("an official KDM checkpoint, class `{class}`");
    student(torch.path(), state, Some(&settings), &what, ignored, device)
}

/// Reads a state dict; the student is made on `device`.
///
/// # Errors
/// As [`import`].
pub fn from_state(path: &Path, state: StateDict, device: &Device) -> Result<Imported> {
    let (lpips, state): (StateDict, StateDict) =
        state.into_iter().partition(|(name, _)| name.starts_with("lpips."));
    let mut ignored = Vec::new();
    if !lpips.is_empty() {
        ignored.push(LPIPS.to_string());
    }
    ignored.push("a state dict has no settings: the loss is taken to be the paper's".to_string());
    let what = "a state dict of an official KDM checkpoint";
    student(path, state, None, what, ignored, device)
}

/// What is wrong with a part of a checkpoint.
#[derive(Clone, Debug, thiserror::Error)]
enum Misfit {
    #[error("is neither a U-Net nor an MLP, which is what students are made of")]
    NoNetwork,
    #[error("has layers of the wrong rank")]
    Rank,
    #[error("has layers of different widths")]
    Widths,
    #[error("is a U-Net of another kind than DDPM++")]
    UNetKind,
    #[error("has sizes that don't fit the other parts")]
    Sizes,
    #[error("is of another kind than the clean encoder")]
    Kinds,
    #[error("stands in some of the three networks and not in others")]
    Projection,
    #[error("is neither a matrix nor a factorized one")]
    NoOperator,
    #[error("has {dim} x {dim} numbers, and the file has {numbers}")]
    Operator { dim: usize, numbers: usize },
    #[error(transparent)]
    Unknown(#[from] infer::InferError),
}

impl Misfit {
    /// The problem of the part of this name.
    fn of(self, part: &str) -> Problem {
        Problem::new(part, self.to_string())
    }
}

/// One of the three networks.
enum Part {
    Mlp(MlpSizes),
    Unet(SongUNetConfig),
}

/// Three networks that fit each other.
struct Fitted {
    /// Shape of samples.
    shape: Vec<usize>,
    /// Classes.
    label_dim: usize,
    /// The latent dimension.
    latent: usize,
    network: NetworkConfig,
    /// A line for a person.
    described: String,
}

/// The three networks of a checkpoint.
struct Networks {
    parts: [Part; 3],
    /// Whether they have projections.
    projected: bool,
}

/// Takes the three networks out of `theirs`; their tensors go to `state` under the names here.
fn networks(
    theirs: &mut StateDict,
    state: &mut StateDict,
) -> std::result::Result<Networks, Problem> {
    let mut projections = 0;
    let mut one = |(name, ours, projection)| -> std::result::Result<Part, Problem> {
        let mut network = taken(theirs, &format!("{name}."));
        let linear = taken(&mut network, "linear.");
        if !linear.is_empty() {
            projections += 1;
            insert(state, projection, linear);
            network = taken(&mut network, "main_module.");
        }
        let read = if infer::is_unet(&network) { unet(&network) } else { mlp(&network) };
        let part = read.map_err(|misfit| misfit.of(name))?;
        let tensors = match part {
            Part::Unet(_) => infer::without_filters(network),
            Part::Mlp(_) => network.into_iter().filter_map(names::layer).collect(),
        };
        insert(state, ours, tensors);
        Ok(part)
    };
    let parts = [one(NETWORKS[0])?, one(NETWORKS[1])?, one(NETWORKS[2])?];
    match projections {
        0 | 3 => Ok(Networks { parts, projected: projections == 3 }),
        _ => Err(Misfit::Projection.of("linear")),
    }
}

fn unet(network: &StateDict) -> std::result::Result<Part, Misfit> {
    match infer::unet(network)? {
        UNetConfig::SongUnet(config) => Ok(Part::Unet(config)),
        _ => Err(Misfit::UNetKind),
    }
}

fn mlp(network: &StateDict) -> std::result::Result<Part, Misfit> {
    points::mlp(network).map(Part::Mlp)
}

/// Takes the operator out of `theirs`; its tensors go to `state` under the names here. Gives its
/// kind and its dimension.
fn operator(
    theirs: &mut StateDict,
    state: &mut StateDict,
) -> std::result::Result<(OperatorKind, usize), Problem> {
    let operator = taken(theirs, "koopman_operator.");
    let (kind, dim) = match (operator.get("weight"), operator.get("nu_log")) {
        (Some(weight), _) => (OperatorKind::Dense, weight.shape().first().copied().unwrap_or(0)),
        (None, Some(nu)) => (OperatorKind::Factorized, nu.shape().num_elements()),
        (None, None) => return Err(Misfit::NoOperator.of("koopman_operator")),
    };
    let prefix = if kind == OperatorKind::Dense { "operator.linear" } else { "operator" };
    let factorized = kind == OperatorKind::Factorized;
    let ours = |name: String| if factorized { name.to_lowercase() } else { name };
    insert(state, prefix, operator.into_iter().map(|(name, data)| (ours(name), data)).collect());
    Ok((kind, dim))
}

fn student(
    path: &Path,
    mut theirs: StateDict,
    settings: Option<&Settings>,
    what: &str,
    mut ignored: Vec<String>,
    device: &Device,
) -> Result<Imported> {
    let invalid = |p: Problem| Error::invalid(path, p.field, p.problem, ACTION);
    let mut state = StateDict::new();
    let Networks { parts, projected } = networks(&mut theirs, &mut state).map_err(invalid)?;
    let (kind, dim) = operator(&mut theirs, &mut state).map_err(invalid)?;
    let control = taken(&mut theirs, "koopman_control.");
    let with_control = !control.is_empty();
    insert(&mut state, "control", control);
    ignored.extend(theirs.keys().map(|name| format!("`{name}`: no part of the student")));

    let fitted = match &parts {
        [Part::Mlp(clean), Part::Mlp(noise), Part::Mlp(decoder)] => {
            points::fitted(*clean, *noise, *decoder)
        }
        [Part::Unet(clean), Part::Unet(noise), Part::Unet(decoder)] => {
            images::fitted(clean, noise, decoder, settings)
        }
        _ => Err(Misfit::Kinds.of(NETWORKS[1].0)),
    };
    let Fitted { shape, label_dim, latent, network, described } = fitted.map_err(invalid)?;
    let is_points = shape.len() == 1;
    let noise_std = settings.and_then(|s| s.number("initial_noise_factor"));
    let noise_std = noise_std.unwrap_or(if is_points { 1.0 } else { 80.0 });
    let (loss, notes) = loss_of(settings, is_points);
    ignored.extend(notes);
    let projection = projected.then_some(dim);
    let file = StudentFile {
        student: StudentConfig {
            method: kdm_koopman::Method::Koopman,
            shape,
            label_dim,
            noise_std,
            latent,
            levels: Vec::new(),
            network,
            operator: OperatorConfig { kind, projection, control: with_control },
        },
        loss,
        target_seed: 0,
        perceptual: None,
        origin: Origin::imported(path, what),
    };
    if let Some(problem) = first_problem(&file) {
        return Err(invalid(problem));
    }
    // The network is made only if it is of the size that the file's weights are.
    let numbers: usize = state.values().map(|t| t.shape().num_elements()).sum();
    if let Ok(unets) = file.student.unets() {
        check_size(path, &UNetConfig::SongUnet(unets.encoder), numbers)?;
    }
    if dim.saturating_mul(dim) > numbers || latent.saturating_mul(projection.unwrap_or(0)) > numbers
    {
        return Err(invalid(Misfit::Operator { dim, numbers }.of("koopman_operator")));
    }
    let student = with_weights(path, file.student.init(0, device), &state, ACTION)?;
    let on = projection.map_or(String::new(), |p| format!(", on a projection to {p} dimensions"));
    let with = if with_control { ", with control" } else { "" };
    let operator = if kind == OperatorKind::Dense { "dense, with bias" } else { "factorized" };
    let found = vec![
        what.to_string(),
        described,
        format!("operator: {operator}, {dim} x {dim}{on}{with}"),
        counted(&state),
        format!(
            "noise of standard deviation {noise_std}; latent noise in training: {}; loss: {}",
            file.loss.latent_noise,
            json!(file.loss.reconstruction)
        ),
    ];
    Ok(Imported { model: Model::Student { file, student }, found, ignored })
}

/// What is impossible about the student or its loss.
fn first_problem(file: &StudentFile) -> Option<Problem> {
    let mut problems = file.student.problems().into_iter().chain(file.loss.problems());
    problems.next()
}

/// Removes the part under `prefix` and gives it without the prefix.
fn taken(state: &mut StateDict, prefix: &str) -> StateDict {
    let (part, rest): (StateDict, StateDict) =
        std::mem::take(state).into_iter().partition(|(name, _)| name.starts_with(prefix));
    *state = rest;
    part.into_iter().map(|(name, data)| (name[prefix.len()..].to_string(), data)).collect()
}

/// Puts `part` under `prefix` and a dot.
fn insert(state: &mut StateDict, prefix: &str, part: StateDict) {
    state.extend(part.into_iter().map(|(name, data)| (format!("{prefix}.{name}"), data)));
}
