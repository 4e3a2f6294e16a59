//! Pictures and pages: plots, grids of images, and reports as one HTML document each.
//!
//! Functions from data (`kdm-analysis`, metrics) to [`Section`]s, which a [`Page`] holds.
//! Everything here is bytes and text in memory; this crate reads and writes no files.

pub mod cluster_report;
pub mod comparison_report;
mod figure;
pub mod format;
pub mod grid;
mod headline;
mod inversion_report;
mod level_report;
mod memorization;
mod metric_table;
pub mod operator_report;
mod page;
pub mod plot;
mod run_headline;
mod sample_figures;
mod state_report;
mod student_report;
mod theory_report;
pub mod training_curves;

pub use cluster_report::cluster_section;
pub use comparison_report::{comparison_section, comparison_table};
pub use figure::{Figure, Picture, PlotFormat};
pub use headline::{Fact, Headline};
pub use inversion_report::{inversion_section, inversion_table};
pub use memorization::memorization_section;
pub use metric_table::metric_table;
pub use operator_report::operator_section;
pub use page::{Page, Section, Table};
pub use run_headline::{RunFacts, run_headline};
pub use sample_figures::sample_section;
pub use student_report::analysis_sections;
pub use theory_report::theory_page;
pub use training_curves::training_section;
