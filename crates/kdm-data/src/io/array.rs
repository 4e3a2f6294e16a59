//! Host arrays and NumPy's file formats `.npy` and `.npz`.

use std::io::Write;
use std::path::Path;

use npyz::WriterBuilder;

use super::region::Region;
use super::view::{self, Npz};
use crate::{Result, atomic};

/// An array of f32 in row-major order. The first axis counts samples.
///
/// ```
/// use kdm_data::{Array, array};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Three points in the plane.
/// let points = Array::new([3, 2], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
/// assert_eq!((points.rows(), points.row_len()), (3, 2));
/// assert_eq!(points.slice_rows(1..3).data, [2.0, 3.0, 4.0, 5.0]);
///
/// // numpy.load reads the file, and what numpy.save writes is read here.
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("points.npy");
/// array::write_npy(&path, &points)?;
/// assert_eq!(array::read_npy(&path)?, points);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Array {
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// The values, row-major.
    pub data: Vec<f32>,
}

impl Array {
    /// An array of `shape`; `data` must hold exactly its product.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), data.len(), "shape and length disagree");
        Self { shape, data }
    }

    /// Samples: the length of the first axis.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(0)
    }

    /// Values a sample.
    pub fn row_len(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// The samples `range`, as an array of their own.
    pub fn slice_rows(&self, range: std::ops::Range<usize>) -> Self {
        let n = self.row_len();
        let mut shape = self.shape.clone();
        shape[0] = range.len();
        Self { shape, data: self.data[range.start * n..range.end * n].to_vec() }
    }
}

/// Reads a `.npy` file of floats, integers or booleans of any size and order, as f32.
///
/// # Errors
/// When the file is missing, no regular file, not in NumPy's format, shorter than its header says,
/// or of no numbers.
pub fn read_npy(path: &Path) -> Result<Array> {
    view::open_npy(path)?.to_array()
}

/// Writes a `.npy` file (float32, C order), whole or not at all.
///
/// # Errors
/// When the file can't be written.
pub fn write_npy(path: &Path, array: &Array) -> Result<()> {
    atomic::write(path, &npy_bytes(array))
}

fn npy_bytes(array: &Array) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(array.data.len() * 4 + 128);
    let shape: Vec<u64> = array.shape.iter().map(|n| *n as u64).collect();
    let mut writer = npyz::WriteOptions::new()
        .default_dtype()
        .shape(&shape)
        .writer(&mut bytes)
        .begin_nd()
        .expect("writing to memory");
    writer.extend(array.data.iter().copied()).expect("writing to memory");
    writer.finish().expect("writing to memory");
    bytes
}

/// Reads the named arrays of a `.npz` file.
///
/// # Errors
/// As [`read_npy`], and when the archive is damaged.
pub fn read_npz(path: &Path) -> Result<Vec<(String, Array)>> {
    let npz = Npz::open(Region::file(path)?)?;
    npz.names().map(|name| Ok((name.to_string(), npz.view(name)?.to_array()?))).collect()
}

/// Writes named arrays as a `.npz` file (uncompressed, as `numpy.savez` does), whole or not at all.
///
/// # Errors
/// When the file can't be written.
pub fn write_npz(path: &Path, arrays: &[(&str, &Array)]) -> Result<()> {
    let mut buffer = std::io::Cursor::new(Vec::new());
    let mut archive = zip::ZipWriter::new(&mut buffer);
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .large_file(true);
    for (name, array) in arrays {
        archive.start_file(format!("{name}.npy"), options).expect("writing to memory");
        archive.write_all(&npy_bytes(array)).expect("writing to memory");
    }
    archive.finish().expect("writing to memory");
    atomic::write(path, buffer.get_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_go_out_and_in_again() {
        let folder = tempfile::tempdir().unwrap();
        let a = Array::new([2, 3], vec![1.0, -2.5, 3.0, f32::MIN_POSITIVE, 5.0, 6.0]);
        let b = Array::new([0, 2], vec![]);
        let path = folder.path().join("a.npy");
        write_npy(&path, &a).unwrap();
        assert_eq!(read_npy(&path).unwrap(), a);
        let path = folder.path().join("ab.npz");
        write_npz(&path, &[("a", &a), ("b", &b)]).unwrap();
        assert_eq!(read_npz(&path).unwrap(), vec![("a".into(), a), ("b".into(), b)]);
    }

    #[test]
    fn damaged_files_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let whole = npy_bytes(&Array::new([100], vec![1.0; 100]));
        for cut in [0, 3, 20, 127, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let message = read_npy(&path).unwrap_err().to_string();
            assert!(message.contains("a.npy") && message.contains("numpy.save"), "{message}");
        }
        // A header that claims more than any memory holds.
        let header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (9000000000000000,), }\n";
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header);
        std::fs::write(&path, &bytes).unwrap();
        assert!(read_npy(&path).unwrap_err().to_string().contains("cut short"));
        assert!(read_npz(&path).is_err());
    }
}
