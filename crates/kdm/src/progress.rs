//! Progress on standard error: a bar with rate and time left on a terminal, plain lines elsewhere.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// How often a plain line is printed.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The progress of one long task.
#[derive(Debug)]
pub struct Progress {
    what: String,
    unit: &'static str,
    bar: Option<ProgressBar>,
    started: Instant,
    first: Option<u64>,
    last_line: Instant,
}

impl Progress {
    /// Begins a task of counted `unit`s, such as "pairs".
    pub fn new(what: impl Into<String>, unit: &'static str) -> Self {
        let what = what.into();
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let template = format!(
                "{{prefix}} {{bar:30}} {{pos}}/{{len}} {unit}  {{rate}}  {{eta}} left  {{msg}}"
            );
            let rate = |state: &ProgressState, out: &mut dyn Write| {
                let _ = write!(out, "{:.0}/s", state.per_sec());
            };
            bar.set_style(
                ProgressStyle::with_template(&template)
                    .expect("a fixed template")
                    .with_key("rate", rate),
            );
            bar.set_prefix(what.clone());
            bar
        });
        let now = Instant::now();
        Self { what, unit, bar, started: now, first: None, last_line: now }
    }

    /// `done` of `total` units; `note` stands behind the numbers.
    pub fn set(&mut self, done: u64, total: u64, note: &str) {
        let first = *self.first.get_or_insert(done);
        if let Some(bar) = &self.bar {
            if bar.length() != Some(total) {
                bar.set_length(total);
                bar.reset_eta();
            }
            bar.set_position(done);
            bar.set_message(note.to_string());
        } else if self.last_line.elapsed() >= LINE_EVERY && done < total {
            self.last_line = Instant::now();
            let rate = (done - first) as f64 / self.started.elapsed().as_secs_f64();
            let left = if rate > 0.0 {
                format!("{:.0} s left", (total - done) as f64 / rate)
            } else {
                String::new()
            };
            eprintln!("{}: {done}/{total} {}  {rate:.0}/s  {left}  {note}", self.what, self.unit);
        }
    }

    /// Ends the task with a line.
    pub fn finish(self, note: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("{}: {note} ({:.1} s)", self.what, self.started.elapsed().as_secs_f64());
    }
}
