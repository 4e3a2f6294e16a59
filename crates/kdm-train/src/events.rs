//! TensorBoard's event files, scalars only: a chain of records, each a length, its masked CRC-32C,
//! a protocol buffer `Event` and its masked CRC-32C (tensorflow/core/lib/io/record_writer.h,
//! tensorflow/core/util/event.proto). The crates that write this format have not been kept up, and
//! the few fields needed here are short.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use kdm_data::{Error, Result};

/// Appends scalars to one event file.
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
        assert_eq!(events.len(), 3);
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
