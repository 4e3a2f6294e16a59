//! What commands share in printing results.

use std::io::Write;
use std::path::Path;

use kdm::data::Samples;
use kdm::run_folder::pretty;
use kdm::{Outcome, sample_files};
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
