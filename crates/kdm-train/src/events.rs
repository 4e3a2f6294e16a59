//! TensorBoard's event files, of scalars, pictures and texts: a chain of records, each a length,
//! its masked CRC-32C, a protocol buffer `Event` and its masked CRC-32C
//! (tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto). The crates that
//! write this format have not been kept up, and the few fields needed here are short.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use kdm_data::{Error, Result};

use crate::task::Picture;

/// Appends to one event file.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// A new file in `folder`. `resumed_at`: iterations whose points in earlier files of the folder
    /// still hold; viewers drop later ones.
    ///
    /// # Errors
    /// When the file can't be created.
    pub fn create(folder: &Path, resumed_at: u64) -> Result<Self> {
        let nanos = now().as_nanos();
        let path = folder.join(format!(
            "events.out.tfevents.{}.{:09}.kdm",
            nanos / 1_000_000_000,
            nanos % 1_000_000_000
        ));
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .open(&path)
            .map_err(Error::io("create", &path))?;
        let mut writer = Self { path, file };
        // file_version, field 3
        writer.event(0, &length_delimited(3, b"brain.Event:2"))?;
        // session_log { status: START }, field 7
        writer.event(resumed_at + 1, &length_delimited(7, &[0x08, 0x01]))?;
        Ok(writer)
    }

    /// One value of each named quantity at `step`.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn scalars(&mut self, step: u64, values: &[(String, f64)]) -> Result<()> {
        // Event.summary (5) { repeated Summary.value (1) { tag (1), simple_value (2) } }
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut entry = length_delimited(1, tag.as_bytes());
            entry.push(0x15);
            entry.extend((*value as f32).to_le_bytes());
            summary.extend(length_delimited(1, &entry));
        }
        self.event(step, &length_delimited(5, &summary))
    }

    /// A PNG at `step`.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn picture(&mut self, step: u64, tag: &str, picture: &Picture) -> Result<()> {
        // Value.image (4) { height (1), width (2), colorspace (3), encoded_image_string (4) }
        let mut image = Vec::new();
        for (field, value) in [(1u8, picture.height), (2, picture.width), (3, 3)] {
            image.push(field << 3);
            varint(u64::from(value), &mut image);
        }
        image.extend(length_delimited(4, &picture.png));
        let mut entry = length_delimited(1, tag.as_bytes());
        entry.extend(length_delimited(4, &image));
        self.event(step, &length_delimited(5, &length_delimited(1, &entry)))
    }

    /// A text, shown as Markdown.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn text(&mut self, step: u64, tag: &str, text: &str) -> Result<()> {
        // Value.tensor (8) { dtype (1): DT_STRING, tensor_shape (2) {}, string_val (8) },
        // Value.metadata (9) { plugin_data (1) { plugin_name (1) } }
        let mut tensor = vec![0x08, 7];
        tensor.extend(length_delimited(2, &[]));
        tensor.extend(length_delimited(8, text.as_bytes()));
        let plugin = length_delimited(1, &length_delimited(1, b"text"));
        let mut entry = length_delimited(1, tag.as_bytes());
        entry.extend(length_delimited(8, &tensor));
        entry.extend(length_delimited(9, &plugin));
        self.event(step, &length_delimited(5, &length_delimited(1, &entry)))
    }

    fn event(&mut self, step: u64, rest: &[u8]) -> Result<()> {
        // wall_time (1, double), step (2, int64)
        let mut event = vec![0x09];
        event.extend(now().as_secs_f64().to_le_bytes());
        event.push(0x10);
        varint(step, &mut event);
        event.extend(rest);
        let length = (event.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(masked_crc(&length).to_le_bytes());
        record.extend(&event);
        record.extend(masked_crc(&event).to_le_bytes());
        self.file.write_all(&record).map_err(Error::io("write", &self.path))
    }
}

fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn length_delimited(field: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    varint(bytes.len() as u64, &mut out);
    out.extend(bytes);
    out
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the file back by the format's own rules: lengths, checksums and tags.
    #[test]
    fn records_have_the_right_frame() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path(), 0).unwrap();
        writer.scalars(300, &[("train/loss".into(), 1.5), ("train/lr".into(), 1e-3)]).unwrap();
        let picture = Picture { png: b"PNG".to_vec(), width: 3, height: 2 };
        writer.picture(300, "samples", &picture).unwrap();
        writer.text(0, "configuration", "a = 1").unwrap();
        let bytes = std::fs::read(&writer.path).unwrap();
        let mut rest = bytes.as_slice();
        let mut events = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(masked_crc(&rest[..8]).to_le_bytes(), rest[8..12]);
            let event = &rest[12..12 + length];
            assert_eq!(masked_crc(event).to_le_bytes(), rest[12 + length..16 + length]);
            events.push(event.to_vec());
            rest = &rest[16 + length..];
        }
        assert_eq!(events.len(), 5);
        let holds = |event: &[u8], part: &[u8]| event.windows(part.len()).any(|w| w == part);
        // image { height: 2, width: 3, colorspace: 3, encoded: "PNG" }
        assert!(holds(&events[3], b"\x08\x02\x10\x03\x18\x03\x22\x03PNG"));
        assert!(holds(&events[4], b"a = 1") && holds(&events[4], b"\x0a\x06\x0a\x04text"));
        assert_eq!(events[2][9..12], [0x10, 0xAC, 0x02]);
        let value = [&[0x15][..], &1.5f32.to_le_bytes()].concat();
        assert!(
            events[2].windows(5).any(|w| w == value)
                && events[2].windows(10).any(|w| w == b"train/loss")
        );
        // CRC-32C's published check value.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xE306_9283);
    }
}
