//! Pairs in parts: a file, a member of an archive, a pair of files, each with one pair or many.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};

use kdm_data::labels::GIVE_LABELS;
use kdm_data::pairs::{PairSource, StateTime};
use kdm_data::region::Region;
use kdm_data::view::View;
use kdm_data::{Error, Labels, Result, Samples};

use super::states::States;

/// Rows of images: numbers in a file, or the pixels of one picture.
#[derive(Clone, Debug)]
pub enum Rows {
    /// One image a row.
    View(View),
    /// One image, [H, W] or [H, W, C], in bytes.
    Picture {
        /// Its shape.
        shape: Vec<usize>,
        /// Its pixels.
        pixels: Vec<u8>,
    },
}

impl Rows {
    /// Shape of an image.
    fn shape(&self) -> &[usize] {
        match self {
            Self::View(view) => &view.shape()[1..],
            Self::Picture { shape, .. } => shape,
        }
    }

    /// Shape of an image with the channels first, as noise beside it has it.
    pub fn planes(&self) -> Vec<usize> {
        match (self, self.shape()) {
            (Self::Picture { .. }, [height, width, channels]) => vec![*channels, *height, *width],
            (Self::Picture { .. }, shape) => [&[1], shape].concat(),
            (Self::View(_), shape) => shape.to_vec(),
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::View(view) => view.rows(),
            Self::Picture { .. } => 1,
        }
    }

    fn is_whole(&self) -> bool {
        match self {
            Self::View(view) => view.number().is_whole(),
            Self::Picture { .. } => true,
        }
    }

    fn read(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        match self {
            Self::View(view) => view.rows_f32(rows),
            Self::Picture { pixels, .. } => Ok(pixels.iter().map(|x| f32::from(*x)).collect()),
        }
    }

    /// Reads a picture file.
    ///
    /// # Errors
    /// When it is none, or damaged.
    pub fn picture(region: &Region) -> Result<Self> {
        let image = image::load_from_memory(&region.to_vec()?)
            .map_err(|e| region.invalid(e.to_string(), "remove that pair and import again"))?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        Ok(if image.color().has_color() {
            let pixels = image.into_rgb8().into_raw();
            Self::Picture { shape: vec![height, width, 3], pixels }
        } else {
            Self::Picture { shape: vec![height, width], pixels: image.into_luma8().into_raw() }
        })
    }
}

/// Labels of a part.
#[derive(Clone, Debug)]
pub enum LabelRows {
    /// Class numbers or one-hot rows.
    View(View),
    /// The class of a single pair.
    Class(f64),
}

impl LabelRows {
    /// The label of one pair: a number, or a one-hot row.
    pub fn one(view: &View) -> Self {
        Self::View(match view.shape() {
            [] => view.as_row(),
            [width] if *width > 1 => view.as_row(),
            _ => view.clone(),
        })
    }

    fn read(&self, rows: Range<usize>) -> Result<(Vec<usize>, Vec<f64>)> {
        match self {
            Self::View(view) => {
                let shape = [&[rows.len()], &view.shape()[1..]].concat();
                Ok((shape, view.rows_f64(rows)?))
            }
            Self::Class(class) => Ok((vec![1], vec![*class])),
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::View(view) => view.rows(),
            Self::Class(_) => 1,
        }
    }
}

/// Noise, images and labels of some pairs.
#[derive(Clone, Debug)]
pub struct Part {
    /// One noise a row.
    pub noise: View,
    /// One image a row.
    pub image: Rows,
    /// One label a row.
    pub label: Option<LabelRows>,
    /// The file, for messages.
    pub file: PathBuf,
}

impl Part {
    /// Whether its arrays are of as many pairs.
    fn check(&self) -> Result<()> {
        let (noise, images) = (self.noise.rows(), self.image.rows());
        let labels = self.label.as_ref().map_or(noise, LabelRows::rows);
        if noise != images || self.noise.shape().is_empty() {
            let problem = format!("has {noise} noises and {images} images");
            let action = "give as many noises as images, pairs first";
            return Err(Error::invalid(&self.file, "noise", problem, action));
        }
        if labels != noise {
            let problem = format!("has {labels} labels for {noise} pairs");
            return Err(Error::invalid(&self.file, "label", problem, GIVE_LABELS));
        }
        Ok(())
    }

    /// Pairs.
    pub fn rows(&self) -> usize {
        self.noise.rows()
    }
}

/// Something that holds pairs in parts.
pub trait PartSource {
    /// Parts.
    fn count(&self) -> usize;

    /// Opens a part.
    ///
    /// # Errors
    /// When it is not there, or damaged.
    fn open(&self, i: usize) -> Result<Part>;
}

impl PartSource for Part {
    fn count(&self) -> usize {
        1
    }

    fn open(&self, _: usize) -> Result<Part> {
        Ok(self.clone())
    }
}

/// The pairs of all parts in a row.
pub struct Parts<S> {
    source: S,
    path: PathBuf,
    found: String,
    /// Where each part begins, and where the last one ends; none where each is one pair.
    starts: Option<Vec<usize>>,
    first: Part,
    /// What the file tells.
    pub noise_std: Option<f64>,
    /// What the file tells.
    pub label_dim: Option<usize>,
    /// States between noise and image, of a source of one part.
    pub states: Option<States>,
    last_opened: RefCell<Option<(usize, Part)>>,
}

