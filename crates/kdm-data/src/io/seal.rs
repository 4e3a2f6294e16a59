//! A checksum of a file within the file, so that no damage goes unnoticed: the CRC-32C of all its
//! bytes, header and metadata among them, where the checksum's own eight digits count as zeros.
//!
//! Processors compute it as fast as they read. It finds every change of up to 32 bits in a row;
//! it is no protection against people who mean to deceive.

use serde_json::{Value, json};

/// The key of our JSON that holds it.
pub(super) const KEY: &str = "checksum";

/// What its value begins with.
const NAME: &str = "crc32c:";
const ZEROS: &str = "00000000";

/// The metadata with a place for the checksum; what is no object has none.
pub(super) fn with_place(metadata: &Value) -> Value {
    let mut metadata = metadata.clone();
    if let Value::Object(object) = &mut metadata {
        object.insert(KEY.into(), json!(format!("{NAME}{ZEROS}")));
    }
    metadata
}

/// Where the digits are in a file whose header ends at `end`: behind the first key of this name in
/// our JSON, which is a string there.
fn place(bytes: &[u8], end: usize) -> Option<usize> {
    let mark = format!(r#"\"{KEY}\":\"{NAME}"#).into_bytes();
    let at = bytes[..end].windows(mark.len()).position(|window| window == mark)? + mark.len();
    (at + ZEROS.len() <= end).then_some(at)
}

fn checksum(bytes: &[u8], at: usize) -> String {
    let sum = crc32c::crc32c(&bytes[..at]);
    let sum = crc32c::crc32c_append(sum, ZEROS.as_bytes());
    format!("{:08x}", crc32c::crc32c_append(sum, &bytes[at + ZEROS.len()..]))
}

/// Fills the place that [`with_place`] made, in a file whose header ends at `end`.
pub(super) fn seal(bytes: &mut [u8], end: usize) {
    if let Some(at) = place(bytes, end) {
        let digits = checksum(bytes, at);
        bytes[at..at + digits.len()].copy_from_slice(digits.as_bytes());
    }
}

/// What is wrong with a file whose header ends at `end` and has this metadata, in words; nothing
/// with a file that has no checksum, as those before this format.
pub(super) fn problem(bytes: &[u8], end: usize, metadata: &Value) -> Option<String> {
    let recorded = metadata.get(KEY)?;
    let Some(digits) = recorded.as_str().and_then(|text| text.strip_prefix(NAME)) else {
        return Some(format!("is {recorded}, which is none that this program knows"));
    };
    let found = place(bytes, end).map(|at| checksum(bytes, at));
    match found {
        Some(found) if found == digits => None,
        Some(found) => Some(format!("is {digits}, and the file's bytes have {found}")),
        None => Some("is not where it should be".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_anywhere_is_found() {
        // As safetensors writes a header: our JSON is a string in it.
        let metadata = with_place(&json!({"kind": "x", "config": {"checksum": "crc32c:1"}}));
        let header = json!({"__metadata__": {"kdm": metadata.to_string()}}).to_string();
        let mut bytes = [header.as_bytes(), &[7; 100]].concat();
        seal(&mut bytes, header.len());
        let read = |bytes: &[u8]| -> Option<Value> {
            let header: Value = serde_json::from_slice(&bytes[..header.len()]).ok()?;
            serde_json::from_str(header["__metadata__"]["kdm"].as_str()?).ok()
        };
        let metadata = read(&bytes).unwrap();
        assert_ne!(metadata[KEY], "crc32c:00000000");
        assert_eq!(problem(&bytes, header.len(), &metadata), None);
        for at in 0..bytes.len() {
            for bit in [0, 5] {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let Some(metadata) = read(&changed) else { continue };
                // A checksum whose key has changed its name guards nothing, but nothing else has
                // changed then.
                let without = metadata.get(KEY).is_none();
                assert!(without || problem(&changed, header.len(), &metadata).is_some(), "{at}");
            }
        }
        assert!(problem(&bytes, header.len(), &json!({"checksum": "md5:1"})).is_some());
        assert_eq!(problem(&bytes, header.len(), &json!({"kind": "x"})), None);
        assert_eq!(with_place(&Value::Null), Value::Null);
    }
}
