//! Host arrays and NumPy's file formats `.npy` and `.npz`.

use std::io::{self, Write};
use std::path::Path;

use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, ZipWriter};

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

/// An array as a `.npy` file has it (float32, C order).
pub fn npy_bytes(array: &Array) -> Vec<u8> {
    let mut bytes = npy_header("<f4", &array.shape);
    bytes.extend(array.data.iter().flat_map(|x| x.to_le_bytes()));
    bytes
}

/// The header of a `.npy` of C order, padded so that numbers begin at a multiple of 64 bytes.
fn npy_header(kind: &str, shape: &[usize]) -> Vec<u8> {
    let sizes: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let sizes = if shape.len() == 1 { sizes.trim_end() } else { sizes.trim_end_matches(", ") };
    let text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({sizes}), }}");
    let padding = 63 - (10 + text.len()) % 64;
    let length = (text.len() + padding + 1) as u16;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.extend(text.bytes().chain(std::iter::repeat_n(b' ', padding)).chain([b'\n']));
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
    atomic::write_with(path, |file| {
        let mut npz = NpzWriter::new(file);
        for (name, array) in arrays {
            npz.begin(name, Kind::F32, &array.shape)?;
            npz.f32(&array.data)?;
        }
        npz.finish()
    })
}

/// Writes named arrays of f64, each of a shape, and texts as a `.npz` file, whole or not at all.
/// NumPy gives a text as bytes, by its name.
///
/// # Errors
/// When the file can't be written.
pub fn write_npz_f64(
    path: &Path,
    arrays: &[(&str, &[usize], &[f64])],
    texts: &[(&str, &str)],
) -> Result<()> {
    atomic::write_with(path, |file| {
        let mut npz = NpzWriter::new(file);
        for (name, shape, values) in arrays {
            npz.begin(name, Kind::F64, shape)?;
            npz.f64(values)?;
        }
        for (name, text) in texts {
            npz.text(name, text)?;
        }
        npz.finish()
    })
}

/// Types of numbers that are written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    F32,
    F64,
    I64,
}

/// A `.npz` being written, array after array, a few rows at a time.
pub(crate) struct NpzWriter<W: Write>(ZipWriter<StreamWriter<W>>);

impl<W: Write> NpzWriter<W> {
    /// Into a writer that can't go back.
    pub fn new(writer: W) -> Self {
        Self(ZipWriter::new_stream(writer))
    }

    /// Begins an array; the numbers follow.
    pub fn begin(&mut self, name: &str, kind: Kind, shape: &[usize]) -> io::Result<()> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(true);
        let kind = match kind {
            Kind::F32 => "<f4",
            Kind::F64 => "<f8",
            Kind::I64 => "<i8",
        };
        self.0.start_file(format!("{name}.npy"), options).map_err(io::Error::other)?;
        self.0.write_all(&npy_header(kind, shape))
    }

    /// Numbers of an array of [`Kind::F32`].
    pub fn f32(&mut self, values: &[f32]) -> io::Result<()> {
        self.0.write_all(&values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// Numbers of an array of [`Kind::F64`].
    pub fn f64(&mut self, values: &[f64]) -> io::Result<()> {
        self.0.write_all(&values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// Numbers of an array of [`Kind::I64`].
    pub fn i64(&mut self, values: &[i64]) -> io::Result<()> {
        self.0.write_all(&values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// A text beside the arrays.
    pub fn text(&mut self, name: &str, text: &str) -> io::Result<()> {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        self.0.start_file(name, options).map_err(io::Error::other)?;
        self.0.write_all(text.as_bytes())
    }

    /// Ends the file.
    pub fn finish(self) -> io::Result<()> {
        self.0.finish().map(|_| ()).map_err(io::Error::other)
    }
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
        // As numpy.save writes it: numpy.lib.format.header_data_from_array_1_0, padded to 64.
        let bytes = std::fs::read(&path).unwrap();
        let header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
        assert_eq!(bytes[10..10 + header.len()], header[..]);
        assert_eq!((bytes.len(), bytes[127], bytes[126]), (128 + 24, b'\n', b' '));
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
