//! Tensors of a `torch.save` file, by name, read where they lie: nothing of the file but its
//! structure is held in memory. The structure is a pickle, read as data.

use std::collections::HashMap;

use kdm_data::region::{Entry, Region};
use kdm_data::view::{Layout, Number, View};
use kdm_data::{Error, Result};

use crate::pickle::{Id, Pickle, Value};

const ACTION: &str = "save the tensors again with torch.save, as a dict or list";
/// How deep dicts and lists may lie in each other.
const MAX_DEPTH: usize = 4;
/// Tensors that a file of pairs may hold.
const MOST_TENSORS: usize = 4096;
/// Bytes of a file's structure.
const MOST_PICKLE: u64 = 64 << 20;

/// Whether the entries of an archive are those of a `torch.save` file.
pub fn is_torch(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| is_pickle(&entry.name))
}

fn is_pickle(name: &str) -> bool {
    name == "data.pkl" || name.ends_with("/data.pkl")
}

/// A file opened.
struct File<'a> {
    region: &'a Region,
    pickle: Pickle,
    storages: HashMap<&'a str, &'a Entry>,
    found: Vec<(String, View)>,
}

/// The tensors of a file in their order: a bare tensor has no name, those of a list are called 0,
/// 1, ..., and those of dicts in dicts `outer.inner`. Everything else in the file is left out.
///
/// # Errors
/// When it is damaged, or a tensor is of a kind that isn't numbers.
pub fn tensors(region: &Region, entries: &[Entry]) -> Result<Vec<(String, View)>> {
    let Some(root) = entries.iter().find(|entry| is_pickle(&entry.name)) else {
        return Err(region.invalid("holds no data.pkl, so torch.save didn't write it", ACTION));
    };
    let folder = root.name.trim_end_matches("data.pkl");
    let order = format!("{folder}byteorder");
    if let Some(entry) = entries.iter().find(|entry| entry.name == order && entry.size < 64)
        && region.entry(entry)?.to_vec()? != b"little"
    {
        return Err(region.invalid("is of a big-endian machine", ACTION));
    }
    if root.size > MOST_PICKLE {
        return Err(region.invalid("has a structure of more than 64 MiB", ACTION));
    }
    let pickle = Pickle::parse(&region.entry(root)?.to_vec()?)
        .map_err(|e| region.invalid(e.to_string(), ACTION))?;
    let prefix = format!("{folder}data/");
    let storages = entries.iter().filter_map(|e| Some((e.name.strip_prefix(&prefix)?, e)));
    let (storages, root) = (storages.collect(), pickle.root);
    let mut file = File { region, pickle, storages, found: Vec::new() };
    file.walk(root, String::new(), 0)?;
    Ok(file.found)
}

impl File<'_> {
    fn bad(&self, name: &str, problem: impl Into<String>) -> Error {
        Error::invalid(self.region.path(), format!("tensor `{name}`"), problem, ACTION)
    }

    fn walk(&mut self, id: Id, name: String, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH || self.found.len() > MOST_TENSORS {
            return Err(self.bad(&name, "is one of too many, or lies too deep"));
        }
        if let Some(arguments) = self.tensor(id) {
            let view = self.view(&name, &arguments)?;
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

    /// The arguments of the call that makes a tensor, if the value is one.
    fn tensor(&self, id: Id) -> Option<Vec<Id>> {
        let Value::Call(function, arguments) = self.pickle.get(id) else { return None };
        let arguments = self.pickle.items(*arguments)?;
        match (&**function, arguments) {
            ("torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor", all) => {
                Some(all.to_vec())
            }
            ("torch._utils._rebuild_parameter", [inner, ..]) => self.tensor(*inner),
            ("torch._tensor._rebuild_from_type_v2", [_, _, inner, ..]) => {
                self.pickle.items(*inner).map(<[Id]>::to_vec)
            }
            _ => None,
        }
    }

    fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        let items = match self.pickle.get(id) {
            Value::Call(name, arguments) if &**name == "torch.Size" => {
                self.pickle.items(*self.pickle.items(*arguments)?.first()?)?
            }
            _ => self.pickle.items(id)?,
        };
        items.iter().map(|id| self.size(*id)).collect()
    }

    fn size(&self, id: Id) -> Option<usize> {
        match self.pickle.get(id) {
            Value::Int(size) => usize::try_from(*size).ok(),
            _ => None,
        }
    }

    /// The tensor that (storage, offset, shape, strides, ...) tell of.
    fn view(&self, name: &str, arguments: &[Id]) -> Result<View> {
        let p = &self.pickle;
        let [storage, offset, shape, strides, ..] = arguments else {
            return Err(self.bad(name, "has no storage and shape"));
        };
        let (Some(offset), Some(shape), Some(strides)) =
            (self.size(*offset), self.sizes(*shape), self.sizes(*strides))
        else {
            return Err(self.bad(name, "has no shape"));
        };
        // ("storage", class, key, device, count).
        let told = match p.get(*storage) {
            Value::Persistent(id) => p.items(*id),
            _ => None,
        };
        let Some([_, class, key, ..]) = told else {
            return Err(self.bad(name, "has no storage"));
        };
        let class = match p.get(*class) {
            Value::Global(class) => &**class,
            _ => "a nameless type",
        };
        let Some(number) = number(class) else {
            return Err(self.bad(name, format!("is of {class}, which is not read")));
        };
        let storage = p.text(*key).and_then(|key| self.storages.get(key));
        let Some(entry) = storage else {
            return Err(self.bad(name, "has a storage that is not in the file"));
        };
        let start = offset.saturating_mul(number.width()) as u64;
        let layout = Layout { number, big_endian: false, start, shape, strides };
        View::new(self.region.entry(entry)?, layout)
    }
}

/// The numbers of a storage's class.
fn number(class: &str) -> Option<Number> {
    Some(match class.strip_prefix("torch.")?.strip_suffix("Storage")? {
        "Bool" => Number::Bool,
        "Byte" => Number::Uint(1),
        "Char" => Number::Int(1),
        "Short" => Number::Int(2),
        "Int" => Number::Int(4),
        "Long" => Number::Int(8),
        "Half" => Number::Float(2),
        "Float" => Number::Float(4),
        "Double" => Number::Float(8),
        "BFloat16" => Number::Brain,
        _ => return None,
    })
}
