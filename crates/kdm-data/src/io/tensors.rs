//! Named tensors in one `.safetensors` file, with one JSON object of ours under the metadata key
//! `kdm`.
//!
//! Models, pair shards and training checkpoints are all such files. They are written whole or not
//! at all, read through a memory map, and the same content gives the same bytes. Models and
//! checkpoints carry a checksum of the whole file, which is compared when they are opened; the
//! shards of a store have theirs in its manifest.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, TensorData};
use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde_json::Value;

use super::seal;
use crate::{Error, Result, atomic, regular};

/// The metadata key that holds our JSON.
pub const METADATA_KEY: &str = "kdm";

/// A tensor to be written: its type, shape and little-endian bytes.
#[derive(Clone, Debug)]
pub struct RawTensor<'a> {
    /// Type of the numbers.
    pub dtype: Dtype,
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// The numbers, row-major, little-endian.
    pub bytes: &'a [u8],
}

impl<'a> RawTensor<'a> {
    /// A tensor of f32.
    pub fn f32(shape: impl Into<Vec<usize>>, data: &'a [f32]) -> Self {
        Self { dtype: Dtype::F32, shape: shape.into(), bytes: bytemuck::cast_slice(data) }
    }
}

/// Writes tensors and metadata.
///
/// # Errors
/// When the file can't be written.
pub fn write(path: &Path, metadata: &Value, tensors: &BTreeMap<String, RawTensor>) -> Result<()> {
    atomic::write(path, &to_bytes(metadata, tensors))
}

/// Writes tensors and metadata, an object, with a checksum of the whole file under its key
/// `checksum`, in place of one that is there.
///
/// # Errors
/// When the file can't be written.
pub fn write_sealed(
    path: &Path,
    metadata: &Value,
    tensors: &BTreeMap<String, RawTensor>,
) -> Result<()> {
    let mut bytes = to_bytes(&seal::with_place(metadata), tensors);
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("a length stands first"));
    seal::seal(&mut bytes, 8 + length as usize);
    atomic::write(path, &bytes)
}

/// Writes what `file` holds, its types too, to another place, with a checksum of its own.
///
/// # Errors
/// When the file can't be written.
pub fn write_copy(path: &Path, file: &TensorFile) -> Result<()> {
    let names = file.entries().map(|(name, ..)| name);
    let all = names.filter_map(|name| Some((name.to_string(), file.get(name)?))).collect();
    write_sealed(path, file.metadata(), &all)
}

/// The bytes of such a file.
fn to_bytes(metadata: &Value, tensors: &BTreeMap<String, RawTensor>) -> Vec<u8> {
    let views = tensors.iter().map(|(name, t)| {
        let view =
            TensorView::new(t.dtype, t.shape.clone(), t.bytes).expect("shape and bytes agree");
        (name.clone(), view)
    });
    // One key alone: the library writes several in no fixed order.
    let metadata = HashMap::from([(METADATA_KEY.to_string(), metadata.to_string())]);
    serialize(views, Some(metadata)).expect("sizes fit the format")
}

/// Writes tensors by name as f32, sealed where the metadata is an object (see [`write_sealed`]).
/// Those of f16, bf16 and flex32 are converted, which changes no value.
///
/// # Errors
/// When a tensor is of another type, or the file can't be written.
pub fn write_state(
    path: &Path,
    metadata: &Value,
    state: &BTreeMap<String, TensorData>,
) -> Result<()> {
    let mut single = BTreeMap::new();
    for (name, data) in state {
        single.insert(name.clone(), as_f32(path, name, data)?);
    }
    let tensors = single
        .iter()
        .map(|(name, data)| {
            let (shape, bytes) = (data.shape().to_vec(), data.as_bytes());
            (name.clone(), RawTensor { dtype: Dtype::F32, shape, bytes })
        })
        .collect();
    write_sealed(path, metadata, &tensors)
}

/// The tensor as f32, where no value changes by it.
fn as_f32<'a>(path: &Path, name: &str, data: &'a TensorData) -> Result<Cow<'a, TensorData>> {
    match data.dtype() {
        DType::F32 => Ok(Cow::Borrowed(data)),
        DType::F16 | DType::BF16 | DType::Flex32 => Ok(Cow::Owned(data.clone().convert::<f32>())),
        other => {
            let problem = format!("is of type {other:?}, and files keep f32");
            let action = "convert it to f32 before it is written";
            Err(Error::invalid(path, format!("tensor `{name}`"), problem, action))
        }
    }
}

/// A mapped file: its metadata, and its tensors on demand.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    map: Content,
    metadata: Value,
    entries: BTreeMap<String, Entry>,
}

