//! `kdm.PairStore`.

use std::path::PathBuf;

use kdm::data::{Samples, pairs};
use kdm::random::Permutation;
use kdm::stages::pairs::open_store;
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use serde_json::json;

use crate::arrays::{array, classes, plain, rows};
use crate::errors::{given, usage};
use crate::work::{Watching, work};

/// A store of noise-image pairs. It is a data set for PyTorch's `DataLoader`, which turns its
/// items into tensors.
///
/// Opens a complete store, comparing every shard with its checksum unless `verify` is
/// false.
#[pyclass(frozen, module = "kdm")]
pub struct PairStore(pairs::PairStore);

impl PairStore {
    /// The store itself.
    pub fn store(&self) -> &pairs::PairStore {
        &self.0
    }

    /// The number of a pair, counted from the end where it is negative.
    fn place(&self, index: isize) -> PyResult<usize> {
        let len = self.0.len();
        let at = if index < 0 { index.checked_add_unsigned(len) } else { Some(index) };
        let at = at.and_then(|at| usize::try_from(at).ok()).filter(|at| *at < len);
        at.ok_or_else(|| PyIndexError::new_err(format!("pair {index}: the store has {len}")))
    }

    fn read<'py>(&self, py: Python<'py>, places: &[usize]) -> PyResult<Bound<'py, PyAny>> {
        let pairs = work(py, &Watching::by(None), |_| Ok(self.0.batch(places)))?;
        self.given(py, &pairs)
    }

    /// Pairs as the package's named tuple.
    fn given<'py>(&self, py: Python<'py>, pairs: &Samples) -> PyResult<Bound<'py, PyAny>> {
        let labels = classes(py, &pairs.labels, self.0.manifest().label_dim)?;
        let seeds = &pairs.seeds;
        let seeds = (!seeds.is_empty()).then(|| array(py, &[seeds.len()], seeds)).transpose()?;
        let noise = rows(py, &pairs.shape, &pairs.noise)?;
        let images = rows(py, &pairs.shape, &pairs.images)?;
        py.import("kdm._types")?.getattr("Pairs")?.call1((noise, images, labels, seeds))
    }
}

#[pymethods]
impl PairStore {
    #[new]
    #[pyo3(signature = (folder, *, verify=true))]
    fn new(py: Python<'_>, folder: PathBuf, verify: bool) -> PyResult<Self> {
        work(py, &Watching::by(None), |context| {
            // What is fetched from object storage is always compared with its checksums.
            if verify || kdm::remote::Address::find(&folder).is_some() {
                return open_store(&folder, context.observer);
            }
            Ok(pairs::PairStore::open(&folder)?)
        })
        .map(Self)
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// One pair, read in the calling thread: a data loader's workers do nothing else.
    fn __getitem__<'py>(&self, py: Python<'py>, index: isize) -> PyResult<Bound<'py, PyTuple>> {
        let pair = self.0.batch(&[self.place(index)?]);
        let noise = array(py, &pair.shape, &pair.noise)?;
        let image = array(py, &pair.shape, &pair.images)?;
        match pair.labels.class(0) {
            Some(class) => (noise, image, class).into_pyobject(py),
            None => (noise, image).into_pyobject(py),
        }
    }

    /// The pairs with these numbers, in this order.
    fn batch<'py>(&self, py: Python<'py>, indices: Vec<isize>) -> PyResult<Bound<'py, PyAny>> {
        let places = indices.into_iter().map(|index| self.place(index));
        let places = places.collect::<PyResult<Vec<usize>>>()?;
        self.read(py, &places)
    }

    /// Pairs in a row, or all of them.
    #[pyo3(signature = (start=0, stop=None))]
    fn arrays<'py>(
        &self,
        py: Python<'py>,
        start: usize,
        stop: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let stop = stop.unwrap_or(usize::MAX).min(self.0.len());
        self.read(py, &(start.min(stop)..stop).collect::<Vec<usize>>())
    }

    /// All pairs, `size` at a time; in the random order of the seed `shuffle` where it is
    /// given.
    #[pyo3(signature = (size, *, shuffle=None, drop_last=false))]
    fn batches(
        store: PyRef<'_, Self>,
        size: usize,
        shuffle: Option<u64>,
        drop_last: bool,
    ) -> PyResult<StoreBatches> {
        if size == 0 {
            return given(store.py(), Err(usage("size 0: give at least 1")));
        }
        let len = store.0.len();
        let end = if drop_last { len / size * size } else { len };
        let order = shuffle.map(|seed| Permutation::new(seed, len as u64));
        Ok(StoreBatches { store: store.into(), size, order, at: 0, end })
    }

    /// The folder.
    #[getter]
    fn path(&self) -> PathBuf {
        self.0.folder().to_path_buf()
    }

    /// Shape of a sample: (C, H, W) of images, (D,) of points.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.manifest().shape)
    }

    /// Classes; 0 for pairs without.
    #[getter]
    fn classes(&self) -> usize {
        self.0.manifest().label_dim
    }

    /// Standard deviation of the noise x_T.
    #[getter]
    fn noise_std(&self) -> f64 {
        self.0.manifest().noise_std
    }

    /// How the pairs came to be: `manifest.json`.
    #[getter]
    fn manifest<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &json!(self.0.manifest()))
    }

    fn __repr__(&self) -> String {
        let manifest = self.0.manifest();
        let (folder, shape) = (self.0.folder().display(), &manifest.shape);
        format!("PairStore({folder}: {} pairs of shape {shape:?})", manifest.count)
    }

    /// A copy in another process opens the folder again; it was compared with its checksums here.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (PathBuf,))> {
        Ok((py.import("kdm._types")?.getattr("reopen")?, (self.path(),)))
    }
}

/// Batches of a store, one after the other.
#[pyclass]
pub struct StoreBatches {
    store: Py<PairStore>,
    size: usize,
    /// A random order.
    order: Option<Permutation>,
    at: usize,
    end: usize,
}

#[pymethods]
impl StoreBatches {
    fn __iter__(batches: PyRef<'_, Self>) -> PyRef<'_, Self> {
        batches
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let next = self.at..(self.at + self.size).min(self.end);
        if next.is_empty() {
            return Ok(None);
        }
        self.at = next.end;
        let place = |i: usize| self.order.as_ref().map_or(i, |order| order.at(i as u64) as usize);
        let places: Vec<usize> = next.map(place).collect();
        self.store.get().read(py, &places).map(Some)
    }
}
