//! Folders of Hugging Face diffusers: a `UNet2DModel`'s `config.json` and weights, with the
//! scheduler's configuration beside it; or the folder of a pipeline or of a training's checkpoints
//! that holds both.

mod folder;
mod network;
mod schedule;

use std::path::Path;

use burn::tensor::Device;
use kdm_data::{Error, Result, regular};
use kdm_nn::{StateDict, UNetConfig};
use serde_json::Value;

use self::folder::Found;
use self::network::network_of;
use self::schedule::{assumed, schedule_of};
use crate::Options;
use crate::edm::{config, teacher};
use crate::imported::Imported;
use crate::weights;

const ACTION: &str = "give the folder of a diffusers UNet2DModel or of a pipeline around one";

/// Largest configuration that is read.
const MAX_CONFIG: u64 = 16 << 20;

/// Whether a folder is one that diffusers wrote.
pub fn is_folder(path: &Path) -> bool {
    folder::network(path, None).is_some() || path.join("model_index.json").is_file()
}

/// Reads the folder; `device` is where the weights are tried.
///
/// # Errors
/// When a file is missing or damaged, or the configuration sets what is not known here.
pub fn import(path: &Path, options: &Options, device: &Device) -> Result<Imported> {
    let key = options.key.as_deref();
    check_pipeline(path)?;
    let Found { folder, part, others } = folder::network(path, key).ok_or_else(|| {
        let problem = "holds no config.json, neither itself nor in `unet`, `unet_ema` or a \
                       `checkpoint-N`";
        Error::invalid(path, "folder", problem, ACTION)
    })?;
    let config_path = folder.join("config.json");
    let (network, mut ignored) = network_of(&config_path, &json_of(&config_path)?)?;
    let (file, variants) = folder::weights(&folder, key)?;
    check_key(path, key, &part, &file.variant, &others, &variants)?;
    let read = weights::read(&folder.join(&file.name), None)?;
    let state = renamed(read.tensors);
    ignored.extend(read.notes);
    ignored.extend(others.iter().map(|other| also(other)));
    ignored.extend(variants.iter().filter(|v| !v.is_empty()).map(|variant| also(variant)));

    let mut found = vec![match part.is_empty() {
        true => format!("a diffusers UNet2DModel, weights in {}", file.name),
        false => format!("a diffusers UNet2DModel, weights in {part}/{}", file.name),
    }];
    let name = "scheduler_config.json";
    // The network's folder, and those above it up to the one around the one that was given.
    let above = folder.ancestors().take(3);
    let mut candidates =
        above.flat_map(|folder| [folder.join(name), folder.join("scheduler").join(name)]);
    let preconditioning = match candidates.find(|p| p.is_file()) {
        Some(path) => {
            let (preconditioning, notes) = schedule_of(&path, &json_of(&path)?)?;
            found.push(format!("schedule from {}", path.display()));
            ignored.extend(notes);
            preconditioning
        }
        None => {
            found.push(format!(
                "no {name}: DDPM's schedule is assumed, linear betas 1e-4 to 0.02 over 1000 steps"
            ));
            assumed()
        }
    };
    let config = config(path, UNetConfig::DiffusersUnet(network), preconditioning);
    teacher(path, config, state, found, ignored, device)
}

fn also(name: &str) -> String {
    format!("`{name}`: other weights; `--key {name}` takes them instead")
}

/// Refuses a key that names neither a part of the folder nor a variant of the weights.
fn check_key(
    path: &Path,
    key: Option<&str>,
    part: &str,
    variant: &str,
    others: &[String],
    variants: &[String],
) -> Result<()> {
    let Some(key) = key else { return Ok(()) };
    if part == key || part.split('/').any(|level| level == key) || variant == key {
        return Ok(());
    }
    let there: Vec<String> = [part.to_string(), variant.to_string()]
        .into_iter()
        .chain(others.iter().cloned())
        .chain(variants.iter().cloned())
        .filter(|name| !name.is_empty())
        .map(|name| format!("`{name}`"))
        .collect();
    let problem = match there.is_empty() {
        true => format!("there is nothing called `{key}`; the folder has one set of weights"),
        false => format!("there is nothing called `{key}`; there are {}", there.join(", ")),
    };
    Err(Error::invalid(path, "--key", problem, "give one of these, or leave it out"))
}

/// Refuses pipelines whose network doesn't work on pixels, or isn't a U-Net, by their parts.
fn check_pipeline(path: &Path) -> Result<()> {
    let file = path.join("model_index.json");
    if !file.is_file() {
        return Ok(());
    }
    let index = json_of(&file)?;
    let class = index["_class_name"].as_str().unwrap_or("a pipeline");
    let there = |part: &str| index.get(part).is_some_and(|value| !value.is_null());
    let what = match () {
        () if there("vae") || there("vqvae") => {
            "an autoencoder: its network works on latents, and this program's teachers on pixels"
        }
        () if there("transformer") => "a transformer (DiT), and this program knows U-Nets",
        () if there("text_encoder") => "a text encoder, and this program knows classes",
        () => return Ok(()),
    };
    let action = "give an unconditional or class-conditional pipeline of pixels, such as \
                  DDPMPipeline's";
    Err(Error::invalid(&file, "_class_name", format!("is {class}, which has {what}"), action))
}

fn json_of(path: &Path) -> Result<Value> {
    let bytes = regular::read(path, MAX_CONFIG)?;
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
    let value: Value = serde_json::from_slice(bytes).map_err(|e| {
        Error::invalid(path, "JSON", e.to_string(), "download the file again, whole")
    })?;
    match value {
        Value::Object(_) => Ok(value),
        _ => Err(Error::invalid(path, "JSON", "is no object", ACTION)),
    }
}

/// Attention's old names as the new ones.
fn renamed(state: StateDict) -> StateDict {
    const NAMES: [(&str, &str); 4] = [
        (".query.", ".to_q."),
        (".key.", ".to_k."),
        (".value.", ".to_v."),
        (".proj_attn.", ".to_out.0."),
    ];
    let new = |name: String| {
        if !name.contains("attentions.") {
            return name;
        }
        NAMES.iter().fold(name, |name, (old, new)| name.replace(old, new))
    };
    state.into_iter().map(|(name, data)| (new(name), data)).collect()
}
