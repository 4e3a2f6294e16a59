//! Folders. Links are followed, but no folder is listed twice: a link to a folder that is read
//! anyway would give its images twice, and one to a folder above would never end.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::{Entry, Listing, MOST_BYTES, MOST_FILES, too_many};
use crate::{Error, Result, regular};

/// The files' paths, by their place.
#[derive(Debug)]
pub(super) struct Folder {
    paths: Vec<PathBuf>,
}

impl Folder {
    pub(super) fn read(&self, place: usize) -> Result<Vec<u8>> {
        regular::read(&self.paths[place], MOST_BYTES)
    }
}

pub(super) fn list(root: &Path) -> Result<(Listing, Folder)> {
    let mut found = Vec::new();
    let mut folders = Vec::new();
    let mut known = HashSet::new();
    let mut known_links = 0;
    // Real folders first, so that what is linked is read at its own place.
    let mut ahead = vec![root.to_path_buf()];
    let mut links = BTreeSet::new();
    while let Some(folder) = ahead.pop().or_else(|| links.pop_first()) {
        if !known.insert(folder.canonicalize().map_err(Error::io("read", &folder))?) {
            known_links += 1;
            continue;
        }
        if folder != root {
            folders.push(folder.clone());
        }
        for entry in std::fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
            let entry = entry.map_err(Error::io("read", &folder))?;
            let (path, kind) = (entry.path(), entry.file_type());
            let kind = kind.map_err(Error::io("read", &path))?;
            if kind.is_dir() {
                ahead.push(path);
            } else if kind.is_symlink() && path.is_dir() {
                links.insert(path);
            } else {
                found.push(path);
            }
            if found.len() > MOST_FILES {
                return Err(too_many(root));
            }
        }
    }
    // By folder and then by name: as paths are ordered.
    found.sort();
    folders.sort();
    let name = |path: &PathBuf| {
        let below = path.strip_prefix(root).unwrap_or(path);
        let parts = below.components().map(|part| part.as_os_str().to_string_lossy());
        parts.collect::<Vec<_>>().join("/")
    };
    let files = found.iter().enumerate().map(|(place, path)| Entry {
        name: name(path),
        place,
        packed: None,
    });
    let listing = Listing {
        files: files.collect(),
        folders: folders.iter().map(name).collect(),
        known_links,
    };
    Ok((listing, Folder { paths: found }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn links_are_followed_once() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let (root, other) = (folder.path().join("root"), folder.path().join("other"));
        for place in [root.join("b/deep"), other.clone()] {
            std::fs::create_dir_all(&place).unwrap();
            std::fs::write(place.join("x.png"), place.to_str().unwrap()).unwrap();
        }
        symlink(&root, root.join("b/loop")).unwrap();
        symlink(root.join("b"), root.join("a")).unwrap();
        symlink(&other, root.join("c")).unwrap();
        symlink(other.join("x.png"), root.join("d.png")).unwrap();
        let (listing, files) = list(&root).unwrap();
        let names: Vec<&str> = listing.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["b/deep/x.png", "c/x.png", "d.png"]);
        assert_eq!(listing.known_links, 2);
        assert_eq!(files.read(1).unwrap(), other.to_str().unwrap().as_bytes());
        // A link to nothing is an error when it is read, not one that hides.
        symlink("nowhere", root.join("e.png")).unwrap();
        let (listing, files) = list(&root).unwrap();
        let last = listing.files.last().unwrap();
        assert!(files.read(last.place).unwrap_err().to_string().contains("e.png"));
    }

    /// Many folders that link to each other: each is read once.
    #[test]
    #[cfg(unix)]
    fn folders_that_link_to_each_other_end() {
        let folder = tempfile::tempdir().unwrap();
        let place = |i: usize| folder.path().join(format!("{i}"));
        (0..12).for_each(|i| std::fs::create_dir(place(i)).unwrap());
        for (i, j) in (0..144).map(|k| (k / 12, k % 12)) {
            std::os::unix::fs::symlink(place(j), place(i).join(format!("to{j}"))).unwrap();
        }
        std::fs::write(place(3).join("x.png"), b"x").unwrap();
        let (listing, _) = list(folder.path()).unwrap();
        assert_eq!((listing.files.len(), listing.known_links), (1, 144));
    }
}
