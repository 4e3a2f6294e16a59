//! Tar archives, by the crate `tar`: their files and folders in order, with GNU's and POSIX's long
//! names.

use std::io::{self, Read, Seek};

use ::tar::{Archive, Entries, EntryType, PaxExtensions};

/// Bytes that a long name, or the attributes of a file, may have.
const MOST_NAME: u64 = 1 << 16;
const BLOCK: u64 = 512;

/// A regular file or a folder in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, folders and all; of a folder without the slash at its end.
    pub name: String,
    /// Whether it is a folder.
    pub folder: bool,
    /// Where its bytes begin in the archive.
    pub start: u64,
    /// Bytes.
    pub size: u64,
}

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// It can't be read, or a header is none.
    #[error("is cut short, damaged or no tar archive ({0})")]
    Read(#[from] io::Error),
    /// Its members would reach beyond its end.
    #[error("is cut short within `{0}`")]
    Cut(String),
    /// It unpacks to more than this.
    #[error("unpacks to more than {0} bytes, far more than packed images do")]
    Bomb(u64),
    /// A name that no file system takes.
    #[error("has a name or attributes of more than {MOST_NAME} bytes")]
    Name,
}

/// Calls `each` for every regular file and folder of a plain archive of `length` bytes, with what
/// reads a file's bytes; those that it doesn't read are passed over unread. Gives the place behind
/// the last member: an archive that is whole has zeros there.
///
/// # Errors
/// When the archive is damaged or cut short, and those of `each`.
pub fn plain<E: From<TarError>>(
    reader: impl Read + Seek,
    length: u64,
    each: impl FnMut(Member, &mut dyn Read) -> Result<(), E>,
) -> Result<u64, E> {
    let mut archive = Archive::new(reader);
    let entries = archive.entries_with_seek().map_err(TarError::from)?;
    members(entries, length, TarError::Cut, each)
}

/// As [`plain`], of what a decompressor gives: at most `most` bytes.
///
/// # Errors
/// As [`plain`], and when there is more.
pub fn packed<E: From<TarError>>(
    reader: impl Read,
    most: u64,
    each: impl FnMut(Member, &mut dyn Read) -> Result<(), E>,
) -> Result<u64, E> {
    let mut archive = Archive::new(reader);
    let entries = archive.entries().map_err(TarError::from)?;
    members(entries, most, |_| TarError::Bomb(most), each)
}

/// The members of an archive of at most `most` bytes; `over` is what is wrong with one that goes on
/// behind them.
fn members<R: Read, E: From<TarError>>(
    entries: Entries<'_, R>,
    most: u64,
    over: impl Fn(String) -> TarError,
    mut each: impl FnMut(Member, &mut dyn Read) -> Result<(), E>,
) -> Result<u64, E> {
    let (mut long_name, mut end) = (None, 0);
    // Raw: the crate would take names of any length into memory.
    for entry in entries.raw(true) {
        let mut entry = entry.map_err(TarError::from)?;
        let (start, size) = (entry.raw_file_position(), entry.size());
        let name = text(&entry.path_bytes());
        if start.saturating_add(size) > most {
            return Err(over(name).into());
        }
        end = (start + size).next_multiple_of(BLOCK);
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::GNULongName | EntryType::XHeader) {
            if size > MOST_NAME {
                return Err(TarError::Name.into());
            }
            let bytes = read_all(&mut entry, size)?;
            let named =
                if kind == EntryType::XHeader { pax_path(&bytes) } else { Some(text(&bytes)) };
            long_name = named.or(long_name);
            continue;
        }
        let name = long_name.take().unwrap_or(name);
        let regular = matches!(kind, EntryType::Regular | EntryType::Continuous);
        let folder = kind == EntryType::Directory || regular && name.ends_with('/');
        if folder || regular {
            let name = if folder { name.trim_end_matches('/').to_string() } else { name };
            each(Member { name, folder, start, size }, &mut entry)?;
        }
    }
    Ok(end)
}

