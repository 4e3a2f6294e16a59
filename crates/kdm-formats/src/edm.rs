//! Network pickles of NVlabs/edm, and plain state dicts of the same networks.
//!
//! The architecture is read off the weights; the preconditioning and its constants off the pickled
//! module.

use std::path::Path;

use burn::tensor::Device;
use kdm_data::{Error, Result};
use kdm_nn::{InitSeed, Problem, StateDict, UNetConfig};
use kdm_teacher::{NetworkTeacherConfig, Preconditioning, TeacherConfig};

use crate::imported::{Imported, Model, counted, with_weights};
use crate::infer;
use crate::pickle::Id;
use crate::torch::TorchFile;

const ACTION: &str = "give a network pickle of NVlabs/edm, or a state dict of one of its networks";

/// The classes by which NVlabs/edm makes a denoiser of a network.
const KNOWN: [&str; 4] = ["EDMPrecond", "VPPrecond", "VEPrecond", "iDDPMPrecond"];

/// Reads a pickled, preconditioned network that stands at `place` in the file; `device` is where
/// its weights are tried.
///
/// # Errors
/// When its preconditioning is not known, a tensor is damaged, or the weights are not those of a
/// known network.
pub fn import(torch: &TorchFile, id: Id, place: &str, device: &Device) -> Result<Imported> {
    let invalid =
        |field: &str, problem: String| Error::invalid(torch.path(), field, problem, ACTION);
    let class = torch.module(id).map_or("", |(class, _)| class).to_string();
    if !KNOWN.contains(&class.as_str()) {
        let problem = format!(
            "is of class `{class}`, and what it makes of its network's answer is not known; known \
             are {}",
            KNOWN.join(", ")
        );
        let action = "save the state_dict of its network, and say by --preconditioning what makes \
                      a denoiser of it";
        return Err(Error::invalid(torch.path(), place, problem, action));
    }
    let key =
        place.split('.').next().filter(|key| torch.pickle.field(torch.pickle.root, key).is_some());
    let key = key.unwrap_or("the whole file");
    let number = |name: &str, default: f64| torch.number(id, name).unwrap_or(default);
    let preconditioning = match class.as_str() {
        "EDMPrecond" => {
            let sigma_data = number("sigma_data", 0.5);
            Preconditioning::Edm { sigma_data, noise_scale: 1.0 }
        }
        "VPPrecond" => Preconditioning::Vp {
            beta_d: number("beta_d", 19.9),
            beta_min: number("beta_min", 0.1),
            m: number("M", 1000.0),
            epsilon_t: number("epsilon_t", 1e-5),
        },
        "VEPrecond" => Preconditioning::Ve {
            sigma_min: number("sigma_min", 0.02),
            sigma_max: number("sigma_max", 100.0),
        },
        _ => Preconditioning::Iddpm {
            c_1: number("C_1", 0.001),
            c_2: number("C_2", 0.008),
            m: number("M", 1000.0).clamp(0.0, 1e9) as usize,
        },
    };
    let inner =
        torch.child(id, "model").ok_or_else(|| invalid(key, "has no part `model`".into()))?;
    let mut network =
        infer::unet(&torch.state(inner)?).map_err(|e| invalid("model", e.to_string()))?;
    // What weights don't tell stands in the constructor's arguments.
    let settings = torch.attribute(inner, "_init_kwargs");
    let setting = |name: &str| torch.pickle.number(torch.pickle.field(settings?, name)?);
    let (dropout, label_dropout) =
        (setting("dropout").unwrap_or(0.0), setting("label_dropout").unwrap_or(0.0));
    match &mut network {
        UNetConfig::SongUnet(c) => (c.dropout, c.label_dropout) = (dropout, label_dropout),
        UNetConfig::AdmUnet(c) => (c.dropout, c.label_dropout) = (dropout, label_dropout),
        UNetConfig::DiffusersUnet(_) | UNetConfig::OpenaiUnet(_) => {}
    }
    let state = infer::without_filters(torch.state(inner)?);
    let mut ignored: Vec<String> = torch
        .pickle
        .entries(torch.pickle.root)
        .into_iter()
        .filter(|(name, _)| *name != key)
        .map(|(name, _)| format!("`{name}`: {}", why_ignored(name)))
        .collect();
    ignored.push("`module_src`: source code, which is never run".into());
    let found = vec![format!("a network pickle of NVlabs/edm, `{key}`: {class}")];
    let config = config(torch.path(), network, preconditioning);
    teacher(torch.path(), config, state, found, ignored, device)
}

