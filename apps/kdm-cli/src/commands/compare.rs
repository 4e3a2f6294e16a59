//! `kdm compare`: students of different kinds on the same pairs, for the same compute.

use kdm::report::comparison_table;
use kdm::run_folder::REPORT;
use kdm::studies::compare_students::compare;
use kdm::{Context, Failure, Outcome};

use super::output::{or_stopped, print, print_json};
use super::run::{RunArgs, resume_text};

/// Flags of `kdm compare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    run: RunArgs,
    /// Print the rows as one JSON array
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        let experiment = self.run.load()?;
        if experiment.variants()?.is_empty() {
            return Err(Failure::Usage(format!(
                "`{}` compares nothing: add [[compare]] with `name` and `set` for each student, or \
                 take the preset fashion-mnist-compare or fashion-mnist-ablations",
                self.run.preset
            )));
        }
        let (preset, settings) = (self.run.preset.clone(), self.run.settings.clone());
        let (folder, _held) = self.run.open(&experiment)?;
        let resume = resume_text("compare", &preset, &settings, &folder);
        let rows = or_stopped(compare(&experiment, &folder, context), || resume)?;
        if self.json {
            return print_json(&rows);
        }
        let table = comparison_table(&rows).markdown();
        print(&format!("{table}report: {}\n", folder.join(REPORT).display()))
    }
}
