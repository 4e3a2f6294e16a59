//! The interface of all teachers.

use kdm_data::Labels;

/// How much of a noisy sample is signal and how much is noise: x = alpha x_0 + sigma e, with e
/// standard normal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// Factor of the clean sample, at least 0.
    pub alpha: f64,
    /// Standard deviation of the noise, at least 0. Not both are 0.
    pub sigma: f64,
}

/// A teacher: the posterior mean of the clean sample.
///
/// Samples are rows of [`Denoiser::dim`] f64 values: a solver's state is f64 whatever a network
/// computes in. Each row's result depends on that row alone, to the bit, so that a pair doesn't
/// depend on the batch it was drawn in.
///
/// ```
/// use kdm_data::Labels;
/// use kdm_teacher::{Checkerboard, Denoiser, Level};
///
/// let board = Checkerboard::new(true);
/// // Nearly clean, the point stays where it is, if it lies on the square of its class.
/// let (x, level) = ([1.0, 1.0], Level { alpha: 1.0, sigma: 0.01 });
/// let square = Checkerboard::square_of(&x).unwrap() as u32;
/// let denoised = board.denoise(&x, level, &Labels::all(square, 1));
/// assert!((denoised[0] - 1.0).abs() < 1e-6);
/// // In pure noise the mean of all squares is left: the centre of the board.
/// let denoised = board.denoise(&x, Level { alpha: 0.0, sigma: 1.0 }, &Labels::none(1));
/// assert!(denoised[0].abs() < 1e-6);
/// ```
pub trait Denoiser: Send + Sync {
    /// Shape of one sample: `[D]` for points, `[C, H, W]` for images.
    fn shape(&self) -> Vec<usize>;

    /// Classes; 0 for an unconditional teacher.
    fn label_dim(&self) -> usize {
        0
    }

    /// E[x_0 | alpha x_0 + sigma e = x], row by row: `x` and the result hold rows of
    /// [`Self::dim`] values. `labels` has one label a row; without a class, or with one that the
    /// teacher doesn't know ([`Self::label_dim`] or more), the mean is over all classes.
    fn denoise(&self, x: &[f64], level: Level, labels: &Labels) -> Vec<f64>;

    /// The least and the largest noise level (at alpha 1) that the teacher knows.
    fn sigma_range(&self) -> (f64, f64) {
        (0.0, f64::INFINITY)
    }

    /// The nearest noise level that a teacher of discrete levels knows; `sigma` itself for the
    /// others.
    fn round_sigma(&self, sigma: f64) -> f64 {
        sigma
    }

    /// Values of a sample.
    fn dim(&self) -> usize {
        self.shape().iter().product()
    }
}

/// Whether no sample has a class.
pub(crate) fn unlabelled(labels: &Labels) -> bool {
    labels.iter().all(|class| class.is_none())
}

/// The class of row `row` among `label_dim` classes; none for a row without one.
pub(crate) fn known_class(labels: &Labels, label_dim: usize, row: usize) -> Option<usize> {
    labels.class(row).map(|class| class as usize).filter(|class| *class < label_dim)
}

/// Rows of `dim` values mapped in parallel: `each` gets the row's number, the row, and where its
/// result goes.
pub(crate) fn map_rows(
    x: &[f64],
    dim: usize,
    each: impl Fn(usize, &[f64], &mut [f64]) + Sync,
) -> Vec<f64> {
    use rayon::prelude::*;
    let mut out = vec![0.0; x.len()];
    out.par_chunks_mut(dim)
        .zip(x.par_chunks(dim))
        .enumerate()
        .with_min_len(64)
        .for_each(|(row, (out, x))| each(row, x, out));
    out
}
