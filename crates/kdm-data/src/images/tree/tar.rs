//! Tar archives, plain or packed by gzip: headers of 512 bytes (POSIX ustar, with GNU's and POSIX's
//! long names), each followed by its file. They are read in one pass, and the files kept as they
//! are.

use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::{Entry, Listing, MOST_BYTES, MOST_FILES, tidy, too_many};
use crate::{Error, Result, regular};

const BLOCK: usize = 512;
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

/// What is wrong with a tar.
#[derive(Debug, thiserror::Error)]
enum TarError {
    #[error("is cut short or damaged ({0})")]
    Read(#[from] std::io::Error),
    #[error("holds no tar archive (a header's checksum is wrong)")]
    Header,
    #[error("is damaged: the size of `{0}` is no number")]
    Size(String),
    #[error("holds the file `{0}` of more than {MOST_BYTES} bytes")]
    Large(String),
    #[error("unpacks to more than {0} bytes, far more than packed images do")]
    Bomb(u64),
    #[error("too many files")]
    Many,
}

pub(super) fn list(path: &Path, packed: bool) -> Result<(Listing, Tar)> {
    let file = regular::open(path)?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    let most = match packed {
        true => length.saturating_mul(MOST_UNPACKED.1).saturating_add(MOST_UNPACKED.0),
        false => length,
    };
    let file = BufReader::new(file);
    let read = match packed {
        true => parse(MultiGzDecoder::new(file), most),
        false => parse(file, most),
    };
    read.map_err(|error| match error {
        TarError::Many => too_many(path),
        other => Error::invalid(path, "archive", other.to_string(), ACTION),
    })
}

/// Reads all of a tar, at most `most` bytes.
fn parse(mut reader: impl Read, most: u64) -> std::result::Result<(Listing, Tar), TarError> {
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    let mut folders = Vec::new();
    let (mut used, mut long_name) = (0u64, None);
    let mut header = [0; BLOCK];
    loop {
        // Archives should end in two blocks of zeros, and some just end.
        match reader.read_exact(&mut header) {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof && !found.is_empty() => break,
            other => other?,
        }
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        if !checksum_fits(&header) {
            return Err(TarError::Header);
        }
        let name = long_name.take().unwrap_or_else(|| short_name(&header));
        let Some(size) = number(&header[124..136]) else { return Err(TarError::Size(name)) };
        used = used.saturating_add(size).saturating_add(BLOCK as u64);
        if used > most {
            return Err(TarError::Bomb(most));
        }
        let whole = size.div_ceil(BLOCK as u64) * BLOCK as u64;
        let kind = header[156];
        match kind {
            b'0' | 0 | b'7' | b'L' | b'x' => {
                if size > MOST_BYTES {
                    return Err(TarError::Large(name));
                }
                let mut bytes = Vec::new();
                (&mut reader).take(size).read_to_end(&mut bytes)?;
                if bytes.len() as u64 != size {
                    return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
                }
                std::io::copy(&mut (&mut reader).take(whole - size), &mut std::io::sink())?;
                match kind {
                    b'L' => long_name = Some(text(&bytes)),
                    b'x' => long_name = pax_path(&bytes),
                    _ if name.ends_with('/') => folders.push(tidy(name.trim_end_matches('/'))),
                    _ => found.push((tidy(&name), bytes)),
                }
            }
            _ => {
                if kind == b'5' {
                    folders.push(tidy(name.trim_end_matches('/')));
                }
                std::io::copy(&mut (&mut reader).take(whole), &mut std::io::sink())?;
            }
        }
        if found.len() + folders.len() > MOST_FILES {
            return Err(TarError::Many);
        }
    }
    found.sort_by(|a, b| a.0.split('/').cmp(b.0.split('/')));
    folders.retain(|name| !name.is_empty() && name != ".");
    folders.sort();
    let mut listing = Listing { folders, ..Listing::default() };
    let mut files = Vec::new();
    for (place, (name, bytes)) in found.into_iter().enumerate() {
        listing.files.push(Entry { name, place, packed: None });
        files.push(bytes);
    }
    Ok((listing, Tar { files }))
}

/// Bytes up to the first zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn short_name(header: &[u8; BLOCK]) -> String {
    let (name, prefix) = (text(&header[..100]), text(&header[345..500]));
    let ustar = &header[257..263] == b"ustar\0" && !prefix.is_empty();
    if ustar { format!("{prefix}/{name}") } else { name }
}