fn why_ignored(name: &str) -> &'static str {
    match name {
        "loss_fn" => "the training's loss",
        "augment_pipe" => "the training's augmentation",
        "dataset_kwargs" => "where the training's data lay",
        "net" => "weights that were not averaged",
        "optimizer_state" => "the optimizer's state",
        _ => "no part of the network",
    }
}

/// Reads a state dict of such a network; `preconditioning` is not in the file.
///
/// # Errors
/// When the names and shapes are not those of a known network.
pub fn from_state(
    path: &Path,
    state: StateDict,
    preconditioning: Preconditioning,
    device: &Device,
) -> Result<Imported> {
    let network =
        infer::unet(&state).map_err(|e| Error::invalid(path, "tensors", e.to_string(), ACTION))?;
    let found = vec!["a state dict of a U-Net with NVlabs' names".to_string()];
    let config = config(path, network, preconditioning);
    teacher(path, config, infer::without_filters(state), found, Vec::new(), device)
}

/// The configuration of the teacher in the file `path`, named by the file.
pub(crate) fn config(
    path: &Path,
    network: UNetConfig,
    preconditioning: Preconditioning,
) -> NetworkTeacherConfig {
    let data = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    NetworkTeacherConfig { data, class_names: Vec::new(), preconditioning, network }
}

/// What is impossible about a teacher.
fn first_problem(config: &NetworkTeacherConfig) -> Option<Problem> {
    config.problems().into_iter().next()
}

/// Checks that everything fits, and adds what was found.
pub(crate) fn teacher(
    path: &Path,
    config: NetworkTeacherConfig,
    state: StateDict,
    mut found: Vec<String>,
    ignored: Vec<String>,
    device: &Device,
) -> Result<Imported> {
    if let Some(Problem { field, problem }) = first_problem(&config) {
        return Err(Error::invalid(path, field, problem, ACTION));
    }
    let told: usize = state.values().map(|t| t.shape().num_elements()).sum();
    check_size(path, &config.network, told)?;
    let unet = config.network.init(&mut InitSeed::new(0), device);
    with_weights(path, unet, &state, ACTION)?;
    let n = &config.network;
    let (inputs, _) = n.channels();
    found.push(describe(n));
    found.push(format!("images {inputs}x{0}x{0}, classes: {1}", n.resolution(), n.label_dim()));
    found.push(format!("preconditioning: {}", serde_json::json!(config.preconditioning)));
    found.push(counted(&state));
    Ok(Imported {
        model: Model::Teacher { config: TeacherConfig::Network(config), state },
        found,
        ignored,
    })
}

/// Refuses a configuration whose network would be far larger than the weights that are there,
/// before it is made.
pub(crate) fn check_size(path: &Path, network: &UNetConfig, numbers: usize) -> Result<()> {
    let least = network.least_parameters();
    if least > numbers {
        let problem =
            format!("tell of a network of at least {least} numbers, and there are {numbers}");
        return Err(Error::invalid(path, "tensors", problem, ACTION));
    }
    Ok(())
}

fn describe(network: &UNetConfig) -> String {
    match network {
        UNetConfig::SongUnet(c) => format!(
            "SongUNet ({:?} embedding, {:?} encoder, {:?} decoder): width {} x {:?}, {} blocks, \
             attention at {:?}, filter {:?}",
            c.embedding_type,
            c.encoder_type,
            c.decoder_type,
            c.model_channels,
            c.channel_mult,
            c.num_blocks,
            c.attn_resolutions,
            c.resample_filter
        ),
        UNetConfig::AdmUnet(c) => format!(
            "ADM U-Net: width {} x {:?}, {} blocks, attention at {:?}",
            c.model_channels, c.channel_mult, c.num_blocks, c.attn_resolutions
        ),
        UNetConfig::OpenaiUnet(c) => format!(
            "OpenAI's U-Net: width {} x {:?}, {} blocks, attention where images are smaller by \
             {:?}{}{}",
            c.model_channels,
            c.level_channels,
            c.num_res_blocks,
            c.attention_resolutions,
            if c.use_scale_shift_norm { ", scale and shift" } else { "" },
            if c.learn_sigma { ", a learned variance, which is left out" } else { "" },
        ),
        UNetConfig::DiffusersUnet(c) => format!(
            "UNet2DModel: widths {:?}, {} layers a block, {:?}, {:?}",
            c.block_out_channels, c.layers_per_block, c.down_block_types, c.up_block_types
        ),
    }
}
