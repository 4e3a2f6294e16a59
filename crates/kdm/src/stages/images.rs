//! Data sets of images, opened, and fitted to what a network takes.

use std::path::Path;

use kdm_data::images::ReadOptions;
use kdm_data::{ImageSet, Split};
use kdm_observer::Observer;

use crate::Outcome;
use crate::usable::{Wanted, instead};

/// The images of a source, of every kind that is read: see [`ImageSet::open_with`].
///
/// # Errors
/// As there.
pub fn open_set(
    source: &str,
    split: Split,
    options: &ReadOptions,
    observer: &dyn Observer,
) -> Outcome<ImageSet> {
    ImageSet::open_with(source, split, &with_pickles(options), observer)
        .map_err(|error| instead(Path::new(source), Wanted::Images, error.into()))
}

/// The options, with a reader of the pickles that CIFAR's Python version consists of.
pub fn with_pickles(options: &ReadOptions) -> ReadOptions {
    ReadOptions { unpickle: options.unpickle.or(Some(kdm_formats::cifar::unpickle)), ..*options }
}

/// The images of `source` as images of `shape` `[C, H, W]`; smaller ones are zero-padded.
///
/// # Errors
/// When there is no such data set, or its images don't fit.
pub fn open_images(
    source: &str,
    split: Split,
    shape: &[usize],
    observer: &dyn Observer,
) -> Outcome<ImageSet> {
    let set = open_set(source, split, &ReadOptions::default(), observer)?;
    fit_images(set, source, shape, observer)
}

/// The images of a set that was opened from `source` as images of `shape` `[C, H, W]`; smaller ones
/// are zero-padded.
///
/// # Errors
/// When they don't fit.
pub fn fit_images(
    images: ImageSet,
    source: &str,
    shape: &[usize],
    observer: &dyn Observer,
) -> Outcome<ImageSet> {
    let [channels, height, width] = images.shape();
    if shape.len() != 3 || shape[1] != shape[2] || channels != shape[0] {
        let problem = format!("are [{channels}, {height}, {width}], and {shape:?} are needed");
        return Err(misfit(source, problem).into());
    }
    if [height, width] != shape[1..] {
        let side = shape[1];
        observer.info(&format!(
            "{source}: images of {height}x{width} are zero-padded to {side}x{side}"
        ));
    }
    Ok(images.padded(shape[1]).map_err(|problem| misfit(source, problem.to_string()))?)
}

fn misfit(source: &str, problem: String) -> kdm_data::Error {
    let action = "write a set of that size with `kdm data export SET --resolution R --out \
                  set.zip`, or set the network's resolution and channels to the data's";
    kdm_data::Error::invalid(source, "images", problem, action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_observer::{Event, Silent};
    use std::cell::RefCell;

    /// Smaller images are zero-padded, which is said; others are refused with what to do.
    #[test]
    fn images_are_fitted_or_refused() {
        let told = RefCell::new(Vec::new());
        let keep = |event: &Event| {
            if let Event::Info(text) = event {
                told.borrow_mut().push(text.to_string());
            }
        };
        let set = || ImageSet::open("shapes", Split::Test, &Silent).unwrap();
        let [channels, side, _] = set().shape();
        let same = fit_images(set().first(3), "shapes", &[channels, side, side], &keep).unwrap();
        assert_eq!((same.shape(), told.borrow().len()), ([channels, side, side], 0));
        let wide = side + 8;
        let padded = fit_images(set().first(3), "shapes", &[channels, wide, wide], &keep).unwrap();
        assert_eq!(padded.shape(), [channels, wide, wide]);
        assert!(told.borrow()[0].contains("zero-padded"), "{:?}", told.borrow());
        for shape in [vec![channels, side / 2, side / 2], vec![1, side, side], vec![side]] {
            let failure = fit_images(set().first(3), "shapes", &shape, &Silent).unwrap_err();
            assert!(failure.to_string().contains("`shapes`"), "{failure}");
        }
    }
}
