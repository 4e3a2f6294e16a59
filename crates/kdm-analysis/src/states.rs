//! States between noise and image: what a student decodes on the way from the noise, beside the
//! states that its teacher passes through from the same noise.

use kdm_data::Samples;
use kdm_data::pairs::{StateTime, scaled_states};
use kdm_koopman::Stepwise;
use kdm_koopman::operator::Generator;
use serde::Serialize;

use crate::trajectory::SAMPLES;
use crate::{Error, Modes, Result};

/// Times that are looked at, at most.
pub const STATE_TIMES: usize = 8;
/// Samples whose states are compared, at most.
pub const STATE_SAMPLES: usize = 256;

/// A teacher's states of the first samples.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownStates {
    /// When they are, from noise to image.
    pub times: Vec<StateTime>,
    /// At each time rows of x_s over its scale sqrt(alpha^2 + sigma^2): where data and noise have
    /// deviation 1, states have it at every time.
    pub states: Vec<Vec<f32>>,
}

impl KnownStates {
    /// [`STATE_TIMES`] of the states that `samples` carry at `times`, as evenly as there are any,
    /// of the first [`STATE_SAMPLES`] samples. None where they carry none.
    pub fn of(samples: &Samples, times: &[StateTime]) -> Option<Self> {
        let few = samples.first(STATE_SAMPLES);
        let (dim, count) = (few.dim(), times.len());
        if count == 0 || few.states.len() != few.len() * dim * count {
            return None;
        }
        let most = count.min(STATE_TIMES);
        let places: Vec<usize> = (0..most).map(|i| (2 * i + 1) * count / (2 * most)).collect();
        let states = places.iter().map(|place| scaled_states(&few, times, |_| *place)).collect();
        Some(Self { times: places.iter().map(|place| times[*place]).collect(), states })
    }
}

/// How a student passes from noise to image, beside its teacher.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatePath {
    /// Samples whose states were compared.
    pub samples: usize,
    /// Time by time, from noise to image.
    pub times: Vec<StateDistance>,
    /// At each time the decoded states of the first [`SAMPLES`] samples.
    #[serde(skip)]
    pub decoded: Vec<Vec<f32>>,
    /// At each time the teacher's.
    #[serde(skip)]
    pub teacher: Vec<Vec<f32>>,
}

/// Distances to the teacher's states at a time, as root mean square errors of a coordinate over the
/// states' scale.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StateDistance {
    /// Normalised time, 0 at noise and 1 at the image.
    pub tau: f64,
    /// Of what the student decodes: D(C(T -> s) z_T, s) of a generator, D(C^tau z_T) of another
    /// operator.
    pub decoded: f64,
    /// Of a straight line, alpha x_0 + sigma e, between the noise e and the student's sample x_0.
    pub straight: f64,
    /// Of a generator: the image decoded from the teacher's state, D(C(s -> 0) E_T(x_s, s)), to
    /// that decoded from the noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<f64>,
}

/// A generator's coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// -Re mu: the coordinate shrinks by exp(-rate) from noise to image.
    pub rate: f64,
    /// Im mu / 2 pi: turns from noise to image.
    pub turns: f64,
}

/// A generator's rates, the slowest first.
pub fn rates(generator: &Generator) -> Vec<Rate> {
    let rate = |mu: (f64, f64)| Rate { rate: -mu.0, turns: mu.1 / std::f64::consts::TAU };
    let mut all: Vec<Rate> = generator.mu().into_iter().map(rate).collect();
    all.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    all
}

