//! Which states of a solution are kept beside noise and image.

use kdm_data::pairs::StateTime;
use kdm_nn::Problem;

use crate::solver::rounded_times;
use crate::{Denoiser, Process};

/// A state that a solver passes through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeptState {
    /// Steps of the solver before it, from 1.
    pub step: usize,
    /// When it is.
    pub time: StateTime,
}

/// When a state is that lies at the process's time `t`.
pub fn state_time(process: &Process, t: f64) -> StateTime {
    let level = process.level(t);
    StateTime { tau: process.tau(t), alpha: level.alpha, sigma: level.sigma }
}

/// `count` states of a solution of `steps` steps, as evenly over the steps as there are any: those
/// that lie between noise and image, so that the last steps of a diffusion, from its smallest noise
/// level on, don't count.
///
/// # Errors
/// When there are fewer.
pub fn kept_states(
    denoiser: &dyn Denoiser,
    process: &Process,
    steps: usize,
    count: usize,
) -> Result<Vec<KeptState>, Problem> {
    let times = rounded_times(denoiser, process, steps);
    let state = |step: usize| KeptState { step, time: state_time(process, times[step]) };
    let mut between: Vec<KeptState> =
        (1..steps).map(state).filter(|s| s.time.tau > 0.0 && s.time.tau < 1.0).collect();
    between.dedup_by(|next, last| next.time.tau <= last.time.tau);
    let there = between.len();
    if count > there {
        let problem = format!(
            "is {count}, and {steps} steps of the solver have {there} states between noise and \
             image"
        );
        return Err(Problem::new("states", problem));
    }
    let place = |j: usize| {
        let even = (j + 1) as f64 * (there + 1) as f64 / (count + 1) as f64;
        between[even.round() as usize - 1]
    };
    Ok((0..count).map(place).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gaussian, Solver, solve, solver::solve_through};
    use kdm_data::Labels;

    fn gaussian() -> Gaussian {
        Gaussian::new(vec![0.3], vec![vec![0.25]]).unwrap()
    }

    /// As many as are asked for, each later than the one before; the smallest noise level is no
    /// state between.
    #[test]
    fn states_lie_evenly_between_noise_and_image() {
        let g = gaussian();
        let kept = |process: &Process, steps, count| kept_states(&g, process, steps, count);
        for (process, most) in [(Process::Flow, 9), (Process::EDM, 8)] {
            for count in 0..=most {
                let found = kept(&process, 10, count).unwrap();
                assert_eq!(found.len(), count);
                assert!(found.is_sorted_by(|a, b| a.time.tau < b.time.tau && a.step < b.step));
            }
            let problem = kept(&process, 10, most + 1).unwrap_err();
            assert!(problem.problem.contains(&format!("have {most} states")), "{problem:?}");
        }
        let middle = kept(&Process::Flow, 10, 1).unwrap()[0];
        assert_eq!((middle.step, middle.time), (5, StateTime::straight(0.5, 1.0)));
    }

    /// Every solver shows its states: going on from one of Euler's or the midpoint rule's, the rest
    /// of the way ends in the same sample; and showing them changes nothing.
    #[test]
    fn solvers_show_their_states() {
        let (g, none) = (gaussian(), Labels::none(1));
        for solver in [Solver::Euler, Solver::Heun, Solver::Midpoint, Solver::DpmSolver] {
            let mut states = Vec::new();
            let mut seen = |step: usize, x: &[f64]| states.push((step, x[0]));
            let way = (solver, 200);
            let process = Process::Flow;
            let watch = &mut |_| Ok(());
            let end = solve_through(&g, &process, way, vec![0.7], &none, watch, &mut seen).unwrap();
            assert_eq!(end, solve(&g, &process, solver, 200, vec![0.7], &none));
            assert_eq!(
                states.iter().map(|s| s.0).collect::<Vec<_>>(),
                (1..200).collect::<Vec<_>>()
            );
            // The exact flow from a state ends where the exact flow from the noise does.
            let exact = g.flow(&[0.7], process.level(1.0))[0];
            for (step, x) in states.iter().step_by(40) {
                let from = g.flow(&[*x], process.level(1.0 - *step as f64 / 200.0))[0];
                // Euler's error at 200 steps, of the order of a step's length.
                assert!((from - exact).abs() < 1e-2, "{solver:?} {step}: {from} {exact}");
            }
        }
    }
}
