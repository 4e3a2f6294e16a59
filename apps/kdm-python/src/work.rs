//! Long work called from Python. It runs in the package's own threads, without Python's lock, while
//! the thread that called it hears of signals, passes on what the work says, and can have it
//! stopped.

use std::mem;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use kdm::observer::{Event, KEEP_EVERY, Observer};
use kdm::runtime::Runtime;
use kdm::{Context, Outcome};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::errors::{exception, given, usage};

/// How often the calling thread looks for signals and passes on progress.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Stack of a thread, as large as that of a program's first.
const STACK: usize = 8 << 20;

/// How far a task has come.
#[pyclass(frozen, get_all, module = "kdm")]
#[derive(Clone, Debug)]
pub struct Progress {
    /// What is being done.
    task: String,
    /// What is counted, such as "iterations".
    unit: String,
    /// How many are done.
    done: u64,
    /// How many there are.
    total: u64,
    /// Units a second; none before there is something to measure.
    rate: Option<f64>,
    /// A few words beside the numbers, such as the loss.
    note: String,
}

#[pymethods]
impl Progress {
    fn __repr__(&self) -> String {
        let Self { task, unit, done, total, .. } = self;
        format!("Progress({task}: {done}/{total} {unit})")
    }
}

/// What work says.
enum Message {
    Progress(Progress),
    Info(String),
    Warning(String),
}

/// Between the work and the thread that called it.
#[derive(Default)]
struct Shared {
    told: Mutex<Told>,
    ended: Condvar,
    stopping: AtomicBool,
}

#[derive(Default)]
struct Told {
    messages: Vec<Message>,
    ended: bool,
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of the work, or for a moment; gives what was said, and whether it ended.
    fn wait(&self) -> (Vec<Message>, bool) {
        let until = Instant::now() + LOOK_EVERY;
        let mut told = self.told();
        while let Some(left) = until.checked_duration_since(Instant::now())
            && !told.ended
        {
            told = self.ended.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        (mem::take(&mut told.messages), told.ended)
    }
}

/// Tells of the end of the work, however it ends.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.told().ended = true;
        self.0.ended.notify_all();
    }
}

/// The work's observer.
struct Watch<'a> {
    shared: &'a Shared,
    keep_every: Duration,
}

impl Observer for Watch<'_> {
    fn event(&self, event: &Event) {
        let message = match *event {
            Event::Advanced { task, unit, done, total, rate, note } => {
                let (task, unit, note) = (task.to_string(), unit.to_string(), note.to_string());
                Message::Progress(Progress { task, unit, done, total, rate, note })
            }
            Event::Info(text) => Message::Info(text.to_string()),
            Event::Warning(text) => Message::Warning(text.to_string()),
            Event::Began { .. } | Event::Finished { .. } => return,
        };
        let messages = &mut self.shared.told().messages;
        // Only the last of what a task says in a moment is passed on.
        if let (Some(Message::Progress(last)), Message::Progress(new)) =
            (messages.last_mut(), &message)
            && last.task == new.task
        {
            *last = new.clone();
            return;
        }
        messages.push(message);
    }

    fn stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Relaxed)
    }

    fn keep_every(&self) -> Duration {
        self.keep_every
    }
}

/// Who is told, and how often work is kept.
#[derive(Debug)]
pub struct Watching<'a, 'py> {
    /// A function of one [`Progress`].
    pub on_progress: Option<&'a Bound<'py, PyAny>>,
    /// The longest that work goes on without keeping what it has done.
    pub keep_every: Duration,
}

impl<'a, 'py> Watching<'a, 'py> {
    /// Tells this function.
    pub fn by(on_progress: Option<&'a Bound<'py, PyAny>>) -> Self {
        Self { on_progress, keep_every: KEEP_EVERY }
    }

