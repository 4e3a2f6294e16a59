//! Files written whole or not at all: into a temporary neighbour, flushed to the disk, then renamed
//! into place.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Writes `path` with `fill`. On any failure the old file, if there was one, is untouched and no
/// part file remains.
///
/// # Errors
/// When the folder can't be written or the disk is full.
pub fn write_with(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    let part = part_path(path);
    let written = File::create(&part).and_then(|file| {
        let mut writer = BufWriter::with_capacity(1 << 20, file);
        fill(&mut writer)?;
        writer.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
    });
    let placed = written.and_then(|()| fs::rename(&part, path));
    if let Err(source) = placed {
        let _ = fs::remove_file(&part);
        return Err(Error::io("write", path)(source));
    }
    sync_folder(path);
    Ok(())
}

/// [`write_with`] for bytes at hand.
///
/// # Errors
/// As [`write_with`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |writer| writer.write_all(bytes))
}

/// Copies a file, whole or not at all.
///
/// # Errors
/// When `from` can't be read or `to` can't be written.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    write(to, &fs::read(from).map_err(Error::io("read", from))?)
}

/// Removes what writers that were killed left half-written in `folder`. Only for a folder that no
/// other process writes.
pub fn remove_parts(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') && name.contains(PART) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Creates a folder and those above it.
///
/// # Errors
/// When the system refuses.
pub fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("create", path))
}

/// Makes the rename itself survive a power cut, where the system can.
fn sync_folder(path: &Path) {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

/// Stands between a file's name and the writer's process number.
const PART: &str = ".part-";

fn part_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}{PART}{}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_part() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, b"old").unwrap();
        let failed = write_with(&path, |w| {
            w.write_all(b"half")?;
            Err(std::io::Error::from(std::io::ErrorKind::StorageFull))
        });
        let message = failed.unwrap_err().to_string();
        assert!(message.contains("file") && message.contains("free some space"), "{message}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        // What a kill leaves is removed by the next writer.
        fs::write(folder.path().join(".file.part-1"), b"half").unwrap();
        remove_parts(folder.path());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
