//! Which files of a tree are images, of which class, and what is left out: decided from names
//! alone.

use std::collections::{BTreeMap, BTreeSet};

use super::Split;
use super::tree::{Entry, Listing};

/// Extensions of image files.
const IMAGES: [&str; 11] =
    ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "dib", "tif", "tiff", "gif"];
/// Folders and files that systems and programs put beside people's own.
const SYSTEM: [&str; 7] = [
    "__MACOSX",
    "@eaDir",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
    "Thumbs.db",
    "desktop.ini",
];
/// Names of the parts of a data set, by how they are preferred.
const TRAIN: [&str; 2] = ["train", "training"];
const TEST: [&str; 5] = ["test", "testing", "val", "valid", "validation"];
/// The file with EDM's classes.
pub(super) const DATASET_JSON: &str = "dataset.json";

/// What is read of a tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Arrangement {
    /// The images in their order, with the classes that their folders are.
    pub images: Vec<(Entry, Option<u32>)>,
    /// Names of the classes that are folders.
    pub class_names: Vec<String>,
    /// Classes of folders without images.
    pub empty: Vec<String>,
    /// All `dataset.json`, with the folder that each lies in ("" or "x/"); they count more than
    /// folders.
    pub told: Vec<(String, Entry)>,
    /// The folder whose images are read, where it is not the root.
    pub part: Option<String>,
    pub left_out: LeftOut,
}

/// What is not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Hidden files and files of systems.
    pub hidden: usize,
    /// Others that are no images, by extension.
    pub others: BTreeMap<String, usize>,
    /// Links to folders that are read anyway.
    pub links: usize,
    /// Folders beside classes that hold files but no images.
    pub folders: Vec<String>,
}

impl LeftOut {
    /// "3 hidden files, 2 .txt"; nothing when there is nothing.
    pub(super) fn text(&self) -> Option<String> {
        let mut parts = Vec::new();
        let count = |n: usize, one: &str, more: &str| match n {
            1 => format!("1 {one}"),
            n => format!("{n} {more}"),
        };
        if self.hidden > 0 {
            parts.push(count(self.hidden, "hidden file", "hidden files"));
        }
        let mut others: Vec<_> = self.others.iter().collect();
        others.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
        let named = others.iter().take(5).map(|(kind, n)| match kind.as_str() {
            "" => count(**n, "file without extension", "files without extension"),
            kind => format!("{n} .{kind}"),
        });
        parts.extend(named);
        let rest: usize = others.iter().skip(5).map(|(_, n)| **n).sum();
        if rest > 0 {
            parts.push(count(rest, "other file", "other files"));
        }
        if self.links > 0 {
            let more = "links to folders that are read already";
            parts.push(count(self.links, "link to a folder that is read already", more));
        }
        parts.extend(self.folders.iter().take(5).map(|name| format!("the folder `{name}`")));
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// Why no images are read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ArrangementError {
    #[error("holds no images ({} are read){}", kinds(), besides(.0))]
    NoImages(LeftOut),
    #[error("holds no test images of its own")]
    NoTest,
    #[error("holds images in class folders (`{classed}`) and beside them (`{stray}`)")]
    Mixed { classed: String, stray: String },
}

fn kinds() -> &'static str {
    "png, jpg, webp, bmp, tif and gif"
}

fn besides(left_out: &LeftOut) -> String {
    left_out.text().map_or(String::new(), |text| format!("; there are {text}"))
}

fn is_hidden(name: &str) -> bool {
    name.split('/').any(|part| part.starts_with('.') || SYSTEM.contains(&part))
}

fn extension(name: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.rsplit_once('.').map_or(String::new(), |(_, end)| end.to_lowercase())
}

/// The first folder of what `name` has below `root`, where it lies in one.
fn folder_below<'a>(name: &'a str, root: &str) -> Option<&'a str> {
    name.strip_prefix(root)?.split_once('/').map(|(folder, _)| folder)
}

