//! 2-RF++'s pairs: `samples.zip` of pictures, `z.zip` of noise under the same names, and for
//! classes `images_labels.csv` with lines `name.png,class`.
//!
//! Noise is an array (`.npy`), or 32 bytes (`.bin`): the state of NumPy's generator PCG64 that the
//! noise was drawn from, which is drawn again here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use kdm_data::labels::GIVE_LABELS;
use kdm_data::pairs::PairSource;
use kdm_data::region::{Entry, Region};
use kdm_data::view::View;
use kdm_data::{Error, Result, regular};

use super::parts::{LabelRows, Part, PartSource, Parts, Rows};

struct Archives {
    noise: Region,
    images: Region,
    /// Noise and image of each pair.
    pairs: Vec<(Entry, Entry)>,
    /// The class of each, if they have any.
    classes: Vec<f64>,
}

/// Bytes of a generator's state.
const STATE: u64 = 32;

impl PartSource for Archives {
    fn count(&self) -> usize {
        self.pairs.len()
    }

    fn open(&self, i: usize) -> Result<Part> {
        let (noise, image) = &self.pairs[i];
        let region = self.images.entry(image)?;
        let image = if region.name().ends_with(".npy") {
            Rows::View(View::npy(region)?.as_row())
        } else {
            Rows::picture(&region)?
        };
        let region = self.noise.entry(noise)?;
        let noise = View::npy(region)?.as_row();
        let label = self.classes.get(i).map(|class| LabelRows::Class(*class));
        Ok(Part { noise, image, label, file: self.noise.path().join(&self.pairs[i].0.name) })
    }
}

/// A name without its extension.
fn stem(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, extension)) if !extension.contains('/') => stem,
        _ => name,
    }
}

/// Whether a name is of a file that systems add by themselves.
fn is_hidden(name: &str) -> bool {
    name.split('/').any(|part| part.starts_with('.') || part == "__MACOSX")
}

fn sorted(region: &Region) -> Result<Vec<Entry>> {
    let mut entries = region.entries()?;
    entries.retain(|entry| !is_hidden(&entry.name));
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// The pairs of a folder with both archives.
///
/// # Errors
/// When an archive is missing or damaged, names don't fit, or classes are missing.
pub fn open(folder: &Path) -> Result<Box<dyn PairSource>> {
    let noise = Region::file(&folder.join("z.zip"))?;
    let images = Region::file(&folder.join("samples.zip"))?;
    let (noises, pictures) = (sorted(&noise)?, sorted(&images)?);
    let wrong = |name: &str, problem: &str| {
        let action = "copy both archives again, whole";
        Error::invalid(folder.join("samples.zip"), name, problem, action)
    };
    if noises.len() != pictures.len() {
        let problem = format!("has {} files, and z.zip {}", pictures.len(), noises.len());
        return Err(wrong("archive", &problem));
    }
    if let Some(entry) = noises.iter().find(|entry| entry.size == STATE) {
        let problem = format!(
            "`{}` is the state of NumPy's random generator, from which noise is drawn again only \
             in Python",
            entry.name
        );
        let action = "draw it there (2-RF++'s NoiseGenerator) and write z.zip with NAME.npy files";
        return Err(Error::invalid(noise.path(), "noise", problem, action));
    }
    let pairs: Vec<(Entry, Entry)> = noises.into_iter().zip(pictures).collect();
    if let Some((_, image)) = pairs.iter().find(|(z, image)| stem(&z.name) != stem(&image.name)) {
        return Err(wrong(&image.name, "has no noise of the same name in z.zip"));
    }
    let table = folder.join("images_labels.csv");
    let classes = if table.exists() { classes(&table, &pairs)? } else { Vec::new() };
    let labelled = if classes.is_empty() { "" } else { ", labels `images_labels.csv`" };
    let found = format!("{} pairs of 2-RF++, `z.zip` as noise{labelled}", pairs.len());
    let archives = Archives { noise, images, pairs, classes };
    Ok(Box::new(Parts::new(archives, folder, None, found)?))
}

/// The class of each pair from lines `name,class`; none of an empty table.
fn classes(table: &PathBuf, pairs: &[(Entry, Entry)]) -> Result<Vec<f64>> {
    const MOST: u64 = 1 << 30;
    let text = String::from_utf8_lossy(&regular::read(table, MOST)?).into_owned();
    let mut by_name = HashMap::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let parts = line.rsplit_once(',');
        let entry = parts.and_then(|(name, class)| Some((name, class.trim().parse().ok()?)));
        let Some((name, class)) = entry else {
            let problem = format!("is `{line}`, and should be `name.png,class`");
            return Err(Error::invalid(table, format!("line {}", i + 1), problem, GIVE_LABELS));
        };
        by_name.insert(stem(name.trim()), class);
    }
    if by_name.is_empty() {
        return Ok(Vec::new());
    }
    let class = |(_, image): &(Entry, Entry)| {
        let class = by_name.get(stem(&image.name)).copied();
        class.ok_or_else(|| {
            let problem = format!("has no class of `{}`", image.name);
            Error::invalid(table, "labels", problem, GIVE_LABELS)
        })
    };
    pairs.iter().map(class).collect()
}
