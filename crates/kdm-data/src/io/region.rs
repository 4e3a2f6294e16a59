//! Bytes of a part of a file (a file, an entry of a zip archive, a stretch of either), read when
//! they are asked for. However large the part is, only what is read takes memory.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use flate2::Crc;
use flate2::bufread::DeflateDecoder;
use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

use crate::{Error, Result, regular};

/// Bytes that are read into memory at once where they can't be read in parts: more is refused.
const MOST_IN_MEMORY: u64 = 1 << 30;
/// The most that deflate can shrink an entry.
const MAX_RATIO: u64 = 1032;
const ACTION: &str = "copy or write the file again, whole";

/// A part of a file. A clone is the same part.
///
/// ```
/// use kdm_data::region::Region;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("file");
/// std::fs::write(&path, b"some bytes")?;
/// let word = Region::file(&path)?.part("word", 5, 5)?;
/// assert_eq!(word.to_vec()?, b"bytes");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Region(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// What messages call it.
    name: String,
    len: u64,
    bytes: Bytes,
    /// Compares the checksum of an archive's entry while it is read from its beginning to its end.
    check: Option<Mutex<Check>>,
}

type Shared = Arc<Mutex<File>>;

enum Bytes {
    Plain { file: Shared, start: u64 },
    Memory { bytes: Arc<Vec<u8>>, start: usize },
    Deflated { packed: Stretch, inflater: Box<Mutex<Inflater>> },
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain { .. } => "Plain",
            Self::Memory { .. } => "Memory",
            Self::Deflated { .. } => "Deflated",
        })
    }
}

#[derive(Debug)]
struct Check {
    crc: Crc,
    upto: u64,
    wanted: u32,
}

/// Where a decoder is in what it decodes.
#[derive(Default)]
struct Inflater {
    at: u64,
    decoder: Option<DeflateDecoder<BufReader<Stretch>>>,
}

/// Bytes of a shared file, in order.
#[derive(Clone)]
struct Stretch {
    file: Shared,
    at: u64,
    end: u64,
}

/// A lock that nothing can poison in earnest: what it guards is read again from the start.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Read for Stretch {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let most = out.len().min(left);
        let mut file = lock(&self.file);
        file.seek(SeekFrom::Start(self.at))?;
        let n = file.read(&mut out[..most])?;
        self.at += n as u64;
        Ok(n)
    }
}

/// An entry of a zip archive, as its directory tells of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name, folders and all.
    pub name: String,
    /// Bytes it has when unpacked.
    pub size: u64,
    header: u64,
    packed: u64,
    crc: u32,
    deflated: bool,
}

impl Region {
    fn of(path: &Path, name: &str, len: u64, bytes: Bytes) -> Self {
        let (path, name) = (path.to_path_buf(), name.to_string());
        Self(Arc::new(Inner { path, name, len, bytes, check: None }))
    }

    /// A whole file.
    ///
    /// # Errors
    /// As [`regular::open`].
    pub fn file(path: &Path) -> Result<Self> {
        let file = regular::open(path)?;
        let len = file.metadata().map_err(Error::io("read", path))?.len();
        let file = Arc::new(Mutex::new(file));
        Ok(Self::of(path, "file", len, Bytes::Plain { file, start: 0 }))
    }

    /// Bytes at hand, which stand for the part `name` of the file `path`.
    pub fn bytes(path: &Path, name: &str, bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        Self::of(path, name, len, Bytes::Memory { bytes: Arc::new(bytes), start: 0 })
    }

    /// The file it is a part of.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What messages call it: an entry's name, or what a part was called.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.0.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// Whether reading in another order than from first to last costs no more.
    pub fn seeks(&self) -> bool {
        !matches!(self.0.bytes, Bytes::Deflated { .. })
    }

    /// An [`Error::Invalid`] about it.
    pub fn invalid(&self, problem: impl Into<String>, action: impl Into<String>) -> Error {
        Error::invalid(&self.0.path, self.0.name.clone(), problem, action)
    }

    fn damaged(&self, e: &io::Error) -> Error {
        self.invalid(format!("cut short or damaged ({e})"), ACTION)
    }

    /// `len` bytes of it from `start` on. What is packed is unpacked in memory.
    ///
    /// # Errors
    /// When it has fewer, or can't be read.
    pub fn part(&self, name: &str, start: u64, len: u64) -> Result<Self> {
        if start.checked_add(len).is_none_or(|end| end > self.0.len) {
            let problem = format!("`{name}` reaches beyond its {} bytes", self.0.len);
            return Err(self.invalid(problem, ACTION));
        }
        let bytes = match &self.0.bytes {
            Bytes::Plain { file, start: base } => {
                Bytes::Plain { file: file.clone(), start: base + start }
            }
            Bytes::Memory { bytes, start: base } => {
                Bytes::Memory { bytes: bytes.clone(), start: base + start as usize }
            }
            Bytes::Deflated { .. } => return self.in_memory()?.part(name, start, len),
        };
        Ok(Self::of(&self.0.path, name, len, bytes))
    }

