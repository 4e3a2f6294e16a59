//! How long work in a library is watched: it reports progress, says what a person should know, and
//! can be stopped at its next step. A library knows no terminal; a program, a server or a notebook
//! gives an [`Observer`] that shows what it is told, or [`Silent`].
//!
//! ```
//! use kdm_observer::{Event, Observer, Stopped};
//!
//! /// Ten steps of some work.
//! fn work(observer: &dyn Observer) -> Result<u64, Stopped> {
//!     let mut progress = observer.begin("squares", "numbers");
//!     let mut sum = 0;
//!     for i in 0..10 {
//!         progress.advance(i, 10, "")?;
//!         sum += i * i;
//!     }
//!     progress.finish("summed");
//!     Ok(sum)
//! }
//!
//! let show = |event: &Event| println!("{event:?}");
//! assert_eq!(work(&show), Ok(285));
//! ```

use std::ops::Range;
use std::time::{Duration, Instant};

/// Something that long work says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// A task begins. Tasks may lie inside another: a validation inside a training.
    Began {
        /// What is done, such as "test pairs".
        task: &'a str,
        /// What is counted, such as "pairs".
        unit: &'a str,
    },
    /// It has come this far.
    Advanced {
        /// The task.
        task: &'a str,
        /// What is counted.
        unit: &'a str,
        /// Units done, those of earlier runs among them.
        done: u64,
        /// Units in all.
        total: u64,
        /// Units a second in this run; none before there is something to measure.
        rate: Option<f64>,
        /// A few words beside the numbers, such as the loss; may be empty.
        note: &'a str,
    },
    /// It is done.
    Finished {
        /// The task.
        task: &'a str,
        /// What came of it; empty where there is nothing to say.
        note: &'a str,
        /// Seconds it took.
        seconds: f64,
    },
    /// What a person may want to know.
    Info(&'a str),
    /// What a person should know.
    Warning(&'a str),
}

/// Who watches long work. Called from the thread that does the work.
pub trait Observer {
    /// Takes note of what the work says.
    fn event(&self, event: &Event);

    /// Whether the work should stop at its next step.
    fn stopping(&self) -> bool {
        false
    }

    /// The longest that work goes on without keeping on the disk what it has done, so that a
    /// machine that goes down costs no more. It has no effect on results.
    fn keep_every(&self) -> Duration {
        KEEP_EVERY
    }
}

/// How often long work is kept unless somebody wants otherwise: every five minutes.
pub const KEEP_EVERY: Duration = Duration::from_secs(5 * 60);

impl<F: Fn(&Event)> Observer for F {
    fn event(&self, event: &Event) {
        self(event);
    }
}

/// Takes note of nothing, and lets work run to its end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: &Event) {}
}

impl dyn Observer + '_ {
    /// Begins a task of counted `unit`s.
    pub fn begin<'a>(&'a self, task: &str, unit: &'static str) -> Progress<'a> {
        self.event(&Event::Began { task, unit });
        Progress {
            observer: self,
            task: task.to_string(),
            unit,
            started: Instant::now(),
            first: None,
        }
    }

    /// The values of `count` units, computed by `part` for `at_a_time` of them in a row (at least
    /// 1) and put one after the other, as a task that ends without a word.
    ///
    /// # Errors
    /// When the observer wants the work to stop.
    pub fn in_parts<T>(
        &self,
        (task, unit): (&str, &'static str),
        count: usize,
        at_a_time: usize,
        mut part: impl FnMut(Range<usize>) -> Vec<T>,
    ) -> Result<Vec<T>, Stopped> {
        let mut progress = self.begin(task, unit);
        let mut all = Vec::new();
        for start in (0..count).step_by(at_a_time) {
            progress.advance(start as u64, count as u64, "")?;
            all.extend(part(start..(start + at_a_time).min(count)));
        }
        progress.report(count as u64, count as u64, "");
        progress.finish("");
        Ok(all)
    }

    /// Says what a person may want to know.
    pub fn info(&self, text: &str) {
        self.event(&Event::Info(text));
    }

    /// Says what a person should know.
    pub fn warn(&self, text: &str) {
        self.event(&Event::Warning(text));
    }

    /// Whether work may go on.
    ///
    /// # Errors
    /// When the observer wants it to stop.
    pub fn check(&self) -> Result<(), Stopped> {
        if self.stopping() { Err(Stopped) } else { Ok(()) }
    }
}

