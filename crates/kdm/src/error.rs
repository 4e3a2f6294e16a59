//! How work fails: by wrong usage, in the work itself, or because somebody stopped it; with one
//! message that ends in the next action.

/// The result of a stage or a study.
pub type Outcome<T> = Result<T, Failure>;

/// A failure of a stage or a study.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A flag, a key or an argument asks for something impossible.
    #[error("{0}")]
    Usage(String),
    /// An output is an input, or would take the place of something else.
    #[error("--out: {0}")]
    Output(#[from] kdm_data::output::Refused),
    /// A file could not be read, written or understood.
    #[error(transparent)]
    File(#[from] kdm_data::Error),
    /// A training stopped.
    #[error(transparent)]
    Train(#[from] kdm_train::Error),
    /// A student or its operator can't be used so.
    #[error(transparent)]
    Koopman(#[from] kdm_koopman::Error),
    /// Numbers can't be analyzed.
    #[error(transparent)]
    Analysis(#[from] kdm_analysis::Error),
    /// Samples can't be measured.
    #[error(transparent)]
    Metrics(#[from] kdm_metrics::Error),
    /// A configuration is impossible.
    #[error("{0}; change it in the file or with --set")]
    Configuration(#[from] kdm_nn::Problem),
    /// The system refused in the middle of the work; the text says what is kept and how to go on.
    #[error("{0}")]
    Interrupted(String),
    /// The observer stopped the work; the text says what is kept and how to go on.
    #[error("{0}")]
    Stopped(String),
}

impl From<kdm_observer::Stopped> for Failure {
    fn from(stopped: kdm_observer::Stopped) -> Self {
        Self::Stopped(format!("{stopped}; run the same command again"))
    }
}

impl Failure {
    /// Whether the system refused to write in the middle of the work: a disk that is full, say. The
    /// same work can be done once that is settled.
    pub fn is_interruption(&self) -> bool {
        let (Self::File(error) | Self::Train(kdm_train::Error::File(error))) = self else {
            return false;
        };
        matches!(error, kdm_data::Error::Io { attempt: "write" | "create" | "open", .. })
    }

    /// Whether the observer stopped the work.
    pub fn is_stop(&self) -> bool {
        self.exit_code() == 130
    }

    /// The process's exit code: 2 for wrong usage, 130 for work that was stopped, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Configuration(_) | Self::Output(_) => 2,
            Self::Stopped(_)
            | Self::File(kdm_data::Error::Stopped { .. })
            | Self::Train(kdm_train::Error::Stopped { .. })
            | Self::Koopman(kdm_koopman::Error::Stopped)
            | Self::Analysis(kdm_analysis::Error::Stopped)
            | Self::Metrics(kdm_metrics::Error::Stopped(_)) => 130,
            _ => 1,
        }
    }
}
