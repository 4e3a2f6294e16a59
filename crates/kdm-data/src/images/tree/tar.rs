//! Tar archives, plain or packed by gzip. They are read in one pass, and the files kept as they
//! are.

use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::{Entry, Listing, MOST_BYTES, MOST_FILES, tidy, too_many};
use crate::io::tar::{self, Member};
use crate::{Error, Result, regular};

/// A packed archive may unpack to this much, and to so many times its own size: image files hardly
/// shrink.
const MOST_UNPACKED: (u64, u64) = (256 << 20, 20);
const ACTION: &str = "fetch the archive again, or unpack it and name the folder";

/// The files' bytes, by their place.
#[derive(Debug)]
pub(super) struct Tar {
    files: Vec<Vec<u8>>,
}

impl Tar {
    /// Gives a file's bytes away: each is read once.
    pub(super) fn read(&mut self, place: usize) -> Vec<u8> {
        std::mem::take(&mut self.files[place])
    }
}

/// What is wrong with an archive of images.
#[derive(Debug, thiserror::Error)]
enum TarError {
    #[error(transparent)]
    Tar(#[from] tar::TarError),
    #[error("holds the file `{0}` of more than {MOST_BYTES} bytes")]
    Large(String),
    #[error("too many files")]
    Many,
}

pub(super) fn list(path: &Path, packed: bool) -> Result<(Listing, Tar)> {
    let file = regular::open(path)?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    let mut found = Found::default();
    let read = match packed {
        true => {
            let most = length.saturating_mul(MOST_UNPACKED.1).saturating_add(MOST_UNPACKED.0);
            let reader = MultiGzDecoder::new(BufReader::new(file));
            tar::packed(reader, most, |member, reader| found.add(member, reader))
        }
        false => tar::plain(file, length, |member, reader| found.add(member, reader)),
    };
    match read {
        Ok(_) => Ok(found.listed()),
        Err(TarError::Many) => Err(too_many(path)),
        Err(other) => Err(Error::invalid(path, "archive", other.to_string(), ACTION)),
    }
}

/// What an archive holds.
#[derive(Default)]
struct Found {
    files: Vec<(String, Vec<u8>)>,
    folders: Vec<String>,
}

impl Found {
    fn add(&mut self, member: Member, reader: &mut dyn Read) -> std::result::Result<(), TarError> {
        let Member { name, folder, size, .. } = member;
        if size > MOST_BYTES {
            return Err(TarError::Large(name));
        }
        match folder {
            true => self.folders.push(tidy(&name)),
            false => self.files.push((tidy(&name), tar::read_all(reader, size)?)),
        }
        match self.files.len() + self.folders.len() {
            MOST_FILES.. => Err(TarError::Many),
            _ => Ok(()),
        }
    }

    fn listed(mut self) -> (Listing, Tar) {
        self.files.sort_by(|a, b| a.0.split('/').cmp(b.0.split('/')));
        self.folders.retain(|name| !name.is_empty() && name != ".");
        self.folders.sort();
        let mut listing = Listing { folders: self.folders, ..Listing::default() };
        let mut files = Vec::new();
        for (place, (name, bytes)) in self.files.into_iter().enumerate() {
            listing.files.push(Entry { name, place, packed: None });
            files.push(bytes);
        }
        (listing, Tar { files })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::tar::tests::entry;

    #[test]
    fn files_are_sorted_and_packed_archives_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let tar = [
            entry("./top/", b'5', b""),
            entry("./top/b.png", b'0', &[7; 600]),
            entry("top/a.png", b'0', b"first"),
        ]
        .concat();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let packed = |bytes: &[u8]| {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut out, bytes).unwrap();
            out.finish().unwrap()
        };
        for (path, packed) in
            [(write("a.tar", &tar), false), (write("a.tar.gz", &packed(&tar)), true)]
        {
            let (listing, mut files) = list(&path, packed).unwrap();
            let found: Vec<&str> = listing.files.iter().map(|file| file.name.as_str()).collect();
            assert_eq!(found, ["top/a.png", "top/b.png"]);
            assert_eq!((files.read(0), files.read(1)), (b"first".to_vec(), vec![7; 600]));
            assert_eq!(listing.folders, ["top"]);
        }
        for (path, is_packed, part) in [
            (write("b.tar", &tar[..1100]), false, "cut short within `./top/b.png`"),
            (write("b.tar.gz", &packed(&tar[..1100])), true, "cut short"),
            (write("c.gz", &packed(&[1; 2000])), true, "no tar archive"),
        ] {
            let message = list(&path, is_packed).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
