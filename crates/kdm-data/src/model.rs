//! Model files: a `.safetensors` whose metadata says what it is, so that a file explains itself.
//!
//! The JSON under `kdm` is `{"version": 1, "kind": ..., "config": ...}`.

use std::path::Path;

use burn::tensor::TensorData;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use std::collections::BTreeMap;

use crate::{Error, Result, TensorFile, hash, tensors};

/// The version of model files that this program writes and reads.
pub const MODEL_VERSION: u64 = 1;

/// Weights by dotted name.
pub type State = BTreeMap<String, TensorData>;

/// Writes a model file.
///
/// # Errors
/// When the file can't be written.
pub fn write(path: &Path, kind: &str, config: &impl Serialize, state: &State) -> Result<()> {
    let metadata = json!({"version": MODEL_VERSION, "kind": kind, "config": config});
    tensors::write_state(path, &metadata, state)
}

/// Reads a model file of this kind: its configuration and its weights.
///
/// # Errors
/// When the file is damaged, of another kind or version, or its configuration is not understood.
pub fn read<C: DeserializeOwned>(path: &Path, kind: &str) -> Result<(C, State)> {
    let file = TensorFile::open(path)?;
    let metadata = file.metadata();
    let found = metadata["kind"].as_str().unwrap_or("unknown");
    if found != kind {
        let (problem, mend) = match found {
            "unknown" => (
                "the file doesn't say what it is".to_string(),
                "bring foreign models in with `kdm import FILE --out MODEL.safetensors`".to_string(),
            ),
            other => (format!("this is a {other}, and a {kind} is needed"), format!("give the file of a {kind}")),
        };
        return Err(Error::invalid(path, "kind", problem, mend));
    }
    if metadata["version"] != MODEL_VERSION {
        let problem = format!("{}, and this program reads version {MODEL_VERSION}", metadata["version"]);
        return Err(Error::invalid(path, "version", problem, "use the program that wrote it"));
    }
    let config = serde_json::from_value(metadata["config"].clone()).map_err(|e| {
        Error::invalid(path, "config", e.to_string(), "use the program that wrote it, or import the model again")
    })?;
    Ok((config, file.state("")?))
}

/// A hash of what a model computes: its configuration and all its weights, however the file was written.
pub fn fingerprint(config: &impl Serialize, state: &State) -> String {
    let mut bytes = json!(config).to_string().into_bytes();
    for (name, data) in state {
        bytes.extend(name.as_bytes());
        bytes.extend(format!("{:?}", data.shape()).as_bytes());
        bytes.extend(data.as_bytes());
    }
    hash::sha256(&bytes)
}
