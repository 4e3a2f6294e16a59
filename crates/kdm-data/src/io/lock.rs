//! Folders that one process works in at a time. The system releases the locks of a process that
//! ends, however it ends, so none has to be removed by hand.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The file in a folder whose lock stands for the folder. It is removed when the work ends; one
/// that a killed process left is nobody's.
pub const LOCK: &str = ".lock";

/// A folder that this process works in, until this is dropped.
///
/// ```
/// use kdm_data::lock::FolderLock;
///
/// let folder = tempfile::tempdir()?;
/// let held = FolderLock::take(folder.path())?;
/// let message = FolderLock::take(folder.path()).unwrap_err().to_string();
/// assert!(message.contains(&format!("process {}", std::process::id())));
/// drop(held);
/// FolderLock::take(folder.path())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FolderLock {
    _held: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    path: PathBuf,
    file: File,
}

impl FolderLock {
    /// Takes an existing folder for this process alone. On a file system without locks it is not
    /// guarded.
    ///
    /// # Errors
    /// When another holds it (the message says which process), and when the folder can't be
    /// written.
    pub fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(LOCK);
        let file = open(&path, try_exclusive)?.ok_or_else(|| busy(folder, &path))?;
        let held = Held { path, file };
        held.sign();
        // Nobody holds a share now; killed processes may have left theirs.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if is_share(&entry.file_name().to_string_lossy()) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Self { _held: vec![held] })
    }

    /// Takes one share of an existing folder that several processes fill together: each share is
    /// held by one process, and none while the whole folder is taken.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn take_share(folder: &Path, share: usize) -> Result<Self> {
        let path = folder.join(LOCK);
        let file = open(&path, try_shared)?.ok_or_else(|| busy(folder, &path))?;
        let all = Held { path, file };
        let path = folder.join(format!("{LOCK}-{share}"));
        let file = open(&path, try_exclusive)?.ok_or_else(|| busy(folder, &path))?;
        let own = Held { path, file };
        own.sign();
        Ok(Self { _held: vec![own, all] })
    }
}

/// Whether a file of this name is a lock.
pub fn is_lock(name: &str) -> bool {
    name == LOCK || is_share(name)
}

fn is_share(name: &str) -> bool {
    let share = name.strip_prefix(LOCK).and_then(|rest| rest.strip_prefix('-'));
    share.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The refusal of a folder that another holds.
fn busy(folder: &Path, path: &Path) -> Error {
    let holder = fs::read_to_string(path).unwrap_or_default();
    let holder = match holder.trim() {
        "" => "another process".to_string(),
        name => name.chars().take(100).collect(),
    };
    let problem = format!("{holder} works in it");
    let action = "wait until it has ended, or end it, or choose another folder";
    Error::invalid(folder, "folder", problem, action)
}

/// The lock's file, locked; none when another holds it.
fn open(path: &Path, lock: fn(&File) -> Locked) -> Result<Option<File>> {
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(Error::io("write", path))?;
        match lock(&file) {
            Locked::Others => return Ok(None),
            // Whoever held it may have removed it in between.
            _ if !is_at(&file, path) => {}
            _ => return Ok(Some(file)),
        }
    }
}

impl Held {
    /// Writes who holds it, for others to tell.
    fn sign(&self) {
        use std::io::Write;
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.is_empty() { String::new() } else { format!(" on {}", host.trim()) };
        let _ = self.file.set_len(0);
        let _ = writeln!(&self.file, "process {}{host}", std::process::id());
    }
}

impl Drop for Held {
    /// The last holder removes the file, with the lock still held. Where a file's identity is not
    /// known it stays.
    fn drop(&mut self) {
        if cfg!(unix) && matches!(try_exclusive(&self.file), Locked::Mine) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What came of asking for a lock.
pub(super) enum Locked {
    /// It is held now.
    Mine,
    /// Somebody else holds it.
    Others,
    /// There are no locks here.
    Unknown,
}

fn told(result: std::result::Result<(), TryLockError>) -> Locked {
    match result {
        Ok(()) => Locked::Mine,
        Err(TryLockError::WouldBlock) => Locked::Others,
        Err(TryLockError::Error(_)) => Locked::Unknown,
    }
}

pub(super) fn try_exclusive(file: &File) -> Locked {
    told(file.try_lock())
}

fn try_shared(file: &File) -> Locked {
    told(file.try_lock_shared())
}

/// Whether the open file is still the one of this name.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let identity = |m: fs::Metadata| (m.dev(), m.ino());
        file.metadata().ok().map(identity) == fs::metadata(path).ok().map(identity)
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_folder_has_one_holder_or_several_with_a_share_each() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        // Left by a killed process.
        fs::write(at.join(LOCK), "process 1").unwrap();
        fs::write(at.join(".lock-7"), "process 1").unwrap();
        let whole = FolderLock::take(at).unwrap();
        let message = FolderLock::take_share(at, 0).unwrap_err().to_string();
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
        drop(whole);
        let shares = [0, 1].map(|share| FolderLock::take_share(at, share).unwrap());
        assert!(FolderLock::take_share(at, 1).is_err() && FolderLock::take(at).is_err());
        drop(shares);
        drop(FolderLock::take(at).unwrap());
        assert!(cfg!(not(unix)) || entries(at) == 0);
    }

    #[test]
    fn of_many_who_ask_at_once_one_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let inside = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let Ok(held) = FolderLock::take(folder.path()) else { continue };
                        let before = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        assert_eq!(before, 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(held);
                    }
                });
            }
        });
    }
}
