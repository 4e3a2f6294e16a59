//! One image file's pixels: png, jpeg, webp, bmp, tiff and gif (its first frame), told apart by
//! their content. Orientation by EXIF is applied; 16 bits become 8; transparency is dropped, the
//! colours under it kept, as EDM's tools do.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::resize::Raster;

/// Pixels that one image may have.
pub(super) const MOST_PIXELS: u64 = 80 << 20;
/// Bytes that decoding one image may take.
const MOST_BYTES: u64 = 640 << 20;

/// Why a file is no image that can be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("{}", words(.0))]
    Unreadable(#[from] ImageError),
    #[error("is empty")]
    Empty,
    #[error("is {0}, no image")]
    OtherKind(&'static str),
    #[error("is no image of a known kind (png, jpeg, webp, bmp, tiff, gif)")]
    Unknown,
    #[error("is cut short: a JPEG without its end marker")]
    CutShort,
    #[error("has {pixels} pixels, more than {MOST_PIXELS}; shrink it first")]
    TooLarge { pixels: u64 },
}

/// The decoder's words, without a second sentence about limits.
fn words(error: &ImageError) -> String {
    match error {
        ImageError::Unsupported(_) => format!("is of a kind that isn't read ({error})"),
        _ => format!("is damaged ({error})"),
    }
}

/// What a file's beginning says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Upright: after the orientation.
    pub height: usize,
    pub width: usize,
    /// 3 with colours, 1 without.
    pub channels: usize,
    pub animated: bool,
}

impl Header {
    /// Bytes of the decoded image.
    pub(super) fn bytes(&self) -> u64 {
        self.height as u64 * self.width as u64 * self.channels as u64
    }
}

/// A decoded image.
#[derive(Debug)]
pub(super) struct Picture {
    pub raster: Raster,
    /// Whether some pixel is not opaque.
    pub transparent: bool,
}

fn decoder(bytes: &[u8]) -> Result<(ImageFormat, impl ImageDecoder + '_), DecodeError> {
    let format = image::guess_format(bytes).map_err(|_| unknown(bytes))?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits);
    Ok((format, reader.into_decoder()?))
}

/// What bytes are that are no image.
fn unknown(bytes: &[u8]) -> DecodeError {
    match bytes {
        [] => DecodeError::Empty,
        [b'<', ..] | [b'\n', b'<', ..] => DecodeError::OtherKind("an HTML or XML page"),
        _ if bytes.starts_with(b"version https://git-lfs") => {
            DecodeError::OtherKind("a Git LFS pointer (fetch the file with `git lfs pull`)")
        }
        _ => DecodeError::Unknown,
    }
}

/// Reads a file's header.
pub(super) fn header(bytes: &[u8]) -> Result<Header, DecodeError> {
    let (format, mut decoder) = decoder(bytes)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MOST_PIXELS {
        return Err(DecodeError::TooLarge { pixels });
    }
    let channels = if decoder.color_type().has_color() { 3 } else { 1 };
    let (mut height, mut width) = (height as usize, width as usize);
    if turned(decoder.orientation()?) {
        (height, width) = (width, height);
    }
    Ok(Header { height, width, channels, animated: format == ImageFormat::Gif })
}

/// Whether an orientation exchanges height and width.
fn turned(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

/// Reads a file whose [`header`] is sound.
pub(super) fn decode(bytes: &[u8]) -> Result<Picture, DecodeError> {
    let (format, mut decoder) = decoder(bytes)?;
    if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        return Err(DecodeError::CutShort);
    }
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    let transparent = match &image {
        DynamicImage::ImageLumaA8(image) => image.pixels().any(|p| p.0[1] != u8::MAX),
        DynamicImage::ImageRgba8(image) => image.pixels().any(|p| p.0[3] != u8::MAX),
        DynamicImage::ImageLumaA16(image) => image.pixels().any(|p| p.0[1] != u16::MAX),
        DynamicImage::ImageRgba16(image) => image.pixels().any(|p| p.0[3] != u16::MAX),
        _ => false,
    };
    let (height, width) = (image.height() as usize, image.width() as usize);
    let (channels, bytes) = match image.color().has_color() {
        true => (3, image.into_rgb8().into_raw()),
        false => (1, image.into_luma8().into_raw()),
    };
    Ok(Picture { raster: Raster { channels, height, width, bytes }, transparent })
}

