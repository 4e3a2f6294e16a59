//! `kdm features`: feature networks and the statistics of data sets.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use clap::Subcommand;
use kdm_data::{ImageSet, Split};
use kdm_metrics::features::classifier_training::ClassifierTask;
use kdm_metrics::features::extractor::ClassifierFile;
use kdm_nn::{ClassifierConfig, InitSeed};
use kdm_train::{LoopConfig, OptimizerConfig, Schedule, Task, train};
use serde_json::json;

use super::data::SplitName;
use super::output::print;
use kdm::evaluation::{open_features, reference_statistics};
use kdm::pipeline::{FEATURES, fit_images, pretty, report_step};
use kdm::progress::Progress;
use kdm::{Failure, Outcome};

/// The sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a small classifier on a labelled data set, whose features can then measure samples
    Train(TrainArgs),
    /// Compute the statistics of a data set's features, the reference of distances
    Stats(StatsArgs),
}

/// Flags of `kdm features train`.
#[derive(Debug, clap::Args)]
pub struct TrainArgs {
    /// A labelled data set: fashion-mnist, shapes, a .zip in EDM's layout, or a folder
    #[arg(long, value_name = "SET")]
    data: String,
    /// A labelled set to judge by, all of it [default: the test split of --data]
    #[arg(long, value_name = "SET")]
    test_data: Option<String>,
    /// Side of the images; smaller ones are put on black ground
    #[arg(long, default_value_t = 32, value_name = "PIXELS")]
    resolution: usize,
    /// Channels of the first layer; features are 8 times as many
    #[arg(long, default_value_t = 16, value_name = "N")]
    width: usize,
    /// Times that the whole set is seen
    #[arg(long, default_value_t = 6.0, value_name = "N")]
    epochs: f64,
    /// Images an iteration
    #[arg(long, default_value_t = 128, value_name = "N")]
    batch: usize,
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
    /// Take the first N images alone
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// Where they go: .safetensors, or .npz with mu and sigma for other programs
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Command {
    /// Runs the command.
    pub fn run(self) -> Outcome<()> {
        match self {
            Self::Train(args) => args.run(),
            Self::Stats(args) => args.run(),
        }
    }
}

/// Refuses sets without classes.
fn labelled(set: ImageSet, source: &str) -> Outcome<ImageSet> {
    if set.classes() == 0 {
        let mend = "give one with classes: sub-folders, or labels in dataset.json";
        return Err(kdm_data::Error::invalid(
            Path::new(source),
            "classes",
            "the set has none",
            mend,
        )
        .into());
    }
    Ok(set)
}

impl TrainArgs {
    fn run(self) -> Outcome<()> {
        let positive =
            [("--epochs", self.epochs), ("--lr", self.lr), ("--batch", self.batch as f64)];
        if let Some((flag, value)) =
            positive.into_iter().find(|(_, value)| !(*value > 0.0 && value.is_finite()))
        {
            return Err(Failure::Usage(format!("{flag} {value}: give a number above 0")));
        }
        let images = ImageSet::open(&self.data, Split::Train)?;
        let channels = images.shape()[0];
        let shape = [channels, self.resolution, self.resolution];
        let images = labelled(fit_images(images, &self.data, &shape)?, &self.data)?;
        let (source, split) = match &self.test_data {
            Some(source) => (source, Split::Train),
            None => (&self.data, Split::Test),
        };
        let test = labelled(fit_images(ImageSet::open(source, split)?, source, &shape)?, source)?;
        let classes = images.classes().max(test.classes());
        let network = ClassifierConfig {
            resolution: self.resolution,
            in_channels: channels,
            classes,
            width: self.width,
        };
        if let Some((field, problem)) = network.problems().into_iter().next() {
            return Err(Failure::Usage(format!("--{field} {problem}")));
        }
        let iterations =
            (self.epochs * images.len() as f64 / self.batch as f64).ceil().max(1.0) as u64;
        let data =
            Path::new(&self.data).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let class_names = (0..classes as u32).map(|class| images.class_name(class)).collect();
        let file = ClassifierFile { data, class_names, network };
        let device = Device::flex().autodiff();
        let looping = LoopConfig {
            iterations,
            lr: self.lr,
            schedule: Schedule::Cosine,
            warmup: 100.min(iterations / 10),
            optimizer: OptimizerConfig {
                ema_rampup: Some(0.05),
                ema_decay: 0.999,
                ..OptimizerConfig::default()
            },
            log_every: 50,
            validate_every: (iterations / 6).max(1),
            checkpoint_every: 250,
            best_by: "error".into(),
            config: json!({"classifier": file, "data": images.sha256(), "batch": self.batch, "seed": self.seed}),
        };
        let network =
            file.network.init(&mut InitSeed::new(kdm_random::derive_seed(self.seed, 0)), &device);
        let seed = kdm_random::derive_seed(self.seed, 1);
        let task = ClassifierTask { file, images, test, batch: self.batch, seed, device };
        kdm_data::atomic::create_folder(&self.out)?;
        let mut progress = Progress::new("classifier", "iterations");
        let best = self.out.join("best.safetensors");
        let outcome =
            train(&task, network, &looping, &self.out, &best, &mut report_step(&mut progress))?;
        let path = self.out.join(FEATURES);
        task.save(&outcome.averaged, &path)?;
        let accuracy = task.accuracy(&outcome.averaged);
        progress.finish(&format!("{:.2}% of test images told right", 100.0 * accuracy));
        if self.json {
            return print(&pretty(&json!({"path": path, "accuracy": accuracy})));
        }
        print(&format!("{}\n", path.display()))
    }
}

impl StatsArgs {
    fn run(self) -> Outcome<()> {
        let (extractor, split) = (open_features(&self.features)?, self.split.split());
        let statistics = reference_statistics(
            &extractor,
            ImageSet::open(&self.data, split)?,
            &self.data,
            split,
            self.count,
        )?;
        statistics.write(&self.out)?;
        let count = statistics.moments.count;
        eprintln!(
            "{} features of {count} images in {}",
            extractor.stamp().name,
            self.out.display()
        );
        Ok(())
    }
}
