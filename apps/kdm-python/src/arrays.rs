//! Between Python's data and the library's. Arrays go through Python's bytes: what is given out is
//! a writable array that owns its memory, and what is taken is whatever `numpy.asarray` takes.

use bytemuck::{NoUninit, Pod};
use kdm::Outcome;
use kdm::data::Labels;
use kdm::data::labels::GIVE_LABELS;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyTuple};
use serde_json::Value;

use crate::errors::{given, usage};

/// A number that NumPy knows.
pub trait Number: Pod + NoUninit {
    /// NumPy's name of it.
    const NAME: &'static str;
}

impl Number for f32 {
    const NAME: &'static str = "float32";
}

impl Number for f64 {
    const NAME: &'static str = "float64";
}

impl Number for u64 {
    const NAME: &'static str = "uint64";
}

impl Number for i64 {
    const NAME: &'static str = "int64";
}

/// Values as an array of `shape`.
pub fn array<'py, T: Number>(
    py: Python<'py>,
    shape: &[usize],
    values: &[T],
) -> PyResult<Bound<'py, PyAny>> {
    let numpy = py.import("numpy")?;
    let shape = PyTuple::new(py, shape)?;
    if values.is_empty() {
        return numpy.call_method1("empty", (shape, T::NAME));
    }
    let bytes: &[u8] = bytemuck::cast_slice(values);
    let memory = PyByteArray::new_with(py, bytes.len(), |memory| {
        memory.copy_from_slice(bytes);
        Ok(())
    })?;
    numpy.call_method1("frombuffer", (memory, T::NAME))?.call_method1("reshape", (shape,))
}

/// Rows of `shape`, one after the other.
pub fn rows<'py>(py: Python<'py>, shape: &[usize], values: &[f32]) -> PyResult<Bound<'py, PyAny>> {
    let rows = values.len() / shape.iter().product::<usize>().max(1);
    array(py, &[&[rows], shape].concat(), values)
}

/// The class of each row; none where there are no classes.
pub fn classes<'py>(
    py: Python<'py>,
    labels: &Labels,
    label_dim: usize,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let classes: Vec<i64> = labels.classes().into_iter().map(i64::from).collect();
    (label_dim > 0).then(|| array(py, &[classes.len()], &classes)).transpose()
}

/// An array that was given.
#[derive(Debug)]
pub struct Given<T> {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, the last axis fastest.
    pub values: Vec<T>,
}

impl<T: Number> Given<T> {
    /// Whatever can become an array of numbers, such as a list, or a tensor of PyTorch on the CPU.
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let numpy = object.py().import("numpy")?;
        let array = numpy.call_method1("asarray", (object, T::NAME))?;
        let shape = array.getattr("shape")?.extract()?;
        let bytes = array.call_method0("tobytes")?;
        let values = bytemuck::pod_collect_to_vec(bytes.cast::<PyBytes>()?.as_bytes());
        Ok(Self { shape, values })
    }
}

impl Given<f32> {
    /// The values of at least one row of `width`; `what` is what messages call it.
    pub fn into_rows(self, width: usize, what: &str) -> Outcome<Vec<f32>> {
        let Self { shape, values } = self;
        let fits = |rows: &usize| *rows > 0 && rows.checked_mul(width) == Some(values.len());
        if shape.len() < 2 || !shape.first().is_some_and(fits) {
            return Err(usage(format!(
                "{what}: is {shape:?}, and rows of {width} values are needed; give one a row"
            )));
        }
        Ok(values)
    }

    /// The same, of finite values.
    pub fn into_finite_rows(self, width: usize, what: &str) -> Outcome<Vec<f32>> {
        let values = self.into_rows(width, what)?;
        let Some(i) = values.iter().position(|x| !x.is_finite()) else { return Ok(values) };
        let (row, value) = (i / width, values[i]);
        Err(usage(format!("{what}: row {row} has the value {value}; remove that row")))
    }
}

/// The classes of `rows` samples, in any form: one class for all, class numbers, or one-hot rows,
/// of which one of zeros is no class; none where nothing is given.
pub fn labels(
    py: Python<'_>,
    object: Option<&Bound<'_, PyAny>>,
    classes: usize,
    rows: usize,
) -> PyResult<Option<Labels>> {
    let Some(object) = object else { return Ok(None) };
    let Given { shape, values } = Given::<f64>::of(object)?;
    given(py, parsed(&shape, &values, classes, rows).map(Some))
}

fn parsed(shape: &[usize], values: &[f64], classes: usize, rows: usize) -> Outcome<Labels> {
    if classes == 0 {
        return Err(usage("labels: there are no classes here; leave them out"));
    }
    let wrong = |problem: String| usage(format!("labels: {problem}; {GIVE_LABELS}"));
    let (shape, values) = match (shape, values) {
        ([], [class]) => (vec![rows], vec![*class; rows]),
        _ => (shape.to_vec(), values.to_vec()),
    };
    if shape[0] != rows {
        return Err(wrong(format!("is {shape:?}, for {rows} samples")));
    }
    let parsed = Labels::parse(&shape, &values, Some(classes));
    Ok(parsed.map_err(|error| wrong(error.to_string()))?.0)
}

/// Plain data as Python's dictionaries, lists and numbers.
pub fn plain<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?.call_method1("loads", (value.to_string(),))
}
