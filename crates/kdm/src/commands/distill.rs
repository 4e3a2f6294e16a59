//! `kdm distill`: a student from stored pairs.

use std::path::PathBuf;

use super::output::print;
use crate::pipeline::{distill, open_run};
use crate::{Experiment, Outcome};

/// Flags of `kdm distill`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The store of pairs
    #[arg(long, value_name = "DIR")]
    pairs: PathBuf,
    /// A preset's name or a TOML file
    #[arg(long)]
    preset: String,
    /// The run's folder; the student will be student.safetensors in it
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Change a value, such as --set train.lr=1e-3; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Go on with the run in --out
    #[arg(long)]
    resume: bool,
    /// Print the whole configuration and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> Outcome<()> {
        let experiment = Experiment::load(&self.preset, &self.settings)?;
        if self.dry_run {
            return print(&experiment.to_toml());
        }
        open_run(&self.out, &experiment, self.resume)?;
        let student = distill(&experiment, &self.pairs, &self.out)?;
        print(&format!("{}\n", student.display()))
    }
}