/// The `size` bytes of a member.
///
/// # Errors
/// When there are fewer.
pub fn read_all(reader: &mut (impl Read + ?Sized), size: u64) -> Result<Vec<u8>, TarError> {
    let mut bytes = Vec::new();
    reader.take(size).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != size {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(bytes)
}

/// Bytes up to the first zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The path among POSIX's attributes.
fn pax_path(attributes: &[u8]) -> Option<String> {
    let mut path = None;
    for attribute in PaxExtensions::new(attributes).map_while(Result::ok) {
        if attribute.key_bytes() == b"path" {
            path = Some(text(attribute.value_bytes()));
        }
    }
    path
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One entry of a tar.
    pub(crate) fn entry(name: &str, kind: u8, bytes: &[u8]) -> Vec<u8> {
        let mut header = ::tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(EntryType::new(kind));
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        let mut out = [header.as_bytes(), bytes].concat();
        out.resize(out.len().next_multiple_of(BLOCK as usize), 0);
        out
    }

    type Found = Result<Vec<(String, bool, Vec<u8>)>, TarError>;

    fn read_plain(tar: &[u8]) -> Found {
        let mut found = Vec::new();
        plain(io::Cursor::new(tar), tar.len() as u64, |member, reader| {
            let bytes = read_all(reader, member.size)?;
            let at = member.start as usize;
            assert_eq!(bytes, tar[at..at + bytes.len()]);
            found.push((member.name, member.folder, bytes));
            Ok::<_, TarError>(())
        })?;
        Ok(found)
    }

    #[test]
    fn files_and_long_names_are_read() {
        let long = format!("./top/{}.png", "x".repeat(200));
        let record = format!("path={long}\n");
        let record = format!("{} {record}", record.len() + 4);
        let tar = [
            entry("pax", b'g', b"13 comment=x\n"),
            entry("./top/", b'5', b""),
            entry("top/b.png", b'0', &[7; 600]),
            entry("longlink", b'L', long.as_bytes()),
            entry("short", b'0', b"long by GNU"),
            entry("pax", b'x', record.as_bytes()),
            entry("short", b'0', b"long by POSIX"),
            entry("link", b'2', b""),
            vec![0; 2 * BLOCK as usize],
        ]
        .concat();
        let expected = [
            ("./top", true, &b""[..]),
            ("top/b.png", false, &[7; 600]),
            (&long, false, b"long by GNU"),
            (&long, false, b"long by POSIX"),
        ];
        let found = read_plain(&tar).unwrap();
        assert_eq!(found.len(), expected.len());
        for ((name, folder, bytes), wanted) in found.iter().zip(expected) {
            assert_eq!((name.as_str(), *folder, &bytes[..]), wanted);
        }
        let mut names = Vec::new();
        packed(&tar[..], tar.len() as u64, |member, _| {
            names.push(member.name);
            Ok::<_, TarError>(())
        })
        .unwrap();
        assert_eq!(names, expected.map(|(name, ..)| name));
    }

    #[test]
    fn damaged_archives_are_refused() {
        let tar = [entry("a.png", b'0', &[1; 700]), entry("b.png", b'0', &[1; 9])].concat();
        assert_eq!(read_plain(&tar).unwrap().len(), 2);
        for cut in 1..BLOCK as usize + 700 {
            assert!(read_plain(&tar[..cut]).is_err(), "{cut}");
        }
        for at in 0..BLOCK as usize {
            let mut damaged = tar.clone();
            damaged[at] ^= 1;
            // The padding of the checksum's own field is free.
            assert!(read_plain(&damaged).is_err() || (148..156).contains(&at), "{at}");
        }
        let unread = |_: Member, _: &mut dyn Read| Ok::<_, TarError>(());
        assert!(matches!(packed(&tar[..], 1000, unread), Err(TarError::Bomb(1000))));
        let huge = entry("x", b'L', &[b'y'; 1 << 17]);
        assert!(matches!(read_plain(&huge), Err(TarError::Name)));
        // A size of far more than there is.
        let mut header = ::tar::Header::new_gnu();
        header.as_mut_bytes()[0] = b'x';
        header.set_size(u64::MAX / 4);
        header.set_cksum();
        assert!(matches!(read_plain(header.as_bytes()), Err(TarError::Cut(_))));
    }
}
