//! Sets of images in memory, as bytes: what teachers and feature networks learn from, and what
//! samples are measured against.
//!
//! Each source has a file of its own: EDM's zips, IDX files (Fashion-MNIST), CIFAR-10's binary
//! batches, folders of image files, and the procedural set `shapes`.
//!
//! ```
//! use kdm_data::ImageSet;
//! use kdm_data::images::shapes;
//! use kdm_observer::Silent;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Ten images of one coloured shape each, and what they show.
//! let (set, factors) = shapes::draw(3, 10);
//! assert_eq!((set.shape(), set.len()), ([3, 32, 32], 10));
//! assert_eq!(set.label(0), Some(factors[0].shape as u32));
//! assert!(set.image(0).iter().all(|x| (-1.0..=1.0).contains(x)));
//!
//! // In EDM's layout and back.
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("shapes.zip");
//! set.write_zip(&path, &Silent)?;
//! assert_eq!(ImageSet::open_zip(&path, &Silent)?.images(0..10), set.images(0..10));
//! # Ok(())
//! # }
//! ```

mod cifar;
mod folder;
mod idx;
pub mod shapes;
mod zip;

use std::path::Path;

use kdm_observer::{Observer, Stopped};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, hash};

/// Which part of a data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// What models learn from.
    #[default]
    Train,
    /// What no model may see.
    Test,
}

impl Split {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// Images of one size, with their classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageSet {
    channels: usize,
    height: usize,
    width: usize,
    /// Channel by channel, image by image.
    bytes: Vec<u8>,
    /// One an image; empty without classes.
    labels: Vec<u32>,
    /// Names of the classes, where they are known.
    class_names: Vec<String>,
}

/// Images that are larger than what they should be padded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("images of {height}x{width} pixels don't fit into {side}x{side}")]
pub struct TooLarge {
    /// Their height.
    pub height: usize,
    /// Their width.
    pub width: usize,
    /// The side of the squares they should fit into.
    pub side: usize,
}

/// Why a file can't join a set of images.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error(transparent)]
    Unreadable(#[from] image::ImageError),
    #[error("is {}, and the first image is {}", by(*found), by(*first))]
    Size { found: [usize; 3], first: [usize; 3] },
}

/// "CxHxW".
fn by([channels, height, width]: [usize; 3]) -> String {
    format!("{channels}x{height}x{width}")
}

/// The error of a reading that the observer stopped.
fn stopped(path: &Path) -> impl FnOnce(Stopped) -> Error {
    let work = format!("reading the images of `{}`", path.display());
    Error::stopped(work, "nothing was changed", "run the same command again: it begins anew")
}

/// Data sets that are known by name, for messages.
const NAMED: &str = "`fashion-mnist` and `shapes`";
/// Where Debian's `dataset-fashion-mnist` puts its files.
const FASHION_MNIST: &str = "/usr/share/datasets/fashion-mnist";
const FASHION_MNIST_CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];
/// The classes of a data set that is known by name; none for others.
pub fn known_classes(name: &str) -> Vec<String> {
    match name {
        "fashion-mnist" => FASHION_MNIST_CLASSES.map(String::from).to_vec(),
        "shapes" => shapes::SHAPES.map(String::from).to_vec(),
        _ => Vec::new(),
    }
}

/// Images of the procedural set.
const SHAPES: (usize, usize) = (50_000, 10_000);

impl ImageSet {
    /// Opens a data set by name (`fashion-mnist`, `shapes`) or by path: a .zip in EDM's layout, a
    /// folder of IDX files, of CIFAR-10's binary batches, or of image files, whose sub-folders are
    /// its classes (or `train` and `test`, with classes below them). A .zip, or a folder without
    /// `train` and `test`, is all of it `train`.
    ///
    /// # Errors
    /// When there is no such set or split, or a file is damaged; the message says what to install
    /// or to give. When the observer stops the reading.
    pub fn open(source: &str, split: Split, observer: &dyn Observer) -> Result<Self> {
        let path = Path::new(source);
        match source {
            "fashion-mnist" => {
                let folder = Path::new(FASHION_MNIST);
                if !idx::is_there(folder) {
                    let action = "install it (`apt-get install dataset-fashion-mnist` on Debian), \
                                  or name a folder with its four IDX files in place of \
                                  `fashion-mnist`";
                    return Err(Error::invalid(
                        folder,
                        "Fashion-MNIST",
                        "is not installed",
                        action,
                    ));
                }
                let class_names = FASHION_MNIST_CLASSES.map(String::from).to_vec();
                Ok(Self { class_names, ..idx::open(folder, split)? })
            }
            "shapes" => Ok(match split {
                Split::Train => shapes::draw(0, SHAPES.0).0,
                Split::Test => shapes::draw(1, SHAPES.1).0,
            }),
            _ if path.is_file() => {
                Self::whole(path, split)?;
                Self::open_zip(path, observer)
            }
            _ if idx::is_there(path) => idx::open(path, split),
            _ if cifar::is_there(path) => cifar::open(path, split),
            _ if path.is_dir() => folder::open(path, split, observer),
            _ => {
                let action = format!(
                    "name a .zip in EDM's layout, a folder of images, of IDX files or of \
                     CIFAR-10's binary batches; or one of the sets {NAMED}"
                );
                Err(Error::invalid(path, "data set", "there is no such file or folder", action))
            }
        }
    }

    /// Refuses the test split of what has none.
    fn whole(path: &Path, split: Split) -> Result<()> {
        if split == Split::Test {
            let action =
                "give the test images' own file or folder as the data set, with the split `train`";
            return Err(Error::invalid(path, "split", "holds no test images of its own", action));
        }
        Ok(())
    }

