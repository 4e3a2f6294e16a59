//! What is there already of a shard that is still to be written: its first pairs, from a drawing
//! that was stopped in the middle of it, or from the same store when it had fewer pairs.

use std::path::{Path, PathBuf};

use super::manifest::{MANIFEST, Manifest, NoiseSource};
use super::shard::{read_pairs, write_pairs};
use super::store::{check_shard, sizes_fit};
use crate::hash::sha256;
use crate::{Error, Result, Samples, TensorFile, atomic};

/// The manifests that a store which is growing has had before, the oldest first. The shards that
/// were written for them are taken over.
const EARLIER: &str = ".earlier.json";

/// Where the first pairs of shard `k` are kept while it is not whole.
fn begun_path(folder: &Path, k: usize) -> PathBuf {
    folder.join(format!(".begun-{k:05}.safetensors"))
}

/// Whether the store `found` can become that of `plan` by drawing more pairs: nothing differs but a
/// greater count.
pub(super) fn grows(found: &Manifest, plan: &Manifest) -> bool {
    matches!(found.noise, NoiseSource::Seeded { first_seed: Some(_), .. })
        && plan.count > found.count
        && Manifest { count: plan.count, ..found.plan() } == plan.plan()
}

/// Makes the store in `folder`, which is `found`, one of `plan`, into which it [`grows`]. Killed in
/// between, it is the one or the other.
pub(super) fn grow(folder: &Path, found: Manifest, plan: &Manifest) -> Result<()> {
    let mut earlier = earlier(folder);
    earlier.retain(|other| *other != found);
    earlier.push(found);
    let text = serde_json::to_string(&earlier).expect("plain data");
    atomic::write(&folder.join(EARLIER), text.as_bytes())?;
    plan.write(folder)
}

