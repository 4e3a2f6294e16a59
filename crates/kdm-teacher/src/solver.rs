//! Solvers of dx/dt = (x - D(x; t)) / t from the first time to 0, as small functions over f64 rows.

use std::cell::RefCell;

use kdm_data::Labels;
use kdm_observer::Stopped;
use serde::{Deserialize, Serialize};

use crate::{Denoiser, Process};

/// Which solver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Solver {
    /// First order; equal to DDIM (Song et al., arXiv:2010.02502) in this form.
    Euler,
    /// Second order (2206.00364, algorithm 1 without churn); Euler in the last step.
    Heun,
    /// Second order, at the middle of each step.
    Midpoint,
    /// Second order with one evaluation a step: DPM-Solver++(2M) (Lu et al., arXiv:2211.01095,
    /// algorithm 2).
    DpmSolver,
}

impl Solver {
    /// Evaluations of the denoiser (NFE) in `steps` steps.
    pub fn evaluations(self, steps: usize) -> usize {
        match self {
            Self::Euler | Self::DpmSolver => steps,
            Self::Heun => 2 * steps - 1,
            Self::Midpoint => 2 * steps,
        }
    }
}

/// Samples from noise: `x` holds rows of x_T, already scaled to [`Process::noise_std`]; the result
/// holds rows of x_0. `labels`: one a row (see [`Denoiser::denoise`]). `steps` is at least 1.
///
/// ```
/// use kdm_data::Labels;
/// use kdm_teacher::{Gaussian, Process, Solver, solve};
///
/// // The flow of N(1, 0.25) from sigma 10 ends at 1 + 0.5 (x - 1) / sqrt(10^2 + 0.25).
/// let data = Gaussian::new(vec![1.0], vec![vec![0.25]])?;
/// let process = Process::Diffusion { sigma_min: 1e-3, sigma_max: 10.0, rho: 7.0 };
/// let x = solve(&data, &process, Solver::Heun, 100, vec![6.0], &Labels::none(1));
/// assert!((x[0] - (1.0 + 0.5 * 5.0 / 100.25f64.sqrt())).abs() < 1e-3);
/// # Ok::<(), kdm_nn::Problem>(())
/// ```
pub fn solve(
    denoiser: &dyn Denoiser,
    process: &Process,
    solver: Solver,
    steps: usize,
    x: Vec<f64>,
    labels: &Labels,
) -> Vec<f64> {
    solve_watched(denoiser, process, (solver, steps), x, labels, &mut |_| Ok(()))
        .expect("nobody asks for a stop")
}

/// What is asked before each evaluation of the denoiser, with the number of those made: whether to
/// go on.
pub type Watch<'a> = dyn FnMut(usize) -> Result<(), Stopped> + 'a;

/// Is shown the rows of x after some steps, with their number; see [`solve_through`].
pub type Seen<'a> = dyn FnMut(usize, &[f64]) + 'a;

/// [`solve`], asking `watch` before each evaluation; with the same result, to the bit.
///
/// # Errors
/// When `watch` says so.
pub fn solve_watched(
    denoiser: &dyn Denoiser,
    process: &Process,
    (solver, steps): (Solver, usize),
    x: Vec<f64>,
    labels: &Labels,
    watch: &mut Watch,
) -> Result<Vec<f64>, Stopped> {
    solve_through(denoiser, process, (solver, steps), x, labels, watch, &mut |_, _| ())
}

/// [`solve_watched`] that also shows `seen` the state after each step but the last, with the number
/// of steps made.
///
/// # Errors
/// When `watch` says so.
pub fn solve_through(
    denoiser: &dyn Denoiser,
    process: &Process,
    (solver, steps): (Solver, usize),
    x: Vec<f64>,
    labels: &Labels,
    watch: &mut Watch,
    seen: &mut Seen,
) -> Result<Vec<f64>, Stopped> {
    let times = rounded_times(denoiser, process, steps);
    let state = RefCell::new((0, watch, Ok(())));
    // Once it is to stop, the rest of the way is gone without an evaluation, to nowhere.
    let denoise = |x: &[f64], t: f64| {
        let (made, watch, going) = &mut *state.borrow_mut();
        if going.is_ok() {
            *going = watch(*made);
        }
        if going.is_err() {
            return x.to_vec();
        }
        *made += 1;
        denoiser.denoise(x, process.level(t), labels)
    };
    let x = match solver {
        Solver::Euler => walk(&times, x, seen, |x, t, next| step(&x, &denoise(&x, t), t, next)),
        Solver::Heun => walk(&times, x, seen, |x, t, next| heun_step(x, t, next, &denoise)),
        Solver::Midpoint => walk(&times, x, seen, |x, t, next| midpoint_step(x, t, next, &denoise)),
        Solver::DpmSolver => walk(&times, x, seen, dpm_solver_step(process, &denoise)),
    };
    state.into_inner().2.map(|()| x)
}

