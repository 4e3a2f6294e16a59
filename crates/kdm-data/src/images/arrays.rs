//! Images in NumPy's files: an `.npy` or the array of an `.npz` that holds images, `[n, h, w, c]`
//! as most programs write them or `[n, c, h, w]` as this one does; bytes, or floats in [-1, 1],
//! [0, 1] or 0 to 255.

use std::path::Path;

use kdm_observer::Observer;

use super::budget::Budget;
use super::read::numbered;
use super::{ImageSet, ReadOptions, stopped};
use crate::io::region::Region;
use crate::io::view::{Npz, Number, View};
use crate::{Error, Labels, Result};

/// Names of arrays of images, the likeliest first.
const IMAGES: [&str; 8] = ["images", "samples", "image", "arr_0", "x", "data", "imgs", "x_train"];
/// Names of arrays of their classes.
const LABELS: [&str; 6] = ["labels", "label", "arr_1", "y", "classes", "y_train"];
/// Rows that are read at a time.
const ROWS: usize = 512;

/// Whether this is a file of NumPy's.
pub(super) fn is_there(path: &Path) -> bool {
    is_npz(path) || path.extension().is_some_and(|e| e == "npy") && !path.is_dir()
}

fn is_npz(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "npz") && !path.is_dir()
}

/// Which axes are which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    ChannelsFirst,
    ChannelsLast,
    Grey,
}

/// Channels an array may have; of 2 and 4 the last is opacity.
fn is_channels(n: usize) -> bool {
    (1..=4).contains(&n)
}

fn order(shape: &[usize], number: Number) -> Option<(Order, [usize; 3])> {
    match *shape {
        [_, height, width] => Some((Order::Grey, [1, height, width])),
        [_, a, b, c] => match (is_channels(a), is_channels(c)) {
            (false, false) => None,
            (true, true) if number.is_whole() => Some((Order::ChannelsLast, [c, a, b])),
            (true, _) => Some((Order::ChannelsFirst, [a, b, c])),
            (false, true) => Some((Order::ChannelsLast, [c, a, b])),
        },
        _ => None,
    }
}

/// How values become bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    Bytes,
    Unit,
    Signed,
}

impl Range {
    /// What the least and largest value tell.
    fn of(least: f64, most: f64) -> Option<Self> {
        // A little beyond is what networks draw.
        match (least, most) {
            _ if least >= 0.0 && most <= 1.0 => Some(Self::Unit),
            _ if least >= -4.0 && most <= 4.0 => Some(Self::Signed),
            _ if least >= 0.0 && most <= 255.0 => Some(Self::Bytes),
            _ => None,
        }
    }

    fn byte(self, x: f64) -> u8 {
        let scaled = match self {
            Self::Bytes => x,
            Self::Unit => 255.0 * x,
            Self::Signed => 127.5 * (x + 1.0),
        };
        scaled.round().clamp(0.0, 255.0) as u8
    }

    fn words(self) -> &'static str {
        match self {
            Self::Bytes => "0 to 255",
            Self::Unit => "[0, 1]",
            Self::Signed => "[-1, 1]",
        }
    }
}

/// The array of images and that of classes, with their names.
fn find(path: &Path) -> Result<(View, String, Option<View>)> {
    let region = Region::file(path)?;
    if !is_npz(path) {
        return Ok((View::npy(region)?, "array".into(), None));
    }
    let npz = Npz::open(region)?;
    let is_image = |name: &str| npz.view(name).is_ok_and(|view| view.shape().len() == 4);
    let named = IMAGES.iter().find(|name| npz.has(name)).map(|name| name.to_string());
    let only = || {
        let mut all = npz.names().filter(|name| is_image(name));
        all.next().filter(|_| all.next().is_none()).map(String::from)
    };
    let Some(name) = named.or_else(only) else {
        let names: Vec<&str> = npz.names().collect();
        let problem = format!("has no array of images among {names:?}");
        let action = format!("name the array one of {}", IMAGES.join(", "));
        return Err(Error::invalid(path, "images", problem, action));
    };
    let labels = LABELS.iter().find(|name| npz.has(name)).map(|name| npz.view(name)).transpose()?;
    Ok((npz.view(&name)?, name, labels))
}

