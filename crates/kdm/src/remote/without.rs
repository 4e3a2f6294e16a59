//! A build without object storage.

use super::{Address, Objects, SCHEME};
use crate::{Failure, Outcome};

/// A bucket, of which there is none in this build.
pub(super) enum Bucket {}

/// Refuses.
///
/// # Errors
/// Always, with what to do.
pub(super) fn open(address: &Address) -> Outcome<Bucket> {
    Err(Failure::Usage(format!(
        "{SCHEME}{}/{}: this build of kdm reads no object storage; build it with `cargo build \
         --release --features cloud`, or copy the store into a folder",
        address.bucket, address.prefix
    )))
}

impl Objects for Bucket {
    fn get(&self, _: &str) -> Outcome<Vec<u8>> {
        match *self {}
    }
}
