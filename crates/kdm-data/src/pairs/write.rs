//! Filling a store: shard by shard, each written whole or not at all, by one worker or by many.
//!
//! Which pairs a shard holds depends on the manifest alone, and what a pair is on its seed alone.
//! So the batch size, the number of threads, the worker, being killed and started again, and having
//! been smaller leave no trace in the files.

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use kdm_observer::{Observer, Progress, Stopped};
use rayon::prelude::*;

use super::at_hand;
use super::clipped::Clipped;
use super::draw::{Draw, Drawn, Share, WatchedDraw};
use super::manifest::{
    ImageType, MANIFEST, Manifest, NoiseSource, ShardRecord, label_of_seed, noise_of_seed,
};
use super::plausible::fault;
use super::room::check_room;
use super::shard::write_pairs;
use super::store::{DRAW_AGAIN, check_shard};
use crate::hash::sha256;
use crate::lock::FolderLock;
use crate::{Error, Labels, Result, Samples, atomic};

/// One of several workers that fill a store together: it writes the shards k with k mod count =
/// index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker {
    /// 0 .. count - 1.
    pub index: usize,
    /// Workers in all, at least 1.
    pub count: usize,
}

impl Worker {
    /// A worker on its own.
    pub const ALONE: Self = Self { index: 0, count: 1 };
}

/// [`generate_watched`] from a teacher that is quick enough to say nothing within a batch.
///
/// # Errors
/// As [`generate_watched`].
pub fn generate(
    folder: &Path,
    plan: &Manifest,
    worker: Worker,
    batch: usize,
    draw: &mut Draw,
    task: &str,
    observer: &dyn Observer,
) -> Result<Manifest> {
    let mut draw = |noise: &[f32], labels: &Labels, _: &mut Share| Ok(draw(noise, labels).into());
    generate_watched(folder, plan, worker, batch, &mut draw, task, observer)
}

/// Draws a seeded store from a teacher, `batch` rows or fewer at a time, as the task `task` of the
/// observer. Shards that are there already are kept, and a store of fewer pairs that is the same
/// otherwise grows: its pairs are taken over.
///
/// Gives the finished manifest, or the unfinished one when other workers still have shards to
/// write.
///
/// # Errors
/// When `folder` holds something else, can't be written, or the teacher gives a value that isn't
/// finite; and when the observer stops it: the batch is lost, all pairs before it are kept, and
/// calling this again goes on.
pub fn generate_watched(
    folder: &Path,
    plan: &Manifest,
    worker: Worker,
    batch: usize,
    draw: &mut WatchedDraw,
    task: &str,
    observer: &dyn Observer,
) -> Result<Manifest> {
    let NoiseSource::Seeded { generator, first_seed: Some(first_seed) } = &plan.noise else {
        let problem = "has no first seed, and pairs are drawn from seeds that count up";
        return Err(Error::invalid(folder, "noise", problem, "plan a store of seeded noise"));
    };
    debug_assert_eq!(generator, kdm_random::GENERATOR);
    let (dim, first_seed) = (plan.dim(), *first_seed);
    let mut clipped = Clipped::default();
    let mut draw_range = |range: Range<usize>, share: &mut Share| {
        let seeds: Vec<u64> = range.map(|i| first_seed.wrapping_add(i as u64)).collect();
        let mut noise = vec![0.0; seeds.len() * dim];
        let rows = noise.par_chunks_mut(dim).zip(&seeds);
        rows.for_each(|(row, seed)| noise_of_seed(*seed, plan.noise_std, row));
        let class = |seed: &u64| label_of_seed(*seed, plan.label_dim);
        let labels: Labels =
            seeds.iter().map(|seed| (plan.label_dim > 0).then(|| class(seed))).collect();
        let Ok(Drawn { images, states }) = draw(&noise, &labels, share) else { return Ok(None) };
        assert_eq!(images.len(), noise.len(), "an image for each noise");
        assert_eq!(states.len(), noise.len() * plan.states.len(), "the states of each");
        if plan.dtype == ImageType::U8 {
            clipped.add(&images);
        }
        let noise = Vec::new();
        Ok(Some(Samples { shape: plan.shape.clone(), noise, images, labels, seeds, states }))
    };
    let mut progress = observer.begin(task, "pairs");
    let filled = fill_watched(folder, plan, worker, batch, &mut draw_range, &mut progress)?;
    let evaluations = match &plan.sampling {
        Some(sampling) => format!(", {} evaluations each", sampling.evaluations),
        None => String::new(),
    };
    let state = if filled.manifest.is_complete() {
        "the store is complete"
    } else {
        "other workers still have shards to write"
    };
    progress.finish(&format!("{} pairs drawn{evaluations}; {state}", filled.made));
    if let Some(text) = clipped.text() {
        observer.warn(&text);
    }
    Ok(filled.manifest)
}