/// See [`EARLIER`]; none where that can't be read, since pairs can always be drawn again.
pub(super) fn earlier(folder: &Path) -> Vec<Manifest> {
    let text = std::fs::read_to_string(folder.join(EARLIER)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Keeps the first pairs of shard `k`.
pub(super) fn keep(folder: &Path, plan: &Manifest, k: usize, pairs: &Samples) -> Result<()> {
    if pairs.is_empty() {
        return Ok(());
    }
    write_pairs(&begun_path(folder, k), plan, k, pairs)
}

/// Removes what was kept of shard `k`, which is whole now.
pub(super) fn forget(folder: &Path, k: usize) {
    let path = begun_path(folder, k);
    if path.exists() {
        let _ = std::fs::remove_file(path);
    }
}

/// Removes the memory of the smaller store: its shards were taken over.
pub(super) fn forget_earlier(folder: &Path) {
    let path = folder.join(EARLIER);
    if path.exists() {
        let _ = std::fs::remove_file(path);
    }
}

/// The pairs of shard `k` that are there already, from its first on; there may be none.
pub(super) fn pairs_of(folder: &Path, plan: &Manifest, earlier: &[Manifest], k: usize) -> Samples {
    let begun = std::iter::once(plan).chain(earlier).find_map(|plan| begun_pairs(folder, plan, k));
    let whole = earlier.iter().rev().find_map(|plan| whole_pairs(folder, plan, k));
    let none = || Samples { shape: plan.shape.clone(), ..Samples::default() };
    let most = [begun, whole].into_iter().flatten().max_by_key(Samples::len);
    most.map_or_else(none, |pairs| pairs.first(plan.shard_range(k).len()))
}

/// The pairs of shard `k` of an earlier plan, where it is as it was.
fn whole_pairs(folder: &Path, plan: &Manifest, k: usize) -> Option<Samples> {
    if k >= plan.shard_count() {
        return None;
    }
    let file = check_shard(folder, plan, k).ok()?;
    let recorded = plan.shards.get(k);
    if recorded.is_some_and(|record| record.sha256 != sha256(file.bytes())) {
        return None;
    }
    let pairs = read_pairs(&file, plan, plan.shard_range(k).len());
    expected(plan, k, &pairs).then_some(pairs)
}

/// The first pairs of shard `k` of a plan that were kept.
fn begun_pairs(folder: &Path, plan: &Manifest, k: usize) -> Option<Samples> {
    let path = begun_path(folder, k);
    if !path.exists() {
        return None;
    }
    let file = TensorFile::open(&path).ok()?;
    if file.metadata()["plan"] != plan.plan_hash().as_str() || file.metadata()["shard"] != k {
        return None;
    }
    let count = *file.get("image")?.shape.first()?;
    sizes_fit(&file, plan, count).ok()?;
    let pairs = read_pairs(&file, plan, count);
    expected(plan, k, &pairs).then_some(pairs)
}

/// Whether pairs have the seeds of those that shard `k` begins with. Of stored noise the plan alone
/// says so: it names what was imported, or whoever writes the store goes on after these pairs.
fn expected(plan: &Manifest, k: usize, pairs: &Samples) -> bool {
    if plan.noise == NoiseSource::Stored {
        return true;
    }
    let NoiseSource::Seeded { first_seed: Some(first), .. } = plan.noise else { return false };
    let start = first.wrapping_add(plan.shard_range(k).start as u64);
    (0..).zip(&pairs.seeds).all(|(i, seed)| *seed == start.wrapping_add(i))
}

/// Why the store `found` in `folder` is not the one that is asked for.
pub(super) fn other_store(folder: &Path, found: &Manifest, plan: &Manifest) -> Option<Error> {
    let (field, theirs, ours) = found.first_difference(plan)?;
    let action = if field == "count" {
        "ask for as many or more: a store of seeded pairs can grow, not shrink; or choose another \
         folder with --out"
    } else {
        "choose another folder with --out, or give the command the store was begun with"
    };
    let problem = format!("this store was begun with {theirs}, and this command wants {ours}");
    Some(Error::invalid(folder.join(MANIFEST), field, problem, action))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Labels;
    use crate::pairs::{ImageType, PairStore, Share, Worker, generate, generate_watched, verify};
    use kdm_observer::{Event, Observer, Silent, Stopped};
    use std::cell::Cell;
    use std::time::Duration;

    fn plan(dtype: ImageType, count: usize) -> Manifest {
        Manifest { dtype, label_dim: 3, shard_size: 10, ..Manifest::seeded(5, 1.0, &[2, 3], count) }
    }

    fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let read = |entry: std::fs::DirEntry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).unwrap())
        };
        let mut all: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap())).collect();
        all.sort();
        all
    }

    /// Draws sines; gives how many pairs were drawn.
    fn draw(
        folder: &Path,
        plan: &Manifest,
        worker: Worker,
        observer: &dyn Observer,
    ) -> Result<usize> {
        let drawn = Cell::new(0);
        let mut sines = |noise: &[f32], labels: &Labels| -> Vec<f32> {
            drawn.set(drawn.get() + labels.len());
            noise.iter().map(|x| (x * 0.3).sin()).collect()
        };
        generate(folder, plan, worker, 4, &mut sines, "pairs", observer).map(|_| drawn.get())
    }

    /// Stops before the batch after that many pairs.
    struct StopAt(u64, Cell<bool>);

    impl Observer for StopAt {
        fn event(&self, event: &Event) {
            if let Event::Advanced { done, .. } = event {
                self.1.set(*done >= self.0);
            }
        }

        fn stopping(&self) -> bool {
            self.1.get()
        }
    }

    /// A store that grows, once or twice, is that of so many pairs from the beginning, to the byte,
    /// and no pair is drawn twice.
    #[test]
    fn a_grown_store_is_the_larger_store() {
        for dtype in [ImageType::F32, ImageType::F16, ImageType::U8] {
            let [whole, grown] = [(); 2].map(|()| tempfile::tempdir().unwrap());
            draw(whole.path(), &plan(dtype, 47), Worker::ALONE, &Silent).unwrap();
            for (count, more) in [(13, 13), (25, 12), (47, 22), (47, 0)] {
                let plan = plan(dtype, count);
                assert_eq!(draw(grown.path(), &plan, Worker::ALONE, &Silent).unwrap(), more);
                assert_eq!(verify(grown.path(), &Silent).unwrap().len(), count);
            }
            assert!(files(grown.path()) == files(whole.path()), "{dtype:?}");
        }
    }

    /// Stopped in the middle of growing, it goes on, to that size or to a greater one; two workers
    /// may grow it; and nothing of the work is lost.
    #[test]
    fn growing_can_be_stopped_and_shared() {
        let dtype = ImageType::F32;
        let [whole, grown, shared] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        draw(whole.path(), &plan(dtype, 47), Worker::ALONE, &Silent).unwrap();
        draw(grown.path(), &plan(dtype, 13), Worker::ALONE, &Silent).unwrap();
        let stop = StopAt(28, Cell::new(false));
        let stopped = draw(grown.path(), &plan(dtype, 36), Worker::ALONE, &stop);
        assert!(matches!(stopped, Err(Error::Stopped { .. })), "{stopped:?}");
        let message = PairStore::open(grown.path()).unwrap_err().to_string();
        assert!(message.contains("unfinished"), "{message}");
        assert_eq!(draw(grown.path(), &plan(dtype, 47), Worker::ALONE, &Silent).unwrap(), 47 - 28);
        assert!(files(grown.path()) == files(whole.path()));

        draw(shared.path(), &plan(dtype, 13), Worker::ALONE, &Silent).unwrap();
        for index in [1, 0] {
            let worker = Worker { index, count: 2 };
            draw(shared.path(), &plan(dtype, 47), worker, &Silent).unwrap();
        }
        assert!(files(shared.path()) == files(whole.path()));
    }

    /// Nothing but the number of pairs may differ, and that may not fall.
    #[test]
    fn another_store_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = plan(ImageType::F32, 13);
        draw(folder.path(), &first, Worker::ALONE, &Silent).unwrap();
        let before = files(folder.path());
        for (other, parts) in [
            (Manifest { count: 12, ..first.clone() }, ["count", "13", "grow, not shrink"]),
            (Manifest { count: 20, noise_std: 2.0, ..first.clone() }, ["count", "13", "--out"]),
            (Manifest { shard_size: 9, ..first.clone() }, ["shard_size", "10", "--out"]),
        ] {
            let message =
                draw(folder.path(), &other, Worker::ALONE, &Silent).unwrap_err().to_string();
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
        assert!(files(folder.path()) == before);
    }

    /// A shard of the smaller store whose bytes have changed is drawn again, and pairs that were
    /// kept for another store are not taken.
    #[test]
    fn what_has_changed_is_drawn_again() {
        let [whole, grown] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let (small, large) = (plan(ImageType::F32, 20), plan(ImageType::F32, 30));
        draw(whole.path(), &large, Worker::ALONE, &Silent).unwrap();
        draw(grown.path(), &small, Worker::ALONE, &Silent).unwrap();
        let path = small.shard_path(grown.path(), 1);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let other = Manifest { noise_std: 2.0, ..large.clone() };
        let pairs =
            read_pairs(&TensorFile::open(&large.shard_path(whole.path(), 2)).unwrap(), &large, 5);
        keep(grown.path(), &other, 2, &pairs).unwrap();
        assert_eq!(draw(grown.path(), &large, Worker::ALONE, &Silent).unwrap(), 20);
        assert!(files(grown.path()) == files(whole.path()));
    }

    /// The first pairs of a shard are kept by time too, so that a kill costs no more than that; and
    /// a teacher that tells how far it has come is stopped within a batch.
    #[test]
    fn a_shard_is_kept_on_its_way() {
        struct Hasty;
        impl Observer for Hasty {
            fn event(&self, _: &Event) {}
            fn keep_every(&self) -> Duration {
                Duration::ZERO
            }
        }
        let (folder, plan) = (tempfile::tempdir().unwrap(), plan(ImageType::F32, 10));
        let mut killed = |noise: &[f32], labels: &Labels| -> Vec<f32> {
            if labels.len() == 2 {
                panic!("as if killed");
            }
            noise.iter().map(|x| (x * 0.3).sin()).collect()
        };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            generate(folder.path(), &plan, Worker::ALONE, 4, &mut killed, "pairs", &Hasty)
        }));
        assert!(result.is_err());
        let shares = Cell::new(0);
        let stop = StopAt(9, Cell::new(false));
        let mut slow = |noise: &[f32], _: &Labels, share: &mut Share| {
            for part in 0..4 {
                share(f64::from(part) / 4.0)?;
                shares.set(shares.get() + 1);
            }
            Ok::<_, Stopped>(noise.to_vec().into())
        };
        // Two pairs are left of the ten: half of them is the ninth.
        let (at, alone) = (folder.path(), Worker::ALONE);
        let stopped = generate_watched(at, &plan, alone, 4, &mut slow, "pairs", &stop);
        assert!(matches!(stopped, Err(Error::Stopped { .. })), "{stopped:?}");
        assert_eq!(shares.get(), 2);
        assert_eq!(draw(at, &plan, alone, &Silent).unwrap(), 2);
    }
}
