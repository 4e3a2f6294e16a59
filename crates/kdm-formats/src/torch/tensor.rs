//! Tensors in a file: a call that tells of a storage, an offset, a shape and strides, and the
//! numbers it means.

use kdm_data::Array;

use super::TorchFile;
use super::archive::{LEGACY_MAGIC, read_stream};
use crate::pickle::{Id, Pickle, PickleError, Value};

/// Functions whose calls are tensors.
pub(super) const TENSORS: [&str; 5] = [
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch._tensor._rebuild_from_type_v2",
];

/// Why a value can't be read as a tensor of floats.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TensorError {
    #[error("is no tensor")]
    NoTensor,
    #[error("is the result of `{0}`")]
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
    /// Buffers of whole numbers, such as counters, are no weights.
    #[error("is of type {0}, which weights are not")]
    NotFloat(String),
    #[error("has an impossible shape")]
    Impossible,
    #[error("of shape {shape:?} reaches outside its storage of {numbers} numbers")]
    Outside { shape: Vec<usize>, numbers: usize },
}

type Outcome<T> = Result<T, TensorError>;

impl TorchFile {
    pub(super) fn try_tensor(&self, id: Id) -> Outcome<Array> {
        let p = &self.pickle;
        let mut id = id;
        // A parameter wraps a tensor; nothing wraps deeper than this.
        for _ in 0..3 {
            let Value::Call(function, arguments) = p.get(id) else {
                return Err(TensorError::NoTensor);
            };
            let arguments = p.tuple(*arguments).unwrap_or(&[]);
            match (function.as_str(), arguments) {
                (
                    "torch._utils._rebuild_parameter"
                    | "torch._utils._rebuild_parameter_with_state",
                    [inner, ..],
                ) => {
                    id = *inner;
                }
                ("torch._tensor._rebuild_from_type_v2", [_, _, inner, ..]) => {
                    return self.view(p.items(*inner).unwrap_or(&[]));
                }
                ("torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor", arguments) => {
                    return self.view(arguments);
                }
                _ => return Err(TensorError::OtherCall(function.clone())),
            }
        }
        Err(TensorError::EmptyParameter)
    }

    /// The tensor that (storage, offset, shape, strides, ...) tell of.
    fn view(&self, arguments: &[Id]) -> Outcome<Array> {
        let p = &self.pickle;
        let [storage, offset, shape, strides, ..] = arguments else {
            return Err(TensorError::Arguments("has no storage and shape"));
        };
        let size = |id: Id| match p.get(id) {
            Value::Int(i) => usize::try_from(*i).ok(),
            _ => None,
        };
        // A torch.Size is a call on the tuple.
        let items = |id: Id| match p.get(id) {
            Value::Call(name, arguments) if name == "torch.Size" => {
                p.items(*p.tuple(*arguments)?.first()?)
            }
            _ => p.items(id),
        };
        let sizes =
            |id: Id| -> Option<Vec<usize>> { items(id)?.iter().map(|i| size(*i)).collect() };
        let (Some(offset), Some(shape), Some(strides)) =
            (size(*offset), sizes(*shape), sizes(*strides))
        else {
            return Err(TensorError::Arguments("has no shape"));
        };
        let count = shape.iter().try_fold(1usize, |n, s| n.checked_mul(*s)).unwrap_or(usize::MAX);
        match self.budget.get().checked_sub(count) {
            Some(rest) => self.budget.set(rest),
            None => return Err(TensorError::OverBudget { shape }),
        }
        match p.get(*storage) {
            Value::Call(function, arguments) if function == "torch.storage._load_from_bytes" => {
                let id = p.tuple(*arguments).and_then(|a| a.first()).copied();
                let id = id.ok_or(TensorError::Arguments("has no storage"))?;
                let stream = p.bytes(id);
                let stream =
                    stream.ok_or(TensorError::Arguments("has a storage that is no bytes"))?;
                if !stream.starts_with(LEGACY_MAGIC) {
                    return Err(PickleError::Damaged(0, "no stream of torch.save").into());
                }
                let (inner, storages) = read_stream(&stream)?;
                let (class, key) = storage_of(&inner, inner.get(inner.root))?;
                let range = storages.get(key).cloned();
                let range = range.ok_or(TensorError::Arguments("has a storage without data"))?;
                strided(&Numbers { class, bytes: &stream[range] }, offset, &shape, &strides)
            }
            _ => {
                let (class, key) = storage_of(p, p.get(*storage))?;
                let range = self.storages.get(key).cloned();
                let range = range.ok_or_else(|| TensorError::NoStorage(key.to_string()))?;
                strided(&Numbers { class, bytes: &self.bytes[range] }, offset, &shape, &strides)
            }
        }
    }
}

