//! Centre crop and resize of EDM's `dataset_tool.py --transform=center-crop`: the largest square in
//! the middle, resized by Pillow's Lanczos filter. The arithmetic is Pillow's (two passes over
//! bytes, weights in fixed point), so the bytes are those of that tool.

/// Lobes of the Lanczos window.
const LOBES: f64 = 3.0;
/// Bits after the point of a weight.
const BITS: u32 = 22;

/// Channel-last bytes of an image, `[height, width, channels]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Raster {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub bytes: Vec<u8>,
}

impl Raster {
    /// The image cropped to its central square and resized to `side` x `side` pixels.
    pub(super) fn squared(self, side: usize) -> Self {
        let square = self.central_square();
        if square.width == side {
            return square;
        }
        let weights = weights(square.width, side);
        let narrow = pass(&square, &weights, Axis::Across);
        pass(&narrow, &weights, Axis::Down)
    }

    fn central_square(self) -> Self {
        let side = self.height.min(self.width);
        if (self.height, self.width) == (side, side) {
            return self;
        }
        let (top, left) = ((self.height - side) / 2, (self.width - side) / 2);
        let row = self.width * self.channels;
        let bytes = self
            .bytes
            .chunks_exact(row)
            .skip(top)
            .take(side)
            .flat_map(|row| &row[left * self.channels..(left + side) * self.channels])
            .copied()
            .collect();
        Self { height: side, width: side, bytes, ..self }
    }
}

/// The weights of one output pixel: the first input pixel, and a weight for it and each after it.
struct Weights {
    first: usize,
    values: Vec<i32>,
}

fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| {
        let x = x * std::f64::consts::PI;
        if x == 0.0 { 1.0 } else { x.sin() / x }
    };
    if (-LOBES..LOBES).contains(&x) { sinc(x) * sinc(x / LOBES) } else { 0.0 }
}

/// For each of `out` pixels, which of `len` pixels it is made of. When shrinking, the filter is as
/// much wider.
fn weights(len: usize, out: usize) -> Vec<Weights> {
    let scale = len as f64 / out as f64;
    let stretch = scale.max(1.0);
    let support = LOBES * stretch;
    let of = |pixel: usize| {
        let centre = (pixel as f64 + 0.5) * scale;
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(len);
        let exact: Vec<f64> =
            (first..end).map(|at| lanczos((at as f64 - centre + 0.5) * (1.0 / stretch))).collect();
        let sum: f64 = exact.iter().sum();
        let fixed = |weight: &f64| {
            let scaled = weight / sum * f64::from(1 << BITS);
            (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
        };
        Weights { first, values: exact.iter().map(fixed).collect() }
    };
    (0..out).map(of).collect()
}

/// The direction that a pass resizes in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Axis {
    Across,
    Down,
}

fn pass(image: &Raster, weights: &[Weights], axis: Axis) -> Raster {
    let Raster { channels, height, width, ref bytes } = *image;
    let out = weights.len();
    let (rows, columns, step) = match axis {
        Axis::Across => (height, out, channels),
        Axis::Down => (out, width, width * channels),
    };
    let mut result = Vec::with_capacity(rows * columns * channels);
    for y in 0..rows {
        for x in 0..columns {
            let (weights, base) = match axis {
                Axis::Across => (&weights[x], y * width * channels),
                Axis::Down => (&weights[y], x * channels),
            };
            for c in 0..channels {
                let start = base + weights.first * step + c;
                let sum = weights
                    .values
                    .iter()
                    .zip(bytes[start..].iter().step_by(step))
                    .fold(1 << (BITS - 1), |sum, (weight, byte)| sum + weight * i32::from(*byte));
                result.push((sum >> BITS).clamp(0, 255) as u8);
            }
        }
    }
    Raster { channels, height: rows, width: columns, bytes: result }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a fixed pattern; the generator beside the golden values has the same.
    fn pattern(channels: usize, height: usize, width: usize) -> Raster {
        let byte = |i: usize| ((i * i * 31 + i * 7) % 251) as u8;
        let bytes = (0..channels * height * width).map(byte).collect();
        Raster { channels, height, width, bytes }
    }

    /// Bytes of Pillow (`tests/goldens/resize.py`): shrunk, enlarged, and of one channel.
    #[test]
    fn bytes_are_pillows() {
        let golden = include_str!("../../tests/goldens/resize.txt");
        let mut checked = 0;
        for line in golden.lines().filter(|line| !line.starts_with('#')) {
            let numbers: Vec<usize> =
                line.split_whitespace().map(|word| word.parse().unwrap()).collect();
            let [channels, height, width, side] = numbers[..4] else { panic!("{line}") };
            let found = pattern(channels, height, width).squared(side);
            assert_eq!((found.height, found.width), (side, side));
            let expected: Vec<u8> = numbers[4..].iter().map(|n| *n as u8).collect();
            assert_eq!(found.bytes, expected, "{:?}", &numbers[..4]);
            checked += 1;
        }
        assert_eq!(checked, 6);
    }

    /// A flat image stays flat at any size, and a square of the right size stays as it is.
    #[test]
    fn flat_images_stay_flat() {
        let flat = Raster { channels: 3, height: 9, width: 14, bytes: vec![77; 9 * 14 * 3] };
        for side in [1, 2, 9, 40] {
            assert!(flat.clone().squared(side).bytes.iter().all(|byte| *byte == 77), "{side}");
        }
        let square = pattern(3, 5, 5);
        assert_eq!(square.clone().squared(5), square);
    }
}
