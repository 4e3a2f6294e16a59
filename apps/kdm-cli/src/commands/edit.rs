//! `kdm edit`: samples moved along a direction of the latent space.

use std::path::PathBuf;

use kdm_analysis::Modes;
use kdm_analysis::modes::largest_first;
use kdm_data::Array;
use kdm_koopman::sampler::one_hot;
use kdm_koopman::stepwise::Stepwise;

use super::output::write_samples;
use super::sample::parse_seeds;
use kdm::examination::mean;
use kdm::pipeline::LoadedStudent;
use kdm::{Failure, Outcome};

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
    /// Move along the mean difference of latents of two classes, to this one
    #[arg(long, value_name = "CLASS", requires = "from_class")]
    to_class: Option<u32>,
    /// The class that --to-class moves away from
    #[arg(long, value_name = "CLASS", requires = "to_class")]
    from_class: Option<u32>,
    /// How far, to either side: in deviations of the mode, or in differences of the classes
    #[arg(long, default_value_t = 2.0, value_name = "X")]
    reach: f64,
    /// Pictures a row, the middle one the sample itself; an odd number
    #[arg(long, default_value_t = 9, value_name = "N")]
    steps: usize,
    /// Where the result goes: .png, .npy, .npz or a folder
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Samples that directions are taken from; their seeds come after all that are likely to be asked
/// for.
const SAMPLES: u64 = 512;
const FIRST_SEED: u64 = 2_000_000_000;

impl Args {
    /// Runs the command.
    pub fn run(self) -> Outcome<()> {
        if self.steps < 3 || self.steps.is_multiple_of(2) || !self.reach.is_finite() {
            return Err(Failure::Usage(
                "--steps: give an odd number of at least 3; --reach: a finite number".into(),
            ));
        }
        let student = LoadedStudent::open(&self.model)?;
        let config = &student.file.student;
        let koopman = student.koopman()?;
        let (parts, n, k) =
            (Stepwise { student: koopman, config }, config.operator_dim(), config.label_dim);
        let seeds = parse_seeds("--seeds", &self.seeds)?;
        let (noise, mut labels) = student.draw(&seeds);
        let (others, other_labels) =
            student.draw(&(FIRST_SEED..FIRST_SEED + SAMPLES).collect::<Vec<u64>>());
        let pushed =
            |noise: &[f32], labels: &[f32]| parts.push(&parts.encode_noise(noise, labels), labels);

        let direction: Vec<f64> = match (self.mode, self.to_class, self.from_class) {
            (Some(rank), ..) => {
                let modes =
                    Modes::of(&koopman.operator.matrix()).map_err(|e| student.bad_operator(e))?;
                let latents = parts.encode_noise(&others, &other_labels);
                let amplitudes = modes.amplitudes(&latents);
                let ranked = largest_first(&amplitudes);
                let Some(place) = rank.checked_sub(1).and_then(|rank| ranked.get(rank)) else {
                    return Err(Failure::Usage(format!(
                        "--mode {rank}: the operator has modes 1 to {}",
                        ranked.len()
                    )));
                };
                let direction = modes.direction(&modes.modes()[*place], 0.0);
                direction.into_iter().map(|x| x * amplitudes[*place]).collect()
            }
            (None, Some(to), Some(from)) => {
                if to.max(from) as usize >= k {
                    let problem = if k == 0 {
                        "this model is unconditional".into()
                    } else {
                        format!("the model has classes 0 to {}", k - 1)
                    };
                    return Err(Failure::Usage(format!("--from-class, --to-class: {problem}")));
                }
                let rows = others.len() / config.dim();
                let of = |class: u32| mean(&pushed(&others, &one_hot(&vec![class; rows], k)), n);
                // The samples begin in the class that is left.
                labels = one_hot(&vec![from; seeds.len()], k);
                of(to).into_iter().zip(of(from)).map(|(to, from)| to - from).collect()
            }
            _ => unreachable!("clap asks for a mode or two classes"),
        };
        let latents = pushed(&noise, &labels);
        let half = (self.steps / 2) as f64;
        let mut moved = Vec::with_capacity(latents.len() * self.steps);
        for z in latents.chunks_exact(n) {
            for step in 0..self.steps {
                let far = self.reach * (step as f64 - half) / half;
                moved.extend(
                    z.iter().zip(&direction).map(|(z, d)| (f64::from(*z) + far * d) as f32),
                );
            }
        }
        let labels: Vec<f32> = if k == 0 {
            Vec::new()
        } else {
            labels.chunks_exact(k).flat_map(|row| row.repeat(self.steps)).collect()
        };
        let drawn = parts.decode(&moved, &labels);
        let samples =
            Array::new([&[seeds.len() * self.steps], config.shape.as_slice()].concat(), drawn);
        write_samples(&self.out, &samples, &[], &[], Some(self.steps))
    }
}
