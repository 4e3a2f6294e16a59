//! The interface of all teachers.

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
/// computes in. Each row's answer depends on that row alone, to the bit, so that a pair doesn't
/// depend on the batch it was drawn in.
pub trait Denoiser: Send + Sync {
    /// Shape of one sample: `[D]` for points, `[C, H, W]` for images.
    fn shape(&self) -> Vec<usize>;

    /// Classes; 0 for an unconditional teacher.
    fn label_dim(&self) -> usize {
        0
    }

    /// E[x_0 | alpha x_0 + sigma e = x], row by row. `labels` holds one-hot rows of
    /// [`Denoiser::label_dim`] values, or is empty; a row of zeros, and no labels at all, mean any
    /// class.
    fn denoise(&self, x: &[f64], level: Level, labels: &[f32]) -> Vec<f64>;

    /// The least and the largest noise level (at alpha 1) that the teacher knows.
    fn sigma_range(&self) -> (f64, f64) {
        (0.0, f64::INFINITY)
    }

    /// The nearest noise level that a teacher of discrete levels knows; `sigma` itself for the
    /// others.
    fn round_sigma(&self, sigma: f64) -> f64 {
        sigma
    }

    /// Values a sample.
    fn dim(&self) -> usize {
        self.shape().iter().product()
    }
}

/// The class of row `row` of one-hot `labels`; none for a row of zeros or where there are no
/// labels.
pub(crate) fn class_of(labels: &[f32], label_dim: usize, row: usize) -> Option<usize> {
    let one_hot = labels.get(row * label_dim..(row + 1) * label_dim)?;
    one_hot.iter().position(|x| *x > 0.5)
}

/// Rows of `dim` values mapped in parallel: `each` gets the row's number, the row, and where its
/// answer goes.
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
