//! Files written by `torch.save`: a zip archive of a pickle and one file a storage (PyTorch 1.6 and
//! later), or the older stream of pickles followed by the storages; and plain pickles that hold
//! such streams inside (NVlabs).

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use kdm_data::{Array, Error, Result};
use kdm_nn::StateDict;
use zip::{CompressionMethod, ZipArchive};

use crate::pickle::{Id, Pickle, PickleError, Value};

/// Pickles of zip archives above this size hold more than a network's structure: a tensor takes
/// about 300 bytes.
const MAX_PICKLE: u64 = 64 << 20;

/// What an older stream begins with: a pickle of one large number.
const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

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

const MEND: &str = "download or save the file again, whole, with torch.save";

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
        self.try_tensor(id).map_err(|problem| {
            Error::invalid(&self.path, format!("tensor `{name}`"), problem, MEND)
        })
    }

    /// Whether the value is a tensor or parameter.
    pub fn is_tensor(&self, id: Id) -> bool {
        matches!(self.pickle.get(id), Value::Call(function, _) if TENSORS.contains(&function.as_str()))
    }

    fn try_tensor(&self, id: Id) -> std::result::Result<Array, String> {
        let p = &self.pickle;
        let mut id = id;
        // A parameter wraps a tensor; nothing wraps deeper than this.
        for _ in 0..3 {
            let Value::Call(function, arguments) = p.get(id) else {
                return Err("is no tensor".into());
            };
            let arguments = p.tuple(*arguments).unwrap_or(&[]);
            match (function.as_str(), arguments) {
                (
                    "torch._utils._rebuild_parameter"
                    | "torch._utils._rebuild_parameter_with_state",
                    [inner, ..],
                ) => {
                    id = *inner;
                }
                ("torch._tensor._rebuild_from_type_v2", [_, _, inner, ..]) => {
                    return self.view(p.items(*inner).unwrap_or(&[]));
                }
                ("torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor", arguments) => {
                    return self.view(arguments);
                }
                _ => return Err(format!("is the result of `{function}`")),
            }
        }
        Err("is a parameter without a tensor".into())
    }

    /// The tensor that (storage, offset, shape, strides, ...) tell of.
    fn view(&self, arguments: &[Id]) -> std::result::Result<Array, String> {
        let p = &self.pickle;
        let [storage, offset, shape, strides, ..] = arguments else {
            return Err("has no storage and shape".into());
        };
        let size = |id: Id| match p.get(id) {
            Value::Int(i) => usize::try_from(*i).ok(),
            _ => None,
        };
        // A torch.Size is a call on the tuple.
        let items = |id: Id| match p.get(id) {
            Value::Call(name, arguments) if name == "torch.Size" => {
                p.items(*p.tuple(*arguments)?.first()?)
            }
            _ => p.items(id),
        };
        let sizes =
            |id: Id| -> Option<Vec<usize>> { items(id)?.iter().map(|i| size(*i)).collect() };
        let (Some(offset), Some(shape), Some(strides)) =
            (size(*offset), sizes(*shape), sizes(*strides))
        else {
            return Err("has no shape".into());
        };
        let count = shape.iter().try_fold(1usize, |n, s| n.checked_mul(*s)).unwrap_or(usize::MAX);
        match self.budget.get().checked_sub(count) {
            Some(rest) => self.budget.set(rest),
            None => {
                return Err(format!(
                    "of shape {shape:?} is larger than what is left of the file could hold"
                ));
            }
        }
        match p.get(*storage) {
            Value::Call(function, arguments) if function == "torch.storage._load_from_bytes" => {
                let id =
                    p.tuple(*arguments).and_then(|a| a.first()).copied().ok_or("has no storage")?;
                let stream = p.bytes(id).ok_or("has a storage that is no bytes")?;
                let (inner, storages) = if stream.starts_with(LEGACY_MAGIC) {
                    read_stream(&stream)
                } else {
                    Err(DAMAGED)
                }
                .map_err(|e| format!("has a storage that is unreadable: {e}"))?;
                let (class, key) = persistent(&inner, inner.root)?;
                let range = storages.get(key).ok_or("has a storage without data")?.clone();
                strided(&Numbers { class, bytes: &stream[range] }, offset, &shape, &strides)
            }
            _ => {
                let (class, key) = persistent(p, *storage)?;
                let range = self
                    .storages
                    .get(key)
                    .ok_or_else(|| format!("storage {key} is missing from the file"))?
                    .clone();
                strided(&Numbers { class, bytes: &self.bytes[range] }, offset, &shape, &strides)
            }
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
            return Err(Error::invalid(&self.path, prefix, problem, MEND));
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
                    Err(problem) if part == "_buffers" && problem.contains(NOT_FLOAT) => {}
                    Err(problem) => {
                        return Err(Error::invalid(
                            &self.path,
                            format!("tensor `{full}`"),
                            problem,
                            MEND,
                        ));
                    }
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
                Err(problem) if problem.contains(NOT_FLOAT) => {}
                Err(problem) => {
                    return Err(Error::invalid(
                        &self.path,
                        format!("tensor `{name}`"),
                        problem,
                        MEND,
                    ));
                }
            }
        }
        Ok(state)
    }
}

