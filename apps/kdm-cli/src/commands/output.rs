//! What commands share in printing results and reading arrays.

use std::io::Write;
use std::path::Path;

use kdm_data::{Array, Error, array, atomic};
use kdm_koopman::sampler::one_hot;
use kdm_report::grid;
use kdm_report::plots::{self, Group};

use kdm::portrait::view;
use kdm::{Failure, Outcome};

/// Prints to standard output. A reader that has gone away, as in `kdm ... | head`, is no failure.
pub fn print(text: &str) -> Outcome<()> {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(())
}

/// Reads an array whose rows have `dim` values.
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

/// One-hot label rows for `rows` samples: from a file, or one class for all, or none.
pub fn read_labels(
    path: Option<&Path>,
    class: Option<u32>,
    label_dim: usize,
    rows: usize,
) -> Outcome<Option<Vec<f32>>> {
    if (path.is_some() || class.is_some()) && label_dim == 0 {
        return Err(Failure::Usage(
            "this model is unconditional: leave --labels and --class out".into(),
        ));
    }
    if let Some(class) = class {
        if class as usize >= label_dim {
            return Err(Failure::Usage(format!(
                "--class {class}: the model has classes 0 to {}",
                label_dim - 1
            )));
        }
        return Ok(Some(one_hot(&vec![class; rows], label_dim)));
    }
    let Some(path) = path else { return Ok(None) };
    let labels = read_rows(path, label_dim, "one-hot labels")?;
    if labels.rows() != rows {
        let problem = format!("has {} rows for {rows} samples", labels.rows());
        return Err(Error::invalid(path, "shape", problem, "give one one-hot row a sample").into());
    }
    Ok(Some(labels.data))
}

/// Writes samples as the file's name asks: `.npy`, `.npz` (with the noise and what else is known),
/// `.png` (a scatter of points in the plane, a grid of images), or a folder: points as a `.npy` and
/// a picture, images as a `.npy` and one `.png` each, named by `names` (their seeds) or by their
/// place. A grid has `columns` columns, or about as many as rows.
pub fn write_samples(
    out: &Path,
    samples: &Array,
    others: &[(&str, &Array)],
    names: &[u64],
    columns: Option<usize>,
) -> Outcome<()> {
    let extension = out.extension().map(|e| e.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("npy") => array::write_npy(out, samples)?,
        Some("npz") => {
            let arrays: Vec<(&str, &Array)> =
                [("samples", samples)].into_iter().chain(others.iter().copied()).collect();
            array::write_npz(out, &arrays)?;
        }
        Some("png") => atomic::write(out, &picture(samples, columns)?)?,
        None => {
            atomic::create_folder(out)?;
            array::write_npy(&out.join("samples.npy"), samples)?;
            if samples.row_len() == 2 {
                atomic::write(&out.join("samples.png"), &picture(samples, columns)?)?;
            } else if is_image(samples) {
                for i in 0..samples.rows() {
                    let name = names.get(i).copied().unwrap_or(i as u64);
                    let png = grid::png(&samples.slice_rows(i..i + 1).data, &samples.shape[1..], 1);
                    atomic::write(&out.join(format!("{name:06}.png")), &png)?;
                }
            }
        }
        Some(other) => {
            return Err(Failure::Usage(format!(
                "--out {}: `.{other}` can't be written; name a .npy, .npz or .png file, or a folder",
                out.display()
            )));
        }
    }
    eprintln!("{} samples in {}", samples.rows(), out.display());
    Ok(())
}

/// Whether rows are images that can be seen.
fn is_image(samples: &Array) -> bool {
    samples.shape.get(1..).is_some_and(grid::shows)
}

fn picture(samples: &Array, columns: Option<usize>) -> Outcome<Vec<u8>> {
    if is_image(samples) {
        let columns = columns.unwrap_or_else(|| (samples.rows() as f64).sqrt().ceil() as usize);
        return Ok(grid::png(&samples.data, &samples.shape[1..], columns));
    }
    if samples.row_len() != 2 {
        let n = samples.row_len();
        return Err(Failure::Usage(format!(
            "a picture shows points in the plane or images of 1 or 3 channels, and these have {n} numbers; \
             name a .npy or .npz file"
        )));
    }
    Ok(plots::scatter(
        &format!("{} samples", samples.rows()),
        &[Group::of(&samples.data, 0)],
        view(&samples.data),
    ))
}