/// What lies in a tree, by what it is.
#[derive(Default)]
struct Sorted<'a> {
    images: Vec<&'a Entry>,
    told: Vec<&'a Entry>,
    others: Vec<&'a str>,
    folders: Vec<&'a str>,
    left_out: LeftOut,
}

fn sorted(listing: &Listing) -> Sorted<'_> {
    let mut found = Sorted::default();
    found.left_out.links = listing.known_links;
    found.folders = listing.folders.iter().map(String::as_str).filter(|f| !is_hidden(f)).collect();
    for file in &listing.files {
        let kind = extension(&file.name);
        if is_hidden(&file.name) {
            found.left_out.hidden += 1;
        } else if IMAGES.contains(&kind.as_str()) {
            found.images.push(file);
        } else if file.name.rsplit('/').next() == Some(DATASET_JSON) {
            found.told.push(file);
        } else {
            found.others.push(&file.name);
            *found.left_out.others.entry(kind).or_default() += 1;
        }
    }
    found
}

/// Arranges what a tree lists: the images of one part of it.
pub(super) fn arrange(listing: &Listing, split: Split) -> Result<Arrangement, ArrangementError> {
    let mut sorted = sorted(listing);
    if sorted.images.is_empty() {
        return Err(ArrangementError::NoImages(sorted.left_out));
    }
    let parts = Parts::of(&sorted, &common_root(&sorted));
    let part = parts.folder(split).ok_or(ArrangementError::NoTest)?;
    let told = |file: &&Entry| {
        let folder = file.name.strip_suffix(DATASET_JSON)?;
        let governs = folder.starts_with(part) || part.starts_with(folder);
        governs.then(|| (folder.to_string(), (*file).clone()))
    };
    let told: Vec<_> = sorted.told.iter().filter_map(told).collect();
    let of_part: Vec<&Entry> =
        sorted.images.iter().copied().filter(|file| file.name.starts_with(part)).collect();
    let classes = match told.is_empty() && !is_chunked(&of_part, part) {
        true => Classes::of(&sorted, &parts, &of_part, part)?,
        false => Classes::default(),
    };
    let class = |file: &Entry| classes.number(folder_below(&file.name, part)?);
    let images = of_part.into_iter().map(|file| (file.clone(), class(file))).collect();
    sorted.left_out.folders = classes.without_images;
    Ok(Arrangement {
        images,
        class_names: classes.names,
        empty: classes.empty,
        told,
        part: (!part.is_empty()).then(|| part.trim_end_matches('/').to_string()),
        left_out: sorted.left_out,
    })
}

/// The folder that all lies in, "" or "x/y/": archives often hold one folder.
fn common_root(sorted: &Sorted) -> String {
    let mut root = String::new();
    while let Some(next) = folder_below(&sorted.images[0].name, &root) {
        let deeper = format!("{root}{next}/");
        if sorted.images.iter().chain(&sorted.told).any(|file| !file.name.starts_with(&deeper)) {
            break;
        }
        root = deeper;
    }
    root
}

/// The folders of a data set's parts, each "" or ending in a slash.
struct Parts {
    train: String,
    test: Option<String>,
}

impl Parts {
    fn of(sorted: &Sorted, root: &str) -> Self {
        let whole = Self { train: root.to_string(), test: None };
        let below = sorted.images.iter().map(|file| folder_below(&file.name, root));
        let Some(folders) = below.collect::<Option<BTreeSet<&str>>>() else { return whole };
        let is = |name: &str, wanted: &str| name.to_lowercase() == wanted;
        let is_part = |name: &&str| TRAIN.iter().chain(&TEST).any(|part| is(name, part));
        // Where other folders lie beside, `train` is a class: a kind of vehicle.
        if !folders.iter().all(is_part) {
            return whole;
        }
        let find = |wanted: &[&str]| {
            let named = |wanted| folders.iter().find(|name| is(name, wanted));
            wanted.iter().find_map(|wanted| named(wanted)).map(|name| format!("{root}{name}/"))
        };
        match find(&TRAIN) {
            Some(train) => Self { train, test: find(&TEST) },
            None => whole,
        }
    }

