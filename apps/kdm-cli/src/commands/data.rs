//! `kdm data`: look at data sets, and write them in other forms.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use kdm::data::images::{LOOKED_AT, ReadOptions, Survey, survey};
use kdm::data::output::FileKind;
use kdm::data::{Array, ImageSet, Split, array, atomic};
use kdm::report::grid;
use kdm::stages::images::{open_set, with_pickles};
use kdm::{Context, Failure, Outcome};
use serde_json::json;

use super::numbers::within;
use super::output::{Replace, path, print, print_json};

/// Splits' names.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SplitName {
    /// What models learn from
    Train,
    /// What no model may see
    Test,
}

impl SplitName {
    /// The split.
    pub fn split(self) -> Split {
        match self {
            Self::Train => Split::Train,
            Self::Test => Split::Test,
        }
    }
}

/// The sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tell a data set's size, classes and hash
    #[command(after_help = "\
Examples:
  kdm data info shapes
  kdm data info images.zip --json")]
    Info {
        #[command(flatten)]
        source: Source,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Write a data set's first images: a .png grid, a .npz of arrays, or a .zip in EDM's layout
    #[command(after_help = "\
Examples:
  kdm data export shapes -n 100 --out shapes.png
  kdm data export images --split test --out test.zip")]
    Export {
        #[command(flatten)]
        source: Source,
        /// How many [default: 64 for a .png, else all]
        #[arg(short, long, value_name = "N")]
        n: Option<usize>,
        /// A .png, .npz or .zip file
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        replace: Replace,
    },
}

/// A data set.
#[derive(Debug, clap::Args)]
pub struct Source {
    /// fashion-mnist, shapes, a folder, .zip or .tar of images (or of CIFAR-10's batches), an .npz
    /// of images, or a folder of IDX files
    data: String,
    /// Which part of it
    #[arg(long, value_enum, default_value = "train")]
    split: SplitName,
    /// Zero-pad smaller images to this many pixels a side
    #[arg(long, value_name = "PIXELS")]
    #[arg(value_parser = within(1, ReadOptions::MOST_RESOLUTION as u64 - 1))]
    pad: Option<usize>,
    #[command(flatten)]
    reading: Reading,
}

/// How images are read.
#[derive(Debug, clap::Args)]
pub struct Reading {
    /// Crop images to the square in their middle and resize them to R x R pixels, as EDM's
    /// dataset_tool.py --transform=center-crop does
    #[arg(long, value_name = "R")]
    resolution: Option<usize>,
    /// How many classes there are, where the images show fewer
    #[arg(long, value_name = "K")]
    classes: Option<usize>,
}

impl Reading {
    /// The library's options.
    pub fn options(&self) -> Outcome<ReadOptions> {
        let most = ReadOptions::MOST_RESOLUTION - 1;
        if let Some(side) = self.resolution.filter(|side| !(1..=most).contains(side)) {
            return Err(Failure::Usage(format!("--resolution {side}: give 1 to {most}")));
        }
        if self.classes == Some(0) {
            return Err(Failure::Usage("--classes 0: give at least 1".into()));
        }
        let (resolution, classes) = (self.resolution, self.classes);
        Ok(ReadOptions { resolution, classes, ..ReadOptions::default() })
    }
}

impl Source {
    fn open(&self, context: Context) -> Outcome<ImageSet> {
        let options = self.reading.options()?;
        let set = open_set(&self.data, self.split.split(), &options, context.observer)?;
        match self.pad {
            None => Ok(set),
            Some(side) => {
                set.padded(side).map_err(|e| Failure::Usage(format!("--pad {side}: {e}")))
            }
        }
    }
}

impl Source {
    /// What there is of images that are of several sizes; none where that is not what is wrong with
    /// them.
    fn mixed(&self, context: Context) -> Option<Survey> {
        let (first, options) = (self.split.split() == Split::Train, self.reading.options().ok()?);
        if !first || options.resolution.is_some() {
            return None;
        }
        let found = survey(&self.data, &with_pickles(&options), context.observer).ok()?;
        (found.smallest != found.largest).then_some(found)
    }
}

impl Command {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        match self {
            Self::Info { source, json } => info(&source, json, context),
            Self::Export { source, n, out, replace } => {
                replace.file(&out, kind_of(&out)?, &[path(&source.data)])?;
                let set = source.open(context)?;
                let n = export(&set, n, &out, context)?;
                eprintln!("{n} images in {}", out.display());
                Ok(())
            }
        }
    }
}

