//! Halving and doubling maps by a separable filter of even length, channel by channel; each is the
//! other's gradient.

use rayon::prelude::*;

use super::nhwc::Frame;
use super::simd::vectorised;

/// Sizes of a resampling: `small` is about half of `large`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resampling<'a> {
    /// The filter's taps, of sum 1.
    pub taps: &'a [f32],
    pub large: [usize; 2],
    pub small: [usize; 2],
    /// Padded channels.
    pub width: usize,
}

impl Resampling<'_> {
    fn padding(&self) -> usize {
        (self.taps.len() - 1) / 2
    }

    /// out(y) = gain * sum over taps of f f x(2 y + tap - padding): large maps to frames of small
    /// ones.
    pub fn down(&self, gain: f32, maps: &[f32], frame: Frame, out: &mut [f32]) {
        let ([height, width], padding) = (self.large, self.padding());
        self.rows(self.small, frame, out, |image, y, x, out| {
            for (dy, fy) in self.taps.iter().enumerate() {
                let from_y = (2 * y + dy).wrapping_sub(padding);
                for (dx, fx) in self.taps.iter().enumerate() {
                    let from_x = (2 * x + dx).wrapping_sub(padding);
                    if from_y < height && from_x < width {
                        let from = &maps
                            [((image * height + from_y) * width + from_x) * self.width..]
                            [..self.width];
                        let factor = gain * fy * fx;
                        out.iter_mut().zip(from).for_each(|(out, x)| *out += factor * x);
                    }
                }
            }
        });
    }

    /// The transpose of [`Self::down`]: small maps to frames of large ones.
    pub fn up(&self, gain: f32, maps: &[f32], frame: Frame, out: &mut [f32]) {
        let ([height, width], padding) = (self.small, self.padding());
        self.rows(self.large, frame, out, |image, y, x, out| {
            for (dy, fy) in self.taps.iter().enumerate() {
                let from_y = (y + padding).wrapping_sub(dy);
                for (dx, fx) in self.taps.iter().enumerate() {
                    let from_x = (x + padding).wrapping_sub(dx);
                    if from_y % 2 == 0
                        && from_x % 2 == 0
                        && from_y / 2 < height
                        && from_x / 2 < width
                    {
                        let from = &maps
                            [((image * height + from_y / 2) * width + from_x / 2) * self.width..]
                            [..self.width];
                        let factor = gain * fy * fx;
                        out.iter_mut().zip(from).for_each(|(out, x)| *out += factor * x);
                    }
                }
            }
        });
    }

    /// Each pixel of the result, in frames: `each(image, y, x, add to)`.
    fn rows(
        &self,
        [height, width]: [usize; 2],
        frame: Frame,
        out: &mut [f32],
        each: impl Fn(usize, usize, usize, &mut [f32]) + Sync,
    ) {
        debug_assert_eq!((frame.height, frame.width), (height, width));
        let (c, margin) = (self.width, frame.margin());
        out.par_chunks_exact_mut(frame.row() * c).with_min_len(4).enumerate().for_each(
            |(i, row)| {
                row.fill(0.0);
                let (image, y) = (i / frame.rows(), i % frame.rows());
                if y < margin || y >= height + margin {
                    return;
                }
                vectorised(
                    #[inline(always)]
                    || {
                        for (x, out) in
                            row[margin * c..].chunks_exact_mut(c).take(width).enumerate()
                        {
                            each(image, y - margin, x, out);
                        }
                    },
                );
            },
        );
    }
}
