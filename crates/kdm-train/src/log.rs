//! The training log: `metrics.jsonl`, one JSON object a line with `iteration` among its keys, and
//! TensorBoard events beside it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use kdm_data::{Error, Result, atomic};
use serde_json::{Map, Value, json};

use crate::EventWriter;

/// The JSON-lines file in a run folder.
pub const METRICS: &str = "metrics.jsonl";

/// Writes both logs.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
    events: EventWriter,
}

impl MetricsLog {
    /// Continues at `iteration`: lines of later iterations, from a run that was killed after its
    /// last checkpoint, are dropped, so that a resumed run's log is that of one never killed.
    ///
    /// # Errors
    /// When the files can't be read or written.
    pub fn open(folder: &Path, iteration: u64) -> Result<Self> {
        let path = folder.join(METRICS);
        let lines = if path.exists() { read_metrics(folder)? } else { Vec::new() };
        let kept: String = lines
            .iter()
            .filter(|line| line["iteration"].as_u64().is_some_and(|i| i <= iteration))
            .map(|line| format!("{line}\n"))
            .collect();
        atomic::write(&path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path).map_err(Error::io("open", &path))?;
        Ok(Self { path, file, events: EventWriter::create(folder, iteration)? })
    }

    /// Adds named values of an iteration, grouped under `group` ("train" or "validation"). Values
    /// that aren't finite are written as null, as JSON has no other way.
    ///
    /// # Errors
    /// When the files can't be written.
    pub fn write(&mut self, iteration: u64, group: &str, values: &[(String, f64)]) -> Result<()> {
        let mut line = Map::from_iter([("iteration".to_string(), json!(iteration))]);
        let tagged: Vec<(String, f64)> =
            values.iter().map(|(name, value)| (format!("{group}/{name}"), *value)).collect();
        line.extend(tagged.iter().map(|(name, value)| (name.clone(), json!(value))));
        let text = format!("{}\n", Value::Object(line));
        self.file.write_all(text.as_bytes()).map_err(Error::io("write", &self.path))?;
        self.events.scalars(iteration, &tagged)
    }
}

/// The lines of a run folder's `metrics.jsonl`. A line cut short by a kill is left out.
///
/// # Errors
/// When the file can't be read.
pub fn read_metrics(folder: &Path) -> Result<Vec<Value>> {
    let path = folder.join(METRICS);
    let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}
