//! What can go wrong with a file. Every message names the file, says what is wrong, and ends in
//! what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use kdm_observer::Stopped;

/// The result of working on files.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure to read, write or understand a file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {attempt} `{}`: {source}; {}", path.display(), action_after(source))]
    Io {
        /// What was attempted, a verb such as "read".
        attempt: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The content is not what it should be.
    #[error("`{}`: {field}: {problem}; {action}", path.display())]
    Invalid {
        /// The file or folder.
        path: PathBuf,
        /// The part of it that is wrong.
        field: String,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        action: String,
    },
    /// The observer asked long work to stop.
    #[error("{work} was stopped: {kept}; {action}")]
    Stopped {
        /// What was being done, and to which file or folder.
        work: String,
        /// What is kept of it.
        kept: String,
        /// How to go on.
        action: String,
    },
}

impl Error {
    /// For `map_err` on an [`io::Result`].
    ///
    /// ```
    /// use kdm_data::Error;
    ///
    /// let missing = std::fs::read("no/such/file").map_err(Error::io("read", "no/such/file"));
    /// let message = missing.unwrap_err().to_string();
    /// assert!(message.starts_with("cannot read `no/such/file`"));
    /// assert!(message.ends_with("check the path"));
    /// ```
    pub fn io(attempt: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { attempt, path, source }
    }

    /// An [`Error::Invalid`].
    pub fn invalid(
        path: impl AsRef<Path>,
        field: impl Into<String>,
        problem: impl Into<String>,
        action: impl Into<String>,
    ) -> Self {
        Self::Invalid {
            path: path.as_ref().to_path_buf(),
            field: field.into(),
            problem: problem.into(),
            action: action.into(),
        }
    }

    /// For `map_err` on work that an observer may stop: what was being done, what is kept of it,
    /// and how to go on.
    pub fn stopped(
        work: impl Into<String>,
        kept: impl Into<String>,
        action: impl Into<String>,
    ) -> impl FnOnce(Stopped) -> Self {
        move |Stopped| Self::Stopped { work: work.into(), kept: kept.into(), action: action.into() }
    }
}

/// What ends messages about a system that refused in the middle of work. Whoever knows how the work
/// goes on may say it in place of this.
pub const RUN_AGAIN: &str = " and run the command again: what was finished is kept";

/// What to do about what the system answered.
fn action_after(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "free some space and run the command again: what was finished is kept"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "change its permissions or choose another folder"
        }
        io::ErrorKind::IsADirectory => "give a file, not a folder",
        io::ErrorKind::NotADirectory => "give a folder, not a file",
        io::ErrorKind::OutOfMemory => "free some memory, or raise the limit on it",
        _ if too_many_files(source) => "raise the limit on open files, such as `ulimit -n 1024`",
        _ => "check the disk and run the command again: what was finished is kept",
    }
}

/// Whether the process or the system has no file descriptors left.
fn too_many_files(source: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    cfg!(unix) && matches!(source.raw_os_error(), Some(ENFILE | EMFILE))
}
