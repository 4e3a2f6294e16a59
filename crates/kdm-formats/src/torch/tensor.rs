//! Tensors in a file: a call that tells of a storage, an offset, a shape and strides, and the
//! numbers it means.

use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;

use kdm_data::Array;

use super::TorchFile;
use super::archive::{LEGACY_MAGIC, Storage, read_stream};
use super::rebuild::{Rebuilt, rebuilt, storage_of};
use crate::numbers::Number;
use crate::pickle::{Id, NdArray, PickleError, Value};

/// Why a value can't be read as a tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TensorError {
    #[error("is no tensor")]
    NoTensor,
    #[error("is what `{0}` would make, which is unknown here; nothing was run")]
    OtherCall(String),
    #[error("is a parameter without a tensor")]
    EmptyParameter,
    #[error("{0}")]
    Arguments(&'static str),
    #[error("of shape {shape:?} is larger than what is left of the file could hold")]
    OverBudget { shape: Vec<usize> },
    #[error("has a storage that is unreadable: {0}")]
    Stream(#[from] PickleError),
    #[error("storage {0} is missing from the file")]
    NoStorage(String),
    #[error("is of type {0}, which is not read")]
    Type(String),
    #[error("has an impossible shape")]
    Impossible,
    #[error("of shape {shape:?} reaches outside its storage of {numbers} numbers")]
    Outside { shape: Vec<usize>, numbers: usize },
}

type Outcome<T> = Result<T, TensorError>;

/// Shape and type of a tensor, which cost nothing to find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// Whether its numbers are floats, as weights are; others are whole numbers or flags.
    pub float: bool,
}

/// A storage that stands within the pickle as a stream of its own.
#[derive(Debug)]
pub(super) struct Embedded {
    class: String,
    /// The value that the stream is in the pickle.
    id: Id,
    /// Where its numbers are in the stream.
    range: Range<usize>,
    /// The stream, where it isn't a plain value of the pickle.
    stream: Option<Vec<u8>>,
}

impl TorchFile {
    /// Shape and type of the tensor, parameter or NumPy array that the value is.
    pub(crate) fn try_inspect(&self, id: Id) -> Outcome<TensorInfo> {
        if let Some(array) = self.pickle.ndarray(id) {
            let number = numpy_type(&array)?;
            return Ok(TensorInfo { shape: array.shape, float: number.is_float() });
        }
        let view = rebuilt(&self.pickle, id)?;
        let float = self.number_of(&view)?.is_float();
        Ok(TensorInfo { shape: view.shape, float })
    }

    pub(crate) fn try_tensor(&self, id: Id) -> Outcome<Array> {
        if let Some(array) = self.pickle.ndarray(id) {
            return self.numpy(&array);
        }
        let view = rebuilt(&self.pickle, id)?;
        self.pay(&view.shape)?;
        let number = self.number_of(&view)?;
        self.decoded(number, &view)
    }

    /// What the numbers of this shape cost of what the file may cost in all.
    fn pay(&self, shape: &[usize]) -> Outcome<()> {
        let count = shape.iter().try_fold(1usize, |n, s| n.checked_mul(*s)).unwrap_or(usize::MAX);
        match self.budget.get().checked_sub(count) {
            Some(rest) => {
                self.budget.set(rest);
                Ok(())
            }
            None => Err(TensorError::OverBudget { shape: shape.to_vec() }),
        }
    }

    fn numpy(&self, array: &NdArray) -> Outcome<Array> {
        self.pay(&array.shape)?;
        let mut strides = vec![1; array.shape.len()];
        let order: Vec<usize> = match array.fortran {
            true => (0..array.shape.len()).collect(),
            false => (0..array.shape.len()).rev().collect(),
        };
        for two in order.windows(2) {
            strides[two[1]] = usize::saturating_mul(strides[two[0]], array.shape[two[0]]);
        }
        let number = numpy_type(array)?;
        let most = array.shape.iter().fold(number.width(), |n, s| n.saturating_mul(*s));
        let bytes = self.pickle.bytes_of_most(array.data, most.min(usize::MAX / 2));
        let bytes =
            bytes.ok_or(TensorError::Arguments("has other numbers than its shape takes"))?;
        strided(number, &bytes, 0, &array.shape, &strides)
    }

    fn number_of(&self, view: &Rebuilt) -> Outcome<Number> {
        let p = &self.pickle;
        let name = match view.dtype {
            Some(id) => p.name(id).unwrap_or("no type").to_string(),
            None => match self.embedded(view.storage)? {
                Some(embedded) => embedded.class.clone(),
                None => storage_of(p, p.get(view.storage))?.0.to_string(),
            },
        };
        Number::of_torch(&name).ok_or(TensorError::Type(name))
    }

