//! Models with the names that their original implementations give them, as plain safetensors: what
//! PyTorch code of the originals loads as a state dict, and what an import reads back.

use std::path::Path;

use burn::tensor::Device;
use kdm_data::{Error, Result, TensorFile, model, tensors};
use kdm_koopman::OperatorKind;
use kdm_koopman::student_file::{KIND as STUDENT, StudentFile};
use kdm_nn::state::state_dict;
use kdm_nn::{StateDict, UNetConfig};
use kdm_teacher::TeacherConfig;
use kdm_teacher::teacher::KIND as TEACHER;
use serde_json::Value;

use crate::{official, openai};

/// Writes the model file `path` to `out` with original names. Gives a line on what the names are
/// of. A student is made on `device`, which finds out whether its file is whole.
///
/// # Errors
/// When the model is damaged, or there is no original that it could be a state dict of.
pub fn export(path: &Path, out: &Path, device: &Device) -> Result<String> {
    export_file(&TensorFile::open(path)?, out, device)
}

/// [`export`] of a model file that is open.
///
/// # Errors
/// The same.
pub fn export_file(file: &TensorFile, out: &Path, device: &Device) -> Result<String> {
    let path = file.path();
    let (state, of) = match model::kind(file).unwrap_or("unknown") {
        STUDENT => {
            let (told, student) = StudentFile::from_file(file, device)?;
            if told.student.operator.kind == OperatorKind::Generator {
                return Err(no_original(path, "a student with a generator"));
            }
            let name = |ours: &str| official::original_name(ours, &told.student);
            (renamed(state_dict(&student), name), "the official KDM code")
        }
        TEACHER => teacher(file)?,
        official::DISCRIMINATOR => (
            renamed(file.state("")?, official::original_discriminator_name),
            "the official KDM discriminator",
        ),
        "lpips" | "inception" => (file.state("")?, "the package the weights are from"),
        other => return Err(no_original(path, &format!("of the kind `{other}`"))),
    };
    tensors::write_state(out, &Value::Null, &state)?;
    Ok(format!("{} tensors with the names of {of}", state.len()))
}

/// A teacher's weights under their original names, and whose these are.
fn teacher(file: &TensorFile) -> Result<(StateDict, &'static str)> {
    let config = file.metadata()["config"].clone();
    let config: TeacherConfig = serde_json::from_value(config).map_err(|e| {
        Error::invalid(file.path(), "config", e.to_string(), "import the model again")
    })?;
    let TeacherConfig::Network(config) = config else {
        return Err(no_original(file.path(), "a teacher of points"));
    };
    let state = file.state("")?;
    Ok(match config.network {
        UNetConfig::DiffusersUnet(_) => (state, "diffusers' UNet2DModel"),
        UNetConfig::OpenaiUnet(_) => {
            (openai::original(state), "OpenAI's U-Net, as guided-diffusion has it")
        }
        _ => (renamed(state, |name| format!("model.{name}")), "NVlabs/edm's networks"),
    })
}

fn no_original(model: &Path, what: &str) -> Error {
    let problem = format!("is {what}, and no original implementation has such a model");
    let action = "use the file itself: it is a safetensors file that any program can read";
    Error::invalid(model, "kind", problem, action)
}

fn renamed(state: StateDict, name: impl Fn(&str) -> String) -> StateDict {
    state.into_iter().map(|(ours, data)| (name(&ours), data)).collect()
}
