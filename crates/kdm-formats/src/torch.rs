//! Files written by `torch.save` since version 1.6: a zip archive of a pickle and one file a storage.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use kdm_data::{Array, Error, Result};
use zip::ZipArchive;

use crate::pickle::{Id, Pickle, PickleError, Value};

/// Pickles above this size hold more than a network's structure: a tensor takes about 300 bytes. A pickle's values take up
/// to 60 times its size in memory.
const MAX_PICKLE: u64 = 16 << 20;

/// A file opened: its structure, and its tensors on demand.
#[derive(Debug)]
pub struct TorchFile {
    path: PathBuf,
    /// The structure.
    pub pickle: Pickle,
    storages: HashMap<String, Vec<u8>>,
}

impl TorchFile {
    /// Reads `path`.
    ///
    /// # Errors
    /// When the file is damaged, is no such archive, or its pickle is refused.
    pub fn open(path: &Path) -> Result<Self> {
        let bad = |field: &str, problem: String| {
            Error::invalid(path, field, problem, "give a file written by torch.save (PyTorch 1.6 or later), whole")
        };
        let file = File::open(path).map_err(Error::io("read", path))?;
        let size = file.metadata().map_err(Error::io("read", path))?.len();
        let mut archive = ZipArchive::new(BufReader::new(file))
            .map_err(|e| bad("archive", format!("not a readable zip archive ({e})")))?;
        let names: Vec<String> = archive
            .file_names()
            .map(|n| n.map(|n| n.into_owned()))
            .collect::<std::result::Result<_, _>>()
            .map_err(|e| bad("archive", format!("{e}")))?;
        let Some(pickle_name) = names.iter().find(|n| n.ends_with("/data.pkl") || *n == "data.pkl") else {
            return Err(bad("archive", "holds no data.pkl".into()));
        };
        let folder = pickle_name.trim_end_matches("data.pkl").to_string();
        let read = |archive: &mut ZipArchive<BufReader<File>>, name: &str, limit: u64| -> Result<Vec<u8>> {
            let entry = archive.by_name(name).map_err(|e| bad(name, e.to_string()))?;
            if entry.size() > limit {
                return Err(bad(name, format!("claims {} bytes, more than the file could hold", entry.size())));
            }
            let mut bytes = Vec::new();
            entry.take(limit).read_to_end(&mut bytes).map_err(|e| bad(name, format!("cut short or damaged ({e})")))?;
            Ok(bytes)
        };
        let byte_order = format!("{folder}byteorder");
        if names.contains(&byte_order) && read(&mut archive, &byte_order, 64)? != b"little" {
            return Err(bad("byteorder", "is not little-endian".into()));
        }
        let bytes = read(&mut archive, pickle_name, MAX_PICKLE)?;
        let pickle = Pickle::parse(&bytes).map_err(|e| match e {
            PickleError::Refused(_) => Error::invalid(
                path,
                "data.pkl",
                e.to_string(),
                "if you trust the file, load it in Python and save its state_dict; otherwise delete it",
            ),
            other => bad("data.pkl", other.to_string()),
        })?;
        let prefix = format!("{folder}data/");
        let mut storages = HashMap::new();
        // Storages are kept uncompressed, so no one of them is larger than the file.
        for name in names.iter().filter(|n| n.starts_with(&prefix)) {
            storages.insert(name[prefix.len()..].to_string(), read(&mut archive, name, size)?);
        }
        Ok(Self { path: path.to_path_buf(), pickle, storages })
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
            let mend = "the file is damaged or not a network's; save it again";
            Error::invalid(&self.path, format!("tensor `{name}`"), problem, mend)
        })
    }

    fn try_tensor(&self, id: Id) -> std::result::Result<Array, String> {
        let p = &self.pickle;
        let Value::Call(function, arguments) = p.get(id) else { return Err("is no tensor".into()) };
        let arguments = p.tuple(*arguments).unwrap_or(&[]);
        match (function.as_str(), arguments) {
            // A parameter wraps a tensor, never another parameter.
            ("torch._utils._rebuild_parameter", [inner, ..]) => match p.get(*inner) {
                Value::Call(f, _) if f == "torch._utils._rebuild_tensor_v2" => self.try_tensor(*inner),
                _ => Err("is a parameter without a tensor".into()),
            },
            ("torch._utils._rebuild_tensor_v2", [storage, offset, shape, strides, ..]) => {
                let sizes = |id: Id| -> Option<Vec<usize>> {
                    let items = p.tuple(id)?.iter();
                    items.map(|i| usize::try_from(p.number(*i)? as i64).ok()).collect()
                };
                let (Some(shape), Some(strides)) = (sizes(*shape), sizes(*strides)) else {
                    return Err("has no shape".into());
                };
                let offset = p.number(*offset).unwrap_or(0.0) as usize;
                let values = self.storage(*storage)?;
                strided(&values, offset, &shape, &strides)
            }
            _ => Err(format!("is the result of `{function}`")),
        }
    }

    fn storage(&self, id: Id) -> std::result::Result<Vec<f32>, String> {
        let p = &self.pickle;
        let Value::Persistent(id) = p.get(id) else { return Err("has no storage".into()) };
        // ("storage", class, key, device, count)
        let Some([_, class, key, ..]) = p.tuple(*id) else { return Err("has no storage".into()) };
        let (Value::Global(class), Some(key)) = (p.get(*class), p.text(*key)) else {
            return Err("has a storage without a type".into());
        };
        let bytes = self.storages.get(key).ok_or(format!("storage {key} is missing from the archive"))?;
        match class.as_str() {
            "torch.FloatStorage" => Ok(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            "torch.DoubleStorage" => Ok(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect()),
            "torch.HalfStorage" => {
                Ok(bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect())
            }
            "torch.BFloat16Storage" => {
                Ok(bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect())
            }
            other => Err(format!("is of type {other}, which weights are not")),
        }
    }
}

/// The elements of a strided view, row-major.
fn strided(values: &[f32], offset: usize, shape: &[usize], strides: &[usize]) -> std::result::Result<Array, String> {
    let count = shape.iter().try_fold(1usize, |n, s| n.checked_mul(*s));
    let last = shape
        .iter()
        .zip(strides)
        .try_fold(offset, |at, (size, stride)| at.checked_add(size.saturating_sub(1).checked_mul(*stride)?));
    let (Some(count), Some(last)) = (count, last) else { return Err("has an impossible shape".into()) };
    if shape.len() != strides.len() || count > values.len() || (count > 0 && last >= values.len()) {
        return Err(format!("of shape {shape:?} reaches outside its storage of {} numbers", values.len()));
    }
    let mut data = Vec::with_capacity(count);
    let mut index = vec![0usize; shape.len()];
    for _ in 0..count {
        data.push(values[offset + index.iter().zip(strides).map(|(i, s)| i * s).sum::<usize>()]);
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
        let values: Vec<f32> = (0..6).map(|i| i as f32).collect();
        let transposed = strided(&values, 0, &[3, 2], &[1, 3]).unwrap();
        assert_eq!(transposed.data, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert!(strided(&values, 1, &[3, 2], &[1, 3]).is_err());
        assert!(strided(&values, 0, &[usize::MAX, 2], &[1, 1]).is_err());
        assert!(strided(&values, 0, &[7], &[0]).is_err());
    }
}
