//! The containers that `torch.save` writes: where a file's structure and its storages lie.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::Path;

use kdm_data::{Error, Result};
use zip::{CompressionMethod, ZipArchive};

use super::ACTION;
use super::tensor::{storage_of, width};
use crate::pickle::{Pickle, PickleError, Value};

/// Pickles of zip archives above this size hold more than a network's structure: a tensor takes
/// about 300 bytes.
const MAX_PICKLE: u64 = 64 << 20;

/// What an older stream begins with: a pickle of one large number.
pub(super) const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// A file's structure, and where its storages are, by their keys.
pub(super) type Parts = (Pickle, HashMap<String, Range<usize>>);

/// The error of a pickle that can't be read.
pub(super) fn refusal(path: &Path, field: &str, error: PickleError) -> Error {
    let action = match error {
        PickleError::Refused(_) => {
            "if you trust the file, load it in Python and save its state_dict; otherwise delete it"
        }
        _ => ACTION,
    };
    Error::invalid(path, field, error.to_string(), action)
}

/// The structure and the places of the storages in a zip archive.
pub(super) fn read_zip(path: &Path, bytes: &[u8]) -> Result<Parts> {
    let bad = |field: &str, problem: String| Error::invalid(path, field, problem, ACTION);
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
        let action =
            "give a file that torch.save wrote; an archive of images is a data set, not a model";
        return Err(Error::invalid(path, "archive", "holds no data.pkl", action));
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
pub(super) fn read_stream(bytes: &[u8]) -> std::result::Result<Parts, PickleError> {
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
            && let Ok((class, key)) = storage_of(&object, value)
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
