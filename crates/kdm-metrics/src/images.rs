//! Likeness of two images of one noise: peak signal-to-noise ratio, and structural similarity (Wang
//! et al., 2004). Images are `[C, H, W]` in [-1, 1]; values beyond are clipped, as when they are
//! written as pictures.

use rayon::prelude::*;

/// Side of the structural similarity's window, a Gaussian of deviation 1.5, in pixels.
pub const WINDOW: usize = 11;
const DEVIATION: f64 = 1.5;
/// The similarity's constants, for images in [0, 1].
const C1: f64 = 0.01 * 0.01;
const C2: f64 = 0.03 * 0.03;

/// In [0, 1].
fn unit(x: f32) -> f64 {
    0.5 * (f64::from(x).clamp(-1.0, 1.0) + 1.0)
}

/// Peak signal-to-noise ratio of images, rows of `dim` values: the mean over images of
/// 10 log10(1 / mean squared error), in dB. Equal images count as 100 dB.
pub fn psnr(a: &[f32], b: &[f32], dim: usize) -> f64 {
    let of = |(a, b): (&[f32], &[f32])| {
        let error =
            a.iter().zip(b).map(|(a, b)| (unit(*a) - unit(*b)).powi(2)).sum::<f64>() / dim as f64;
        -10.0 * error.max(1e-10).log10()
    };
    let all: Vec<f64> = a.par_chunks_exact(dim).zip(b.par_chunks_exact(dim)).map(of).collect();
    all.iter().sum::<f64>() / all.len() as f64
}

/// Mean over images of the structural similarity, 1 for equal ones, over all places where the
/// window fits into the image. `shape` is `[C, H, W]`, with at least [`WINDOW`] pixels a side.
pub fn ssim(a: &[f32], b: &[f32], shape: [usize; 3]) -> f64 {
    let [channels, height, width] = shape;
    assert!(height.min(width) >= WINDOW, "images smaller than the window");
    let weights: Vec<f64> = {
        let raw: Vec<f64> = (0..WINDOW)
            .map(|i| (-0.5 * ((i as f64 - (WINDOW / 2) as f64) / DEVIATION).powi(2)).exp())
            .collect();
        let sum: f64 = raw.iter().sum();
        raw.into_iter().map(|w| w / sum).collect()
    };
    // Rows, then columns; only where the whole window lies inside.
    let blurred = |plane: Vec<f64>| -> Vec<f64> {
        let inner = width - WINDOW + 1;
        let window = |values: &dyn Fn(usize) -> f64| {
            (0..WINDOW).map(|k| weights[k] * values(k)).sum::<f64>()
        };
        let rows: Vec<f64> = (0..height * inner)
            .map(|p| window(&|k| plane[p / inner * width + p % inner + k]))
            .collect();
        (0..(height - WINDOW + 1) * inner).map(|p| window(&|k| rows[p + k * inner])).collect()
    };
    let plane = |(a, b): (&[f32], &[f32])| {
        let (a, b): (Vec<f64>, Vec<f64>) =
            (a.iter().map(|x| unit(*x)).collect(), b.iter().map(|x| unit(*x)).collect());
        let times =
            |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).collect::<Vec<f64>>();
        let (aa, bb, ab) = (blurred(times(&a, &a)), blurred(times(&b, &b)), blurred(times(&a, &b)));
        let (ma, mb) = (blurred(a), blurred(b));
        let at = |i: usize| {
            let (va, vb, cov) =
                (aa[i] - ma[i] * ma[i], bb[i] - mb[i] * mb[i], ab[i] - ma[i] * mb[i]);
            let luminance = (2.0 * ma[i] * mb[i] + C1) / (ma[i] * ma[i] + mb[i] * mb[i] + C1);
            luminance * (2.0 * cov + C2) / (va + vb + C2)
        };
        (0..ma.len()).map(at).sum::<f64>() / ma.len() as f64
    };
    let pixels = height * width;
    let all: Vec<f64> =
        a.par_chunks_exact(pixels).zip(b.par_chunks_exact(pixels)).map(plane).collect();
    debug_assert_eq!(all.len() % channels, 0);
    all.iter().sum::<f64>() / all.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_by_hand() {
        // A difference of 0.2 in [-1, 1] is 0.1 in [0, 1]: 20 dB.
        assert!((psnr(&[0.0; 8], &[0.2; 8], 4) - 20.0).abs() < 1e-6);
        assert_eq!(psnr(&[0.3; 4], &[0.3; 4], 4), 100.0);
        let ramp: Vec<f32> = (0..256).map(|i| (i % 16) as f32 / 16.0 - 0.5).collect();
        assert!((ssim(&ramp, &ramp, [1, 16, 16]) - 1.0).abs() < 1e-12);
        // Two flat images: luminance alone. 0.5 and 0.75 in [0, 1].
        let expected = (2.0 * 0.5 * 0.75 + C1) / (0.25 + 0.5625 + C1);
        assert!((ssim(&[0.0; 256], &[0.5; 256], [1, 16, 16]) - expected).abs() < 1e-9);
    }
}
