//! The containers that `torch.save` writes: where a file's structure and its storages lie.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::Path;

use kdm_data::{Error, Result};
use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

use super::ACTION;
use super::rebuild::storage_of;
use crate::numbers::Number;
use crate::pickle::{Pickle, PickleError, Value};

/// Pickles of zip archives above this size hold more than a network's structure: a tensor takes
/// about 300 bytes.
pub(crate) const MAX_PICKLE: u64 = 64 << 20;

/// What an older stream begins with: a pickle of one large number.
pub(super) const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// Where the numbers of a storage are.
#[derive(Debug)]
pub(super) enum Storage {
    /// In the file.
    Stored(Range<usize>),
    /// Taken out of a compressed entry.
    Inflated(Vec<u8>),
}

impl Storage {
    /// Bytes that lie outside the file.
    pub(super) fn inflated(&self) -> usize {
        match self {
            Self::Stored(_) => 0,
            Self::Inflated(bytes) => bytes.len(),
        }
    }
}

/// Whether an entry of this name is the structure of what `torch.save` saved.
pub(crate) fn is_structure(name: &str) -> bool {
    name == "data.pkl" || name.ends_with("/data.pkl")
}

/// A file's structure, and its storages by their keys.
pub(super) type Parts<T> = (Pickle, HashMap<String, T>);

/// The error of a pickle that can't be read.
pub(super) fn refusal(path: &Path, field: &str, error: PickleError) -> Error {
    Error::invalid(path, field, error.to_string(), ACTION)
}

/// The structure and the places of the storages in a zip archive.
pub(super) fn read_zip(path: &Path, bytes: &[u8]) -> Result<Parts<Storage>> {
    let bad = |field: &str, problem: String| Error::invalid(path, field, problem, ACTION);
    // PyTorch may leave room between the directory and the record that ends the archive, which
    // isn't an archive behind other data.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut archive = ZipArchive::with_config(config, Cursor::new(bytes)).map_err(|e| {
        bad("archive", format!("not a readable zip archive ({e}); was it cut short?"))
    })?;
    let names: Vec<String> = archive
        .file_names()
        .map(|n| n.map(Cow::into_owned))
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| bad("archive", e.to_string()))?;
    let Some(pickle_name) = names.iter().find(|name| is_structure(name)) else {
        let action =
            "give a file that torch.save wrote; an archive of images is a data set, not a model";
        return Err(Error::invalid(path, "archive", "holds no data.pkl", action));
    };
    if overlaps(&mut archive).map_err(|e| bad("archive", e.to_string()))? {
        let problem = "has entries that lie over each other, which torch.save never writes";
        return Err(bad("archive", problem.into()));
    }
    // What compressed entries may take together.
    let mut room = (bytes.len() as u64).saturating_mul(4).saturating_add(MAX_PICKLE);
    let folder = pickle_name.trim_end_matches("data.pkl").to_string();
    let mut read = |name: &str, limit: u64| -> Result<Vec<u8>> {
        let entry = archive.by_name(name).map_err(|e| bad(name, e.to_string()))?;
        if entry.size() > limit {
            let problem =
                format!("claims {} bytes, and {limit} is the most that is read", entry.size());
            return Err(bad(name, problem));
        }
        let mut out = Vec::new();
        // Reading to the end compares the checksum.
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
    for name in names.iter().filter(|n| n.starts_with(&prefix) && !n.ends_with('/')) {
        let entry = archive.by_name(name).map_err(|e| bad(name, e.to_string()))?;
        let storage = match entry.compression() {
            CompressionMethod::Stored => stored(path, name, entry, bytes.len())?,
            _ => inflated(path, name, entry, &mut room)?,
        };
        storages.insert(name[prefix.len()..].to_string(), storage);
    }
    Ok((pickle, storages))
}

type Entry<'a, 'b> = zip::read::ZipFile<'a, Cursor<&'b [u8]>>;

/// The place of an entry that is stored as it is, whose checksum holds.
fn stored(path: &Path, name: &str, mut entry: Entry, length: usize) -> Result<Storage> {
    let bad = |problem: String| Error::invalid(path, name, problem, ACTION);
    let (size, start) = (entry.size(), entry.data_start());
    let range = start
        .and_then(|start| Some(start as usize..usize::try_from(start.checked_add(size)?).ok()?));
    let range = range.filter(|r| r.end <= length);
    let range = range.ok_or_else(|| bad("reaches beyond the end of the file".into()))?;
    // Reading to the end compares the checksum, so a flipped bit in a weight is found.
    std::io::copy(&mut entry, &mut std::io::sink()).map_err(|e| bad(format!("damaged ({e})")))?;
    Ok(Storage::Stored(range))
}

/// What a compressed entry holds. torch.save compresses nothing, but who packs a model again may.
fn inflated(path: &Path, name: &str, entry: Entry, room: &mut u64) -> Result<Storage> {
    let bad = |problem: String, action| Error::invalid(path, name, problem, action);
    let Some(rest) = room.checked_sub(entry.size()) else {
        let problem = "is compressed to less than a fourth, which numbers of a network never are";
        return Err(bad(problem.into(), "save the file again with torch.save"));
    };
    *room = rest;
    let limit = entry.size();
    let mut out = Vec::new();
    entry
        .take(limit)
        .read_to_end(&mut out)
        .map_err(|e| bad(format!("cut short or damaged ({e})"), ACTION))?;
    Ok(Storage::Inflated(out))
}

/// Whether two entries share bytes, so that reading each would read more than the file has.
fn overlaps(archive: &mut ZipArchive<Cursor<&[u8]>>) -> zip::result::ZipResult<bool> {
    let mut places = Vec::with_capacity(archive.len());
    for i in 0..archive.len() {
        let entry = archive.by_index_raw(i)?;
        let data = entry.data_start().unwrap_or(entry.header_start());
        places.push((entry.header_start(), data.saturating_add(entry.compressed_size())));
    }
    places.sort_unstable();
    Ok(places.windows(2).any(|two| two[0].1 > two[1].0))
}

/// The structure and the places of the storages in an older stream: pickles of the magic number,
/// the protocol, the system, the object and the storages' keys; then for each key a count of 8
/// bytes and the data.
pub(super) fn read_stream(bytes: &[u8]) -> std::result::Result<Parts<Range<usize>>, PickleError> {
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
            classes.insert(key, class);
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
    drop(classes);
    Ok((object, storages))
}

/// Bytes a number of a storage class.
fn width(class: &str) -> Option<usize> {
    match class.rsplit('.').next()? {
        "UntypedStorage" => Some(1),
        "ComplexFloatStorage" => Some(8),
        "ComplexDoubleStorage" => Some(16),
        _ => Number::of_torch(class).map(Number::width),
    }
}
