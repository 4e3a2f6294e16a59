//! Samples in files: arrays that people bring, and samples written as arrays or pictures.

use std::path::Path;

use kdm_data::{Array, Error, Labels, Samples, array, atomic};
use kdm_observer::{Observer, Silent};
use kdm_report::grid;
use kdm_report::plots::{self, Group};

use crate::{Failure, Outcome};

/// Reads an array whose rows have `dim` finite values, for `what`.
///
/// # Errors
/// When the file can't be read, has other rows, or a value that isn't finite.
pub fn read_rows(path: &Path, dim: usize, what: &str) -> Outcome<Array> {
    let array = array::read_npy(path)?;
    if array.rows() == 0 || array.row_len() != dim {
        return Err(Error::invalid(
            path,
            "shape",
            format!("is {:?}, and rows of {dim} values are needed for {what}", array.shape),
            "give one sample a row",
        )
        .into());
    }
    if let Some(i) = array.data.iter().position(|x| !x.is_finite()) {
        let problem = format!("row {} has the value {}", i / dim, array.data[i]);
        return Err(Error::invalid(path, "array", problem, "remove that row").into());
    }
    Ok(array)
}

/// Labels of `rows` samples from a file: one-hot rows, or rows of zeros for no class.
///
/// # Errors
/// When the model has no classes, the file can't be read, or holds other rows.
pub fn read_labels(path: &Path, label_dim: usize, rows: usize) -> Outcome<Labels> {
    if label_dim == 0 {
        return Err(Failure::Usage(
            "this model is unconditional: leave --labels and --class out".into(),
        ));
    }
    let array = read_rows(path, label_dim, "one-hot labels")?;
    if array.rows() != rows {
        let problem = format!("has {} rows for {rows} samples", array.rows());
        let action = "give one one-hot row a sample";
        return Err(Error::invalid(path, "shape", problem, action).into());
    }
    Labels::from_one_hot(&array.data, label_dim).map_err(|row| {
        let problem = format!("row {row} is not one-hot: a 1 at the class, and zeros");
        let action = "give a 1 and zeros, or zeros alone for no class";
        Error::invalid(path, "array", problem, action).into()
    })
}

/// Writes samples as the file's name asks: `.npy`, `.npz` (with the noise and labels where they are
/// known), `.png` (a scatter of points in the plane, a grid of images), or a folder: points as a
/// `.npy` and a picture, images as a `.npy` and one `.png` each, named by their seeds (and classes,
/// where a seed is drawn in several) or by their place. A grid has `columns` columns, or about as
/// many as rows.
///
/// # Errors
/// When the name asks for something else, samples can't be seen, or a file can't be written.
pub fn write_samples(
    out: &Path,
    samples: &Samples,
    label_dim: usize,
    columns: Option<usize>,
) -> Outcome<()> {
    write_named_samples(out, samples, label_dim, columns, &[], &Silent)
}

/// [`write_samples`] with the names of classes, of which there may be none; many files are told of.
///
/// # Errors
/// As [`write_samples`], and when the observer stops it.
pub fn write_named_samples(
    out: &Path,
    samples: &Samples,
    label_dim: usize,
    columns: Option<usize>,
    class_names: &[String],
    observer: &dyn Observer,
) -> Outcome<()> {
    check_out(out)?;
    let extension = out.extension().map(|e| e.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("npy") => array::write_npy(out, &images(samples))?,
        Some("npz") => write_npz(out, samples, label_dim)?,
        Some(_) => atomic::write(out, &picture(samples, columns)?)?,
        None => write_folder(out, samples, columns, class_names, observer)?,
    }
    Ok(())
}

/// Whether samples can be written to a file of this name, before they are drawn.
///
/// # Errors
/// When the name asks for a form that can't be written.
pub fn check_out(out: &Path) -> Outcome<()> {
    let extension = out.extension().map(|e| e.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        None | Some("npy" | "npz" | "png") => Ok(()),
        Some(other) => Err(Failure::Usage(format!(
            "--out {}: `.{other}` can't be written; name a .npy, .npz or .png file, or a folder",
            out.display()
        ))),
    }
}

/// Rows of `samples`' shape as an array.
fn rows(samples: &Samples, values: &[f32]) -> Array {
    Array::new([&[samples.len()], samples.shape.as_slice()].concat(), values.to_vec())
}

fn images(samples: &Samples) -> Array {
    rows(samples, &samples.images)
}

fn write_npz(out: &Path, samples: &Samples, label_dim: usize) -> Outcome<()> {
    let images = images(samples);
    let noise = rows(samples, &samples.noise);
    let labels = Array::new([samples.len(), label_dim], samples.labels.one_hot(label_dim));
    let mut arrays = vec![("samples", &images)];
    if !samples.noise.is_empty() {
        arrays.push(("noise", &noise));
    }
    if label_dim > 0 && samples.labels.iter().any(|class| class.is_some()) {
        arrays.push(("labels", &labels));
    }
    Ok(array::write_npz(out, &arrays)?)
}

fn write_folder(
    out: &Path,
    samples: &Samples,
    columns: Option<usize>,
    class_names: &[String],
    observer: &dyn Observer,
) -> Outcome<()> {
    atomic::create_folder(out)?;
    array::write_npy(&out.join("samples.npy"), &images(samples))?;
    if samples.dim() == 2 {
        atomic::write(&out.join("samples.png"), &picture(samples, columns)?)?;
    } else if grid::shows(&samples.shape) {
        let mut progress = observer.begin("writing images", "images");
        for (i, image) in samples.images.chunks(samples.dim()).enumerate() {
            progress.advance(i as u64, samples.len() as u64, "")?;
            let png = grid::png(image, &samples.shape, 1);
            atomic::write(&out.join(image_name(samples, i, class_names)), &png)?;
        }
        progress.finish("");
    }
    Ok(())
}

/// The name of image `i` in a folder.
fn image_name(samples: &Samples, i: usize, class_names: &[String]) -> String {
    let Some(seed) = samples.seeds.get(i) else { return format!("{i:06}.png") };
    let again = samples.seeds.windows(2).any(|pair| pair[0] == pair[1]);
    match samples.labels.class(i).filter(|_| again) {
        Some(class) => match class_names.get(class as usize) {
            Some(name) => format!("{seed:06}-class-{class}-{}.png", plain(name)),
            None => format!("{seed:06}-class-{class}.png"),
        },
        None => format!("{seed:06}.png"),
    }
}

/// A class's name as part of a file's name.
fn plain(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(letter).collect()
}

fn picture(samples: &Samples, columns: Option<usize>) -> Outcome<Vec<u8>> {
    if grid::shows(&samples.shape) {
        let columns = columns.unwrap_or_else(|| (samples.len() as f64).sqrt().ceil() as usize);
        return Ok(grid::png(&samples.images, &samples.shape, columns));
    }
    if samples.dim() != 2 {
        return Err(Failure::Usage(format!(
            "a picture shows points in the plane or images of 1 or 3 channels, and these have {} \
             numbers; name a .npy or .npz file",
            samples.dim()
        )));
    }
    let title = format!("{} samples", samples.len());
    let half = plots::half_edge(&samples.images);
    Ok(plots::scatter(&title, &[Group::of(&samples.images, 0)], half))
}
