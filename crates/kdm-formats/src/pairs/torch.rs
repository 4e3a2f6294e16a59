//! Tensors of a `torch.save` file, by name, read where they lie: nothing of the file but its
//! structure is held in memory. The structure is a pickle, read as data.

use std::collections::HashMap;

use kdm_data::region::{Entry, Region};
use kdm_data::view::{Layout, View};
use kdm_data::{Error, Result};

use crate::numbers;
use crate::pickle::{Id, Pickle};
use crate::torch::{
    MAX_PICKLE, Rebuilt, TensorError, is_structure, is_tensor, rebuilt, storage_of,
};

const ACTION: &str = "save the tensors again with torch.save, as a dict or list";
/// How deep dicts and lists may lie in each other.
const MAX_DEPTH: usize = 4;
/// Tensors that a file of pairs may hold.
const MOST_TENSORS: usize = 4096;
/// Values that are looked at: dicts that share each other would be looked through again and again.
const MOST_LOOKS: usize = 1 << 20;

/// Whether the entries of an archive are those of a `torch.save` file.
pub fn is_torch(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| is_structure(&entry.name))
}

/// A file opened.
struct File<'a> {
    region: &'a Region,
    pickle: Pickle,
    storages: HashMap<&'a str, &'a Entry>,
    found: Vec<(String, View)>,
    looks: usize,
}

/// The tensors of a file in their order: a bare tensor has no name, those of a list are called 0,
/// 1, ..., and those of dicts in dicts `outer.inner`. Everything else in the file is left out.
///
/// # Errors
/// When it is damaged, or a tensor is of a kind that isn't numbers.
pub fn tensors(region: &Region, entries: &[Entry]) -> Result<Vec<(String, View)>> {
    let Some(root) = entries.iter().find(|entry| is_structure(&entry.name)) else {
        return Err(region.invalid("holds no data.pkl, so torch.save didn't write it", ACTION));
    };
    let folder = root.name.trim_end_matches("data.pkl");
    let order = format!("{folder}byteorder");
    if let Some(entry) = entries.iter().find(|entry| entry.name == order && entry.size < 64)
        && region.entry(entry)?.to_vec()? != b"little"
    {
        return Err(region.invalid("is of a big-endian machine", ACTION));
    }
    if root.size > MAX_PICKLE {
        return Err(region.invalid("has a structure of more than 64 MiB", ACTION));
    }
    let pickle = Pickle::parse(&region.entry(root)?.to_vec()?)
        .map_err(|e| region.invalid(e.to_string(), ACTION))?;
    let prefix = format!("{folder}data/");
    let storages = entries.iter().filter_map(|e| Some((e.name.strip_prefix(&prefix)?, e)));
    let (storages, root) = (storages.collect(), pickle.root);
    let mut file = File { region, pickle, storages, found: Vec::new(), looks: 0 };
    file.walk(root, String::new(), 0)?;
    Ok(file.found)
}

impl File<'_> {
    fn bad(&self, name: &str, problem: impl Into<String>) -> Error {
        Error::invalid(self.region.path(), format!("tensor `{name}`"), problem, ACTION)
    }

    fn walk(&mut self, id: Id, name: String, depth: usize) -> Result<()> {
        self.looks += 1;
        let many = self.found.len() > MOST_TENSORS || self.looks > MOST_LOOKS;
        if depth > MAX_DEPTH || many {
            return Err(self.bad(&name, "is one of too many, or lies too deep"));
        }
        if is_tensor(&self.pickle, id) {
            let view = self.view(&name, id)?;
            self.found.push((name, view));
            return Ok(());
        }
        let dot = |part: &str| {
            if name.is_empty() { part.to_string() } else { format!("{name}.{part}") }
        };
        let inner: Vec<(String, Id)> = match self.pickle.items(id) {
            Some(items) => {
                items.iter().enumerate().map(|(i, id)| (dot(&i.to_string()), *id)).collect()
            }
            None => self.pickle.entries(id).into_iter().map(|(key, id)| (dot(key), id)).collect(),
        };
        inner.into_iter().try_for_each(|(name, id)| self.walk(id, name, depth + 1))
    }

    /// Where the numbers of a tensor lie.
    fn view(&self, name: &str, id: Id) -> Result<View> {
        let bad = |error: TensorError| self.bad(name, error.to_string());
        let Rebuilt { storage, offset, shape, strides, dtype } =
            rebuilt(&self.pickle, id).map_err(bad)?;
        let (class, key) = storage_of(&self.pickle, self.pickle.get(storage)).map_err(bad)?;
        let class = dtype.map_or(class, |id| self.pickle.name(id).unwrap_or("no type"));
        let number = numbers::Number::of_torch(class).and_then(numbers::Number::in_view);
        let number = number.ok_or_else(|| bad(TensorError::Type(class.to_string())))?;
        let entry = self.storages.get(key);
        let entry = entry.ok_or_else(|| bad(TensorError::NoStorage(key.to_string())))?;
        let start = offset.saturating_mul(number.width()) as u64;
        let layout = Layout { number, big_endian: false, start, shape, strides };
        View::new(self.region.entry(entry)?, layout)
    }
}
