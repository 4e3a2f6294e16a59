//! Pairs drawn by other programs.
//!
//! Read here: a `.npy` of shape (steps, points, D), time first and noise first, the layout of the
//! official checkerboard pairs; a `.npz` with arrays `noise` and `image` (and `label`), which is
//! also what an export writes; and the official folders of images, one `.npz` a pair, read a few at
//! a time however many there are.

use std::ops::Range;
use std::path::{Path, PathBuf};

use kdm_observer::Observer;

use super::manifest::{ImageType, Manifest, NoiseSource};
use super::write::{Worker, fill};
use crate::hash::sha256;
use crate::{Array, Error, Labels, Result, Samples, array};

/// Pairs of a foreign file or folder.
#[derive(Clone, Debug)]
pub struct Import {
    source: Source,
    /// Shape of one image or point.
    shape: Vec<usize>,
    /// The class of each pair, if they have any.
    labels: Labels,
    /// Standard deviation of the noise as found, in the first pairs of a folder.
    noise_std: f64,
    /// What was found, for the history.
    pub found: String,
}

#[derive(Clone, Debug)]
enum Source {
    /// x_T and x_0, (pairs, ...) each.
    Memory { noise: Array, images: Array },
    /// One file a pair.
    Folder { files: Vec<PathBuf>, layout: Layout },
}

/// Which of a file's two ends is the image, and the array's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    array: &'static str,
    image_first: bool,
}

/// Files looked at before a folder is read: for the order of image and noise, and the noise's
/// deviation.
const LOOKED_AT: usize = 64;

impl Import {
    /// Pairs.
    pub fn len(&self) -> usize {
        match &self.source {
            Source::Memory { images, .. } => images.rows(),
            Source::Folder { files, .. } => files.len(),
        }
    }

    /// Whether there are none; never so for what was read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells one set of pairs from another: by content, or for a folder by its files' names and
    /// sizes and its first file.
    fn hash(&self) -> Result<String> {
        let labels = sha256(bytemuck::cast_slice(&self.labels.classes()));
        match &self.source {
            Source::Memory { noise, images } => {
                let [noise, images] =
                    [noise, images].map(|a| sha256(bytemuck::cast_slice(&a.data)));
                Ok(sha256([noise, images, labels].concat().as_bytes()))
            }
            Source::Folder { files, .. } => {
                let mut list = String::new();
                for file in files {
                    let size = std::fs::metadata(file).map_err(Error::io("read", file))?.len();
                    list.push_str(&format!(
                        "{} {size}\n",
                        file.file_name().unwrap_or_default().to_string_lossy()
                    ));
                }
                let first = std::fs::read(&files[0]).map_err(Error::io("read", &files[0]))?;
                Ok(sha256([list, sha256(&first), labels].concat().as_bytes()))
            }
        }
    }

    /// Standard deviation of the noise as found.
    pub fn noise_std(&self) -> f64 {
        self.noise_std
    }

    /// Some pairs in a row.
    fn range(&self, range: Range<usize>) -> Result<Samples> {
        let mut samples = Samples {
            shape: self.shape.clone(),
            labels: self.labels.range(range.clone()),
            ..Samples::default()
        };
        match &self.source {
            Source::Memory { noise, images } => {
                samples.noise = noise.slice_rows(range.clone()).data;
                samples.images = images.slice_rows(range).data;
            }
            Source::Folder { files, layout } => {
                for file in &files[range] {
                    let pair = read_one(file, Some(*layout))?;
                    if pair.shape != self.shape {
                        let problem = format!(
                            "has images {:?}, and the first file {:?}",
                            pair.shape, self.shape
                        );
                        let action = "remove that file and import again";
                        return Err(Error::invalid(file, layout.array, problem, action));
                    }
                    let (image, noise) = pair.ends(layout.image_first);
                    samples.images.extend(image);
                    samples.noise.extend(noise);
                }
            }
        }
        Ok(samples)
    }
}

/// Root mean square.
fn deviation(values: &[f32]) -> f64 {
    (values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / values.len().max(1) as f64).sqrt()
}

fn check_finite(path: &Path, name: &str, values: &[f32], width: usize) -> Result<()> {
    match values.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(i) => {
            let problem = format!("pair {} has the value {}", i / width.max(1), values[i]);
            Err(Error::invalid(path, name, problem, "remove that pair and import again"))
        }
    }
}

/// Reads pairs from a `.npy` or `.npz` file (the content decides, not the file's name), or finds
/// those of a folder.
///
/// # Errors
/// When the file is damaged or holds no pairs in a known layout, and when the observer stops the
/// reading of a folder's labels.
pub fn read_pairs(path: &Path, observer: &dyn Observer) -> Result<Import> {
    if path.is_dir() {
        return from_folder(path, observer);
    }
    let mut start = [0u8; 2];
    let mut file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    std::io::Read::read_exact(&mut file, &mut start).map_err(Error::io("read", path))?;
    let (noise, images, labels, found) =
        if &start == b"PK" { from_npz(path)? } else { from_npy(path)? };
    for (name, array) in [("noise", &noise), ("image", &images)] {
        check_finite(path, name, &array.data, array.row_len())?;
    }
    let (shape, noise_std) = (images.shape[1..].to_vec(), deviation(&noise.data));
    Ok(Import { source: Source::Memory { noise, images }, shape, labels, noise_std, found })
}

