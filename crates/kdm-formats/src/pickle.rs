//! An interpreter for Python pickles that builds plain data and runs nothing.
//!
//! Values live in an arena and refer to each other by number, since pickles share and mutate them
//! through a memo. A class is a name; an instance is its class's name and its state. Every opcode
//! adds at most one value, so memory is bounded by the pickle's length and by [`MAX_VALUES`].
//! Nothing recurses: depth costs the interpreter nothing, and readers of what it built bound their
//! own.

use std::collections::HashMap;

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

/// Values a pickle may have. The pickles of the largest models have some hundred thousand.
pub const MAX_VALUES: usize = 8 << 20;

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

/// Why a pickle was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// The bytes are no pickle, or end too early.
    #[error("damaged at byte {0}: {1}")]
    Damaged(usize, &'static str),
    /// An opcode that weights have no use for.
    #[error("opcode 0x{1:02x} at byte {0} is not one that weights need")]
    Opcode(usize, u8),
    /// Something is named that is not on the list.
    #[error(
        "it names `{0}`, which is neither a tensor-building function nor a network's class; \
         nothing was run"
    )]
    Refused(String),
}

/// A pickle's values.
#[derive(Debug)]
pub struct Pickle {
    arena: Vec<Value>,
    /// The value the pickle stands for.
    pub root: Id,
}

impl Pickle {
    /// Reads a pickle of protocol 2 to 5.
    ///
    /// # Errors
    /// When it is damaged, too large, or names anything that is not on the lists.
    pub fn parse(bytes: &[u8]) -> Result<Self, PickleError> {
        Ok(Self::parse_first(bytes)?.0)
    }

    /// Reads the pickle that `bytes` begin with; also gives its length.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_first(bytes: &[u8]) -> Result<(Self, usize), PickleError> {
        let mut machine = Machine {
            bytes,
            at: 0,
            arena: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        let root = machine.run()?;
        Ok((Self { arena: machine.arena, root }, machine.at))
    }

    /// All values.
    pub fn values(&self) -> &[Value] {
        &self.arena
    }

    /// The value with this number.
    pub fn get(&self, id: Id) -> &Value {
        &self.arena[id]
    }

    /// A dict's, ordered dict's or set instance's entry by its text key; for an instance, its
    /// attribute.
    pub fn field(&self, id: Id, key: &str) -> Option<Id> {
        let entries = match self.get(id) {
            Value::Dict(entries) => entries,
            Value::Object(_, Some(state)) => match self.get(*state) {
                Value::Dict(entries) => entries,
                _ => return None,
            },
            _ => return None,
        };
        let is_key = |k: &Id| matches!(self.get(*k), Value::Text(text) if text == key);
        entries.iter().rev().find(|(k, _)| is_key(k)).map(|(_, v)| *v)
    }

    /// A dict's entries with text keys, in order.
    pub fn entries(&self, id: Id) -> Vec<(&str, Id)> {
        let Value::Dict(entries) = self.get(id) else { return Vec::new() };
        entries
            .iter()
            .filter_map(|(k, v)| match self.get(*k) {
                Value::Text(text) => Some((text.as_str(), *v)),
                _ => None,
            })
            .collect()
    }

