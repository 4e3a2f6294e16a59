//! Sets of images in memory, as bytes: what teachers and feature networks learn from, and what
//! samples are measured against.
//!
//! Sources of image files are trees (a folder, a zip, a tar), which are read one way: `tree` lists
//! their files, `arrangement` decides from the names which are images of which class, `decode` and
//! `resize` make pixels of them, within a `budget`. Sources of arrays have files of their own: IDX
//! (Fashion-MNIST), CIFAR's batches, NumPy's arrays, and the procedural set `shapes`.
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

mod arrangement;
mod arrays;
mod budget;
mod cifar;
mod dataset_json;
mod decode;
mod idx;
mod pad;
mod read;
mod resize;
pub mod shapes;
mod split_off;
mod survey;
mod tree;
mod turns;
#[cfg(test)]
mod whole_tests;
mod write;

use std::path::Path;

use kdm_observer::{Observer, Stopped};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use cifar::Batch;
pub use pad::PadError;
pub use survey::{LOOKED_AT, Survey, has_test, survey};

use crate::labels::MOST_CLASSES;
use crate::{Error, Result, hash};
use resize::Raster;
use tree::Tree;

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

/// How the images of a source are read. The default is as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOptions {
    /// Crops images to the square in their middle and resizes them to this many pixels a side, as
    /// EDM's `dataset_tool.py --transform=center-crop` does.
    pub resolution: Option<usize>,
    /// How many classes there are, where the images show fewer.
    pub classes: Option<usize>,
    /// Reads a pickle of one of CIFAR's batches; pickles are refused without it.
    pub unpickle: Option<Unpickle>,
}

/// A function that reads a pickle of one of CIFAR's batches, and runs nothing that is in it.
pub type Unpickle = fn(&[u8]) -> std::result::Result<Batch, UnpickleError>;

/// Why a pickle is no batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnpickleError(pub String);

impl ReadOptions {
    /// The most pixels a side that images are resized to.
    pub const MOST_RESOLUTION: usize = 4096;

    /// Crops and resizes to so many pixels a side.
    pub fn resized(side: usize) -> Self {
        Self { resolution: Some(side), ..Self::default() }
    }
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

fn fashion_mnist(split: Split) -> Result<ImageSet> {
    let folder = Path::new(FASHION_MNIST);
    if !idx::is_there(folder) {
        let action = "install it (`apt-get install dataset-fashion-mnist` on Debian), or name a \
                      folder with its four IDX files in place of `fashion-mnist`";
        return Err(Error::invalid(folder, "Fashion-MNIST", "is not installed", action));
    }
    let class_names = FASHION_MNIST_CLASSES.map(String::from).to_vec();
    Ok(ImageSet { class_names, ..idx::open(folder, split)? })
}

/// What to name as a data set.
fn sources() -> String {
    format!(
        "name a folder, .zip or .tar of images or of CIFAR-10's batches, an .npz of images, or a \
         folder of IDX files; or one of the sets {NAMED}"
    )
}

/// The error of a source that can't be opened: one that isn't there may be a name.
fn unknown(error: Error, path: &Path) -> Error {
    match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Error::invalid(path, "data set", "there is no such file or folder", sources())
        }
        other => other,
    }
}

/// The images of one file that is no archive.
fn one_file(path: &Path, options: &ReadOptions) -> Result<ImageSet> {
    let start = tree::start(path)?;
    if cifar::is_pickle(&start) || path.extension().is_some_and(|e| e == "bin") {
        let bytes = crate::regular::read(path, tree::MOST_BYTES)?;
        return cifar::read_one(path, &bytes, options);
    }
    let problem = match decode::header(&start) {
        Ok(_) => "is one image, and not a set of images".to_string(),
        Err(problem) => problem.to_string(),
    };
    Err(Error::invalid(path, "data set", problem, sources()))
}

impl ImageSet {
    /// None of these images.
    fn emptied(&self) -> Self {
        Self { bytes: Vec::new(), labels: Vec::new(), class_names: Vec::new(), ..*self }
    }

    /// [`Self::open_with`] the default options.
    ///
    /// # Errors
    /// As there.
    pub fn open(source: &str, split: Split, observer: &dyn Observer) -> Result<Self> {
        Self::open_with(source, split, &ReadOptions::default(), observer)
    }