/// Gives the pairs of a range: images; and noise, seeds and classes where the store keeps them.
pub(super) type Content<'a> = dyn FnMut(Range<usize>) -> Result<Samples> + 'a;

/// [`Content`] that is watched; none when it was stopped.
type WatchedContent<'a> = dyn FnMut(Range<usize>, &mut Share) -> Result<Option<Samples>> + 'a;

/// What was filled.
pub(super) struct Filled {
    pub manifest: Manifest,
    /// Pairs made by this call.
    pub made: usize,
}

/// [`fill_watched`] with pairs that come at once.
///
/// # Errors
/// The same.
pub(super) fn fill(
    folder: &Path,
    plan: &Manifest,
    worker: Worker,
    batch: usize,
    content: &mut Content,
    progress: &mut Progress,
) -> Result<Filled> {
    let mut content = |range: Range<usize>, _: &mut Share| content(range).map(Some);
    fill_watched(folder, plan, worker, batch, &mut content, progress)
}

/// Writes this worker's shards that aren't there yet, made by `content` `batch` pairs or fewer at a
/// time, none of two shards. The last worker to finish completes the manifest.
///
/// # Errors
/// As [`generate_watched`], and whatever `content` fails with.
fn fill_watched(
    folder: &Path,
    plan: &Manifest,
    worker: Worker,
    batch: usize,
    content: &mut WatchedContent,
    progress: &mut Progress,
) -> Result<Filled> {
    let plan = plan.plan();
    check_plan(folder, &plan)?;
    atomic::create_folder(folder)?;
    let _held = match worker.count {
        1 => FolderLock::take(folder)?,
        _ => FolderLock::take_share(folder, worker.index)?,
    };
    check_room(folder, &plan)?;
    let recorded = start(folder, &plan)?;
    atomic::remove_parts(folder);
    let mine = || (worker.index..plan.shard_count()).step_by(worker.count);
    let pairs = |shards: &[usize]| shards.iter().map(|k| plan.shard_range(*k).len()).sum::<usize>();
    let total = pairs(&mine().collect::<Vec<_>>());
    if let Some(finished) = &recorded
        && (0..plan.shard_count()).all(|k| plan.shard_path(folder, k).exists())
    {
        progress.report(total as u64, total as u64, "");
        return Ok(Filled { manifest: finished.clone(), made: 0 });
    }
    // A shard that can't be read, or that another plan wrote, is drawn again.
    let missing: Vec<usize> = mine().filter(|k| check_shard(folder, &plan, *k).is_err()).collect();
    let earlier = at_hand::earlier(folder);
    let mut filling =
        Filling { folder, plan: &plan, total, done: total - pairs(&missing), progress };
    let mut made = 0;
    for k in missing {
        let shard = at_hand::pairs_of(folder, &plan, &earlier, k);
        made += plan.shard_range(k).len() - shard.len();
        filling.shard(k, shard, batch.max(1), content)?;
    }
    progress.report(total as u64, total as u64, "");
    Ok(Filled { manifest: complete(folder, plan, recorded)?, made })
}

/// A worker's shards on their way.
struct Filling<'a, 'b> {
    folder: &'a Path,
    plan: &'a Manifest,
    /// Pairs in all, and those that are there.
    total: usize,
    done: usize,
    progress: &'a mut Progress<'b>,
}

