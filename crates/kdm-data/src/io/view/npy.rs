//! NumPy's files as views: `.npy`, and the arrays of a `.npz` by name.

use std::path::Path;

use npyz::{DType, Endianness, NpyHeader, Order, TypeChar};

use super::super::region::{Entry, Region};
use super::numbers::{ACTION, Layout, Number, View, row_major};
use crate::{Error, Result};

/// Bytes of a header; NumPy's own limit is 10 000.
const MOST_HEADER: usize = 1 << 16;
/// The product of all numbers in a header: the sizes of the axes, and a type's width.
const MOST_NUMBERS: u64 = 1 << 62;
/// Brackets in each other: a dictionary, a shape, and what structured types have.
const MOST_NESTED: usize = 6;

impl View {
    /// The array of a `.npy` file, which the region is.
    ///
    /// # Errors
    /// When it is not in NumPy's format, shorter than its header says, or of no numbers.
    pub fn npy(region: Region) -> Result<Self> {
        let bad = |problem: String| region.invalid(problem, ACTION);
        if region.is_empty() {
            return Err(bad("is empty, where a NumPy array file should be".into()));
        }
        let (header, start) = header(&region)?;
        let header = NpyHeader::from_reader(&header[..])
            .map_err(|e| bad(format!("not a NumPy array file ({e})")))?;
        let kind = match header.dtype() {
            DType::Plain(kind) => kind,
            other => return Err(bad(format!("of the structured type {}", other.descr()))),
        };
        let size = u8::try_from(kind.size_field()).unwrap_or(0);
        let number = match (kind.type_char(), size) {
            (TypeChar::Bool, 1) => Number::Bool,
            (TypeChar::Int, 1 | 2 | 4 | 8) => Number::Int(size),
            (TypeChar::Uint, 1 | 2 | 4 | 8) => Number::Uint(size),
            (TypeChar::Float, 2 | 4 | 8) => Number::Float(size),
            (TypeChar::Object, _) => {
                let action = "stack the arrays with numpy.stack and save that";
                return Err(region.invalid("holds Python objects, which are not read", action));
            }
            _ => return Err(bad(format!("of type {kind}; floats and integers can be read"))),
        };
        let sizes = header.shape().iter().map(|n| usize::try_from(*n));
        let Ok(shape) = sizes.collect::<std::result::Result<Vec<usize>, _>>() else {
            return Err(bad("has an impossible shape".into()));
        };
        let strides = match header.order() {
            Order::C => row_major(&shape),
            Order::Fortran => {
                let mut strides = row_major(&shape.iter().rev().copied().collect::<Vec<_>>());
                strides.reverse();
                strides
            }
        };
        let big_endian = kind.endianness() == Endianness::Big;
        Self::new(region, Layout { number, big_endian, start, shape, strides })
    }
}

/// A `.npy` header's bytes, checked before they are parsed, and where the numbers begin. Parsing
/// takes time that doubles with every bracket in another, so these are counted first.
fn header(region: &Region) -> Result<(Vec<u8>, u64)> {
    let bad = |problem: &str| region.invalid(problem, ACTION);
    let mut bytes = vec![0; 10.min(region.len() as usize)];
    region.read_at(0, &mut bytes)?;
    if bytes.len() < 10 || !bytes.starts_with(b"\x93NUMPY") {
        return Err(bad("not a NumPy array file"));
    }
    let mut length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    if bytes[6] > 1 {
        let mut high = [0; 2];
        region.read_at(10, &mut high)?;
        length |= usize::from(u16::from_le_bytes(high)) << 16;
        bytes.extend(high);
    }
    if length > MOST_HEADER {
        return Err(bad("not a NumPy array file (its header is too long)"));
    }
    let (before, mut depth, mut deepest) = (bytes.len(), 0usize, 0);
    bytes.resize(before + length, 0);
    if (before + length) as u64 > region.len() {
        return Err(bad("cut short within its header"));
    }
    region.read_at(before as u64, &mut bytes[before..])?;
    for byte in &bytes[before..] {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    // The parser multiplies sizes without looking. A type's number is among these, and small.
    let text = String::from_utf8_lossy(&bytes[before..]);
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let product = numbers.map(|digits| digits.parse().unwrap_or(u64::MAX).max(1));
    if product.fold(1u64, u64::saturating_mul) > MOST_NUMBERS {
        return Err(bad("has an impossible shape"));
    }
    if deepest > MOST_NESTED {
        return Err(bad("not a NumPy array file (its header is nested too deep)"));
    }
    let end = bytes.len() as u64;
    Ok((bytes, end))
}

/// The array of the `.npy` file at `path`.
///
/// # Errors
/// When the file is missing, is no regular file, or as [`View::npy`].
pub fn open_npy(path: &Path) -> Result<View> {
    View::npy(Region::file(path)?)
}

/// The arrays of an `.npz` file (or of an archive within another), by name; none is read yet.
#[derive(Clone, Debug)]
pub struct Npz {
    region: Region,
    entries: Vec<Entry>,
}

impl Npz {
    /// Opens the archive.
    ///
    /// # Errors
    /// When it is no readable archive.
    pub fn open(region: Region) -> Result<Self> {
        let entries = region.entries()?;
        Ok(Self { region, entries })
    }

    /// The arrays' names, in the archive's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter_map(|entry| entry.name.strip_suffix(".npy"))
    }

    /// Whether there is such an array.
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|found| found == name)
    }

    /// A text beside the arrays, by its whole name; none where there is none.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn text(&self, name: &str) -> Result<Option<String>> {
        let Some(entry) = self.entries.iter().find(|entry| entry.name == name) else {
            return Ok(None);
        };
        let bytes = self.region.entry(entry)?.to_vec()?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The array of this name.
    ///
    /// # Errors
    /// When there is none, or as [`View::npy`].
    pub fn view(&self, name: &str) -> Result<View> {
        let named = |entry: &&Entry| entry.name.strip_suffix(".npy") == Some(name);
        let Some(entry) = self.entries.iter().find(named) else {
            let names: Vec<&str> = self.names().collect();
            let problem = format!("has no such array; it has {names:?}");
            return Err(Error::invalid(self.region.path(), name, problem, "name one of these"));
        };
        View::npy(self.region.entry(entry)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers that a parser would take hours or its whole stack for.
    #[test]
    fn nested_headers_end_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nested.npy");
        for depth in [24, 7000, 30000] {
            let header = format!(
                "{{'descr': '<f4', 'fortran_order': False, 'shape': {}{}, }}\n",
                "(".repeat(depth),
                ")".repeat(depth)
            );
            let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
            bytes.extend((header.len() as u16).to_le_bytes());
            bytes.extend(header.bytes());
            std::fs::write(&path, &bytes).unwrap();
            let message = open_npy(&path).unwrap_err().to_string();
            assert!(message.contains("nested too deep"), "{message}");
        }
        std::fs::write(&path, b"").unwrap();
        assert!(open_npy(&path).unwrap_err().to_string().contains("is empty"));
    }
}
