//! Files written by `torch.save`: a zip archive of a pickle and one file a storage (PyTorch 1.6 and
//! later), or the older stream of pickles followed by the storages; and plain pickles that hold
//! such streams inside (NVlabs).

mod archive;
mod tensor;

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use kdm_data::{Array, Error, Result};
use kdm_nn::StateDict;

use self::archive::{LEGACY_MAGIC, read_stream, read_zip, refusal};
use self::tensor::{TENSORS, TensorError};
use crate::pickle::{Id, Pickle, Value};

/// How deep modules may lie in each other. Networks are less than ten deep.
const MAX_DEPTH: usize = 24;

/// A file opened: its structure, and its tensors on demand.
#[derive(Debug)]
pub struct TorchFile {
    path: PathBuf,
    /// The structure.
    pub pickle: Pickle,
    bytes: Vec<u8>,
    storages: HashMap<String, Range<usize>>,
    /// Numbers that may still be read: views can name one storage again and again.
    budget: Cell<usize>,
}

const ACTION: &str = "download or save the file again, whole, with torch.save";

impl TorchFile {
    /// Reads `path`.
    ///
    /// # Errors
    /// When the file is damaged, is none of these formats, or its pickle is refused.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        Self::read(path, bytes)
    }

    /// Reads the bytes of a file; `path` is for messages.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn read(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        let budget = Cell::new(bytes.len());
        let (pickle, storages) = if bytes.starts_with(b"PK") {
            read_zip(path, &bytes)?
        } else if bytes.starts_with(LEGACY_MAGIC) {
            read_stream(&bytes).map_err(|e| refusal(path, "stream", e))?
        } else if bytes.first() == Some(&0x80) {
            (Pickle::parse(&bytes).map_err(|e| refusal(path, "pickle", e))?, HashMap::new())
        } else {
            let problem =
                "is neither a zip archive nor a pickle, so PyTorch didn't write it".to_string();
            return Err(Error::invalid(
                path,
                "format",
                problem,
                "give a .pt, .pth, .pkl or .bin file that PyTorch wrote",
            ));
        };
        Ok(Self { path: path.to_path_buf(), pickle, bytes, storages, budget })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A tensor or parameter as f32; `name` is for the message.
    ///
    /// # Errors
    /// When the value is no tensor, of a type that is no float, or reaches outside its storage.
    pub fn tensor(&self, id: Id, name: &str) -> Result<Array> {
        self.try_tensor(id).map_err(|e| self.damaged(name, &e))
    }

    fn damaged(&self, name: &str, e: &TensorError) -> Error {
        Error::invalid(&self.path, format!("tensor `{name}`"), e.to_string(), ACTION)
    }

    /// Whether the value is a tensor or parameter.
    pub fn is_tensor(&self, id: Id) -> bool {
        match self.pickle.get(id) {
            Value::Call(function, _) => TENSORS.contains(&function.as_str()),
            _ => false,
        }
    }

    /// Class name and attributes of a module: an instance, or a call of NVlabs' persistence on a
    /// dict that tells both.
    pub fn module(&self, id: Id) -> Option<(&str, Id)> {
        let p = &self.pickle;
        match p.get(id) {
            Value::Object(class, Some(state)) => {
                Some((class.rsplit('.').next().unwrap_or(class), *state))
            }
            Value::Call(function, arguments)
                if function.ends_with("._reconstruct_persistent_obj") =>
            {
                let told = *p.tuple(*arguments)?.first()?;
                Some((p.text(p.field(told, "class_name")?)?, p.field(told, "state")?))
            }
            _ => None,
        }
    }

    /// A module's attribute.
    pub fn attribute(&self, module: Id, name: &str) -> Option<Id> {
        self.pickle.field(self.module(module)?.1, name)
    }

    /// A module's attribute as a number.
    pub fn number(&self, module: Id, name: &str) -> Option<f64> {
        self.pickle.number(self.attribute(module, name)?)
    }

    /// A module's attribute as text.
    pub fn text(&self, module: Id, name: &str) -> Option<&str> {
        self.pickle.text(self.attribute(module, name)?)
    }

    /// A module's child modules, by name, in order.
    pub fn children(&self, module: Id) -> Vec<(&str, Id)> {
        let Some(children) = self.attribute(module, "_modules") else { return Vec::new() };
        let there = |id: &Id| !matches!(self.pickle.get(*id), Value::None);
        self.pickle.entries(children).into_iter().filter(|(_, id)| there(id)).collect()
    }

    /// A module's child.
    pub fn child(&self, module: Id, name: &str) -> Option<Id> {
        self.children(module).into_iter().find(|(n, _)| *n == name).map(|(_, id)| id)
    }

    /// All float parameters and buffers under a module, by dotted name. Buffers of whole numbers,
    /// such as a counter of batches, are left out.
    ///
    /// # Errors
    /// When a tensor is damaged, or modules lie too deep in each other.
    pub fn state(&self, module: Id) -> Result<StateDict> {
        let mut state = StateDict::new();
        self.collect(module, "", 0, &mut state)?;
        Ok(state)
    }

    fn collect(&self, module: Id, prefix: &str, depth: usize, state: &mut StateDict) -> Result<()> {
        if depth > MAX_DEPTH {
            let problem = format!("has modules more than {MAX_DEPTH} deep in each other");
            return Err(Error::invalid(&self.path, prefix, problem, ACTION));
        }
        for part in ["_parameters", "_buffers"] {
            let Some(entries) = self.attribute(module, part) else { continue };
            for (name, id) in self.pickle.entries(entries) {
                if matches!(self.pickle.get(id), Value::None) {
                    continue;
                }
                let full = format!("{prefix}{name}");
                match self.try_tensor(id) {
                    Ok(array) => insert(state, full, array),
                    Err(TensorError::NotFloat(_)) if part == "_buffers" => {}
                    Err(e) => return Err(self.damaged(&full, &e)),
                }
            }
        }
        for (name, child) in self.children(module) {
            self.collect(child, &format!("{prefix}{name}."), depth + 1, state)?;
        }
        Ok(())
    }

    /// The float tensors of a dict of tensors, by name. Other entries are left out.
    ///
    /// # Errors
    /// When a tensor is damaged.
    pub fn dict(&self, id: Id) -> Result<StateDict> {
        let mut state = StateDict::new();
        for (name, id) in self.pickle.entries(id) {
            if !self.is_tensor(id) {
                continue;
            }
            match self.try_tensor(id) {
                Ok(array) => insert(&mut state, name.to_string(), array),
                Err(TensorError::NotFloat(_)) => {}
                Err(e) => return Err(self.damaged(name, &e)),
            }
        }
        Ok(state)
    }
}

fn insert(state: &mut StateDict, name: String, array: Array) {
    state.insert(name, TensorData::new(array.data, array.shape));
}
