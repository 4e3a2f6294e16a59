//! `kdm distill`: a student from stored pairs; and the flags that all trainings share.

use std::path::{Path, PathBuf};

use kdm::data::lock::FolderLock;
use kdm::data::pairs::PairStore;
use kdm::run_folder::{check_run, open_run};
use kdm::stages::distill::{distill, student_for};
use kdm::{Context, Experiment, Outcome};

use super::output::{folder, or_stopped, print};

/// Flags of a training in a folder of its own.
#[derive(Debug, clap::Args)]
pub struct TrainingArgs {
    /// A preset's name or a TOML file
    #[arg(long)]
    preset: String,
    /// The folder to train in; the result will be student.safetensors or teacher.safetensors in it
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Change a value, such as --set train.lr=1e-3; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Go on with the training in --out
    #[arg(long)]
    resume: bool,
    /// Print the whole configuration with the student's size and cost, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl TrainingArgs {
    /// The experiment; none after a dry run.
    pub fn load(&self, context: Context) -> Outcome<Option<Experiment>> {
        let experiment = Experiment::load(&self.preset, &self.settings)?;
        if self.dry_run {
            dry_run(&experiment, context)?;
            return Ok(None);
        }
        Ok(Some(experiment))
    }

    /// Whether the folder can be opened for the experiment.
    pub fn check(&self, experiment: &Experiment) -> Outcome<()> {
        check_run(&self.out, experiment, self.resume)
    }

    /// Opens the folder for the experiment; it is this process's as long as the lock is held.
    pub fn open(&self, experiment: &Experiment) -> Outcome<FolderLock> {
        folder(&self.out, &[experiment.teacher.dataset.as_deref().map(Path::new)])?;
        open_run(&self.out, experiment, self.resume)
    }

    /// What is kept of a training that was stopped, and how it continues.
    pub fn stopped_text(&self) -> String {
        format!(
            "stopped; the training's checkpoint is kept in `{}`; run the same command with \
             --resume to continue",
            self.out.display()
        )
    }
}

/// Prints an experiment, TOML that can be used as a file, with its costs as comments.
pub fn dry_run(experiment: &Experiment, context: Context) -> Outcome<()> {
    let costs: String =
        experiment.costs(context.device()).iter().map(|line| format!("# {line}\n")).collect();
    print(&format!("{costs}\n{}", experiment.to_toml()))
}

/// Flags of `kdm distill`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The store of pairs
    #[arg(long, value_name = "DIR")]
    pairs: PathBuf,
    #[command(flatten)]
    training: TrainingArgs,
}

impl Args {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        let Some(experiment) = self.training.load(context)? else { return Ok(()) };
        // What is wrong with the pairs is told before a folder is begun.
        self.training.check(&experiment)?;
        let store = PairStore::open_verified(&self.pairs)?;
        student_for(&experiment, &store)?;
        folder(&self.training.out, &[Some(&self.pairs)])?;
        let _held = self.training.open(&experiment)?;
        let student = distill(&experiment, store, &self.training.out, context);
        let student = or_stopped(student, || self.training.stopped_text())?;
        print(&format!("{}\n", student.display()))
    }
}
