//! Students of different kinds on the same pairs for the same compute, beside their teacher at many
//! steps and at few.

use std::path::Path;
use std::time::Instant;

use kdm_data::{Samples, atomic};
use kdm_metrics::measure::{MeasureOptions, MetricGroup, TeacherSamples, measure};
use kdm_report::comparison_report::{self, Row};
use kdm_report::page::write_order;
use kdm_teacher::{Denoiser, Guided, Solver, solve};
use serde_json::json;

use crate::run_folder::{COMPARISON, pretty};
use crate::stages::distill::distill;
use crate::stages::examine::write_report;
use crate::stages::features::feature_space;
use crate::stages::pairs::Drawing;
use crate::stages::run::{Prepared, prepare};
use crate::student::LoadedStudent;
use crate::{Context, Experiment, Outcome};
