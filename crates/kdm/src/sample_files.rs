//! Samples in files: arrays that people bring, and samples written as arrays or pictures.

use std::path::Path;

use kdm_data::labels::GIVE_LABELS;
use kdm_data::{Array, Error, Labels, Samples, array, atomic, view};
use kdm_observer::{Observer, Silent};
use kdm_report::{PlotFormat, grid};

use crate::sample_picture::{Arrangement, check_picture, picture};
use crate::usable::{Wanted, instead};
use crate::{Failure, Outcome};

/// Reads an array whose rows have `dim` finite values, for `what`.
///
/// # Errors
/// When the file can't be read, has other rows, or a value that isn't finite.
pub fn read_rows(path: &Path, dim: usize, what: &str) -> Outcome<Array> {
    let array = array::read_npy(path).map_err(not_an_array(path))?;
    if array.data.is_empty() {
        let problem = format!("is {:?}: the array is empty", array.shape);
        return Err(Error::invalid(path, "shape", problem, "give at least one sample").into());
    }
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

/// Labels of `rows` samples from a file: class numbers of any type, `[n]` or `[n, 1]`, or one-hot
/// rows, of which one of zeros is no class.
///
/// # Errors
/// When the model has no classes, the file can't be read, is of another number of samples, or holds
/// what is no class of the model.
pub fn read_labels(path: &Path, label_dim: usize, rows: usize) -> Outcome<Labels> {
    if label_dim == 0 {
        return Err(Failure::Usage(
            "this model is unconditional: leave --labels and --class out".into(),
        ));
    }
    let view = view::open_npy(path).map_err(not_an_array(path))?;
    let invalid = |field: &str, problem: String| Error::invalid(path, field, problem, GIVE_LABELS);
    if view.shape().is_empty() || view.rows() != rows {
        let problem = format!("is {:?}, for {rows} samples", view.shape());
        return Err(invalid("shape", problem).into());
    }
    let parsed = Labels::parse(view.shape(), &view.to_f64()?, Some(label_dim));
    Ok(parsed.map_err(|e| invalid("labels", e.to_string()))?.0)
}

/// What a file is that isn't an array.
fn not_an_array(path: &Path) -> impl Fn(Error) -> Failure {
    |error| instead(path, Wanted::Array, error.into())
}

/// What noise in a file is scaled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoiseScale {
    /// Standard deviation 1.
    Unit,
    /// The standard deviation of x_T: sigma_max of a diffusion.
    SigmaMax,
}

impl NoiseScale {
    fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::SigmaMax => "sigma-max",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Unit => Self::SigmaMax,
            Self::SigmaMax => Self::Unit,
        }
    }

    fn std(self, noise_std: f64) -> f64 {
        match self {
            Self::Unit => 1.0,
            Self::SigmaMax => noise_std,
        }
    }

    /// Says so where noise that is taken as scaled like this looks as if it were scaled the other
    /// way; x_T has the standard deviation `noise_std`.
    pub fn doubt(self, noise: &[f32], noise_std: f64, observer: &dyn Observer) {
        let measured = rms(noise);
        let apart = |scale: Self| (measured / scale.std(noise_std)).ln().abs();
        // Nearer to the other by a factor, and near to it: else it is just unusual noise.
        if apart(self.other()) < 0.3 && apart(self) > 0.7 {
            observer.warn(&format!(
                "the noise deviates by {measured:.3}, as --noise-scale {} has it, and is taken as \
                 --noise-scale {}, where it would deviate by {:.3}",
                self.other().name(),
                self.name(),
                self.std(noise_std)
            ));
        }
    }

    /// x_T of noise that is scaled like this.
    pub fn x_t(self, mut noise: Vec<f32>, noise_std: f64) -> Vec<f32> {
        if self == Self::Unit {
            noise.iter_mut().for_each(|x| *x = (f64::from(*x) * noise_std) as f32);
        }
        noise
    }
}

/// Root mean square.
fn rms(values: &[f32]) -> f64 {
    let sum: f64 = values.iter().map(|x| f64::from(*x).powi(2)).sum();
    (sum / values.len().max(1) as f64).sqrt()
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
    arrangement: Arrangement,
) -> Outcome<()> {
    write_named_samples(out, samples, label_dim, arrangement, &[], &Silent)
}