/// The observer asked the work to stop; what was finished is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped; what was finished is kept")]
pub struct Stopped;

/// One task of long work.
pub struct Progress<'a> {
    observer: &'a dyn Observer,
    task: String,
    unit: &'static str,
    started: Instant,
    first: Option<u64>,
}

impl std::fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress").field("task", &self.task).finish_non_exhaustive()
    }
}

impl Progress<'_> {
    /// Reports `done` of `total` units. The first call says where the work begins, which is above 0
    /// when an earlier run is gone on with: rates are of this run alone.
    ///
    /// # Errors
    /// When the observer wants the work to stop.
    pub fn advance(&mut self, done: u64, total: u64, note: &str) -> Result<(), Stopped> {
        self.report(done, total, note);
        self.observer.check()
    }

    /// [`Self::advance`] for work that can't stop here.
    pub fn report(&mut self, done: u64, total: u64, note: &str) {
        let first = *self.first.get_or_insert(done);
        let seconds = self.elapsed().as_secs_f64();
        let rate = (done > first && seconds > 0.0).then(|| (done - first) as f64 / seconds);
        let (task, unit) = (self.task.as_str(), self.unit);
        self.observer.event(&Event::Advanced { task, unit, done, total, rate, note });
    }

    /// Who is told.
    pub fn observer(&self) -> &dyn Observer {
        self.observer
    }

    /// Time since the task began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends the task, saying what came of it; nothing for a part of other work.
    pub fn finish(self, note: &str) {
        let seconds = self.elapsed().as_secs_f64();
        self.observer.event(&Event::Finished { task: &self.task, note, seconds });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// Stops after some events, and keeps what it was told.
    #[derive(Default)]
    struct Listener {
        told: RefCell<Vec<String>>,
        stop: Cell<bool>,
    }

    impl Observer for Listener {
        fn event(&self, event: &Event) {
            self.told.borrow_mut().push(format!("{event:?}"));
        }

        fn stopping(&self) -> bool {
            self.stop.get()
        }
    }

    #[test]
    fn work_is_told_of_and_stops_when_asked_to() {
        let listener = Listener::default();
        let observer: &dyn Observer = &listener;
        let mut progress = observer.begin("squares", "numbers");
        assert_eq!(progress.advance(40, 100, ""), Ok(()));
        listener.stop.set(true);
        assert_eq!(progress.advance(41, 100, "loss 1"), Err(Stopped));
        observer.warn("look");
        progress.finish("done");
        let told = listener.told.borrow();
        assert_eq!(told.len(), 5);
        // Where a run goes on from, there is no rate yet.
        assert!(told[1].contains("done: 40") && told[1].contains("rate: None"), "{}", told[1]);
        assert!(told[2].contains("rate: Some") && told[2].contains("loss 1"), "{}", told[2]);
        assert!(told[3].contains("Warning") && told[4].contains("Finished"));
    }

    /// Parts are told of and come in order; a stop ends between two of them.
    #[test]
    fn work_in_parts_is_the_whole_work() {
        let listener = Listener::default();
        let observer: &dyn Observer = &listener;
        let squares = |range: Range<usize>| range.map(|i| i * i).collect();
        let found = observer.in_parts(("squares", "numbers"), 7, 3, squares).unwrap();
        assert_eq!(found, [0, 1, 4, 9, 16, 25, 36]);
        assert_eq!(listener.told.borrow().len(), 1 + 4 + 1);
        let found = observer.in_parts(("squares", "numbers"), 7, 3, |range| {
            listener.stop.set(range.end > 3);
            vec![0; range.len()]
        });
        assert_eq!(found, Err(Stopped));
    }

    /// The rate is of this run: 10 units in the time since the beginning, not the 1010 there are.
    #[test]
    fn a_rate_counts_what_this_run_did() {
        let rates = RefCell::new(Vec::new());
        let keep = |event: &Event| {
            if let Event::Advanced { rate, .. } = event {
                rates.borrow_mut().push(*rate);
            }
        };
        let observer: &dyn Observer = &keep;
        let mut progress = observer.begin("pairs", "pairs");
        progress.report(1000, 2000, "");
        std::thread::sleep(Duration::from_millis(20));
        progress.report(1010, 2000, "");
        let rate = rates.borrow()[1].unwrap();
        assert!(rate > 0.0 && rate <= 10.0 / 0.02, "{rate}");
    }
}