    /// The same bytes in memory.
    ///
    /// # Errors
    /// When they are more than 1 GiB, or damaged.
    pub fn in_memory(&self) -> Result<Self> {
        if matches!(self.0.bytes, Bytes::Memory { .. }) {
            return Ok(self.clone());
        }
        let bytes = Bytes::Memory { bytes: Arc::new(self.to_vec()?), start: 0 };
        Ok(Self::of(&self.0.path, &self.0.name, self.0.len, bytes))
    }

    /// All bytes.
    ///
    /// # Errors
    /// When they are more than 1 GiB, or damaged.
    pub fn to_vec(&self) -> Result<Vec<u8>> {
        if self.0.len > MOST_IN_MEMORY {
            let problem = format!("has {} bytes, too many to be read at once", self.0.len);
            let action = "store it uncompressed and in C order, or in several files";
            return Err(self.invalid(problem, action));
        }
        // What is there decides, not what a header claims.
        let mut bytes = Vec::new();
        self.reader().read_to_end(&mut bytes).map_err(|e| self.damaged(&e))?;
        if bytes.len() as u64 != self.0.len {
            return Err(self.damaged(&io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(bytes)
    }

    /// Fills `out` with the bytes from `at` on.
    ///
    /// # Errors
    /// When they aren't there, or the part is damaged.
    pub fn read_at(&self, at: u64, out: &mut [u8]) -> Result<()> {
        self.fill(at, out).map_err(|e| self.damaged(&e))
    }

    fn fill(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        if at.checked_add(out.len() as u64).is_none_or(|end| end > self.0.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match &self.0.bytes {
            Bytes::Memory { bytes, start } => {
                let at = start + at as usize;
                out.copy_from_slice(&bytes[at..at + out.len()]);
            }
            Bytes::Plain { file, start } => {
                let mut file = lock(file);
                file.seek(SeekFrom::Start(start + at))?;
                file.read_exact(out)?;
            }
            Bytes::Deflated { packed, inflater } => {
                let mut inflater = lock(inflater);
                if inflater.decoder.is_none() || inflater.at > at {
                    inflater.decoder = Some(DeflateDecoder::new(BufReader::new(packed.clone())));
                    inflater.at = 0;
                }
                let Inflater { at: now, decoder } = &mut *inflater;
                let decoder = decoder.as_mut().expect("made above");
                let skipped = io::copy(&mut decoder.take(at - *now), &mut io::sink())?;
                *now += skipped;
                decoder.read_exact(out)?;
                *now += out.len() as u64;
            }
        }
        self.compare(at, out)
    }

    /// Takes what was read into the checksum, if it goes on where the last reading ended.
    fn compare(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let Some(check) = &self.0.check else { return Ok(()) };
        let mut check = lock(check);
        if at != check.upto {
            return Ok(());
        }
        check.crc.update(bytes);
        check.upto += bytes.len() as u64;
        if check.upto == self.0.len && check.crc.sum() != check.wanted {
            return Err(io::Error::other("its checksum doesn't match"));
        }
        Ok(())
    }

    /// Reads it from the start.
    pub fn reader(&self) -> impl Read + Seek {
        Cursor { region: self.clone(), at: 0 }
    }

    /// The entries of the zip archive that it is, in the archive's order; folders are left out.
    ///
    /// # Errors
    /// When it is no readable archive.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let bad = |e: zip::result::ZipError| {
            self.invalid(format!("not a readable zip archive ({e})"), ACTION)
        };
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let archive =
            ZipArchive::with_config(config, BufReader::new(self.reader())).map_err(bad)?;
        let mut entries = Vec::with_capacity(archive.len());
        for i in 0..archive.len() {
            let entry = archive.by_index_data(i).map_err(bad)?;
            if entry.is_dir() {
                continue;
            }
            let name = entry.name().map_err(bad)?.into_owned();
            if entry.encrypted() {
                let problem = format!("`{name}` is encrypted");
                return Err(self.invalid(problem, "unpack the archive and pack it again openly"));
            }
            let deflated = match entry.compression() {
                CompressionMethod::Stored => false,
                CompressionMethod::Deflated => true,
                other => {
                    let problem = format!("`{name}` is compressed by {other}");
                    return Err(self.invalid(problem, "pack it stored, or by deflate"));
                }
            };
            entries.push(Entry {
                name,
                size: entry.size(),
                header: entry.header_start(),
                packed: entry.compressed_size(),
                crc: entry.crc32(),
                deflated,
            });
        }
        // Reading each of entries that share bytes would read more than the file has.
        const LEAST_HEADER: u64 = 30;
        let end = |e: &Entry| e.header.saturating_add(LEAST_HEADER).saturating_add(e.packed);
        let mut places: Vec<(u64, u64)> = entries.iter().map(|e| (e.header, end(e))).collect();
        places.sort_unstable();
        if places.windows(2).any(|two| two[0].1 > two[1].0) {
            return Err(self.invalid("has entries that overlap", ACTION));
        }
        Ok(entries)
    }

    /// An entry of the archive that it is.
    ///
    /// # Errors
    /// When the entry isn't where the archive's directory says.
    pub fn entry(&self, entry: &Entry) -> Result<Self> {
        let wrong = |problem: &str| {
            Error::invalid(&self.0.path, entry.name.clone(), problem.to_string(), ACTION)
        };
        let mut local = [0u8; LOCAL_HEADER];
        self.fill(entry.header, &mut local).map_err(|_| wrong("is not in the archive"))?;
        if !local.starts_with(b"PK\x03\x04") {
            return Err(wrong("is not where the archive's directory says"));
        }
        let length = |at: usize| u64::from(u16::from_le_bytes([local[at], local[at + 1]]));
        let start = entry.header + LOCAL_HEADER as u64 + length(26) + length(28);
        let packed = self.part(&entry.name, start, entry.packed)?;
        if !entry.deflated && entry.packed != entry.size {
            return Err(wrong("has two sizes"));
        }
        if entry.size > entry.packed.saturating_mul(MAX_RATIO) {
            return Err(wrong("claims more bytes than its packed ones can hold"));
        }
        let bytes = match &packed.0.bytes {
            Bytes::Plain { file, start } if entry.deflated => {
                let (file, at) = (file.clone(), *start);
                let packed = Stretch { file, at, end: at + entry.packed };
                Bytes::Deflated { packed, inflater: Box::default() }
            }
            Bytes::Plain { file, start } => Bytes::Plain { file: file.clone(), start: *start },
            Bytes::Memory { bytes, start } if entry.deflated => {
                let packed = &bytes[*start..*start + entry.packed as usize];
                let mut unpacked = Vec::new();
                let most = entry.size.min(MOST_IN_MEMORY) + 1;
                let read = DeflateDecoder::new(packed).take(most).read_to_end(&mut unpacked);
                read.map_err(|e| wrong(&format!("damaged ({e})")))?;
                if unpacked.len() as u64 != entry.size {
                    return Err(wrong("has another size than its archive says"));
                }
                Bytes::Memory { bytes: Arc::new(unpacked), start: 0 }
            }
            Bytes::Memory { bytes, start } => Bytes::Memory { bytes: bytes.clone(), start: *start },
            Bytes::Deflated { .. } => return self.in_memory()?.entry(entry),
        };
        let check = Check { crc: Crc::new(), upto: 0, wanted: entry.crc };
        let (path, name) = (self.0.path.clone(), entry.name.clone());
        let check = Some(Mutex::new(check));
        Ok(Self(Arc::new(Inner { path, name, len: entry.size, bytes, check })))
    }
}

/// Bytes of an entry's own header before its name.
const LOCAL_HEADER: usize = 30;

/// A place in a part.
struct Cursor {
    region: Region,
    at: u64,
}

impl Read for Cursor {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.region.len().saturating_sub(self.at);
        let n = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.region.fill(self.at, &mut out[..n])?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.region.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::write::SimpleFileOptions;

    /// An archive of `a`, stored, and `b`, deflated.
    fn archive(path: &Path, a: &[u8], b: &[u8]) {
        let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
        for (name, bytes, method) in
            [("x/a", a, CompressionMethod::Stored), ("x/b", b, CompressionMethod::Deflated)]
        {
            let options = SimpleFileOptions::default().compression_method(method);
            zip.start_file(name, options).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap();
    }

    /// Whatever way bytes are kept, they are read from everywhere, backwards too.
    #[test]
    fn parts_are_read_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zip");
        let bytes: Vec<u8> = (0..5000u32).map(|i| (i * i % 251) as u8).collect();
        archive(&path, &bytes, &bytes);
        let file = Region::file(&path).unwrap();
        for outer in [file.clone(), file.in_memory().unwrap()] {
            for entry in outer.entries().unwrap() {
                let region = outer.entry(&entry).unwrap();
                assert_eq!(region.len(), 5000);
                for (at, n) in [(4000, 1000), (0, 5000), (17, 3), (5000, 0), (16, 1)] {
                    let mut out = vec![0; n];
                    region.read_at(at as u64, &mut out).unwrap();
                    assert_eq!(out, bytes[at..at + n], "{} {at}", entry.name);
                }
                assert!(region.read_at(4999, &mut [0; 2]).is_err());
                assert_eq!(region.part("p", 100, 20).unwrap().to_vec().unwrap(), bytes[100..120]);
                assert!(region.part("p", 4990, 11).is_err());
            }
        }
    }

    /// A flipped byte is found when an entry is read from its beginning to its end, and a cut
    /// archive is refused by name.
    #[test]
    fn damaged_archives_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zip");
        let bytes: Vec<u8> = (0..5000u32).map(|i| (i * i % 251) as u8).collect();
        archive(&path, &bytes, &bytes);
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[1000] ^= 4;
        std::fs::write(&path, &flipped).unwrap();
        let file = Region::file(&path).unwrap();
        let entries = file.entries().unwrap();
        let message = file.entry(&entries[0]).unwrap().to_vec().unwrap_err().to_string();
        assert!(message.contains("x/a") && message.contains("checksum"), "{message}");
        for cut in (0..whole.len()).step_by(97) {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let message = Region::file(&path).unwrap().entries().unwrap_err().to_string();
            assert!(message.contains("a.zip"), "{message}");
        }
    }
}