    fn tell(&self, py: Python<'py>, message: Message) -> PyResult<()> {
        let log = |level: &str, text: String| -> PyResult<()> {
            let logger = py.import("logging")?.call_method1("getLogger", ("kdm",))?;
            logger.call_method1(level, ("%s", text))?;
            Ok(())
        };
        match message {
            Message::Info(text) => log("info", text),
            Message::Warning(text) => log("warning", text),
            Message::Progress(progress) => {
                let call = |f: &Bound<'py, PyAny>| f.call1((progress,)).map(drop);
                self.on_progress.map_or(Ok(()), call)
            }
        }
    }
}

/// Does `work` in the package's threads, without Python's lock.
///
/// # Errors
/// The exception of a failure. A signal or an exception of `on_progress` stops the work at its next
/// step, and is raised then: Ctrl-C as a `KeyboardInterrupt` that says what is kept.
pub fn work<T: Send>(
    py: Python<'_>,
    watching: &Watching,
    work: impl FnOnce(Context) -> Outcome<T> + Send,
) -> PyResult<T> {
    kdm::kernels::instruction_set().map_err(|error| exception(py, usage(error.to_string())))?;
    let pool = pool(py)?;
    let (shared, keep_every) = (Shared::default(), watching.keep_every);
    let mut raised: Option<PyErr> = None;
    let outcome = thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let _ending = Ending(&shared);
            let watch = Watch { shared: &shared, keep_every };
            pool.install(|| {
                let runtime = Runtime::cpu();
                work(Context { observer: &watch, ..Context::silent(&runtime) })
            })
        });
        loop {
            let (messages, ended) = py.detach(|| shared.wait());
            let told = messages.into_iter().try_for_each(|m| watching.tell(py, m));
            if let Err(error) = told.and_then(|()| py.check_signals()) {
                raised.get_or_insert(error);
                shared.stopping.store(true, Ordering::Relaxed);
            }
            if ended {
                return worker.join();
            }
        }
    });
    let outcome = outcome.unwrap_or_else(|panic| resume_unwind(panic));
    match (outcome, raised) {
        (outcome, None) => given(py, outcome),
        (Err(failure), Some(error)) if !failure.is_stop() => {
            let failure = exception(py, failure);
            failure.set_cause(py, Some(error));
            Err(failure)
        }
        // The failure says what is kept.
        (Err(failure), Some(error)) if error.is_instance_of::<PyKeyboardInterrupt>(py) => {
            Err(exception(py, failure))
        }
        (_, Some(error)) => Err(error),
    }
}

/// The threads of a process.
struct Threads {
    process: u32,
    count: usize,
    pool: Arc<ThreadPool>,
}

/// Threads that were asked for (0 for as many as cores), and those that are there.
static THREADS: Mutex<(usize, Option<Threads>)> = Mutex::new((0, None));

/// The pool of this process. A child made by `fork`, such as a worker of PyTorch's data loader, has
/// none of its parent's threads and is given its own.
fn pool(py: Python<'_>) -> PyResult<Arc<ThreadPool>> {
    let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    let (count, process) = (threads.0, std::process::id());
    if let Some(there) = &threads.1
        && (there.process, there.count) == (process, count)
    {
        return Ok(there.pool.clone());
    }
    let built = ThreadPoolBuilder::new().num_threads(count).stack_size(STACK).build();
    let built = built.map_err(|error| usage(format!("threads {count}: {error}; give fewer")));
    let pool = Arc::new(given(py, built)?);
    let before = threads.1.replace(Threads { process, count, pool: pool.clone() });
    if let Some(before) = before.filter(|before| before.process != process) {
        // Its threads are not here to be ended.
        mem::forget(before.pool);
    }
    Ok(pool)
}

/// Computes with this many threads from now on; with as many as there are cores unless set.
#[pyfunction]
pub fn set_threads(py: Python<'_>, count: usize) -> PyResult<()> {
    const MOST: usize = 4096;
    if !(1..=MOST).contains(&count) {
        return Err(exception(py, usage(format!("threads {count}: give 1 to {MOST}"))));
    }
    THREADS.lock().unwrap_or_else(PoisonError::into_inner).0 = count;
    Ok(())
}
