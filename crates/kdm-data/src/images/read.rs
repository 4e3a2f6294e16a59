//! Images of a tree's files: read some at a time, decoded by all threads, in their order.

use std::collections::HashMap;
use std::path::Path;

use kdm_observer::Observer;
use rayon::prelude::*;

use super::arrangement::{Arrangement, ArrangementError, DATASET_JSON, arrange};
use super::budget::Budget;
use super::dataset_json;
use super::decode::{Header, Picture, decode, header};
use super::resize::Raster;
use super::tree::{Entry, Tree};
use super::{ImageSet, ReadOptions, Split, stopped};
use crate::{Error, Result};

/// Files, and bytes of files, that are decoded at a time.
const CHUNK: (usize, usize) = (256, 64 << 20);
/// What to do about a file that is no image.
const DAMAGED: &str = "replace the file, or take it away";

/// Reads the images of one part of a tree.
pub(super) fn read(
    path: &Path,
    tree: &mut Tree,
    split: Split,
    options: &ReadOptions,
    observer: &dyn Observer,
) -> Result<ImageSet> {
    let found = arranged(path, tree, split)?;
    let mut reading = Reading::new(path, options, found.images.len());
    let total = found.images.len() as u64;
    let mut progress = observer.begin("read images", "images");
    let mut ahead = found.images.iter();
    let mut done = 0;
    loop {
        progress.advance(done, total, "").map_err(stopped(path))?;
        let mut chunk: Vec<(&Entry, Vec<u8>, Header)> = Vec::new();
        let mut bytes = 0;
        while chunk.len() < CHUNK.0 && bytes < CHUNK.1 {
            let Some((entry, _)) = ahead.next() else { break };
            let file = tree.read(entry)?;
            bytes += file.len();
            let header = reading.check(entry, &file)?;
            chunk.push((entry, file, header));
        }
        if chunk.is_empty() {
            break;
        }
        let decoded: Vec<_> = chunk
            .par_iter()
            .map(|(entry, file, _)| {
                let picture = decode(file).map_err(|e| reading.damaged(entry, e))?;
                let raster = match options.resolution {
                    Some(side) => picture.raster.squared(side),
                    None => picture.raster,
                };
                Ok(Picture { raster, ..picture })
            })
            .collect::<Result<_>>()?;
        done += decoded.len() as u64;
        decoded.into_iter().for_each(|picture| reading.push(picture));
    }
    progress.report(total, total, "");
    progress.finish("read");
    let labels = labels(path, tree, &found)?;
    reading.tell(&found, &labels.notes, observer);
    let Labels { classes, names, .. } = labels;
    Ok(ImageSet { labels: classes, class_names: names, ..reading.set })
}

/// Which files of a tree are read.
pub(super) fn arranged(path: &Path, tree: &Tree, split: Split) -> Result<Arrangement> {
    arrange(&tree.listing, split).map_err(|problem| {
        let (field, action) = match &problem {
            ArrangementError::NoImages(_) => {
                ("files", "name a folder or an archive of images, or of one sub-folder a class")
            }
            ArrangementError::NoTest => (
                "split",
                "give the test images' own file or folder as the data set, with the split `train`",
            ),
            ArrangementError::Mixed { .. } => {
                ("files", "move the images beside the class folders into one of them")
            }
        };
        Error::invalid(path, field, problem.to_string(), action)
    })
}

/// What has been read.
struct Reading<'a> {
    path: &'a Path,
    options: &'a ReadOptions,
    budget: Budget,
    set: ImageSet,
    /// The first image's name and size.
    first: Option<(String, [usize; 2])>,
    greys: usize,
    transparent: usize,
    enlarged: usize,
    animated: usize,
}

impl<'a> Reading<'a> {
    fn new(path: &'a Path, options: &'a ReadOptions, images: usize) -> Self {
        Self {
            path,
            options,
            budget: Budget::new(images),
            set: ImageSet::default(),
            first: None,
            greys: 0,
            transparent: 0,
            enlarged: 0,
            animated: 0,
        }
    }

    fn damaged(&self, entry: &Entry, problem: impl ToString) -> Error {
        Error::invalid(self.path, &entry.name, problem.to_string(), DAMAGED)
    }