    fn folder(&self, split: Split) -> Option<&str> {
        match split {
            Split::Train => Some(&self.train),
            Split::Test => self.test.as_deref(),
        }
    }

    /// The folder that `name` lies in below the part that it belongs to.
    fn folder_of<'a>(&self, name: &'a str) -> Option<&'a str> {
        let parts = std::iter::once(self.train.as_str()).chain(self.test.as_deref());
        parts.into_iter().find_map(|part| folder_below(name, part))
    }
}

/// Whether folders are EDM's, of a thousand images each: `00012/img00012345.png`.
fn is_chunked(images: &[&Entry], part: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    images.iter().all(|file| {
        let Some((folder, name)) = file.name[part.len()..].split_once('/') else { return false };
        let number = name.strip_prefix("img").and_then(|name| name.split('.').next());
        folder.len() == 5 && digits(folder) && number.is_some_and(|n| n.len() == 8 && digits(n))
    })
}

/// Folders that are classes, numbered in the order of their names; over all parts, so that a class
/// has the same number in each.
#[derive(Default)]
struct Classes {
    names: Vec<String>,
    empty: Vec<String>,
    without_images: Vec<String>,
}

impl Classes {
    fn of(
        sorted: &Sorted,
        parts: &Parts,
        images: &[&Entry],
        part: &str,
    ) -> Result<Self, ArrangementError> {
        let (classed, stray): (Vec<&Entry>, Vec<&Entry>) =
            images.iter().partition(|file| folder_below(&file.name, part).is_some());
        match (classed.first(), stray.first()) {
            (None, _) => return Ok(Self::default()),
            (Some(classed), Some(stray)) => {
                let (classed, stray) = (classed.name.clone(), stray.name.clone());
                return Err(ArrangementError::Mixed { classed, stray });
            }
            (Some(_), None) => {}
        }
        let mut names: BTreeSet<&str> =
            sorted.images.iter().filter_map(|file| parts.folder_of(&file.name)).collect();
        let slashed: Vec<String> = sorted.folders.iter().map(|name| format!("{name}/")).collect();
        let folders: BTreeSet<&str> =
            slashed.iter().filter_map(|name| parts.folder_of(name)).collect();
        let of_others: BTreeSet<&str> =
            sorted.others.iter().filter_map(|name| parts.folder_of(name)).collect();
        // An empty folder among classes is one whose images are missing; one of other files isn't.
        let (others, empty): (Vec<&str>, Vec<&str>) =
            folders.difference(&names).partition(|name| of_others.contains(*name));
        names.extend(&empty);
        let owned = |names: Vec<&str>| names.into_iter().map(String::from).collect();
        Ok(Self {
            names: names.into_iter().map(String::from).collect(),
            empty: owned(empty),
            without_images: owned(others),
        })
    }

