//! The folder of a store: claimed for a plan before the first pair, completed after the last.

use std::path::Path;

use super::at_hand;
use super::manifest::{ImageType, MANIFEST, Manifest, ShardRecord};
use super::plausible::fault;
use super::store::{DRAW_AGAIN, check_shard};
use crate::hash::sha256;
use crate::{Error, Result};

/// Whether there can be a store of this plan.
pub(super) fn check_plan(folder: &Path, plan: &Manifest) -> Result<()> {
    if plan.dtype == ImageType::U8 && plan.shape.len() == 1 {
        let problem = "is u8, which keeps images in [-1, 1], and these are points";
        return Err(Error::invalid(folder, "dtype", problem, "choose f32 or f16"));
    }
    if let Some((field, problem)) = fault(plan) {
        return Err(Error::invalid(folder, field, problem, "plan a store that can be"));
    }
    Ok(())
}

/// Claims `folder` for the plan. Gives the manifest of a store that is already complete.
pub(super) fn start(folder: &Path, plan: &Manifest) -> Result<Option<Manifest>> {
    let path = folder.join(MANIFEST);
    if path.exists() {
        let found = Manifest::read(folder)?;
        if at_hand::grows(&found, plan) {
            at_hand::grow(folder, found, plan)?;
            return Ok(None);
        }
        if let Some(error) = at_hand::other_store(folder, &found, plan) {
            return Err(error);
        }
        return Ok(found.is_complete().then_some(found));
    }
    let mut others = std::fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let foreign = others.find_map(|entry| {
        let name = entry.ok()?.file_name().to_string_lossy().into_owned();
        (!name.starts_with('.')).then_some(name)
    });
    if let Some(name) = foreign {
        return Err(Error::invalid(
            folder,
            "folder",
            format!("holds `{name}` and no {MANIFEST}, so it is no pair store"),
            "choose an empty or a new folder",
        ));
    }
    plan.write(folder)?;
    Ok(None)
}

/// Completes the manifest when every shard is there. Several workers may come here at once: they
/// all write the same. Where the store was complete before and a shard was drawn again, the
/// checksums on record still hold.
pub(super) fn complete(
    folder: &Path,
    plan: Manifest,
    recorded: Option<Manifest>,
) -> Result<Manifest> {
    let count = plan.shard_count();
    if !(0..count).all(|k| plan.shard_path(folder, k).exists()) {
        return Ok(plan);
    }
    let shards: Vec<ShardRecord> = (0..count)
        .map(|k| {
            let file = check_shard(folder, &plan, k)?;
            let name = file.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok(ShardRecord {
                file: name,
                count: plan.shard_range(k).len(),
                sha256: sha256(file.bytes()),
            })
        })
        .collect::<Result<_>>()?;
    if let Some(recorded) = recorded {
        return match shards.iter().zip(&recorded.shards).find(|(new, old)| new != old) {
            None => Ok(recorded),
            Some((new, old)) => Err(changed(&folder.join(&new.file), &new.sha256, &old.sha256)),
        };
    }
    let manifest = Manifest { shards, ..plan };
    manifest.write(folder)?;
    at_hand::forget_earlier(folder);
    Manifest::read(folder)
}

/// A shard whose bytes are not those on record.
pub(super) fn changed(path: &Path, found: &str, recorded: &str) -> Error {
    let problem = format!("is {found} where the manifest has {recorded}: the file has changed");
    Error::invalid(path, "sha256", problem, DRAW_AGAIN)
}
