//! What commands share in where results go: to standard output, and to the place that `--out`
//! names.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kdm::data::output::{FileKind, check_file, check_folder};
use kdm::data::{Error, Samples, error::RUN_AGAIN};
use kdm::report::PlotFormat;
use kdm::run_folder::pretty;
use kdm::runtime::Context;
use kdm::sample_picture::Arrangement;
use kdm::{Failure, Outcome, assets, sample_files};
use serde::Serialize;
use serde_json::json;

use crate::launch::follows;

/// Prints to standard output. A reader that has gone away, as in `kdm ... | head`, is no failure.
/// Of several processes that work together the first one prints.
///
/// # Errors
/// When the text can't be written, to a disk that is full, say.
pub fn print(text: &str) -> Outcome<()> {
    if follows() {
        return Ok(());
    }
    written(io::stdout().lock().write_all(text.as_bytes()))
}

/// What became of writing to standard output; see [`print()`].
pub fn written(result: io::Result<()>) -> Outcome<()> {
    match result.and_then(|()| io::stdout().flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("write", "standard output")(e).into())
        }
        _ => Ok(()),
    }
}

/// What commands that write a file have beside `--out`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Replace {
    /// Replace a file at --out that is of another kind than what is written; write into a folder
    /// of other files
    #[arg(long)]
    force: bool,
}

impl Replace {
    /// Checks the place of a file before any work; `inputs` are the files and folders that the
    /// command reads, names of what ships among them.
    pub fn file(self, out: &Path, kind: FileKind, inputs: &[Option<&Path>]) -> Outcome<()> {
        Ok(check_file(out, kind, &assets::paths(inputs), self.force)?)
    }

    /// The same for samples, which may go to a folder.
    pub fn samples(self, out: &Path, inputs: &[Option<&Path>]) -> Outcome<()> {
        sample_files::check_out(out)?;
        let extension = out.extension().map(|e| e.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            Some("npy") => self.file(out, FileKind::Array, inputs),
            Some("npz") => self.file(out, FileKind::Arrays, inputs),
            Some(_) => self.file(out, FileKind::Picture, inputs),
            None => {
                folder(out, inputs)?;
                if let Some(name) = sample_files::beside_samples(out).filter(|_| !self.force) {
                    return Err(Failure::Usage(format!(
                        "`{}` holds other files, such as `{name}`, and samples would lie among \
                         them; name a new folder, or give --force",
                        out.display()
                    )));
                }
                self.file(&out.join(sample_files::SAMPLES), FileKind::Array, inputs)?;
                self.file(&out.join(sample_files::PICTURE), FileKind::Picture, inputs)
            }
        }
    }
}

/// The form in which commands write figures into a folder.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Figures {
    /// Form of the plots in the folder `figures`; images are PNG files in each
    #[arg(long = "figures", value_enum, default_value = "png", value_name = "FORM")]
    form: Form,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Form {
    /// For pages
    Svg,
    /// 300 pixels an inch
    Png,
    /// For papers
    Pdf,
}

impl Figures {
    /// The same context for work that draws in this form.
    pub fn of(self, context: Context) -> Context {
        let figures = match self.form {
            Form::Svg => PlotFormat::Svg,
            Form::Png => PlotFormat::Png,
            Form::Pdf => PlotFormat::Pdf,
        };
        Context { figures, ..context }
    }
}

/// Checks a folder that files go into before any work; see [`Replace::file`].
pub fn folder(out: &Path, inputs: &[Option<&Path>]) -> Outcome<()> {
    Ok(check_folder(out, &assets::paths(inputs))?)
}

/// The path of a flag's text.
pub fn path(text: &str) -> Option<&Path> {
    Some(Path::new(text))
}

/// The path of a flag that may be left out.
pub fn maybe(path: &Option<PathBuf>) -> Option<&Path> {
    path.as_deref()
}

/// Prints one JSON object, or array, to standard output.
pub fn print_json(value: &impl Serialize) -> Outcome<()> {
    print(&pretty(&json!(value)))
}

/// Writes samples (see [`sample_files::write_samples`]) and says so on standard error.
pub fn write_samples(
    out: &Path,
    samples: &Samples,
    label_dim: usize,
    arrangement: Arrangement,
) -> Outcome<()> {
    sample_files::write_samples(out, samples, label_dim, arrangement)?;
    told(out, samples)
}

/// Says where samples are.
pub fn told(out: &Path, samples: &Samples) -> Outcome<()> {
    eprintln!("{} samples in {}", samples.len(), out.display());
    Ok(())
}

/// A result whose failure, where it is that somebody stopped the work, says what `text` does: what
/// is kept, and the command that continues. A disk that is full ends work in the same way.
pub fn or_stopped<T>(result: Outcome<T>, text: impl FnOnce() -> String) -> Outcome<T> {
    result.map_err(|failure| match failure.exit_code() {
        STOPPED => Failure::Stopped(text()),
        _ if failure.is_interruption() => interrupted(&failure.to_string(), &text()),
        _ => failure,
    })
}

/// The failure that says why the system refused and then how the work goes on.
fn interrupted(problem: &str, stopped: &str) -> Failure {
    let problem = problem.strip_suffix(RUN_AGAIN).unwrap_or(problem);
    let next = stopped.strip_prefix("stopped; ").unwrap_or(stopped);
    Failure::Interrupted(format!("{problem}; {next}"))
}

/// The exit code of work that was stopped.
const STOPPED: u8 = 130;

/// The text of a stop of work that leaves nothing behind.
pub const NOTHING_KEPT: &str = "stopped, and nothing was written; run the same command again";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_refused_comes_before_how_to_go_on() {
        let full = || Error::io("write", "a")(io::ErrorKind::StorageFull.into());
        let told = || "stopped; all is kept; continue with `kdm run`".to_string();
        let failure = or_stopped::<()>(Err(full().into()), told).unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        let text = failure.to_string();
        assert!(text.ends_with("free some space; all is kept; continue with `kdm run`"), "{text}");
        // What no disk is to blame for stays as it is.
        let missing = Error::io("read", "a")(io::ErrorKind::NotFound.into());
        let text = or_stopped::<()>(Err(missing.into()), told).unwrap_err().to_string();
        assert!(text.ends_with("check the path"), "{text}");
    }
}
