//! Directions of a student's latent space along which samples can be moved: the modes of its
//! operator, the principal directions of its latents, and from class to class.

use kdm_analysis::modes::largest_first;
use kdm_analysis::{Modes, Principal};
use kdm_data::Samples;
use kdm_koopman::Stepwise;
use kdm_koopman::editing::{self, deviation_along, difference};
use kdm_observer::Observer;
use serde::Serialize;

use crate::student::LoadedStudent;
use crate::{Failure, Outcome};

/// Samples that directions are taken from; their seeds come after all that are likely to be asked
/// for.
const SAMPLES: u64 = 512;
const FIRST_SEED: u64 = 2_000_000_000;

/// One mode of an operator, as it shows on latents of the student.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RankedMode {
    /// From 1: 1 carries most on real latents.
    pub rank: usize,
    /// Real part of the eigenvalue.
    pub re: f64,
    /// Its imaginary part; of a pair of conjugate ones, the positive one.
    pub im: f64,
    /// What it carries: the deviation of its contribution to pushed latents, in their units.
    pub amplitude: f64,
}

/// One principal direction of pushed latents.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RankedDirection {
    /// From 1: latents vary most along 1.
    pub rank: usize,
    /// Their standard deviation along it.
    pub deviation: f64,
    /// Its share of their variance.
    pub share: f64,
}

/// Latents of some samples of a student, which directions are taken from.
#[derive(Debug)]
pub struct ReferenceLatents {
    /// z_T = E_T(x_T), `[N, n]`.
    encoded: Vec<f32>,
    /// z^_0 = C z_T + B y, `[N, n]`.
    pushed: Vec<f32>,
}

impl ReferenceLatents {
    /// Of the noise and classes of 512 seeds.
    ///
    /// # Errors
    /// When it is a direct student, or the observer stops the work.
    pub fn of(student: &LoadedStudent, observer: &dyn Observer) -> Outcome<Self> {
        let (parts, Samples { noise, labels, .. }) = (student.stepwise()?, samples(student));
        let encoded =
            parts.observed("latents", &noise, &labels, observer, Stepwise::encode_noise)?;
        let pushed = parts.push(&encoded, &labels);
        Ok(Self { encoded, pushed })
    }
}

/// Noise with classes that directions are taken from.
fn samples(student: &LoadedStudent) -> Samples {
    student.draw_noise(&(FIRST_SEED..FIRST_SEED + SAMPLES).collect::<Vec<u64>>())
}

/// The modes of a student's operator as directions.
#[derive(Debug)]
pub struct ModeDirections {
    modes: Modes,
    /// The modes' places, the one that carries most first.
    ranked: Vec<usize>,
    amplitudes: Vec<f64>,
    pushed: Vec<f32>,
}

impl ModeDirections {
    /// Those of a student: 25 n^3 operations or so for n latents.
    ///
    /// # Errors
    /// When it is a direct student, or its operator can't be split into modes.
    pub fn of(student: &LoadedStudent, latents: &ReferenceLatents) -> Outcome<Self> {
        let modes = Modes::of(&student.koopman()?.operator.matrix_in_reach()?)?;
        let amplitudes = modes.amplitudes(&latents.encoded);
        let ranked = largest_first(&amplitudes);
        Ok(Self { modes, ranked, amplitudes, pushed: latents.pushed.clone() })
    }

    /// All modes, the one that carries most first.
    pub fn ranked(&self) -> Vec<RankedMode> {
        let mode = |(i, place): (usize, &usize)| {
            let (re, im) = self.modes.modes()[*place].eigenvalue;
            RankedMode { rank: i + 1, re, im, amplitude: self.amplitudes[*place] }
        };
        self.ranked.iter().enumerate().map(mode).collect()
    }

    /// The direction of the mode of this rank, `[n]`, as long as pushed latents deviate along it.
    ///
    /// # Errors
    /// When there is no such mode; the text begins with `flag`.
    pub fn direction(&self, rank: usize, flag: &str) -> Outcome<Vec<f64>> {
        let Some(place) = rank.checked_sub(1).and_then(|rank| self.ranked.get(rank)) else {
            let most = self.ranked.len();
            return Err(Failure::Usage(format!(
                "{flag} {rank}: the operator has modes 1 to {most}"
            )));
        };
        let direction = self.modes.direction(&self.modes.modes()[*place], 0.0);
        let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
        let deviation = deviation_along(&self.pushed, &direction);
        Ok(direction.into_iter().map(|x| x * deviation / length).collect())
    }
}

