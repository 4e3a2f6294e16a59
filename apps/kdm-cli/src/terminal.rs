//! The terminal as an observer of long work: progress on standard error, as a bar with rate and
//! time left on a terminal and as plain lines elsewhere; messages as log lines; and Ctrl-C or
//! SIGTERM as the wish to stop.

use std::cell::RefCell;
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use kdm::Failure;
use kdm::observer::{Event, KEEP_EVERY, Observer};

/// When work says for the first time how far it has come, as plain lines; quicker work says
/// nothing.
const FIRST_LINE: Duration = Duration::from_secs(2);
/// How often a plain line is printed after that.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// When a bar is shown for the first time.
const FIRST_BAR: Duration = Duration::from_millis(300);

/// Set by the first signal to stop.
static STOPPING: AtomicBool = AtomicBool::new(false);
/// Set by whoever ends the program first: the work, or a signal.
static ENDING: AtomicBool = AtomicBool::new(false);

/// The exit code of a program that a signal ended.
pub const INTERRUPTED: u8 = 130;
/// How long work that keeps nothing has to stop by itself.
const GRACE: Duration = Duration::from_secs(2);

/// What a signal to stop means for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStop {
    /// It has nothing to keep, and is given two seconds to come to its next step.
    EndSoon,
    /// It stops at its next step, and keeps what was finished.
    KeepWork,
    /// It is done by several processes, which stop together at their next step and say nothing: a
    /// launcher ends them by such a signal too.
    SayNothing,
    /// It takes no more requests, and finishes those that it has.
    FinishRequests,
}

/// Makes the first Ctrl-C or SIGTERM stop work as `on_stop` says, and the second one end the
/// program at once.
pub fn stop_on_signals(on_stop: OnStop) {
    let handler = move || {
        if STOPPING.swap(true, Ordering::SeqCst) {
            std::process::exit(INTERRUPTED.into());
        }
        let again = "press Ctrl-C again to stop at once";
        match on_stop {
            OnStop::EndSoon => drop(thread::spawn(end_after_grace)),
            OnStop::SayNothing => {}
            OnStop::KeepWork => eprintln!("\nstopping at the next step; {again}"),
            OnStop::FinishRequests => eprintln!("\nfinishing open requests; {again}"),
        }
    };
    // Without a handler a signal ends the program at once, as it would anyway.
    let _ = ctrlc::set_handler(handler);
}

/// Ends the program, unless the work does so before.
fn end_after_grace() {
    thread::sleep(GRACE);
    if !ENDING.swap(true, Ordering::SeqCst) {
        eprintln!("error: stopped; no file is half written; run the same command again");
        std::process::exit(INTERRUPTED.into());
    }
}

/// To be called when the work has ended: from then on no signal's message comes between.
pub fn ended() {
    if ENDING.swap(true, Ordering::SeqCst) {
        // The program is ending because of a signal.
        loop {
            thread::sleep(GRACE);
        }
    }
}

