//! Geometric augmentation with labels (Karras et al., arXiv:2206.00364, appendix F.2): the network
//! is given what was done to an image, so that it can learn from augmented images without
//! generating them. Sampling with zero labels gives plain ones.

/// Values of an augmentation's label.
pub const LABELS: usize = 9;

/// Standard deviations of the logarithms (base 2) of scaling and anisotropic scaling, and of
/// translation in image sizes.
const SCALE: f64 = 0.2;
const ANISOTROPY: f64 = 0.2;
const TRANSLATION: f64 = 0.125;

/// A change of coordinates, centred: source = matrix target + offset, in image sizes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Affine {
    matrix: [[f64; 2]; 2],
    offset: [f64; 2],
}

/// What is done to one image: flips, scaling, rotation, anisotropic scaling, translation, each of
/// the last four and the vertical flip with probability `probability`; the horizontal flip with 1/2
/// whenever anything may be done.
fn draw(probability: f64, seed: u64) -> (Affine, [f32; LABELS]) {
    let uniform = |i: u64| kdm_random::uniform_f64(kdm_random::derive_seed(seed, 0), i);
    let normals = kdm_random::normal_vec(kdm_random::derive_seed(seed, 1), 4);
    let normal = |i: usize| f64::from(normals[i]);
    let happens = |i: u64| uniform(i) < probability;
    let mut labels = [0.0f32; LABELS];
    let mut total = Affine { matrix: [[1.0, 0.0], [0.0, 1.0]], offset: [0.0, 0.0] };
    // Each operation goes after those before it, so its inverse goes before theirs.
    let mut apply = |inverse: [[f64; 2]; 2], shift: [f64; 2]| {
        let m = total.matrix;
        let row = |r: usize, c: usize| m[r][0] * inverse[0][c] + m[r][1] * inverse[1][c];
        let moved = |r: usize| total.offset[r] - m[r][0] * shift[0] - m[r][1] * shift[1];
        total = Affine {
            offset: [moved(0), moved(1)],
            matrix: [[row(0, 0), row(0, 1)], [row(1, 0), row(1, 1)]],
        };
    };
    const STAY: [[f64; 2]; 2] = [[1.0, 0.0], [0.0, 1.0]];
    if uniform(0) < 0.5 {
        labels[0] = 1.0;
        apply([[-1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]);
    }
    if happens(1) && uniform(2) < 0.5 {
        labels[1] = 1.0;
        apply([[1.0, 0.0], [0.0, -1.0]], [0.0, 0.0]);
    }
    if happens(3) {
        labels[2] = normal(0) as f32;
        let shrink = 2f64.powf(-SCALE * normal(0));
        apply([[shrink, 0.0], [0.0, shrink]], [0.0, 0.0]);
    }
    if happens(4) {
        let (sin, cos) = (std::f64::consts::TAU * uniform(5)).sin_cos();
        (labels[3], labels[4]) = ((cos - 1.0) as f32, sin as f32);
        apply([[cos, sin], [-sin, cos]], [0.0, 0.0]);
    }
    if happens(6) {
        let (sin, cos) = (std::f64::consts::TAU * uniform(7)).sin_cos();
        let (w, stretch) = (normal(1), 2f64.powf(ANISOTROPY * normal(1)));
        (labels[5], labels[6]) = ((w * cos) as f32, (w * sin) as f32);
        // Rotated, stretched along one axis and shrunk along the other, rotated back.
        let (a, b) = (1.0 / stretch, stretch);
        let inverse = [
            [cos * cos * a + sin * sin * b, cos * sin * (a - b)],
            [cos * sin * (a - b), sin * sin * a + cos * cos * b],
        ];
        apply(inverse, [0.0, 0.0]);
    }
    if happens(8) {
        let (x, y) = (normal(2), normal(3));
        (labels[7], labels[8]) = (x as f32, y as f32);
        apply(STAY, [TRANSLATION * x, TRANSLATION * y]);
    }
    (total, labels)
}

/// The image `[channels, side, side]` after operations drawn from `seed`, each with probability
/// `probability`; and its label. Between pixels it is interpolated by Catmull-Rom splines, and
/// beyond its border it is mirrored.
pub fn augment(
    image: &[f32],
    channels: usize,
    side: usize,
    probability: f64,
    seed: u64,
) -> (Vec<f32>, [f32; LABELS]) {
    let (affine, labels) = draw(probability, seed);
    if labels == [0.0; LABELS] {
        return (image.to_vec(), labels);
    }
    (warp(image, channels, side, &affine), labels)
}

fn warp(image: &[f32], channels: usize, side: usize, affine: &Affine) -> Vec<f32> {
    let mut out = vec![0.0; channels * side * side];
    let size = side as f64;
    let centre = 0.5 * (size - 1.0);
    for y in 0..side {
        for x in 0..side {
            let target = [x as f64 - centre, y as f64 - centre];
            let source = |r: usize| {
                let m = affine.matrix[r];
                m[0] * target[0] + m[1] * target[1] + affine.offset[r] * size + centre
            };
            let (columns, rows) = (taps(source(0), side), taps(source(1), side));
            for c in 0..channels {
                let plane = &image[c * side * side..(c + 1) * side * side];
                let row = |place: usize| {
                    columns
                        .iter()
                        .map(|(at, w)| w * f64::from(plane[place * side + at]))
                        .sum::<f64>()
                };
                out[(c * side + y) * side + x] =
                    rows.iter().map(|(at, w)| w * row(*at)).sum::<f64>() as f32;
            }
        }
    }
    out
}

/// The four pixels around a coordinate, mirrored into the image, with their Catmull-Rom weights.
fn taps(at: f64, side: usize) -> [(usize, f64); 4] {
    let floor = at.floor();
    let t = at - floor;
    let weights = [
        0.5 * t * (-1.0 + t * (2.0 - t)),
        1.0 + t * t * (-2.5 + 1.5 * t),
        0.5 * t * (1.0 + t * (4.0 - 3.0 * t)),
        0.5 * t * t * (t - 1.0),
    ];
    let period = 2 * side as i64;
    let mirrored = |i: i64| {
        let i = i.rem_euclid(period);
        (if i < side as i64 { i } else { period - 1 - i }) as usize
    };
    std::array::from_fn(|k| (mirrored(floor as i64 + k as i64 - 1), weights[k]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(side: usize) -> Vec<f32> {
        (0..side * side).map(|i| (i % side) as f32 + 0.1 * (i / side) as f32).collect()
    }

    fn affine(matrix: [[f64; 2]; 2], offset: [f64; 2]) -> Affine {
        Affine { matrix, offset }
    }

    #[test]
    fn known_operations_do_what_they_say() {
        let (side, image) = (6, ramp(6));
        let flipped = warp(&image, 1, side, &affine([[-1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]));
        let turned = warp(&image, 1, side, &affine([[0.0, 1.0], [-1.0, 0.0]], [0.0, 0.0]));
        let shifted = warp(&image, 1, side, &affine([[1.0, 0.0], [0.0, 1.0]], [-1.0 / 6.0, 0.0]));
        for y in 0..side {
            for x in 0..side {
                let at = |x: usize, y: usize| image[y * side + x];
                assert!((flipped[y * side + x] - at(side - 1 - x, y)).abs() < 1e-5);
                assert!((turned[y * side + x] - at(y, side - 1 - x)).abs() < 1e-5);
                if x > 0 {
                    assert!((shifted[y * side + x] - at(x - 1, y)).abs() < 1e-5);
                }
            }
        }
        // Splines through a straight line are the line.
        let between = warp(&image, 1, side, &affine([[1.0, 0.0], [0.0, 1.0]], [0.5 / 6.0, 0.0]));
        assert!((between[2 * side + 2] - (image[2 * side + 2] + 0.5)).abs() < 1e-5);
    }

    /// Without operations but the flip, the label says all; with them the first number of the
    /// matrix follows the labels.
    #[test]
    fn labels_say_what_was_done() {
        for seed in 0..50 {
            let (affine, labels) = draw(0.0, seed);
            assert_eq!(affine.matrix[0][0], if labels[0] == 1.0 { -1.0 } else { 1.0 });
            assert!(labels[1..].iter().all(|l| *l == 0.0));
            let (a, l) = draw(1.0, seed);
            let determinant = a.matrix[0][0] * a.matrix[1][1] - a.matrix[0][1] * a.matrix[1][0];
            // Rotation and anisotropy keep areas; scaling by 2^(0.2 l) divides the source's by its
            // square.
            let flips = if (l[0] == 1.0) == (l[1] == 1.0) { 1.0 } else { -1.0 };
            let expected = flips * 2f64.powf(-2.0 * SCALE * f64::from(l[2]));
            assert!((determinant - expected).abs() < 1e-6, "{determinant} {expected}");
        }
        let flips = (0..1000).filter(|seed| draw(0.0, *seed).1[0] == 1.0).count();
        assert!(flips.abs_diff(500) < 80, "{flips}");
    }

    #[test]
    fn an_image_and_its_seed_decide_the_result() {
        let image = ramp(8);
        assert_eq!(augment(&image, 1, 8, 0.5, 3), augment(&image, 1, 8, 0.5, 3));
        assert_ne!(augment(&image, 1, 8, 1.0, 3).0, augment(&image, 1, 8, 1.0, 4).0);
    }
}