/// [`write_samples`] with the names of classes, of which there may be none; many files are told of.
///
/// # Errors
/// As [`write_samples`], and when the observer stops it.
pub fn write_named_samples(
    out: &Path,
    samples: &Samples,
    label_dim: usize,
    arrangement: Arrangement,
    class_names: &[String],
    observer: &dyn Observer,
) -> Outcome<()> {
    check_out(out)?;
    let extension = out.extension().map(|e| e.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("npy") => array::write_npy(out, &images(samples))?,
        Some("npz") => write_npz(out, samples, label_dim)?,
        Some(other) => {
            check_picture(out, &samples.shape)?;
            let form = PlotFormat::of_extension(other).unwrap_or_default();
            atomic::write(out, &picture(samples, arrangement, form))?;
        }
        None => write_folder(out, samples, arrangement, class_names, observer)?,
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
        None | Some("npy" | "npz") => Ok(()),
        Some(picture) if PlotFormat::of_extension(picture).is_some() => Ok(()),
        Some(other) => Err(Failure::Usage(format!(
            "--out {}: `.{other}` can't be written; name a .npy, .npz or .png file (for points \
             also .svg or .pdf), or a folder",
            out.display()
        ))),
    }
}

/// A file in the folder `out` that samples would come to lie beside and that is none of samples
/// drawn before; none where there is no such folder or it is empty.
pub fn beside_samples(out: &Path) -> Option<String> {
    let entries = std::fs::read_dir(out).ok()?.flatten();
    let names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !atomic::is_leftover(name))
        .collect();
    let drawn = names.iter().any(|name| name == SAMPLES);
    let own = |name: &String| {
        let digits = name.chars().take_while(char::is_ascii_digit).count();
        let image = digits >= 6 && name.ends_with(".png");
        drawn && (name == SAMPLES || name == PICTURE || image)
    };
    names.into_iter().filter(|name| !own(name)).min()
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
    arrangement: Arrangement,
    class_names: &[String],
    observer: &dyn Observer,
) -> Outcome<()> {
    atomic::create_folder(out)?;
    array::write_npy(&out.join(SAMPLES), &images(samples))?;
    if samples.dim() == 2 {
        atomic::write(&out.join(PICTURE), &picture(samples, arrangement, PlotFormat::Png))?;
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

/// The array in a folder of samples, and the picture in one of points.
pub const SAMPLES: &str = "samples.npy";
/// See [`SAMPLES`].
pub const PICTURE: &str = "samples.png";

/// A class's name as part of a file's name.
fn plain(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_observer::Event;
    use std::cell::Cell;

    /// Samples take the place of samples, and lie among no other files.
    #[test]
    fn a_folder_of_other_files_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str| std::fs::write(folder.path().join(name), "").unwrap();
        assert_eq!(beside_samples(&folder.path().join("new")), None);
        assert_eq!(beside_samples(folder.path()), None);
        // Somebody's pictures may be called like ours.
        put("000001.png");
        assert_eq!(beside_samples(folder.path()), Some("000001.png".into()));
        put(SAMPLES);
        put("000001-class-2-coat.png");
        assert_eq!(beside_samples(folder.path()), None);
        put("holiday.jpg");
        assert_eq!(beside_samples(folder.path()), Some("holiday.jpg".into()));
    }

    /// Either scale becomes either, and only noise that looks like the other is told of.
    #[test]
    fn noise_is_scaled_and_doubted() {
        let unit: Vec<f32> = (0..64).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let large: Vec<f32> = unit.iter().map(|x| 80.0 * x).collect();
        let (a, b) = (NoiseScale::Unit, NoiseScale::SigmaMax);
        let doubts = Cell::new(0);
        let count = |event: &Event| {
            if let Event::Warning(text) = event {
                assert!(text.contains("--noise-scale"), "{text}");
                doubts.set(doubts.get() + 1);
            }
        };
        let told = |scale: NoiseScale, noise: &[f32], std| {
            doubts.set(0);
            scale.doubt(noise, std, &count);
            doubts.get()
        };
        assert_eq!(a.x_t(unit.clone(), 80.0), large);
        assert_eq!(b.x_t(large.clone(), 80.0), large);
        assert_eq!([told(a, &unit, 80.0), told(b, &large, 80.0)], [0, 0]);
        assert_eq!([told(b, &unit, 80.0), told(a, &large, 80.0)], [1, 1]);
        // One latent scaled up by a person, and a model whose x_T has unit variance.
        assert_eq!(told(a, &[0.0, 5.0, 5.0], 80.0), 0);
        assert_eq!(told(b, &unit, 1.0), 0);
    }
}
