//! NumPy's arrays in a pickle.

use super::{Id, Pickle, Value};

/// An array as its pickle tells of it: nothing is checked against anything yet.
#[derive(Clone, Debug, PartialEq)]
pub struct NdArray {
    /// The numbers' type as NumPy writes it, byte order first: `<f4`, `|u1`, `>i8`.
    pub descr: String,
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// Whether the first axis is the fastest.
    pub fortran: bool,
    /// The numbers: bytes, for [`Pickle::bytes_of_most`].
    pub data: Id,
}

impl Pickle {
    /// An array of NumPy, in the two forms that pickles have them: `_reconstruct` with a state,
    /// and `_frombuffer` of protocol 5. None where the value is none, or one of Python objects.
    pub fn ndarray(&self, id: Id) -> Option<NdArray> {
        let Value::Call(function, arguments) = self.get(id) else { return None };
        let (shape, dtype, fortran, bytes) = if function.ends_with(".multiarray._reconstruct") {
            let [_version, shape, dtype, fortran, bytes] = self.tuple(self.state(id)?)? else {
                return None;
            };
            (*shape, *dtype, *self.get(*fortran) == Value::Bool(true), *bytes)
        } else if function.ends_with(".numeric._frombuffer") {
            let [bytes, dtype, shape, order] = self.tuple(*arguments)? else { return None };
            (*shape, *dtype, self.text(*order) == Some("F"), *bytes)
        } else {
            return None;
        };
        let size = |id: &Id| match self.get(*id) {
            Value::Int(i) => usize::try_from(*i).ok(),
            _ => None,
        };
        let shape = self.items(shape)?;
        (shape.len() <= 64).then_some(())?;
        Some(NdArray {
            descr: self.descr(dtype)?,
            shape: shape.iter().map(size).collect::<Option<Vec<usize>>>()?,
            fortran,
            data: bytes,
        })
    }

    /// A NumPy type as text: a call on the name without byte order, which its state tells.
    fn descr(&self, id: Id) -> Option<String> {
        let Value::Call(function, arguments) = self.get(id) else { return None };
        if &**function != "numpy.dtype" {
            return None;
        }
        let name = self.text(*self.tuple(*arguments)?.first()?)?;
        let order = self.state(id).and_then(|state| self.text(*self.tuple(state)?.get(1)?));
        match (name.as_bytes().first()?, order) {
            (b'O' | b'V' | b'U' | b'S', _) => None,
            (b'<' | b'>' | b'|' | b'=', _) => Some(name.replacen('=', "<", 1)),
            (_, Some(order @ ("<" | ">" | "|"))) => Some(format!("{order}{name}")),
            _ if name.ends_with('1') => Some(format!("|{name}")),
            _ => Some(format!("<{name}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `pickle.dumps(numpy.array([[1, 2], [3, 4]], "<u2"), 2)`, and the same of `order="F"` with
    /// protocol 5.
    #[test]
    fn arrays_are_read_in_both_forms() {
        let two = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\
            \x85q\x02c_codecs\nencode\nq\x03X\x01\x00\x00\x00bq\x04X\x06\x00\x00\x00latin1q\x05\
            \x86q\x06Rq\x07\x87q\x08Rq\x09(K\x01K\x02K\x02\x86q\x0acnumpy\ndtype\nq\x0bX\x02\x00\
            \x00\x00u2q\x0cK\x00K\x01\x87q\x0dRq\x0e(K\x03X\x01\x00\x00\x00<q\x0fNNNJ\xff\xff\xff\
            \xffJ\xff\xff\xff\xffK\x00tq\x10b\x89h\x03X\x08\x00\x00\x00\x01\x00\x02\x00\x03\x00\
            \x04\x00h\x05\x86q\x11Rq\x12tq\x13b.";
        let pickle = Pickle::parse(two).unwrap();
        let array = pickle.ndarray(pickle.root).unwrap();
        assert_eq!(
            (array.descr.as_str(), &array.shape[..], array.fortran),
            ("<u2", &[2, 2][..], false)
        );
        assert_eq!(pickle.bytes(array.data).unwrap(), &[1, 0, 2, 0, 3, 0, 4, 0][..]);
        assert_eq!(pickle.bytes_of_most(array.data, 2), None);
        let five = b"\x80\x05cnumpy.core.numeric\n_frombuffer\n(\x96\x08\x00\x00\x00\x00\x00\x00\
            \x00\x01\x00\x03\x00\x02\x00\x04\x00cnumpy\ndtype\n\x8c\x02u2\x89\x88\x87R(K\x03\x8c\
            \x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbK\x02K\x02\x86\x8c\x01FtR.";
        let pickle = Pickle::parse(five).unwrap();
        let array = pickle.ndarray(pickle.root).unwrap();
        assert!(
            array.fortran && array.descr == "<u2" && pickle.bytes(array.data).unwrap().len() == 8
        );
    }
}
