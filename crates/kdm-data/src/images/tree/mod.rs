//! Where files lie: in a folder, a zip, or a tar. Each is listed as names with forward slashes, and
//! read file by file.

mod folder;
mod tar;
mod zip;

use std::path::Path;

use crate::{Error, Result};

/// Bytes one file may have.
pub(super) const MOST_BYTES: u64 = 256 << 20;
/// Files one tree may have.
const MOST_FILES: usize = 8 << 20;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Below the tree's root, slashes forward; characters that are no UTF-8 are replaced.
    pub name: String,
    /// Its number for the reader.
    place: usize,
    /// Bytes that it takes in an archive that packs it.
    packed: Option<u64>,
}

impl Entry {
    /// Bytes of the disk that a file of `len` bytes takes.
    pub(super) fn stored(&self, len: usize) -> u64 {
        self.packed.unwrap_or(len as u64)
    }
}

#[cfg(test)]
pub(super) fn tar_entry(name: &str, bytes: &[u8]) -> Vec<u8> {
    crate::io::tar::tests::entry(name, b'0', bytes)
}

#[cfg(test)]
impl Entry {
    pub(super) fn named(name: &str) -> Self {
        Self { name: name.into(), place: 0, packed: None }
    }
}

/// What lies in a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// In the order that images are read in.
    pub files: Vec<Entry>,
    /// Folders that are known, also empty ones.
    pub folders: Vec<String>,
    /// Links to folders that are read at another place.
    pub known_links: usize,
}

/// A tree whose files can be read.
#[derive(Debug)]
pub(super) struct Tree {
    pub listing: Listing,
    files: Files,
}

#[derive(Debug)]
enum Files {
    Folder(folder::Folder),
    Zip(zip::Zip),
    Tar(tar::Tar),
}

/// Whether a file's beginning is a zip's.
fn is_zip(start: &[u8]) -> bool {
    start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06")
}

/// Whether a file's beginning is a tar's.
fn is_tar(start: &[u8]) -> bool {
    start.get(257..262) == Some(b"ustar")
}

impl Tree {
    /// Lists a folder, or a file that is a zip or a tar (also one packed by gzip); none for another
    /// file. Hidden files are listed too.
    ///
    /// # Errors
    /// When it can't be read, is damaged, or would unpack to more than its size allows.
    pub(super) fn open(path: &Path) -> Result<Option<Self>> {
        if path.is_dir() {
            let (listing, folder) = folder::list(path)?;
            return Ok(Some(Self { listing, files: Files::Folder(folder) }));
        }
        let start = start(path)?;
        if is_zip(&start) {
            let (listing, zip) = zip::list(path)?;
            return Ok(Some(Self { listing, files: Files::Zip(zip) }));
        }
        let packed = start.starts_with(&[0x1f, 0x8b]);
        if is_tar(&start) || packed {
            let (listing, tar) = tar::list(path, packed)?;
            return Ok(Some(Self { listing, files: Files::Tar(tar) }));
        }
        Ok(None)
    }

    /// A file's bytes.
    ///
    /// # Errors
    /// When it can't be read, is damaged, is no regular file, or has more than [`MOST_BYTES`].
    pub(super) fn read(&mut self, entry: &Entry) -> Result<Vec<u8>> {
        match &mut self.files {
            Files::Folder(folder) => folder.read(entry.place),
            Files::Zip(zip) => zip.read(entry),
            Files::Tar(tar) => Ok(tar.read(entry.place)),
        }
    }
}

/// The first bytes of a regular file, as many as tell archives apart.
pub(super) fn start(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut start = Vec::new();
    let file = crate::regular::open(path)?;
    file.take(512).read_to_end(&mut start).map_err(Error::io("read", path))?;
    Ok(start)
}

/// An archive's name for a file with forward slashes, without `./` before it.
fn tidy(name: &str) -> String {
    let name = name.replace('\\', "/");
    name.trim_start_matches("./").trim_start_matches('/').to_string()
}

fn too_many(path: &Path) -> Error {
    let problem = format!("holds more than {MOST_FILES} files");
    Error::invalid(path, "files", problem, "name the folder that holds the images alone")
}
