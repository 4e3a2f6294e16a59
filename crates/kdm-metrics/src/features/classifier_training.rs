//! Training of a classifier whose features measure images: cross-entropy on a labelled data set,
//! images mirrored and shifted at random.

use std::ops::Range;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use kdm_data::{ImageSet, Labels, model};
use kdm_nn::Classifier;
use kdm_nn::classifier::cross_entropy;
use kdm_nn::state::state_dict;
use kdm_train::{Losses, SharedWork, Stepper, Task};

use crate::catalog;
use crate::features::{CLASSIFIER, ClassifierFile, image_tensor};
use crate::inception_score::{agreement, classes_of};

/// The training of one classifier.
#[derive(Clone, Debug)]
pub struct ClassifierTask {
    /// What it is.
    pub file: ClassifierFile,
    /// What it learns from, labelled.
    pub images: ImageSet,
    /// What it is validated on, labelled.
    pub test: ImageSet,
    /// Images an iteration.
    pub batch: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// Where to compute; an autodiff device.
    pub device: Device,
}

/// Pixels an image is shifted by at most.
const SHIFT: i64 = 2;
/// Test images classified at a time.
const BLOCK: usize = 500;

/// `[C, H, W]` mirrored, if `mirror`, and shifted by (dx, dy); the edge is repeated.
fn moved(
    image: &[f32],
    [channels, height, width]: [usize; 3],
    mirror: bool,
    dx: i64,
    dy: i64,
) -> Vec<f32> {
    let at = |p: usize| {
        let (c, y, x) = (p / (height * width), p / width % height, p % width);
        let y = (y as i64 - dy).clamp(0, height as i64 - 1) as usize;
        let x = (x as i64 - dx).clamp(0, width as i64 - 1) as usize;
        image[(c * height + y) * width + if mirror { width - 1 - x } else { x }]
    };
    (0..channels * height * width).map(at).collect()
}

impl ClassifierTask {
    fn labels(&self, classes: &[u32], device: &Device) -> Tensor<2> {
        let width = self.file.network.classes;
        let rows = Labels::of(classes).one_hot(width);
        Tensor::from_data(TensorData::new(rows, [classes.len(), width]), device)
    }

    /// These rows of iteration `iteration`'s batch: images drawn at random, each mirrored and
    /// shifted, and their classes.
    fn moved_images(&self, iteration: u64, rows: Range<usize>) -> (Vec<f32>, Vec<u32>) {
        let (mut images, mut classes) = (Vec::new(), Vec::new());
        for row in rows {
            let seed = kdm_random::derive_seed(self.seed, iteration);
            let seed = kdm_random::derive_seed(seed, row as u64);
            let uniform = |i: u64, n: usize| (kdm_random::uniform_f64(seed, i) * n as f64) as usize;
            let at = uniform(0, self.images.len());
            let shift = |i: u64| uniform(i, 2 * SHIFT as usize + 1) as i64 - SHIFT;
            let mirror = uniform(1, 2) == 1;
            images.extend(moved(
                &self.images.image(at),
                self.images.shape(),
                mirror,
                shift(2),
                shift(3),
            ));
            classes.push(self.images.label(at).expect("a labelled set"));
        }
        (images, classes)
    }

    /// The share of test images, 0 to 1, that are classified correctly.
    pub fn accuracy(&self, network: &Classifier, shared: SharedWork) -> f64 {
        let device = self.device.clone().inner();
        let found = shared.each(self.test.len().div_ceil(BLOCK), |block| {
            let (first, classes) = (block * BLOCK, self.file.network.classes);
            let images = self.test.images(first..(first + BLOCK).min(self.test.len()));
            let logits = network.forward(image_tensor(images, self.test.shape(), &device)).logits;
            classes_of(&logits.try_into_vec_as::<f32>().expect("f32"), classes)
        });
        let found = found.concat();
        let labels: Vec<u32> = (0..self.test.len()).filter_map(|i| self.test.label(i)).collect();
        agreement(&found, &labels)
    }
}

impl Task for ClassifierTask {
    type Model = Classifier;

    fn name(&self) -> &'static str {
        "classifier"
    }

    fn iterate(
        &self,
        model: Classifier,
        iteration: u64,
        stepper: &mut Stepper,
    ) -> (Classifier, Losses) {
        stepper.minimise(0, model, |model, leaf| {
            let (images, classes) = self.moved_images(iteration, leaf.rows(self.batch));
            let images = image_tensor(images, self.images.shape(), &self.device);
            let logits = model.forward(images).logits;
            let total = cross_entropy(logits, self.labels(&classes, &self.device));
            Losses { total, terms: Vec::new() }
        })
    }

    /// The error rate on the test images.
    fn validate(&self, averaged: &Classifier, shared: SharedWork) -> Vec<(String, f64)> {
        vec![(catalog::ERROR.key.into(), 1.0 - self.accuracy(averaged, shared))]
    }

    fn save(&self, averaged: &Classifier, path: &Path) -> kdm_train::Result<()> {
        Ok(model::write(path, CLASSIFIER, &self.file, &state_dict(averaged))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_move_as_given() {
        let image: Vec<f32> = (0..9).map(|i| i as f32).collect();
        let shape = [1, 3, 3];
        assert_eq!(moved(&image, shape, false, 0, 0), image);
        assert_eq!(moved(&image, shape, true, 0, 0), [2., 1., 0., 5., 4., 3., 8., 7., 6.]);
        assert_eq!(moved(&image, shape, false, 1, 0), [0., 0., 1., 3., 3., 4., 6., 6., 7.]);
        assert_eq!(moved(&image, shape, false, 0, -1), [3., 4., 5., 6., 7., 8., 6., 7., 8.]);
    }
}