fn insert(state: &mut StateDict, name: String, array: Array) {
    state.insert(name, TensorData::new(array.data, array.shape));
}

const TENSORS: [&str; 5] = [
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch._tensor._rebuild_from_type_v2",
];

const DAMAGED: PickleError = PickleError::Damaged(0, "no stream of torch.save");

type Parts = (Pickle, HashMap<String, Range<usize>>);

fn refusal(path: &Path, field: &str, error: PickleError) -> Error {
    let mend = match error {
        PickleError::Refused(_) => {
            "if you trust the file, load it in Python and save its state_dict; otherwise delete it"
        }
        _ => MEND,
    };
    Error::invalid(path, field, error.to_string(), mend)
}

/// The structure and the places of the storages in a zip archive.
fn read_zip(path: &Path, bytes: &[u8]) -> Result<Parts> {
    let bad = |field: &str, problem: String| Error::invalid(path, field, problem, MEND);
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|e| {
        bad("archive", format!("not a readable zip archive ({e}); was it cut short?"))
    })?;
    let names: Vec<String> = archive
        .file_names()
        .map(|n| n.map(Cow::into_owned))
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| bad("archive", e.to_string()))?;
    let Some(pickle_name) = names.iter().find(|n| n.ends_with("/data.pkl") || *n == "data.pkl")
    else {
        let mend =
            "give a file that torch.save wrote; an archive of images is a data set, not a model";
        return Err(Error::invalid(path, "archive", "holds no data.pkl", mend));
    };
    let folder = pickle_name.trim_end_matches("data.pkl").to_string();
    let mut read = |name: &str, limit: u64| -> Result<Vec<u8>> {
        let entry = archive.by_name(name).map_err(|e| bad(name, e.to_string()))?;
        if entry.size() > limit {
            return Err(bad(
                name,
                format!("claims {} bytes, more than a network's structure takes", entry.size()),
            ));
        }
        let mut out = Vec::new();
        entry
            .take(limit)
            .read_to_end(&mut out)
            .map_err(|e| bad(name, format!("cut short or damaged ({e})")))?;
        Ok(out)
    };
    let byte_order = format!("{folder}byteorder");
    if names.contains(&byte_order) && read(&byte_order, 64)? != b"little" {
        return Err(bad("byteorder", "is not little-endian".into()));
    }
    let pickle =
        Pickle::parse(&read(pickle_name, MAX_PICKLE)?).map_err(|e| refusal(path, "data.pkl", e))?;
    let prefix = format!("{folder}data/");
    let mut storages = HashMap::new();
    for name in names.iter().filter(|n| n.starts_with(&prefix)) {
        let entry = archive.by_name(name).map_err(|e| bad(name, e.to_string()))?;
        let (size, start) = (entry.size(), entry.data_start());
        if entry.compression() != CompressionMethod::Stored {
            return Err(bad(name, "is compressed, which torch.save never does".into()));
        }
        let range = start.and_then(|start| {
            Some(start as usize..usize::try_from(start.checked_add(size)?).ok()?)
        });
        let range = range.filter(|r| r.end <= bytes.len());
        let range = range.ok_or_else(|| bad(name, "reaches beyond the end of the file".into()))?;
        // Reading to the end compares the checksum, so a flipped bit in a weight is found.
        let (mut entry, mut sink) = (entry, std::io::sink());
        std::io::copy(&mut entry, &mut sink).map_err(|e| bad(name, format!("damaged ({e})")))?;
        storages.insert(name[prefix.len()..].to_string(), range);
    }
    Ok((pickle, storages))
}

/// The structure and the places of the storages in an older stream: pickles of the magic number,
/// the protocol, the system, the object and the storages' keys; then for each key a count of 8
/// bytes and the data.
fn read_stream(bytes: &[u8]) -> std::result::Result<Parts, PickleError> {
    let damaged = |at: usize, what| Err(PickleError::Damaged(at, what));
    let mut at = 0;
    let mut next = || {
        let (pickle, length) = Pickle::parse_first(&bytes[at..])?;
        at += length;
        Ok::<Pickle, PickleError>(pickle)
    };
    next()?;
    let (_protocol, _system, object, keys) = (next()?, next()?, next()?, next()?);
    let mut classes = HashMap::new();
    for value in object.values() {
        if let Value::Persistent(_) = value
            && let Ok((class, key)) = persistent_of(&object, value)
        {
            classes.insert(key.to_string(), class.to_string());
        }
    }
    let mut storages = HashMap::new();
    for id in keys.items(keys.root).unwrap_or(&[]) {
        let Some(key) = keys.text(*id) else { return damaged(at, "a storage's key is no text") };
        let Some(width) = classes.get(key).and_then(|class| width(class)) else {
            return damaged(at, "a storage is of an unknown type");
        };
        let Some(count) = bytes.get(at..at + 8) else {
            return damaged(at, "it ends before a storage");
        };
        let count = u64::from_le_bytes(count.try_into().expect("eight bytes"));
        at += 8;
        let end = usize::try_from(count).ok().and_then(|n| n.checked_mul(width)?.checked_add(at));
        let Some(end) = end.filter(|end| *end <= bytes.len()) else {
            return damaged(at, "it ends within a storage");
        };
        storages.insert(key.to_string(), at..end);
        at = end;
    }
    Ok((object, storages))
}

