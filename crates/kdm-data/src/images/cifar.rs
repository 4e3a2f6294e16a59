//! CIFAR's batches: files of the binary version (`data_batch_1.bin`: one byte of class and 3072 of
//! image, red, green, blue planes, a record) and of the Python version (`data_batch_1`, a pickle;
//! CIFAR-100's are `train` and `test`), in a folder or an archive. The name tells the split.

use std::path::Path;

use kdm_observer::Observer;

use super::tree::{Entry, Listing, Tree};
use super::{ImageSet, ReadOptions, Split, Unpickle};
use crate::labels::MOST_CLASSES;
use crate::{Error, Result};

const SIDE: usize = 32;
const IMAGE: usize = 3 * SIDE * SIDE;
const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
const ACTION: &str = "fetch cifar-10-binary.tar.gz or cifar-10-python.tar.gz again";

/// What a pickled batch holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// `[n, 3072]`: red, green and blue planes of 32x32 pixels.
    pub data: Vec<u8>,
    /// A class an image.
    pub labels: Vec<u32>,
}

/// Which file holds what.
fn split_of(name: &str) -> Option<Split> {
    match name.rsplit('/').next().unwrap_or(name).trim_end_matches(".bin") {
        "test_batch" | "test" => Some(Split::Test),
        "train" => Some(Split::Train),
        name => {
            let number: u32 = name.strip_prefix("data_batch_")?.parse().ok()?;
            (1..=5).contains(&number).then_some(Split::Train)
        }
    }
}

/// The batches among a tree's files; none where it isn't CIFAR's. CIFAR-100's files have names that
/// say little, so `meta` must lie beside them.
pub(super) fn batches(listing: &Listing) -> Vec<Entry> {
    let sibling = |name: &str, other: &str| {
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let wanted = if folder.is_empty() { other.into() } else { format!("{folder}/{other}") };
        listing.files.iter().any(|file| file.name == wanted)
    };
    let is_batch = |file: &&Entry| {
        split_of(&file.name).is_some()
            && !file.name.split('/').any(|part| part.starts_with('.'))
            && match file.name.rsplit('/').next().unwrap_or_default() {
                "train" | "test" => sibling(&file.name, "meta"),
                "train.bin" | "test.bin" => false,
                _ => true,
            }
    };
    listing.files.iter().filter(is_batch).cloned().collect()
}

/// Whether there are batches of a split.
pub(super) fn has(batches: &[Entry], split: Split) -> bool {
    batches.iter().any(|entry| split_of(&entry.name) == Some(split))
}

/// Reads the batches of a split.
pub(super) fn read(
    path: &Path,
    tree: &mut Tree,
    batches: &[Entry],
    split: Split,
    options: &ReadOptions,
    observer: &dyn Observer,
) -> Result<ImageSet> {
    let wanted: Vec<&Entry> = batches.iter().filter(|e| split_of(&e.name) == Some(split)).collect();
    if wanted.is_empty() {
        let problem = format!("has no batches of the split `{}`", split.name());
        return Err(Error::invalid(path, "batches", problem, ACTION));
    }
    let mut set = empty();
    let mut progress = observer.begin("read images", "files");
    for (i, entry) in wanted.iter().enumerate() {
        progress.advance(i as u64, wanted.len() as u64, "").map_err(super::stopped(path))?;
        let bytes = tree.read(entry)?;
        append(&mut set, &bytes, path, &entry.name, options.unpickle)?;
    }
    progress.finish("read");
    if split == Split::Train && wanted[0].name.contains("data_batch") && wanted.len() != 5 {
        let n = wanted.len();
        observer.warn(&format!("{}: {n} of CIFAR-10's 5 training batches", path.display()));
    }
    Ok(named(set))
}

/// Reads one file that is a batch.
pub(super) fn read_one(path: &Path, bytes: &[u8], options: &ReadOptions) -> Result<ImageSet> {
    let mut set = empty();
    append(&mut set, bytes, path, "batch", options.unpickle)?;
    Ok(named(set))
}

fn empty() -> ImageSet {
    ImageSet { channels: 3, height: SIDE, width: SIDE, ..ImageSet::default() }
}

/// CIFAR-100's classes have no names here.
fn named(set: ImageSet) -> ImageSet {
    let ten = set.labels.iter().all(|class| (*class as usize) < CLASSES.len());
    let class_names = if ten { CLASSES.map(String::from).to_vec() } else { Vec::new() };
    ImageSet { class_names, ..set }
}

