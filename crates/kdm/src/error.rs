//! How a command fails: by wrong usage (exit 2) or in its work (exit 1), with one message.

/// The result of a command.
pub type Outcome<T> = Result<T, Failure>;

/// A command's failure.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command or its configuration asks for something impossible.
    #[error("{0}")]
    Usage(String),
    /// A file could not be read, written or understood.
    #[error(transparent)]
    File(#[from] kdm_data::Error),
    /// A training stopped.
    #[error(transparent)]
    Train(#[from] kdm_train::Error),
}

impl Failure {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::File(_) | Self::Train(_) => 1,
        }
    }
}
