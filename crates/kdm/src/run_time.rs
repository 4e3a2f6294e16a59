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
    /// Seconds before this was made.
    before: f64,
    /// Those of them that were other processes'.
    earlier: f64,
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
        let kept = kept.unwrap_or_default();
        let seconds = |key: &str| kept[key].as_f64().unwrap_or(0.0).max(0.0);
        let before = seconds("seconds");
        // A run may have its time taken in several parts by one process.
        let ours = kept["process"].as_u64() == Some(u64::from(std::process::id()));
        let earlier = if ours { seconds("earlier").min(before) } else { before };
        Self { path, before, earlier, began: now, kept: Cell::new(now), observer }
    }

    /// Seconds of the run so far, those of earlier processes among them.
    pub fn seconds(&self) -> f64 {
        self.before + self.began.elapsed().as_secs_f64()
    }

    /// The time for a person.
    pub fn told(&self) -> String {
        let minutes = |seconds: f64| format!("{:.1} minutes", seconds / 60.0);
        let seconds = self.seconds();
        if self.earlier == 0.0 {
            return minutes(seconds);
        }
        let ours = minutes(seconds - self.earlier);
        format!("{}, {ours} of them since it was last resumed", minutes(seconds))
    }

    fn keep(&self) -> Result<()> {
        self.kept.set(Instant::now());
        let kept = json!({
            "seconds": self.seconds(),
            "process": std::process::id(),
            "earlier": self.earlier,
        });
        atomic::write(&self.path, pretty(&kept).as_bytes())
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
        // One process that begins anew has not resumed.
        let again = RunTime::go_on(folder.path(), &Silent);
        assert!(again.before > 0.0 && again.told().ends_with("0.0 minutes"), "{}", again.told());
        drop(again);
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