    /// Opens a data set by name (`fashion-mnist`, `shapes`) or by path: a folder, a .zip or a .tar
    /// (also .tar.gz) of image files or of CIFAR's batches, an .npz or .npy of images, or a folder
    /// of IDX files.
    ///
    /// Of image files, hidden ones are left out and others counted. Classes are what
    /// `dataset.json` gives (EDM's layout), or else the folders; `train` and `test` (or `val`)
    /// above them are splits, and without such folders all is `train`. A folder around everything
    /// is passed over. Grey images among coloured ones become RGB. What was left out or changed is
    /// told to the observer.
    ///
    /// # Errors
    /// When there is no such set or split, a file is damaged, sizes differ and `options` give no
    /// resolution, or reading would take more than the machine can spare; the message says what to
    /// install or to give. When the observer stops the reading.
    pub fn open_with(
        source: &str,
        split: Split,
        options: &ReadOptions,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let path = Path::new(source);
        if let Some(side @ (0 | ReadOptions::MOST_RESOLUTION..)) = options.resolution {
            let problem = format!("is {side}");
            let action = format!("give 1 to {}", ReadOptions::MOST_RESOLUTION - 1);
            return Err(Error::invalid(path, "resolution", problem, action));
        }
        let set = match source {
            "fashion-mnist" => fashion_mnist(split)?,
            "shapes" => match split {
                Split::Train => shapes::draw(0, SHAPES.0).0,
                Split::Test => shapes::draw(1, SHAPES.1).0,
            },
            _ if idx::is_there(path) => idx::open(path, split)?,
            _ if arrays::is_there(path) => {
                Self::whole(path, split)?;
                arrays::read(path, options, observer)?
            }
            _ => match Tree::open(path).map_err(|e| unknown(e, path))? {
                Some(mut tree) => {
                    let batches = cifar::batches(&tree.listing);
                    if batches.is_empty() {
                        read::read(path, &mut tree, split, options, observer)?
                    } else {
                        cifar::read(path, &mut tree, &batches, split, options, observer)?
                    }
                }
                None => {
                    Self::whole(path, split)?;
                    one_file(path, options)?
                }
            },
        };
        let set = match options.resolution {
            Some(side) => set.resized(side),
            None => set,
        };
        set.with_classes(options.classes, path)
    }

    /// Reads all images of a .zip.
    ///
    /// # Errors
    /// As [`Self::open_with`].
    pub fn open_zip(path: &Path, observer: &dyn Observer) -> Result<Self> {
        Self::open(&path.to_string_lossy(), Split::Train, observer)
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

    /// The set with room for so many classes.
    fn with_classes(self, classes: Option<usize>, path: &Path) -> Result<Self> {
        let Some(classes) = classes else { return Ok(self) };
        let problem = match self.classes() {
            0 => "the images have no classes".to_string(),
            found if found > classes => format!("{classes} are given, and the images have {found}"),
            _ if classes > MOST_CLASSES => format!("{classes} are more than {MOST_CLASSES}"),
            _ => {
                let class_names = read::numbered(self.class_names, classes);
                return Ok(Self { class_names, ..self });
            }
        };
        Err(Error::invalid(path, "classes", problem, "give the number that the data set has"))
    }

    /// The images cropped to the square in their middle and resized to `side` pixels; as
    /// [`ReadOptions::resolution`].
    pub fn resized(self, side: usize) -> Self {
        let [channels, height, width] = self.shape();
        if (height, width) == (side, side) {
            return self;
        }
        let planes = |image: &[u8]| {
            let one = |plane: &[u8]| {
                let bytes = plane.to_vec();
                Raster { channels: 1, height, width, bytes }.squared(side).bytes
            };
            image.chunks_exact(height * width).flat_map(one).collect::<Vec<u8>>()
        };
        let images: Vec<Vec<u8>> =
            self.bytes.par_chunks_exact(channels * height * width).map(planes).collect();
        Self { height: side, width: side, bytes: images.concat(), ..self }
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

    /// Classes, also those without images where their names are known; 0 without.
    pub fn classes(&self) -> usize {
        let shown = self.labels.iter().max().map_or(0, |most| *most as usize + 1);
        if shown == 0 { 0 } else { shown.max(self.class_names.len()) }
    }

    /// The name of a class: its number where no name is known.
    pub fn class_name(&self, class: u32) -> String {
        self.class_names.get(class as usize).cloned().unwrap_or_else(|| class.to_string())
    }

    /// The names of its classes in order; none where they are only numbered.
    pub fn class_names(&self) -> Vec<String> {
        let names: Vec<String> =
            (0..self.classes() as u32).map(|class| self.class_name(class)).collect();
        let numbered = names.iter().enumerate().all(|(class, name)| *name == class.to_string());
        if numbered { Vec::new() } else { names }
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
        assert_eq!(set.padded(1).unwrap_err(), PadError::Smaller { height: 2, width: 2, side: 1 });
    }

    #[test]
    fn what_is_missing_says_what_to_do() {
        let message = ImageSet::open("no-such-set", Split::Train, &Silent).unwrap_err().to_string();
        assert!(message.contains("no-such-set") && message.contains("fashion-mnist"), "{message}");
    }
}
