//! What a source holds, found out before it is read.

use std::path::Path;

use kdm_observer::Observer;
use serde::Serialize;

use super::read::arranged;
use super::tree::Tree;
use super::{ImageSet, ReadOptions, Split, arrays, cifar, decode, idx, stopped};
use crate::{Error, Result};

/// Files whose headers are looked at, at most.
pub const LOOKED_AT: usize = 500;

/// What a source holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Survey {
    /// Images of its train split.
    pub images: usize,
    /// 1 if all are grey, 3 else.
    pub channels: usize,
    /// `[height, width]` of the image whose shorter side is smallest.
    pub smallest: [usize; 2],
    /// Of the one in the middle.
    pub median: [usize; 2],
    /// Of the one whose shorter side is largest.
    pub largest: [usize; 2],
    /// Whether there is a test split.
    pub has_test: bool,
    /// The classes that folders are, with the images of each; none where there are none.
    pub classes: Vec<(String, usize)>,
}

/// Looks at a source of images: the headers of at most 500 of its files, evenly spaced.
///
/// # Errors
/// As [`ImageSet::open_with`], for what is looked at.
pub fn survey(source: &str, options: &ReadOptions, observer: &dyn Observer) -> Result<Survey> {
    let path = Path::new(source);
    let named = matches!(source, "fashion-mnist" | "shapes")
        || idx::is_there(path)
        || arrays::is_there(path);
    let tree = if named { None } else { Tree::open(path).map_err(|e| super::unknown(e, path))? };
    let Some(mut tree) = tree.filter(|tree| cifar::batches(&tree.listing).is_empty()) else {
        // Sets of arrays, of one size.
        let set = ImageSet::open_with(source, Split::Train, options, observer)?;
        let [channels, height, width] = set.shape();
        let size = [height, width];
        let has_test = has_test(source)?;
        let (smallest, median, largest) = (size, size, size);
        let mut classes: Vec<(String, usize)> =
            (0..set.classes() as u32).map(|class| (set.class_name(class), 0)).collect();
        (0..set.len()).filter_map(|i| set.label(i)).for_each(|k| classes[k as usize].1 += 1);
        let images = set.len();
        return Ok(Survey { images, channels, smallest, median, largest, has_test, classes });
    };
    let found = arranged(path, &tree, Split::Train)?;
    let images = found.images.len();
    let step = images.div_ceil(LOOKED_AT);
    let (mut sizes, mut channels) = (Vec::new(), 1);
    let mut progress = observer.begin("look at images", "images");
    for (i, (entry, _)) in found.images.iter().enumerate().step_by(step) {
        progress.advance(i as u64, images as u64, "").map_err(stopped(path))?;
        let header = decode::header(&tree.read(entry)?).map_err(|problem| {
            let action = "replace the file, or take it away";
            Error::invalid(path, &entry.name, problem.to_string(), action)
        })?;
        sizes.push([header.height, header.width]);
        channels = channels.max(header.channels);
    }
    progress.finish("");
    let mut classes: Vec<(String, usize)> =
        found.class_names.iter().map(|name| (name.clone(), 0)).collect();
    for class in found.images.iter().filter_map(|(_, class)| *class) {
        if let Some((_, count)) = classes.get_mut(class as usize) {
            *count += 1;
        }
    }
    sizes.sort_by_key(|[height, width]| (*height.min(width), *height.max(width)));
    Ok(Survey {
        images,
        channels,
        smallest: sizes[0],
        median: sizes[sizes.len() / 2],
        largest: sizes[sizes.len() - 1],
        has_test: has_test(source)?,
        classes,
    })
}

/// Whether a source has a test split of its own.
///
/// # Errors
/// When there is no such source.
pub fn has_test(source: &str) -> Result<bool> {
    let path = Path::new(source);
    if matches!(source, "fashion-mnist" | "shapes") {
        return Ok(true);
    }
    if idx::is_there(path) {
        return Ok(idx::has_test(path));
    }
    if arrays::is_there(path) {
        return Ok(false);
    }
    let Some(tree) = Tree::open(path).map_err(|e| super::unknown(e, path))? else {
        return Ok(false);
    };
    let batches = cifar::batches(&tree.listing);
    if batches.is_empty() {
        return Ok(arranged(path, &tree, Split::Test).is_ok());
    }
    Ok(cifar::has(&batches, Split::Test))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_observer::Silent;

    #[test]
    fn sizes_are_known_before_images_are_read() {
        let folder = tempfile::tempdir().unwrap();
        for (i, (height, width)) in [(4, 9), (8, 8), (30, 20)].into_iter().enumerate() {
            let class = folder.path().join(["a", "b", "b"][i]);
            std::fs::create_dir_all(&class).unwrap();
            let path = class.join(format!("{i}.png"));
            image::GrayImage::new(width, height).save(path).unwrap();
        }
        let source = folder.path().to_str().unwrap();
        let found = survey(source, &ReadOptions::default(), &Silent).unwrap();
        let (smallest, median, largest) = ([4, 9], [8, 8], [30, 20]);
        assert_eq!((found.images, found.channels, found.has_test), (3, 1, false));
        assert_eq!([found.smallest, found.median, found.largest], [smallest, median, largest]);
        assert_eq!(found.classes, [("a".to_string(), 1), ("b".to_string(), 2)]);
        std::fs::write(folder.path().join("a/0.png"), b"x").unwrap();
        assert!(survey(source, &ReadOptions::default(), &Silent).is_err());
    }
}
