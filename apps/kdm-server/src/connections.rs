//! Connections: accepted up to a number, and finished when the server stops.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::metrics::Metrics;

/// How long a connection may take for a request's head, and lie idle.
const HEAD: Duration = Duration::from_secs(60);
/// How long requests that are being answered have when the server stops.
const LAST: Duration = Duration::from_secs(60);
/// The wait after the system refused a connection: it has no more files to give, say.
const REFUSED: Duration = Duration::from_millis(50);

/// Accepts connections, `most` at a time (others wait in the system's queue), until `stopping` is
/// set; then finishes those that are being answered.
pub async fn accept(
    listener: TcpListener,
    router: Router,
    most: usize,
    metrics: Arc<Metrics>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let service = TowerToHyperService::new(router);
    let (graceful, places) = (GracefulShutdown::new(), Arc::new(Semaphore::new(most)));
    loop {
        let next = tokio::select! {
            next = next(&listener, &places) => next,
            _ = stopping.wait_for(|stopping| *stopping) => break,
        };
        let Ok((stream, place)) = next else {
            tokio::time::sleep(REFUSED).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let connection = server.serve_connection(TokioIo::new(stream), service.clone());
        let connection = graceful.watch(connection);
        let metrics = metrics.clone();
        metrics.connections.inc();
        tokio::spawn(async move {
            // A client that went away is no fault of the server's.
            let _ = connection.await;
            metrics.connections.dec();
            drop(place);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(LAST, graceful.shutdown()).await;
}

/// The next connection, once there is a place for it.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    Ok((listener.accept().await?.0, place))
}