/// Says why the program failed; gives its exit code.
pub fn tell(failure: Failure) -> u8 {
    let failure = kdm::sniff::explained(failure);
    eprintln!("error: {failure}");
    failure.exit_code()
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

/// Whether all that there is to say is said: `KDM_LOG` asks for no less.
pub fn says_all() -> bool {
    Level::of(std::env::var("KDM_LOG").ok().as_deref()) == Level::Info
}

/// One task that is shown.
#[derive(Debug)]
struct Shown {
    task: String,
    began: Instant,
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
}

/// Shows what long work says.
#[derive(Debug)]
pub struct Terminal {
    /// Messages beyond this level are not shown.
    level: Level,
    /// The tasks that have begun and not ended, the innermost last.
    shown: RefCell<Vec<Shown>>,
    /// Their bars, one below the other; none where standard error is no terminal.
    bars: Option<MultiProgress>,
    /// See [`Observer::keep_every`].
    keep_every: Duration,
}

impl Observer for Terminal {
    fn event(&self, event: &Event) {
        match *event {
            Event::Began { task, .. } => self.begin(task),
            Event::Advanced { task, unit, done, total, rate, note } => {
                let mut shown = self.shown.borrow_mut();
                let Some(shown) = shown.iter_mut().rev().find(|shown| shown.task == task) else {
                    return;
                };
                let far = Far { unit, done, total, rate, note };
                match &self.bars {
                    Some(bars) => shown.draw(bars, &far),
                    None if self.level < Level::Info => {}
                    None => drop(shown.line(&far).map(|line| self.line(&line))),
                }
            }
            Event::Finished { task, note, seconds } => {
                let mut shown = self.shown.borrow_mut();
                // A task that failed never finished: whatever began after this one is over too.
                if let Some(place) = shown.iter().rposition(|shown| shown.task == task) {
                    shown.drain(place..).for_each(|shown| self.clear(shown));
                }
                drop(shown);
                if !note.is_empty() && self.level == Level::Info {
                    self.line(&format!("{task}: {note} ({})", duration(seconds)));
                }
            }
            Event::Info(text) => self.say(Level::Info, text),
            Event::Warning(text) => self.say(Level::Warning, text),
        }
    }

    fn stopping(&self) -> bool {
        STOPPING.load(Ordering::Relaxed)
    }

    fn keep_every(&self) -> Duration {
        self.keep_every
    }
}

impl Terminal {
    /// Shows as much as the environment variable `KDM_LOG` says; work is kept every `keep_every`,
    /// or as often as is usual.
    pub fn new(keep_every: Option<Duration>) -> Self {
        let level = Level::of(std::env::var("KDM_LOG").ok().as_deref());
        let bars = std::io::stderr()
            .is_terminal()
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        let keep_every = keep_every.unwrap_or(KEEP_EVERY);
        Self { level, shown: RefCell::default(), bars, keep_every }
    }

    /// The same for a process that another one speaks for.
    pub fn silent(self) -> Self {
        Self { level: Level::Error, bars: None, ..self }
    }

    fn say(&self, level: Level, text: &str) {
        if level <= self.level {
            self.line(&format!("{}: {text}", level.name()));
        }
    }

    fn begin(&self, task: &str) {
        let shown = Shown { task: task.into(), began: Instant::now(), bar: None, last_line: None };
        self.shown.borrow_mut().push(shown);
    }

    /// Prints a line on standard error, while bars are out of the way.
    fn line(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    fn clear(&self, shown: Shown) {
        if let Some(bar) = shown.bar {
            bar.finish_and_clear();
            self.bars.iter().for_each(|bars| bars.remove(&bar));
        }
    }
}

/// How far a task has come.
#[derive(Clone, Copy)]
struct Far<'a> {
    unit: &'a str,
    done: u64,
    total: u64,
    rate: Option<f64>,
    note: &'a str,
}

impl Shown {
    fn draw(&mut self, bars: &MultiProgress, far: &Far) {
        if self.bar.is_none() && self.began.elapsed() >= FIRST_BAR {
            self.bar = Some(bars.add(bar(&self.task, far.unit)));
        }
        if let Some(bar) = &self.bar {
            bar.set_length(far.total);
            bar.set_position(far.done);
            bar.set_message(format!("{}  {}", pace(far), far.note));
        }
    }

    /// The line to print now; none where it is too early or there is nothing left to do.
    fn line(&mut self, far: &Far) -> Option<String> {
        let (since, least) = match self.last_line {
            Some(last) => (last, LINE_EVERY),
            None => (self.began, FIRST_LINE),
        };
        if since.elapsed() < least || far.done >= far.total {
            return None;
        }
        self.last_line = Some(Instant::now());
        let Far { unit, done, total, note, .. } = *far;
        let told = [format!("{done}/{total} {unit}"), pace(far), note.to_string()];
        let told: Vec<String> = told.into_iter().filter(|part| !part.is_empty()).collect();
        Some(format!("{}: {}", self.task, told.join("  ")))
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

/// Rate and time left, such as "12 it/s  3 min left"; seconds a step where steps are slow.
fn pace(far: &Far) -> String {
    let Some(rate) = far.rate.filter(|rate| *rate > 0.0) else { return String::new() };
    let (one, many) = match far.unit {
        "iterations" => ("it", "it"),
        unit => (unit.strip_suffix('s').unwrap_or(unit), unit),
    };
    let mut text = String::new();
    let _ = match rate {
        rate if rate >= 10.0 => write!(text, "{rate:.0} {many}/s"),
        rate if rate >= 1.0 => write!(text, "{rate:.1} {many}/s"),
        rate => write!(text, "{:.1} s/{one}", 1.0 / rate),
    };
    let left = far.total.saturating_sub(far.done) as f64 / rate;
    let _ = write!(text, "  {} left", duration(left));
    text
}

/// Seconds in a fitting unit.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 90.0 * 60.0 => format!("{:.0} min", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86400.0),
    }
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

    fn far(unit: &str, done: u64, total: u64, rate: Option<f64>) -> Far<'_> {
        Far { unit, done, total, rate, note: "loss 1" }
    }

    #[test]
    fn paces_are_told_in_fitting_units() {
        assert_eq!(pace(&far("pairs", 10, 110, Some(50.0))), "50 pairs/s  2.0 s left");
        assert_eq!(pace(&far("iterations", 0, 1000, Some(2.5))), "2.5 it/s  7 min left");
        assert_eq!(pace(&far("iterations", 0, 4000, Some(0.25))), "4.0 s/it  4.4 h left");
        assert_eq!(pace(&far("images", 0, 40_000, Some(0.1))), "10.0 s/image  4.6 days left");
        assert_eq!(pace(&far("pairs", 0, 4000, None)), "");
    }

    /// The first line comes after two seconds, the next ten seconds later, and none at the end,
    /// where a task says itself what came of it.
    #[test]
    fn lines_are_few() {
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let begun = |seconds| Shown {
            task: "distill".into(),
            began: ago(seconds),
            bar: None,
            last_line: None,
        };
        let half = far("iterations", 50, 100, Some(5.0));
        assert_eq!(begun(1).line(&half), None);
        let mut shown = begun(3);
        let line = shown.line(&half).unwrap();
        assert_eq!(line, "distill: 50/100 iterations  5.0 it/s  10 s left  loss 1");
        assert_eq!(shown.line(&half), None);
        shown.last_line = Some(ago(11));
        assert!(shown.line(&half).is_some());
        assert_eq!(begun(100).line(&Far { done: 100, ..half }), None);
    }
}
