//! A test set of images that are taken from a set.

use kdm_random::{Permutation, derive_seed};

use super::ImageSet;

impl ImageSet {
    /// Splits off a test set: of each class (or of all images, without classes) the `share`, 0 to
    /// 1, rounded, but at least one image where there are two, and never all. Which ones is a
    /// function of the seed, the class, and its number of images. Gives what remains and the test
    /// set, both in the order of the images.
    ///
    /// ```
    /// let (set, _) = kdm_data::images::shapes::draw(0, 100);
    /// let (train, test) = set.split_off(0.1, 7);
    /// assert_eq!(train.len() + test.len(), 100);
    /// assert_eq!(train.classes(), test.classes());
    /// ```
    pub fn split_off(&self, share: f64, seed: u64) -> (Self, Self) {
        let classes = self.classes().max(1) as u32;
        let mut is_test = vec![false; self.len()];
        for class in 0..classes {
            let of_class: Vec<usize> =
                (0..self.len()).filter(|i| self.label(*i).unwrap_or(0) == class).collect();
            let wanted = (share.clamp(0.0, 1.0) * of_class.len() as f64).round() as usize;
            let taken = wanted.clamp(1, of_class.len().saturating_sub(1).max(1));
            if of_class.len() < 2 {
                continue;
            }
            let order = Permutation::new(derive_seed(seed, class.into()), of_class.len() as u64);
            for i in 0..taken as u64 {
                is_test[of_class[order.at(i) as usize]] = true;
            }
        }
        let part = |test: bool| {
            let rows = || (0..self.len()).filter(|i| is_test[*i] == test);
            let size = self.size();
            let bytes = rows().flat_map(|i| &self.bytes[i * size..(i + 1) * size]).copied();
            Self {
                bytes: bytes.collect(),
                labels: rows().filter_map(|i| self.label(i)).collect(),
                class_names: self.class_names.clone(),
                ..*self
            }
        };
        (part(false), part(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(labels: &[u32]) -> ImageSet {
        let bytes = (0..labels.len() as u8).collect();
        let class_names = Vec::new();
        ImageSet { channels: 1, height: 1, width: 1, bytes, labels: labels.to_vec(), class_names }
    }

    /// Every image is in one of the two, in order, with its class; each class gives its share.
    #[test]
    fn images_are_parted_class_by_class() {
        let labels: Vec<u32> = (0..200).map(|i| u32::from(i % 4 == 0)).collect();
        let (train, test) = set(&labels).split_off(0.1, 3);
        let mut all: Vec<u8> = [&train.bytes[..], &test.bytes].concat();
        assert!(train.bytes.is_sorted() && test.bytes.is_sorted());
        all.sort();
        assert_eq!(all, (0..200).collect::<Vec<u8>>());
        for part in [&train, &test] {
            let right = |i: usize| part.labels[i] == labels[part.bytes[i] as usize];
            assert!((0..part.len()).all(right));
        }
        let ones = |part: &ImageSet| part.labels.iter().filter(|class| **class == 1).count();
        assert_eq!((test.len(), ones(&test), ones(&train)), (20, 5, 45));
        assert_eq!(set(&labels).split_off(0.1, 3).1, test);
        assert_ne!(set(&labels).split_off(0.1, 4).1.bytes, test.bytes);
    }

    #[test]
    fn few_images_leave_some_on_both_sides() {
        for (labels, share, test) in [
            (vec![], 0.5, 0),
            (vec![0], 0.5, 0),
            (vec![0, 0], 0.01, 1),
            (vec![0, 0, 1, 1, 1], 1.0, 3),
        ] {
            assert_eq!(set(&labels).split_off(share, 0).1.len(), test, "{labels:?} {share}");
        }
        let unlabelled = ImageSet { labels: Vec::new(), ..set(&[0; 10]) };
        assert_eq!(unlabelled.split_off(0.3, 0).1.len(), 3);
    }
}
