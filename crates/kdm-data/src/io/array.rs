//! Host arrays and NumPy's file formats `.npy` and `.npz`.

use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
use std::path::Path;

use npyz::{DType, NpyFile, TypeChar, WriterBuilder};

use crate::{Error, Result, atomic};

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

/// Reads a `.npy` file of floats or integers; f64 and integers are rounded to f32.
///
/// # Errors
/// When the file is missing, not in NumPy's format, shorter than its header says, or of another
/// kind of number.
pub fn read_npy(path: &Path) -> Result<Array> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    parse_npy(BufReader::new(file), length, path)
}

/// `length`: bytes there are at most, so that a header can't ask for more memory than the file
/// could fill.
fn parse_npy(reader: impl Read, length: u64, path: &Path) -> Result<Array> {
    let bad = |problem: String| {
        Error::invalid(path, "array", problem, "write it again with numpy.save (float32, C order)")
    };
    let npy = NpyFile::new(reader).map_err(|e| bad(format!("not a NumPy array file ({e})")))?;
    let shape: Vec<usize> = npy.shape().iter().map(|n| *n as usize).collect();
    let columns_first = npy.order() == npyz::Order::Fortran && shape.len() > 1;
    let DType::Plain(kind) = npy.dtype() else {
        return Err(bad(format!("of the structured type {:?}", npy.dtype().descr())));
    };
    let (letter, size) = (kind.type_char(), kind.size_field());
    let wanted = shape.iter().try_fold(size, |n, s| n.checked_mul(*s as u64));
    if wanted.is_none_or(|wanted| wanted > length) {
        return Err(bad(format!(
            "cut short: shape {shape:?} needs more than the file's {length} bytes"
        )));
    }
    let cut = |e: std::io::Error| bad(format!("cut short or damaged ({e})"));
    macro_rules! read_as {
        ($t:ty) => {
            npy.into_vec::<$t>().map_err(cut)?.into_iter().map(|x| x as f32).collect()
        };
    }
    let data: Vec<f32> = match (letter, size) {
        (TypeChar::Float, 4) => npy.into_vec::<f32>().map_err(cut)?,
        (TypeChar::Float, 8) => read_as!(f64),
        (TypeChar::Int, 4) => read_as!(i32),
        (TypeChar::Int, 8) => read_as!(i64),
        (TypeChar::Uint, 1) => read_as!(u8),
        (TypeChar::Uint, 4) => read_as!(u32),
        (TypeChar::Uint, 8) => read_as!(u64),
        _ => return Err(bad(format!("of type {kind}; floats and integers can be read"))),
    };
    Ok(Array { data: if columns_first { row_major(&data, &shape) } else { data }, shape })
}

/// Values whose first axis varies fastest, with the last varying fastest.
fn row_major(data: &[f32], shape: &[usize]) -> Vec<f32> {
    let mut index = vec![0usize; shape.len()];
    let mut strides = vec![1usize; shape.len()];
    for axis in 1..shape.len() {
        strides[axis] = strides[axis - 1] * shape[axis - 1];
    }
    let mut out = Vec::with_capacity(data.len());
    for _ in 0..data.len() {
        out.push(data[index.iter().zip(&strides).map(|(i, s)| i * s).sum::<usize>()]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    out
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
    let file = File::open(path).map_err(Error::io("read", path))?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    read_archive(BufReader::new(file), length, path)
}

/// The most that deflate can shrink an entry.
const MAX_RATIO: u64 = 1032;

fn read_archive(
    reader: impl Read + Seek,
    length: u64,
    path: &Path,
) -> Result<Vec<(String, Array)>> {
    let bad = |e: zip::result::ZipError| {
        Error::invalid(
            path,
            "archive",
            format!("not a readable .npz ({e})"),
            "copy or write the file again",
        )
    };
    let mut archive = zip::ZipArchive::new(reader).map_err(bad)?;
    let mut arrays = Vec::new();
    for i in 0..archive.len() {
        let entry = archive.by_index(i).map_err(bad)?;
        let name = entry.name().map_err(bad)?.trim_end_matches(".npy").to_string();
        let size = entry.size().min(length.saturating_mul(MAX_RATIO));
        arrays.push((name, parse_npy(entry, size, path)?));
    }
    Ok(arrays)
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
    fn fortran_order_is_turned() {
        // numpy.asfortranarray(numpy.arange(6).reshape(2, 3)): by columns 0 3 1 4 2 5.
        assert_eq!(
            row_major(&[0.0, 3.0, 1.0, 4.0, 2.0, 5.0], &[2, 3]),
            [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
        );
        let shape = [2, 3, 4];
        let by_columns: Vec<f32> =
            (0..24).map(|k| ((k % 2) * 12 + (k / 2 % 3) * 4 + k / 6) as f32).collect();
        assert_eq!(row_major(&by_columns, &shape), (0..24).map(|i| i as f32).collect::<Vec<_>>());
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
