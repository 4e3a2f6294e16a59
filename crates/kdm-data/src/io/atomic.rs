//! Files written whole or not at all: into a temporary neighbour, flushed to the disk, then renamed
//! into place.
//!
//! The neighbour of `NAME` is `.NAME.part-N` with the writer's process number, and its writer holds
//! a lock on it. What a writer that was killed left has no lock any more: the next one in the same
//! folder removes it.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use crate::lock::{self, Locked};
use crate::{Error, Result};

/// Writes `path` with `fill`. On any failure the old file, if there was one, is untouched and no
/// part file remains. A symbolic link is followed.
///
/// # Errors
/// When the folder can't be written or the disk is full, and when `path` is a folder, a device or a
/// pipe, which no file takes the place of.
pub fn write_with(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let place = destination(path)?;
    clear_once(folder_of(&place));
    let part = part_path(&place);
    // A file goes where it is wanted: the folders above it are made.
    let made = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => {
            fs::create_dir_all(folder_of(&place)).and_then(|()| begin_part(&part))
        }
        _ => Err(e),
    };
    let file = begin_part(&part).or_else(made).map_err(Error::io("write", path))?;
    let written = (|| {
        let mut writer = BufWriter::with_capacity(1 << 20, &file);
        fill(&mut writer)?;
        writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&part, &place)
    })();
    if let Err(source) = written {
        let _ = fs::remove_file(&part);
        return Err(Error::io("write", path)(source));
    }
    sync_folder(folder_of(&place));
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

/// Removes what writers that were killed left half-written in `folder`, and leaves alone what is
/// being written.
pub fn remove_parts(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| is_part(&entry.file_name().to_string_lossy())) {
        let path = entry.path();
        // A part that can be locked has no writer. It is removed while the lock is held: a writer
        // that has just made it sees that it is gone, and makes another.
        if let Ok(file) = OpenOptions::new().write(true).open(&path)
            && matches!(lock::try_exclusive(&file), Locked::Mine)
        {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Whether a file of this name is what a killed process may leave behind: part of a file, or a lock
/// that nobody holds any more. A folder that holds nothing else is as good as empty.
pub fn is_leftover(name: &str) -> bool {
    is_part(name) || lock::is_lock(name)
}

/// Creates a folder and those above it.
///
/// # Errors
/// When the system refuses.
pub fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("create", path))
}

/// Links followed one after the other, as many as Linux follows.
const MOST_LINKS: usize = 40;

/// Where a file of this name is written: the end of its symbolic links.
fn destination(path: &Path) -> Result<PathBuf> {
    let refused = |kind: io::ErrorKind| Err(Error::io("write", path)(kind.into()));
    // Follows links, those of /dev/stdout to a pipe too.
    if let Ok(found) = fs::metadata(path) {
        if found.is_dir() {
            return refused(io::ErrorKind::IsADirectory);
        }
        if !found.is_file() {
            let problem = "is a device or a pipe, and files are written beside their place first";
            return Err(Error::invalid(path, "file", problem, "name a file"));
        }
    }
    let mut place = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&place) {
            Ok(target) => place = folder_of(&place).join(target),
            Err(_) => return Ok(place),
        }
    }
    let problem = "is a link that leads back to itself";
    Err(Error::invalid(path, "file", problem, "remove it, or name another file"))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Removes what killed writers left in `folder`, at this process's first write there.
fn clear_once(folder: &Path) {
    static CLEARED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let first = CLEARED.lock().is_ok_and(|mut folders| folders.insert(folder.to_path_buf()));
    if first {
        remove_parts(folder);
    }
}

/// Makes a part, or takes over what a killed process of the same number left of it, locked and
/// empty.
fn begin_part(part: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(part)?;
        if !matches!(lock::try_exclusive(&file), Locked::Others) && lock::is_at(&file, part) {
            file.set_len(0)?;
            return Ok(file);
        }
        // Another thread writes the same file, or a process looks whether it may remove it.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Makes the rename itself survive a power cut, where the system can.
fn sync_folder(folder: &Path) {
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

fn is_part(name: &str) -> bool {
    let number = name.strip_prefix('.').and_then(|name| name.rsplit_once(PART));
    number.is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let name = |e: fs::DirEntry| e.file_name().to_string_lossy().into_owned();
        let mut names: Vec<String> = fs::read_dir(folder).unwrap().flatten().map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_part() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, b"old").unwrap();
        let failed = write_with(&path, |w| {
            w.write_all(b"half")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        let message = failed.unwrap_err().to_string();
        assert!(message.contains("file") && message.contains("free some space"), "{message}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["file"]);
    }

    /// What a kill leaves is removed by the next writer in the folder; what is being written, and
    /// files that are only called alike, are not.
    #[test]
    fn parts_without_a_writer_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in [".a.part-1", ".b.part-", ".b.part-7x", "c.part-7"] {
            fs::write(path(name), b"half").unwrap();
        }
        let own = format!(".d.part-{}", std::process::id());
        fs::write(path(&own), b"what was left of a process of the same number").unwrap();
        let kept = begin_part(&path(".busy.part-2")).unwrap();
        write(&path("d"), b"whole").unwrap();
        assert_eq!(
            names(folder.path()),
            [".b.part-", ".b.part-7x", ".busy.part-2", "c.part-7", "d"]
        );
        assert_eq!(fs::read(path("d")).unwrap(), b"whole");
        drop(kept);
        remove_parts(folder.path());
        assert_eq!(names(folder.path()), [".b.part-", ".b.part-7x", "c.part-7", "d"]);
        assert!(is_leftover(".a.part-1") && is_leftover(lock::LOCK) && !is_leftover("c.part-7"));
    }

    /// Several threads may write one file: it is whole at every moment.
    #[test]
    fn writers_of_one_file_wait_for_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::thread::scope(|scope| {
            for i in 0..4u8 {
                let path = &path;
                scope.spawn(move || (0..10).for_each(|_| write(path, &[i; 5000]).unwrap()));
            }
        });
        let found = fs::read(&path).unwrap();
        assert!(found.len() == 5000 && found.iter().all(|byte| *byte == found[0]));
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_devices_stay() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("other")).unwrap();
        fs::write(path("other/target"), b"old").unwrap();
        symlink("other/target", path("one")).unwrap();
        symlink(path("one"), path("two")).unwrap();
        symlink("other/new", path("dangling")).unwrap();
        write(&path("two"), b"new").unwrap();
        write(&path("dangling"), b"made").unwrap();
        assert_eq!(fs::read(path("other/target")).unwrap(), b"new");
        assert_eq!(fs::read(path("other/new")).unwrap(), b"made");
        assert!(fs::symlink_metadata(path("two")).unwrap().is_symlink());
        symlink("circle", path("circle")).unwrap();
        assert!(write(&path("circle"), b"").unwrap_err().to_string().contains("itself"));
        assert!(write(&path("other"), b"").unwrap_err().to_string().contains("not a folder"));
        symlink("/dev/null", path("null")).unwrap();
        for name in [path("null"), "/dev/null".into()] {
            let message = write(&name, b"").unwrap_err().to_string();
            assert!(message.contains("device or a pipe"), "{message}");
        }
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        let fifo = path("fifo");
        if std::process::Command::new("mkfifo").arg(&fifo).status().is_ok_and(|s| s.success()) {
            assert!(write(&fifo, b"").is_err());
            assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());
        }
    }
}
