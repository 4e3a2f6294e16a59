//! `kdm interpolate`: from one sample to the next, along the noise or in the latent space.

use std::path::PathBuf;

use clap::ValueEnum;
use kdm_data::Array;
use kdm_koopman::interpolation::{End, Space, between};
use kdm_koopman::sampler::one_hot;

use super::output::write_samples;
use super::sample::parse_seeds;
use kdm::pipeline::LoadedStudent;
use kdm::{Failure, Outcome};

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
    /// Classes to go through, one a seed, or one for all [default: each seed's own]
    #[arg(long, value_name = "LIST")]
    classes: Option<String>,
    /// Samples of a row, both ends among them
    #[arg(long, default_value_t = 8, value_name = "N")]
    steps: usize,
    /// Where to go along
    #[arg(long = "in", value_enum, default_value = "latent")]
    space: SpaceName,
    /// Where samples go: a .npy, .npz or .png file, or a folder
    #[arg(long, value_name = "FILE|DIR")]
    out: PathBuf,
}

/// Samples one command draws at most.
const MOST: usize = 100_000;

impl Args {
    /// Runs the command.
    pub fn run(self) -> Outcome<()> {
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
        let student = LoadedStudent::open(&self.model)?;
        let config = &student.file.student;
        let (noise, mut labels) = student.draw(&seeds);
        if let Some(list) = &self.classes {
            if config.label_dim == 0 {
                return Err(Failure::Usage("--classes: this model is unconditional".into()));
            }
            let mut classes = parse_seeds("--classes", list)?;
            if classes.len() == 1 {
                classes.resize(seeds.len(), classes[0]);
            }
            if classes.len() != seeds.len()
                || classes.iter().any(|class| *class >= config.label_dim as u64)
            {
                return Err(Failure::Usage(format!(
                    "--classes {list}: give one for all or one a seed, of 0 to {}",
                    config.label_dim - 1
                )));
            }
            labels = one_hot(
                &classes.iter().map(|class| *class as u32).collect::<Vec<u32>>(),
                config.label_dim,
            );
        }
        let (dim, k) = (config.dim(), config.label_dim);
        let end = |i: usize| End {
            noise: &noise[i * dim..(i + 1) * dim],
            label: &labels[i * k..(i + 1) * k],
        };
        let space = match self.space {
            SpaceName::Noise => Space::Noise,
            SpaceName::Latent => Space::Latent,
        };
        let koopman = student.koopman()?;
        let rows: Vec<f32> = (1..seeds.len())
            .flat_map(|i| between(koopman, config, space, end(i - 1), end(i), self.steps))
            .collect();
        let samples = Array::new([&[rows.len() / dim], config.shape.as_slice()].concat(), rows);
        write_samples(&self.out, &samples, &[], &[], Some(self.steps))
    }
}
