//! Samples as one picture: images in a grid, points in the plane.

use std::path::Path;

use kdm_data::Samples;
use kdm_report::plot::{Mark, Plot, Series, half_edge};
use kdm_report::{PlotFormat, grid};

use crate::{Failure, Outcome};

/// How samples stand beside each other in a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrangement {
    /// Images in a square.
    #[default]
    Square,
    /// Images in this many columns.
    Columns(usize),
    /// Every so many samples are steps of a way: images in a row, points joined by an arrow.
    Ways(usize),
}

/// Points of ways that are told apart by colour, and have a name.
const NAMED: usize = 7;

/// Whether samples of `shape` can be drawn in a file of this name; true of files that are no
/// pictures.
///
/// # Errors
/// When they have no picture, or not in this form.
pub fn check_picture(out: &Path, shape: &[usize]) -> Outcome<()> {
    let extension = out.extension().map(|e| e.to_string_lossy().to_lowercase());
    let Some(form) = extension.and_then(|extension| PlotFormat::of_extension(&extension)) else {
        return Ok(());
    };
    let numbers: usize = shape.iter().product();
    if !grid::shows(shape) && numbers != 2 {
        return Err(Failure::Usage(format!(
            "a picture shows points in the plane or images of 1 or 3 channels, and these have \
             {numbers} numbers; name a .npy or .npz file"
        )));
    }
    if grid::shows(shape) && form != PlotFormat::Png {
        let form = form.extension();
        let problem = format!("--out {}: a .{form} file is for points in the plane", out.display());
        return Err(Failure::Usage(format!("{problem}; name a .png file for images")));
    }
    Ok(())
}

/// The picture of samples that [`check_picture`] lets pass. `form`: of points; images are PNG.
pub fn picture(samples: &Samples, arrangement: Arrangement, form: PlotFormat) -> Vec<u8> {
    if grid::shows(&samples.shape) {
        let columns = match arrangement {
            Arrangement::Square => (samples.len() as f64).sqrt().ceil() as usize,
            Arrangement::Columns(columns) | Arrangement::Ways(columns) => columns,
        };
        return grid::png(&samples.images, &samples.shape, columns);
    }
    let (series, half) = match arrangement {
        Arrangement::Ways(steps) => ways(samples, steps),
        _ => (vec![Series::of_rows(&samples.images, 0)], half_edge(&samples.images)),
    };
    form.file(&Plot::points(series, half))
}

/// An arrow for each `steps` samples with a dot at each of them, and the half edge of the square
/// that holds all.
fn ways(samples: &Samples, steps: usize) -> (Vec<Series>, f64) {
    let rows: Vec<&[f32]> = samples.images.chunks(2 * steps.max(1)).collect();
    let name = |i: usize| {
        let named = rows.len() <= NAMED && samples.seeds.len() == samples.len();
        named.then(|| format!("seed {}", samples.seeds[i * steps]))
    };
    let mut series = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let dots = Series::of_rows(row, i);
        series.push(Series { name: name(i), mark: Mark::Arrow, ..dots.clone() });
        series.push(dots);
    }
    let reach = samples.images.iter().fold(1e-3f32, |most, x| most.max(x.abs()));
    (series, 1.1 * f64::from(reach))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_arrows_of_their_own() {
        let images = vec![0.0, 0.0, 1.0, 1.0, -2.0, 0.0, -2.0, 3.0];
        let (noise, labels) = (Vec::new(), kdm_data::Labels::none(4));
        let samples = Samples {
            shape: vec![2],
            noise,
            images,
            labels,
            seeds: vec![5, 5, 8, 8],
            ..Samples::default()
        };
        let (series, half) = ways(&samples, 2);
        assert!((half - 3.3).abs() < 1e-6);
        let found: Vec<_> = series.iter().map(|s| (s.name.as_deref(), s.mark, s.colour)).collect();
        assert_eq!(found[0], (Some("seed 5"), Mark::Arrow, Some(0)));
        assert_eq!(found[2], (Some("seed 8"), Mark::Arrow, Some(1)));
        assert_eq!(series[2].points, [(-2.0, 0.0), (-2.0, 3.0)]);
    }

    #[test]
    fn forms_suit_what_is_drawn() {
        let check = |out: &str, shape: &[usize]| check_picture(Path::new(out), shape);
        for out in ["a.png", "a.svg", "a.PDF", "a.npy", "folder"] {
            assert!(check(out, &[2]).is_ok(), "{out}");
        }
        assert!(check("a.png", &[3, 8, 8]).is_ok() && check("a.npz", &[5, 8, 8]).is_ok());
        assert!(check("a.svg", &[3, 8, 8]).unwrap_err().to_string().contains(".png"));
        assert!(check("a.png", &[5, 8, 8]).unwrap_err().to_string().contains(".npy"));
    }
}