fn info(source: &Source, json: bool, context: Context) -> Outcome<()> {
    let set = match source.open(context) {
        Ok(set) => set,
        Err(failure) => match source.mixed(context) {
            Some(found) => return info_of_mixed(source, &found, json),
            None => return Err(failure),
        },
    };
    let names: Vec<String> = (0..set.classes() as u32).map(|class| set.class_name(class)).collect();
    let (shape, split) = (set.shape(), source.split.split().name());
    if json {
        return print_json(&json!({
            "data": source.data, "split": split, "images": set.len(), "shape": shape,
            "classes": names, "sha256": set.sha256(),
        }));
    }
    print(&format!(
        "{} ({split})\n  images: {}\n  shape: {shape:?}\n  classes: {}\n  sha256: {}\n",
        source.data,
        set.len(),
        if names.is_empty() { "none".into() } else { names.join(", ") },
        set.sha256()
    ))
}

/// What is told of images that are of several sizes, which no command takes as they are.
fn info_of_mixed(source: &Source, found: &Survey, json: bool) -> Outcome<()> {
    let Survey { images, channels, smallest, median, largest, classes, .. } = found;
    if json {
        let names: Vec<&String> = classes.iter().map(|(name, _)| name).collect();
        return print_json(&json!({
            "data": source.data, "split": source.split.split().name(), "images": images,
            "channels": channels, "classes": names,
            "sizes": {"smallest": smallest, "typical": median, "largest": largest},
        }));
    }
    let size = |[height, width]: &[usize; 2]| format!("{height}x{width}");
    let classes: Vec<String> =
        classes.iter().map(|(name, count)| format!("{name} ({count})")).collect();
    let looked_at = match *images > LOOKED_AT {
        true => format!(", of {LOOKED_AT} looked at"),
        false => String::new(),
    };
    let [height, width] = *median;
    let side = height.min(width);
    let resolution = [256, 128, 64, 32, 16].into_iter().find(|r| *r <= side).unwrap_or(8);
    print(&format!(
        "{} ({})\n  images: {images}, {}\n  sizes: {} to {}, typically {}{looked_at}\n  classes: \
         {}\n  next: --resolution {resolution} crops each to the square in its middle and resizes \
         it to {resolution}x{resolution}\n",
        source.data,
        source.split.split().name(),
        if *channels == 1 { "grey" } else { "in colour" },
        size(smallest),
        size(largest),
        size(median),
        if classes.is_empty() { "none".into() } else { classes.join(", ") },
    ))
}

/// What the name of an export asks for.
fn kind_of(out: &Path) -> Outcome<FileKind<'static>> {
    let extension = out.extension().map(|e| e.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("png") => Ok(FileKind::Picture),
        Some("npz") => Ok(FileKind::Arrays),
        Some("zip") => Ok(FileKind::Pictures),
        _ => {
            let shown = out.display();
            Err(Failure::Usage(format!("--out {shown}: name a .png, .npz or .zip file")))
        }
    }
}

/// Writes the first `n` images of a set in the form that the file's name asks for; gives how many.
fn export(set: &ImageSet, n: Option<usize>, out: &Path, context: Context) -> Outcome<usize> {
    let kind = kind_of(out)?;
    let all = if kind == FileKind::Picture { 64 } else { set.len() };
    if n == Some(0) {
        return Err(Failure::Usage("-n 0: give at least 1".into()));
    }
    let n = n.unwrap_or(all).min(set.len());
    let shape = set.shape();
    match kind {
        FileKind::Picture => {
            let columns = (n as f64).sqrt().ceil() as usize;
            atomic::write(out, &grid::png(&set.images(0..n), &shape, columns))?;
        }
        FileKind::Arrays => {
            let images = Array::new([&[n], &shape[..]].concat(), set.images(0..n));
            let labels: Vec<f32> =
                (0..n).filter_map(|i| set.label(i)).map(|class| class as f32).collect();
            let labels = Array::new([labels.len()], labels);
            let mut arrays = vec![("images", &images)];
            if !labels.data.is_empty() {
                arrays.push(("labels", &labels));
            }
            array::write_npz(out, &arrays)?;
        }
        _ => set.clone().first(n).write_zip(out, context.observer)?,
    }
    Ok(n)
}
