//! Students over HTTP, and a page to explore them: what `kdm serve` does.
//!
//! The thread that calls [`serve`] draws; it joins what requests want of one student into batches.
//! Another does longer work, such as edits and inversions. Others take connections, check requests
//! and write pictures.

mod asked;
mod connections;
mod engine;
mod error;
mod json;
mod metrics;
mod models;
mod openapi;
mod page;
mod request;
mod response;
mod routes;
mod work;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use kdm::{Context, Failure, Outcome};
use serde_json::Value;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::models::Model;
use crate::routes::{Shared, hashed, router};

pub use crate::request::Limits;

/// How to serve.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Students' files, or names of students that ship.
    pub models: Vec<PathBuf>,
    /// The teacher of the first student; none for the one that lies beside it or ships.
    pub teacher: Option<PathBuf>,
    /// Where to listen; port 0 for any that is free.
    pub listen: SocketAddr,
    /// The token that requests must bear; none for an open server.
    pub token: Option<String>,
    /// Whether to listen beyond this machine without a token.
    pub insecure: bool,
    /// Samples that may wait; requests beyond them are told to come back.
    pub queue: usize,
    /// Connections at a time.
    pub connections: usize,
    /// The longest that a request is worked on.
    pub timeout: Duration,
    /// What one request may ask for.
    pub limits: Limits,
    /// Bytes of a request's body at most.
    pub most_bytes: usize,
    /// Whether each request is logged on standard error, as a line of JSON.
    pub log: bool,
}

/// Threads that take connections and write pictures.
const THREADS: usize = 2;

/// Serves until the observer wants to stop; then finishes what is being answered. `listening` is
/// told the address once requests are taken.
///
/// # Errors
/// When a model can't be loaded, the address can't be had, or it would be open to others without
/// a token.
pub fn serve(
    settings: Settings,
    context: Context,
    listening: impl FnOnce(SocketAddr),
) -> Outcome<()> {
    let Settings { listen, .. } = settings;
    if !listen.ip().is_loopback() && settings.token.is_none() && !settings.insecure {
        return Err(Failure::Usage(format!(
            "--listen {listen}: anybody who reaches this address could use the server; give \
             --token-file, or --insecure to allow it"
        )));
    }
    let refused = |error: std::io::Error| {
        Failure::Usage(format!("--listen {listen}: {error}; give another address or port"))
    };
    // Before the models are loaded, so that a port that is taken is told at once.
    let listener = TcpListener::bind(listen).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let models = Arc::new(open(&settings, context)?);
    let metrics = Arc::new(Metrics::default());
    let ([draws, works], queue) = engine::engines(&models, settings.queue, &metrics);
    let (stop, stopping) = watch::channel(false);
    let shared = Arc::new(Shared {
        models,
        queue,
        metrics: metrics.clone(),
        limits: settings.limits,
        most_bytes: settings.most_bytes,
        timeout: settings.timeout,
        token: settings.token.as_deref().map(hashed),
        stopping: stopping.clone(),
        log: settings.log,
    });
    let network = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("kdm-http")
        .enable_all()
        .build()
        .map_err(|error| Failure::Interrupted(format!("no threads can be started: {error}")))?;
    thread::scope(|scope| {
        let connections = settings.connections;
        let network = scope.spawn(move || {
            network.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).map_err(refused)?;
                let router = router(shared);
                connections::accept(listener, router, connections, metrics, stopping).await;
                Ok(())
            })
        });
        let worker = scope.spawn(move || works.run(|| ()));
        listening(address);
        draws.run(|| {
            // A worker that has ended while there is a queue has panicked.
            if context.observer.stopping() || worker.is_finished() {
                stop.send_replace(true);
            }
        });
        network.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The models, each under a name of its own: of two files that are called alike the second gets a
/// number.
fn open(settings: &Settings, context: Context) -> Outcome<Vec<Model>> {
    let mut models: Vec<Model> = Vec::new();
    for (i, path) in settings.models.iter().enumerate() {
        let teacher = settings.teacher.as_deref().filter(|_| i == 0);
        let path = models::of_folder(path)?;
        let mut model = Model::open(&path, teacher, context)?;
        let taken = |name: &str| models.iter().any(|other| other.about.name == name);
        if let Some(name) = numbered(&model.about.name, taken) {
            context.observer.info(&format!("{} is served as `{name}`", path.display()));
            model.about.name = name;
        }
        models.push(model);
    }
    Ok(models)
}

/// The name with the first number that makes it one of its own; none where it is.
fn numbered(name: &str, taken: impl Fn(&str) -> bool) -> Option<String> {
    let mut others = (2..).map(|i| format!("{name}-{i}"));
    taken(name).then(|| others.find(|other| !taken(other))).flatten()
}

/// Writes a line of the log.
fn log(line: &Value) {
    // What can't be told is lost, and the server goes on.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_different() {
        let taken = |name: &str| ["a", "a-2"].contains(&name);
        assert_eq!(numbered("a", taken), Some("a-3".into()));
        assert_eq!(numbered("b", taken), None);
    }
}