/// A sample on its way.
#[derive(Clone, Debug)]
pub struct Waypoint {
    /// The time.
    pub time: f64,
    /// Rows of x at that time.
    pub x: Vec<f64>,
    /// Rows of the denoised D(x).
    pub denoised: Vec<f64>,
}

/// What Heun's solver passes through: the state at each time but the last. Arguments as for
/// [`solve`].
pub fn trajectory(
    denoiser: &dyn Denoiser,
    process: &Process,
    steps: usize,
    mut x: Vec<f64>,
    labels: &Labels,
) -> Vec<Waypoint> {
    let times = rounded_times(denoiser, process, steps);
    let denoise = |x: &[f64], t: f64| denoiser.denoise(x, process.level(t), labels);
    let mut way = Vec::new();
    for w in times.windows(2) {
        way.push(Waypoint { time: w[0], denoised: denoise(&x, w[0]), x: x.clone() });
        x = heun_step(x, w[0], w[1], &denoise);
    }
    way
}

/// The process's times, at levels that the teacher knows.
pub(crate) fn rounded_times(denoiser: &dyn Denoiser, process: &Process, steps: usize) -> Vec<f64> {
    let times = process.times(steps);
    match process {
        Process::Flow => times,
        Process::Diffusion { .. } => times.into_iter().map(|t| denoiser.round_sigma(t)).collect(),
    }
}

/// How much noise the stochastic sampler adds again in each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Churn {
    /// S_churn: the noise level is raised by S_churn / steps of itself before each step (by at most
    /// sqrt(2) - 1); 0 for none.
    pub churn: f64,
    /// S_tmin, the least noise level at which it is added.
    pub min: f64,
    /// S_tmax, the largest noise level at which it is added.
    pub max: f64,
    /// S_noise, the standard deviation of what is added, relative to the rise: 1 or a little above.
    pub noise: f64,
}

/// Samples by Karras et al.'s stochastic sampler (arXiv:2206.00364, algorithm 2), on a diffusion
/// process. Arguments as for [`solve`]; `seeds` holds one a row, and a row's noise depends on its
/// seed alone.
pub fn solve_stochastic(
    denoiser: &dyn Denoiser,
    process: &Process,
    churn: Churn,
    steps: usize,
    mut x: Vec<f64>,
    labels: &Labels,
    seeds: &[u64],
) -> Vec<f64> {
    let times = rounded_times(denoiser, process, steps);
    let dim = denoiser.dim();
    let denoise = |x: &[f64], t: f64| denoiser.denoise(x, process.level(t), labels);
    for (i, w) in times.windows(2).enumerate() {
        let (t, t_next) = (w[0], w[1]);
        let more =
            if (churn.min..=churn.max).contains(&t) { churn.churn / steps as f64 } else { 0.0 };
        let t_hat = denoiser.round_sigma(t * (1.0 + more.min(2f64.sqrt() - 1.0)));
        let std = (t_hat * t_hat - t * t).max(0.0).sqrt() * churn.noise;
        if std > 0.0 {
            for (row, seed) in x.chunks_mut(dim).zip(seeds) {
                let noise =
                    kdm_random::normal_vec(kdm_random::derive_seed(*seed, CHURN + i as u64), dim);
                row.iter_mut().zip(noise).for_each(|(x, e)| *x += std * f64::from(e));
            }
        }
        x = heun_step(x, t_hat.max(t), t_next, &denoise);
    }
    x
}

/// Streams of a seed that churn is drawn from begin here; those before are taken.
const CHURN: u64 = 1 << 20;

/// Makes `step` from x at each time to the next, and shows `seen` each state but the last.
fn walk(
    times: &[f64],
    mut x: Vec<f64>,
    seen: &mut Seen,
    mut step: impl FnMut(Vec<f64>, f64, f64) -> Vec<f64>,
) -> Vec<f64> {
    for (i, w) in times.windows(2).enumerate() {
        x = step(x, w[0], w[1]);
        if i + 2 < times.len() {
            seen(i + 1, &x);
        }
    }
    x
}

/// x + (t_next - t) (x - d) / t
fn step(x: &[f64], d: &[f64], t: f64, t_next: f64) -> Vec<f64> {
    let h = (t_next - t) / t;
    x.iter().zip(d).map(|(x, d)| x + h * (x - d)).collect()
}

