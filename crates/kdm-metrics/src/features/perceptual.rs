//! LPIPS as a metric: averaged over pairs of images on the host.

use burn::module::Module;
use burn::tensor::Tensor;
use kdm_nn::fixed_batches::{Rows, in_image_batches};
use kdm_nn::{Lpips, Perceptual};
use kdm_observer::{Observer, Stopped};

use crate::features::in_parts;

/// LPIPS (Zhang et al., arXiv:1801.03924) between images `[N, C, H, W]` of `shape` `[C, H, W]` and
/// as many others, in [-1, 1], averaged: both are clipped, as pictures are. 0 for equal images.
///
/// # Errors
/// When the observer stops it.
pub fn lpips(
    network: &Lpips,
    a: &[f32],
    b: &[f32],
    shape: [usize; 3],
    observer: &dyn Observer,
) -> Result<f64, Stopped> {
    assert_eq!(a.len(), b.len(), "an image for each of the others");
    let ([channels, height, width], dim) = (shape, shape.iter().product());
    let device = network.devices().first().cloned().expect("a network has weights");
    let perceptual = Perceptual::Lpips(network.clone());
    let (mut others, mut distances) = (b, Vec::new());
    in_parts(a, &shape, "LPIPS", observer, |a| {
        let (b, rest) = others.split_at(a.len());
        others = rest;
        let rows = [a, b].map(|values| Rows { values, width: dim });
        distances.extend(in_image_batches(rows, &device, |rows| {
            let [a, b] = rows.map(|x: Tensor<2>| {
                let n = x.dims()[0];
                x.clamp(-1.0, 1.0).reshape([n, channels, height, width])
            });
            perceptual.forward(a, b).unsqueeze_dim(1)
        }));
    })?;
    Ok(distances.iter().map(|d| f64::from(*d)).sum::<f64>() / distances.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use kdm_nn::InitSeed;
    use kdm_nn::vgg::Pooling;
    use kdm_observer::Silent;

    /// With any weights: 0 for equal images, also where they differ beyond [-1, 1] alone; the mean
    /// of the distances of single images otherwise.
    #[test]
    fn a_mean_over_images_of_a_distance() {
        let network = Lpips::init(Pooling::Max, &mut InitSeed::new(1), &Device::flex());
        let (shape, dim) = ([3, 16, 16], 3 * 16 * 16);
        let of = |a: &[f32], b: &[f32]| lpips(&network, a, b, shape, &Silent).unwrap();
        let a = kdm_random::normal_vec(1, 3 * dim);
        let b = kdm_random::normal_vec(2, 3 * dim);
        let clipped: Vec<f32> = a.iter().map(|x| x.clamp(-1.0, 1.0)).collect();
        assert_eq!(of(&a, &clipped), 0.0);
        let single = |i: usize| of(&a[i * dim..(i + 1) * dim], &b[i * dim..(i + 1) * dim]);
        let mean = (single(0) + single(1) + single(2)) / 3.0;
        assert!((of(&a, &b) - mean).abs() < 1e-12 && mean.abs() > 1e-6, "{mean}");
    }
}
