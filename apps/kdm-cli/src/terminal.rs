//! The terminal as an observer of long work: progress on standard error, as a bar with rate and
//! time left on a terminal and as plain lines elsewhere; messages as log lines; and Ctrl-C or
//! SIGTERM as the wish to stop.

use std::cell::RefCell;
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use kdm::observer::{Event, Observer};

/// How often a plain line is printed.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Set by the first signal to stop.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// The exit code of a program that a signal ended.
const INTERRUPTED: i32 = 130;

/// Makes the first Ctrl-C or SIGTERM stop work at its next step, with what was finished kept, and
/// the second one end the program at once.
pub fn stop_on_signals() {
    let handler = || {
        if STOPPING.swap(true, Ordering::SeqCst) {
            std::process::exit(INTERRUPTED);
        }
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            b"\nstopping at the next step; press Ctrl-C again to stop at once\n",
        );
    };
    // Without a handler a signal ends the program at once, as it would anyway.
    let _ = ctrlc::set_handler(handler);
}

/// How much is said, from little to much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// Errors alone.
    Error,
    /// What a person should know.
    Warning,
    /// All there is.
    #[default]
    Info,
}

impl Level {
    /// What `KDM_LOG` asks for; [`Self::Info`] unless it says less.
    fn of(variable: Option<&str>) -> Self {
        match variable.map(str::trim) {
            Some("off" | "error") => Self::Error,
            Some("warn" | "warning") => Self::Warning,
            _ => Self::Info,
        }
    }

    /// What a message of this level begins with.
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// One task that is shown.
#[derive(Debug)]
struct Shown {
    task: String,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

/// Shows what long work says.
#[derive(Debug)]
pub struct Terminal {
    /// Messages beyond this level are not shown.
    level: Level,
    /// The tasks that have begun and not ended, the innermost last.
    shown: RefCell<Vec<Shown>>,
}

impl Observer for Terminal {
    fn event(&self, event: &Event) {
        match *event {
            Event::Began { task, .. } => self.begin(task),
            Event::Advanced { task, unit, done, total, rate, note } => {
                let mut shown = self.shown.borrow_mut();
                if let Some(shown) = shown.iter_mut().rev().find(|shown| shown.task == task) {
                    shown.advance(unit, done, total, rate, note);
                }
            }
            Event::Finished { task, note, seconds } => {
                let mut shown = self.shown.borrow_mut();
                // A task that failed never finished: whatever began after this one is over too.
                if let Some(place) = shown.iter().rposition(|shown| shown.task == task) {
                    shown.drain(place..).for_each(|shown| shown.clear());
                }
                drop(shown);
                if !note.is_empty() {
                    self.line(&format!("{task}: {note} ({seconds:.1} s)"));
                }
            }
            Event::Info(text) => self.say(Level::Info, text),
            Event::Warning(text) => self.say(Level::Warning, text),
        }
    }

    fn stopping(&self) -> bool {
        STOPPING.load(Ordering::Relaxed)
    }
}

impl Terminal {
    /// Shows as much as the environment variable `KDM_LOG` says.
    pub fn new() -> Self {
        let level = Level::of(std::env::var("KDM_LOG").ok().as_deref());
        Self { level, shown: RefCell::default() }
    }

    fn say(&self, level: Level, text: &str) {
        if level <= self.level {
            self.line(&format!("{}: {text}", level.name()));
        }
    }

    fn begin(&self, task: &str) {
        let shown = Shown { task: task.into(), bar: None, last_line: Instant::now() };
        self.shown.borrow_mut().push(shown);
    }

    /// Prints a line on standard error.
    fn line(&self, text: &str) {
        self.above_bars(|| eprintln!("{text}"));
    }

    /// Prints while bars are out of the way.
    fn above_bars(&self, print: impl FnOnce()) {
        match self.shown.borrow().last().and_then(|shown| shown.bar.as_ref()) {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Shown {
    fn advance(&mut self, unit: &str, done: u64, total: u64, rate: Option<f64>, note: &str) {
        let pace = pace(done, total, rate);
        if self.bar.is_none() && std::io::stderr().is_terminal() {
            self.bar = Some(bar(&self.task, unit));
        }
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(format!("{pace}  {note}"));
        } else if self.last_line.elapsed() >= LINE_EVERY && done < total {
            self.last_line = Instant::now();
            eprintln!("{}: {done}/{total} {unit}  {pace}  {note}", self.task);
        }
    }

    fn clear(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A bar, made once there is something to show.
fn bar(task: &str, unit: &str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    let template = format!("{{prefix}} {{bar:30}} {{pos}}/{{len}} {unit}  {{msg}}");
    bar.set_style(ProgressStyle::with_template(&template).expect("a fixed template"));
    bar.set_prefix(task.to_string());
    bar
}

/// Rate and time left, such as "12/s  3 min left"; seconds a step where steps are slow.
fn pace(done: u64, total: u64, rate: Option<f64>) -> String {
    let Some(rate) = rate.filter(|rate| *rate > 0.0) else { return String::new() };
    let mut text = String::new();
    let _ = match rate {
        rate if rate >= 10.0 => write!(text, "{rate:.0}/s"),
        rate if rate >= 1.0 => write!(text, "{rate:.1}/s"),
        rate => write!(text, "{:.1} s each", 1.0 / rate),
    };
    let left = total.saturating_sub(done) as f64 / rate;
    let _ = match left {
        left if left < 90.0 => write!(text, "  {left:.0} s left"),
        left if left < 90.0 * 60.0 => write!(text, "  {:.0} min left", left / 60.0),
        left => write!(text, "  {:.1} h left", left / 3600.0),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_is_said_when_asked_to() {
        assert_eq!(Level::of(None), Level::Info);
        assert_eq!(Level::of(Some("debug")), Level::Info);
        assert!(Level::Warning > Level::of(Some("error")));
        assert!(Level::Info > Level::of(Some("warn")) && Level::Warning <= Level::of(Some("warn")));
    }

    #[test]
    fn paces_are_told_in_fitting_units() {
        assert_eq!(pace(10, 110, Some(50.0)), "50/s  2 s left");
        assert_eq!(pace(0, 1000, Some(2.5)), "2.5/s  7 min left");
        assert_eq!(pace(0, 4000, Some(0.25)), "4.0 s each  4.4 h left");
        assert_eq!(pace(0, 4000, None), "");
    }
}
