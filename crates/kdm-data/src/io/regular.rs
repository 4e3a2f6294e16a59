//! Files that people name. Only regular files are data: a FIFO may block for ever, and a device
//! may never end.

use std::fs::{File, FileType};
use std::io::Read;
use std::path::Path;

use crate::{Error, Result};

/// Opens a file for reading, if it is a regular file (or a link to one). Nothing that could block
/// is opened.
///
/// ```
/// use kdm_data::regular;
///
/// let message = regular::open("/dev/zero".as_ref()).unwrap_err().to_string();
/// assert!(message.contains("only regular files are data"), "{message}");
/// assert!(regular::open(".".as_ref()).unwrap_err().to_string().contains("folder"));
/// ```
///
/// # Errors
/// When there is no such file, it can't be read, or it is a folder, a FIFO, a socket or a device.
pub fn open(path: &Path) -> Result<File> {
    check(path, std::fs::metadata(path).map_err(Error::io("read", path))?.file_type())?;
    let file = File::open(path).map_err(Error::io("read", path))?;
    check(path, file.metadata().map_err(Error::io("read", path))?.file_type())?;
    Ok(file)
}

/// Reads a regular file whole, if it has at most `most` bytes.
///
/// # Errors
/// As [`open`], and when the file is larger.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if bytes.len() as u64 > most {
        let problem = format!("has more than {most} bytes, which is more than such a file takes");
        return Err(Error::invalid(path, "size", problem, "check that it is the right file"));
    }
    Ok(bytes)
}

fn check(path: &Path, kind: FileType) -> Result<()> {
    if kind.is_dir() {
        return Err(Error::io("read", path)(std::io::ErrorKind::IsADirectory.into()));
    }
    if kind.is_file() {
        return Ok(());
    }
    let problem = format!("is {}, and only regular files are data", special(kind));
    Err(Error::invalid(path, "file", problem, "copy what it gives into a file and name that"))
}

#[cfg(unix)]
fn special(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match () {
        () if kind.is_fifo() => "a named pipe (FIFO)",
        () if kind.is_socket() => "a socket",
        () => "a device",
    }
}

#[cfg(not(unix))]
fn special(_: FileType) -> &'static str {
    "no file"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_files_are_read_up_to_a_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"four").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"four");
        assert!(read(&path, 3).unwrap_err().to_string().contains("more than 3 bytes"));
        assert!(read(folder.path(), 9).unwrap_err().to_string().contains("not a folder"));
        assert!(read(&folder.path().join("x"), 9).unwrap_err().to_string().contains("check the"));
    }

    /// A FIFO that nobody writes to would block for ever.
    #[test]
    #[cfg(unix)]
    fn pipes_and_devices_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe.npy");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        for (path, what) in [(path.as_path(), "FIFO"), (Path::new("/dev/zero"), "device")] {
            let message = open(path).unwrap_err().to_string();
            assert!(message.contains(what) && message.contains("into a file"), "{message}");
        }
    }
}