/// Whether bytes begin as a pickle that may hold a batch.
pub(super) fn is_pickle(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 1..=5, ..]) || bytes.starts_with(b"(dp")
}

fn append(
    set: &mut ImageSet,
    bytes: &[u8],
    path: &Path,
    name: &str,
    unpickle: Option<Unpickle>,
) -> Result<()> {
    let invalid = |problem: String| Error::invalid(path, name, problem, ACTION);
    let Batch { data, labels } = match unpickle {
        _ if !is_pickle(bytes) => binary(bytes)
            .ok_or_else(|| invalid("is no batch of CIFAR's binary or Python version".into()))?,
        Some(unpickle) => unpickle(bytes).map_err(|e| invalid(e.to_string()))?,
        None => return Err(invalid("is a pickle, which isn't read here".into())),
    };
    let count = data.len() / IMAGE;
    if count == 0 || data.len() != count * IMAGE || labels.len() != count {
        let problem = format!("holds {} bytes of images and {} classes", data.len(), labels.len());
        return Err(invalid(problem));
    }
    if labels.iter().any(|class| *class as usize >= MOST_CLASSES) {
        return Err(invalid("holds classes that are none".into()));
    }
    set.bytes.extend(data);
    set.labels.extend(labels);
    Ok(())
}

/// A batch of the binary version; none for other bytes.
fn binary(bytes: &[u8]) -> Option<Batch> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(IMAGE + 1) {
        return None;
    }
    let mut batch = Batch::default();
    for record in bytes.chunks_exact(IMAGE + 1) {
        if usize::from(record[0]) >= CLASSES.len() {
            return None;
        }
        batch.labels.push(u32::from(record[0]));
        batch.data.extend(&record[1..]);
    }
    Some(batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_observer::Silent;

    #[test]
    fn batches_are_read_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for i in 1..=5u8 {
            let mut record = vec![i; IMAGE + 1];
            record[1] = 255;
            std::fs::write(folder.path().join(format!("data_batch_{i}.bin")), record).unwrap();
        }
        let source = folder.path().to_str().unwrap();
        let set = ImageSet::open(source, Split::Train, &Silent).unwrap();
        assert_eq!(
            (set.shape(), set.len(), set.label(4), set.image(2)[0]),
            ([3, 32, 32], 5, Some(5), 1.0)
        );
        assert_eq!(set.class_name(3), "cat");
        assert!(ImageSet::open(source, Split::Test, &Silent).is_err());
        std::fs::write(folder.path().join("data_batch_3.bin"), [1, 2, 3]).unwrap();
        let message = ImageSet::open(source, Split::Train, &Silent).unwrap_err().to_string();
        assert!(message.contains("data_batch_3.bin"), "{message}");
    }

    /// Pickles are read by the function that is given, from archives as well.
    #[test]
    fn pickled_batches_are_read_where_pickles_are() {
        let unpickle: Unpickle =
            |bytes| Ok(Batch { data: vec![bytes[2]; 2 * IMAGE], labels: vec![bytes[2].into(), 9] });
        let options = ReadOptions { unpickle: Some(unpickle), ..ReadOptions::default() };
        let entry = super::super::tree::tar_entry;
        let tar = [
            entry("cifar-10-batches-py/data_batch_2", &[0x80, 2, 2]),
            entry("cifar-10-batches-py/data_batch_1", &[0x80, 2, 1]),
            entry("cifar-10-batches-py/test_batch", &[0x80, 2, 3]),
            entry("cifar-10-batches-py/batches.meta", &[0x80, 2, 4]),
        ]
        .concat();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cifar-10-python.tar");
        std::fs::write(&path, tar).unwrap();
        let source = path.to_str().unwrap();
        let set = ImageSet::open_with(source, Split::Train, &options, &Silent).unwrap();
        assert_eq!(
            (set.len(), set.label(0), set.label(2), set.class_name(9)),
            (4, Some(1), Some(2), "truck".into())
        );
        let test = ImageSet::open_with(source, Split::Test, &options, &Silent).unwrap();
        assert_eq!((test.len(), test.label(0)), (2, Some(3)));
        let message = ImageSet::open(source, Split::Train, &Silent).unwrap_err().to_string();
        assert!(message.contains("pickle"), "{message}");
    }
}
