//! The command line: one file a command, its flags, documentation and work together.

mod analyze;
mod bench;
mod compare;
mod compress;
mod convert;
mod data;
mod distill;
mod edit;
mod evaluate;
mod export;
mod features;
mod import;
mod info;
mod interpolate;
mod invert;
pub mod output;
mod pairs;
mod resuming;
mod run;
mod sample;
mod teacher;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use kdm::experiment::PRESETS;
use kdm::runtime::Runtime;
use kdm::{Context, Experiment, Failure, Outcome};

use crate::terminal::{self, Terminal};
use resuming::Keeping;

/// Distill a diffusion model into a one-step generator, offline, from noise-image pairs.
#[derive(Debug, Parser)]
#[command(
    name = "kdm",
    version,
    after_help = "\
Start here:
  kdm run checkerboard            the whole way, teacher to report, in minutes
  kdm run fashion-mnist           the same for images, from a teacher that ships with the program

KDM_LOG=warn or KDM_LOG=error prints less. Ctrl-C stops at the next step and keeps what was
finished. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped. Results go to standard output,
progress and messages to standard error."
)]
pub struct Cli {
    /// Threads to compute with; all cores unless given
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole way: teacher, pairs, distillation, samples, evaluation, report
    Run(run::Args),
    /// Bring in a model that another program wrote
    Import(import::Args),
    /// Write a model with the names of its original implementation, as a state dict for PyTorch
    Export(export::Args),
    /// Train students of different kinds on the same pairs for the same compute, and print the
    /// table
    Compare(compare::Args),
    /// Write a student with an operator of lower rank, and measure what that costs and gains
    Compress(compress::Args),
    /// Write a model file with its weights in half precision
    Convert(convert::Args),
    /// Look at data sets, and write them in other forms
    #[command(subcommand)]
    Data(data::Command),
    /// Train a teacher, draw samples with it, or query its denoiser
    #[command(subcommand)]
    Teacher(teacher::Command),
    /// Make, check, change and copy stores of noise-image pairs
    #[command(subcommand)]
    Pairs(pairs::Command),
    /// Train a student on stored pairs
    Distill(distill::Args),
    /// Draw one-step samples with a student
    Sample(sample::Args),
    /// Train feature networks, and compute the statistics that samples are compared with
    #[command(subcommand)]
    Features(features::Command),
    /// Draw interpolations between samples, along the noise or in the latent space
    Interpolate(interpolate::Args),
    /// Move samples along a mode of the operator, or from class to class, and draw them
    Edit(edit::Args),
    /// Recover latents and noise of given images, and report the reconstruction error
    Invert(invert::Args),
    /// Measure a student against stored pairs
    Evaluate(evaluate::Args),
    /// Look into a student: spectrum, modes, truncation, semantics, clusters, outliers; or run
    /// `theory`
    Analyze(analyze::Args),
    /// Say what a file or folder is
    Info(info::Args),
    /// Measure the speed of sampling or of a training step
    #[command(subcommand)]
    Bench(bench::Command),
    /// List the built-in presets, or print one
    Presets {
        /// The preset to print
        name: Option<String>,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

impl Command {
    /// How often the command keeps what it has done; none for one that keeps nothing on its way.
    fn keeping(&self) -> Option<Keeping> {
        match self {
            Self::Run(args) => Some(args.run.keeping),
            Self::Compare(args) => Some(args.run.keeping),
            Self::Distill(args) => Some(args.training.keeping),
            Self::Teacher(teacher::Command::Train(args)) => Some(args.keeping),
            Self::Features(features::Command::Train(args)) => Some(args.keeping),
            Self::Pairs(pairs::Command::Generate(args)) => Some(args.keeping),
            Self::Analyze(args) => args.keeping(),
            _ => None,
        }
    }
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// The command's failure.
    pub fn run(self) -> Outcome<()> {
        if self.threads == Some(0) {
            return Err(Failure::Usage("--threads 0: give at least 1".into()));
        }
        let threads = self.threads.unwrap_or(0);
        // The main thread computes too: it would only wait for the others, and be woken thousands
        // of times a second.
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .use_current_thread()
            .build_global()
            .map_err(|e| Failure::Usage(format!("--threads {threads}: {e}; give fewer")))?;
        kdm::kernels::instruction_set().map_err(|e| Failure::Usage(e.to_string()))?;
        let keeping = self.command.keeping();
        terminal::stop_on_signals(keeping.is_none());
        let (runtime, terminal) = (Runtime::cpu(), Terminal::new(keeping.map(Keeping::every)));
        let context = Context { runtime: &runtime, observer: &terminal };
        match self.command {
            Command::Run(args) => args.run(context),
            Command::Import(args) => args.run(context),
            Command::Export(args) => args.run(context),
            Command::Compare(args) => args.run(context),
            Command::Compress(args) => args.run(context),
            Command::Convert(args) => args.run(context),
            Command::Data(command) => command.run(context),
            Command::Features(command) => command.run(context),
            Command::Teacher(command) => command.run(context),
            Command::Pairs(command) => command.run(context),
            Command::Distill(args) => args.run(context),
            Command::Sample(args) => args.run(context),
            Command::Interpolate(args) => args.run(context),
            Command::Edit(args) => args.run(context),
            Command::Invert(args) => args.run(context),
            Command::Evaluate(args) => args.run(context),
            Command::Analyze(args) => args.run(context),
            Command::Info(args) => args.run(context),
            Command::Bench(command) => command.run(context),
            Command::Presets { name } => presets(name.as_deref()),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "kdm", &mut script);
                output::print(&String::from_utf8_lossy(&script))
            }
        }
    }
}

fn presets(name: Option<&str>) -> Outcome<()> {
    let Some(name) = name else {
        let line = |(name, text): &(&str, &str)| {
            let about = text.lines().next().unwrap_or_default().trim_start_matches("# ");
            format!("{name:20} {about}\n")
        };
        return output::print(&PRESETS.iter().map(line).collect::<String>());
    };
    output::print(&Experiment::load(name, &[])?.to_toml())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