/// One file of a folder: two ends of a path, in the file's order.
struct Pair {
    layout: Layout,
    shape: Vec<usize>,
    first: Vec<f32>,
    last: Vec<f32>,
    label: Option<u32>,
}

impl Pair {
    /// Image and noise.
    fn ends(self, image_first: bool) -> (Vec<f32>, Vec<f32>) {
        if image_first { (self.first, self.last) } else { (self.last, self.first) }
    }
}

/// Reads one pair. Without a layout the array's name tells it, as far as it can.
fn read_one(path: &Path, layout: Option<Layout>) -> Result<Pair> {
    let mut arrays = array::read_npz(path)?;
    let label = arrays.iter().find(|(name, _)| name == "label").map(|(_, a)| a.data.clone());
    let label = match label.as_deref() {
        None => None,
        Some([class]) if *class >= 0.0 && class.fract() == 0.0 && *class < 1e6 => {
            Some(*class as u32)
        }
        Some(row) => {
            let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
            let Some(Some(class)) = crate::labels::one_hot_class(&row) else {
                let problem = "is neither a class number nor a one-hot row";
                let action = "give a class number or a one-hot row";
                return Err(Error::invalid(path, "label", problem, action));
            };
            Some(class)
        }
    };
    let known = |name: &str| arrays.iter().position(|(n, _)| n == name);
    let found = match layout {
        Some(layout) => known(layout.array).map(|i| (i, layout)),
        // `arr_0` comes in both orders.
        None => [("arr_0", false), ("arr1", true), ("endpoints", true)]
            .into_iter()
            .find_map(|(array, image_first)| Some((known(array)?, Layout { array, image_first }))),
    };
    let Some((i, layout)) = found else {
        let names: Vec<&str> = arrays.iter().map(|(n, _)| n.as_str()).collect();
        let problem = format!("are {names:?}, of no known layout of pairs");
        return Err(Error::invalid(path, "arrays", problem, FOLDERS));
    };
    let path_array = arrays.swap_remove(i).1;
    check_finite(path, layout.array, &path_array.data, path_array.data.len())?;
    let (steps, mut shape) =
        (path_array.rows(), path_array.shape[1.min(path_array.shape.len())..].to_vec());
    // A batch of one.
    if shape.len() == 4 && shape[0] == 1 {
        shape.remove(0);
    }
    let size = path_array.row_len();
    if steps < 2 || shape.len() != 3 || size == 0 {
        let problem = format!("has shape {:?}", path_array.shape);
        let action = "give (2 or more times, channels, height, width)";
        return Err(Error::invalid(path, layout.array, problem, action));
    }
    let (first, last) =
        (path_array.data[..size].to_vec(), path_array.data[(steps - 1) * size..].to_vec());
    Ok(Pair { layout, shape, first, last, label })
}

const FOLDERS: &str = "give a folder of .npz files, one a pair, each with `arr_0`, `arr1`, or \
                       `endpoints` and `label`";

fn from_folder(folder: &Path, observer: &dyn Observer) -> Result<Import> {
    let entries = std::fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("read", folder))?.path();
        if path.extension().is_some_and(|e| e == "npz") {
            files.push(path);
        }
    }
    files.sort();
    let Some(first) = files.first() else {
        return Err(Error::invalid(folder, "folder", "holds no .npz files", FOLDERS));
    };
    let mut layout = read_one(first, None)?.layout;
    let (mut ends, mut count, mut shape) = ([0.0f64; 2], 0, Vec::new());
    for file in files.iter().take(LOOKED_AT) {
        let pair = read_one(file, Some(layout))?;
        ends[0] += deviation(&pair.first).powi(2);
        ends[1] += deviation(&pair.last).powi(2);
        count += 1;
        shape = pair.shape;
    }
    let ends = ends.map(|sum| (sum / f64::from(count)).sqrt());
    if layout.array == "arr_0" {
        // CIFAR's have the noise first, FFHQ's and AFHQ's last. Noise of deviation 80 is easily
        // told from an image.
        if ends[0].max(ends[1]) < 2.0 * ends[0].min(ends[1]) {
            let problem = format!(
                "both ends deviate alike ({:.3} and {:.3}), so which is noise is not known",
                ends[0], ends[1]
            );
            let action = "write the pairs as one .npz with arrays `noise` and `image`";
            return Err(Error::invalid(first, "arr_0", problem, action));
        }
        layout.image_first = ends[1] > ends[0];
    }
    let labels = match layout.array {
        "endpoints" => labels_of(folder, &files, observer)?,
        _ => Labels::none(files.len()),
    };
    let order =
        if layout.image_first { "image first, noise last" } else { "noise first, image last" };
    let found = format!("{} files with `{}`, {order}", files.len(), layout.array);
    let noise_std = ends[usize::from(layout.image_first)];
    Ok(Import { source: Source::Folder { files, layout }, shape, labels, noise_std, found })
}

