//! IDX files, as MNIST and Fashion-MNIST come: `train-images-idx3-ubyte`,
//! `train-labels-idx1-ubyte`, and `t10k-` for the test images; plain or with `.gz`.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::{ImageSet, Split};
use crate::{Error, Result};

/// Bytes that a packed file may unpack to: so many, and so many times its own.
const MOST_UNPACKED: (u64, u64) = (256 << 20, 50);

/// A file of this name, plain or packed.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    [folder.join(name), folder.join(format!("{name}.gz"))].into_iter().find(|path| path.is_file())
}

/// Whether a folder holds training images.
pub(super) fn is_there(folder: &Path) -> bool {
    find(folder, "train-images-idx3-ubyte").is_some()
}

/// Whether a folder holds test images.
pub(super) fn has_test(folder: &Path) -> bool {
    find(folder, "t10k-images-idx3-ubyte").is_some()
}

pub(super) fn open(folder: &Path, split: Split) -> Result<ImageSet> {
    let prefix = match split {
        Split::Train => "train",
        Split::Test => "t10k",
    };
    let read = |name: String, dimensions: usize| -> Result<(Vec<usize>, Vec<u8>)> {
        let path = find(folder, &name).ok_or_else(|| {
            Error::invalid(
                folder,
                name.clone(),
                "is missing",
                "copy the file there, plain or as .gz",
            )
        })?;
        let file = crate::regular::open(&path)?;
        let length = file.metadata().map_err(Error::io("read", &path))?.len();
        let most = length.saturating_mul(MOST_UNPACKED.1).saturating_add(MOST_UNPACKED.0);
        let file = BufReader::new(file);
        let mut bytes = Vec::new();
        let packed = path.extension().is_some_and(|e| e == "gz");
        let read = if packed {
            GzDecoder::new(file).take(most).read_to_end(&mut bytes)
        } else {
            file.take(most).read_to_end(&mut bytes)
        };
        let invalid =
            |problem: String| Error::invalid(&path, "IDX", problem, "fetch the file again");
        read.map_err(|e| invalid(format!("not readable ({e})")))?;
        parse(bytes, dimensions).map_err(|e| invalid(e.to_string()))
    };
    let (sizes, bytes) = read(format!("{prefix}-images-idx3-ubyte"), 3)?;
    let (counts, labels) = read(format!("{prefix}-labels-idx1-ubyte"), 1)?;
    if counts[0] != sizes[0] {
        let problem = format!("has {} labels for {} images", counts[0], sizes[0]);
        return Err(Error::invalid(
            folder,
            "labels",
            problem,
            "fetch both files again, from one source",
        ));
    }
    let labels = labels.into_iter().map(u32::from).collect();
    Ok(ImageSet {
        channels: 1,
        height: sizes[1],
        width: sizes[2],
        bytes,
        labels,
        class_names: Vec::new(),
    })
}

/// What is wrong with the bytes of an IDX file.
#[derive(Debug, thiserror::Error)]
enum IdxError {
    #[error("not an IDX file of bytes with {axes} axes")]
    Header { axes: usize },
    #[error("holds {found} bytes for sizes {sizes:?}")]
    Sizes { found: usize, sizes: Vec<usize> },
}

/// Sizes and bytes of an IDX file of unsigned bytes with that many axes.
fn parse(
    mut bytes: Vec<u8>,
    dimensions: usize,
) -> std::result::Result<(Vec<usize>, Vec<u8>), IdxError> {
    let header = 4 + 4 * dimensions;
    if bytes.len() < header || bytes[..4] != [0, 0, 8, dimensions as u8] {
        return Err(IdxError::Header { axes: dimensions });
    }
    let size = |k: usize| {
        u32::from_be_bytes([bytes[k], bytes[k + 1], bytes[k + 2], bytes[k + 3]]) as usize
    };
    let sizes: Vec<usize> = (0..dimensions).map(|axis| size(4 + 4 * axis)).collect();
    let wanted = sizes.iter().try_fold(1usize, |total, size| total.checked_mul(*size));
    if wanted != Some(bytes.len() - header) || wanted == Some(0) {
        return Err(IdxError::Sizes { found: bytes.len() - header, sizes });
    }
    bytes.drain(..header);
    Ok((sizes, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_observer::Silent;
    use std::fs::File;
    use std::io::Write;

    fn idx(sizes: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
        bytes.extend(data);
        bytes
    }

    #[test]
    fn plain_and_packed_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let images = idx(&[2, 1, 2], &[0, 255, 7, 9]);
        std::fs::write(folder.path().join("train-images-idx3-ubyte"), &images).unwrap();
        let packed = File::create(folder.path().join("train-labels-idx1-ubyte.gz")).unwrap();
        let mut packed = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
        packed.write_all(&idx(&[2], &[3, 1])).unwrap();
        packed.finish().unwrap();
        let source = folder.path().to_str().unwrap();
        let set = ImageSet::open(source, Split::Train, &Silent).unwrap();
        assert_eq!(
            (set.shape(), set.len(), set.classes(), set.label(0)),
            ([1, 1, 2], 2, 4, Some(3))
        );
        assert_eq!(set.image(0), [-1.0, 1.0]);
        let message = ImageSet::open(source, Split::Test, &Silent).unwrap_err().to_string();
        assert!(
            message.contains("t10k-images-idx3-ubyte") && message.contains("missing"),
            "{message}"
        );
        for cut in 0..images.len() {
            std::fs::write(folder.path().join("train-images-idx3-ubyte"), &images[..cut]).unwrap();
            assert!(ImageSet::open(source, Split::Train, &Silent).is_err());
        }
    }
}
