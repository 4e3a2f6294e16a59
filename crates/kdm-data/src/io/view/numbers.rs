//! Numbers in a file, row by row: any numeric type, either byte order, C, Fortran or strided order,
//! read when they are asked for.

use std::ops::Range;

use super::super::region::Region;
use crate::{Array, Result};

/// A type of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// A byte that is 0 or 1.
    Bool,
    /// Unsigned integers of so many bytes.
    Uint(u8),
    /// Signed integers of so many bytes.
    Int(u8),
    /// Floats of 2, 4 or 8 bytes.
    Float(u8),
    /// Brain floats of 2 bytes.
    Brain,
}

impl Number {
    /// Bytes a number.
    pub fn width(self) -> usize {
        match self {
            Self::Bool => 1,
            Self::Brain => 2,
            Self::Uint(width) | Self::Int(width) | Self::Float(width) => width as usize,
        }
    }

    /// Whether all its values are whole.
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Bool | Self::Uint(_) | Self::Int(_))
    }

    /// The value of a number's bytes, least first.
    fn value(self, little: [u8; 8]) -> f64 {
        let [a, b, c, d, ..] = little;
        let half = [a, b];
        let unsigned = u64::from_le_bytes(little);
        match self {
            Self::Bool => f64::from(u8::from(a != 0)),
            Self::Uint(_) => unsigned as f64,
            Self::Int(width) => {
                let unused = 64 - 8 * u32::from(width);
                (((unsigned << unused) as i64) >> unused) as f64
            }
            Self::Float(2) => half::f16::from_le_bytes(half).to_f64(),
            Self::Float(4) => f32::from_le_bytes([a, b, c, d]).into(),
            Self::Float(_) => f64::from_bits(unsigned),
            Self::Brain => half::bf16::from_le_bytes(half).to_f64(),
        }
    }
}

/// An array in a file. The first axis counts rows.
#[derive(Clone, Debug)]
pub struct View {
    region: Region,
    number: Number,
    big_endian: bool,
    /// The first element's place, in bytes.
    start: u64,
    shape: Vec<usize>,
    /// Steps from one element to the next along each axis, in elements.
    strides: Vec<usize>,
}

/// How numbers lie in a region.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Their type.
    pub number: Number,
    /// Whether a number's first byte is its largest.
    pub big_endian: bool,
    /// The first element's place, in bytes.
    pub start: u64,
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// Steps along each axis, in elements.
    pub strides: Vec<usize>,
}

pub(super) const ACTION: &str = "write it again with numpy.save (float32, C order)";
/// Values that a row may have: more is no image.
const MOST_IN_ROW: usize = 1 << 28;

impl View {
    /// Numbers that lie in `region` as `layout` says.
    ///
    /// # Errors
    /// When the region is too short for them, or a row has more values than any image.
    pub fn new(region: Region, layout: Layout) -> Result<Self> {
        let Layout { number, big_endian, start, shape, strides } = layout;
        let there = region.len().saturating_sub(start) / number.width() as u64;
        let count = shape.iter().try_fold(1usize, |n, s| n.checked_mul(*s));
        let last = shape.iter().zip(&strides).try_fold(0usize, |at, (size, stride)| {
            at.checked_add(size.saturating_sub(1).checked_mul(*stride)?)
        });
        let (Some(count), Some(last)) = (count, last) else {
            return Err(region.invalid(format!("has the impossible shape {shape:?}"), ACTION));
        };
        if shape.len() != strides.len() || count > 0 && last as u64 >= there {
            let problem = format!("cut short: shape {shape:?} needs more than its {there} numbers");
            return Err(region.invalid(problem, ACTION));
        }
        let row = shape.iter().skip(1).try_fold(1usize, |n, s| n.checked_mul(*s));
        let Some(row) = row else {
            return Err(region.invalid(format!("has the impossible shape {shape:?}"), ACTION));
        };
        // Views that name an element again and again, such as of a label for all.
        let spread = count as u64 > there && count > 1 << 20;
        if row > MOST_IN_ROW || spread {
            let problem = format!("has shape {shape:?}, more than its {there} numbers tell");
            return Err(region.invalid(problem, "give one row a sample"));
        }
        let view = Self { region, number, big_endian, start, shape, strides };
        if view.is_row_major() || view.region.seeks() {
            return Ok(view);
        }
        Ok(Self { region: view.region.in_memory()?, ..view })
    }

    /// Where it lies, and what messages call it.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The type of its numbers.
    pub fn number(&self) -> Number {
        self.number
    }

