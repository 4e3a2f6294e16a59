//! `kdm bench`: how fast this machine samples and trains.

use std::path::PathBuf;

use clap::Subcommand;
use kdm::benchmark::{Benchmark, Cost, Timing, measure, measure_student};
use kdm::workers::{SumTimes, time_sums};
use kdm::{Context, Experiment, LoadedStudent, Outcome};

use super::numbers::{BATCH, STEPS, within};
use super::output::{NOTHING_KEPT, or_stopped, print, print_json};

/// The sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// One-step sampling with a student
    #[command(after_help = "\
Examples:
  kdm bench sample --model fashion-mnist --batch 16
  kdm bench sample --preset cifar10-uncond --batch 1")]
    Sample(Args),
    /// A training step: loss, gradients, Adam and the moving average
    #[command(after_help = "\
Examples:
  kdm bench train --preset checkerboard --iters 50
  kdm bench train --model fashion-mnist --batch 32")]
    Train(Args),
    /// The sum of a gradient over several workers, beside MPI_Allreduce
    #[command(after_help = "\
Examples:
  mpirun -n 2 kdm bench allreduce
  mpirun -n 4 kdm bench allreduce --numbers 3300000 --json")]
    Allreduce(AllreduceArgs),
}

/// Flags of `kdm bench allreduce`.
#[derive(Debug, clap::Args)]
pub struct AllreduceArgs {
    /// Numbers in the gradient; those of the CIFAR-10 student unless given
    #[arg(long, default_value_t = 47_500_000, value_name = "N")]
    #[arg(value_parser = within(1, NUMBERS))]
    numbers: usize,
    /// Sums that are timed
    #[arg(long, default_value_t = 10, value_name = "K")]
    #[arg(value_parser = within(1, STEPS))]
    iters: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Numbers that MPI_Allreduce sums at once; it counts them in 32 bits.
const NUMBERS: u64 = 1 << 30;

impl AllreduceArgs {
    fn run(self, context: Context) -> Outcome<()> {
        let found =
            or_stopped(time_sums(self.numbers, self.iters, context), || NOTHING_KEPT.into())?;
        if self.json {
            return print_json(&found);
        }
        let SumTimes { workers, numbers, ours_ms, mpi_ms } = found;
        print(&format!(
            "the sum of {numbers} numbers over {workers} workers: median {ours_ms:.1} ms, \
             MPI_Allreduce {mpi_ms:.1} ms\n"
        ))
    }
}

/// Flags of `kdm bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A preset's name or a TOML file: a student of that kind with random weights
    #[arg(long, required_unless_present = "model", conflicts_with = "model")]
    preset: Option<String>,
    /// A student's file, or fashion-mnist
    #[arg(long, value_name = "M")]
    model: Option<PathBuf>,
    /// Samples a step [default: the batch of the preset, or of the model's training]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = within(1, BATCH))]
    batch: Option<usize>,
    /// Steps that are timed
    #[arg(long, default_value_t = 20, value_name = "K")]
    #[arg(value_parser = within(1, STEPS))]
    iters: usize,
    /// Steps before them that are not
    #[arg(long, default_value_t = 3, value_name = "K")]
    #[arg(value_parser = within(0, STEPS))]
    warm_up: usize,
    /// Change a value of the preset; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "preset")]
    settings: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Command {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        let (args, what) = match self {
            Self::Sample(args) => (args, Cost::Sample),
            Self::Train(args) => (args, Cost::Train),
            Self::Allreduce(args) => return args.run(context),
        };
        let timing = Timing { batch: args.batch, iters: args.iters, warm_up: args.warm_up };
        let found = match (&args.preset, &args.model) {
            (Some(preset), _) => {
                measure(&Experiment::load(preset, &args.settings)?, what, timing, context)
            }
            (None, Some(model)) => {
                let student = LoadedStudent::open(model, context.device())?;
                measure_student(&student, what, timing, context)
            }
            (None, None) => unreachable!("clap asks for one of them"),
        };
        let found = or_stopped(found, || NOTHING_KEPT.into())?;
        if args.json {
            return print_json(&found);
        }
        let Benchmark { preset, batch, threads, median_ms, ms_per_image, gflops, .. } = &found;
        let what = match what {
            Cost::Train => "training step",
            Cost::Sample => "one-step sample",
        };
        let memory = found.peak_rss_bytes.unwrap_or(0) as f64 / 1e6;
        print(&format!(
            "{preset} {what}, batch {batch}, {threads} threads: median {median_ms:.2} ms, \
             {ms_per_image:.5} ms an image, {gflops:.0} GFLOP/s, peak memory {memory:.0} MB\n"
        ))
    }
}