/// The principal directions of a student's pushed latents.
#[derive(Debug)]
pub struct PrincipalDirections(Principal);

impl PrincipalDirections {
    /// Those of a student: 10 n^3 operations or so for n latents.
    ///
    /// # Errors
    /// When it is a direct student, or values are not finite.
    pub fn of(student: &LoadedStudent, latents: &ReferenceLatents) -> Outcome<Self> {
        let affine = student.koopman()?.operator.matrix_in_reach()?;
        Ok(Self(Principal::of(&affine, &latents.encoded)?))
    }

    /// All of them, the one of most variance first.
    pub fn ranked(&self) -> Vec<RankedDirection> {
        let sum = self.0.variances.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let direction = |(i, variance): (usize, &f64)| RankedDirection {
            rank: i + 1,
            deviation: variance.sqrt(),
            share: variance / sum,
        };
        self.0.variances.iter().enumerate().map(direction).collect()
    }

    /// The direction of this rank, `[n]`, as long as pushed latents deviate along it.
    ///
    /// # Errors
    /// When there is no such direction; the text begins with `flag`.
    pub fn direction(&self, rank: usize, flag: &str) -> Outcome<Vec<f64>> {
        let most = self.0.variances.len();
        if !(1..=most).contains(&rank) {
            let problem = format!("there are principal directions 1 to {most}");
            return Err(Failure::Usage(format!("{flag} {rank}: {problem}")));
        }
        let deviation = self.0.variances[rank - 1].sqrt();
        Ok(self.0.direction(rank - 1).into_iter().map(|x| x * deviation).collect())
    }
}

/// The direction from one class to another, `[n]`, as long as their mean pushed latents are apart.
///
/// # Errors
/// When the student lacks one of the classes, they are one class, or the observer stops the work.
pub fn between_classes(
    student: &LoadedStudent,
    (from, to): (u32, u32),
    observer: &dyn Observer,
) -> Outcome<Vec<f64>> {
    student.check_class(from, "--from-class")?;
    student.check_class(to, "--to-class")?;
    if from == to {
        return Err(Failure::Usage(format!(
            "--from-class {from} --to-class {to}: there is no way from a class to itself; give two \
             classes"
        )));
    }
    let [from, to] = [from, to].map(|class| class_mean(student, class, observer));
    Ok(difference(&from?, &to?))
}

/// The mean of pushed latents of a class, `[n]`: of the same noise for every class.
///
/// # Errors
/// When the student lacks the class, or the observer stops the work.
pub fn class_mean(
    student: &LoadedStudent,
    class: u32,
    observer: &dyn Observer,
) -> Outcome<Vec<f64>> {
    Ok(editing::class_mean(student.stepwise()?, &samples(student).noise, class, observer)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;
    use kdm_observer::Silent;

    /// Directions of the student that ships are as long as its latents deviate along them, and
    /// carry less from rank to rank.
    #[test]
    fn directions_are_ranked_by_what_they_carry() {
        let runtime = Runtime::cpu();
        let student = LoadedStudent::open("fashion-mnist".as_ref(), runtime.device()).unwrap();
        let latents = ReferenceLatents::of(&student, &Silent).unwrap();
        let modes = ModeDirections::of(&student, &latents).unwrap();
        let ranked = modes.ranked();
        assert!(ranked.windows(2).all(|two| two[0].amplitude >= two[1].amplitude));
        let first = modes.direction(1, "mode").unwrap();
        let length = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>().sqrt();
        let deviation = deviation_along(&latents.pushed, &first);
        assert!((length(&first) / deviation - 1.0).abs() < 1e-9);
        assert!(modes.direction(ranked.len() + 1, "mode").is_err());
        assert!(modes.direction(0, "mode").is_err());

        let principal = PrincipalDirections::of(&student, &latents).unwrap();
        let ranked = principal.ranked();
        assert!(ranked.windows(2).all(|two| two[0].deviation >= two[1].deviation));
        assert!((ranked.iter().map(|d| d.share).sum::<f64>() - 1.0).abs() < 1e-9);
        let first = principal.direction(1, "principal").unwrap();
        assert!((length(&first) / ranked[0].deviation - 1.0).abs() < 1e-9);
        // No direction has latents that deviate more than along the first, but for the control's
        // part, which principal directions leave aside.
        let second = principal.direction(2, "principal").unwrap();
        let dot = first.iter().zip(&second).map(|(a, b)| a * b).sum::<f64>();
        assert!(dot.abs() < 1e-9 * length(&first) * length(&second));
        assert!(principal.direction(ranked.len() + 1, "principal").is_err());
    }
}
