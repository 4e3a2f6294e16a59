//! What an import gives.

use std::path::Path;

use burn::module::Module;
use kdm_data::{Error, Result, model};
use kdm_koopman::Student;
use kdm_koopman::student_file::StudentFile;
use kdm_nn::StateDict;
use kdm_nn::state::load_state;
use kdm_teacher::TeacherConfig;
use serde_json::{Value, json};

/// A foreign model, and what was seen in its file.
#[derive(Debug)]
pub struct Imported {
    /// What it is.
    pub model: Model,
    /// What was found in the file, a line each.
    pub found: Vec<String>,
    /// What was left out, and why, a line each.
    pub ignored: Vec<String>,
}

/// A model of a kind that this project uses.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Model {
    /// A distilled student.
    Student {
        /// What it is.
        file: StudentFile,
        /// Its networks.
        student: Student,
    },
    /// A teacher.
    Teacher {
        /// What it is.
        config: TeacherConfig,
        /// Its weights.
        state: StateDict,
    },
    /// A network that training or metrics use.
    Weights {
        /// `discriminator`, `lpips` or `inception`.
        kind: &'static str,
        /// What else there is to say of it.
        config: Value,
        /// Its weights.
        state: StateDict,
    },
}

impl Imported {
    /// The kind that the model file will name.
    pub fn kind(&self) -> &'static str {
        match &self.model {
            Model::Student { .. } => kdm_koopman::student_file::KIND,
            Model::Teacher { .. } => kdm_teacher::teacher::KIND,
            Model::Weights { kind, .. } => kind,
        }
    }

    /// Its configuration, as the model file will tell it.
    pub fn config(&self) -> Value {
        match &self.model {
            Model::Student { file, .. } => json!(file),
            Model::Teacher { config, .. } => json!(config),
            Model::Weights { config, .. } => config.clone(),
        }
    }

    /// Writes the model file.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        match &self.model {
            Model::Student { file, student } => file.save(student, path),
            Model::Teacher { config, state } => model::write(path, self.kind(), config, state),
            Model::Weights { kind, config, state } => model::write(path, kind, config, state),
        }
    }
}

/// A network with the weights of `state`, of the file `path`.
///
/// # Errors
/// When a tensor is missing, left over, or of another shape.
pub(crate) fn with_weights<M: Module>(
    path: &Path,
    network: M,
    state: &StateDict,
    action: &str,
) -> Result<M> {
    load_state(network, state).map_err(|e| Error::invalid(path, "tensors", e.to_string(), action))
}

/// "N tensors, M numbers".
pub(crate) fn counted(state: &StateDict) -> String {
    let numbers: usize = state.values().map(|t| t.shape().num_elements()).sum();
    format!("{} tensors, {numbers} numbers", state.len())
}
