//! Runs that are planned for a person's own images, or own teacher, and a budget of time: sizes of
//! the networks, numbers of pairs and iterations follow from the data and from how fast this
//! machine is, which is measured in the first seconds.
//!
//! What a plan gives is an [`Experiment`] like any other: it stands in the run's `config.toml`, and
//! the run is resumed and extended as others are. `sizes` decides, `rates` measures, `images` and
//! `teacher` make what the experiment names.

mod experiment;
mod images;
mod rates;
mod sizes;
mod teacher;

pub use images::OwnImages;
pub use rates::Rates;
pub use sizes::{Plan, PlannedStage, Request, Sizes, plan};
pub use teacher::OwnTeacher;

use std::path::Path;

use crate::run_time::RunTime;
use crate::{Context, Experiment, Outcome};

/// What a planned run is of.
#[derive(Debug)]
pub struct Subject {
    /// Name of the run.
    pub name: String,
    /// Images of a person's own.
    pub images: Option<OwnImages>,
    /// A teacher of a person's own; without it one is trained on the images.
    pub teacher: Option<OwnTeacher>,
}

impl Subject {
    /// Plans a run in `folder` that takes about `seconds`. Nothing is written.
    ///
    /// # Errors
    /// When the images can't be read or don't fit the teacher, the budget is too short, or the
    /// observer stops it.
    pub fn plan(&self, folder: &Path, seconds: f64, context: Context) -> Outcome<Plan> {
        rates::plan_measured(self, folder, seconds, context)
    }

    /// Makes in `folder` what the planned experiment names, as far as it is not there: the data
    /// set, its feature networks, the imported teacher.
    ///
    /// # Errors
    /// When a file can't be read or written, or the observer stops it.
    pub fn prepare(&self, experiment: &Experiment, folder: &Path, context: Context) -> Outcome<()> {
        // It is of the run's time.
        let time = RunTime::go_on(folder, context.observer);
        let context = Context { observer: &time, ..context };
        if let Some(teacher) = &self.teacher {
            teacher.put(folder)?;
        }
        match &self.images {
            Some(images) => images.prepare(&self.name, experiment, folder, context),
            None => Ok(()),
        }
    }
}