    /// Rows: the length of the first axis, 1 for a single number.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Values a row.
    pub fn row_len(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    fn is_row_major(&self) -> bool {
        let strides = row_major(&self.shape);
        let mut axes = self.strides.iter().zip(&strides).zip(&self.shape);
        axes.all(|((found, wanted), size)| found == wanted || *size < 2)
    }

    /// The array `at` of its first axis.
    ///
    /// # Errors
    /// When there is none, or it has rows that are too large.
    pub fn at(&self, at: usize) -> Result<Self> {
        let (Some((size, shape)), Some((stride, strides))) =
            (self.shape.split_first(), self.strides.split_first())
        else {
            return Err(self.region.invalid("is a single number", ACTION));
        };
        if at >= *size {
            return Err(self.region.invalid(format!("has {size} parts and no part {at}"), ACTION));
        }
        let start = self.start + (at * stride * self.number.width()) as u64;
        let (shape, strides) = (shape.to_vec(), strides.to_vec());
        Self::new(
            self.region.clone(),
            Layout { number: self.number, big_endian: self.big_endian, start, shape, strides },
        )
    }

    /// The same numbers as one row.
    pub fn as_row(&self) -> Self {
        let mut view = self.clone();
        view.shape.insert(0, 1);
        view.strides.insert(0, 0);
        view
    }

    /// The values of some rows as f32, row-major; larger ones become infinite.
    ///
    /// # Errors
    /// When the file can't be read or is damaged.
    pub fn rows_f32(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        self.read(rows, |x| x as f32)
    }

    /// The values of some rows, row-major.
    ///
    /// # Errors
    /// As [`Self::rows_f32`].
    pub fn rows_f64(&self, rows: Range<usize>) -> Result<Vec<f64>> {
        self.read(rows, |x| x)
    }

    /// All of it.
    ///
    /// # Errors
    /// As [`Self::rows_f32`].
    pub fn to_array(&self) -> Result<Array> {
        Ok(Array::new(self.shape.clone(), self.rows_f32(0..self.rows())?))
    }

    /// The values of all numbers, row-major.
    ///
    /// # Errors
    /// As [`Self::rows_f32`].
    pub fn to_f64(&self) -> Result<Vec<f64>> {
        self.rows_f64(0..self.rows())
    }

    fn decode(&self, bytes: &[u8]) -> f64 {
        let mut little = [0u8; 8];
        little[..bytes.len()].copy_from_slice(bytes);
        if self.big_endian {
            little[..bytes.len()].reverse();
        }
        self.number.value(little)
    }

    fn read<T: Copy + Default>(&self, rows: Range<usize>, of: fn(f64) -> T) -> Result<Vec<T>> {
        let (width, len) = (self.number.width(), self.row_len());
        let count = rows.len() * len;
        if count == 0 {
            return Ok(Vec::new());
        }
        if self.is_row_major() {
            let mut bytes = vec![0; count * width];
            self.region.read_at(self.start + (rows.start * len * width) as u64, &mut bytes)?;
            return Ok(bytes.chunks_exact(width).map(|b| of(self.decode(b))).collect());
        }
        // The rows' elements, by the place of each within its row.
        let inner = places(&self.shape[1..], &self.strides[1..]);
        let span = inner.iter().max().map_or(0, |most| most + 1);
        let step = self.strides[0];
        let mut values = vec![T::default(); count];
        if span <= 4 * len {
            for (row, out) in rows.zip(values.chunks_exact_mut(len)) {
                let bytes = self.stretch(row * step, span)?;
                for (value, at) in out.iter_mut().zip(&inner) {
                    *value = of(self.decode(&bytes[at * width..(at + 1) * width]));
                }
            }
            return Ok(values);
        }
        // In Fortran's order an element of all rows lies together.
        let span = (rows.len() - 1) * step + 1;
        for (i, place) in inner.iter().enumerate() {
            let bytes = self.stretch(rows.start * step + place, span)?;
            for row in 0..rows.len() {
                let at = row * step * width;
                values[row * len + i] = of(self.decode(&bytes[at..at + width]));
            }
        }
        Ok(values)
    }

    /// The bytes of `count` numbers from the element `first` on.
    fn stretch(&self, first: usize, count: usize) -> Result<Vec<u8>> {
        let width = self.number.width();
        let mut bytes = vec![0; count * width];
        self.region.read_at(self.start + (first * width) as u64, &mut bytes)?;
        Ok(bytes)
    }
}

/// Steps along the axes of an array whose last axis varies fastest.
pub fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// Where the elements of an array lie, in row-major order.
fn places(shape: &[usize], strides: &[usize]) -> Vec<usize> {
    let mut places = vec![0];
    for (size, stride) in shape.iter().zip(strides) {
        let along = |at: usize| (0..*size).map(move |i| at + i * stride);
        places = places.into_iter().flat_map(along).collect();
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A view of the file's bytes.
    fn view(
        bytes: &[u8],
        number: Number,
        big_endian: bool,
        shape: &[usize],
        strides: &[usize],
    ) -> Result<View> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers");
        std::fs::write(&path, bytes).unwrap();
        let (shape, strides) = (shape.to_vec(), strides.to_vec());
        let region = Region::file(&path).unwrap();
        View::new(region, Layout { number, big_endian, start: 0, shape, strides })
    }

    #[test]
    fn every_type_of_number_is_read() {
        let read = |number, big, bytes: &[u8]| {
            view(bytes, number, big, &[1], &[1]).unwrap().to_f64().unwrap()[0]
        };
        assert_eq!(read(Number::Int(1), false, &[0xfe]), -2.0);
        assert_eq!(read(Number::Uint(1), false, &[0xfe]), 254.0);
        assert_eq!(read(Number::Bool, false, &[1]), 1.0);
        for big in [false, true] {
            let order = |mut bytes: Vec<u8>| {
                if big {
                    bytes.reverse();
                }
                bytes
            };
            assert_eq!(read(Number::Int(2), big, &order((-300i16).to_le_bytes().to_vec())), -300.0);
            assert_eq!(read(Number::Int(4), big, &order((-7i32).to_le_bytes().to_vec())), -7.0);
            assert_eq!(read(Number::Int(8), big, &order((-9i64).to_le_bytes().to_vec())), -9.0);
            assert_eq!(read(Number::Uint(2), big, &order(300u16.to_le_bytes().to_vec())), 300.0);
            assert_eq!(read(Number::Uint(8), big, &order(9u64.to_le_bytes().to_vec())), 9.0);
            assert_eq!(read(Number::Float(4), big, &order(0.5f32.to_le_bytes().to_vec())), 0.5);
            assert_eq!(read(Number::Float(8), big, &order(0.1f64.to_le_bytes().to_vec())), 0.1);
            // 1.5 in half precision and as a brain float.
            assert_eq!(read(Number::Float(2), big, &order(vec![0x00, 0x3e])), 1.5);
            assert_eq!(read(Number::Brain, big, &order(vec![0xc0, 0x3f])), 1.5);
        }
    }

    /// Rows come row-major whatever the order in the file: every element of a few rows is where the
    /// strides say.
    #[test]
    fn rows_are_the_same_in_every_order() {
        let bytes: Vec<u8> = (0..120u8).collect();
        let orders: [([usize; 4], &str); 4] = [
            ([24, 8, 4, 1], "C"),
            ([1, 5, 15, 30], "Fortran"),
            ([24, 1, 12, 3], "channels last"),
            ([24, 0, 4, 1], "expanded"),
        ];
        for (strides, name) in orders {
            let shape = [5, 3, 2, 4];
            let view = view(&bytes, Number::Uint(1), false, &shape, &strides).unwrap();
            for range in [0..5, 1..3, 4..5, 2..2] {
                let found = view.rows_f32(range.clone()).unwrap();
                let mut wanted = Vec::new();
                for i in range {
                    for (c, y, x) in (0..24).map(|k| (k / 8, k / 4 % 2, k % 4)) {
                        let at = i * strides[0] + c * strides[1] + y * strides[2] + x * strides[3];
                        wanted.push(at as f32);
                    }
                }
                assert_eq!(found, wanted, "{name}");
            }
            assert_eq!(view.at(2).unwrap().to_array().unwrap().shape, [3, 2, 4]);
            let row = view.at(2).unwrap().as_row();
            assert_eq!(row.rows_f32(0..1).unwrap(), view.rows_f32(2..3).unwrap());
            assert!(view.at(5).is_err());
        }
    }

    #[test]
    fn views_beyond_the_file_are_refused() {
        let bytes = [0u8; 24];
        for (shape, strides) in [
            (&[25][..], &[1][..]),
            (&[2], &[24]),
            (&[usize::MAX, 2], &[1, 1]),
            (&[2, 2], &[usize::MAX, 1]),
            (&[1 << 40], &[0]),
            (&[1, 1 << 30], &[0, 0]),
            (&[2, 2], &[1]),
        ] {
            assert!(view(&bytes, Number::Uint(1), false, shape, strides).is_err(), "{shape:?}");
        }
        // An expanded label is no fault.
        assert_eq!(view(&bytes, Number::Uint(1), false, &[30], &[0]).unwrap().rows(), 30);
    }
}
