//! How long a run took, over all the processes that worked on it.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kdm_data::{Result, atomic};
use kdm_observer::{Event, Observer};
use serde_json::{Value, json};

use crate::run_folder::{TIME, pretty};

/// The wall-clock time of a run in a folder, kept there as [`TIME`]: as often as the observer wants
/// work to be kept, and when this is dropped, so that a process that is killed costs no more of it
/// than of its work. It watches the run in its observer's place.
pub struct RunTime<'a> {
    path: PathBuf,
    /// Seconds of earlier processes.
    before: f64,
    began: Instant,
    kept: Cell<Instant>,
    observer: &'a dyn Observer,
}

impl std::fmt::Debug for RunTime<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunTime").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<'a> RunTime<'a> {
    /// Goes on from what is kept in `folder`, or from nothing.
    pub fn go_on(folder: &Path, observer: &'a dyn Observer) -> Self {
        let (path, now) = (folder.join(TIME), Instant::now());
        let kept = std::fs::read_to_string(&path).ok();
        let kept = kept.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let before = kept.and_then(|kept| kept["seconds"].as_f64()).unwrap_or(0.0).max(0.0);
        Self { path, before, began: now, kept: Cell::new(now), observer }
    }

    /// Seconds since this process began with the run.
    pub fn here(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Seconds of the run so far, those of earlier processes among them.
    pub fn seconds(&self) -> f64 {
        self.before + self.here()
    }

    /// The time for a person.
    pub fn told(&self) -> String {
        let minutes = |seconds: f64| format!("{:.1} minutes", seconds / 60.0);
        let all = minutes(self.seconds());
        if self.before == 0.0 {
            return all;
        }
        format!("{all}, {} of them since it was last resumed", minutes(self.here()))
    }

    fn keep(&self) -> Result<()> {
        self.kept.set(Instant::now());
        atomic::write(&self.path, pretty(&json!({ "seconds": self.seconds() })).as_bytes())
    }
}

impl Observer for RunTime<'_> {
    fn event(&self, event: &Event) {
        self.observer.event(event);
        if self.kept.get().elapsed() >= self.keep_every() {
            // The work itself tells of a disk that can't be written.
            let _ = self.keep();
        }
    }

    fn stopping(&self) -> bool {
        self.observer.stopping()
    }

    fn keep_every(&self) -> Duration {
        self.observer.keep_every()
    }
}

impl Drop for RunTime<'_> {
    fn drop(&mut self) {
        let _ = self.keep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_observer::Silent;

    /// Parts are summed, whether they end or are killed after they were kept.
    #[test]
    fn time_is_summed_over_processes() {
        struct Often;
        impl Observer for Often {
            fn event(&self, _: &Event) {}
            fn keep_every(&self) -> Duration {
                Duration::ZERO
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let first = RunTime::go_on(folder.path(), &Silent);
        assert!(first.told().ends_with(" minutes"), "{}", first.told());
        drop(first);
        std::fs::write(folder.path().join(TIME), "{\"seconds\": 90.0}").unwrap();
        let second = RunTime::go_on(folder.path(), &Often);
        std::thread::sleep(Duration::from_millis(20));
        second.event(&Event::Info("a step"));
        let told = second.told();
        assert!(told.starts_with("1.5 minutes, 0.0 minutes of them"), "{told}");
        // What a killed process kept counts.
        std::mem::forget(second);
        let third = RunTime::go_on(folder.path(), &Silent);
        assert!((90.02..100.0).contains(&third.seconds()), "{}", third.seconds());
        std::fs::write(folder.path().join(TIME), "damaged").unwrap();
        assert!(RunTime::go_on(folder.path(), &Silent).seconds() < 10.0);
    }
}
