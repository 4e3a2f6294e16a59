//! The state of the interpreter, and what opcodes do to it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::PickleError;
use super::value::{Attached, Id, Value};

/// Values a pickle may have. The pickles of the largest models have some hundred thousand.
pub const MAX_VALUES: usize = 4 << 20;

/// Items that its lists, tuples, sets and dicts may have together.
const MAX_ITEMS: usize = 2 * MAX_VALUES;

/// Bytes a class's or function's name may have with its module's.
const MAX_NAME: usize = 512;

/// Reads a pickle.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    arena: Vec<Value>,
    pub(super) stack: Vec<Id>,
    /// Stack heights at MARK opcodes.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Items of lists, tuples, sets and dicts together.
    items: usize,
    /// Names of classes and functions, each once.
    names: HashSet<Arc<str>>,
    /// What was done to objects and to results of calls.
    attached: HashMap<Id, Attached>,
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
            items: 0,
            names: HashSet::new(),
            attached: HashMap::new(),
        }
    }

    /// Bytes read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The arena, and what was done to objects in it.
    pub(super) fn into_values(self) -> (Vec<Value>, HashMap<Id, Attached>) {
        (self.arena, self.attached)
    }

    /// Refuses a pickle that has grown too large.
    pub(super) fn check_size(&self) -> Step<()> {
        let most = self.arena.len().max(self.stack.len()).max(self.marks.len());
        if most > MAX_VALUES || self.items > MAX_ITEMS {
            return self.damaged("it has more values than any network");
        }
        Ok(())
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
        self.items += self.stack.len().saturating_sub(mark);
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

    /// A class or function by its name, which is all that it ever is here.
    pub(super) fn global(&mut self, module: &str, name: &str) -> Step<()> {
        if module.len() + name.len() > MAX_NAME {
            return self.damaged("a class or function has an endless name");
        }
        let full = format!("{module}.{name}");
        let shared = match self.names.get(full.as_str()) {
            Some(known) => Arc::clone(known),
            None => {
                let new: Arc<str> = full.into();
                self.names.insert(Arc::clone(&new));
                new
            }
        };
        self.push(Value::Global(shared));
        Ok(())
    }

    /// A class or function whose module and name are texts on the stack.
    pub(super) fn stack_global(&mut self, module: Id, name: Id) -> Step<()> {
        let short = |id: Id| match &self.arena[id] {
            Value::Text(text) if text.len() <= MAX_NAME => Some(text.clone()),
            _ => None,
        };
        match (short(module), short(name)) {
            (Some(module), Some(name)) => self.global(&module, &name),
            _ => self.damaged("a class's or function's name is no text"),
        }
    }

    /// The name of what is called; other values than classes and functions have none.
    fn named(&self, id: Id) -> Arc<str> {
        match &self.arena[id] {
            Value::Global(name) | Value::Call(name, _) | Value::Object(name, _) => Arc::clone(name),
            _ => "a value".into(),
        }
    }

    /// Writes a call down. Only what makes plain containers is done.
    pub(super) fn call(&mut self) -> Step<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let name = self.named(function);
        let first = match &self.arena[arguments] {
            Value::Tuple(items) => items.first().copied(),
            _ => None,
        };
        let value = match &*name {
            "collections.OrderedDict"
            | "collections.defaultdict"
            | "collections.Counter"
            | "builtins.dict"
            | "__builtin__.dict" => Value::Dict(first.map_or(Vec::new(), |id| self.pairs(id))),
            "__builtin__.set" | "builtins.set" | "builtins.frozenset" | "__builtin__.frozenset" => {
                Value::Set(Vec::new())
            }
            // How Python 2 and protocols below 2 make an instance: its class comes first.
            "copyreg._reconstructor" | "copy_reg._reconstructor" => match first {
                Some(class) => Value::Object(self.named(class), None),
                None => Value::Call(name, arguments),
            },
            _ => Value::Call(name, arguments),
        };
        if let Value::Dict(entries) = &value {
            self.items += 2 * entries.len();
        }
        self.push(value);
        Ok(())
    }

    /// The entries of what a dict is made from: a dict, or a list of pairs.
    fn pairs(&self, id: Id) -> Vec<(Id, Id)> {
        let pair = |id: &Id| match &self.arena[*id] {
            Value::Tuple(two) | Value::List(two) if two.len() == 2 => Some((two[0], two[1])),
            _ => None,
        };
        match &self.arena[id] {
            Value::Dict(entries) => entries.clone(),
            Value::List(items) | Value::Tuple(items) => items.iter().filter_map(pair).collect(),
            _ => Vec::new(),
        }
    }

    pub(super) fn new_object(&mut self, pops: usize) -> Step<()> {
        for _ in 0..pops {
            self.pop()?;
        }
        let class = self.pop()?;
        let name = self.named(class);
        let value = match &*name {
            "collections.OrderedDict" | "collections.defaultdict" | "collections.Counter" => {
                Value::Dict(Vec::new())
            }
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
        let pairs = items.chunks(2).map(|kv| (kv[0], kv[1]));
        match &mut self.arena[target] {
            Value::Dict(entries) => entries.extend(pairs),
            Value::Object(..) | Value::Call(..) => {
                self.attached.entry(target).or_default().entries.extend(pairs);
            }
            _ => return self.damaged("it sets an item of what is no dict"),
        }
        Ok(())
    }

    pub(super) fn append(&mut self, items: Vec<Id>) -> Step<()> {
        let target = self.top()?;
        match &mut self.arena[target] {
            Value::List(list) | Value::Set(list) => list.extend(items),
            Value::Object(..) | Value::Call(..) => {
                self.attached.entry(target).or_default().items.extend(items);
            }
            _ => return self.damaged("it appends to what is no list"),
        }
        Ok(())
    }

    pub(super) fn build(&mut self) -> Step<()> {
        let state = self.pop()?;
        let target = self.top()?;
        match &mut self.arena[target] {
            Value::Object(_, old) => *old = Some(state),
            Value::Call(..) => self.attached.entry(target).or_default().state = Some(state),
            // Ordered dicts carry attributes that weights have no use for.
            Value::Dict(_) => {}
            _ => return self.damaged("it builds what is no object"),
        }
        Ok(())
    }

    pub(super) fn tuple(&mut self, n: usize) -> Step<()> {
        let mut items = (0..n).map(|_| self.pop()).collect::<Step<Vec<Id>>>()?;
        items.reverse();
        self.items += n;
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
