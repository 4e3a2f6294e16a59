//! Weights in several files: the index that says which tensor is in which; and which file of a
//! folder has the weights.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use kdm_data::{Error, Result, regular};
use serde_json::Value;

const ACTION: &str = "download the index and all files that it names into one folder";

/// Largest index that is read: a million names.
const MAX_INDEX: u64 = 100 << 20;

/// The files that weights are in.
pub(super) enum Shards {
    /// All in one.
    One(PathBuf),
    /// An index, and its files.
    Several(Vec<Shard>),
}

/// One of several files.
pub(super) struct Shard {
    pub file: PathBuf,
    /// Tensors that the index says are here.
    pub names: Vec<String>,
}

/// What `path` means: a file of weights, the shards of an index, or what a folder has of these.
pub(super) fn shards(path: &Path) -> Result<Shards> {
    let file = match path.is_dir() {
        true => in_folder(path)?,
        false => path.to_path_buf(),
    };
    // model.safetensors.index.json; of a variant, model.safetensors.index.fp16.json
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
    if name.is_some_and(|name| name.contains(".index.") && name.ends_with(".json")) {
        return read(&file).map(Shards::Several);
    }
    Ok(Shards::One(file))
}

/// Whether a folder is one of weights alone.
pub(crate) fn is_weights_folder(folder: &Path) -> bool {
    in_folder(folder).is_ok()
}

/// The one file of a folder that has its weights: an index before shards, safetensors before
/// PyTorch's.
fn in_folder(folder: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    let ending = |ending: &str| -> Vec<&String> {
        names.iter().filter(|name| name.ends_with(ending)).collect()
    };
    for kind in [".safetensors.index.json", ".bin.index.json", ".safetensors", ".bin"] {
        match &ending(kind)[..] {
            [] => {}
            [only] => return Ok(folder.join(only)),
            several => {
                let problem = format!(
                    "has {} files `*{kind}`, among them {} and {}",
                    several.len(),
                    several[0],
                    several[1]
                );
                return Err(Error::invalid(folder, "folder", problem, "name one of the files"));
            }
        }
    }
    let problem = "has neither a .safetensors nor a .bin file, nor an index of such";
    Err(Error::invalid(folder, "folder", problem, "give the file with the weights itself"))
}

/// The files that an index names.
fn read(path: &Path) -> Result<Vec<Shard>> {
    let invalid = |field: &str, problem: String| Err(Error::invalid(path, field, problem, ACTION));
    let bytes = regular::read(path, MAX_INDEX)?;
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
    let index: Value = match serde_json::from_slice(bytes) {
        Ok(index) => index,
        Err(e) => return invalid("JSON", e.to_string()),
    };
    let Some(map) = index["weight_map"].as_object().filter(|map| !map.is_empty()) else {
        return invalid("weight_map", "is missing, and it says which tensor is where".into());
    };
    let mut files: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, file) in map {
        let Some(file) = file.as_str() else {
            return invalid("weight_map", format!("names no file for `{name}`"));
        };
        if file.contains(['/', '\\']) || file.starts_with('.') || file.ends_with(".json") {
            return invalid("weight_map", format!("`{file}` is no name of a file beside it"));
        }
        files.entry(file).or_default().push(name.clone());
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut shards = Vec::new();
    for (file, names) in files {
        let file = folder.join(file);
        if !file.exists() {
            return invalid("weight_map", format!("names {}, which is not there", file.display()));
        }
        shards.push(Shard { file, names });
    }
    Ok(shards)
}

/// Whether a file begins as safetensors files do: the length of a header, which is a JSON object.
pub(super) fn is_safetensors(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let file = regular::open(path)?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    file.take(64).read_to_end(&mut start).map_err(Error::io("read", path))?;
    let Some((header, text)) = start.split_first_chunk::<8>() else { return Ok(false) };
    let within = u64::from_le_bytes(*header) <= length;
    let named = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
    let object = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    // A file that says it is one gets that format's messages, unless it is clearly another.
    let other = start.starts_with(b"PK") || start.starts_with(b"\x80") && !object;
    Ok((within && object && !start.starts_with(b"PK")) || (named && !other))
}