impl Filling<'_, '_> {
    /// Writes shard `k`, whose first pairs are there.
    fn shard(
        &mut self,
        k: usize,
        mut shard: Samples,
        batch: usize,
        content: &mut WatchedContent,
    ) -> Result<()> {
        let Self { folder, plan, .. } = *self;
        let range = plan.shard_range(k);
        self.done += shard.len();
        let mut kept = Instant::now();
        while shard.len() < range.len() {
            let start = range.start + shard.len();
            let next = start..start.saturating_add(batch).min(range.end);
            let Some(pairs) = self.part(next, content)? else {
                at_hand::keep(folder, plan, k, &shard)?;
                return Err(self.stopped());
            };
            self.done += pairs.len();
            shard.append(pairs);
            if kept.elapsed() >= self.progress.observer().keep_every() {
                at_hand::keep(folder, plan, k, &shard)?;
                kept = Instant::now();
            }
        }
        write_pairs(&plan.shard_path(folder, k), plan, k, &shard)?;
        at_hand::forget(folder, k);
        Ok(())
    }

    /// The pairs of a range within a shard; none when the observer stops it.
    fn part(
        &mut self,
        range: Range<usize>,
        content: &mut WatchedContent,
    ) -> Result<Option<Samples>> {
        let (done, total, count) = (self.done as u64, self.total as u64, range.len() as f64);
        if self.progress.advance(done, total, "").is_err() {
            return Ok(None);
        }
        let progress = &mut *self.progress;
        content(range, &mut |share| progress.advance(done + (share * count) as u64, total, ""))
    }

    fn stopped(&self) -> Error {
        Error::stopped(
            format!("writing pairs to `{}`", self.folder.display()),
            format!("{} of {} pairs are kept", self.done, self.total),
            "run the same command again: it goes on where it was",
        )(Stopped)
    }
}

