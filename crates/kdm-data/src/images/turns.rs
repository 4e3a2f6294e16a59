//! Turned images, for a classifier where the images have no classes.

use super::ImageSet;

impl ImageSet {
    /// Each image four times, turned by 0, 1, 2 and 3 quarters of a circle (counterclockwise), with
    /// the number of quarters as its class: a network that tells them apart has to see what the
    /// images show (Gidaris et al., arXiv:1803.07728).
    ///
    /// # Panics
    /// When the images are not square.
    pub fn quarter_turns(&self) -> Self {
        let side = self.width;
        assert_eq!(self.height, side, "square images");
        let turned = |plane: &[u8]| -> Vec<u8> {
            let at = |i: usize| plane[(i % side) * side + side - 1 - i / side];
            (0..side * side).map(at).collect()
        };
        let mut bytes = Vec::with_capacity(4 * self.bytes.len());
        for image in self.bytes.chunks_exact(self.size()) {
            let mut image = image.to_vec();
            for _ in 0..4 {
                bytes.extend_from_slice(&image);
                image = image.chunks_exact(side * side).flat_map(turned).collect();
            }
        }
        let labels = (0..self.len()).flat_map(|_| 0..4).collect();
        let class_names = ["0", "90", "180", "270"].map(|turn| format!("{turn} degrees"));
        Self { bytes, labels, class_names: class_names.to_vec(), ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 1 2 over 3 4 a quarter turn makes 2 4 over 1 3; four turns are none; channels stay apart.
    #[test]
    fn images_are_turned_by_quarters() {
        let set = ImageSet {
            channels: 2,
            height: 2,
            width: 2,
            bytes: vec![1, 2, 3, 4, 11, 12, 13, 14],
            labels: Vec::new(),
            class_names: Vec::new(),
        };
        let turned = set.quarter_turns();
        assert_eq!((turned.len(), turned.labels.as_slice()), (4, &[0, 1, 2, 3][..]));
        assert_eq!(turned.bytes[8..16], [2, 4, 1, 3, 12, 14, 11, 13]);
        assert_eq!(turned.bytes[16..24], [4, 3, 2, 1, 14, 13, 12, 11]);
        assert_eq!(turned.first(4).bytes[..8], set.bytes);
    }
}
