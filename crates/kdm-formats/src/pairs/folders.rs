//! A folder of files with one pair each: the ends of a path from noise to image, or arrays by name.

use std::path::{Path, PathBuf};

use kdm_data::pairs::PairSource;
use kdm_data::region::Region;
use kdm_data::view::{Npz, View};
use kdm_data::{Error, Result};

use super::names::{Chosen, Keys, choose};
use super::parts::{LabelRows, Part, PartSource, Parts, Rows};
use super::single::{deviation, larger};

const FOLDERS: &str = "give a folder of .npz files, one a pair, each with `arr_0`, `arr1`, \
                       `endpoints` and `label`, or arrays that --noise-key and --image-key name";

/// Files looked at before a folder is read.
const LOOKED_AT: usize = 64;

/// The names of a folder's files that aren't hidden, sorted.
///
/// # Errors
/// When the folder can't be read.
pub fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let name = entry.map_err(Error::io("read", folder))?.file_name();
        let name = name.to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Where a pair lies in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ends {
    /// The ends of the array of this name (of a `.npy`'s only one).
    Path { array: String, image_first: bool },
    /// Two arrays.
    Named(Chosen),
}

struct Files {
    folder: PathBuf,
    names: Vec<String>,
    ends: Ends,
}

impl PartSource for Files {
    fn count(&self) -> usize {
        self.names.len()
    }

    fn open(&self, i: usize) -> Result<Part> {
        pair(&self.folder.join(&self.names[i]), &self.ends)
    }
}

/// The array of a `.npy`, or one of a `.npz`.
fn array(region: &Region, name: &str) -> Result<View> {
    if is_npy(region.path()) {
        return View::npy(region.clone());
    }
    Npz::open(region.clone())?.view(name)
}

fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "npy")
}

/// One sample as an array of one row; a batch of one is one already.
fn one(view: &View, rank: usize) -> View {
    if view.shape().len() > rank && view.shape().first() == Some(&1) {
        view.clone()
    } else {
        view.as_row()
    }
}

/// Reads the file of one pair.
///
/// # Errors
/// When it is damaged, or has not these arrays.
pub fn pair(path: &Path, ends: &Ends) -> Result<Part> {
    let region = Region::file(path)?;
    let labels = || -> Result<Option<LabelRows>> {
        if is_npy(path) {
            return Ok(None);
        }
        let npz = Npz::open(region.clone())?;
        let label = ["label", "labels"].into_iter().find(|name| npz.has(name));
        label.map(|name| Ok(LabelRows::one(&npz.view(name)?))).transpose()
    };
    let (noise, image, label) = match ends {
        Ends::Path { array: name, image_first } => {
            let all = array(&region, name)?;
            let steps = all.shape().first().copied().unwrap_or(0);
            if steps < 2 || !matches!(all.shape().len(), 2 | 4 | 5) || all.shape().contains(&0) {
                let problem = format!("has shape {:?}", all.shape());
                let action = "give (2 or more times, channels, height, width)";
                return Err(Error::invalid(path, name, problem, action));
            }
            let (first, last) = (all.at(0)?, all.at(steps - 1)?);
            let [first, last] = [first, last].map(|view| one(&view, 3));
            let (image, noise) = if *image_first { (first, last) } else { (last, first) };
            (noise, image, labels()?)
        }
        Ends::Named(chosen) => {
            let npz = Npz::open(region.clone())?;
            let get = |name: &str| Ok(one(&npz.view(name)?, 3));
            let label = chosen.label.as_deref().map(|name| npz.view(name)).transpose()?;
            (get(&chosen.noise)?, get(&chosen.image)?, label.as_ref().map(LabelRows::one))
        }
    };
    Ok(Part { noise, image: Rows::View(image), label, file: path.to_path_buf() })
}

/// The pairs of a folder's files of these names.
///
/// # Errors
/// When the files are in no known layout.
pub fn open(folder: &Path, names: Vec<String>, keys: &Keys) -> Result<Box<dyn PairSource>> {
    let ends = ends(folder, &names, keys)?;
    let found = match &ends {
        Ends::Path { array, image_first } => format!(
            "{} files with `{array}`, {}",
            names.len(),
            if *image_first { "image first, noise last" } else { "noise first, image last" }
        ),
        Ends::Named(Chosen { noise, image, .. }) => {
            format!("{} files with `{noise}` and `{image}`", names.len())
        }
    };
    let files = Files { folder: folder.to_path_buf(), names, ends };
    Ok(Box::new(Parts::new(files, folder, None, found)?))
}

/// Finds out where pairs lie in the files of a folder.
fn ends(folder: &Path, names: &[String], keys: &Keys) -> Result<Ends> {
    let first = folder.join(&names[0]);
    let known = [("arr1", Some(true)), ("endpoints", Some(true)), ("arr_0", None)];
    let region = Region::file(&first)?;
    let (array, image_first) = if is_npy(&first) {
        ("arr_0", None)
    } else {
        let npz = Npz::open(region)?;
        let arrays: Vec<String> = npz.names().map(String::from).collect();
        let there = known.into_iter().find(|(name, _)| npz.has(name));
        match there.filter(|_| keys.noise.is_none() && keys.image.is_none()) {
            Some(found) => found,
            None => match choose(&first, &arrays, keys)? {
                Some(chosen) => return Ok(Ends::Named(chosen)),
                None => {
                    let problem = format!("are {arrays:?}, of no known layout of pairs");
                    return Err(Error::invalid(&first, "arrays", problem, FOLDERS));
                }
            },
        }
    };
    let path = |image_first| Ends::Path { array: array.to_string(), image_first };
    if let Some(image_first) = image_first {
        return Ok(path(image_first));
    }
    // CIFAR's have the noise first, FFHQ's and AFHQ's last. Noise of deviation 80 is easily told
    // from an image.
    let mut squares = [0.0f64; 2];
    let looked_at = names.len().min(LOOKED_AT);
    for name in &names[..looked_at] {
        let part = pair(&folder.join(name), &path(true))?;
        let Rows::View(image) = &part.image else { continue };
        for (sum, view) in squares.iter_mut().zip([image, &part.noise]) {
            *sum += deviation(&view.rows_f32(0..1)?).powi(2);
        }
    }
    let [a, b] = squares.map(|sum| (sum / looked_at as f64).sqrt());
    match larger([a, b]) {
        Some(noise) => Ok(path(noise == 1)),
        None => {
            let problem = format!(
                "both ends deviate alike ({a:.3} and {b:.3}), so which is noise is not known"
            );
            let action = "write the pairs as one .npz with arrays `noise` and `image`";
            Err(Error::invalid(&first, array, problem, action))
        }
    }
}