    fn number(&self, name: &str) -> Option<u32> {
        let by_name = |class: &String| class.as_str().cmp(name);
        self.names.binary_search_by(by_name).ok().map(|class| class as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(files: &[&str], folders: &[&str]) -> Listing {
        let folders = folders.iter().map(|name| name.to_string()).collect();
        Listing {
            files: files.iter().map(|name| Entry::named(name)).collect(),
            folders,
            known_links: 0,
        }
    }

    fn train(files: &[&str]) -> Arrangement {
        arrange(&listing(files, &[]), Split::Train).unwrap()
    }

    fn shown(found: &Arrangement) -> Vec<(&str, Option<u32>)> {
        found.images.iter().map(|(entry, class)| (entry.name.as_str(), *class)).collect()
    }

    #[test]
    fn folders_are_classes_and_hidden_things_are_none() {
        let found = train(&[
            ".DS_Store",
            ".ipynb_checkpoints/0.png",
            "__MACOSX/a/._0.png",
            "a/._0.png",
            "a/0.png",
            "a/Thumbs.db",
            "a/deep/1.JPEG",
            "b/0.jfif",
            "b/notes.txt",
            "readme",
        ]);
        assert_eq!(
            shown(&found),
            [("a/0.png", Some(0)), ("a/deep/1.JPEG", Some(0)), ("b/0.jfif", Some(1))]
        );
        assert_eq!(found.class_names, ["a", "b"]);
        let told = found.left_out.text().unwrap();
        assert_eq!(told, "5 hidden files, 1 file without extension, 1 .txt");
    }

    /// What holds one folder is that folder.
    #[test]
    fn one_folder_around_everything_is_passed_over() {
        assert_eq!(
            shown(&train(&["top/x/0.png", "top/x/1.png"])),
            [("top/x/0.png", None), ("top/x/1.png", None)]
        );
        assert_eq!(train(&["top/a/0.png", "top/b/0.png"]).class_names, ["a", "b"]);
        let found = train(&["top/00000/img0.png", "top/dataset.json"]);
        assert_eq!(
            (found.told[0].0.as_str(), shown(&found)),
            ("top/", vec![("top/00000/img0.png", None)])
        );
        let chunks = train(&["00000/img00000000.png", "00001/img00001000.png"]);
        assert!(chunks.class_names.is_empty());
    }

    #[test]
    fn parts_are_kept_apart_and_number_their_classes_alike() {
        let files = [
            "d/train/b/0.png",
            "d/train/c/0.png",
            "d/val/a/0.png",
            "d/val/c/1.png",
            "d/val/readme.md",
        ];
        let train = train(&files);
        assert_eq!(shown(&train), [("d/train/b/0.png", Some(1)), ("d/train/c/0.png", Some(2))]);
        let test = arrange(&listing(&files, &[]), Split::Test).unwrap();
        assert_eq!(shown(&test), [("d/val/a/0.png", Some(0)), ("d/val/c/1.png", Some(2))]);
        assert_eq!((test.class_names, test.part.as_deref()), (train.class_names, Some("d/val")));
        // Beside `bus`, `train` is a class.
        let vehicles = listing(&["bus/0.png", "train/0.png"], &[]);
        assert_eq!(arrange(&vehicles, Split::Train).unwrap().class_names, ["bus", "train"]);
        assert_eq!(arrange(&vehicles, Split::Test), Err(ArrangementError::NoTest));
        let each =
            listing(&["train/0.png", "train/dataset.json", "test/0.png", "test/dataset.json"], &[]);
        assert_eq!(arrange(&each, Split::Test).unwrap().told[0].0, "test/");
    }

    #[test]
    fn empty_folders_are_classes_without_images() {
        let files = ["a/0.png", "c/0.png", "docs/x.txt"];
        let found =
            arrange(&listing(&files, &["a", "b", "c", "docs", ".git"]), Split::Train).unwrap();
        assert_eq!((found.class_names.len(), shown(&found)[1].1), (3, Some(2)));
        assert_eq!(
            (found.empty, found.left_out.folders),
            (vec!["b".to_string()], vec!["docs".to_string()])
        );
    }

    #[test]
    fn what_holds_no_images_says_what_it_holds() {
        let none = arrange(&listing(&["a.heic", "b.heic", ".x.png"], &[]), Split::Train);
        let message = none.unwrap_err().to_string();
        assert!(message.contains("2 .heic") && message.contains("1 hidden file"), "{message}");
        let mixed = arrange(&listing(&["a/0.png", "b/0.png", "1.png"], &[]), Split::Train);
        assert!(mixed.unwrap_err().to_string().contains("`1.png`"));
    }
}
