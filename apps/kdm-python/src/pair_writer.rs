//! `kdm.PairWriter`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};

use kdm::data::pairs::{self, ImageType, Manifest, NoiseSource};
use kdm::data::{Labels, Samples};
use kdm::{Failure, Outcome};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use crate::arrays::{self, Given, array, rows};
use crate::errors::{given, usage};
use crate::work::{Watching, work};

/// Writes a store from any generator's loop.
///
///     with kdm.PairWriter("pairs", shape=(3, 32, 32), count=50_000, noise_std=80.0) as writer:
///         for batch in writer.batches(64):
///             writer.write(generate(batch.noise))
///
/// Each shard is a file that is written whole or not at all. A loop that is stopped or killed is
/// started again with the same arguments, and goes on with the pairs that are missing. Pairs of an
/// unfinished shard are kept at least every five minutes and at the end of the `with` block; the
/// store can be read once all pairs are there (`complete`).
///
/// Begins a store of `count` pairs of samples of `shape`, or goes on with it.
///
/// The noise of pair i is drawn from the seed first_seed + i, and only the seed is kept; with
/// `store_noise` the store keeps noise that it is given. `noise_std` is the standard deviation
/// of the noise. `dtype` is how images are kept; "u8" is for images in [-1, 1]. `source` tells
/// who drew the pairs and stands in the manifest's history.
#[pyclass(frozen, module = "kdm")]
pub struct PairWriter {
    plan: Manifest,
    folder: PathBuf,
    /// None once it is closed.
    writer: Mutex<Option<Box<pairs::PairWriter>>>,
    done: AtomicUsize,
    complete: AtomicBool,
}

impl PairWriter {
    /// The writer, for the thread that calls. It isn't waited for: who has it may need Python's
    /// lock to end.
    fn writer(&self, py: Python<'_>) -> PyResult<MutexGuard<'_, Option<Box<pairs::PairWriter>>>> {
        match self.writer.try_lock() {
            Ok(writer) => Ok(writer),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                given(py, Err(usage("the writer is at work in another thread; use it in one")))
            }
        }
    }

    /// Does something with the writer in the package's threads.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        run: impl FnOnce(&mut pairs::PairWriter) -> Outcome<T> + Send,
    ) -> PyResult<T> {
        let mut writer = self.writer(py)?;
        let Some(writer) = &mut *writer else { return given(py, Err(closed())) };
        let result = work(py, &Watching::by(None), |_| run(writer));
        self.done.store(writer.done(), Ordering::Relaxed);
        result
    }

    fn is_stored(&self) -> bool {
        self.plan.noise == NoiseSource::Stored
    }
}

fn closed() -> Failure {
    usage("the writer is closed; begin another with the same arguments to go on")
}

