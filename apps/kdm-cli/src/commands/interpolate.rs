//! `kdm interpolate`: from one sample to the next, along the noise or in the latent space.

use std::path::PathBuf;

use clap::ValueEnum;
use kdm::data::Labels;
use kdm::koopman::interpolation::InterpolationSpace;
use kdm::sample_picture::{Arrangement, check_picture};
use kdm::studies::interpolate::interpolate;
use kdm::{Context, Failure, LoadedStudent, Outcome};

use super::output::{NOTHING_KEPT, Replace, or_stopped, write_samples};
use super::sample::{parse_levels, parse_seeds};

/// Spaces' names.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SpaceName {
    /// Along the great circle between two noises
    Noise,
    /// Along the straight line between two latents
    Latent,
}

/// Flags of `kdm interpolate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The student's file, or fashion-mnist
    #[arg(long, value_name = "M")]
    model: PathBuf,
    /// Seeds to go through, such as 0-3 or 7,2,9; a row of the picture from each to the next
    #[arg(long, value_name = "LIST")]
    seeds: String,
    /// Classes to go through, by names or numbers, one a seed, or one for all [default: each seed's
    /// own]
    #[arg(long, value_name = "LIST")]
    classes: Option<String>,
    /// Samples of a row, both ends among them
    #[arg(long, default_value_t = 8, value_name = "N")]
    steps: usize,
    /// Where to go along
    #[arg(long = "in", value_enum, default_value = "latent")]
    space: SpaceName,
    /// Levels of the latent that go over, 0 the finest, such as 1-2: the rest stays the first
    /// sample's (for students with `student.levels`) [default: all]
    #[arg(long, value_name = "LIST")]
    levels: Option<String>,
    /// Where samples go: a .npy, .npz or .png file, or a folder
    #[arg(long, value_name = "FILE|DIR")]
    out: PathBuf,
    #[command(flatten)]
    replace: Replace,
}

/// Samples one command draws at most.
const MOST: usize = 100_000;

impl Args {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        let seeds = parse_seeds("--seeds", &self.seeds)?;
        if seeds.len() < 2 {
            return Err(Failure::Usage(format!("--seeds {}: give at least two", self.seeds)));
        }
        if self.steps < 2 || self.steps.saturating_mul(seeds.len()) > MOST {
            return Err(Failure::Usage(format!(
                "--steps {}: give at least 2, and {MOST} samples at most",
                self.steps
            )));
        }
        self.replace.samples(&self.out, &[Some(&self.model)])?;
        let student = LoadedStudent::open(&self.model, context.device())?;
        check_picture(&self.out, &student.config().shape)?;
        let mut stops = student.draw_noise(&seeds);
        if let Some(list) = &self.classes {
            stops.labels = classes(&student, list, seeds.len())?;
        }
        let space = match self.space {
            SpaceName::Noise => InterpolationSpace::Noise,
            SpaceName::Latent => InterpolationSpace::Latent,
        };
        let levels = parse_levels(self.levels.as_deref())?;
        let samples = interpolate(&student, space, &levels, &stops, self.steps, context.observer);
        let samples = or_stopped(samples, || NOTHING_KEPT.into())?;
        write_samples(&self.out, &samples, 0, Arrangement::Ways(self.steps))
    }
}

/// The classes of a list, one for all or one a stop.
fn classes(student: &LoadedStudent, list: &str, stops: usize) -> Outcome<Labels> {
    let known = student.config().label_dim;
    if known == 0 {
        return Err(Failure::Usage("--classes: this model is unconditional; leave it out".into()));
    }
    let mut classes = Vec::new();
    for part in list.split(',') {
        // A range of numbers, where it is no name of a class.
        match (student.class("--classes", part), parse_seeds("--classes", part)) {
            (Err(_), Ok(range)) if part.contains('-') => classes.extend(range),
            (class, _) => classes.push(class?.into()),
        }
    }
    if classes.len() == 1 {
        classes.resize(stops, classes[0]);
    }
    if classes.len() != stops || classes.iter().any(|class| *class >= known as u64) {
        let most = known - 1;
        return Err(Failure::Usage(format!(
            "--classes {list}: give one for all or one a seed, of 0 to {most}"
        )));
    }
    Ok(classes.into_iter().map(|class| Some(class as u32)).collect())
}
