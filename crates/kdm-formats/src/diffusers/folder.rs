//! Which files of a folder that diffusers wrote have the network and its weights.

use std::path::{Path, PathBuf};

use kdm_data::{Error, Result};

/// Folders of a pipeline or checkpoint that hold its network, the average first.
const PARTS: [&str; 2] = ["unet_ema", "unet"];

/// What the files of weights are called, before a variant and the ending.
const STEMS: [&str; 3] = ["diffusion_pytorch_model", "pytorch_model", "model"];

/// A network's folder, and what it is of the folder that was given.
pub(super) struct Found {
    pub folder: PathBuf,
    /// `unet`, `checkpoint-500/unet_ema`; empty for the folder itself.
    pub part: String,
    /// Other parts that could be taken.
    pub others: Vec<String>,
}

/// The network in a folder: the folder itself, its `unet_ema` or `unet`, or those of its last
/// checkpoint. `key` takes the part of that name instead of the first.
pub(super) fn network(path: &Path, key: Option<&str>) -> Option<Found> {
    let has_config = |folder: &Path| folder.join("config.json").is_file();
    if has_config(path) {
        return Some(Found { folder: path.into(), part: String::new(), others: Vec::new() });
    }
    let mut parts: Vec<String> =
        PARTS.iter().filter(|part| has_config(&path.join(part))).map(|p| p.to_string()).collect();
    if parts.is_empty() {
        let mut checkpoints = checkpoints(path);
        checkpoints.sort_unstable();
        let parts_of = |n: &u64| -> Vec<String> {
            let all = PARTS.iter().map(|part| format!("checkpoint-{n}/{part}"));
            all.filter(|part| has_config(&path.join(part))).collect()
        };
        parts = checkpoints.iter().rev().flat_map(parts_of).collect();
    }
    let named = |part: &String| {
        key.is_some_and(|key| part == key || part.split('/').any(|level| level == key))
    };
    let at = parts.iter().position(named).unwrap_or(0);
    if parts.is_empty() {
        return None;
    }
    let part = parts.remove(at);
    Some(Found { folder: path.join(&part), part, others: parts })
}

/// Numbers of the folders `checkpoint-N`.
fn checkpoints(path: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(path).into_iter().flatten();
    let number = |entry: std::fs::DirEntry| {
        entry.file_name().to_str()?.strip_prefix("checkpoint-")?.parse().ok()
    };
    entries.filter_map(|entry| number(entry.ok()?)).collect()
}

/// A file of weights, or the index of several.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Weights {
    rank: u8,
    /// `ema`, `fp16`; empty where there is none.
    pub variant: String,
    ending: usize,
    /// The file's name.
    pub name: String,
}

const ENDINGS: [&str; 2] = [".safetensors", ".bin"];

/// The file of the weights, and the variants that there are beside it. `key` names a variant.
pub(super) fn weights(folder: &Path, key: Option<&str>) -> Result<(Weights, Vec<String>)> {
    let entries = std::fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let mut all: Vec<Weights> = names.iter().filter_map(|name| file(name)).collect();
    all.sort();
    let variants: Vec<String> = all.iter().map(|w| w.variant.clone()).collect();
    let named = all.iter().find(|w| key.is_some_and(|key| w.variant == key)).or(all.first());
    match named {
        Some(chosen) => {
            let others = variants.into_iter().filter(|v| *v != chosen.variant).collect();
            Ok((chosen.clone(), others))
        }
        None => {
            let flax = names.iter().find(|name| name.ends_with(".msgpack"));
            let problem = match flax {
                Some(name) => format!("has {name}, which Flax wrote, and no weights of PyTorch"),
                None => "has no diffusion_pytorch_model.safetensors (or .bin, a variant of it, or \
                         an index of several)"
                    .to_string(),
            };
            let action = "download the weights beside config.json";
            Err(Error::invalid(folder, "weights", problem, action))
        }
    }
}

/// What a file's name says: stem, variant, ending; shards are none.
fn file(name: &str) -> Option<Weights> {
    let rest = STEMS.iter().find_map(|stem| name.strip_prefix(stem))?;
    let found = |variant: &str, ending: usize| {
        let variant = variant.strip_prefix('.').unwrap_or(variant);
        // Before the others the average, after them what is not averaged.
        let rank = match variant {
            "ema" => 0,
            "" => 1,
            "non_ema" => 3,
            _ => 2,
        };
        let fits = !variant.contains(['.', '-']);
        fits.then(|| Weights { rank, variant: variant.into(), ending, name: name.into() })
    };
    for (ending, suffix) in ENDINGS.iter().enumerate() {
        if let Some(variant) = rest.strip_suffix(suffix) {
            return found(variant, ending);
        }
        // model.safetensors.index.json, model.safetensors.index.fp16.json
        if let Some(index) = rest.strip_prefix(&format!("{suffix}.index")) {
            return found(index.strip_suffix(".json")?, ending);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_weights_tell_their_variant() {
        let variant = |name| file(name).map(|w| w.variant);
        assert_eq!(variant("diffusion_pytorch_model.safetensors").as_deref(), Some(""));
        assert_eq!(variant("diffusion_pytorch_model.fp16.safetensors").as_deref(), Some("fp16"));
        assert_eq!(variant("diffusion_pytorch_model.safetensors.index.json").as_deref(), Some(""));
        let index = "diffusion_pytorch_model.safetensors.index.fp16.json";
        assert_eq!(variant(index).as_deref(), Some("fp16"));
        assert_eq!(variant("diffusion_pytorch_model-00001-of-00002.safetensors"), None);
        assert_eq!(variant("diffusion_pytorch_model.fp16-00001-of-00002.safetensors"), None);
        assert_eq!(variant("config.json"), None);
        let mut all: Vec<Weights> =
            ["model.bin", "model.non_ema.bin", "model.safetensors", "model.ema.bin"]
                .iter()
                .filter_map(|name| file(name))
                .collect();
        all.sort();
        let names: Vec<&str> = all.iter().map(|w| w.name.as_str()).collect();
        assert_eq!(names, ["model.ema.bin", "model.safetensors", "model.bin", "model.non_ema.bin"]);
    }
}
