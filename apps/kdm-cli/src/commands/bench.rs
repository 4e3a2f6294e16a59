//! `kdm bench`: how fast this machine samples and trains.

use std::time::Instant;

use clap::Subcommand;
use serde_json::json;

use super::output::print;
use kdm::pipeline::pretty;
use kdm::workload;
use kdm::{Experiment, Failure, Outcome};

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
    pub fn run(self) -> Outcome<()> {
        let (args, training) = match self {
            Self::Sample(args) => (args, false),
            Self::Train(args) => (args, true),
        };
        let experiment = Experiment::load(&args.preset, &args.settings)?;
        let batch = args.batch.unwrap_or(experiment.train.batch);
        if batch == 0 || args.iters == 0 {
            return Err(Failure::Usage("--batch and --iters: give at least 1".into()));
        }
        let (shape, label_dim) = experiment.sample().expect("checked when loaded");
        let config =
            experiment.student_config(shape, label_dim, experiment.pairs.process.noise_std());
        let mut times = if training {
            timed(&args, workload::training_step(&experiment, &config, batch)?)
        } else {
            timed(&args, workload::sampling(&config, batch))
        };
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        let flops = config.flops(training, experiment.loss.push_weight > 0.0) * batch as f64;
        let value = json!({
            "preset": experiment.name,
            "what": if training { "train" } else { "sample" },
            "batch": batch,
            "iters": args.iters,
            "threads": rayon::current_num_threads(),
            "instruction_set": kdm_kernels::instruction_set().map_err(Failure::Usage)?,
            "median_ms": median * 1e3,
            "ms_per_image": median * 1e3 / batch as f64,
            "gflops": flops / median / 1e9,
            "peak_rss_bytes": peak_rss(),
        });
        if args.json {
            return print(&pretty(&value));
        }
        print(&format!(
            "{} {}, batch {batch}, {} threads: median {:.2} ms, {:.5} ms an image, {:.0} GFLOP/s, \
             peak memory {:.0} MB\n",
            experiment.name,
            if training { "training step" } else { "one-step sample" },
            rayon::current_num_threads(),
            median * 1e3,
            median * 1e3 / batch as f64,
            flops / median / 1e9,
            peak_rss().unwrap_or(0) as f64 / 1e6
        ))
    }
}

fn timed(args: &Args, mut step: impl FnMut()) -> Vec<f64> {
    (0..args.warm_up).for_each(|_| step());
    (0..args.iters)
        .map(|_| {
            let started = Instant::now();
            step();
            started.elapsed().as_secs_f64()
        })
        .collect()
}

/// The process's largest resident memory so far, where the system tells.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
