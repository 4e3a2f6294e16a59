//! A procedural data set of small RGB images, one coloured shape each, whose factors are known and
//! can be measured again: for conditional work, and to ask whether latents that are close mean
//! images that are alike, without any download.

use std::f64::consts::{PI, TAU};

use rayon::prelude::*;

use super::ImageSet;

/// Side of the images.
pub const SIDE: usize = 32;
/// The classes.
pub const SHAPES: [&str; 4] = ["disc", "square", "triangle", "cross"];
/// The factors' names, and their places among [`Factors::numbers`].
pub const FACTORS: [(&str, std::ops::Range<usize>); 4] =
    [("shape", 0..4), ("hue", 4..6), ("size", 6..7), ("place", 7..9)];
/// Radii of the disc of the same area, in pixels.
const SIZES: (f64, f64) = (4.0, 8.0);
/// Grey of the background, and saturation and value of shapes.
const BACKGROUND: f64 = 0.1;
const SATURATION: f64 = 0.8;
const VALUE: f64 = 0.95;
/// Samples along a pixel's side.
const FINE: usize = 4;

/// What an image shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factors {
    /// Place in [`SHAPES`]; the class.
    pub shape: usize,
    /// Hue, in [0, 1), a circle.
    pub hue: f64,
    /// Radius of the disc of the same area, in pixels: 4 to 8.
    pub size: f64,
    /// Centre of gravity, in pixels from the left.
    pub x: f64,
    /// In pixels from the top.
    pub y: f64,
}

/// `count` images and their factors; both are functions of the seed.
pub fn draw(seed: u64, count: usize) -> (ImageSet, Vec<Factors>) {
    let factors: Vec<Factors> =
        (0..count as u64).map(|i| Factors::of_seed(kdm_random::derive_seed(seed, i))).collect();
    let images: Vec<Vec<u8>> = factors.par_iter().map(Factors::render).collect();
    let set = ImageSet {
        channels: 3,
        height: SIDE,
        width: SIDE,
        bytes: images.concat(),
        labels: factors.iter().map(|f| f.shape as u32).collect(),
        class_names: SHAPES.map(String::from).to_vec(),
    };
    (set, factors)
}

impl Factors {
    fn of_seed(seed: u64) -> Self {
        let uniform = |i| kdm_random::uniform_f64(seed, i);
        let shape = (uniform(0) * SHAPES.len() as f64) as usize;
        let size = SIZES.0 + (SIZES.1 - SIZES.0) * uniform(1);
        // No shape reaches beyond 1.6 of its size.
        let margin = 1.6 * size;
        let place = |u: f64| margin + (SIDE as f64 - 2.0 * margin) * u;
        Self { shape, hue: uniform(2), size, x: place(uniform(3)), y: place(uniform(4)) }
    }

    /// Whether the point (dx, dy) from the centre is inside. All shapes of one size have one area.
    fn contains(&self, dx: f64, dy: f64) -> bool {
        let r = self.size;
        match self.shape {
            0 => dx * dx + dy * dy <= r * r,
            1 => dx.abs().max(dy.abs()) <= 0.5 * PI.sqrt() * r,
            2 => {
                // Equilateral, point up; the distance from its centre to each side.
                let inner = 0.5 * r * (4.0 * PI / 27f64.sqrt()).sqrt();
                let (c, s) = (0.75f64.sqrt(), 0.5);
                dy <= inner && c * dx.abs() - s * dy <= inner
            }
            _ => {
                let half = 0.5 * r * (PI / 5.0).sqrt();
                dx.abs().max(dy.abs()) <= 3.0 * half && dx.abs().min(dy.abs()) <= half
            }
        }
    }

    /// How much of each pixel is covered, 0 to 1.
    fn coverage(&self) -> Vec<f64> {
        let fine = |i: usize| (0..FINE).map(move |k| i as f64 + (k as f64 + 0.5) / FINE as f64);
        let pixel = |y: usize, x: usize| {
            let inside = fine(y).flat_map(|py| fine(x).map(move |px| (px, py)));
            inside.filter(|(px, py)| self.contains(px - self.x, py - self.y)).count()
        };
        let pixels = (0..SIDE * SIDE).map(|p| pixel(p / SIDE, p % SIDE));
        pixels.map(|count| count as f64 / (FINE * FINE) as f64).collect()
    }

    /// The image's bytes, channel by channel.
    fn render(&self) -> Vec<u8> {
        let coverage = self.coverage();
        let channel = |c: usize| {
            let colour = colour(self.hue)[c];
            coverage
                .iter()
                .map(move |a| (255.0 * (BACKGROUND + a * (colour - BACKGROUND))).round() as u8)
        };
        (0..3).flat_map(channel).collect()
    }

