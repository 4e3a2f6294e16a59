//! Zip archives.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use super::{Entry, Listing, MOST_BYTES, MOST_FILES, tidy, too_many};
use crate::{Error, Result, regular};

const ACTION: &str = "make the archive again, or unpack it and name the folder";

/// An open archive.
#[derive(Debug)]
pub(super) struct Zip {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
}

impl Zip {
    pub(super) fn read(&mut self, entry: &Entry) -> Result<Vec<u8>> {
        let damaged = |problem: String| Error::invalid(&self.path, &entry.name, problem, ACTION);
        let file = self.archive.by_index(entry.place).map_err(|e| {
            let kind = if matches!(e, zip::result::ZipError::UnsupportedArchive(_)) {
                "can't be unpacked"
            } else {
                "damaged"
            };
            damaged(format!("{kind} ({e})"))
        })?;
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| damaged(format!("damaged ({e})")))?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(damaged(format!("unpacks to more than {MOST_BYTES} bytes")));
        }
        Ok(bytes)
    }
}

pub(super) fn list(path: &Path) -> Result<(Listing, Zip)> {
    let invalid = |problem: String| Error::invalid(path, "archive", problem, ACTION);
    let unreadable =
        |e: zip::result::ZipError| invalid(format!("not a readable zip archive ({e})"));
    let file = BufReader::new(regular::open(path)?);
    let mut archive = ZipArchive::new(file).map_err(unreadable)?;
    if archive.len() > MOST_FILES {
        return Err(too_many(path));
    }
    // Entries that share bytes unpack to far more than the archive's size.
    if archive.has_overlapping_entries().map_err(unreadable)? {
        return Err(invalid("has entries that overlap".into()));
    }
    let mut listing = Listing::default();
    for place in 0..archive.len() {
        let entry = archive.by_index_data(place).map_err(unreadable)?;
        let name = tidy(&entry.name().map_err(unreadable)?);
        match name.strip_suffix('/') {
            Some(folder) => listing.folders.push(folder.into()),
            None => {
                let packed = Some(entry.compressed_size());
                listing.files.push(Entry { name, place, packed });
            }
        }
    }
    // As EDM reads its archives.
    listing.files.sort_by(|a, b| a.name.cmp(&b.name));
    listing.folders.sort();
    Ok((listing, Zip { path: path.to_path_buf(), archive }))
}
