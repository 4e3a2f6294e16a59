//! The opcodes that weights need, by the names that Python's `pickletools` gives them, and the loop
//! that obeys them.

use super::PickleError;
use super::machine::{Machine, Step};
use super::value::{Id, Value};

const STOP: u8 = b'.';
const PROTO: u8 = 0x80;
const FRAME: u8 = 0x95;
const MARK: u8 = b'(';
const POP: u8 = b'0';
const POP_MARK: u8 = b'1';
const DUP: u8 = b'2';
const NONE: u8 = b'N';
const NEWTRUE: u8 = 0x88;
const NEWFALSE: u8 = 0x89;
const BININT: u8 = b'J';
const BININT1: u8 = b'K';
const BININT2: u8 = b'M';
const LONG1: u8 = 0x8a;
const BINFLOAT: u8 = b'G';
const BINUNICODE: u8 = b'X';
const SHORT_BINUNICODE: u8 = 0x8c;
const BINUNICODE8: u8 = 0x8d;
const BINBYTES: u8 = b'B';
const SHORT_BINBYTES: u8 = b'C';
const SHORT_BINSTRING: u8 = b'U';
const BINSTRING: u8 = b'T';
const LONG4: u8 = 0x8b;
const BINBYTES8: u8 = 0x8e;
const BYTEARRAY8: u8 = 0x96;
const EMPTY_LIST: u8 = b']';
const APPEND: u8 = b'a';
const APPENDS: u8 = b'e';
const ADDITEMS: u8 = 0x90;
const LIST: u8 = b'l';
const EMPTY_TUPLE: u8 = b')';
const TUPLE: u8 = b't';
const TUPLE1: u8 = 0x85;
const TUPLE2: u8 = 0x86;
const TUPLE3: u8 = 0x87;
const EMPTY_DICT: u8 = b'}';
const DICT: u8 = b'd';
const SETITEM: u8 = b's';
const SETITEMS: u8 = b'u';
const EMPTY_SET: u8 = 0x8f;
const FROZENSET: u8 = 0x91;
const BINGET: u8 = b'h';
const LONG_BINGET: u8 = b'j';
const BINPUT: u8 = b'q';
const LONG_BINPUT: u8 = b'r';
const MEMOIZE: u8 = 0x94;
const GLOBAL: u8 = b'c';
const STACK_GLOBAL: u8 = 0x93;
const REDUCE: u8 = b'R';
const NEWOBJ: u8 = 0x81;
const NEWOBJ_EX: u8 = 0x92;
const BUILD: u8 = b'b';
const BINPERSID: u8 = b'Q';

