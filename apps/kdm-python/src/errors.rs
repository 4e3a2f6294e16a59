//! Failures as Python's exceptions, with the texts of the command line.

use kdm::data::Error;
use kdm::{Failure, Outcome};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

/// The module of the exceptions.
const MODULE: &str = "kdm._types";

/// The exception of a failure.
pub fn exception(py: Python<'_>, failure: Failure) -> PyErr {
    let failure = kdm::sniff::explained(failure);
    let text = failure.to_string();
    if failure.is_stop() {
        return PyKeyboardInterrupt::new_err(text);
    }
    let class = match &failure {
        Failure::Usage(_) | Failure::Configuration(_) | Failure::Output(_) => "UsageError",
        Failure::File(Error::Io { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            "MissingFileError"
        }
        _ => "Error",
    };
    let class = py.import(MODULE).and_then(|module| module.getattr(class));
    match class.and_then(|class| class.call1((text,))) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// An outcome as Python takes it.
pub fn given<T>(py: Python<'_>, outcome: Outcome<T>) -> PyResult<T> {
    outcome.map_err(|failure| exception(py, failure))
}

/// An argument that can't be.
pub fn usage(text: impl Into<String>) -> Failure {
    Failure::Usage(text.into())
}
