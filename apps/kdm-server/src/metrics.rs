//! What the server counts, for Prometheus.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// What requests are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Labels {
    /// The route, such as `/v1/samples`.
    pub route: &'static str,
    /// The HTTP status.
    pub status: u16,
}

/// The counters.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests that were answered.
    pub requests: Family<Labels, Counter>,
    /// Seconds from a request's head to its answer's.
    pub seconds: Histogram,
    /// Samples that were drawn.
    pub samples: Counter,
    /// Samples of a batch.
    pub batches: Histogram,
    /// Seconds of computing.
    pub busy: Counter<f64, AtomicU64>,
    /// Samples that are waited for.
    pub waiting: Gauge,
    /// Open connections.
    pub connections: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("kdm");
        let requests = Family::default();
        let seconds = Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let (samples, busy) = (Counter::default(), Counter::default());
        let batches = Histogram::new(exponential_buckets(1.0, 2.0, 13));
        let (waiting, connections) = (Gauge::default(), Gauge::default());
        registry.register("requests", "Requests that were answered", requests.clone());
        let help = "Time from a request to its answer";
        registry.register_with_unit("request", help, Unit::Seconds, seconds.clone());
        registry.register("samples", "Samples that were drawn", samples.clone());
        registry.register("batch_samples", "Samples drawn at a time", batches.clone());
        registry.register_with_unit("busy", "Time of computing", Unit::Seconds, busy.clone());
        registry.register("waiting_samples", "Samples that are waited for", waiting.clone());
        registry.register("connections", "Open connections", connections.clone());
        Self { registry, requests, seconds, samples, batches, busy, waiting, connections }
    }
}

impl Metrics {
    /// All of them, in OpenMetrics' text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to memory");
        text
    }
}
