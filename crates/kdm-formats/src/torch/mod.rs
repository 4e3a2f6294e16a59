//! Files written by `torch.save`: a zip archive of a pickle and one file a storage (PyTorch 1.6 and
//! later), or the older stream of pickles followed by the storages; and plain pickles that hold
//! such streams inside (NVlabs).

mod archive;
mod modules;
mod rebuild;
mod tensor;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use burn::tensor::TensorData;
use kdm_data::{Array, Error, Result, regular};
use kdm_nn::StateDict;

use self::archive::{LEGACY_MAGIC, Storage, read_stream, read_zip, refusal};
pub(crate) use self::archive::{MAX_PICKLE, is_structure};
pub(crate) use self::rebuild::{Rebuilt, is_tensor, rebuilt, storage_of};
use self::tensor::Embedded;
pub(crate) use self::tensor::TensorError;
pub use self::tensor::TensorInfo;
use crate::pickle::{Id, Pickle, Value};

/// Numbers that tensors of a small file may have beyond its bytes, since one number can stand for
/// many.
const SPARE: usize = 8 << 20;

/// A file opened: its structure, and its tensors on demand.
#[derive(Debug)]
pub struct TorchFile {
    path: PathBuf,
    /// The structure.
    pub pickle: Pickle,
    bytes: Vec<u8>,
    storages: HashMap<String, Storage>,
    /// Storages within the pickle, each read once.
    embedded: RefCell<HashMap<Id, std::result::Result<Rc<Embedded>, TensorError>>>,
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
        Self::read(path, regular::read(path, u64::MAX)?)
    }

    /// Reads the bytes of a file; `path` is for messages.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn read(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        let (pickle, storages) = if bytes.starts_with(b"PK") {
            read_zip(path, &bytes)?
        } else if bytes.starts_with(LEGACY_MAGIC) {
            let (pickle, ranges) = read_stream(&bytes).map_err(|e| refusal(path, "stream", e))?;
            (pickle, ranges.into_iter().map(|(key, r)| (key, Storage::Stored(r))).collect())
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
        let inflated: usize = storages.values().map(Storage::inflated).sum();
        let budget = Cell::new(bytes.len().saturating_add(inflated).saturating_add(SPARE));
        let (path, embedded) = (path.to_path_buf(), RefCell::default());
        Ok(Self { path, pickle, bytes, storages, embedded, budget })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A tensor, parameter or NumPy array as f32, whatever its numbers are; `name` is for the
    /// message. Whole numbers above 2^24 are rounded.
    ///
    /// # Errors
    /// When the value is no tensor, of a type that has no f32 (complex), or reaches outside its
    /// storage.
    pub fn tensor(&self, id: Id, name: &str) -> Result<Array> {
        self.try_tensor(id).map_err(|e| self.damaged(name, &e))
    }

    fn damaged(&self, name: &str, e: &TensorError) -> Error {
        Error::invalid(&self.path, format!("tensor `{name}`"), e.to_string(), ACTION)
    }

    /// Whether the value is a tensor or parameter.
    pub fn is_tensor(&self, id: Id) -> bool {
        is_tensor(&self.pickle, id)
    }

    /// Shape and type of a tensor, parameter or NumPy array, without reading it; none of other
    /// values and damaged ones.
    pub fn inspect(&self, id: Id) -> Option<TensorInfo> {
        self.try_inspect(id).ok()
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

    /// Whether the value is a pickled module: it has a module's parts.
    pub fn is_module(&self, id: Id) -> bool {
        ["_modules", "_parameters"].iter().any(|part| self.attribute(id, part).is_some())
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

    /// All float parameters and buffers under a module, by dotted name. Whole numbers, such as a
    /// counter of batches, are left out.
    ///
    /// # Errors
    /// When a tensor is damaged, or modules lie too deep in each other.
    pub fn state(&self, module: Id) -> Result<StateDict> {
        let members = self.members(module);
        let members = members
            .map_err(|problem| Error::invalid(&self.path, "module", problem.to_string(), ACTION))?;
        let mut state = StateDict::new();
        for (name, id) in members.tensors {
            match self.try_inspect(id) {
                Ok(info) if !info.float => {}
                _ => {
                    let array = self.tensor(id, &name)?;
                    state.insert(name, TensorData::new(array.data, array.shape));
                }
            }
        }
        Ok(state)
    }
}