    /// The tensor that a view of a storage is.
    fn decoded(&self, number: Number, view: &Rebuilt) -> Outcome<Array> {
        let p = &self.pickle;
        let read = |bytes: &[u8]| strided(number, bytes, view.offset, &view.shape, &view.strides);
        if let Some(embedded) = self.embedded(view.storage)? {
            let range = embedded.range.clone();
            let stream = embedded.stream.as_deref().or_else(|| p.raw_bytes(embedded.id));
            return read(&stream.ok_or(TensorError::Arguments("has no storage"))?[range]);
        }
        let (_, key) = storage_of(p, p.get(view.storage))?;
        match self.storages.get(key) {
            Some(Storage::Stored(range)) => read(&self.bytes[range.clone()]),
            Some(Storage::Inflated(bytes)) => read(bytes),
            None => Err(TensorError::NoStorage(key.to_string())),
        }
    }

    /// A storage that stands in the pickle as a stream; read once, however many tensors share it.
    fn embedded(&self, storage: Id) -> Outcome<Option<Rc<Embedded>>> {
        let p = &self.pickle;
        let Value::Call(function, arguments) = p.get(storage) else { return Ok(None) };
        if &**function != "torch.storage._load_from_bytes" {
            return Err(TensorError::OtherCall(function.to_string()));
        }
        let id = p.tuple(*arguments).and_then(|a| a.first()).copied();
        let id = id.ok_or(TensorError::Arguments("has no storage"))?;
        if let Some(known) = self.embedded.borrow().get(&id) {
            return known.clone().map(Some);
        }
        let read = self.read_embedded(id).map(Rc::new);
        self.embedded.borrow_mut().insert(id, read.clone());
        read.map(Some)
    }

    fn read_embedded(&self, id: Id) -> Outcome<Embedded> {
        let none = TensorError::Arguments("has a storage that is no bytes");
        let stream = self.pickle.bytes(id).ok_or(none)?;
        if !stream.starts_with(LEGACY_MAGIC) {
            return Err(PickleError::Damaged(0, "no stream of torch.save").into());
        }
        let (inner, storages) = read_stream(&stream)?;
        let (class, key) = storage_of(&inner, inner.get(inner.root))?;
        let range = storages.get(key).cloned();
        let range = range.ok_or(TensorError::Arguments("has a storage without data"))?;
        let class = class.to_string();
        let stream = match stream {
            Cow::Borrowed(_) => None,
            Cow::Owned(stream) => Some(stream),
        };
        Ok(Embedded { class, id, range, stream })
    }
}

fn numpy_type(array: &NdArray) -> Outcome<Number> {
    Number::of_numpy(&array.descr)
        .ok_or_else(|| TensorError::Type(format!("{} of NumPy", array.descr)))
}

/// The elements of a strided view, row-major.
fn strided(
    number: Number,
    bytes: &[u8],
    offset: usize,
    shape: &[usize],
    strides: &[usize],
) -> Outcome<Array> {
    let width = number.width();
    let there = bytes.len() / width;
    let count = shape.iter().try_fold(1usize, |n, s| n.checked_mul(*s));
    let last = shape.iter().zip(strides).try_fold(offset, |at, (size, stride)| {
        at.checked_add(size.saturating_sub(1).checked_mul(*stride)?)
    });
    let (Some(count), Some(last)) = (count, last) else {
        return Err(TensorError::Impossible);
    };
    if shape.len() != strides.len() || (count > 0 && last >= there) {
        return Err(TensorError::Outside { shape: shape.to_vec(), numbers: there });
    }
    let mut next = 1;
    let contiguous = shape.iter().zip(strides).rev().all(|(size, stride)| {
        let fits = *size == 1 || *stride == next;
        next = next.saturating_mul(*size);
        fits
    });
    if count == 0 || contiguous {
        let part = if count == 0 { &[] } else { &bytes[offset * width..(offset + count) * width] };
        return Ok(Array::new(shape, number.decode_all(part)));
    }
    let mut data = Vec::with_capacity(count);
    let mut index = vec![0usize; shape.len()];
    for _ in 0..count {
        let at = offset + index.iter().zip(strides).map(|(i, s)| i * s).sum::<usize>();
        data.push(number.decode(&bytes[at * width..(at + 1) * width]));
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Ok(Array::new(shape, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_views_are_read_and_bounded() {
        let bytes: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let view = |offset, shape: &[usize], strides: &[usize]| {
            strided(Number::F32, &bytes, offset, shape, strides)
        };
        assert_eq!(view(0, &[3, 2], &[1, 3]).unwrap().data, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(view(1, &[2, 2], &[2, 1]).unwrap().data, [1.0, 2.0, 3.0, 4.0]);
        // One number again and again, as `expand` makes it.
        assert_eq!(view(5, &[7], &[0]).unwrap().data, [5.0; 7]);
        assert!(view(6, &[7], &[0]).is_err());
        assert!(view(1, &[3, 2], &[1, 3]).is_err());
        assert!(view(0, &[usize::MAX, 2], &[1, 1]).is_err());
        assert_eq!(view(9, &[0, 4], &[4, 1]).unwrap().shape, [0, 4]);
    }
}
