//! `kdm bench`: how fast this machine samples and trains.

use std::time::Instant;

use clap::Subcommand;
use kdm_core::{NetworkConfig, OperatorKind, StudentConfig};
use kdm_teacher::Denoiser;
use serde_json::json;

use super::output::print;
use crate::pipeline::pretty;
use crate::workload;
use crate::{Experiment, Failure, Outcome};

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
    /// Steps that are timed, after a few that warm up
    #[arg(long, default_value_t = 20, value_name = "K")]
    iters: usize,
    /// Change a value of the preset; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const WARM_UP: usize = 3;

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
        let data = experiment.distribution();
        let config = experiment.student_config(data.shape(), data.label_dim(), experiment.pairs.process.noise_std());
        let mut times = if training {
            timed(args.iters, workload::training_step(&experiment, &config, batch))
        } else {
            timed(args.iters, workload::sampling(&config, batch))
        };
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        let flops = flops(&config, training, experiment.loss.push_weight > 0.0) * batch as f64;
        let value = json!({
            "preset": experiment.name,
            "what": if training { "train" } else { "sample" },
            "batch": batch,
            "iters": args.iters,
            "threads": rayon::current_num_threads(),
            "median_ms": median * 1e3,
            "ms_per_image": median * 1e3 / batch as f64,
            "gflops": flops / median / 1e9,
            "peak_rss_bytes": peak_rss(),
        });
        if args.json {
            return print(&pretty(&value));
        }
        print(&format!(
            "{} {}, batch {batch}, {} threads: median {:.2} ms, {:.5} ms an image, {:.0} GFLOP/s, peak memory {:.0} MB\n",
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

fn timed(iters: usize, mut step: impl FnMut()) -> Vec<f64> {
    (0..WARM_UP).for_each(|_| step());
    (0..iters)
        .map(|_| {
            let started = Instant::now();
            step();
            started.elapsed().as_secs_f64()
        })
        .collect()
}

/// Floating-point operations a sample, of matrix products alone (a multiplication and an addition count as two). A
/// training step costs three times its forward passes: E_0, E_T, C, and D once, or twice with the push term.
fn flops(config: &StudentConfig, training: bool, push: bool) -> f64 {
    let NetworkConfig::Mlp { hidden, layers } = config.network;
    let mlp = |inputs: usize, outputs: usize| {
        let widths = (0..=layers).map(|i| match i {
            0 => inputs + 1 + config.label_dim,
            i if i == layers => outputs,
            _ => hidden,
        });
        let widths: Vec<usize> = widths.collect();
        widths.windows(2).map(|w| 2.0 * (w[0] * w[1]) as f64).sum::<f64>()
    };
    let n = config.operator_dim();
    let lift = config.operator.projection.map_or(0.0, |p| 2.0 * (p * config.latent) as f64);
    let encoder = mlp(config.dim(), config.latent) + lift;
    let decoder = mlp(config.latent, config.dim()) + lift;
    let operator = match config.operator.kind {
        OperatorKind::Dense => 2.0 * (n * n) as f64,
        OperatorKind::Factorized => 8.0 * (n * n) as f64,
    };
    if training {
        3.0 * (2.0 * encoder + operator + if push { 2.0 } else { 1.0 } * decoder)
    } else {
        encoder + operator + decoder
    }
}

/// The process's largest resident memory so far, where the system tells.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