    /// Whether a file is an image that fits, before it is decoded.
    fn check(&mut self, entry: &Entry, file: &[u8]) -> Result<Header> {
        let header = header(file).map_err(|e| self.damaged(entry, e))?;
        let size = [header.height, header.width];
        let (name, first) = self.first.get_or_insert_with(|| (entry.name.clone(), size));
        if self.options.resolution.is_none() && *first != size {
            let problem = format!(
                "is {}x{} pixels (height x width), and `{name}` is {}x{}",
                size[0], size[1], first[0], first[1]
            );
            let action = "crop and resize them: give --resolution R (to `features train` \
                          --resize), or first write a set of one size with `kdm data export \
                          FOLDER --resolution R --out set.zip`";
            return Err(Error::invalid(self.path, &entry.name, problem, action));
        }
        let kept = self.options.resolution.unwrap_or(size[0].max(size[1]));
        let kept = (kept * kept * header.channels) as u64;
        let kept = if self.options.resolution.is_some() { kept } else { header.bytes() };
        self.budget.take(entry.stored(file.len()), header.bytes(), kept).map_err(|problem| {
            let action = "give --resolution R for smaller images, or fewer of them";
            Error::invalid(self.path, &entry.name, problem.to_string(), action)
        })?;
        self.enlarged +=
            usize::from(self.options.resolution.is_some_and(|side| side > size[0].min(size[1])));
        self.animated += usize::from(header.animated);
        Ok(header)
    }

    /// Appends an image; one of three channels makes all earlier ones so.
    fn push(&mut self, Picture { raster, transparent }: Picture) {
        let Raster { channels, height, width, bytes } = raster;
        self.transparent += usize::from(transparent);
        self.greys += usize::from(channels == 1);
        let set = &mut self.set;
        if set.is_empty() {
            (set.channels, set.height, set.width) = (channels, height, width);
        }
        if channels > set.channels {
            set.bytes = set.bytes.chunks_exact(height * width).flat_map(|p| p.repeat(3)).collect();
            set.channels = channels;
        }
        for c in 0..set.channels {
            set.bytes.extend(bytes.iter().skip(c % channels).step_by(channels));
        }
    }

    /// Says what was done with the files.
    fn tell(&self, found: &Arrangement, notes: &[String], observer: &dyn Observer) {
        let path = self.path.display();
        let mut told = Vec::new();
        if let Some(left_out) = found.left_out.text() {
            told.push(format!("left out: {left_out}"));
        }
        if self.set.channels == 3 && self.greys > 0 {
            told.push(format!("{} without colour are read as RGB", self.greys));
        }
        if self.transparent > 0 {
            let n = self.transparent;
            told.push(format!("{n} are transparent in part: the colours below are taken"));
        }
        if self.enlarged > 0 {
            told.push(format!("{} are smaller than --resolution and enlarged", self.enlarged));
        }
        if self.animated > 0 {
            told.push(format!("of {} GIFs the first frame is taken", self.animated));
        }
        told.extend_from_slice(notes);
        if !told.is_empty() {
            let part = found.part.as_ref().map_or(String::new(), |part| format!(" in `{part}`"));
            observer.info(&format!("{path}: {} images{part}; {}", self.set.len(), told.join("; ")));
        }
        if !found.empty.is_empty() {
            let names = found.empty.join("`, `");
            observer.warn(&format!("{path}: the classes `{names}` have no images"));
        }
    }
}

/// The classes of a tree's images.
struct Labels {
    classes: Vec<u32>,
    names: Vec<String>,
    notes: Vec<String>,
}

/// The classes that `dataset.json` tells, or else that folders are.
fn labels(path: &Path, tree: &mut Tree, found: &Arrangement) -> Result<Labels> {
    let mut told: HashMap<String, u32> = HashMap::new();
    let (mut names, mut notes) = (found.class_names.clone(), Vec::new());
    for (folder, entry) in &found.told {
        let invalid = |problem: String| {
            let action = "give {\"labels\": [[\"NAME\", CLASS], ...]} with a class for every \
                          image, or null for none";
            Error::invalid(path, &entry.name, problem, action)
        };
        let read = dataset_json::parse(&tree.read(entry)?).map_err(|e| invalid(e.to_string()))?;
        let width = (names.len().max(read.width), read.class_names);
        names = if width.1.len() >= width.0 { width.1 } else { numbered(names, width.0) };
        // Names are told below the file's own folder, or below the root.
        told.extend(read.classes.iter().map(|(name, class)| (name.clone(), *class)));
        let below = |(name, class): (String, u32)| (format!("{folder}{}", strip(&name)), class);
        told.extend(read.classes.into_iter().map(below));
    }
    if told.is_empty() {
        if !found.told.is_empty() {
            notes.push(format!("{DATASET_JSON} gives no classes"));
        }
        let classes = found.images.iter().filter_map(|(_, class)| *class).collect();
        return Ok(Labels { classes, names, notes });
    }
    let mut classes = Vec::new();
    for (entry, _) in &found.images {
        let class = told.get(&entry.name).ok_or_else(|| {
            let problem = format!("has no class for `{}`", entry.name);
            let action = "give every image a class, or none (\"labels\": null)";
            Error::invalid(path, DATASET_JSON, problem, action)
        })?;
        classes.push(*class);
    }
    Ok(Labels { classes, names, notes })
}

fn strip(name: &str) -> &str {
    name.trim_start_matches("./")
}

/// Class names with numbers for the ones that have none.
pub(super) fn numbered(mut names: Vec<String>, classes: usize) -> Vec<String> {
    names.extend((names.len()..classes).map(|class| class.to_string()));
    names
}
