//! Perceptual distances: how far two images are apart in the activations of a trained network.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::{Classifier, Lpips};

/// Keeps a zero activation's direction finite.
const EPSILON: f64 = 1e-10;

/// A network and the distance of its activations.
#[derive(Module, Debug)]
pub enum Perceptual {
    /// VGG16 with the learned weights of LPIPS, for photographs.
    Lpips(Lpips),
    /// A classifier of the data itself: the mean over its layers of the squared distance between
    /// unit activations.
    Classifier(Classifier),
}

impl Perceptual {
    /// The distance of each pair of images, both `[N, C, H, W]` in [-1, 1]: `[N]`, 0 for equal
    /// images. LPIPS takes grey images as red, green and blue alike.
    pub fn forward(&self, a: Tensor<4>, b: Tensor<4>) -> Tensor<1> {
        match self {
            Self::Lpips(lpips) => {
                let colour = |x: Tensor<4>| if x.dims()[1] == 1 { x.repeat_dim(1, 3) } else { x };
                lpips.forward(colour(a), colour(b))
            }
            Self::Classifier(classifier) => {
                let (a, b) = (classifier.activations(a), classifier.activations(b));
                let layers = a.len() as f64;
                let distances = a.into_iter().zip(b).map(|(a, b)| direction_distance(a, b, None));
                distances.reduce(|sum, d| sum + d).expect("a classifier has layers") / layers
            }
        }
    }
}

/// Squared distance of the directions of two activations `[N, C, H, W]`, place by place: weighted
/// by channel (`[1, C, 1, 1]`), summed over channels and averaged over places: `[N]`.
pub(crate) fn direction_distance(
    a: Tensor<4>,
    b: Tensor<4>,
    weight: Option<Tensor<4>>,
) -> Tensor<1> {
    let unit = |x: Tensor<4>| {
        let length = x.clone().square().sum_dim(1).sqrt();
        x / (length + EPSILON)
    };
    let [n, c, h, w] = a.dims();
    let squares = (unit(a) - unit(b)).square();
    let squares = match weight {
        Some(weight) => squares * weight,
        None => squares,
    };
    squares.reshape([n, c * h * w]).sum_dim(1).squeeze_dim::<1>(1) / (h * w) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClassifierConfig, InitSeed};
    use burn::tensor::{Device, Distribution, TensorData, Tolerance};

    /// Directions (1, 0) and (0.6, 0.8) are sqrt(0.8) apart, whatever their lengths; weights 1 and
    /// 2 make 0.16 + 2 * 0.64.
    #[test]
    fn directions_are_compared_place_by_place() {
        let device = Device::flex();
        let of = |x: [f32; 4]| {
            Tensor::<4>::from_data(TensorData::new(x.to_vec(), [1, 2, 1, 2]), &device)
        };
        let (a, b) = (of([3.0, 1.0, 0.0, 1.0]), of([0.6, 2.0, 0.8, 2.0]));
        let weight =
            Tensor::<4>::from_data(TensorData::new(vec![1.0f32, 2.0], [1, 2, 1, 1]), &device);
        let found = |weight| direction_distance(a.clone(), b.clone(), weight).into_scalar::<f32>();
        assert!((found(None) - 0.4).abs() < 1e-6, "{}", found(None));
        assert!((found(Some(weight.clone())) - 0.72).abs() < 1e-6);
    }

    /// 0 for equal images, the same both ways, and below 4: two unit vectors are at most 2 apart.
    #[test]
    fn a_classifiers_distance_is_a_distance() {
        let device = Device::flex();
        let config = ClassifierConfig { resolution: 16, in_channels: 1, classes: 3, width: 4 };
        let perceptual = Perceptual::Classifier(config.init(&mut InitSeed::new(3), &device));
        let draw =
            || Tensor::<4>::random([5, 1, 16, 16], Distribution::Uniform(-1.0, 1.0), &device);
        let (a, b) = (draw(), draw());
        let there = perceptual.forward(a.clone(), b.clone()).into_data();
        there.assert_approx_eq::<f32>(
            &perceptual.forward(b, a.clone()).into_data(),
            Tolerance::absolute(1e-6),
        );
        let values = there.as_slice::<f32>().unwrap();
        assert!(values.iter().all(|d| (0.01..4.0).contains(d)), "{values:?}");
        let same = perceptual.forward(a.clone(), a).into_data();
        let same = same.as_slice::<f32>().unwrap();
        assert!(same.iter().all(|d| *d == 0.0), "{same:?}");
    }
}
