//! Statistics of features in a pickle, as EDM2 publishes them: a dict with `mu` and `sigma`, alone
//! or under `fid`.

use std::path::Path;

use kdm_data::{Error, Result, regular};

use crate::pickle::{Id, Pickle};

const ACTION: &str = "give a .pkl with `mu` and `sigma`, alone or under `fid`, as EDM2's are, or \
                      save them with numpy.savez(\"stats.npz\", mu=mu, sigma=sigma)";
/// More than statistics of 4096 values take in f64.
const MOST_BYTES: u64 = 1 << 28;
const MOST_VALUES: usize = 4096;

/// Mean `[dim]` and covariance `[dim, dim]` of features, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// The mean.
    pub mean: Vec<f64>,
    /// The covariance.
    pub covariance: Vec<f64>,
}

/// Reads the pickle at `path` as data: nothing in it is run.
///
/// # Errors
/// When it is damaged, has no `mu` and `sigma`, or they are of other shapes or types.
pub fn read(path: &Path) -> Result<Moments> {
    let invalid = |field: &str, problem: String| Error::invalid(path, field, problem, ACTION);
    let bytes = regular::read(path, MOST_BYTES)?;
    let pickle = Pickle::parse(&bytes).map_err(|e| invalid("pickle", e.to_string()))?;
    let root = pickle.root;
    let place = pickle.field(root, "fid").unwrap_or(root);
    let array = |name: &str| {
        let id = pickle.field(place, name).ok_or_else(|| invalid(name, "is missing".into()))?;
        numbers(&pickle, id).ok_or_else(|| {
            invalid(name, format!("is no array of floats with at most {MOST_VALUES} rows"))
        })
    };
    let ((shape, mean), (square, covariance)) = (array("mu")?, array("sigma")?);
    let dim = mean.len();
    if dim == 0 || square != [dim, dim] {
        let problem = format!("is {square:?}, and mu is {shape:?}");
        return Err(invalid("sigma", problem));
    }
    Ok(Moments { mean, covariance })
}

/// Shape and values of an array of floats.
fn numbers(pickle: &Pickle, id: Id) -> Option<(Vec<usize>, Vec<f64>)> {
    let array = pickle.ndarray(id)?;
    let width = match array.descr.as_str() {
        "<f8" => 8,
        "<f4" => 4,
        _ => return None,
    };
    if array.fortran && array.shape.len() > 1 || array.shape.iter().any(|n| *n > MOST_VALUES) {
        return None;
    }
    let count = array.shape.iter().try_fold(1usize, |n, size| n.checked_mul(*size))?;
    let length = count.checked_mul(width)?;
    let bytes = pickle.bytes_of_most(array.data, length).filter(|b| b.len() == length)?;
    let values = match width {
        8 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        _ => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect(),
    };
    Some((array.shape, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An array as NumPy pickles it.
    fn array(shape: &[u8], values: &[f64]) -> Vec<u8> {
        let mut bytes =
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R(K\x01("
                .to_vec();
        shape.iter().for_each(|size| bytes.extend([b'K', *size]));
        bytes.extend(b"tcnumpy\ndtype\nX\x02\0\0\0f8\x89\x88\x87R(K\x03X\x01\0\0\0<NNNJ\xff\xff");
        bytes.extend(b"\xff\xffJ\xff\xff\xff\xffK\0tb\x89B");
        bytes.extend(((8 * values.len()) as u32).to_le_bytes());
        values.iter().for_each(|x| bytes.extend(x.to_le_bytes()));
        bytes.extend(b"tb");
        bytes
    }

    fn dict(mu: &[u8], sigma: &[u8]) -> Vec<u8> {
        [b"}(X\x02\0\0\0mu", mu, b"X\x05\0\0\0sigma", sigma, b"u"].concat()
    }

    #[test]
    fn moments_are_read_alone_or_under_fid_and_others_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stats.pkl");
        let read = |inner: &[u8]| {
            std::fs::write(&path, [b"\x80\x02", inner, b"."].concat()).unwrap();
            read(&path)
        };
        let (mu, sigma) = (array(&[2], &[1.0, 2.0]), array(&[2, 2], &[1.0, 0.5, 0.5, 3.0]));
        let own = dict(&mu, &sigma);
        let found = read(&own).unwrap();
        assert_eq!((found.mean.len(), &found.covariance[..]), (2, &[1.0, 0.5, 0.5, 3.0][..]));
        assert_eq!(read(&[b"}(X\x03\0\0\0fid", &own[..], b"u"].concat()).unwrap(), found);
        for (inner, part) in [
            (dict(&mu, &array(&[3, 3], &[0.0; 9])), "sigma: is [3, 3]"),
            (dict(&mu, &array(&[2, 2], &[0.0; 3])), "sigma: is no array"),
            (dict(&mu, b"N"), "sigma: is no array"),
            (b"}".to_vec(), "mu: is missing"),
            (b"cos\nsystem\nX\x02\0\0\0ls\x85R".to_vec(), "mu: is missing"),
        ] {
            let message = read(&inner).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
