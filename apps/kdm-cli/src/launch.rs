//! Processes that a launcher (mpirun, srun) started together: which commands they work on together,
//! which of them speaks, and how all of them end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use kdm::train::Error;
use kdm::workers::{Launched, Together};
use kdm::{Failure, Outcome};

use crate::terminal;

/// What several processes do that are given the same command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// They train together.
    Together,
    /// Each does its share by itself.
    Share,
    /// The command is for one process.
    Alone,
}

/// Whether another process speaks for this one.
static FOLLOWS: AtomicBool = AtomicBool::new(false);

/// How long a process whose failure may be that of all lets the first one tell of it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long work that was stopped in one process has to stop in the others.
const GRACE: Duration = Duration::from_secs(3);

/// Whether another process speaks for this one: it prints nothing.
pub fn follows() -> bool {
    FOLLOWS.load(Ordering::Relaxed)
}

/// What the environment says of a launcher.
pub fn launched() -> Option<Launched> {
    Launched::find(&|name| std::env::var(name).ok())
}

/// The threads of a process: as `given`, or the cores that it is bound to, or its share of them
/// where several processes on this machine are not bound. 0 for all.
pub fn threads(given: Option<usize>, launched: Option<Launched>) -> usize {
    let shared = || {
        let cores = thread::available_parallelism().ok()?.get();
        let local = launched?.local?;
        let all = kdm::data::machine::processors()?;
        (cores >= all).then(|| (cores / local).max(1))
    };
    given.or_else(shared).unwrap_or(0)
}

/// Joins the processes that were started beside this one, for a command that they work on together;
/// none where there are none, or each does its share.
///
/// # Errors
/// When they can't work together.
pub fn join(launched: Option<Launched>, part: Part) -> Outcome<Option<Together>> {
    let Some(launched) = launched.filter(|_| part != Part::Share) else { return Ok(None) };
    FOLLOWS.store(launched.rank.is_some_and(|rank| rank > 0), Ordering::Relaxed);
    if part == Part::Alone {
        return Err(Failure::Usage(format!(
            "{}, and this command is for one; start it without mpirun or srun",
            launched.told()
        )));
    }
    let together = Together::join(&launched)?;
    FOLLOWS.store(!together.workers().leads(), Ordering::Relaxed);
    Ok(Some(together))
}

/// Ends the work of this process with what came of it, and that of all others where it failed. One
/// message tells of a failure that all have.
///
/// # Errors
/// The failure, where this process is alone or all were stopped.
pub fn end(together: Option<Together>, done: Outcome<()>) -> Outcome<()> {
    let Some(together) = together else { return done };
    let failure = match done {
        // All of them come to the end, and to a stop, at the same iteration.
        Ok(()) | Err(Failure::Train(Error::Stopped { .. })) => {
            together.leave();
            return done;
        }
        Err(failure) => failure,
    };
    let code = failure.exit_code();
    if follows() {
        thread::sleep(PATIENCE);
        let rank = together.workers().rank();
        eprintln!("error: worker {rank}: {}", kdm::sniff::explained(failure));
        together.abort(code);
    }
    if code == terminal::INTERRUPTED {
        thread::sleep(GRACE);
    }
    terminal::tell(failure);
    together.abort(code)
}

/// Waits, where the first process tells of a failure that this one has too: a launcher ends all
/// when one of them ends.
pub fn let_the_first_speak() {
    thread::sleep(GRACE);
}
