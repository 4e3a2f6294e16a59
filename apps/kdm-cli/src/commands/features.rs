//! `kdm features`: feature networks and the statistics of data sets.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use kdm::data::images::ReadOptions;
use kdm::data::output::FileKind;
use kdm::metrics::features::statistics::KIND as STATISTICS;
use kdm::stages::features::{FeatureTraining, open_features, reference_statistics, train_features};
use kdm::stages::images::open_set;
use kdm::{Context, Failure, Outcome};

use super::data::{Reading, SplitName};
use super::numbers::{BATCH, STEPS, within};
use super::output::{NOTHING_KEPT, Replace, folder, or_stopped, path, print, print_json};
use super::resuming::{Keeping, or_continued};

/// The sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a small classifier on a labelled data set, whose features can then measure samples
    #[command(after_help = "\
Examples:
  kdm features train --data shapes --out features")]
    Train(TrainArgs),
    /// Compute the statistics of a data set's features, the reference of distances
    #[command(after_help = "\
Examples:
  kdm features stats --features fashion-mnist --data images --out reference.npz")]
    Stats(StatsArgs),
}

/// Flags of `kdm features train`.
#[derive(Debug, clap::Args)]
pub struct TrainArgs {
    /// A labelled data set: fashion-mnist, shapes, or a folder or archive of images whose folders,
    /// or whose dataset.json, give classes
    #[arg(long, value_name = "SET")]
    data: String,
    /// A labelled set to validate on, all of it [default: the test split of --data, or a tenth of
    /// its images where it has none]
    #[arg(long, value_name = "SET")]
    test_data: Option<String>,
    /// Side of the images; smaller ones are zero-padded
    #[arg(long, default_value_t = 32, value_name = "PIXELS")]
    resolution: usize,
    /// Crop images to the square in their middle and resize them to --resolution instead
    #[arg(long)]
    resize: bool,
    /// Channels of the first layer; features are 8 times as many
    #[arg(long, default_value_t = 16, value_name = "N")]
    width: usize,
    /// Times that the whole set is seen
    #[arg(long, default_value_t = 6.0, value_name = "N")]
    epochs: f64,
    /// Images an iteration
    #[arg(long, default_value_t = 128, value_name = "N")]
    #[arg(value_parser = within(1, BATCH))]
    batch: usize,
    /// Equal parts of a batch whose gradients are computed one by one, which takes less memory; a
    /// power of two that divides --batch
    #[arg(long, default_value_t = 1, value_name = "G")]
    leaves: usize,
    /// Learning rate, falling to zero
    #[arg(long, default_value_t = 3e-3, value_name = "RATE")]
    lr: f64,
    /// Seed of everything random
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The folder to train in; a killed training goes on there. The result is features.safetensors
    /// in it
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    pub keeping: Keeping,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Flags of `kdm features stats`.
#[derive(Debug, clap::Args)]
pub struct StatsArgs {
    /// The feature network: a file of `kdm features train` or of `kdm import` (Inception), or
    /// fashion-mnist
    #[arg(long, value_name = "F")]
    features: PathBuf,
    /// The data set
    #[arg(long, value_name = "SET")]
    data: String,
    /// Which part of it
    #[arg(long, value_enum, default_value = "train")]
    split: SplitName,
    #[command(flatten)]
    reading: Reading,
    /// Take the first N images alone
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// Where they go: .safetensors, or .npz with mu and sigma for other programs
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    replace: Replace,
}

impl Command {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        match self {
            Self::Train(args) => args.run(context),
            Self::Stats(args) => args.run(context),
        }
    }
}

impl TrainArgs {
    fn run(self, context: Context) -> Outcome<()> {
        let positive = [("--epochs", self.epochs), ("--lr", self.lr)];
        let most = ReadOptions::MOST_RESOLUTION - 1;
        if !(1..=most).contains(&self.resolution) {
            let side = self.resolution;
            return Err(Failure::Usage(format!("--resolution {side}: give 1 to {most}")));
        }
        let bad = positive.into_iter().find(|(_, value)| !(*value > 0.0 && value.is_finite()));
        if let Some((flag, value)) = bad {
            return Err(Failure::Usage(format!("{flag} {value}: give a number above 0")));
        }
        if self.epochs > STEPS as f64 {
            let epochs = self.epochs;
            return Err(Failure::Usage(format!("--epochs {epochs}: give at most {STEPS}")));
        }
        let test_data = self.test_data.as_deref().map(Path::new);
        folder(&self.out, &[path(&self.data), test_data])?;
        let training = FeatureTraining {
            data: self.data,
            test_data: self.test_data,
            resolution: self.resolution,
            resize: self.resize,
            width: self.width,
            epochs: self.epochs,
            batch: self.batch,
            leaves: self.leaves,
            lr: self.lr,
            seed: self.seed,
        };
        let trained = train_features(&training, &self.out, context);
        let trained = or_continued(trained, &[], || "what was finished is kept".into())?;
        if self.json {
            return print_json(&trained);
        }
        print(&format!("{}\n", trained.path.display()))
    }
}

impl StatsArgs {
    fn run(self, context: Context) -> Outcome<()> {
        let extension = self.out.extension().map(|e| e.to_string_lossy().to_lowercase());
        if !matches!(extension.as_deref(), Some("safetensors" | "npz")) {
            let out = self.out.display();
            return Err(Failure::Usage(format!(
                "--out {out}: name a .safetensors file, or a .npz for other programs"
            )));
        }
        let arrays = self.out.extension().is_some_and(|e| e == "npz");
        let kind = if arrays { FileKind::Arrays } else { FileKind::Model(STATISTICS) };
        self.replace.file(&self.out, kind, &[Some(&self.features), path(&self.data)])?;
        let (extractor, split) =
            (open_features(&self.features, context.device())?, self.split.split());
        let options = self.reading.options()?;
        let set = open_set(&self.data, split, &options, context.observer)?;
        let (source, count) = (&self.data, self.count);
        let statistics =
            reference_statistics(&extractor, set, source, split, count, context.observer);
        let statistics = or_stopped(statistics, || NOTHING_KEPT.into())?;
        statistics.write(&self.out)?;
        let count = statistics.moments.count;
        let name = &extractor.stamp().name;
        eprintln!("{name} features of {count} images in {}", self.out.display());
        Ok(())
    }
}