impl<S: PartSource> Parts<S> {
    /// `starts`: where each part begins, and where the last ends, if parts have more than one pair.
    ///
    /// # Errors
    /// When there are none, or the first can't be opened.
    pub fn new(source: S, path: &Path, starts: Option<Vec<usize>>, found: String) -> Result<Self> {
        let count = starts.as_ref().map_or(source.count(), |s| s.last().copied().unwrap_or(0));
        if source.count() == 0 || count == 0 {
            return Err(Error::invalid(path, "pairs", "there are none", super::ACTION));
        }
        let first = source.open(0)?;
        first.check()?;
        // One-hot rows tell how many classes there are.
        let label_dim = match &first.label {
            Some(LabelRows::View(view)) => view.shape().get(1).copied().filter(|width| *width > 1),
            _ => None,
        };
        let path = path.to_path_buf();
        let last_opened = RefCell::new(None);
        let (noise_std, states) = (None, None);
        Ok(Self { source, path, found, starts, first, noise_std, label_dim, states, last_opened })
    }

    /// The part of a pair, and the pair's place in it.
    fn locate(&self, pair: usize) -> (usize, usize) {
        match &self.starts {
            None => (pair, 0),
            Some(starts) => {
                let part = starts.partition_point(|start| *start <= pair) - 1;
                (part, pair - starts[part])
            }
        }
    }

    /// Runs `f` on a part, which stays open until another is asked for.
    fn with<T>(&self, i: usize, f: impl FnOnce(&Part) -> Result<T>) -> Result<T> {
        let mut opened = self.last_opened.borrow_mut();
        if opened.as_ref().is_none_or(|(at, _)| *at != i) {
            let part = self.source.open(i)?;
            part.check()?;
            self.fits(&part)?;
            *opened = Some((i, part));
        }
        f(&opened.as_ref().expect("opened above").1)
    }

    /// Whether a part is of the same kind as the first.
    fn fits(&self, part: &Part) -> Result<()> {
        let shapes = [
            ("image", part.image.shape(), self.first.image.shape()),
            ("noise", &part.noise.shape()[1..], &self.first.noise.shape()[1..]),
        ];
        for (name, shape, first) in shapes {
            if shape != first {
                let problem =
                    format!("is of shape {shape:?}, and that of the first pair {first:?}");
                let action = "remove that file and import again";
                return Err(Error::invalid(&part.file, name, problem, action));
            }
        }
        if part.label.is_some() != self.first.label.is_some() {
            let (has, first) = match part.label {
                Some(_) => ("has a label", "hasn't"),
                None => ("has no label", "has one"),
            };
            let problem = format!("{has}, and the first pair {first}");
            return Err(Error::invalid(&part.file, "label", problem, GIVE_LABELS));
        }
        if part.image.is_whole() != self.first.image.is_whole() {
            let problem = "is of another kind of numbers than the first pair's";
            let action = "save all images in the same type";
            return Err(Error::invalid(&part.file, "image", problem, action));
        }
        Ok(())
    }
}

impl<S: PartSource> PairSource for Parts<S> {
    fn len(&self) -> usize {
        self.starts.as_ref().map_or(self.source.count(), |s| s.last().copied().unwrap_or(0))
    }

    fn found(&self) -> String {
        self.found.clone()
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn image_shape(&self) -> &[usize] {
        self.first.image.shape()
    }

    fn noise_shape(&self) -> &[usize] {
        &self.first.noise.shape()[1..]
    }

    fn whole_images(&self) -> bool {
        self.first.image.is_whole()
    }

    fn noise_std(&self) -> Option<f64> {
        self.noise_std
    }

    fn label_dim(&self) -> Option<usize> {
        self.label_dim
    }

    fn state_count(&self) -> usize {
        self.states.as_ref().map_or(0, States::count)
    }

    fn state_times(&self) -> Option<Vec<StateTime>> {
        self.states.as_ref().and_then(States::times)
    }

    fn read_states(&self, range: Range<usize>) -> Result<Vec<f32>> {
        self.states.as_ref().map_or(Ok(Vec::new()), |states| states.read(range))
    }

    fn read(&self, range: Range<usize>) -> Result<Samples> {
        let mut samples = Samples::default();
        let mut pair = range.start;
        while pair < range.end {
            let (i, at) = self.locate(pair);
            pair += self.with(i, |part| {
                let rows = at..part.rows().min(at + range.end - pair);
                samples.noise.extend(part.noise.rows_f32(rows.clone())?);
                samples.images.extend(part.image.read(rows.clone())?);
                let labels = match &part.label {
                    None => Labels::none(rows.len()),
                    Some(label) => {
                        let (shape, values) = label.read(rows.clone())?;
                        let parsed = Labels::parse(&shape, &values, None).map_err(|e| {
                            let problem = e.after(rows.start).to_string();
                            Error::invalid(&part.file, "label", problem, GIVE_LABELS)
                        })?;
                        parsed.0
                    }
                };
                samples.labels.append(&labels);
                Ok(rows.len())
            })?;
        }
        Ok(samples)
    }

    fn place(&self, pair: usize) -> String {
        let (i, at) = self.locate(pair);
        match self.with(i, |part| Ok(part.file.clone())) {
            Ok(file) if file != self.path => format!("pair {at} of `{}`", file.display()),
            _ => format!("pair {pair}"),
        }
    }
}
