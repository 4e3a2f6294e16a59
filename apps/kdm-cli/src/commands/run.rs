//! `kdm run`: from teacher to report with one command.

use std::path::{Path, PathBuf};

use kdm::data::lock::FolderLock;
use kdm::report::metric_table;
use kdm::run_folder::{REPORT, next_run_folder, open_run};
use kdm::stages::run::run;
use kdm::{Context, Experiment, Outcome};

use super::output::{folder, or_stopped, print, print_json};

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
    /// Go on with the run in --out
    #[arg(long, requires = "out")]
    resume: bool,
}

impl RunArgs {
    /// The experiment.
    pub fn load(&self) -> Outcome<Experiment> {
        Experiment::load(&self.preset, &self.settings)
    }

    /// Its folder, a new one unless it goes on; it is this process's as long as the lock is held.
    pub fn open(self, experiment: &Experiment) -> Outcome<(PathBuf, FolderLock)> {
        let place = self.out.unwrap_or_else(|| next_run_folder(&experiment.name));
        folder(&place, &[experiment.teacher.dataset.as_deref().map(Path::new)])?;
        let held = open_run(&place, experiment, self.resume)?;
        eprintln!("run folder: {}", place.display());
        Ok((place, held))
    }
}

/// Flags of `kdm run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    run: RunArgs,
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
        let (preset, settings) = (self.run.preset.clone(), self.run.settings.clone());
        let (folder, _held) = self.run.open(&experiment)?;
        let resume = resume_text("run", &preset, &settings, &folder);
        let values = or_stopped(run(&experiment, &folder, context), || resume)?;
        if self.json {
            return print_json(&values);
        }
        let rows = metric_table("Evaluation", &values).text();
        print(&format!("{rows}report: {}\n", folder.join(REPORT).display()))
    }
}

/// What is kept of a run that was stopped, and the command that continues it.
pub fn resume_text(command: &str, preset: &str, settings: &[String], folder: &Path) -> String {
    let settings: String = settings.iter().map(|setting| format!(" --set {setting}")).collect();
    let folder = folder.display();
    format!(
        "stopped; what was finished is kept in `{folder}`; continue with `kdm {command} \
         {preset}{settings} --out {folder} --resume`"
    )
}
