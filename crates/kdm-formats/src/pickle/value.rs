//! What a pickle is made of.

use std::sync::Arc;

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
    /// A class or function, "module.name". It is a name and nothing else.
    Global(Arc<str>),
    /// What a persistent id stands for: outside data, such as a tensor's storage.
    Persistent(Id),
    /// A call that was not made: the function's name and its arguments (a tuple). Who reads the
    /// pickle does what the few functions that it knows would do.
    Call(Arc<str>, Id),
    /// An instance: its class's name and, once built, its state.
    Object(Arc<str>, Option<Id>),
}

/// What a pickle does to an object, or to the result of a call, after it was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Attached {
    /// The state that a call's result was given.
    pub state: Option<Id>,
    /// Keys and values that were set.
    pub entries: Vec<(Id, Id)>,
    /// Items that were appended.
    pub items: Vec<Id>,
}