/// Whether there can be a store of this plan.
fn check_plan(folder: &Path, plan: &Manifest) -> Result<()> {
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
fn start(folder: &Path, plan: &Manifest) -> Result<Option<Manifest>> {
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
fn complete(folder: &Path, plan: Manifest, recorded: Option<Manifest>) -> Result<Manifest> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::{PairStore, verify};
    use kdm_observer::{Event, Silent};
    use std::cell::Cell;

    fn plan(dtype: ImageType, label_dim: usize) -> Manifest {
        let plan = Manifest::seeded(5, 3.0, &[2, 3], 25);
        Manifest { dtype, label_dim, shard_size: 10, ..plan }
    }

    fn sines(noise: &[f32], labels: &Labels) -> Vec<f32> {
        assert_eq!(labels.len(), noise.len() / 6);
        noise.iter().map(|x| (x * 0.3).sin()).collect()
    }

    /// What is read is what was drawn, to the precision of the type; noise and classes come from
    /// the seeds.
    #[test]
    fn pairs_come_back_in_every_type() {
        for (dtype, tolerance) in
            [(ImageType::F32, 0.0), (ImageType::F16, 5e-4), (ImageType::U8, 0.5 / 127.5 + 1e-6)]
        {
            let folder = tempfile::tempdir().unwrap();
            let (at, plan) = (folder.path(), plan(dtype, 4));
            let manifest =
                generate(at, &plan, Worker::ALONE, 7, &mut sines, "pairs", &Silent).unwrap();
            assert_eq!(manifest.shards.len(), 3);
            let store = verify(at, &Silent).unwrap();
            let batch = store.batch(&[24, 3, 10]);
            assert_eq!(batch.seeds, [29, 8, 15]);
            for (row, seed) in batch.seeds.iter().enumerate() {
                let mut noise = [0.0; 6];
                noise_of_seed(*seed, 3.0, &mut noise);
                assert_eq!(batch.noise[row * 6..row * 6 + 6], noise);
                assert_eq!(batch.labels.class(row), Some(label_of_seed(*seed, 4)));
                for (x, e) in batch.images[row * 6..].iter().zip(noise) {
                    assert!((x - (e * 0.3).sin()).abs() <= tolerance, "{dtype:?}");
                }
            }
        }
    }

    #[test]
    fn a_teacher_that_gives_nan_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (at, plan) = (folder.path(), plan(ImageType::F32, 0));
        let mut draw = |noise: &[f32], _: &Labels| vec![f32::NAN; noise.len()];
        let failed = generate(at, &plan, Worker::ALONE, 7, &mut draw, "pairs", &Silent);
        assert!(failed.unwrap_err().to_string().contains("pair 0"));
        assert!(!at.join("shard-00000.safetensors").exists());
    }

    /// Stops when that many pairs are done.
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

    /// A stop ends before the next batch: the pairs before it stay, and going on gives the bytes of
    /// a run that was never stopped.
    #[test]
    fn a_drawing_that_is_stopped_keeps_its_pairs_and_goes_on() {
        let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (at, plan) = (folder.path(), plan(ImageType::F16, 2));
        generate(whole.path(), &plan, Worker::ALONE, 25, &mut sines, "pairs", &Silent).unwrap();
        let drawn = Cell::new(0);
        let mut draw = |noise: &[f32], labels: &Labels| {
            drawn.set(drawn.get() + labels.len());
            sines(noise, labels)
        };
        // Batches of 4 in shards of 10: 4, 8, 10, 14 pairs; the second shard is unfinished.
        let observer = StopAt(12, Cell::new(false));
        let failed = generate(at, &plan, Worker::ALONE, 4, &mut draw, "pairs", &observer);
        let Err(Error::Stopped { kept, action, .. }) = &failed else { panic!("{failed:?}") };
        assert_eq!((kept.as_str(), drawn.get()), ("14 of 25 pairs are kept", 14));
        assert!(action.contains("again"), "{action}");
        assert!(PairStore::open(at).unwrap_err().to_string().contains("unfinished: 1 of 3"));
        generate(at, &plan, Worker::ALONE, 4, &mut draw, "pairs", &Silent).unwrap();
        assert_eq!(drawn.get(), 25, "no pair is drawn twice");
        let files = |at: &Path| std::fs::read_dir(at).unwrap().count();
        assert_eq!(files(at), files(whole.path()));
        for file in std::fs::read_dir(whole.path()).unwrap() {
            let file = file.unwrap();
            let again = std::fs::read(at.join(file.file_name())).unwrap();
            assert_eq!(again, std::fs::read(file.path()).unwrap(), "{:?}", file.file_name());
        }
        // Verifying is stopped too, and says how far it came.
        let failed = verify(at, &StopAt(2, Cell::new(false))).unwrap_err().to_string();
        assert!(failed.contains("2 of 3 shards match"), "{failed}");
    }

    /// Progress counts pairs of earlier runs too, so that rates are of this run.
    #[test]
    fn progress_begins_where_an_earlier_run_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let (at, plan) = (folder.path(), plan(ImageType::F32, 0));
        let told = std::cell::RefCell::new(Vec::new());
        let keep = |event: &Event| match event {
            Event::Advanced { done, total, .. } => told.borrow_mut().push((*done, *total)),
            Event::Finished { note, .. } => assert!(note.contains("pairs drawn"), "{note}"),
            _ => {}
        };
        let stop = StopAt(10, Cell::new(false));
        generate(at, &plan, Worker::ALONE, 10, &mut sines, "pairs", &stop).unwrap_err();
        generate(at, &plan, Worker::ALONE, 10, &mut sines, "pairs", &keep).unwrap();
        assert_eq!(*told.borrow(), [(10, 25), (20, 25), (25, 25)]);
    }

    #[test]
    fn a_plan_of_nothing_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |plan: Manifest, field: &str| {
            let at = folder.path();
            let failed = generate(at, &plan, Worker::ALONE, 1, &mut sines, "pairs", &Silent);
            let message = failed.unwrap_err().to_string();
            assert!(message.contains(field), "{message}");
        };
        let plan = plan(ImageType::F32, 0);
        refused(Manifest { shard_size: 0, ..plan.clone() }, "shard_size");
        refused(Manifest { count: 0, ..plan.clone() }, "count");
        refused(Manifest { noise: NoiseSource::Stored, ..plan.clone() }, "noise");
        refused(Manifest { dtype: ImageType::U8, shape: vec![2], ..plan }, "dtype");
    }
}
