//! What a pickle is made of, and what may be named in one.

/// A value's number in the arena.
pub type Id = usize;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// None.
    None,
    /// True or False.
    Bool(bool),
    /// An integer of up to 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Id>),
    /// A tuple.
    Tuple(Vec<Id>),
    /// A dict, keys and values in order.
    Dict(Vec<(Id, Id)>),
    /// A set.
    Set(Vec<Id>),
    /// A class or function, "module.name".
    Global(String),
    /// What a persistent id stands for: outside data, such as a tensor's storage.
    Persistent(Id),
    /// A function's result: its name and its arguments (a tuple). Only the functions of
    /// [`FUNCTIONS`] come here.
    Call(String, Id),
    /// An instance: its class's name and, once built, its state.
    Object(String, Option<Id>),
}

/// Functions that may be called; what they would do is done by whoever reads the result.
pub const FUNCTIONS: [&str; 18] = [
    "collections.OrderedDict",
    "__builtin__.set",
    "builtins.set",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "_codecs.encode",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_parameter_with_state",
    "torch._tensor._rebuild_from_type_v2",
    "torch.storage._load_from_bytes",
    "torch.Size",
    "torch.device",
    "torch_utils.persistence._reconstruct_persistent_obj",
];

/// Modules whose classes may stand in a file; instances of them are names with attributes.
pub const CLASS_MODULES: [&str; 4] =
    ["torch.nn.modules.", "models.", "piq.", "dnnlib.util.EasyDict"];

/// Further names that may stand in a file: types that say what a number or a tensor is.
const TYPES: [&str; 5] = [
    "torch.Tensor",
    "torch.nn.parameter.Parameter",
    "torch.float32",
    "torch.float16",
    "numpy.ndarray",
];

/// Whether a class or function may stand in a file.
pub(super) fn is_allowed(module: &str, name: &str) -> bool {
    let full = format!("{module}.{name}");
    let storage = module == "torch" && name.ends_with("Storage");
    let class = CLASS_MODULES.iter().any(|prefix| full.starts_with(prefix));
    storage || class || TYPES.contains(&full.as_str()) || is_function(&full)
}

/// Whether a function may be called.
pub(super) fn is_function(full: &str) -> bool {
    FUNCTIONS.contains(&full)
}