    /// The factors that an image `[3, 32, 32]` in [-1, 1] shows best: moments give place, size and
    /// hue, and the shape is the one whose drawing comes nearest. None when it shows nothing but
    /// background.
    pub fn measure(image: &[f32]) -> Option<Self> {
        let pixels = SIDE * SIDE;
        let value =
            |c: usize, p: usize| 0.5 * (f64::from(image[c * pixels + p]) + 1.0) - BACKGROUND;
        // Over the background, a covered pixel's channels spread by saturation times value.
        let spread = |p: usize| {
            let v = [value(0, p), value(1, p), value(2, p)];
            let (low, high) =
                v.iter().fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(*x), high.max(*x)));
            ((high - low) / (SATURATION * VALUE)).clamp(0.0, 1.0)
        };
        let coverage: Vec<f64> =
            (0..pixels).map(spread).map(|a| if a < 0.1 { 0.0 } else { a }).collect();
        let area: f64 = coverage.iter().sum();
        if area < 4.0 {
            return None;
        }
        let mean = |of: &dyn Fn(usize) -> f64| {
            coverage.iter().enumerate().map(|(p, a)| a * of(p)).sum::<f64>() / area
        };
        let (x, y) = (mean(&|p| (p % SIDE) as f64 + 0.5), mean(&|p| (p / SIDE) as f64 + 0.5));
        let colour: [f64; 3] = std::array::from_fn(|c| mean(&|p| value(c, p)));
        let found = Self { shape: 0, hue: hue(colour), size: (area / PI).sqrt(), x, y };
        let error = |shape: usize| -> f64 {
            let drawn = Self { shape, ..found }.coverage();
            drawn.iter().zip(&coverage).map(|(a, b)| (a - b).powi(2)).sum()
        };
        let shape = (0..SHAPES.len()).min_by(|a, b| error(*a).total_cmp(&error(*b)))?;
        Some(Self { shape, ..found })
    }

    /// The factors as numbers that can be compared: shape one-hot, hue as a point on the circle,
    /// the others scaled to [-1, 1] of their ranges.
    pub fn numbers(&self) -> Vec<f64> {
        let mut numbers: Vec<f64> =
            (0..SHAPES.len()).map(|s| f64::from(u8::from(s == self.shape))).collect();
        let (sin, cos) = (TAU * self.hue).sin_cos();
        let middle = 0.5 * SIDE as f64;
        let size = (2.0 * self.size - SIZES.0 - SIZES.1) / (SIZES.1 - SIZES.0);
        numbers.extend([cos, sin, size, (self.x - middle) / middle, (self.y - middle) / middle]);
        numbers
    }
}

/// Red, green and blue of a hue.
fn colour(hue: f64) -> [f64; 3] {
    std::array::from_fn(|c| {
        let k = (6.0 * hue + [5.0, 3.0, 1.0][c]) % 6.0;
        VALUE * (1.0 - SATURATION * k.min(4.0 - k).clamp(0.0, 1.0))
    })
}

/// The hue of a colour.
fn hue([r, g, b]: [f64; 3]) -> f64 {
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    let d = (high - low).max(1e-12);
    let sixths = if high == r {
        (g - b) / d
    } else if high == g {
        2.0 + (b - r) / d
    } else {
        4.0 + (r - g) / d
    };
    (sixths / 6.0).rem_euclid(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is drawn can be measured again: shapes all right, size and place within a tenth of a
    /// pixel, hue within bytes' rounding.
    #[test]
    fn factors_come_back() {
        let (set, factors) = draw(5, 200);
        for (i, told) in factors.iter().enumerate() {
            let found = Factors::measure(&set.image(i)).unwrap();
            assert_eq!(found.shape, told.shape, "{told:?} {found:?}");
            let turn = (found.hue - told.hue).abs();
            assert!(turn.min(1.0 - turn) < 0.01, "{told:?} {found:?}");
            for (a, b) in [(found.size, told.size), (found.x, told.x), (found.y, told.y)] {
                assert!((a - b).abs() < 0.15, "{told:?} {found:?}");
            }
        }
        assert!(Factors::measure(&vec![-0.8; 3072]).is_none());
    }

    #[test]
    fn the_set_is_a_function_of_its_seed_and_shows_all_classes() {
        let (set, factors) = draw(1, 100);
        assert_eq!(draw(1, 50).0.image(49), set.image(49));
        assert_ne!(draw(2, 50).0.image(49), set.image(49));
        assert_eq!((set.shape(), set.len(), set.classes()), ([3, SIDE, SIDE], 100, 4));
        assert!((0..4).all(|shape| factors.iter().filter(|f| f.shape == shape).count() > 10));
    }
}
