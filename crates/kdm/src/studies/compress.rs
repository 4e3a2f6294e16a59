//! A student with an operator of lower rank, and what that costs and gains.

use std::path::Path;

use kdm_analysis::rank_reduction::{ReducedOperator, reduce_rank};
use kdm_data::Samples;
use kdm_koopman::low_rank::{RankBy, with_low_rank_operator};
use kdm_koopman::origin::Compression;
use kdm_koopman::{Sampler, Student, StudentConfig};
use serde::Serialize;

use crate::benchmark::linear_seconds;
use crate::student::LoadedStudent;
use crate::timing::alternating;
use crate::{Context, Failure, Outcome};

/// Samples that the two students are compared on.
const COMPARED: usize = 256;
/// Values of samples that are timed.
const TIMED: usize = 1 << 14;
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
}

/// Writes the student with its operator cut to `rank` to `out`; what is kept is chosen on the
/// latents of `samples`' noise.
///
/// # Errors
/// When the rank is out of range, there are fewer than 2 samples, the operator can't be split, or
/// the file can't be written.
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
    let latents = student.stepwise()?.encode_noise(&samples.noise, &samples.labels);
    let ReducedOperator { low, added } =
        reduce_rank(&koopman.operator.matrix(), &latents, by, rank)?;
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

    let device = context.device();
    let [before, after] = linear_seconds([koopman, &small], config.latent, device, RUNS);
    let other = Sampler::new(Student::Koopman(small), &file.student, device);
    let few = samples.first((TIMED / config.dim()).max(1));
    let draw =
        |sampler: &Sampler| drop(std::hint::black_box(sampler.sample(&few.noise, &few.labels)));
    let [whole, less] = alternating([&|| draw(&student.sampler), &|| draw(&other)], RUNS);
    let flops = |config: &StudentConfig| config.flops(false, false);
    Ok(Compressed {
        rank: low.rank,
        of: n,
        error: relative_error(student, &other, &samples.first(COMPARED)),
        flops_saved: 1.0 - flops(&file.student) / flops(config),
        linear_speed_up: before / after,
        sample_speed_up: whole / less,
    })
}

/// Root mean squared error of a coordinate of the other sampler's samples to the student's, over
/// the standard deviation of those.
fn relative_error(student: &LoadedStudent, other: &Sampler, samples: &Samples) -> f64 {
    let images = student.sampler.sample(&samples.noise, &samples.labels);
    let found = other.sample(&samples.noise, &samples.labels);
    let squares = found.iter().zip(&images).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    let error = (squares / images.len() as f64).sqrt();
    error / kdm_analysis::rows::deviation(&images, samples.dim())
}
