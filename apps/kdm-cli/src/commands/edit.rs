//! `kdm edit`: samples moved along a direction of the latent space.

use std::path::PathBuf;

use kdm::sample_picture::{Arrangement, check_picture};
use kdm::studies::edit::{Direction, edit};
use kdm::{Context, LoadedStudent, Outcome};

use super::output::{NOTHING_KEPT, Replace, or_stopped, write_samples};
use super::sample::{parse_levels, parse_seeds};

/// Flags of `kdm edit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The student's file, or fashion-mnist
    #[arg(long, value_name = "M")]
    model: PathBuf,
    /// Seeds of the samples to move, one row each, such as 1,5 or 0-3
    #[arg(long, value_name = "LIST")]
    seeds: String,
    /// Move along the mode of this rank: 1 carries most on real latents (see `kdm analyze`)
    #[arg(
        long,
        value_name = "K",
        required_unless_present = "to_class",
        conflicts_with = "to_class"
    )]
    mode: Option<usize>,
    /// Move along the mean difference of latents of two classes, to this one, by its name or
    /// number
    #[arg(long, value_name = "CLASS", requires = "from_class")]
    to_class: Option<String>,
    /// The class that --to-class moves away from
    #[arg(long, value_name = "CLASS", requires = "to_class")]
    from_class: Option<String>,
    /// Levels of the latent that are moved, 0 the finest, such as 1-2 (for students with
    /// `student.levels`) [default: all]
    #[arg(long, value_name = "LIST")]
    levels: Option<String>,
    /// How far, to either side: in deviations of the samples' latents along the mode, or in
    /// distances of the classes [default: 2 along a mode, 1 from class to class: beyond, images
    /// dissolve]
    #[arg(long, value_name = "X")]
    reach: Option<f64>,
    /// Pictures a row, the middle one the sample itself; an odd number
    #[arg(long, default_value_t = 9, value_name = "N")]
    steps: usize,
    /// Where the result goes: .png, .npy, .npz or a folder
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    replace: Replace,
}

impl Args {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        self.replace.samples(&self.out, &[Some(&self.model)])?;
        let student = LoadedStudent::open(&self.model, context.device())?;
        check_picture(&self.out, &student.config().shape)?;
        let seeds = parse_seeds("--seeds", &self.seeds)?;
        let direction = match (self.mode, &self.to_class, &self.from_class) {
            (Some(rank), ..) => Direction::Mode(rank),
            (None, Some(to), Some(from)) => Direction::Classes {
                from: student.class("--from-class", from)?,
                to: student.class("--to-class", to)?,
            },
            _ => unreachable!("clap asks for a mode or two classes"),
        };
        let reach = self.reach.unwrap_or_else(|| direction.usual_reach());
        let levels = parse_levels(self.levels.as_deref())?;
        let (steps, observer) = (self.steps, context.observer);
        let samples = edit(&student, &seeds, direction, &levels, reach, steps, observer);
        let samples = or_stopped(samples, || NOTHING_KEPT.into())?;
        write_samples(&self.out, &samples, 0, Arrangement::Ways(self.steps))
    }
}
