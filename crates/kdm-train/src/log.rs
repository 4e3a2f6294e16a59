//! The training log: `metrics.jsonl`, one JSON object a line with `iteration` and `seconds` among
//! its keys, and TensorBoard events beside it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use kdm_data::{Error, Result, atomic};
use serde_json::{Map, Value, json};

use crate::EventWriter;
use crate::task::Picture;

/// The JSON-lines file in a run folder.
pub const METRICS: &str = "metrics.jsonl";

/// Writes both logs.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
    events: EventWriter,
    /// Seconds of earlier runs of the training, and when this one began.
    clock: (f64, Instant),
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
        let lines: Vec<&Value> = lines
            .iter()
            .filter(|line| line["iteration"].as_u64().is_some_and(|i| i <= iteration))
            .collect();
        let kept: String = lines.iter().map(|line| format!("{line}\n")).collect();
        atomic::write(&path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path).map_err(Error::io("open", &path))?;
        let clock = (seconds_before(&lines, iteration), Instant::now());
        Ok(Self { path, file, events: EventWriter::create(folder, iteration)?, clock })
    }

    /// Wall-clock seconds of the training so far, those of earlier runs among them.
    pub fn seconds(&self) -> f64 {
        let (before, began) = self.clock;
        before + began.elapsed().as_secs_f64()
    }

    /// Adds named values of an iteration, grouped under `group` ("train" or "validation"), with the
    /// [`Self::seconds`]. Values that aren't finite are written as null, as JSON has no other way.
    ///
    /// # Errors
    /// When the files can't be written.
    pub fn write(&mut self, iteration: u64, group: &str, values: &[(String, f64)]) -> Result<()> {
        let seconds = (1e3 * self.seconds()).round() / 1e3;
        let mut line = Map::from_iter([
            ("iteration".to_string(), json!(iteration)),
            ("seconds".to_string(), json!(seconds)),
        ]);
        let tagged: Vec<(String, f64)> =
            values.iter().map(|(name, value)| (format!("{group}/{name}"), *value)).collect();
        line.extend(tagged.iter().map(|(name, value)| (name.clone(), json!(value))));
        let text = format!("{}\n", Value::Object(line));
        self.file.write_all(text.as_bytes()).map_err(Error::io("write", &self.path))?;
        self.events.scalars(iteration, &tagged)
    }
}

/// Where pictures go, in the folder of a training.
pub const SAMPLES: &str = "samples";

impl MetricsLog {
    /// Adds what the weights of an iteration draw, as `samples/NNNNNNN.png` and for TensorBoard.
    ///
    /// # Errors
    /// When the files can't be written.
    pub fn picture(&mut self, folder: &Path, iteration: u64, picture: &Picture) -> Result<()> {
        let place = folder.join(SAMPLES);
        atomic::create_folder(&place)?;
        atomic::write(&place.join(format!("{iteration:07}.png")), &picture.png)?;
        self.events.picture(iteration, "samples", picture)
    }

    /// Adds a text for TensorBoard.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn text(&mut self, iteration: u64, tag: &str, text: &str) -> Result<()> {
        self.events.text(iteration, tag, text)
    }
}

/// Seconds that a training took up to `iteration`, by its lines: the last one's, and as many more
/// as its iterations took on average for those behind it.
fn seconds_before(lines: &[&Value], iteration: u64) -> f64 {
    let last = lines.iter().rev().find_map(|line| {
        Some((line["iteration"].as_u64().filter(|i| *i > 0)?, line["seconds"].as_f64()?))
    });
    last.map_or(0.0, |(at, seconds)| seconds * iteration as f64 / at as f64)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds count on where an earlier run stopped, and lines behind it are dropped.
    #[test]
    fn time_is_kept_over_runs() {
        let folder = tempfile::tempdir().unwrap();
        let lines = "{\"iteration\": 10, \"seconds\": 50.0, \"train/loss\": 1.0}\n\
                     {\"iteration\": 20, \"seconds\": 100.0, \"train/loss\": 1.0}\n\
                     {\"iteration\": 30, \"seconds\": 900.0, \"train/loss\": 1.0}\n";
        std::fs::write(folder.path().join(METRICS), lines).unwrap();
        // Resumed at 24: the four iterations behind line 20 took 5 seconds each.
        let mut log = MetricsLog::open(folder.path(), 24).unwrap();
        log.write(25, "train", &[("loss".into(), 0.5)]).unwrap();
        let lines = read_metrics(folder.path()).unwrap();
        let last = lines[2]["seconds"].as_f64().unwrap();
        assert_eq!(lines.len(), 3);
        assert!((120.0..150.0).contains(&last), "{last}");
        // A log without times, of an older version, begins at zero.
        let old = [json!({"iteration": 10, "train/loss": 1.0})];
        assert_eq!(seconds_before(&old.iter().collect::<Vec<_>>(), 10), 0.0);
        assert_eq!(seconds_before(&[], 0), 0.0);
    }
}