impl Machine<'_> {
    /// Runs to the end of the pickle; gives the value it stands for.
    ///
    /// # Errors
    /// As [`super::Pickle::parse`].
    pub(super) fn run(&mut self) -> Step<Id> {
        loop {
            self.check_size()?;
            let [opcode] = self.array()?;
            match opcode {
                STOP => return self.pop(),
                PROTO => {
                    let [protocol] = self.array()?;
                    if protocol > 5 {
                        return self.damaged("a protocol above 5");
                    }
                }
                FRAME => {
                    self.array::<8>()?;
                }
                MARK => self.mark(),
                POP => {
                    self.pop()?;
                }
                POP_MARK => {
                    self.pop_mark()?;
                }
                DUP => {
                    let top = self.top()?;
                    self.stack.push(top);
                }
                NONE => self.push(Value::None),
                NEWTRUE => self.push(Value::Bool(true)),
                NEWFALSE => self.push(Value::Bool(false)),
                BININT => {
                    let value = i32::from_le_bytes(self.array()?);
                    self.push(Value::Int(value.into()));
                }
                BININT1 => {
                    let [value] = self.array()?;
                    self.push(Value::Int(value.into()));
                }
                BININT2 => {
                    let value = u16::from_le_bytes(self.array()?);
                    self.push(Value::Int(value.into()));
                }
                LONG1 => {
                    let [n] = self.array()?;
                    self.long(n.into())?;
                }
                BINFLOAT => {
                    let value = f64::from_be_bytes(self.array()?);
                    self.push(Value::Float(value));
                }
                BINUNICODE => {
                    let n = u32::from_le_bytes(self.array()?);
                    let value = self.text(n as usize)?;
                    self.push(value);
                }
                SHORT_BINUNICODE => {
                    let [n] = self.array()?;
                    let value = self.text(n.into())?;
                    self.push(value);
                }
                BINUNICODE8 => {
                    let n = u64::from_le_bytes(self.array()?);
                    let n = self.length(n)?;
                    let value = self.text(n)?;
                    self.push(value);
                }
                BINBYTES => {
                    let n = u32::from_le_bytes(self.array()?);
                    let bytes = self.take(n as usize)?.to_vec();
                    self.push(Value::Bytes(bytes));
                }
                SHORT_BINBYTES => {
                    let [n] = self.array()?;
                    let bytes = self.take(n.into())?.to_vec();
                    self.push(Value::Bytes(bytes));
                }
                SHORT_BINSTRING => {
                    let [n] = self.array()?;
                    self.old_string(n.into())?;
                }
                BINSTRING => {
                    let n = u32::from_le_bytes(self.array()?);
                    self.old_string(n as usize)?;
                }
                LONG4 => {
                    let n = u32::from_le_bytes(self.array()?);
                    self.long(n as usize)?;
                }
                BINBYTES8 | BYTEARRAY8 => {
                    let n = u64::from_le_bytes(self.array()?);
                    let n = self.length(n)?;
                    let bytes = self.take(n)?.to_vec();
                    self.push(Value::Bytes(bytes));
                }
                EMPTY_LIST => self.push(Value::List(Vec::new())),
                APPEND => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                APPENDS | ADDITEMS => {
                    let items = self.pop_mark()?;
                    self.append(items)?;
                }
                LIST => {
                    let items = self.pop_mark()?;
                    self.push(Value::List(items));
                }
                EMPTY_TUPLE => self.push(Value::Tuple(Vec::new())),
                TUPLE => {
                    let items = self.pop_mark()?;
                    self.push(Value::Tuple(items));
                }
                TUPLE1 => self.tuple(1)?,
                TUPLE2 => self.tuple(2)?,
                TUPLE3 => self.tuple(3)?,
                EMPTY_DICT => self.push(Value::Dict(Vec::new())),
                DICT => {
                    let items = self.pop_mark()?;
                    self.push(Value::Dict(Vec::new()));
                    self.set_items(&items)?;
                }
                SETITEM => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set_items(&[key, value])?;
                }
                SETITEMS => {
                    let items = self.pop_mark()?;
                    self.set_items(&items)?;
                }
                EMPTY_SET => self.push(Value::Set(Vec::new())),
                FROZENSET => {
                    let items = self.pop_mark()?;
                    self.push(Value::Set(items));
                }
                BINGET => {
                    let [key] = self.array()?;
                    self.recall(key.into())?;
                }
                LONG_BINGET => {
                    let key = u32::from_le_bytes(self.array()?);
                    self.recall(key)?;
                }
                BINPUT => {
                    let [key] = self.array()?;
                    self.remember(key.into())?;
                }
                LONG_BINPUT => {
                    let key = u32::from_le_bytes(self.array()?);
                    self.remember(key)?;
                }
                MEMOIZE => {
                    self.memoize()?;
                }
                GLOBAL => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.global(&module, &name)?;
                }
                STACK_GLOBAL => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    self.stack_global(module, name)?;
                }
                REDUCE => self.call()?,
                NEWOBJ => self.new_object(1)?,
                NEWOBJ_EX => self.new_object(2)?,
                BUILD => self.build()?,
                BINPERSID => {
                    let id = self.pop()?;
                    self.push(Value::Persistent(id));
                }
                other => return Err(PickleError::Opcode(self.position() - 1, other)),
            }
        }
    }
}