/// Reads the images of a file.
pub(super) fn read(
    path: &Path,
    options: &ReadOptions,
    observer: &dyn Observer,
) -> Result<ImageSet> {
    let (view, name, labels) = find(path)?;
    let invalid = |problem: String| {
        let action = "give images [n, height, width, channels] or [n, channels, height, width], \
                      as bytes or in [-1, 1]";
        Error::invalid(path, &name, problem, action)
    };
    let (shape, count) = (view.shape(), view.rows());
    let Some((order, [channels, height, width])) = order(shape, view.number()) else {
        return Err(invalid(format!("has shape {shape:?}, which is not of images")));
    };
    if shape.contains(&0) {
        return Err(invalid(format!("has shape {shape:?}: no images")));
    }
    let size = (channels * height * width) as u64;
    let kept = options.resolution.map_or(size, |side| (channels * side * side) as u64);
    // Numbers lie in the file as they are, so there is no ratio to look at.
    Budget::new(count).take(size, size, kept).map_err(|problem| invalid(problem.to_string()))?;
    let range =
        if view.number() == Number::Uint(1) { Range::Bytes } else { range(&view, invalid)? };
    let kept_channels = if channels < 3 { 1 } else { 3 };
    let set = ImageSet { channels: kept_channels, height, width, ..ImageSet::default() };
    let mut read = set.emptied();
    let mut progress = observer.begin("read images", "images");
    for first in (0..count).step_by(ROWS) {
        progress.advance(first as u64, count as u64, "").map_err(stopped(path))?;
        let rows = view.rows_f64(first..(first + ROWS).min(count))?;
        let mut part = set.emptied();
        for image in rows.chunks_exact(channels * height * width) {
            let pixels = height * width;
            for c in 0..kept_channels {
                let at = |p: usize| match order {
                    Order::ChannelsLast => p * channels + c,
                    Order::ChannelsFirst | Order::Grey => c * pixels + p,
                };
                part.bytes.extend((0..pixels).map(|p| range.byte(image[at(p)])));
            }
        }
        let part = match options.resolution {
            Some(side) => part.resized(side),
            None => part,
        };
        read.bytes.extend(part.bytes);
        (read.height, read.width) = (part.height, part.width);
    }
    progress.finish("read");
    let order = match order {
        Order::ChannelsFirst => "[n, channels, height, width]",
        Order::ChannelsLast => "[n, height, width, channels]",
        Order::Grey => "[n, height, width]",
    };
    let opacity = if channels % 2 == 0 { "; opacity is left out" } else { "" };
    let words = range.words();
    observer.info(&format!(
        "{}: {count} images of `{name}`, read as {order} with values in {words}{opacity}",
        path.display()
    ));
    let Some(view) = labels else { return Ok(read) };
    let (labels, classes) = Labels::parse(view.shape(), &view.to_f64()?, None)
        .map_err(|e| Error::invalid(path, "labels", e.to_string(), crate::labels::GIVE_LABELS))?;
    let known = labels.classes();
    if known.len() != count {
        let problem = format!("{} classes for {count} images", known.len());
        return Err(Error::invalid(path, "labels", problem, "give each image one class, or none"));
    }
    // One-hot rows may have room for more classes than there are.
    let shown = known.iter().max().map_or(0, |most| *most as usize + 1);
    let class_names = if classes > shown { numbered(Vec::new(), classes) } else { Vec::new() };
    Ok(ImageSet { labels: known, class_names, ..read })
}

