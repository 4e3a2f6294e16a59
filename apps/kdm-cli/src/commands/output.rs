//! What commands share in printing results.

use std::io::Write;
use std::path::Path;

use kdm::data::Samples;
use kdm::run_folder::pretty;
use kdm::{Failure, Outcome, sample_files};
use serde::Serialize;
use serde_json::json;

/// Prints to standard output. A reader that has gone away, as in `kdm ... | head`, is no failure.
pub fn print(text: &str) -> Outcome<()> {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(())
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
    columns: Option<usize>,
) -> Outcome<()> {
    sample_files::write_samples(out, samples, label_dim, columns)?;
    eprintln!("{} samples in {}", samples.len(), out.display());
    Ok(())
}

/// A result whose failure, where it is that somebody stopped the work, says what `text` does: what
/// is kept, and the command that continues.
pub fn or_stopped<T>(result: Outcome<T>, text: impl FnOnce() -> String) -> Outcome<T> {
    result.map_err(|failure| match failure.exit_code() {
        STOPPED => Failure::Stopped(text()),
        _ => failure,
    })
}

/// The exit code of work that was stopped.
const STOPPED: u8 = 130;

/// The text of a stop of work that leaves nothing behind.
pub const NOTHING_KEPT: &str = "stopped, and nothing was written; run the same command again";