/// An octal number, or GNU's binary one for large files.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        return field[4..]
            .iter()
            .try_fold(0u64, |n, b| n.checked_mul(256)?.checked_add((*b).into()));
    }
    let digits = text(field);
    let digits = digits.trim();
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

/// Sum of all bytes, those of the sum itself as spaces.
fn checksum_fits(header: &[u8; BLOCK]) -> bool {
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    let own: u64 = header[148..156].iter().map(|byte| u64::from(*byte)).sum();
    number(&header[148..156]) == Some(sum - own + 8 * u64::from(b' '))
}

/// The path among POSIX's extended records, "LENGTH KEY=VALUE\n".
fn pax_path(mut records: &[u8]) -> Option<String> {
    let mut found = None;
    while let Some(space) = records.iter().position(|byte| *byte == b' ') {
        let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
        let record = records.get(space + 1..length)?;
        if let Some(path) = record.strip_prefix(b"path=") {
            found = Some(String::from_utf8_lossy(path.strip_suffix(b"\n")?).into_owned());
        }
        records = &records[length..];
    }
    found
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One entry of a tar.
    pub(crate) fn entry(name: &str, kind: u8, bytes: &[u8]) -> Vec<u8> {
        let mut header = [0; BLOCK];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
        header[148..156].fill(b' ');
        header[156] = kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut out = [&header, bytes].concat();
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        out
    }

    fn names(tar: &[u8]) -> std::result::Result<Vec<String>, TarError> {
        let (listing, _) = parse(tar, tar.len() as u64)?;
        Ok(listing.files.into_iter().map(|file| file.name).collect())
    }

    #[test]
    fn files_and_long_names_are_read() {
        let long = format!("./top/{}.png", "x".repeat(200));
        let record = format!("path={long}\n");
        let record = format!("{} {record}", record.len() + 4);
        let tar = [
            entry("./top/", b'5', b""),
            entry("top/b.png", b'0', &[7; 600]),
            entry("longlink", b'L', long.as_bytes()),
            entry("short", b'0', b"long by GNU"),
            entry("pax", b'x', record.as_bytes()),
            entry("short", b'0', b"long by POSIX"),
            vec![0; 2 * BLOCK],
        ]
        .concat();
        let (listing, mut files) = parse(&tar[..], tar.len() as u64).unwrap();
        let found: Vec<&str> = listing.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(found, ["top/b.png", &long[2..], &long[2..]]);
        assert_eq!((files.read(0), files.read(1)), (vec![7; 600], b"long by GNU".to_vec()));
        assert_eq!(listing.folders, ["top"]);
    }

    #[test]
    fn damaged_tars_are_refused() {
        let tar = [entry("a.png", b'0', &[1; 700]), entry("b.png", b'0', &[1; 9])].concat();
        assert_eq!(names(&tar).unwrap(), ["a.png", "b.png"]);
        for cut in 1..BLOCK + 700 {
            assert!(names(&tar[..cut]).is_err(), "{cut}");
        }
        for at in 0..BLOCK {
            let mut damaged = tar.clone();
            damaged[at] ^= 1;
            // The padding of the checksum's own field is free.
            assert!(names(&damaged).is_err() || (148..156).contains(&at), "{at}");
        }
        let packed = packed(&tar);
        let unpacked = MultiGzDecoder::new(&packed[..]);
        assert!(matches!(parse(unpacked, 1000), Err(TarError::Bomb(1000))));
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut out, bytes).unwrap();
        out.finish().unwrap()
    }
}