/// Class and key of ("storage", class, key, device, count, ...).
fn persistent(p: &Pickle, id: Id) -> std::result::Result<(&str, &str), String> {
    persistent_of(p, p.get(id))
}

fn persistent_of<'a>(
    p: &'a Pickle,
    value: &Value,
) -> std::result::Result<(&'a str, &'a str), String> {
    let Value::Persistent(id) = value else { return Err("has no storage".into()) };
    let Some([_, class, key, ..]) = p.tuple(*id) else { return Err("has no storage".into()) };
    match (p.get(*class), p.text(*key)) {
        (Value::Global(class), Some(key)) => Ok((class, key)),
        _ => Err("has a storage without a type".into()),
    }
}

/// Bytes a number of a storage class.
fn width(class: &str) -> Option<usize> {
    match class.strip_prefix("torch.")?.strip_suffix("Storage")? {
        "Byte" | "Char" | "Bool" => Some(1),
        "Half" | "BFloat16" | "Short" => Some(2),
        "Float" | "Int" => Some(4),
        "Double" | "Long" | "ComplexFloat" => Some(8),
        "ComplexDouble" => Some(16),
        _ => None,
    }
}

/// In messages about storages of other numbers than floats.
const NOT_FLOAT: &str = "which weights are not";

type Decoder = (usize, fn(&[u8]) -> f32);

/// A storage's numbers.
struct Numbers<'a> {
    class: &'a str,
    bytes: &'a [u8],
}

impl Numbers<'_> {
    /// Bytes a number, and how they are read.
    fn decoder(&self) -> std::result::Result<Decoder, String> {
        fn fixed<const W: usize>(bytes: &[u8]) -> [u8; W] {
            bytes.try_into().expect("as many as the width")
        }
        match self.class {
            "torch.FloatStorage" => Ok((4, |b| f32::from_le_bytes(fixed(b)))),
            "torch.DoubleStorage" => Ok((8, |b| f64::from_le_bytes(fixed(b)) as f32)),
            "torch.HalfStorage" => Ok((2, |b| half::f16::from_le_bytes(fixed(b)).to_f32())),
            "torch.BFloat16Storage" => Ok((2, |b| half::bf16::from_le_bytes(fixed(b)).to_f32())),
            other => Err(format!("is of type {other}, {NOT_FLOAT}")),
        }
    }
}

/// The elements of a strided view, row-major.
fn strided(
    numbers: &Numbers,
    offset: usize,
    shape: &[usize],
    strides: &[usize],
) -> std::result::Result<Array, String> {
    let (width, decode) = numbers.decoder()?;
    let there = numbers.bytes.len() / width;
    let count = shape.iter().try_fold(1usize, |n, s| n.checked_mul(*s));
    let last = shape.iter().zip(strides).try_fold(offset, |at, (size, stride)| {
        at.checked_add(size.saturating_sub(1).checked_mul(*stride)?)
    });
    let (Some(count), Some(last)) = (count, last) else {
        return Err("has an impossible shape".into());
    };
    if shape.len() != strides.len() || count > there || (count > 0 && last >= there) {
        return Err(format!("of shape {shape:?} reaches outside its storage of {there} numbers"));
    }
    let mut data = Vec::with_capacity(count);
    let mut index = vec![0usize; shape.len()];
    for _ in 0..count {
        let at = offset + index.iter().zip(strides).map(|(i, s)| i * s).sum::<usize>();
        data.push(decode(&numbers.bytes[at * width..(at + 1) * width]));
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Ok(Array::new(shape, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_views_are_read_and_bounded() {
        let bytes: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let numbers = Numbers { class: "torch.FloatStorage", bytes: &bytes };
        let transposed = strided(&numbers, 0, &[3, 2], &[1, 3]).unwrap();
        assert_eq!(transposed.data, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert!(strided(&numbers, 1, &[3, 2], &[1, 3]).is_err());
        assert!(strided(&numbers, 0, &[usize::MAX, 2], &[1, 1]).is_err());
        assert!(strided(&numbers, 0, &[7], &[0]).is_err());
        assert!(
            strided(&Numbers { class: "torch.LongStorage", bytes: &bytes }, 0, &[1], &[1]).is_err()
        );
    }
}