/// One step, by the mean of the slopes at its ends; by the first slope alone where it ends at 0.
fn heun_step(
    mut x: Vec<f64>,
    t: f64,
    t_next: f64,
    denoise: &impl Fn(&[f64], f64) -> Vec<f64>,
) -> Vec<f64> {
    let d = denoise(&x, t);
    let ahead = step(&x, &d, t, t_next);
    if t_next == 0.0 {
        return ahead;
    }
    let d_ahead = denoise(&ahead, t_next);
    for (i, x) in x.iter_mut().enumerate() {
        let slope = (*x - d[i]) / t;
        let slope_ahead = (ahead[i] - d_ahead[i]) / t_next;
        *x += (t_next - t) * 0.5 * (slope + slope_ahead);
    }
    x
}

/// One step, by the slope at its middle.
fn midpoint_step(
    mut x: Vec<f64>,
    t: f64,
    t_next: f64,
    denoise: &impl Fn(&[f64], f64) -> Vec<f64>,
) -> Vec<f64> {
    let half = 0.5 * (t + t_next);
    let middle = step(&x, &denoise(&x, t), t, half);
    let d = denoise(&middle, half);
    for (i, x) in x.iter_mut().enumerate() {
        *x += (t_next - t) * (middle[i] - d[i]) / half;
    }
    x
}