    /// An instance's class name.
    pub fn class(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Object(class, _) => Some(class),
            _ => None,
        }
    }

    /// A number, from an integer, float, bool, or NumPy scalar.
    pub fn number(&self, id: Id) -> Option<f64> {
        match self.get(id) {
            Value::Int(i) => Some(*i as f64),
            Value::Float(f) => Some(*f),
            Value::Bool(b) => Some(f64::from(u8::from(*b))),
            Value::Call(name, arguments) if name.ends_with(".multiarray.scalar") => {
                let [dtype, bytes] = self.tuple(*arguments)? else { return None };
                let Value::Call(_, dtype) = self.get(*dtype) else { return None };
                let kind = self.text(*self.tuple(*dtype)?.first()?)?;
                let bytes = self.bytes(*bytes)?;
                match kind.trim_start_matches(['<', '=', '|']) {
                    "f8" => Some(f64::from_le_bytes(bytes.as_ref().try_into().ok()?)),
                    "f4" => Some(f32::from_le_bytes(bytes.as_ref().try_into().ok()?).into()),
                    "i8" => Some(i64::from_le_bytes(bytes.as_ref().try_into().ok()?) as f64),
                    "i4" => Some(i32::from_le_bytes(bytes.as_ref().try_into().ok()?).into()),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Bytes, also where an old protocol wrote them as text to be encoded as Latin-1.
    pub fn bytes(&self, id: Id) -> Option<std::borrow::Cow<'_, [u8]>> {
        match self.get(id) {
            Value::Bytes(bytes) => Some(bytes.as_slice().into()),
            Value::Call(name, arguments) if name == "_codecs.encode" => {
                let text = self.text(*self.tuple(*arguments)?.first()?)?;
                text.chars()
                    .map(|c| u8::try_from(u32::from(c)).ok())
                    .collect::<Option<Vec<u8>>>()
                    .map(Into::into)
            }
            _ => None,
        }
    }

    /// A list's or tuple's items.
    pub fn items(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) | Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// A string.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A tuple's items.
    pub fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) => Some(items),
            _ => None,
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    arena: Vec<Value>,
    stack: Vec<Id>,
    /// Stack heights at MARK opcodes.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

type Step<T> = Result<T, PickleError>;

impl Machine<'_> {
    fn damaged<T>(&self, what: &'static str) -> Step<T> {
        Err(PickleError::Damaged(self.at, what))
    }

    fn take(&mut self, n: usize) -> Step<&[u8]> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else { return self.damaged("it ends too early") };
        let start = std::mem::replace(&mut self.at, end);
        Ok(&self.bytes[start..end])
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn line(&mut self) -> Step<String> {
        let rest = &self.bytes[self.at..];
        let Some(length) = rest.iter().position(|b| *b == b'\n') else {
            return self.damaged("a line has no end");
        };
        let line = self.take(length + 1)?;
        Ok(String::from_utf8_lossy(&line[..length]).into_owned())
    }

    fn text(&mut self, n: usize) -> Step<Value> {
        let bytes = self.take(n)?.to_vec();
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Value::Text(text)),
            Err(_) => self.damaged("a string is not UTF-8"),
        }
    }

    fn push(&mut self, value: Value) {
        self.arena.push(value);
        self.stack.push(self.arena.len() - 1);
    }

    /// A string as Python 2 wrote it: text where it is text.
    fn old_string(&mut self, n: usize) -> Step<()> {
        let bytes = self.take(n)?.to_vec();
        self.push(
            String::from_utf8(bytes).map_or_else(|e| Value::Bytes(e.into_bytes()), Value::Text),
        );
        Ok(())
    }

    /// Takes the top of the stack, not below the last mark.
    fn pop(&mut self) -> Step<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return self.damaged("it takes from an empty stack");
        }
        Ok(self.stack.pop().expect("checked above"))
    }

    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        let Some(mark) = self.marks.pop() else { return self.damaged("a mark is missing") };
        Ok(self.stack.split_off(mark))
    }

    fn top(&self) -> Step<Id> {
        match self.stack.last() {
            Some(id) => Ok(*id),
            None => self.damaged("it looks at an empty stack"),
        }
    }

    fn remember(&mut self, key: u32) -> Step<()> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Step<()> {
        match self.memo.get(&key) {
            Some(id) => {
                self.stack.push(*id);
                Ok(())
            }
            None => self.damaged("it recalls what was never stored"),
        }
    }

    fn global(&mut self, module: &str, name: &str) -> Step<()> {
        let full = format!("{module}.{name}");
        let storage = module == "torch" && name.ends_with("Storage");
        let class = CLASS_MODULES.iter().any(|prefix| full.starts_with(prefix))
            || TYPES.contains(&full.as_str());
        if !(storage || class || FUNCTIONS.contains(&full.as_str())) {
            return Err(PickleError::Refused(full));
        }
        self.push(Value::Global(full));
        Ok(())
    }

    fn named(&self, id: Id) -> Step<String> {
        match &self.arena[id] {
            Value::Global(name) => Ok(name.clone()),
            _ => self.damaged("it calls what is no function"),
        }
    }

    fn call(&mut self) -> Step<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let name = self.named(function)?;
        if !FUNCTIONS.contains(&name.as_str()) {
            return Err(PickleError::Refused(format!("{name}(...)")));
        }
        let empty = matches!(&self.arena[arguments], Value::Tuple(items) if items.is_empty());
        let value = match name.as_str() {
            "collections.OrderedDict" if empty => Value::Dict(Vec::new()),
            "__builtin__.set" | "builtins.set" => Value::Set(Vec::new()),
            _ => Value::Call(name, arguments),
        };
        self.push(value);
        Ok(())
    }

    fn new_object(&mut self, pops: usize) -> Step<()> {
        for _ in 0..pops {
            self.pop()?;
        }
        let class = self.pop()?;
        let name = self.named(class)?;
        let value = match name.as_str() {
            "collections.OrderedDict" => Value::Dict(Vec::new()),
            _ => Value::Object(name, None),
        };
        self.push(value);
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Step<()> {
        if !items.len().is_multiple_of(2) {
            return self.damaged("a key has no value");
        }
        let target = self.top()?;
        match &mut self.arena[target] {
            Value::Dict(entries) => {
                entries.extend(items.chunks(2).map(|kv| (kv[0], kv[1])));
                Ok(())
            }
            _ => self.damaged("it sets an item of what is no dict"),
        }
    }

    fn append(&mut self, items: Vec<Id>) -> Step<()> {
        let target = self.top()?;
        match &mut self.arena[target] {
            Value::List(list) | Value::Set(list) => {
                list.extend(items);
                Ok(())
            }
            _ => self.damaged("it appends to what is no list"),
        }
    }

    fn build(&mut self) -> Step<()> {
        let state = self.pop()?;
        let target = self.top()?;
        match &mut self.arena[target] {
            Value::Object(_, old) => *old = Some(state),
            // Ordered dicts and NumPy types carry attributes that weights have no use for.
            Value::Dict(_) | Value::Call(..) => {}
            _ => return self.damaged("it builds what is no object"),
        }
        Ok(())
    }

    fn tuple(&mut self, n: usize) -> Step<()> {
        let mut items = (0..n).map(|_| self.pop()).collect::<Step<Vec<Id>>>()?;
        items.reverse();
        self.push(Value::Tuple(items));
        Ok(())
    }

    fn long(&mut self, n: usize) -> Step<()> {
        if n > 8 {
            // No number that a network needs; kept as the bytes it is.
            let bytes = self.take(n)?.to_vec();
            self.push(Value::Bytes(bytes));
            return Ok(());
        }
        let bytes = self.take(n)?;
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = [if negative { 0xFF } else { 0 }; 8];
        wide[..n].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)));
        Ok(())
    }

    fn length(&self, n: u64) -> Step<usize> {
        match usize::try_from(n) {
            Ok(n) => Ok(n),
            Err(_) => self.damaged("a length is too large"),
        }
    }

    fn run(&mut self) -> Step<Id> {
        loop {
            if self.arena.len() > MAX_VALUES
                || self.stack.len() > MAX_VALUES
                || self.marks.len() > MAX_VALUES
            {
                return self.damaged("it has more values than any network");
            }
            let [opcode] = self.array()?;
            match opcode {
                b'.' => return self.pop(),
                0x80 => {
                    let [protocol] = self.array()?;
                    if protocol > 5 {
                        return self.damaged("a protocol above 5");
                    }
                }
                0x95 => {
                    self.array::<8>()?;
                }
                b'(' => self.marks.push(self.stack.len()),
                b'0' => {
                    self.pop()?;
                }
                b'1' => {
                    self.pop_mark()?;
                }
                b'2' => {
                    let top = self.top()?;
                    self.stack.push(top);
                }
                b'N' => self.push(Value::None),
                0x88 => self.push(Value::Bool(true)),
                0x89 => self.push(Value::Bool(false)),
                b'J' => {
                    let value = i32::from_le_bytes(self.array()?);
                    self.push(Value::Int(value.into()));
                }
                b'K' => {
                    let [value] = self.array()?;
                    self.push(Value::Int(value.into()));
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.array()?);
                    self.push(Value::Int(value.into()));
                }
                0x8a => {
                    let [n] = self.array()?;
                    self.long(n.into())?;
                }
                b'G' => {
                    let value = f64::from_be_bytes(self.array()?);
                    self.push(Value::Float(value));
                }
                b'X' => {
                    let n = u32::from_le_bytes(self.array()?);
                    let value = self.text(n as usize)?;
                    self.push(value);
                }
                0x8c => {
                    let [n] = self.array()?;
                    let value = self.text(n.into())?;
                    self.push(value);
                }
                0x8d => {
                    let n = u64::from_le_bytes(self.array()?);
                    let n = self.length(n)?;
                    let value = self.text(n)?;
                    self.push(value);
                }
                b'B' => {
                    let n = u32::from_le_bytes(self.array()?);
                    let bytes = self.take(n as usize)?.to_vec();
                    self.push(Value::Bytes(bytes));
                }
                b'C' => {
                    let [n] = self.array()?;
                    let bytes = self.take(n.into())?.to_vec();
                    self.push(Value::Bytes(bytes));
                }
                b'U' => {
                    let [n] = self.array()?;
                    self.old_string(n.into())?;
                }
                b'T' => {
                    let n = u32::from_le_bytes(self.array()?);
                    self.old_string(n as usize)?;
                }
                0x8b => {
                    let n = u32::from_le_bytes(self.array()?);
                    self.long(n as usize)?;
                }
                0x8e | 0x96 => {
                    let n = u64::from_le_bytes(self.array()?);
                    let n = self.length(n)?;
                    let bytes = self.take(n)?.to_vec();
                    self.push(Value::Bytes(bytes));
                }
                b']' => self.push(Value::List(Vec::new())),
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' | 0x90 => {
                    let items = self.pop_mark()?;
                    self.append(items)?;
                }
                b'l' => {
                    let items = self.pop_mark()?;
                    self.push(Value::List(items));
                }
                b')' => self.push(Value::Tuple(Vec::new())),
                b't' => {
                    let items = self.pop_mark()?;
                    self.push(Value::Tuple(items));
                }
                0x85 => self.tuple(1)?,
                0x86 => self.tuple(2)?,
                0x87 => self.tuple(3)?,
                b'}' => self.push(Value::Dict(Vec::new())),
                b'd' => {
                    let items = self.pop_mark()?;
                    self.push(Value::Dict(Vec::new()));
                    self.set_items(&items)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set_items(&[key, value])?;
                }
                b'u' => {
                    let items = self.pop_mark()?;
                    self.set_items(&items)?;
                }
                0x8f => self.push(Value::Set(Vec::new())),
                0x91 => {
                    let items = self.pop_mark()?;
                    self.push(Value::Set(items));
                }
                b'h' => {
                    let [key] = self.array()?;
                    self.recall(key.into())?;
                }
                b'j' => {
                    let key = u32::from_le_bytes(self.array()?);
                    self.recall(key)?;
                }
                b'q' => {
                    let [key] = self.array()?;
                    self.remember(key.into())?;
                }
                b'r' => {
                    let key = u32::from_le_bytes(self.array()?);
                    self.remember(key)?;
                }
                0x94 => {
                    let key = u32::try_from(self.memo.len()).unwrap_or(u32::MAX);
                    self.remember(key)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.global(&module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (Value::Text(module), Value::Text(name)) =
                        (self.arena[module].clone(), self.arena[name].clone())
                    else {
                        return self.damaged("a name is no text");
                    };
                    self.global(&module, &name)?;
                }
                b'R' => self.call()?,
                0x81 => self.new_object(1)?,
                0x92 => self.new_object(2)?,
                b'b' => self.build()?,
                b'Q' => {
                    let id = self.pop()?;
                    self.push(Value::Persistent(id));
                }
                other => return Err(PickleError::Opcode(self.at - 1, other)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_call_of_anything_else_is_refused_by_name() {
        // pickle.dumps(object whose __reduce__ is (os.system, ("rm -rf /",))), protocol 2 and 4.
        let two = b"\x80\x02cposix\nsystem\nq\x00X\x08\x00\x00\x00rm -rf /q\x01\x85q\x02Rq\x03.";
        let four = b"\x80\x04\x95\x23\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x08rm -rf /\x94\x85\x94R\x94.";
        for bytes in [&two[..], &four[..]] {
            assert_eq!(
                Pickle::parse(bytes).unwrap_err(),
                PickleError::Refused("posix.system".into())
            );
        }
        // A class of an allowed module can't be called either, only stand as an instance.
        let called = b"\x80\x02cmodels.x\nEvil\n)R.";
        assert_eq!(
            Pickle::parse(called).unwrap_err(),
            PickleError::Refused("models.x.Evil(...)".into())
        );
    }

    #[test]
    fn plain_data_is_read() {
        // pickle.dumps({"a": [1, -2, 2.5, None, True], "b": (b"x", "y")}, 4)
        let bytes = b"\x80\x04\x95,\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94(K\x01J\xfe\xff\xff\xffG@\x04\x00\x00\x00\x00\x00\x00N\x88e\x8c\x01b\x94C\x01x\x94\x8c\x01y\x94\x86\x94u.";
        let pickle = Pickle::parse(bytes).unwrap();
        let list = pickle.field(pickle.root, "a").unwrap();
        let Value::List(items) = pickle.get(list) else { panic!() };
        let numbers: Vec<Option<f64>> = items.iter().map(|i| pickle.number(*i)).collect();
        assert_eq!(numbers, [Some(1.0), Some(-2.0), Some(2.5), None, Some(1.0)]);
        let tuple = pickle.tuple(pickle.field(pickle.root, "b").unwrap()).unwrap();
        assert_eq!(pickle.get(tuple[0]), &Value::Bytes(b"x".to_vec()));
        assert_eq!(pickle.text(tuple[1]), Some("y"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// No bytes make it panic.
        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Pickle::parse(&bytes);
        }

        /// Nor do sequences of real opcodes.
        #[test]
        fn any_opcodes_give_a_value_or_an_error(codes in prop::collection::vec(
            prop::sample::select(b"()]}0124NQRabdelsthqrjKMJGXcu.\x81\x85\x86\x87\x88\x89\x8c\x8f\x90\x91\x92\x93\x94".to_vec()), 0..80)) {
            let _ = Pickle::parse(&codes);
        }
    }
}