/// Where a file's bytes are.
#[derive(Debug)]
enum Content {
    Mapped(Mmap),
    Built(&'static [u8]),
}

impl std::ops::Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Built(bytes) => bytes,
        }
    }
}

/// The file in memory, as it is when it is opened.
fn mapped(path: &Path) -> Result<Mmap> {
    let file = regular::open(path)?;
    // SAFETY: files of this project are never changed in place, only replaced by a rename,
    // which leaves this map on the old content.
    #[expect(unsafe_code)]
    let map = unsafe { Mmap::map(&file) };
    map.map_err(Error::io("read", path))
}

#[derive(Clone, Debug)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl TensorFile {
    /// Maps `path`, reads its header, and compares the file with its checksum where it has one.
    ///
    /// # Errors
    /// When the file is missing, is not a safetensors file, is shorter than its header says, or has
    /// changed since it was written.
    pub fn open(path: &Path) -> Result<Self> {
        Self::parse(path, Content::Mapped(mapped(path)?), true)
    }

    /// As [`Self::open`], for files of other programs: metadata under the key `kdm` that isn't JSON
    /// is none of ours and stays unread.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn open_foreign(path: &Path) -> Result<Self> {
        Self::parse(path, Content::Mapped(mapped(path)?), false)
    }

    /// A file that is part of the program, under the name that messages call it by.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn built_in(name: &str, bytes: &'static [u8]) -> Result<Self> {
        Self::parse(Path::new(name), Content::Built(bytes), true)
    }

    /// `ours`: whether metadata under our key has to be JSON.
    fn parse(path: &Path, map: Content, ours: bool) -> Result<Self> {
        let damaged = |problem: String| {
            Error::invalid(
                path,
                "header",
                problem,
                "copy or make the file again; it is cut short or damaged",
            )
        };
        let (header, info) = SafeTensors::read_metadata(&map)
            .map_err(|e| damaged(format!("not a readable safetensors file ({e})")))?;
        let end = 8 + header + info.data_len();
        if map.len() != end {
            return Err(damaged(format!(
                "the file has {} bytes where its header tells of {end}",
                map.len()
            )));
        }
        let entries = info
            .tensors()
            .into_iter()
            .map(|(name, t)| {
                let range = 8 + header + t.data_offsets.0..8 + header + t.data_offsets.1;
                (name, Entry { dtype: t.dtype, shape: t.shape.clone(), range })
            })
            .collect();
        let metadata = match info.metadata().as_ref().and_then(|m| m.get(METADATA_KEY)) {
            None => Value::Null,
            Some(text) => match serde_json::from_str(text) {
                Ok(metadata) => metadata,
                Err(_) if !ours => Value::Null,
                Err(e) => {
                    return Err(damaged(format!("metadata `{METADATA_KEY}` is not JSON ({e})")));
                }
            },
        };
        if let Some(problem) = seal::problem(&map, 8 + header, &metadata) {
            let action = "copy or make the file again; it was damaged or edited";
            return Err(Error::invalid(path, seal::KEY, problem, action));
        }
        Ok(Self { path: path.to_path_buf(), map, metadata, entries })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The JSON under `kdm`; null when there is none.
    pub fn metadata(&self) -> &Value {
        &self.metadata
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Names, types and shapes.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Dtype, &[usize])> {
        self.entries.iter().map(|(name, e)| (name.as_str(), e.dtype, e.shape.as_slice()))
    }

    /// Whether all tensors are in half precision.
    pub fn is_half(&self) -> bool {
        self.entries.values().all(|entry| entry.dtype == Dtype::F16)
    }

    /// Type, shape and bytes of one tensor, if there.
    pub fn get(&self, name: &str) -> Option<RawTensor<'_>> {
        let entry = self.entries.get(name)?;
        Some(RawTensor {
            dtype: entry.dtype,
            shape: entry.shape.clone(),
            bytes: &self.map[entry.range.clone()],
        })
    }

    /// All tensors whose name starts with `prefix`, without it, as f32 on the host.
    ///
    /// # Errors
    /// When one of them is of a type other than f32 or f16.
    pub fn state(&self, prefix: &str) -> Result<BTreeMap<String, TensorData>> {
        let mut state = BTreeMap::new();
        for (name, entry) in &self.entries {
            let Some(rest) = name.strip_prefix(prefix) else { continue };
            let bytes = &self.map[entry.range.clone()];
            let values: Vec<f32> = match entry.dtype {
                Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
                Dtype::F16 => {
                    let half = |b: &[u8; 2]| half::f16::from_le_bytes(*b).to_f32();
                    bytes.as_chunks().0.iter().map(half).collect()
                }
                other => {
                    return Err(Error::invalid(
                        &self.path,
                        format!("tensor `{name}`"),
                        format!("of type {other:?}"),
                        "convert it to float32 or float16",
                    ));
                }
            };
            state.insert(rest.to_string(), TensorData::new(values, entry.shape.clone()));
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tensors_go_out_and_in_again_in_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        let state = BTreeMap::from([
            ("a.weight".to_string(), TensorData::new(vec![1f32, 2.0, 3.0, 4.0], [2, 2])),
            ("b".to_string(), TensorData::new(vec![0.5f32], [1])),
        ]);
        let metadata = json!({"version": 1, "x": [1, 2]});
        write_state(&path, &metadata, &state).unwrap();
        let first = std::fs::read(&path).unwrap();
        let file = TensorFile::open(&path).unwrap();
        assert_eq!(file.metadata()["x"], metadata["x"]);
        assert_eq!(file.state("").unwrap(), state);
        assert_eq!(file.state("a.").unwrap().len(), 1);
        write_state(&path, &metadata, &state).unwrap();
        assert_eq!(first, std::fs::read(&path).unwrap());
        let again = folder.path().join("again.safetensors");
        write_copy(&again, &file).unwrap();
        assert_eq!(first, std::fs::read(&again).unwrap());
    }

    /// A byte that has changed anywhere is found, in the header by what it says or by the checksum;
    /// a file without a checksum is read as it is.
    #[test]
    fn a_changed_byte_is_found_when_the_file_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        let values = TensorData::new((0..600).map(|i| i as f32).collect::<Vec<f32>>(), [600]);
        let state = BTreeMap::from([("a".to_string(), values)]);
        let metadata = json!({"kind": "line", "config": {"slope": 80.5}});
        write_state(&path, &metadata, &state).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let (mut found, mut by_checksum) = (0, 0);
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            std::fs::write(&path, &changed).unwrap();
            match TensorFile::open(&path) {
                Err(e) => {
                    found += 1;
                    by_checksum += usize::from(e.to_string().contains(": checksum: "));
                }
                // The checksum's own key: what it would have guarded is as it was. Or the key of
                // all our metadata, without which a file is no model.
                Ok(file) if file.metadata().is_null() => {}
                Ok(file) => {
                    assert_eq!(file.metadata()["config"], metadata["config"], "{at}");
                    assert_eq!(file.state("").unwrap(), state, "{at}");
                }
            }
        }
        assert!(found + 20 > whole.len() && by_checksum > 2400, "{found} {by_checksum}");
        let raw = RawTensor::f32([2], &[1.0, 2.0]);
        write(&path, &metadata, &BTreeMap::from([("a".to_string(), raw)])).unwrap();
        assert_eq!(TensorFile::open(&path).unwrap().metadata(), &metadata);
    }

    /// Networks in half precision are kept in f32, value by value; whole numbers are no weights.
    #[test]
    fn other_floats_are_kept_as_f32() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        let values = [1f32, -0.5, 65504.0, 6.0e-8];
        let halves: Vec<half::f16> = values.iter().map(|x| half::f16::from_f32(*x)).collect();
        let brains: Vec<half::bf16> = values.iter().map(|x| half::bf16::from_f32(*x)).collect();
        let state = BTreeMap::from([
            ("brain".to_string(), TensorData::new(brains.clone(), [4])),
            ("half".to_string(), TensorData::new(halves.clone(), [2, 2])),
        ]);
        write_state(&path, &Value::Null, &state).unwrap();
        let read = TensorFile::open(&path).unwrap().state("").unwrap();
        let expected: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
        assert_eq!(read["half"], TensorData::new(expected, [2, 2]));
        let expected: Vec<f32> = brains.iter().map(|x| x.to_f32()).collect();
        assert_eq!(read["brain"], TensorData::new(expected, [4]));
        let whole = BTreeMap::from([("n".to_string(), TensorData::new(vec![1i32], [1]))]);
        let message = write_state(&path, &Value::Null, &whole).unwrap_err().to_string();
        assert!(message.contains("tensor `n`") && message.contains("convert"), "{message}");
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        let state = BTreeMap::from([("a".to_string(), TensorData::new(vec![1f32; 64], [64]))]);
        write_state(&path, &json!({}), &state).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in (0..whole.len()).step_by(7) {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let message = TensorFile::open(&path).unwrap_err().to_string();
            assert!(message.contains("m.safetensors"), "{message}");
        }
    }
}
