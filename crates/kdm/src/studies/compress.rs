//! A student with an operator of lower rank, and what that costs and gains.

use std::path::Path;

use kdm_analysis::rank_reduction::{ReducedOperator, reduce_rank};
use kdm_data::{Samples, TensorFile, model};
use kdm_koopman::low_rank::{RankBy, with_low_rank_operator};
use kdm_koopman::origin::Compression;
use kdm_koopman::{OperatorKind, Sampler, Stepwise, Student, StudentConfig};
use kdm_observer::Observer;
use serde::Serialize;

use crate::benchmark::linear_seconds;
use crate::student::LoadedStudent;
use crate::timing::alternating;
use crate::{Context, Failure, Outcome};

/// Samples that the two students are compared on.
const COMPARED: usize = 256;
/// Values of samples that are timed.
const TIMED: usize = 1 << 14;
/// The least share of a sample's work whose saving is worth a larger file.
const WORTH_IT: f64 = 0.01;
/// Runs that medians are of.
const RUNS: usize = 15;

/// What a lower rank costs and gains.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Compressed {
    /// Coordinates that the operator keeps.
    pub rank: usize,
    /// Its dimension before.
    pub of: usize,
    /// Root mean squared error of a coordinate to the whole student's samples, over their standard
    /// deviation.
    pub error: f64,
    /// Share of a sample's floating-point operations.
    pub flops_saved: f64,
    /// How many times faster the linear maps between encoder and decoder are.
    pub linear_speed_up: f64,
    /// How many times faster a sample is drawn.
    pub sample_speed_up: f64,
    /// Numbers that the student had.
    pub numbers_before: usize,
    /// Numbers that it has.
    pub numbers: usize,
    /// Bytes of its file before.
    pub bytes_before: u64,
    /// Bytes of its file.
    pub bytes: u64,
}

/// Writes the student with its operator cut to `rank` to `out`, in half precision if its file is;
/// what is kept is chosen on the latents of `samples`' noise.
///
/// # Errors
/// When the rank is out of range or so high that neither work nor numbers are saved, there are
/// fewer than 2 samples, the operator can't be split, or the file can't be written.
pub fn compress(
    student: &LoadedStudent,
    samples: &Samples,
    by: RankBy,
    rank: usize,
    out: &Path,
    context: Context,
) -> Outcome<Compressed> {
    let (koopman, config) = (student.koopman()?, student.config());
    let n = config.operator_dim();
    if rank == 0 || rank > n {
        return Err(Failure::Usage(format!(
            "--rank {rank}: the operator's latent dimension is {n}; give 1 to {n}"
        )));
    }
    if samples.len() < 2 {
        return Err(Failure::Usage(
            "--pairs: the store has one pair, and at least 2 are needed".into(),
        ));
    }
    check_gain(config, rank)?;
    let (noise, labels) = (&samples.noise, &samples.labels);
    let (parts, observer) = (student.stepwise()?, context.observer);
    let latents = parts.observed("latents", noise, labels, observer, Stepwise::encode_noise)?;
    let ReducedOperator { low, added } =
        reduce_rank(&koopman.operator.matrix_in_reach()?, &latents, by, rank)?;
    if low.rank == 0 {
        return Err(Failure::Usage(
            "--rank 1: this operator's modes are pairs of two dimensions; give 2 or more".into(),
        ));
    }
    let (small, smaller) = with_low_rank_operator(koopman, config, &low, &added)?;
    let mut file = student.file.clone();
    file.student = smaller;
    // The rest of an origin says which pairs and which teacher a student belongs to.
    file.origin.compressed =
        Some(Compression { by, rank: low.rank, from: n, samples: samples.len() });
    file.save(&Student::Koopman(small.clone()), out)?;
    if student.half {
        model::write_half(&TensorFile::open(out)?, out)?;
    }
    let bytes = std::fs::metadata(out).map_err(kdm_data::Error::io("read", out))?.len();

    let (device, observer) = (context.device(), context.observer);
    let [before, after] = linear_seconds([koopman, &small], config.latent, RUNS, context)?;
    let other = Sampler::new(Student::Koopman(small), &file.student, device);
    let few = samples.first((TIMED / config.dim()).max(1));
    let draw =
        |sampler: &Sampler| drop(std::hint::black_box(sampler.sample(&few.noise, &few.labels)));
    let work: [&dyn Fn(); 2] = [&|| draw(&student.sampler), &|| draw(&other)];
    let [whole, less] = alternating(work, RUNS, ("timing samples", observer))?;
    let flops = |config: &StudentConfig| config.flops(false, false);
    Ok(Compressed {
        rank: low.rank,
        of: n,
        error: relative_error(student, &other, &samples.first(COMPARED), observer)?,
        flops_saved: 1.0 - flops(&file.student) / flops(config),
        linear_speed_up: before / after,
        sample_speed_up: whole / less,
        numbers_before: config.parameters() as usize,
        numbers: file.student.parameters() as usize,
        bytes_before: student.bytes,
        bytes,
    })
}

/// The student of this configuration with its operator cut to `rank`; see
/// [`with_low_rank_operator`].
fn cut(config: &StudentConfig, rank: usize) -> StudentConfig {
    let classes = if config.operator.control { config.label_dim + 1 } else { 0 };
    let mut config = config.clone();
    config.operator.kind = OperatorKind::Dense;
    config.operator.projection = Some(rank + classes);
    config
}

/// Whether a lower rank saves numbers, or work that is worth it.
///
/// # Errors
/// When it saves neither; the message says which rank does.
fn check_gain(config: &StudentConfig, rank: usize) -> Outcome<()> {
    let numbers = |config: &StudentConfig| config.parameters() as usize;
    let flops = |config: &StudentConfig| config.flops(false, false);
    let (before, work) = (numbers(config), flops(config));
    let smaller = cut(config, rank);
    let gains = |smaller: &StudentConfig| {
        numbers(smaller) < before || flops(smaller) < (1.0 - WORTH_IT) * work
    };
    if gains(&smaller) {
        return Ok(());
    }
    let most = (1..rank).rev().find(|rank| gains(&cut(config, *rank)));
    let action = match most {
        Some(most) => format!("give {most} or less"),
        None => "this student can't be made smaller so".into(),
    };
    Err(Failure::Usage(format!(
        "--rank {rank}: nothing is gained: {} numbers for {before}, and {:.1}% of the work a \
         sample (projections to the rank and back take what the operator saves); {action}",
        numbers(&smaller),
        100.0 * flops(&smaller) / work
    )))
}

/// Root mean squared error of a coordinate of the other sampler's samples to the student's, over
/// the standard deviation of those.
fn relative_error(
    student: &LoadedStudent,
    other: &Sampler,
    samples: &Samples,
    observer: &dyn Observer,
) -> Outcome<f64> {
    let (noise, labels) = (&samples.noise, &samples.labels);
    let images = student.sampler.sample_observed(noise, labels, observer)?;
    let found = other.sample_observed(noise, labels, observer)?;
    let squares = found.iter().zip(&images).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    let error = (squares / images.len() as f64).sqrt();
    Ok(error / kdm_analysis::rows::deviation(&images, samples.dim()))
}
