//! How long workers take for the sum of a gradient.

use std::time::Instant;

use serde::Serialize;

use super::library_sum;
use crate::timing::median;
use crate::{Context, Failure, Outcome};

/// Median times of a sum over all workers, of alternating runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SumTimes {
    /// How many workers there are.
    pub workers: usize,
    /// Numbers that each has.
    pub numbers: usize,
    /// Milliseconds of the sum that trainings take, whose bits don't depend on the number of
    /// workers.
    pub ours_ms: f64,
    /// Milliseconds of MPI_Allreduce.
    pub mpi_ms: f64,
}

/// A way to sum values over the workers, in place.
type Sum<'a> = dyn Fn(&mut [f32]) + 'a;

/// Times `runs` sums of `numbers` f32 over the workers of the runtime, after one to warm up.
///
/// # Errors
/// When this process is the only worker, the two sums differ by more than rounding, or the observer
/// stops it.
pub fn time_sums(numbers: usize, runs: usize, context: Context) -> Outcome<SumTimes> {
    let workers = context.runtime.workers();
    if workers.size() < 2 {
        return Err(Failure::Usage(
            "there is one worker, and nothing to sum; start several, of a build with `--features \
             mpi`: `mpirun -n 2 kdm bench allreduce`"
                .into(),
        ));
    }
    let own = kdm_random::normal_vec(workers.rank() as u64, numbers);
    let by_mpi = |values: &mut [f32]| library_sum(&own, values);
    let ours = |values: &mut [f32]| workers.sum(values);
    let sums: [&Sum; 2] = [&ours, &by_mpi];
    let (mut found, mut times) = ([own.clone(), own.clone()], [Vec::new(), Vec::new()]);
    let mut progress = context.observer.begin("sums", "runs");
    for run in 0..=runs {
        progress.advance(run as u64, runs as u64 + 1, "")?;
        for ((sum, values), times) in sums.iter().zip(&mut found).zip(&mut times) {
            values.copy_from_slice(&own);
            workers.meet();
            let started = Instant::now();
            sum(values);
            if run > 0 {
                times.push(1e3 * started.elapsed().as_secs_f64());
            }
        }
    }
    progress.finish("");
    // Of n numbers of size 1, summed in two orders: n roundings of numbers below 8 n.
    let most = (workers.size() * workers.size()) as f32 * 8.0 * f32::EPSILON;
    let [ours, theirs] = &found;
    if ours.iter().zip(theirs).any(|(a, b)| (a - b).abs() > most) {
        return Err(Failure::Usage(
            "the two sums differ: this MPI or its network is not sound; try another transport, \
             such as `mpirun --mca btl tcp,self`"
                .into(),
        ));
    }
    let [ours_ms, mpi_ms] = times.map(|mut times| median(&mut times));
    Ok(SumTimes { workers: workers.size(), numbers, ours_ms, mpi_ms })
}
