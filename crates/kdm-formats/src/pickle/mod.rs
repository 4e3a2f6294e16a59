//! An interpreter for Python pickles that builds plain data and runs nothing.
//!
//! Values live in an arena and refer to each other by number, since pickles share and mutate them
//! through a memo. A class is a name; an instance is its class's name and its state; a call is the
//! function's name and its arguments. So whatever a pickle names is inert: a training's settings,
//! callbacks or paths may lie beside the weights, and only who needs a value has to know what it
//! means. Every opcode adds at most one value, so memory is bounded by the pickle's length and by
//! [`MAX_VALUES`]. Nothing recurses: depth costs the interpreter nothing, and readers of what it
//! built bound their own.
//!
//! ```
//! use kdm_formats::pickle::Pickle;
//!
//! // pickle.dumps({"lr": 0.5}, protocol=2)
//! let bytes = b"\x80\x02}q\x00X\x02\x00\x00\x00lrq\x01G?\xe0\x00\x00\x00\x00\x00\x00s.";
//! let pickle = Pickle::parse(bytes).unwrap();
//! let rate = pickle.field(pickle.root, "lr").unwrap();
//! assert_eq!(pickle.number(rate), Some(0.5));
//!
//! // A call is written down and never made.
//! let evil = Pickle::parse(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.").unwrap();
//! assert_eq!(evil.name(evil.root), Some("os.system"));
//! assert_eq!(evil.number(evil.root), None);
//! ```

mod machine;
mod ndarray;
mod opcodes;
mod value;

use std::borrow::Cow;
use std::collections::HashMap;

pub use machine::MAX_VALUES;
use machine::Machine;
pub use ndarray::NdArray;
use value::Attached;
pub use value::{Id, Value};

/// Why a pickle was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// The bytes are no pickle, or end too early.
    #[error("damaged at byte {0}: {1}")]
    Damaged(usize, &'static str),
    /// An opcode that weights have no use for.
    #[error("opcode 0x{1:02x} at byte {0} is not one that weights need")]
    Opcode(usize, u8),
}

/// A pickle's values.
#[derive(Debug)]
pub struct Pickle {
    arena: Vec<Value>,
    attached: HashMap<Id, Attached>,
    /// The value the pickle stands for.
    pub root: Id,
}

impl Pickle {
    /// Reads a pickle of protocol 2 to 5.
    ///
    /// # Errors
    /// When it is damaged or too large.
    pub fn parse(bytes: &[u8]) -> Result<Self, PickleError> {
        Ok(Self::parse_first(bytes)?.0)
    }

