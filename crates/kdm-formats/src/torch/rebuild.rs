//! The calls by which PyTorch makes tensors, read as what they say: a storage, an offset, a shape
//! and strides.

use super::TensorError;
use crate::pickle::{Id, Pickle, Value};

/// Axes that a tensor may have, as in PyTorch.
const MOST_AXES: usize = 64;

/// Where a tensor's numbers are, and in which order.
pub(crate) struct Rebuilt {
    /// The value that is its storage.
    pub storage: Id,
    /// Numbers before its first.
    pub offset: usize,
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// Numbers from one to the next along each axis.
    pub strides: Vec<usize>,
    /// The type, where the tensor and not its storage tells it.
    pub dtype: Option<Id>,
}

/// Whether calls of this function are tensors.
pub(crate) fn makes_tensors(function: &str) -> bool {
    matches!(
        function.strip_prefix("torch._utils.").or_else(|| function.strip_prefix("torch._tensor.")),
        Some(
            "_rebuild_tensor"
                | "_rebuild_tensor_v2"
                | "_rebuild_tensor_v3"
                | "_rebuild_parameter"
                | "_rebuild_parameter_with_state"
                | "_rebuild_from_type_v2"
                | "_rebuild_device_tensor_from_cpu_tensor"
        )
    )
}

/// Whether the value is a tensor or parameter.
pub(crate) fn is_tensor(p: &Pickle, id: Id) -> bool {
    matches!(p.get(id), Value::Call(function, _) if makes_tensors(function))
}

/// What the calls of the functions that make tensors say.
pub(crate) fn rebuilt(p: &Pickle, mut id: Id) -> Result<Rebuilt, TensorError> {
    // A parameter wraps a tensor; nothing wraps deeper than this.
    for _ in 0..3 {
        let function = match p.get(id) {
            Value::Call(function, _) | Value::Object(function, _) => function,
            _ => return Err(TensorError::NoTensor),
        };
        let arguments = match p.get(id) {
            Value::Call(_, arguments) => p.tuple(*arguments).unwrap_or(&[]),
            _ => &[],
        };
        let known = if makes_tensors(function) { function.rsplit('.').next() } else { None };
        match (known, arguments) {
            (
                Some(
                    "_rebuild_parameter"
                    | "_rebuild_parameter_with_state"
                    | "_rebuild_device_tensor_from_cpu_tensor",
                ),
                [inner, ..],
            ) => id = *inner,
            (Some("_rebuild_from_type_v2"), [_, _, inner, ..]) => {
                return of_arguments(p, p.items(*inner).unwrap_or(&[]), None);
            }
            (Some("_rebuild_tensor_v3"), arguments) => {
                return of_arguments(p, arguments, arguments.get(6).copied());
            }
            (Some("_rebuild_tensor_v2" | "_rebuild_tensor"), arguments) => {
                return of_arguments(p, arguments, None);
            }
            _ => return Err(TensorError::OtherCall(function.to_string())),
        }
    }
    Err(TensorError::EmptyParameter)
}

/// The tensor that (storage, offset, shape, strides, ...) tell of.
fn of_arguments(p: &Pickle, arguments: &[Id], dtype: Option<Id>) -> Result<Rebuilt, TensorError> {
    let [storage, offset, shape, strides, ..] = arguments else {
        return Err(TensorError::Arguments("has no storage and shape"));
    };
    let size = |id: Id| match p.get(id) {
        Value::Int(i) => usize::try_from(*i).ok(),
        _ => None,
    };
    // A torch.Size is a call on the tuple.
    let items = |id: Id| match p.get(id) {
        Value::Call(name, arguments) if &**name == "torch.Size" => {
            p.items(*p.tuple(*arguments)?.first()?)
        }
        _ => p.items(id),
    };
    let sizes = |id: Id| -> Option<Vec<usize>> {
        let items = items(id)?;
        (items.len() <= MOST_AXES).then_some(())?;
        items.iter().map(|i| size(*i)).collect()
    };
    match (size(*offset), sizes(*shape), sizes(*strides)) {
        (Some(offset), Some(shape), Some(strides)) => {
            Ok(Rebuilt { storage: *storage, offset, shape, strides, dtype })
        }
        _ => Err(TensorError::Arguments("has no shape")),
    }
}

/// Class and key of ("storage", class, key, device, count, ...).
pub(crate) fn storage_of<'a>(
    p: &'a Pickle,
    value: &Value,
) -> Result<(&'a str, &'a str), TensorError> {
    let none = TensorError::Arguments("has no storage");
    let Value::Persistent(id) = value else { return Err(none) };
    let Some([_, class, key, ..]) = p.tuple(*id) else { return Err(none) };
    match (p.get(*class), p.text(*key)) {
        (Value::Global(class), Some(key)) => Ok((class, key)),
        _ => Err(TensorError::Arguments("has a storage without a type")),
    }
}
