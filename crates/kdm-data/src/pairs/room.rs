//! Whether a disk has room for a store, asked before anything is drawn.

use std::path::Path;

use super::manifest::Manifest;
use crate::{Error, Result, machine};

/// Whether the disk has room for what is still to be written. What is in the folder already counts
/// as written.
pub(super) fn check_room(folder: &Path, plan: &Manifest) -> Result<()> {
    check(folder, plan, machine::free_disk(folder))
}

fn check(folder: &Path, plan: &Manifest, free: Option<u64>) -> Result<()> {
    let needed = plan.bytes().saturating_sub(machine::taken_by(folder));
    match free {
        Some(free) if needed > free => {
            let size = |bytes: u64| format!("{:.3} GB", bytes as f64 / 1e9);
            let problem = format!(
                "the {} pairs of the store still need {}, and {} are free",
                plan.count,
                size(needed),
                size(free)
            );
            let action = "free some space, choose a folder on another disk, or give fewer pairs \
                          (--count, or pairs.count of an experiment) or smaller numbers (--dtype, \
                          or pairs.dtype)";
            Err(Error::invalid(folder, "disk", problem, action))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_that_the_disk_has_no_room_for_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        // 8 bytes of a point in the plane, 8 of its seed.
        let plan = Manifest::seeded(0, 1.0, &[2], 1_000_000);
        assert_eq!(plan.bytes(), 16_000_000);
        check(folder.path(), &plan, Some(16_000_000)).unwrap();
        check(folder.path(), &plan, None).unwrap();
        let message = check(folder.path(), &plan, Some(15_999_999)).unwrap_err().to_string();
        assert!(message.contains("0.016 GB") && message.contains("pairs.count"), "{message}");
        // What is there already needs no room.
        std::fs::write(folder.path().join("shard"), [0; 1]).unwrap();
        check(folder.path(), &plan, Some(15_999_999)).unwrap();
        let huge = Manifest { count: usize::MAX, ..plan };
        assert!(check(folder.path(), &huge, Some(u64::MAX / 2)).is_err());
    }
}
