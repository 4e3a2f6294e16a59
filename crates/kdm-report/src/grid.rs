//! Images as pictures: one, or many in a grid.

use image::{ImageEncoder, RgbImage, codecs::png::PngEncoder};

/// Whether samples of this shape are images that can be shown: `[C, H, W]` of 1 or 3 channels.
pub fn shows(shape: &[usize]) -> bool {
    matches!(shape, [1 | 3, _, _])
}

/// Pixels between images.
const GAP: usize = 2;

/// A PNG of images of `shape` `[channels, height, width]` (1 channel for a grey picture, or 3), row
/// by row of `values` in [-1, 1], in `columns` columns on white. Values beyond that range are cut
/// off.
pub fn png(values: &[f32], shape: &[usize], columns: usize) -> Vec<u8> {
    let [channels, height, width] = [shape[0], shape[1], shape[2]];
    let size = channels * height * width;
    let count = values.len() / size;
    let columns = columns.clamp(1, count.max(1));
    let side = |pixels: usize, n: usize| (n * pixels + n.saturating_sub(1) * GAP) as u32;
    let (across, down) = (side(width, columns), side(height, count.div_ceil(columns).max(1)));
    let mut picture = RgbImage::from_pixel(across, down, image::Rgb([255; 3]));
    for (i, one) in values.chunks(size).enumerate() {
        let (left, top) = ((i % columns) * (width + GAP), (i / columns) * (height + GAP));
        for y in 0..height {
            for x in 0..width {
                let value = |c: usize| {
                    let c = if channels == 3 { c } else { 0 };
                    ((one[(c * height + y) * width + x] + 1.0) * 127.5).round().clamp(0.0, 255.0)
                        as u8
                };
                picture.put_pixel(
                    (left + x) as u32,
                    (top + y) as u32,
                    image::Rgb([value(0), value(1), value(2)]),
                );
            }
        }
    }
    let mut out = Vec::new();
    let grey: Vec<u8>;
    let (bytes, kind) = if channels == 1 {
        grey = picture.pixels().map(|pixel| pixel.0[0]).collect();
        (&grey, image::ExtendedColorType::L8)
    } else {
        (picture.as_raw(), image::ExtendedColorType::Rgb8)
    };
    PngEncoder::new(&mut out)
        .write_image(bytes, picture.width(), picture.height(), kind)
        .expect("writing to memory");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_lie_where_they_should() {
        // Three grey images of 1x2 pixels, two columns.
        let png = png(&[-1.0, 1.0, 0.0, 9.0, 1.0, -9.0], &[1, 1, 2], 2);
        let picture = image::load_from_memory(&png).unwrap();
        assert_eq!(picture.color(), image::ColorType::L8);
        let picture = picture.into_rgb8();
        assert_eq!(picture.dimensions(), (6, 4));
        let at = |x, y| picture.get_pixel(x, y).0[0];
        assert_eq!((at(0, 0), at(1, 0), at(4, 0), at(5, 0)), (0, 255, 128, 255));
        assert_eq!((at(0, 3), at(1, 3), at(2, 2), at(4, 3)), (255, 0, 255, 255));
    }
}
