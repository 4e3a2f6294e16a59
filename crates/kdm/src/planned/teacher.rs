//! A teacher of a person's own: a model file, or a foreign one that is imported first.

use std::path::{Path, PathBuf};

use kdm_data::{TensorFile, model, tensors};
use kdm_formats::{Model, Options, import};
use kdm_teacher::distributions::DistributionConfig;
use kdm_teacher::{Denoiser, Process, Teacher};

use crate::assets::{self, Role};
use crate::stages::teacher::open_teacher;
use crate::{Context, Failure, Outcome};

/// The imported teacher, in a run's folder.
const IMPORTED: &str = "imported-teacher.safetensors";

/// A teacher of a person's own.
#[derive(Debug)]
pub struct OwnTeacher {
    /// What it computes.
    pub teacher: Teacher,
    /// Where it comes from.
    source: PathBuf,
    /// What was imported, as a model file, in a folder that is removed with this; none where the
    /// source is one itself.
    imported: Option<(tempfile::TempDir, PathBuf)>,
}

impl OwnTeacher {
    /// Opens a teacher's file or one that ships, or imports a foreign file or folder as `kdm
    /// import` does, and says what was found.
    ///
    /// # Errors
    /// When it is none, can't be read, or draws no images.
    pub fn open(source: &Path, options: &Options, context: Context) -> Outcome<Self> {
        let device = context.device();
        let ours = DistributionConfig::by_name(&source.to_string_lossy()).is_some()
            || assets::is_built_in(Role::Teacher, &source.to_string_lossy())
            || TensorFile::open(source).is_ok_and(|file| model::kind(&file).is_some());
        let (teacher, imported) = if ours {
            (open_teacher(&source.to_string_lossy(), device)?, None)
        } else {
            let found = import(source, options, device)?;
            found.found.iter().for_each(|line| context.observer.info(&format!("found {line}")));
            found.ignored.iter().for_each(|line| context.observer.info(&format!("ignored {line}")));
            if !matches!(found.model, Model::Teacher { .. }) {
                let problem = format!("holds a {}, and a teacher is needed", found.kind());
                let action = "give a diffusion or flow-matching model with --teacher";
                return Err(kdm_data::Error::invalid(source, "model", problem, action).into());
            }
            let folder = tempfile::tempdir().map_err(kdm_data::Error::io("create", source))?;
            let path = folder.path().join(IMPORTED);
            found.save(&path)?;
            (Teacher::load(&path, device)?, Some((folder, path)))
        };
        let shape = teacher.shape();
        if shape.len() != 3 || shape[1] != shape[2] || !shape[1].is_multiple_of(4) {
            return Err(Failure::Usage(format!(
                "--teacher {}: it draws {shape:?}, and a run is planned for square images whose \
                 side is a multiple of 4; write a TOML file for it, see `kdm run --help`",
                source.display()
            )));
        }
        Ok(Self { teacher, source: source.to_path_buf(), imported })
    }

    /// Its file, for a run in `folder`.
    pub(super) fn path(&self, folder: &Path) -> String {
        let path = match &self.imported {
            Some(_) => folder.join(IMPORTED),
            None => self.source.clone(),
        };
        path.to_string_lossy().into_owned()
    }

    /// How it draws, as a configuration calls it.
    pub(super) fn process(&self) -> &'static str {
        match self.teacher.process() {
            Process::Flow => "flow",
            Process::Diffusion { .. } => "diffusion",
        }
    }

    /// Writes what was imported into the run's folder.
    pub(super) fn put(&self, folder: &Path) -> Outcome<()> {
        let Some((_, from)) = &self.imported else { return Ok(()) };
        let path = folder.join(IMPORTED);
        if !path.exists() {
            tensors::write_copy(&path, &TensorFile::open(from)?)?;
        }
        Ok(())
    }
}
