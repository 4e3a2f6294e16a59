//! Arguments that come in several forms.

use std::path::{Path, PathBuf};

use kdm::data::pairs;
use kdm::observer::Observer;
use kdm::runtime::Runtime;
use kdm::stages::pairs::open_store;
use kdm::{Experiment, LoadedStudent, Outcome};
use pyo3::prelude::*;
use serde_json::Value;

use crate::errors::{given, usage};
use crate::pair_store::PairStore;
use crate::student::Student;

/// A store that is open, or its folder.
#[derive(FromPyObject)]
pub enum Pairs<'py> {
    /// An open one.
    Open(PyRef<'py, PairStore>),
    /// Its folder.
    Folder(PathBuf),
}

/// The same without Python's lock.
pub enum PairsSource {
    /// An open one.
    Open(pairs::PairStore),
    /// Its folder.
    Folder(PathBuf),
}

impl Pairs<'_> {
    /// The store, for work without Python's lock.
    pub fn source(self) -> PairsSource {
        match self {
            Self::Open(store) => PairsSource::Open(store.store().clone()),
            Self::Folder(folder) => PairsSource::Folder(folder),
        }
    }
}

impl PairsSource {
    /// The store's folder.
    pub fn folder(&self) -> &Path {
        match self {
            Self::Open(store) => store.folder(),
            Self::Folder(folder) => folder,
        }
    }

    /// The store, compared with its checksums where it isn't open already.
    pub fn open(self, observer: &dyn Observer) -> Outcome<pairs::PairStore> {
        match self {
            Self::Open(store) => Ok(store),
            Self::Folder(folder) => open_store(&folder, observer),
        }
    }
}

/// A student, its file, or the name of one that ships.
#[derive(FromPyObject)]
pub enum Model<'py> {
    /// A student.
    Loaded(PyRef<'py, Student>),
    /// Its file or name.
    Named(PathBuf),
}

/// The same without Python's lock.
pub enum ModelSource<'a> {
    /// A student.
    Loaded(&'a LoadedStudent),
    /// Its file or name.
    Named(&'a Path),
}

impl Model<'_> {
    /// The student, for work without Python's lock.
    pub fn source(&self) -> ModelSource<'_> {
        match self {
            Self::Loaded(student) => ModelSource::Loaded(student.loaded()),
            Self::Named(path) => ModelSource::Named(path),
        }
    }
}

impl ModelSource<'_> {
    /// Does something with the student, which is read where it isn't there.
    pub fn with<T>(
        self,
        runtime: &Runtime,
        work: impl FnOnce(&LoadedStudent) -> Outcome<T>,
    ) -> Outcome<T> {
        match self {
            Self::Loaded(student) => work(student),
            Self::Named(path) => work(&LoadedStudent::open(path, runtime.device())?),
        }
    }
}

/// The experiment of a preset's name, a TOML file, or a dictionary that says what a file would.
pub fn experiment(object: &Bound<'_, PyAny>) -> PyResult<Experiment> {
    let py = object.py();
    if let Ok(source) = object.extract::<PathBuf>() {
        return given(py, Experiment::load(&source.to_string_lossy(), &[]));
    }
    let text: String = py.import("json")?.call_method1("dumps", (object,))?.extract()?;
    let value: Result<Value, _> = serde_json::from_str(&text);
    let value = value.map_err(|error| usage(format!("the experiment: {error}")));
    given(py, value.and_then(|value| Experiment::of_json("the experiment", &value)))
}
