//! Perceptual distances: how far two images are apart in the activations of a trained network
//! (Zhang et al., arXiv:1801.03924, equation 1).

use burn::module::Module;
use burn::tensor::Tensor;

use crate::vision::direction_distance::direction_distance;
use crate::{Classifier, Lpips};

/// A network whose activations are compared.
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
    /// images. LPIPS takes images of one channel as red, green and blue alike.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClassifierConfig, InitSeed};
    use burn::tensor::{Device, Distribution, Tolerance};

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