    /// Appends a PNG or JPEG file's image.
    fn push_file(&mut self, bytes: &[u8]) -> std::result::Result<(), Unfit> {
        let image = image::load_from_memory(bytes)?;
        let channels = if image.color().has_color() { 3 } else { 1 };
        let found = [channels, image.height() as usize, image.width() as usize];
        if self.bytes.is_empty() {
            [self.channels, self.height, self.width] = found;
        }
        if found != self.shape() {
            return Err(Unfit::Size { found, first: self.shape() });
        }
        let interleaved = if channels == 3 {
            image.into_rgb8().into_raw()
        } else {
            image.into_luma8().into_raw()
        };
        for c in 0..channels {
            self.bytes.extend(interleaved.iter().skip(c).step_by(channels));
        }
        Ok(())
    }

    /// The images with zero padding to `side` x `side` pixels, centred. The padding's bytes are 0,
    /// its values -1. As they are when that is their size.
    ///
    /// # Errors
    /// When they are larger.
    pub fn padded(self, side: usize) -> std::result::Result<Self, TooLarge> {
        let (h, w) = (self.height, self.width);
        if (h, w) == (side, side) {
            return Ok(self);
        }
        if h > side || w > side {
            return Err(TooLarge { height: h, width: w, side });
        }
        let mut bytes = vec![0; self.bytes.len() / (h * w) * side * side];
        let (top, left) = ((side - h) / 2, (side - w) / 2);
        for (plane, out) in self.bytes.chunks_exact(h * w).zip(bytes.chunks_exact_mut(side * side))
        {
            for (row, out) in plane.chunks_exact(w).zip(out.chunks_exact_mut(side).skip(top)) {
                out[left..left + w].copy_from_slice(row);
            }
        }
        Ok(Self { height: side, width: side, bytes, ..self })
    }

    /// The first `n` images alone (no more than there are).
    pub fn first(mut self, n: usize) -> Self {
        let n = n.min(self.len());
        self.bytes.truncate(n * self.size());
        self.labels.truncate(n);
        self
    }

    /// `[C, H, W]`.
    pub fn shape(&self) -> [usize; 3] {
        [self.channels, self.height, self.width]
    }

    /// Values an image.
    fn size(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Images.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.size().max(1)
    }

    /// Whether there are none; never so for a set that opens.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Classes; 0 without.
    pub fn classes(&self) -> usize {
        self.labels.iter().max().map_or(0, |most| *most as usize + 1)
    }

    /// The name of a class: its number where no name is known.
    pub fn class_name(&self, class: u32) -> String {
        self.class_names.get(class as usize).cloned().unwrap_or_else(|| class.to_string())
    }

    /// Image `i` (less than [`Self::len`]) in [-1, 1], channel by channel.
    pub fn image(&self, i: usize) -> Vec<f32> {
        let size = self.size();
        self.bytes[i * size..(i + 1) * size].iter().map(|b| f32::from(*b) / 127.5 - 1.0).collect()
    }

    /// The images `range` (within [`Self::len`]), one after the other, in [-1, 1].
    pub fn images(&self, range: std::ops::Range<usize>) -> Vec<f32> {
        range.flat_map(|i| self.image(i)).collect()
    }

    /// The class of image `i`; none without classes.
    pub fn label(&self, i: usize) -> Option<u32> {
        self.labels.get(i).copied()
    }

    /// Image `i` as a PNG file.
    pub fn png(&self, i: usize) -> Vec<u8> {
        let (size, pixels) = (self.size(), self.height * self.width);
        let planes = &self.bytes[i * size..(i + 1) * size];
        let interleaved: Vec<u8> =
            (0..size).map(|k| planes[k % self.channels * pixels + k / self.channels]).collect();
        let (width, height) = (self.width as u32, self.height as u32);
        let image = match self.channels {
            1 => image::GrayImage::from_raw(width, height, interleaved)
                .map(image::DynamicImage::ImageLuma8),
            _ => image::RgbImage::from_raw(width, height, interleaved)
                .map(image::DynamicImage::ImageRgb8),
        };
        let mut out = std::io::Cursor::new(Vec::new());
        let image = image.expect("as many bytes as pixels");
        image.write_to(&mut out, image::ImageFormat::Png).expect("memory takes everything");
        out.into_inner()
    }

    /// A hash of all images and classes.
    pub fn sha256(&self) -> String {
        let mut all = self.bytes.clone();
        all.extend(self.shape().iter().flat_map(|n| n.to_le_bytes()));
        all.extend(self.labels.iter().flat_map(|l| l.to_le_bytes()));
        hash::sha256(&all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_observer::Silent;

    #[test]
    fn padding_keeps_the_image_in_the_middle() {
        let set = ImageSet {
            channels: 1,
            height: 2,
            width: 2,
            bytes: vec![1, 2, 3, 4, 5, 6, 7, 8],
            ..Default::default()
        };
        let padded = set.clone().padded(4).unwrap();
        assert_eq!((padded.shape(), padded.len()), ([1, 4, 4], 2));
        assert_eq!(padded.bytes[16..], [0, 0, 0, 0, 0, 5, 6, 0, 0, 7, 8, 0, 0, 0, 0, 0]);
        assert_eq!(set.clone().padded(2).unwrap(), set);
        assert_eq!(set.padded(1).unwrap_err(), TooLarge { height: 2, width: 2, side: 1 });
    }

    #[test]
    fn what_is_missing_says_what_to_do() {
        let message = ImageSet::open("no-such-set", Split::Train, &Silent).unwrap_err().to_string();
        assert!(message.contains("no-such-set") && message.contains("fashion-mnist"), "{message}");
    }
}