/// The range that an array's values are in, over all of it.
fn range(view: &View, invalid: impl Fn(String) -> Error) -> Result<Range> {
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for first in (0..view.rows()).step_by(ROWS) {
        for (i, x) in view.rows_f64(first..(first + ROWS).min(view.rows()))?.into_iter().enumerate()
        {
            if !x.is_finite() {
                let row = first + i / view.row_len();
                return Err(invalid(format!("image {row} has a value that is not finite ({x})")));
            }
            (least, most) = (least.min(x), most.max(x));
        }
    }
    Range::of(least, most)
        .ok_or_else(|| invalid(format!("has values from {least} to {most}, which are no pixels")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Array, Split, array};
    use kdm_observer::Silent;

    fn read_back(arrays: &[(&str, &Array)]) -> Result<ImageSet> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npz");
        array::write_npz(&path, arrays).unwrap();
        ImageSet::open(path.to_str().unwrap(), Split::Train, &Silent)
    }

    /// One image of 5x6 pixels in both orders and in all ranges is the same image.
    #[test]
    fn orders_and_ranges_are_told_apart() {
        let byte = |c: usize, p: usize| ((c * 30 + p) * 2 % 256) as f32;
        let first: Vec<f32> = (0..90).map(|i| byte(i / 30, i % 30)).collect();
        let last: Vec<f32> = (0..90).map(|i| byte(i % 3, i / 3)).collect();
        let scaled = |x: &[f32], f: fn(f32) -> f32| x.iter().map(|x| f(*x)).collect::<Vec<f32>>();
        for (shape, values) in [
            (vec![1, 3, 5, 6], first.clone()),
            (vec![1, 5, 6, 3], last.clone()),
            (vec![1, 3, 5, 6], scaled(&first, |x| x / 127.5 - 1.0)),
            (vec![1, 5, 6, 3], scaled(&last, |x| x / 255.0)),
        ] {
            let set = read_back(&[("images", &Array::new(shape.clone(), values))]).unwrap();
            assert_eq!(set.shape(), [3, 5, 6]);
            let expected: Vec<u8> = first.iter().map(|x| *x as u8).collect();
            assert_eq!(set.bytes, expected, "{shape:?}");
        }
        let grey = Array::new([2, 7, 7], vec![0.5; 98]);
        assert_eq!(
            read_back(&[("anything", &Array::new([2, 1, 7, 7], vec![0.5; 98]))]).unwrap().len(),
            2
        );
        assert_eq!(read_back(&[("x", &grey)]).unwrap().shape(), [1, 7, 7]);
        let mut opaque = vec![0.2; 2 * 49 * 4];
        opaque[3] = 1.0;
        assert_eq!(
            read_back(&[("x", &Array::new([2, 7, 7, 4], opaque))]).unwrap().shape(),
            [3, 7, 7]
        );
    }

    #[test]
    fn classes_come_along_and_what_is_wrong_is_named() {
        let images = Array::new([3, 1, 7, 7], vec![0.0; 147]);
        let labels = |shape: &[usize], values: &[f32]| {
            read_back(&[("images", &images), ("labels", &Array::new(shape, values.to_vec()))])
        };
        let set = labels(&[3, 1], &[2.0, 0.0, 1.0]).unwrap();
        assert_eq!((set.label(0), set.classes()), (Some(2), 3));
        let rows = labels(&[3, 4], &[0., 1., 0., 0., 1., 0., 0., 0., 1., 0., 0., 0.]).unwrap();
        assert_eq!((rows.label(0), rows.classes()), (Some(1), 4));
        for (shape, values) in [(vec![3], vec![0.5; 3]), (vec![2], vec![0.0; 2])] {
            assert!(labels(&shape, &values).unwrap_err().to_string().contains("labels"));
        }
        let refused = |shape: &[usize], x: f32| {
            let values = vec![x; shape.iter().product()];
            read_back(&[("images", &Array::new(shape, values))]).unwrap_err().to_string()
        };
        assert!(refused(&[2, 7, 7, 3], f32::NAN).contains("not finite"));
        assert!(refused(&[2, 7, 7, 3], -30.0).contains("-30"));
        assert!(refused(&[2, 7, 7, 9], 0.0).contains("shape"));
        assert!(refused(&[0, 7, 7, 3], 0.0).contains("no images"));
        assert!(read_back(&[("pairs", &Array::new([2], vec![0.0; 2]))]).is_err());
    }
}
