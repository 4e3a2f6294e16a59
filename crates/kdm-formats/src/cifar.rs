//! CIFAR's batches of the Python version: pickles of a dict with `data` and `labels`.

use kdm_data::images::{Batch, UnpickleError};

use crate::pickle::{Id, Pickle, Value};

/// Values an image: red, green and blue planes of 32x32 pixels.
const IMAGE: usize = 3 * 32 * 32;

/// Reads a batch's pickle as data: nothing in it is run.
///
/// # Errors
/// When it is damaged, or holds no batch.
pub fn unpickle(bytes: &[u8]) -> Result<Batch, UnpickleError> {
    let bad = |text: &str| UnpickleError(format!("is a pickle, and {text}"));
    let pickle = Pickle::parse(bytes).map_err(|e| bad(&format!("damaged: {e}")))?;
    // Python 2 wrote it: keys are bytes where Python 3 reads it.
    let field = |name: &str| {
        let is = |id: Id| {
            pickle.text(id) == Some(name)
                || pickle.bytes_of_most(id, 64).is_some_and(|key| key[..] == *name.as_bytes())
        };
        pickle.pairs(pickle.root).find(|(key, _)| is(*key)).map(|(_, value)| value)
    };
    let data = field("data").ok_or_else(|| bad("holds no `data`"))?;
    let array = pickle.ndarray(data).filter(|array| {
        matches!(array.shape[..], [_, IMAGE]) && array.descr == "|u1" && !array.fortran
    });
    let array = array.ok_or_else(|| bad("`data` is no array of bytes with rows of 3072"))?;
    let count = array.shape[0];
    let values = count
        .checked_mul(IMAGE)
        .and_then(|most| pickle.bytes_of_most(array.data, most))
        .filter(|values| values.len() == count * IMAGE)
        .ok_or_else(|| bad("`data` has fewer values than its shape"))?;
    let labels = field("labels").or_else(|| field("fine_labels"));
    let labels = labels.and_then(|id| pickle.items(id)).unwrap_or_default();
    let class = |id: &Id| match pickle.get(*id) {
        Value::Int(class) => u32::try_from(*class).ok(),
        _ => None,
    };
    let labels: Option<Vec<u32>> = labels.iter().map(class).collect();
    let labels = labels.filter(|labels| labels.len() == count);
    let labels = labels.ok_or_else(|| bad("has not one class for each image"))?;
    Ok(Batch { data: values.into_owned(), labels })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"data": <array of 1 image>, "labels": [3]}` as Python 3 pickles it with NumPy 1.
    fn batch(rows: u8, image: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x80\x02}(X\x04\x00\x00\x00datacnumpy.core.multiarray\n_reconstruct\n\
            cnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01K"
            .to_vec();
        bytes.push(rows);
        bytes.extend(b"M\x00\x0c\x86cnumpy\ndtype\nX\x02\x00\x00\x00u1\x89\x88\x87R");
        bytes.extend(b"(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89B");
        bytes.extend((image.len() as u32).to_le_bytes());
        bytes.extend(image);
        bytes.extend(b"tbX\x06\x00\x00\x00labels](K\x03eu.");
        bytes
    }

    #[test]
    fn a_batch_is_read_and_others_are_refused() {
        let image: Vec<u8> = (0..IMAGE).map(|i| (i % 251) as u8).collect();
        let found = unpickle(&batch(1, &image)).unwrap();
        assert_eq!((found.data, found.labels), (image.clone(), vec![3]));
        for (bytes, part) in [
            (batch(2, &image), "fewer"),
            (batch(1, &image[1..]), "fewer"),
            (b"\x80\x02}.".to_vec(), "no `data`"),
            (b"\x80\x02X".to_vec(), "damaged"),
        ] {
            let message = unpickle(&bytes).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
