//! Arrays in files, row by row: of any numeric type, either byte order, C, Fortran or strided
//! order, read when they are asked for. `numbers` is how they lie in a file; `npy` finds them in
//! NumPy's files.

mod npy;
mod numbers;

pub use npy::{Npz, open_npy};
pub use numbers::{Layout, Number, View, row_major};