/// The student's way from the noise of the first of `samples` beside the teacher's.
///
/// # Errors
/// When the states are of other samples.
pub(crate) fn state_path(
    stepwise: Stepwise,
    modes: Option<&Modes>,
    samples: &Samples,
    known: &KnownStates,
) -> Result<Option<StatePath>> {
    let dim = samples.dim();
    let rows = known.states.first().map_or(0, |rows| rows.len() / dim);
    Error::check_length("states at the teacher's times", known.times.len(), known.states.len())?;
    for states in &known.states {
        Error::check_length("states of the teacher", rows * dim, states.len())?;
    }
    let few = samples.first(rows);
    Error::check_length("samples with states", rows, few.len())?;
    let labels = &few.labels;
    let latents = stepwise.encode_noise(&few.noise, labels);
    let drawn = stepwise.decode(&stepwise.push(&latents, labels), labels);
    let (shift, noise_std) = (stepwise.control(labels), stepwise.config.noise_std);
    let decode = |tau: f64| match stepwise.advance(&latents, labels, tau as f32) {
        Some(arrived) => Some(stepwise.decode_at(&arrived, labels, tau as f32)),
        None => Some(stepwise.decode(&modes?.flow(&latents, &shift, tau), labels)),
    };
    let mut path =
        StatePath { samples: rows, times: Vec::new(), decoded: Vec::new(), teacher: Vec::new() };
    let shown = SAMPLES.min(rows) * dim;
    for (time, states) in known.times.iter().zip(&known.states) {
        let Some(decoded) = decode(time.tau) else { return Ok(None) };
        let (alpha, sigma) = (time.alpha / time.scale(), time.sigma / time.scale() / noise_std);
        let line: Vec<f32> = drawn
            .iter()
            .zip(&few.noise)
            .map(|(x, e)| (alpha * f64::from(*x) + sigma * f64::from(*e)) as f32)
            .collect();
        let loud: Vec<f32> = states.iter().map(|x| x * noise_std as f32).collect();
        let image = stepwise.encode_state(&loud, labels, time.tau as f32).and_then(|z| {
            let pushed = stepwise.advance(&z, labels, 1.0 - time.tau as f32)?;
            Some(coordinate_rmse(&stepwise.decode(&pushed, labels), &drawn))
        });
        path.times.push(StateDistance {
            tau: time.tau,
            decoded: coordinate_rmse(&decoded, states),
            straight: coordinate_rmse(&line, states),
            image,
        });
        path.decoded.push(decoded[..shown].to_vec());
        path.teacher.push(states[..shown].to_vec());
    }
    Ok(Some(path))
}

fn coordinate_rmse(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    (squares.sum::<f64>() / a.len().max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SmallStudent;
    use kdm_koopman::OperatorKind;

    fn with_states(samples: &Samples, times: &[StateTime]) -> Samples {
        let mut samples = samples.clone();
        let mut states = Vec::new();
        for row in samples.noise.chunks(samples.dim()) {
            for time in times {
                states.extend(row.iter().map(|x| x * time.tau as f32));
            }
        }
        samples.states = states;
        samples
    }

    /// Eight of twelve times, each with its own states over their scale.
    #[test]
    fn states_are_chosen_evenly() {
        let small = SmallStudent::new(&[3], 0);
        let times: Vec<StateTime> =
            (1..13).map(|i| StateTime::straight(f64::from(i) / 13.0, 1.0)).collect();
        let samples = with_states(small.subject().samples, &times);
        let known = KnownStates::of(&samples, &times).unwrap();
        assert_eq!((known.times.len(), known.states[0].len()), (8, 3 * 40));
        for (time, states) in known.times.iter().zip(&known.states) {
            let expected = samples.noise[5] * (time.tau / time.scale()) as f32;
            assert!((states[5] - expected).abs() < 1e-6);
        }
        assert!(known.times.is_sorted_by(|a, b| a.tau < b.tau));
        assert!(KnownStates::of(small.subject().samples, &times).is_none());
    }

    /// A generator's own way is at no distance from itself, and at time 1 it is the sample; a dense
    /// operator has no images from states; states of other samples are refused.
    #[test]
    fn a_way_is_compared_with_the_teachers() {
        for classes in [0, 3] {
            let small = SmallStudent::with(&[3], classes, OperatorKind::Generator);
            let subject = small.subject();
            let (stepwise, labels) = (subject.stepwise().unwrap(), &subject.samples.labels);
            let latents = stepwise.encode_noise(&subject.samples.noise, labels);
            let (tau, time) = (0.4f32, StateTime::straight(0.4, 1.0));
            let arrived = stepwise.advance(&latents, labels, tau).unwrap();
            let own = stepwise.decode_at(&arrived, labels, tau);
            let known = KnownStates { times: vec![time], states: vec![own] };
            let found = state_path(stepwise, None, subject.samples, &known).unwrap().unwrap();
            assert!(found.times[0].decoded < 1e-6 && found.times[0].straight > 1e-3);
            assert!(found.times[0].image.is_some() && found.samples == 40);
            assert_eq!(found.decoded[0].len(), SAMPLES * 3);
        }
        let dense = SmallStudent::new(&[3], 0);
        let subject = dense.subject();
        let stepwise = subject.stepwise().unwrap();
        let modes = Modes::of(&stepwise.student.operator.matrix()).unwrap();
        let states = vec![vec![0.0; 3 * 40]];
        let times = vec![StateTime::straight(0.5, 1.0)];
        let known = KnownStates { times, states };
        let path = |known: &KnownStates, modes| state_path(stepwise, modes, subject.samples, known);
        assert!(path(&known, Some(&modes)).unwrap().unwrap().times[0].image.is_none());
        assert!(path(&known, None).unwrap().is_none());
        let many = KnownStates { states: vec![vec![0.0; 3 * 41]], ..known };
        assert!(matches!(path(&many, Some(&modes)), Err(Error::Length { .. })));
    }
}