    /// Reads the pickle that `bytes` begin with; also gives its length.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_first(bytes: &[u8]) -> Result<(Self, usize), PickleError> {
        let mut machine = Machine::new(bytes);
        let root = machine.run()?;
        let length = machine.position();
        let (arena, attached) = machine.into_values();
        Ok((Self { arena, attached, root }, length))
    }

    /// All values.
    pub fn values(&self) -> &[Value] {
        &self.arena
    }

    /// The value with this number.
    pub fn get(&self, id: Id) -> &Value {
        &self.arena[id]
    }

    /// A dict's entry by its text key; for an instance, its attribute or the item set on it.
    pub fn field(&self, id: Id, key: &str) -> Option<Id> {
        let is_key = |k: &Id| matches!(self.get(*k), Value::Text(text) if text == key);
        let last =
            |entries: &[(Id, Id)]| entries.iter().rev().find(|(k, _)| is_key(k)).map(|(_, v)| *v);
        self.parts(id).into_iter().find_map(last)
    }

    /// The entries with text keys, in order, of a dict; of an instance, its attributes and the
    /// items set on it.
    pub fn entries(&self, id: Id) -> Vec<(&str, Id)> {
        let entries = self.parts(id).into_iter().flatten();
        entries.filter_map(|(k, v)| Some((self.text(*k)?, *v))).collect()
    }

    /// A dict's entries, keys and values; of an instance, its attributes and the items set on it.
    pub fn pairs(&self, id: Id) -> impl Iterator<Item = (Id, Id)> {
        self.parts(id).into_iter().flatten().copied()
    }

    fn parts(&self, id: Id) -> [&[(Id, Id)]; 2] {
        let dict = |id: Id| match self.get(id) {
            Value::Dict(entries) => entries.as_slice(),
            _ => &[],
        };
        let own = match self.get(id) {
            Value::Object(_, Some(state)) => dict(*state),
            _ => dict(id),
        };
        [own, self.attached.get(&id).map_or(&[], |a| &a.entries)]
    }

    /// How many entries [`Self::pairs`] gives.
    pub(crate) fn size(&self, id: Id) -> usize {
        self.parts(id).iter().map(|part| part.len()).sum()
    }

    /// An instance's state, or the one that the result of a call was given.
    pub fn state(&self, id: Id) -> Option<Id> {
        match self.get(id) {
            Value::Object(_, state) => *state,
            _ => self.attached.get(&id)?.state,
        }
    }

    /// An instance's class name.
    pub fn class(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Object(class, _) => Some(class),
            _ => None,
        }
    }

    /// The name of the class, of an instance's class, or of the function of a call.
    pub fn name(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Global(name) | Value::Call(name, _) | Value::Object(name, _) => Some(name),
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
                let bytes = self.bytes_of_most(*bytes, 8)?;
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
    pub fn bytes(&self, id: Id) -> Option<Cow<'_, [u8]>> {
        self.bytes_of_most(id, usize::MAX / 2)
    }

    /// As [`Self::bytes`], where there are at most `most`; longer ones may cost a copy, and are
    /// none.
    pub fn bytes_of_most(&self, id: Id, most: usize) -> Option<Cow<'_, [u8]>> {
        match self.get(id) {
            Value::Bytes(bytes) if bytes.len() <= most => Some(bytes.as_slice().into()),
            Value::Call(name, arguments) if &**name == "_codecs.encode" => {
                // Characters of Latin-1 take one or two bytes of the text.
                let text = self.text(*self.tuple(*arguments)?.first()?)?;
                (text.len() <= 2 * most).then_some(())?;
                text.chars()
                    .map(|c| u8::try_from(u32::from(c)).ok())
                    .collect::<Option<Vec<u8>>>()
                    .map(Into::into)
            }
            _ => None,
        }
    }

    /// Bytes that are a value of their own.
    pub(crate) fn raw_bytes(&self, id: Id) -> Option<&[u8]> {
        match self.get(id) {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The items of a list or tuple, or those appended to an instance.
    pub fn items(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) | Value::List(items) => Some(items),
            _ => self.attached.get(&id).map(|a| a.items.as_slice()).filter(|i| !i.is_empty()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPCODES: &[u8] = b"()]}0124NQRabdelsthqrjKMJGXcu.\x81\x85\x86\x87\x88\x89\x8c\x8f\x90\
        \x91\x92\x93\x94";

    #[test]
    fn calls_are_written_down_and_never_made() {
        // pickle.dumps(object whose __reduce__ is (os.system, ("rm -rf /",))), protocol 2 and 4.
        let two = b"\x80\x02cposix\nsystem\nq\x00X\x08\x00\x00\x00rm -rf /q\x01\x85q\x02Rq\x03.";
        let four = b"\x80\x04\x95\x23\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\
            \x94\x93\x94\x8c\x08rm -rf /\x94\x85\x94R\x94.";
        for bytes in [&two[..], &four[..]] {
            let pickle = Pickle::parse(bytes).unwrap();
            let Value::Call(name, arguments) = pickle.get(pickle.root) else { panic!() };
            assert_eq!(&**name, "posix.system");
            assert_eq!(pickle.text(pickle.tuple(*arguments).unwrap()[0]), Some("rm -rf /"));
        }
    }

    /// What objects of unknown classes are given stays readable, and they stay names.
    #[test]
    fn objects_of_unknown_classes_are_kept() {
        // An instance of a dict's subclass with an attribute and an item, and a list's with an
        // item; pickle.dumps of classes of a module `m`.
        let pickle = Pickle::parse(
            b"\x80\x02cm\nD\n)\x81q\x00X\x01\x00\x00\x00aK\x01s}X\x01\x00\x00\x00bK\x02sb\
              cm\nL\n)\x81K\x05ah\x00\x86.",
        )
        .unwrap();
        let [list, dict] = pickle.tuple(pickle.root).unwrap() else { panic!() };
        assert_eq!((pickle.class(*list), pickle.class(*dict)), (Some("m.L"), Some("m.D")));
        let number = |key: &str| pickle.number(pickle.field(*dict, key).unwrap());
        assert_eq!((number("a"), number("b")), (Some(1.0), Some(2.0)));
        assert_eq!(pickle.items(*list).unwrap().len(), 1);
        // defaultdict(list, {"a": 1}) is a dict; so is an OrderedDict from pairs.
        let dict = Pickle::parse(
            b"\x80\x02ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R\
              X\x01\x00\x00\x00aK\x01s.",
        )
        .unwrap();
        assert_eq!(dict.number(dict.field(dict.root, "a").unwrap()), Some(1.0));
        let pairs = Pickle::parse(
            b"\x80\x02ccollections\nOrderedDict\n]X\x01\x00\x00\x00aK\x01\x86a\x85R.",
        )
        .unwrap();
        assert_eq!(pairs.number(pairs.field(pairs.root, "a").unwrap()), Some(1.0));
    }

    #[test]
    fn plain_data_is_read() {
        // pickle.dumps({"a": [1, -2, 2.5, None, True], "b": (b"x", "y")}, 4)
        let bytes =
            b"\x80\x04\x95,\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94(K\x01J\xfe\xff\
            \xff\xffG@\x04\x00\x00\x00\x00\x00\x00N\x88e\x8c\x01b\x94C\x01x\x94\x8c\x01y\x94\x86\
            \x94u.";
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
        fn any_opcodes_give_a_value_or_an_error(
            codes in prop::collection::vec(prop::sample::select(OPCODES.to_vec()), 0..80),
        ) {
            let _ = Pickle::parse(&codes);
        }
    }
}