/// Whether a JPEG file goes on to its end marker. Decoders fill up what is missing, so that a file
/// cut short looks like an image whose lower part is grey.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        // To the next marker: in coded data, FF 00 is a byte FF and FF D0 to D7 are restarts.
        let Some(found) = bytes[at.min(bytes.len())..].iter().position(|byte| *byte == 0xff) else {
            return false;
        };
        at += found;
        let Some(marker) = bytes.get(at + 1) else { return false };
        match marker {
            0xd9 => return true,
            0x00 | 0x01 | 0xd0..=0xd8 => at += 2,
            0xff => at += 1,
            _ => {
                let Some(length) = bytes.get(at + 2..at + 4) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayAlphaImage, LumaA, Rgb, RgbImage, Rgba, RgbaImage};

    fn file(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        image.into().write_to(&mut out, format).unwrap();
        out.into_inner()
    }

    fn colours() -> RgbImage {
        RgbImage::from_fn(4, 2, |x, y| Rgb([60 * x as u8, 100 * y as u8, 200]))
    }

    #[test]
    fn every_kind_of_file_gives_its_pixels() {
        use ImageFormat::{Bmp, Gif, Png, Tiff, WebP};
        for format in [Png, WebP, Bmp, Tiff, Gif] {
            let bytes = file(colours(), format);
            let found = decode(&bytes).unwrap();
            let expected = Raster { channels: 3, height: 2, width: 4, bytes: colours().into_raw() };
            assert_eq!((found.raster, found.transparent), (expected, false), "{format:?}");
            let Header { height, width, channels, .. } = header(&bytes).unwrap();
            assert_eq!((height, width, channels), (2, 4, 3));
            for cut in 0..bytes.len() / 2 {
                assert!(decode(&bytes[..cut]).is_err(), "{format:?} cut at {cut}");
            }
        }
    }

    /// All prefixes of a JPEG are refused, though decoders would fill them up.
    #[test]
    fn jpegs_cut_short_are_refused() {
        let whole =
            file(RgbImage::from_fn(40, 40, |x, y| Rgb([x as u8, y as u8, 9])), ImageFormat::Jpeg);
        assert!(decode(&whole).is_ok());
        for cut in 0..whole.len() - 1 {
            assert!(decode(&whole[..cut]).is_err(), "{cut} of {}", whole.len());
        }
        // What follows the end doesn't matter: cameras and servers append things.
        assert!(decode(&[&whole[..], b"more"].concat()).is_ok());
    }

    #[test]
    fn transparency_is_dropped_and_told() {
        let clear = RgbaImage::from_pixel(2, 2, Rgba([1, 2, 3, 0]));
        let found = decode(&file(clear, ImageFormat::Png)).unwrap();
        assert_eq!((&found.raster.bytes[..3], found.transparent), (&[1, 2, 3][..], true));
        let opaque = RgbaImage::from_pixel(2, 2, Rgba([1, 2, 3, 255]));
        assert!(!decode(&file(opaque, ImageFormat::Png)).unwrap().transparent);
        let grey = GrayAlphaImage::from_pixel(2, 2, LumaA([9, 100]));
        let found = decode(&file(grey, ImageFormat::Png)).unwrap();
        assert_eq!((found.raster.channels, found.transparent), (1, true));
    }

    /// Orientation 6: the camera was turned, and the image is to be turned by 90 degrees.
    #[test]
    fn orientation_is_applied() {
        let jpeg = file(RgbImage::from_fn(32, 8, |x, _| Rgb([x as u8 * 8; 3])), ImageFormat::Jpeg);
        // APP1: Exif, little-endian TIFF of one entry: tag 0x112, SHORT, 1 value, 6.
        let tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let mut app1 = vec![0xff, 0xe1, 0, (2 + 6 + tiff.len()) as u8];
        app1.extend(b"Exif\0\0");
        app1.extend(tiff);
        let turned = [&jpeg[..2], &app1, &jpeg[2..]].concat();
        let Header { height, width, .. } = header(&turned).unwrap();
        assert_eq!((height, width), (32, 8));
        let found = decode(&turned).unwrap().raster;
        assert_eq!((found.height, found.width), (32, 8));
        // Left became top.
        assert!(found.bytes[0] < 20 && found.bytes[found.bytes.len() - 1] > 230);
    }

    #[test]
    fn what_is_no_image_is_named() {
        let message = |bytes: &[u8]| header(bytes).unwrap_err().to_string();
        assert_eq!(message(b""), "is empty");
        assert!(message(b"<!DOCTYPE html>").contains("HTML"));
        assert!(message(b"version https://git-lfs.github.com/spec/v1\n").contains("git lfs pull"));
        assert!(message(b"nothing").contains("no image"));
        let mut large = file(colours(), ImageFormat::Bmp);
        large[18..26].copy_from_slice(&[0, 0, 1, 0, 0, 0, 1, 0]);
        assert!(header(&large).is_err());
    }
}
