//! `kdm compare`: students of different kinds on the same pairs, for the same compute.

use kdm::report::comparison_table;
use kdm::run_folder::REPORT;
use kdm::studies::compare_students::compare;
use kdm::{Context, Failure, Outcome};

use super::distill::dry_run;
use super::output::{print, print_json};
use super::resuming::in_run_folder;
use super::run::RunArgs;

/// Flags of `kdm compare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A preset's name (see `kdm presets`) or a TOML file with [[compare]]
    preset: String,
    #[command(flatten)]
    pub run: RunArgs,
    /// Print the whole configuration with what the stages of the first student take and the names
    /// of all, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the rows as one JSON array
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        let context = self.run.figures.of(context);
        let experiment = self.run.load(&self.preset)?;
        if experiment.variants()?.is_empty() {
            return Err(Failure::Usage(format!(
                "`{}` compares nothing: add [[compare]] with `name` and `set` for each student, or \
                 take the preset fashion-mnist-compare or fashion-mnist-ablations",
                self.preset
            )));
        }
        if self.dry_run {
            let variants = experiment.variants()?;
            let names: Vec<&str> = variants.iter().map(|variant| variant.name.as_str()).collect();
            print(&format!("# students, for equal operations each: {}\n", names.join(", ")))?;
            return dry_run(&experiment, &self.run.place(&experiment), context);
        }
        let held = self.run.open(&experiment, context)?;
        let folder = held.path().to_path_buf();
        let rows = in_run_folder(compare(&experiment, &folder, context), Some(held))?;
        if self.json {
            return print_json(&rows);
        }
        let table = comparison_table(&rows).markdown();
        print(&format!("{table}report: {}\n", folder.join(REPORT).display()))
    }
}
