//! CIFAR-10's binary batches: `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, one
//! byte of class and 3072 of image (red, green, blue planes) a record.

use std::path::Path;

use super::{ImageSet, Split};
use crate::{Error, Result};

const IMAGE: usize = 3 * 32 * 32;
const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Whether a folder holds training batches.
pub(super) fn is_there(folder: &Path) -> bool {
    folder.join("data_batch_1.bin").is_file()
}

pub(super) fn open(folder: &Path, split: Split) -> Result<ImageSet> {
    let names: Vec<String> = match split {
        Split::Train => (1..=5).map(|i| format!("data_batch_{i}.bin")).collect(),
        Split::Test => vec!["test_batch.bin".into()],
    };
    let class_names = CLASSES.map(String::from).to_vec();
    let mut set =
        ImageSet { channels: 3, height: 32, width: 32, class_names, ..ImageSet::default() };
    for name in names {
        let path = folder.join(name);
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let whole = !bytes.is_empty() && bytes.len().is_multiple_of(IMAGE + 1);
        let records = || bytes.chunks_exact(IMAGE + 1);
        if !whole || records().any(|record| usize::from(record[0]) >= CLASSES.len()) {
            let problem = "is no batch of CIFAR-10's binary version";
            return Err(Error::invalid(
                &path,
                "records",
                problem,
                "unpack cifar-10-binary.tar.gz again",
            ));
        }
        for record in records() {
            set.labels.push(u32::from(record[0]));
            set.bytes.extend(&record[1..]);
        }
    }
    Ok(set)
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
}
