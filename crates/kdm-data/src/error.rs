//! What can go wrong with a file. Every message names the file, says what is wrong, and ends in
//! what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// The result of working on files.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure to read, write or understand a file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} `{}`: {source}; {}", path.display(), mend_io(source))]
    Io {
        /// What was attempted, a verb such as "read".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The content is not what it should be.
    #[error("`{}`: {field}: {problem}; {mend}", path.display())]
    Invalid {
        /// The file or folder.
        path: PathBuf,
        /// The part of it that is wrong.
        field: String,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        mend: String,
    },
}

impl Error {
    /// For `map_err` on an [`io::Result`].
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// An [`Error::Invalid`].
    pub fn invalid(
        path: impl AsRef<Path>,
        field: impl Into<String>,
        problem: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self::Invalid {
            path: path.as_ref().to_path_buf(),
            field: field.into(),
            problem: problem.into(),
            mend: mend.into(),
        }
    }
}

fn mend_io(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "free some space and run the same command again: what was finished is kept"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "change its permissions or choose another folder"
        }
        io::ErrorKind::IsADirectory => "give a file, not a folder",
        io::ErrorKind::NotADirectory => "give a folder, not a file",
        _ => "check the disk and run the same command again",
    }
}
