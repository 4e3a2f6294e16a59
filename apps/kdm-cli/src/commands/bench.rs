//! `kdm bench`: how fast this machine samples and trains.

use clap::Subcommand;
use kdm::benchmark::{Benchmark, Cost, Timing, measure};
use kdm::{Context, Experiment, Outcome};

use super::output::{print, print_json};

/// The sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// One-step sampling with a student of random weights
    Sample(Args),
    /// A training step: loss, gradients, Adam and the moving average
    Train(Args),
}

/// Flags of `kdm bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A preset's name or a TOML file
    #[arg(long)]
    preset: String,
    /// Samples a step [default: the preset's batch]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Steps that are timed
    #[arg(long, default_value_t = 20, value_name = "K")]
    iters: usize,
    /// Steps before them that are not
    #[arg(long, default_value_t = 3, value_name = "K")]
    warm_up: usize,
    /// Change a value of the preset; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
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
        };
        let experiment = Experiment::load(&args.preset, &args.settings)?;
        let timing = Timing { batch: args.batch, iters: args.iters, warm_up: args.warm_up };
        let found = measure(&experiment, what, timing, context.runtime)?;
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
