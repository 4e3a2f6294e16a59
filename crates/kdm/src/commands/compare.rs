//! `kdm compare`: students of different kinds on the same pairs, for the same compute.

use std::path::PathBuf;

use super::output::print;
use crate::comparison::{compare, table};
use crate::pipeline::{next_run_folder, open_run, pretty};
use crate::{Experiment, Failure, Outcome};

/// Flags of `kdm compare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A preset's name or a TOML file, with [[compare]] for each student
    preset: String,
    /// The comparison's folder [default: runs/NNNNN-NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Change a value of all of them, such as --set train.lr=1e-3; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Go on with the comparison in --out
    #[arg(long, requires = "out")]
    resume: bool,
    /// Print the rows as one JSON array
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> Outcome<()> {
        let experiment = Experiment::load(&self.preset, &self.settings)?;
        if experiment.variants()?.is_empty() {
            return Err(Failure::Usage(format!(
                "`{}` compares nothing: add [[compare]] with `name` and `set` for each student, or take the preset \
                 fashion-mnist-compare or fashion-mnist-ablations",
                self.preset
            )));
        }
        let folder = self.out.unwrap_or_else(|| next_run_folder(&experiment.name));
        open_run(&folder, &experiment, self.resume)?;
        eprintln!("folder: {}", folder.display());
        let rows = compare(&experiment, &folder)?;
        if self.json {
            return print(&pretty(&serde_json::json!(rows)));
        }
        print(&format!("{}report: {}\n", table(&rows), folder.join("report.html").display()))
    }
}
