//! Times of work on this machine: medians, of alternating runs where two are compared.

use std::time::Instant;

use kdm_observer::{Observer, Stopped};

/// Sorts, and takes the middle.
pub fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Median seconds of two pieces of work over `runs` alternating runs, after one each to warm up, as
/// the task `task` of the observer.
///
/// # Errors
/// When the observer stops it.
pub fn alternating(
    work: [&dyn Fn(); 2],
    runs: usize,
    (task, observer): (&str, &dyn Observer),
) -> Result<[f64; 2], Stopped> {
    let mut times = [Vec::new(), Vec::new()];
    let mut progress = observer.begin(task, "runs");
    for run in 0..=runs {
        progress.advance(run as u64, runs as u64 + 1, "")?;
        for (work, times) in work.iter().zip(&mut times) {
            let started = Instant::now();
            work();
            if run > 0 {
                times.push(started.elapsed().as_secs_f64());
            }
        }
    }
    progress.finish("");
    Ok(times.map(|mut times| median(&mut times)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_observer::Silent;
    use std::time::Duration;

    #[test]
    fn the_slower_work_takes_longer() {
        let sleep = |millis| move || std::thread::sleep(Duration::from_millis(millis));
        let (short, long) = (sleep(1), sleep(20));
        let [short, long] = alternating([&short, &long], 3, ("timing", &Silent)).unwrap();
        assert!(short >= 0.001 && long >= 0.02 && short < long, "{short} {long}");
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
    }
}
