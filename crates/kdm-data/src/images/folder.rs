//! Folders of PNG and JPEG files of one size; sub-folders, in the order of their names, are
//! classes.

use std::path::{Path, PathBuf};

use kdm_observer::Observer;

use super::{ImageSet, Split, stopped};
use crate::{Error, Result};

pub(super) fn open(folder: &Path, split: Split, observer: &dyn Observer) -> Result<ImageSet> {
    let part = folder.join(split.name());
    let root = if folder.join("train").is_dir() {
        part
    } else {
        ImageSet::whole(folder, split)?;
        folder.to_path_buf()
    };
    let mut set = ImageSet::default();
    let classes: Vec<PathBuf> = entries(&root)?.into_iter().filter(|path| path.is_dir()).collect();
    let mut found: Vec<(Option<u32>, PathBuf)> =
        files(&root, false)?.into_iter().map(|path| (None, path)).collect();
    for (class, place) in classes.into_iter().enumerate() {
        found.extend(files(&place, true)?.into_iter().map(|path| (Some(class as u32), path)));
        set.class_names.push(place.file_name().unwrap_or_default().to_string_lossy().into_owned());
    }
    let total = found.len() as u64;
    let mut progress = observer.begin("read images", "images");
    for (i, (class, path)) in found.into_iter().enumerate() {
        progress.advance(i as u64, total, "").map_err(stopped(&root))?;
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let action = "give PNG or JPEG images of one size, all grey or all coloured";
        set.push_file(&bytes)
            .map_err(|unfit| Error::invalid(&path, "image", unfit.to_string(), action))?;
        set.labels.extend(class);
    }
    progress.report(total, total, "");
    progress.finish("read");
    if set.is_empty() {
        let action = "name a folder of .png or .jpg files, or of one sub-folder a class";
        return Err(Error::invalid(&root, "folder", "holds no images", action));
    }
    if !set.labels.is_empty() && set.labels.len() != set.len() {
        let action = "move the images beside the class folders into one of them";
        return Err(Error::invalid(
            &root,
            "folder",
            "holds images with a class and without",
            action,
        ));
    }
    Ok(set)
}

/// What lies in a folder, sorted.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    Ok(paths)
}

/// The image files of a folder, with those of folders below it where `below` is set.
fn files(folder: &Path, below: bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in entries(folder)? {
        let extension =
            path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        if path.is_dir() {
            if below {
                found.extend(files(&path, true)?);
            }
        } else if matches!(extension.as_str(), "png" | "jpg" | "jpeg") {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_observer::Silent;

    #[test]
    fn sub_folders_are_classes() {
        let folder = tempfile::tempdir().unwrap();
        let (shapes, _) = super::super::shapes::draw(3, 3);
        for (i, name) in
            ["train/cat/a.png", "train/ant/b.png", "train/ant/deep/c.png"].into_iter().enumerate()
        {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, shapes.png(i)).unwrap();
        }
        let source = folder.path().to_str().unwrap();
        let set = ImageSet::open(source, Split::Train, &Silent).unwrap();
        assert_eq!((set.len(), set.label(0), set.label(2)), (3, Some(0), Some(1)));
        assert_eq!((set.class_name(1), set.image(2)), ("cat".into(), shapes.image(0)));
        assert!(ImageSet::open(source, Split::Test, &Silent).is_err());
        std::fs::write(folder.path().join("train/stray.png"), shapes.png(0)).unwrap();
        assert!(
            ImageSet::open(source, Split::Train, &Silent)
                .unwrap_err()
                .to_string()
                .contains("with a class and without")
        );
    }
}
