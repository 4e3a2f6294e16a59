//! Pictures and pages: plots, grids of images, and the report as one HTML document.
//!
//! Everything here is bytes and text in memory; this crate reads and writes no files.

pub mod grid;
pub mod page;
pub mod plots;

pub use page::{Figure, Report, Table};
