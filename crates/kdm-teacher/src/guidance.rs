//! Classifier-free guidance (Ho and Salimans, arXiv:2207.12598): the conditional denoiser,
//! extrapolated away from the unconditional one.

use kdm_data::Labels;

use crate::denoiser::unlabelled;
use crate::{Denoiser, Level};

/// D = D(x; any class) + weight (D(x; class) - D(x; any class)), eq. 6 with weight = 1 + w. Weight
/// 1 is the teacher itself; above 1, samples are more typical of their class. Where no sample has a
/// class, it is the teacher itself too.
#[derive(Clone, Copy)]
pub struct Guided<'a> {
    /// A conditional teacher, trained with labels left out at times.
    pub denoiser: &'a dyn Denoiser,
    /// The guidance weight.
    pub weight: f64,
}

impl std::fmt::Debug for Guided<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Guided {{ weight: {} }}", self.weight)
    }
}

impl Denoiser for Guided<'_> {
    fn shape(&self) -> Vec<usize> {
        self.denoiser.shape()
    }

    fn label_dim(&self) -> usize {
        self.denoiser.label_dim()
    }

    fn sigma_range(&self) -> (f64, f64) {
        self.denoiser.sigma_range()
    }

    fn round_sigma(&self, sigma: f64) -> f64 {
        self.denoiser.round_sigma(sigma)
    }

    fn denoise(&self, x: &[f64], level: Level, labels: &Labels) -> Vec<f64> {
        let conditional = self.denoiser.denoise(x, level, labels);
        if self.weight == 1.0 || unlabelled(labels) {
            return conditional;
        }
        let any = self.denoiser.denoise(x, level, &Labels::none(labels.len()));
        any.iter().zip(conditional).map(|(any, class)| any + self.weight * (class - any)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Teacher;
    use crate::distributions::DistributionConfig;

    #[test]
    fn guidance_lies_on_the_line_through_both_answers() {
        let teacher =
            Teacher::exact(DistributionConfig::Checkerboard { conditional: true }).unwrap();
        let (x, level) = ([0.7, -1.3], Level { alpha: 1.0, sigma: 1.5 });
        let (labels, none) = (Labels::all(3, 1), Labels::none(1));
        let guided = |weight| Guided { denoiser: &teacher, weight }.denoise(&x, level, &labels);
        assert_eq!(guided(1.0), teacher.denoise(&x, level, &labels));
        assert_eq!(guided(0.0), teacher.denoise(&x, level, &none));
        let unlabelled = Guided { denoiser: &teacher, weight: 3.0 }.denoise(&x, level, &none);
        assert_eq!(unlabelled, teacher.denoise(&x, level, &none));
        for i in 0..2 {
            let expected = 3.0 * guided(1.0)[i] - 2.0 * guided(0.0)[i];
            assert!((guided(3.0)[i] - expected).abs() < 1e-12);
        }
    }
}