fn labels_of(folder: &Path, files: &[PathBuf], observer: &dyn Observer) -> Result<Labels> {
    let stopped = || {
        let work = format!("reading the labels in `{}`", folder.display());
        Error::stopped(work, "nothing was written", "run the same command again: it begins anew")
    };
    let mut progress = observer.begin("import: labels", "files");
    let mut classes = Vec::with_capacity(files.len());
    for (i, file) in files.iter().enumerate() {
        progress.advance(i as u64, files.len() as u64, "").map_err(stopped())?;
        classes.push(read_one(file, None)?.label.ok_or_else(|| {
            let action = "give `endpoints` and `label` in every file";
            Error::invalid(file, "label", "is missing", action)
        })?);
    }
    progress.report(files.len() as u64, files.len() as u64, "");
    progress.finish("every file has a label");
    Ok(Labels::of(&classes))
}

type Read = (Array, Array, Labels, String);

fn from_npy(path: &Path) -> Result<Read> {
    let all = array::read_npy(path)?;
    let [steps, points, dim] = all.shape[..] else {
        return Err(unknown(path, format!("an array of shape {:?}", all.shape)));
    };
    if steps < 2 || points == 0 || dim == 0 {
        return Err(unknown(path, format!("an array of shape {:?}", all.shape)));
    }
    let slice = |t: usize| {
        Array::new([points, dim], all.data[t * points * dim..(t + 1) * points * dim].to_vec())
    };
    let found = format!("{steps} times of {points} points, noise first");
    Ok((slice(0), slice(steps - 1), Labels::none(points), found))
}

fn from_npz(path: &Path) -> Result<Read> {
    let arrays = array::read_npz(path)?;
    let get = |name: &str| arrays.iter().find(|(n, _)| n == name).map(|(_, a)| a.clone());
    let (Some(noise), Some(images)) = (get("noise"), get("image")) else {
        let names: Vec<&str> = arrays.iter().map(|(n, _)| n.as_str()).collect();
        return Err(unknown(path, format!("the arrays {names:?}")));
    };
    if noise.shape != images.shape || noise.rows() == 0 || noise.row_len() == 0 {
        let problem = format!("{:?} where `image` is {:?}", noise.shape, images.shape);
        let action = "give both arrays the same shape, pairs first";
        return Err(Error::invalid(path, "noise", problem, action));
    }
    let labels = match get("label") {
        None => Labels::none(noise.rows()),
        Some(labels) if labels.shape == [noise.rows()] && labels.data.iter().all(|x| *x >= 0.0) => {
            labels.data.iter().map(|x| Some(*x as u32)).collect()
        }
        Some(labels) => {
            let problem = format!("has shape {:?}", labels.shape);
            let action = "give one class number a pair, from 0";
            return Err(Error::invalid(path, "label", problem, action));
        }
    };
    let found = format!("{} pairs as arrays `noise` and `image`", noise.rows());
    Ok((noise, images, labels, found))
}

fn unknown(path: &Path, found: String) -> Error {
    Error::invalid(
        path,
        "layout",
        format!("holds {found}, which is no layout of pairs that is known"),
        "give a .npy of shape (steps, points, D), noise first, a .npz with arrays `noise` and \
         `image`, or a folder of one .npz a pair",
    )
}

/// Pairs read at a time.
const BATCH: usize = 1024;

/// Writes imported pairs as a store that keeps their noise.
///
/// # Errors
/// When the folder holds something else or can't be written, and when the observer stops it:
/// running it again goes on after the last finished shard.
pub fn import(
    folder: &Path,
    pairs: &Import,
    source: &str,
    noise_std: f64,
    dtype: ImageType,
    shard_size: usize,
    observer: &dyn Observer,
) -> Result<Manifest> {
    let plan = Manifest {
        noise: NoiseSource::Stored,
        dtype,
        label_dim: pairs.labels.classes().iter().max().map_or(0, |max| *max as usize + 1),
        shard_size,
        history: vec![format!("imported from {source} ({:.12}): {}", pairs.hash()?, pairs.found)],
        ..Manifest::seeded(0, noise_std, &pairs.shape, pairs.len())
    };
    let mut progress = observer.begin("import", "pairs");
    let mut batch = |range| pairs.range(range);
    let filled = fill(folder, &plan, Worker::ALONE, BATCH, &mut batch, &mut progress)?;
    let measured = pairs.noise_std;
    progress
        .finish(&format!("{}; noise of standard deviation {measured:.4} as found", pairs.found));
    Ok(filled.manifest)
}