/// Class and key of ("storage", class, key, device, count, ...).
pub(super) fn storage_of<'a>(p: &'a Pickle, value: &Value) -> Outcome<(&'a str, &'a str)> {
    let none = TensorError::Arguments("has no storage");
    let Value::Persistent(id) = value else { return Err(none) };
    let Some([_, class, key, ..]) = p.tuple(*id) else { return Err(none) };
    match (p.get(*class), p.text(*key)) {
        (Value::Global(class), Some(key)) => Ok((class, key)),
        _ => Err(TensorError::Arguments("has a storage without a type")),
    }
}

/// Bytes a number of a storage class.
pub(super) fn width(class: &str) -> Option<usize> {
    match class.strip_prefix("torch.")?.strip_suffix("Storage")? {
        "Byte" | "Char" | "Bool" => Some(1),
        "Half" | "BFloat16" | "Short" => Some(2),
        "Float" | "Int" => Some(4),
        "Double" | "Long" | "ComplexFloat" => Some(8),
        "ComplexDouble" => Some(16),
        _ => None,
    }
}

type Decoder = (usize, fn(&[u8]) -> f32);

/// A storage's numbers.
struct Numbers<'a> {
    class: &'a str,
    bytes: &'a [u8],
}

impl Numbers<'_> {
    /// Bytes a number, and how they are read.
    fn decoder(&self) -> Outcome<Decoder> {
        fn fixed<const W: usize>(bytes: &[u8]) -> [u8; W] {
            bytes.try_into().expect("as many as the width")
        }
        match self.class {
            "torch.FloatStorage" => Ok((4, |b| f32::from_le_bytes(fixed(b)))),
            "torch.DoubleStorage" => Ok((8, |b| f64::from_le_bytes(fixed(b)) as f32)),
            "torch.HalfStorage" => Ok((2, |b| half::f16::from_le_bytes(fixed(b)).to_f32())),
            "torch.BFloat16Storage" => Ok((2, |b| half::bf16::from_le_bytes(fixed(b)).to_f32())),
            other => Err(TensorError::NotFloat(other.to_string())),
        }
    }
}

/// The elements of a strided view, row-major.
fn strided(numbers: &Numbers, offset: usize, shape: &[usize], strides: &[usize]) -> Outcome<Array> {
    let (width, decode) = numbers.decoder()?;
    let there = numbers.bytes.len() / width;
    let count = shape.iter().try_fold(1usize, |n, s| n.checked_mul(*s));
    let last = shape.iter().zip(strides).try_fold(offset, |at, (size, stride)| {
        at.checked_add(size.saturating_sub(1).checked_mul(*stride)?)
    });
    let (Some(count), Some(last)) = (count, last) else {
        return Err(TensorError::Impossible);
    };
    if shape.len() != strides.len() || count > there || (count > 0 && last >= there) {
        return Err(TensorError::Outside { shape: shape.to_vec(), numbers: there });
    }
    let mut data = Vec::with_capacity(count);
    let mut index = vec![0usize; shape.len()];
    for _ in 0..count {
        let at = offset + index.iter().zip(strides).map(|(i, s)| i * s).sum::<usize>();
        data.push(decode(&numbers.bytes[at * width..(at + 1) * width]));
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
        let numbers = Numbers { class: "torch.FloatStorage", bytes: &bytes };
        let transposed = strided(&numbers, 0, &[3, 2], &[1, 3]).unwrap();
        assert_eq!(transposed.data, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert!(strided(&numbers, 1, &[3, 2], &[1, 3]).is_err());
        assert!(strided(&numbers, 0, &[usize::MAX, 2], &[1, 1]).is_err());
        assert!(strided(&numbers, 0, &[7], &[0]).is_err());
        assert!(
            strided(&Numbers { class: "torch.LongStorage", bytes: &bytes }, 0, &[1], &[1]).is_err()
        );
    }
}