/// In lambda = ln(alpha / sigma): x' = (sigma'/sigma) x + (alpha' - alpha sigma'/sigma) d, with d
/// extrapolated from this and the last evaluation. First order in the first and the last step.
fn dpm_solver_step<D: Fn(&[f64], f64) -> Vec<f64>>(
    process: &Process,
    denoise: &D,
) -> impl FnMut(Vec<f64>, f64, f64) -> Vec<f64> {
    let lambda = |t: f64| {
        let level = process.level(t);
        (level.alpha / level.sigma).ln()
    };
    let mut last: Option<(Vec<f64>, f64)> = None;
    move |mut x, t, t_next| {
        let (now, next) = (process.level(t), process.level(t_next));
        let d = denoise(&x, t);
        let h = lambda(t_next) - lambda(t);
        let weight = match &last {
            Some((_, h_last)) if next.sigma > 0.0 && h_last.is_finite() => h / (2.0 * h_last),
            _ => 0.0,
        };
        let ratio = next.sigma / now.sigma;
        let scale = next.alpha - now.alpha * ratio;
        for (i, x) in x.iter_mut().enumerate() {
            let before = last.as_ref().map_or(d[i], |(d, _)| d[i]);
            *x = ratio * *x + scale * (d[i] + weight * (d[i] - before));
        }
        last = Some((d, h));
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Gaussian;

    fn error(process: Process, solver: Solver, steps: usize) -> f64 {
        let g = Gaussian::new(vec![0.3, -0.2], vec![vec![0.5, 0.2], vec![0.2, 0.3]]).unwrap();
        let start: Vec<f64> =
            [0.9, -1.1, 0.2, 0.7].iter().map(|e| e * process.noise_std()).collect();
        let exact = g.flow(&start, process.level(process.times(1)[0]));
        let found = solve(&g, &process, solver, steps, start, &Labels::none(2));
        found.iter().zip(&exact).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
    }

    /// A watched solver asks before each evaluation, and makes none after it was told to stop.
    #[test]
    fn a_solver_is_watched() {
        let g = Gaussian::new(vec![0.3], vec![vec![0.25]]).unwrap();
        for solver in [Solver::Euler, Solver::Heun, Solver::Midpoint, Solver::DpmSolver] {
            let solve_to = |most: usize| {
                let mut asked = Vec::new();
                let mut watch = |made| {
                    asked.push(made);
                    if made < most { Ok(()) } else { Err(Stopped) }
                };
                let (x, none) = (vec![0.7], Labels::none(1));
                let found = solve_watched(&g, &Process::Flow, (solver, 6), x, &none, &mut watch);
                (found, asked)
            };
            let evaluations = solver.evaluations(6);
            let (found, asked) = solve_to(usize::MAX);
            assert_eq!(asked, (0..evaluations).collect::<Vec<_>>());
            let plain = solve(&g, &Process::Flow, solver, 6, vec![0.7], &Labels::none(1));
            assert_eq!(found, Ok(plain));
            let (found, asked) = solve_to(3);
            assert_eq!((found, asked), (Err(Stopped), vec![0, 1, 2, 3]));
        }
    }

    /// The slope of log error over log steps against the closed-form flow of a Gaussian, between
    /// 256 and 1024 steps. On the flow-matching path all times are smooth. Heun and DPM-Solver++
    /// are of first order in their last step, whose length falls with the others: its contribution
    /// is of second order too.
    #[test]
    fn orders_of_convergence() {
        for (solver, order) in [(Solver::Euler, 1.0), (Solver::Heun, 2.0), (Solver::DpmSolver, 2.0)]
        {
            let (coarse, fine) =
                (error(Process::Flow, solver, 256), error(Process::Flow, solver, 1024));
            let slope = (coarse / fine).ln() / 4f64.ln();
            assert!(
                (slope - order).abs() < 0.2,
                "{solver:?}: slope {slope}, errors {coarse:e} {fine:e}"
            );
        }
    }

    /// The way begins at the noise, follows the exact flow, and its last denoised sample is the
    /// solver's.
    #[test]
    fn trajectories_lead_to_the_sample() {
        let g = Gaussian::new(vec![0.3, -0.2], vec![vec![0.5, 0.2], vec![0.2, 0.3]]).unwrap();
        let process = Process::Diffusion { sigma_min: 1e-3, sigma_max: 10.0, rho: 7.0 };
        let (start, none) = (vec![9.0, -11.0, 2.0, 7.0], Labels::none(2));
        let way = trajectory(&g, &process, 200, start.clone(), &none);
        assert_eq!((way.len(), &way[0].x), (200, &start));
        assert!((way[0].time - 10.0).abs() < 1e-9);
        assert_eq!(way[199].denoised, solve(&g, &process, Solver::Heun, 200, start.clone(), &none));
        let end = g.flow(&start, process.level(10.0));
        for point in &way {
            let off = g.flow(&point.x, process.level(point.time));
            assert!(
                off.iter().zip(&end).all(|(a, b)| (a - b).abs() < 1e-3),
                "{off:?} {end:?} at {}",
                point.time
            );
        }
    }

    /// For a Gaussian third order is seen here, on either process.
    #[test]
    fn midpoint_is_of_second_order_at_least() {
        let (coarse, fine) = (
            error(Process::Flow, Solver::Midpoint, 64),
            error(Process::Flow, Solver::Midpoint, 256),
        );
        let slope = (coarse / fine).ln() / 4f64.ln();
        assert!(slope > 1.75, "slope {slope}, errors {coarse:e} {fine:e}");
    }

    /// With EDM's levels: the last step, from sigma_min, leaves an error of the size of sigma_min^2
    /// whatever the number of steps, so the slope is taken well above it.
    #[test]
    fn orders_of_convergence_on_diffusion_times() {
        let process = Process::Diffusion { sigma_min: 1e-4, sigma_max: 10.0, rho: 7.0 };
        for (solver, order) in [(Solver::Euler, 1.0), (Solver::Heun, 2.0), (Solver::DpmSolver, 2.0)]
        {
            let (coarse, fine) = (error(process, solver, 32), error(process, solver, 128));
            let slope = (coarse / fine).ln() / 4f64.ln();
            assert!(
                (slope - order).abs() < 0.3,
                "{solver:?}: slope {slope}, errors {coarse:e} {fine:e}"
            );
        }
    }

    /// Without churn the stochastic sampler is Heun's. With it, samples of a Gaussian keep its
    /// variance, and a sample depends on its own seed alone.
    #[test]
    fn churn_keeps_the_distribution() {
        let g = Gaussian::new(vec![0.3], vec![vec![0.25]]).unwrap();
        let process = Process::EDM;
        let n = 20_000;
        let x: Vec<f64> =
            kdm_random::normal_vec(1, n).into_iter().map(|e| 80.0 * f64::from(e)).collect();
        let seeds: Vec<u64> = (0..n as u64).collect();
        let churn = |churn| Churn { churn, min: 0.05, max: 50.0, noise: 1.0 };
        let (some, none) = (x[..50].to_vec(), Labels::none);
        let plain = solve_stochastic(&g, &process, churn(0.0), 18, some.clone(), &none(50), &seeds);
        assert_eq!(plain, solve(&g, &process, Solver::Heun, 18, some, &none(50)));
        let all = solve_stochastic(&g, &process, churn(40.0), 64, x.clone(), &none(n), &seeds);
        let one = solve_stochastic(&g, &process, churn(40.0), 64, vec![x[77]], &none(1), &[77]);
        assert_eq!(one[0], all[77]);
        let mean = all.iter().sum::<f64>() / n as f64;
        let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        // Five standard errors (0.0035 for the mean, 0.0025 for the variance), and the solver's own
        // 1%.
        assert!((mean - 0.3).abs() < 0.018 && (variance - 0.25).abs() < 0.015, "{mean} {variance}");
    }

    #[test]
    fn one_step_gives_the_posterior_mean() {
        let g = Gaussian::new(vec![0.3, -0.2], vec![vec![0.5, 0.0], vec![0.0, 0.3]]).unwrap();
        for solver in [Solver::Euler, Solver::Heun, Solver::DpmSolver] {
            let x = solve(&g, &Process::Flow, solver, 1, vec![0.5, 0.5], &Labels::none(1));
            assert!((x[0] - 0.3).abs() < 1e-12 && (x[1] + 0.2).abs() < 1e-12);
        }
    }
}
