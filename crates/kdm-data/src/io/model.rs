//! Model files: a `.safetensors` whose metadata says what it is, so that a file explains itself.
//!
//! The JSON under `kdm` is `{"version": 1, "kind": ..., "config": ..., "checksum": "crc32c:..."}`;
//! the checksum is compared when a file is opened, and older files have none.
//!
//! ```
//! use burn::tensor::TensorData;
//! use kdm_data::model::{self, State};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! struct Line {
//!     slopes: usize,
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("line.safetensors");
//! let state = State::from([("slope".to_string(), TensorData::new(vec![0.5f32, 2.0], [2]))]);
//! model::write(&path, "line", &Line { slopes: 2 }, &state)?;
//!
//! let (config, weights) = model::read::<Line>(&path, "line")?;
//! assert_eq!((config, weights), (Line { slopes: 2 }, state));
//! // A file of another kind is refused, and the message says what is needed.
//! let message = model::read::<Line>(&path, "curve").unwrap_err().to_string();
//! assert!(message.ends_with("give the file of a curve"));
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::TensorData;
use safetensors::Dtype;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::tensors::RawTensor;
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
    parse(&TensorFile::open(path)?, kind)
}

/// See [`read`].
///
/// # Errors
/// The same.
pub fn parse<C: DeserializeOwned>(file: &TensorFile, kind: &str) -> Result<(C, State)> {
    Ok((config(file, kind)?, file.state("")?))
}

/// What a file says that its model is, such as `student`; none for a file of another program.
pub fn kind(file: &TensorFile) -> Option<&str> {
    file.metadata()["kind"].as_str()
}

/// Whether a file has as many numbers as its configuration's network needs at `least`: before one
/// is made that no memory holds.
///
/// # Errors
/// When it has fewer.
pub fn check_size(file: &TensorFile, least: usize) -> Result<()> {
    let count = |shape: &[usize]| shape.iter().product::<usize>();
    let numbers: usize = file.entries().map(|(_, _, shape)| count(shape)).sum();
    if least <= numbers {
        return Ok(());
    }
    let problem = format!(
        "tells of a network of at least {least} numbers, and the file's tensors have {numbers}"
    );
    let action = "use the file as it was written, or import or train the model again";
    Err(Error::invalid(file.path(), "config", problem, action))
}

/// The configuration of a model file of this kind.
///
/// # Errors
/// When the file is of another kind or version, or its configuration is not understood.
pub fn config<C: DeserializeOwned>(file: &TensorFile, kind: &str) -> Result<C> {
    let (path, metadata) = (file.path(), file.metadata());
    match self::kind(file) {
        Some(found) if found == kind => {}
        Some(other) => {
            let problem = format!("this is a {other}, and a {kind} is needed");
            return Err(Error::invalid(
                path,
                "kind",
                problem,
                format!("give the file of a {kind}"),
            ));
        }
        None => {
            let action = "bring foreign models in with `kdm import FILE --out MODEL.safetensors`";
            return Err(Error::invalid(path, "kind", "the file doesn't say what it is", action));
        }
    }
    if metadata["version"] != MODEL_VERSION {
        let problem =
            format!("{}, and this program reads version {MODEL_VERSION}", metadata["version"]);
        return Err(Error::invalid(path, "version", problem, "use the program that wrote it"));
    }
    serde_json::from_value(metadata["config"].clone()).map_err(|e| {
        let action = "use the program that wrote it, or import the model again";
        Error::invalid(path, "config", e.to_string(), action)
    })
}

/// Writes the model of `file` again with its weights in half precision, at half the size. A value
/// beyond what f16 holds is an error, not an infinity.
///
/// # Errors
/// When the file holds no model, a weight doesn't fit, or the file can't be written.
pub fn write_half(file: &TensorFile, path: &Path) -> Result<()> {
    let metadata = file.metadata();
    if kind(file).is_none() || metadata["version"] != MODEL_VERSION {
        let (problem, action) =
            ("the file doesn't say what model it holds", "give a model file of this program");
        return Err(Error::invalid(file.path(), "kind", problem, action));
    }
    let mut halves: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (name, data) in file.state("")? {
        let values = data.as_slice::<f32>().expect("states are f32");
        let converted: Vec<half::f16> = values.iter().map(|x| half::f16::from_f32(*x)).collect();
        if converted.iter().any(|x| !x.is_finite()) {
            let (problem, action) =
                ("has values beyond half precision", "keep this model in single precision");
            return Err(Error::invalid(file.path(), format!("tensor `{name}`"), problem, action));
        }
        let bytes = converted.into_iter().flat_map(half::f16::to_le_bytes).collect();
        halves.insert(name, (data.shape().to_vec(), bytes));
    }
    let mut all = BTreeMap::new();
    for (name, (shape, bytes)) in &halves {
        all.insert(name.clone(), RawTensor { dtype: Dtype::F16, shape: shape.clone(), bytes });
    }
    tensors::write_sealed(path, metadata, &all)
}

/// A hash of what a model computes: its configuration and all its weights, however the file was
/// written.
pub fn fingerprint(config: &impl Serialize, state: &State) -> String {
    let mut bytes = json!(config).to_string().into_bytes();
    for (name, data) in state {
        bytes.extend(name.as_bytes());
        bytes.extend(format!("{:?}", data.shape()).as_bytes());
        bytes.extend(data.as_bytes());
    }
    hash::sha256(&bytes)
}
