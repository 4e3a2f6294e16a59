//! `kdm run`: from teacher to report with one command.

use std::path::{Path, PathBuf};

use kdm::data::lock::FolderLock;
use kdm::report::metric_table;
use kdm::run_folder::{LENGTH, REPORT, next_run_folder, open_run};
use kdm::stages::preflight::check_files;
use kdm::stages::run::run;
use kdm::{Context, Experiment, Outcome};

use super::output::{folder, print, print_json};
use super::resuming::{Keeping, in_run_folder};

/// Which experiment, and where.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// A preset's name (see `kdm presets`) or a TOML file
    pub preset: String,
    /// The run's folder [default: runs/NNNNN-NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Change a value, such as --set train.lr=1e-3; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Go on with the run in --out; with a larger --set train.iterations=N for longer than before
    #[arg(long, requires = "out")]
    resume: bool,
    #[command(flatten)]
    pub keeping: Keeping,
}

impl RunArgs {
    /// The experiment.
    pub fn load(&self) -> Outcome<Experiment> {
        Experiment::load(&self.preset, &self.settings)
    }

    /// Its folder, a new one unless it goes on, which is this process's as long as the lock is
    /// held. Files that the experiment names are looked at before.
    pub fn open(self, experiment: &Experiment, context: Context) -> Outcome<(PathBuf, FolderLock)> {
        let place = self.out.unwrap_or_else(|| next_run_folder(&experiment.name));
        check_files(experiment, &place, context)?;
        folder(&place, &[experiment.teacher.dataset.as_deref().map(Path::new)])?;
        let held = open_run(&place, experiment, self.resume, LENGTH)?;
        eprintln!("run folder: {}", place.display());
        Ok((place, held))
    }
}

/// Flags of `kdm run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub run: RunArgs,
    /// Print the whole configuration with the student's size and cost, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the evaluation as one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        let experiment = self.run.load()?;
        if self.dry_run {
            return super::distill::dry_run(&experiment, context);
        }
        let (folder, _held) = self.run.open(&experiment, context)?;
        let values = in_run_folder(run(&experiment, &folder, context), &folder)?;
        if self.json {
            return print_json(&values);
        }
        let rows = metric_table("Evaluation", &values).text();
        print(&format!("{rows}report: {}\n", folder.join(REPORT).display()))
    }
}