#[pymethods]
impl PairWriter {
    #[new]
    #[pyo3(signature = (
        folder, shape, count, *, noise_std=1.0, first_seed=0, store_noise=false, classes=0,
        dtype="f32", shard_size=8192, source="a loop in Python"
    ))]
    fn new(
        py: Python<'_>,
        folder: PathBuf,
        shape: Vec<usize>,
        count: usize,
        noise_std: f64,
        first_seed: u64,
        store_noise: bool,
        classes: usize,
        dtype: &str,
        shard_size: usize,
        source: &str,
    ) -> PyResult<Self> {
        let dtype = match dtype {
            "f32" => ImageType::F32,
            "f16" => ImageType::F16,
            "u8" => ImageType::U8,
            _ => given(py, Err(usage(format!("dtype {dtype}: give f32, f16 or u8"))))?,
        };
        let seeded = Manifest::seeded(first_seed, noise_std, &shape, count);
        let noise = if store_noise { NoiseSource::Stored } else { seeded.noise.clone() };
        let history = vec![format!("drawn by {source}")];
        let plan = Manifest { noise, dtype, label_dim: classes, shard_size, history, ..seeded };
        let writer =
            work(py, &Watching::by(None), |_| Ok(pairs::PairWriter::begin(&folder, &plan)?))?;
        let (done, complete) = (writer.done().into(), AtomicBool::new(false));
        Ok(Self { plan, folder, writer: Mutex::new(Some(Box::new(writer))), done, complete })
    }

    /// The pairs that come next, `size` or fewer; none when all are there.
    fn next<'py>(&self, py: Python<'py>, size: usize) -> PyResult<Option<Bound<'py, PyAny>>> {
        if size == 0 {
            return given(py, Err(usage("size 0: give at least 1")));
        }
        let next = self.with(py, |writer| {
            let Some(range) = writer.next(size)? else { return Ok(None) };
            Ok(Some((range.clone(), writer.noise_of(range))))
        })?;
        let Some((range, drawn)) = next else { return Ok(None) };
        let class = py.import("kdm._types")?.getattr("NextPairs")?;
        let Some(drawn) = drawn else {
            let none = py.None();
            return class.call1((range.start, range.end, &none, &none, &none)).map(Some);
        };
        let labels = arrays::classes(py, &drawn.labels, self.plan.label_dim)?;
        let seeds = array(py, &[drawn.seeds.len()], &drawn.seeds)?;
        let noise = rows(py, &drawn.shape, &drawn.noise)?;
        class.call1((range.start, range.end, noise, labels, seeds)).map(Some)
    }

    /// The pairs that are missing, `size` or fewer at a time, each to be written before the next
    /// comes.
    fn batches(writer: Py<Self>, size: usize) -> Batches {
        Batches { writer, size, before: None }
    }

    /// Adds images of the pairs that come next, (N, *shape).
    ///
    /// Noise is given where the store keeps it. Labels are given in a store of classes, unless they
    /// are those that the seeds draw.
    #[pyo3(signature = (images, *, noise=None, labels=None))]
    fn write(
        &self,
        py: Python<'_>,
        images: &Bound<'_, PyAny>,
        noise: Option<&Bound<'_, PyAny>>,
        labels: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let dim = self.plan.dim();
        let images = given(py, Given::<f32>::of(images)?.into_rows(dim, "images"))?;
        let count = images.len() / dim;
        let noise = match noise {
            None if self.is_stored() => {
                given(py, Err(usage("noise: this store keeps its noise; give that of each image")))?
            }
            None => Vec::new(),
            Some(_) if !self.is_stored() => given(
                py,
                Err(usage(
                    "noise: this store draws its noise from seeds; leave it out, or begin a store \
                     with store_noise=True",
                )),
            )?,
            Some(noise) => {
                let noise = given(py, Given::<f32>::of(noise)?.into_rows(dim, "noise"))?;
                if noise.len() != images.len() {
                    let (rows, others) = (noise.len() / dim, count);
                    let problem = format!("noise: {rows} rows for {others} images; give one each");
                    given(py, Err(usage(problem)))?;
                }
                noise
            }
        };
        let labels = arrays::labels(py, labels, self.plan.label_dim, count)?;
        let labels = labels.unwrap_or_else(|| Labels::none(count));
        let shape = self.plan.shape.clone();
        let pairs = Samples { shape, images, noise, labels, ..Samples::default() };
        self.with(py, |writer| Ok(writer.push(pairs)?))
    }

    /// Keeps the pairs of the shard that is on its way.
    fn keep(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |writer| Ok(writer.keep()?))
    }

    /// Ends the writing, and completes the store when all pairs are there.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(writer) = self.writer(py)?.take() else { return Ok(()) };
        let complete = work(py, &Watching::by(None), |context| {
            if let Some(text) = writer.clipped() {
                context.observer.warn(&text);
            }
            Ok(writer.finish()?.is_complete())
        })?;
        self.complete.store(complete, Ordering::Relaxed);
        Ok(())
    }

    fn __enter__(writer: Py<Self>) -> Py<Self> {
        writer
    }

    #[pyo3(signature = (kind=None, error=None, traceback=None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Option<Bound<'_, PyType>>,
        error: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let _ = (kind, error, traceback);
        self.close(py)?;
        Ok(false)
    }

    fn __len__(&self) -> usize {
        self.plan.count
    }

    /// Pairs that are there.
    #[getter]
    fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Whether the writer is closed and the store can be read.
    #[getter]
    fn complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }

    /// The folder.
    #[getter]
    fn path(&self) -> PathBuf {
        self.folder.clone()
    }

    /// Shape of a sample: (C, H, W) of images, (D,) of points.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.plan.shape)
    }

    fn __repr__(&self) -> String {
        let (folder, count) = (self.folder.display(), self.plan.count);
        format!("PairWriter({folder}: {} of {count} pairs)", self.done())
    }
}

/// The pairs that come next, again and again.
#[pyclass(module = "kdm")]
pub struct Batches {
    writer: Py<PairWriter>,
    size: usize,
    /// The first pair that was given last.
    before: Option<usize>,
}

#[pymethods]
impl Batches {
    fn __iter__(batches: PyRef<'_, Self>) -> PyRef<'_, Self> {
        batches
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(next) = self.writer.get().next(py, self.size)? else { return Ok(None) };
        let start: usize = next.getattr("start")?.extract()?;
        if self.before.replace(start) == Some(start) {
            let problem =
                format!("pair {start}: it was not written; write a batch before the next");
            return given(py, Err(usage(problem)));
        }
        Ok(Some(next))
    }
}
