//! `kdm compare`: students of different kinds on the same pairs, for the same compute.

use super::output::print;
use super::run::Which;
use kdm::comparison::{compare, table};
use kdm::pipeline::pretty;
use kdm::{Failure, Outcome};

/// Flags of `kdm compare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Print the rows as one JSON array
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> Outcome<()> {
        let experiment = self.which.load()?;
        if experiment.variants()?.is_empty() {
            return Err(Failure::Usage(format!(
                "`{}` compares nothing: add [[compare]] with `name` and `set` for each student, or take the preset \
                 fashion-mnist-compare or fashion-mnist-ablations",
                self.which.preset
            )));
        }
        let folder = self.which.open(&experiment)?;
        let rows = compare(&experiment, &folder)?;
        if self.json {
            return print(&pretty(&serde_json::json!(rows)));
        }
        print(&format!(
            "{}report: {}\n",
            table(&rows).markdown(),
            folder.join("report.html").display()
        ))
    }
}
