//! Models with the names that their original implementations give them, as plain safetensors: what
//! PyTorch code of the originals loads as a state dict, and what an import reads back.

use std::path::Path;

use kdm_data::{Error, Result, TensorFile, tensors};
use kdm_koopman::student::{KIND as STUDENT, StudentFile};
use kdm_nn::StateDict;
use kdm_nn::state::state_dict;
use kdm_teacher::TeacherConfig;
use kdm_teacher::teacher::KIND as TEACHER;
use serde_json::Value;

use crate::official;

/// Writes the model file `model` to `out` with original names. Gives a line on what the names are
/// of.
///
/// # Errors
/// When the model is damaged, or there is no original that it could be a state dict of.
pub fn export(model: &Path, out: &Path) -> Result<String> {
    let file = TensorFile::open(model)?;
    let kind = file.metadata()["kind"].as_str().unwrap_or("unknown").to_string();
    let (state, of) = match kind.as_str() {
        STUDENT => {
            let (file, student) = StudentFile::load(model, &burn::tensor::Device::flex())?;
            (
                renamed(state_dict(&student), |name| official::original_name(name, &file.student)),
                "the official KDM code",
            )
        }
        TEACHER => {
            let config: TeacherConfig = serde_json::from_value(file.metadata()["config"].clone())
                .map_err(|e| {
                Error::invalid(model, "config", e.to_string(), "import the model again")
            })?;
            match config {
                TeacherConfig::Network(config) => match config.network {
                    kdm_nn::UNetConfig::DiffusersUnet(_) => {
                        (file.state("")?, "diffusers' UNet2DModel")
                    }
                    _ => (
                        renamed(file.state("")?, |name| format!("model.{name}")),
                        "NVlabs/edm's networks",
                    ),
                },
                _ => return Err(no_original(model, "a teacher of points")),
            }
        }
        official::DISCRIMINATOR => (
            renamed(file.state("")?, official::original_discriminator_name),
            "the official KDM discriminator",
        ),
        "lpips" | "inception" => (file.state("")?, "the package the weights are from"),
        other => return Err(no_original(model, &format!("of the kind `{other}`"))),
    };
    tensors::write_state(out, &Value::Null, &state)?;
    Ok(format!("{} tensors with the names of {of}", state.len()))
}

fn no_original(model: &Path, what: &str) -> Error {
    let problem = format!("is {what}, and no original implementation has such a model");
    Error::invalid(
        model,
        "kind",
        problem,
        "the file itself is a safetensors file that any program can read",
    )
}

fn renamed(state: StateDict, name: impl Fn(&str) -> String) -> StateDict {
    state.into_iter().map(|(ours, data)| (name(&ours), data)).collect()
}
