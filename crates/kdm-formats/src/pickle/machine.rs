//! The state of the interpreter, and what opcodes do to it.

use std::collections::HashMap;

use super::PickleError;
use super::value::{Id, Value, is_allowed, is_function};

/// Values a pickle may have. The pickles of the largest models have some hundred thousand.
pub const MAX_VALUES: usize = 8 << 20;

/// Reads a pickle.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    arena: Vec<Value>,
    pub(super) stack: Vec<Id>,
    /// Stack heights at MARK opcodes.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

pub(super) type Step<T> = Result<T, PickleError>;

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            arena: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    /// Bytes read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The arena.
    pub(super) fn into_values(self) -> Vec<Value> {
        self.arena
    }

    /// Refuses a pickle that has grown too large.
    pub(super) fn check_size(&self) -> Step<()> {
        let most = self.arena.len().max(self.stack.len()).max(self.marks.len());
        if most > MAX_VALUES { self.damaged("it has more values than any network") } else { Ok(()) }
    }

    pub(super) fn damaged<T>(&self, what: &'static str) -> Step<T> {
        Err(PickleError::Damaged(self.at, what))
    }

    pub(super) fn take(&mut self, n: usize) -> Step<&[u8]> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else { return self.damaged("it ends too early") };
        let start = std::mem::replace(&mut self.at, end);
        Ok(&self.bytes[start..end])
    }

    pub(super) fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(super) fn line(&mut self) -> Step<String> {
        let rest = &self.bytes[self.at..];
        let Some(length) = rest.iter().position(|b| *b == b'\n') else {
            return self.damaged("a line has no end");
        };
        let line = self.take(length + 1)?;
        Ok(String::from_utf8_lossy(&line[..length]).into_owned())
    }

    pub(super) fn text(&mut self, n: usize) -> Step<Value> {
        let bytes = self.take(n)?.to_vec();
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Value::Text(text)),
            Err(_) => self.damaged("a string is not UTF-8"),
        }
    }

    pub(super) fn push(&mut self, value: Value) {
        self.arena.push(value);
        self.stack.push(self.arena.len() - 1);
    }

    /// A string as Python 2 wrote it: text where it is text.
    pub(super) fn old_string(&mut self, n: usize) -> Step<()> {
        let bytes = self.take(n)?.to_vec();
        self.push(
            String::from_utf8(bytes).map_or_else(|e| Value::Bytes(e.into_bytes()), Value::Text),
        );
        Ok(())
    }

    /// Remembers the height of the stack.
    pub(super) fn mark(&mut self) {
        self.marks.push(self.stack.len());
    }

    /// Takes the top of the stack, not below the last mark.
    pub(super) fn pop(&mut self) -> Step<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return self.damaged("it takes from an empty stack");
        }
        Ok(self.stack.pop().expect("checked above"))
    }

    pub(super) fn pop_mark(&mut self) -> Step<Vec<Id>> {
        let Some(mark) = self.marks.pop() else { return self.damaged("a mark is missing") };
        Ok(self.stack.split_off(mark))
    }

    pub(super) fn top(&self) -> Step<Id> {
        match self.stack.last() {
            Some(id) => Ok(*id),
            None => self.damaged("it looks at an empty stack"),
        }
    }

    pub(super) fn remember(&mut self, key: u32) -> Step<()> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    /// Remembers the top under the next free key.
    pub(super) fn memoize(&mut self) -> Step<()> {
        self.remember(u32::try_from(self.memo.len()).unwrap_or(u32::MAX))
    }

    pub(super) fn recall(&mut self, key: u32) -> Step<()> {
        match self.memo.get(&key) {
            Some(id) => {
                self.stack.push(*id);
                Ok(())
            }
            None => self.damaged("it recalls what was never stored"),
        }
    }

    pub(super) fn global(&mut self, module: &str, name: &str) -> Step<()> {
        let full = format!("{module}.{name}");
        if !is_allowed(module, name) {
            return Err(PickleError::Refused(full));
        }
        self.push(Value::Global(full));
        Ok(())
    }

    /// A class or function whose module and name are texts on the stack.
    pub(super) fn stack_global(&mut self, module: Id, name: Id) -> Step<()> {
        let (Value::Text(module), Value::Text(name)) =
            (self.arena[module].clone(), self.arena[name].clone())
        else {
            return self.damaged("a name is no text");
        };
        self.global(&module, &name)
    }

    fn named(&self, id: Id) -> Step<String> {
        match &self.arena[id] {
            Value::Global(name) => Ok(name.clone()),
            _ => self.damaged("it calls what is no function"),
        }
    }

    pub(super) fn call(&mut self) -> Step<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let name = self.named(function)?;
        if !is_function(&name) {
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

    pub(super) fn new_object(&mut self, pops: usize) -> Step<()> {
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

    /// Adds keys and values, in turn, to the dict on top.
    pub(super) fn set_items(&mut self, items: &[Id]) -> Step<()> {
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

    pub(super) fn append(&mut self, items: Vec<Id>) -> Step<()> {
        let target = self.top()?;
        match &mut self.arena[target] {
            Value::List(list) | Value::Set(list) => {
                list.extend(items);
                Ok(())
            }
            _ => self.damaged("it appends to what is no list"),
        }
    }

    pub(super) fn build(&mut self) -> Step<()> {
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

    pub(super) fn tuple(&mut self, n: usize) -> Step<()> {
        let mut items = (0..n).map(|_| self.pop()).collect::<Step<Vec<Id>>>()?;
        items.reverse();
        self.push(Value::Tuple(items));
        Ok(())
    }

    pub(super) fn long(&mut self, n: usize) -> Step<()> {
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

    pub(super) fn length(&self, n: u64) -> Step<usize> {
        match usize::try_from(n) {
            Ok(n) => Ok(n),
            Err(_) => self.damaged("a length is too large"),
        }
    }
}
