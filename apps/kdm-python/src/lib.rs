//! The Python package `kdm`: the library with NumPy at its door. What each class and function does
//! is documented for Python's readers in `python/kdm/__init__.pyi`.

mod arguments;
mod arrays;
mod errors;
mod pair_store;
mod pair_writer;
mod stages;
mod student;
mod work;

use mimalloc::MiMalloc;
use pyo3::prelude::*;

/// As in the program: tensors of a training step come and go by the megabyte.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The part of the package that is written in Rust.
#[pymodule]
mod _kdm {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::pair_store::PairStore;
    #[pymodule_export]
    use crate::pair_writer::{Batches, PairWriter};
    #[pymodule_export]
    use crate::stages::{analyze, distill, evaluate, experiment, presets, training_log};
    #[pymodule_export]
    use crate::student::Student;
    #[pymodule_export]
    use crate::work::{Progress, set_threads};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        kdm_kernels::keep_freed_memory();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
