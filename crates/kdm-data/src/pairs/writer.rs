//! A store on its way: claimed by one process, filled from its first pair to its last, each shard
//! written whole or not at all.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kdm_observer::{KEEP_EVERY, Stopped};

use super::at_hand;
use super::claim::{check_plan, complete, start};
use super::clipped::Clipped;
use super::manifest::{ImageType, Manifest, NoiseSource, label_of_seed, seeded_noise};
use super::room::check_room;
use super::shard::{check_values, write_pairs};
use super::store::check_shard;
use super::write::Worker;
use crate::lock::FolderLock;
use crate::{Error, Result, Samples, atomic};

/// Writes a store from any loop of one's own. Shards are whole files, and what is begun of one is
/// kept now and then, so that a loop that is stopped or killed goes on where it was: the writer of
/// the same plan says which pairs come next. Memory use doesn't grow beyond a shard.
///
/// ```
/// use kdm_data::Samples;
/// use kdm_data::pairs::{Manifest, PairStore, PairWriter};
///
/// let folder = tempfile::tempdir()?;
/// let plan = Manifest { shard_size: 40, ..Manifest::seeded(7, 1.0, &[2], 100) };
/// let mut writer = PairWriter::begin(folder.path(), &plan)?;
/// while let Some(range) = writer.next(16)? {
///     // Noise and labels that the pairs' seeds draw; the "teacher" halves the noise.
///     let drawn = writer.noise_of(range).expect("a store of seeds");
///     let images = drawn.noise.iter().map(|x| 0.5 * x).collect();
///     writer.push(Samples { images, ..drawn })?;
/// }
/// assert!(writer.finish()?.is_complete());
/// assert_eq!(PairStore::open_verified(folder.path())?.len(), 100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PairWriter {
    folder: PathBuf,
    plan: Manifest,
    /// The manifest of a store that was complete before, and whether all of its shards are there.
    recorded: Option<Manifest>,
    whole: bool,
    /// Manifests of the store when it was smaller.
    earlier: Vec<Manifest>,
    /// The shards that are still to be written, the next one first.
    missing: VecDeque<usize>,
    /// What there is of the first of them, once it was asked for.
    begun: Option<Samples>,
    /// Pairs in all, of them those that are there, and of these those that were pushed.
    total: usize,
    done: usize,
    made: usize,
    /// Values that were pushed and that bytes can't keep.
    clipped: Clipped,
    kept: Instant,
    keep_every: Duration,
    _held: FolderLock,
}

impl PairWriter {
    /// Begins the store of `plan` in `folder`, or goes on with it. A seeded store of fewer pairs
    /// that is the same otherwise grows: its pairs are taken over.
    ///
    /// # Errors
    /// When the plan can't be, the folder holds something else or can't be written, the disk has no
    /// room, or another process works in the folder.
    pub fn begin(folder: &Path, plan: &Manifest) -> Result<Self> {
        let mut writer = Self::of_worker(folder, plan, Worker::ALONE)?;
        // Finds what was kept of the first shard that is missing.
        writer.next(1)?;
        Ok(writer)
    }

    /// The shards of one of several workers.
    pub(super) fn of_worker(folder: &Path, plan: &Manifest, worker: Worker) -> Result<Self> {
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
        let pairs =
            |shards: &[usize]| -> usize { shards.iter().map(|k| plan.shard_range(*k).len()).sum() };
        let total = pairs(&mine().collect::<Vec<_>>());
        let whole = recorded.is_some()
            && (0..plan.shard_count()).all(|k| plan.shard_path(folder, k).exists());
        // A shard that can't be read, or that another plan wrote, is written again.
        let absent = |k: &usize| !whole && check_shard(folder, &plan, *k).is_err();
        let missing: Vec<usize> = mine().filter(absent).collect();
        let done = total - pairs(&missing);
        Ok(Self {
            earlier: at_hand::earlier(folder),
            folder: folder.to_path_buf(),
            plan,
            recorded,
            whole,
            missing: missing.into(),
            begun: None,
            total,
            done,
            made: 0,
            clipped: Clipped::default(),
            kept: Instant::now(),
            keep_every: KEEP_EVERY,
            _held,
        })
    }

    /// Keeps the pairs of an unfinished shard this often, in place of [`KEEP_EVERY`].
    #[must_use]
    pub fn keep_every(mut self, time: Duration) -> Self {
        self.keep_every = time;
        self
    }

    /// The store's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the store will be.
    pub fn plan(&self) -> &Manifest {
        &self.plan
    }

    /// Pairs that this writer is to write, those that are there among them.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Those of them that are there.
    pub fn done(&self) -> usize {
        self.done
    }

    /// Pairs that were pushed.
    pub fn made(&self) -> usize {
        self.made
    }

    /// What was lost of images that were pushed, in words; nothing where it isn't worth a word.
    pub fn clipped(&self) -> Option<String> {
        self.clipped.text()
    }

    /// The numbers of the pairs that come next: `most` of them (at least 1) or fewer, none of two
    /// shards. None when all pairs are there.
    ///
    /// # Errors
    /// When a shard that is whole already can't be written.
    pub fn next(&mut self, most: usize) -> Result<Option<Range<usize>>> {
        while let Some(k) = self.missing.front().copied() {
            let range = self.plan.shard_range(k);
            let begun = self.begun.get_or_insert_with(|| {
                let there = at_hand::pairs_of(&self.folder, &self.plan, &self.earlier, k);
                self.done += there.len();
                there
            });
            if begun.len() < range.len() {
                let start = range.start + begun.len();
                return Ok(Some(start..start.saturating_add(most.max(1)).min(range.end)));
            }
            self.write_shard(k)?;
        }
        Ok(None)
    }

    /// Noise x_T, labels and seeds of the pairs with these numbers, without images; none for a
    /// store that keeps its noise.
    pub fn noise_of(&self, pairs: Range<usize>) -> Option<Samples> {
        let NoiseSource::Seeded { first_seed: Some(first), .. } = &self.plan.noise else {
            return None;
        };
        Some(seeded_noise(&self.plan, *first, pairs))
    }

    /// Adds the pairs that come next: images, states where these are kept, noise where the store
    /// keeps it (else its seeds are known), and labels where there are classes; in a store of seeds
    /// the classes that these draw where no pair has a label. A shard is written when its last pair
    /// is there.
    ///
    /// # Errors
    /// When parts are missing or of another size, a value isn't finite or a class unknown, there
    /// are more pairs than the store has, or a file can't be written. Pairs that are refused leave
    /// the store as it was, as far as whole shards before them go.
    pub fn push(&mut self, pairs: Samples) -> Result<()> {
        let (mut at, count) = (0, pairs.len());
        let first = match &self.plan.noise {
            NoiseSource::Seeded { first_seed, .. } => *first_seed,
            NoiseSource::Stored => None,
        };
        let unlabelled = self.plan.label_dim > 0 && pairs.labels.iter().all(|x| x.is_none());
        let draw_labels = first.filter(|_| unlabelled);
        self.check_sizes(&pairs, draw_labels.is_some())?;
        self.next(1)?;
        let left = self.total - self.done;
        if count > left {
            let problem =
                format!("{count} pairs come, and the store of {} needs {left}", self.total);
            return Err(self.invalid("count", problem, "write those, or begin a larger store"));
        }
        if self.plan.dtype == ImageType::U8 {
            self.clipped.add(&pairs.images);
        }
        while at < count {
            let Some(range) = self.next(count - at)? else { break };
            let next = at..at + range.len();
            at = next.end;
            let mut part = pairs.range(next);
            if let Some(first) = draw_labels {
                let class = |i| label_of_seed(first.wrapping_add(i as u64), self.plan.label_dim);
                part.labels = range.clone().map(|i| Some(class(i))).collect();
            }
            self.push_part(range, part)?;
        }
        Ok(())
    }

    /// Adds pairs to the shard that they are all of.
    pub(super) fn push_part(&mut self, range: Range<usize>, mut pairs: Samples) -> Result<()> {
        let Some(k) = self.missing.front().copied() else { return Ok(()) };
        check_values(&self.plan.shard_path(&self.folder, k), &self.plan, range.start, &pairs)?;
        match &self.plan.noise {
            NoiseSource::Seeded { first_seed, .. } => {
                pairs.noise = Vec::new();
                if let Some(first) = first_seed.filter(|_| pairs.seeds.is_empty()) {
                    pairs.seeds = range.map(|i| first.wrapping_add(i as u64)).collect();
                }
            }
            NoiseSource::Stored => pairs.seeds = Vec::new(),
        }
        let count = pairs.len();
        let begun = self.begun.get_or_insert_default();
        begun.shape.clone_from(&pairs.shape);
        begun.append(pairs);
        (self.done, self.made) = (self.done + count, self.made + count);
        if begun.len() == self.plan.shard_range(k).len() {
            return self.write_shard(k);
        }
        if self.kept.elapsed() >= self.keep_every {
            return self.keep();
        }
        Ok(())
    }

    fn write_shard(&mut self, k: usize) -> Result<()> {
        if let Some(pairs) = &self.begun {
            write_pairs(&self.plan.shard_path(&self.folder, k), &self.plan, k, pairs)?;
        }
        at_hand::forget(&self.folder, k);
        self.begun = None;
        self.missing.pop_front();
        self.kept = Instant::now();
        Ok(())
    }

    /// Keeps the pairs of the shard that is on its way, so that a later writer of the same plan
    /// goes on after them.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn keep(&mut self) -> Result<()> {
        if let (Some(k), Some(pairs)) = (self.missing.front(), &self.begun) {
            at_hand::keep(&self.folder, &self.plan, *k, pairs)?;
        }
        self.kept = Instant::now();
        Ok(())
    }

    /// Ends the work. Gives the manifest of the complete store, or the unfinished one where pairs
    /// are missing, here or of other workers; those of an unfinished shard are kept.
    ///
    /// # Errors
    /// When a file can't be written, or a shard that was written again isn't what it was.
    pub fn finish(mut self) -> Result<Manifest> {
        if self.next(1)?.is_some() {
            self.keep()?;
            return Ok(self.plan);
        }
        match self.recorded {
            Some(recorded) if self.whole => Ok(recorded),
            recorded => complete(&self.folder, self.plan, recorded),
        }
    }

    /// The error of work that an observer stopped.
    pub(super) fn stopped(&self) -> Error {
        Error::stopped(
            format!("writing pairs to `{}`", self.folder.display()),
            format!("{} of {} pairs are kept", self.done, self.total),
            "run the same command again: it goes on where it was",
        )(Stopped)
    }

    fn invalid(&self, field: &str, problem: impl Into<String>, action: &str) -> Error {
        Error::invalid(&self.folder, field, problem, action)
    }

    /// Whether pairs have the parts that the store keeps.
    fn check_sizes(&self, pairs: &Samples, unlabelled: bool) -> Result<()> {
        let (count, dim, states) = (pairs.len(), self.plan.dim(), self.plan.states.len());
        let mut sizes = vec![("image", pairs.images.len(), dim)];
        sizes.push(("states", pairs.states.len(), dim * states));
        if self.plan.noise == NoiseSource::Stored {
            sizes.push(("noise", pairs.noise.len(), dim));
        }
        if let Some((field, found, width)) =
            sizes.into_iter().find(|(_, found, width)| *found != count * width)
        {
            let problem = format!("has {found} values for {count} pairs of {width} each");
            return Err(self.invalid(field, problem, "give one row a pair"));
        }
        let classes = self.plan.label_dim;
        let without = pairs.labels.iter().any(|label| label.is_none());
        match pairs.labels.beyond(classes) {
            Some((_, class)) if classes == 0 => {
                let problem = format!("are of class {class}, and the store has no classes");
                Err(self.invalid("label", problem, "leave labels out, or begin one with classes"))
            }
            Some((row, class)) => {
                let problem =
                    format!("label {row} is {class}, and the store has {classes} classes");
                Err(self.invalid("label", problem, "give classes from 0"))
            }
            None if classes > 0 && without && !unlabelled => {
                let problem = format!("are missing, and the store has {classes} classes");
                Err(self.invalid("label", problem, "give the class of each pair"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Labels;
    use crate::pairs::{PairStore, generate};
    use kdm_observer::Silent;

    fn plan(count: usize) -> Manifest {
        Manifest { label_dim: 3, shard_size: 10, ..Manifest::seeded(5, 1.0, &[2, 3], count) }
    }

    fn sines(noise: &[f32]) -> Vec<f32> {
        noise.iter().map(|x| (x * 0.3).sin()).collect()
    }

    fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let read = |entry: std::fs::DirEntry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).unwrap())
        };
        let entries = std::fs::read_dir(folder).unwrap();
        let mut all: Vec<_> = entries.map(|entry| read(entry.unwrap())).collect();
        all.sort();
        all
    }

    /// Whoever writes in whatever portions, the files are those of `generate`; a writer that is
    /// dropped loses what it didn't keep, and one that ends keeps all.
    #[test]
    fn portions_leave_no_trace() {
        let [drawn, pushed] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let mut teacher = |noise: &[f32], _: &Labels| sines(noise);
        let alone = Worker::ALONE;
        generate(drawn.path(), &plan(25), alone, 7, &mut teacher, "pairs", &Silent).unwrap();
        for (portion, there, stop) in [(4, 0, 14), (30, 14, 24), (1, 24, 25)] {
            let mut writer = PairWriter::begin(pushed.path(), &plan(25)).unwrap();
            assert_eq!((writer.done(), writer.total()), (there, 25));
            assert_eq!(writer.next(portion).unwrap().unwrap().start, there);
            while let Some(range) = writer.next(portion).unwrap().filter(|next| next.start < stop) {
                let drawn = writer.noise_of(range.start..range.end.min(stop)).unwrap();
                let images = sines(&drawn.noise);
                // The classes are those of the seeds, given or not.
                let labels = match range.start % 2 {
                    0 => drawn.labels,
                    _ => Labels::none(drawn.labels.len()),
                };
                writer.push(Samples { images, labels, noise: Vec::new(), ..drawn }).unwrap();
            }
            assert_eq!((writer.done(), writer.made()), (stop, stop - there));
            let manifest = writer.finish().unwrap();
            assert_eq!(manifest.is_complete(), stop == 25);
            // What is not kept is lost.
            if stop == 14 {
                let mut writer = PairWriter::begin(pushed.path(), &plan(25)).unwrap();
                let drawn = writer.noise_of(stop..stop + 1).unwrap();
                writer.push(Samples { images: sines(&drawn.noise), ..drawn }).unwrap();
            }
        }
        assert!(files(drawn.path()) == files(pushed.path()));
    }

    /// Noise of one's own is kept with its pairs, through an end in the middle of a shard.
    #[test]
    fn stored_noise_goes_on_too() {
        let folder = tempfile::tempdir().unwrap();
        let plan = Manifest { noise: NoiseSource::Stored, ..plan(25) };
        let noise: Vec<f32> = (0..25 * 6).map(|i| i as f32 - 75.0).collect();
        let labels: Vec<u32> = (0..25).map(|i| i % 3).collect();
        let all = Samples {
            shape: vec![2, 3],
            images: sines(&noise),
            noise,
            labels: Labels::of(&labels),
            ..Samples::default()
        };
        for range in [0..13, 13..14, 14..25] {
            let mut writer = PairWriter::begin(folder.path(), &plan).unwrap();
            assert_eq!(writer.next(1).unwrap(), Some(range.start..range.start + 1));
            assert!(writer.noise_of(range.clone()).is_none());
            writer.push(all.range(range)).unwrap();
            writer.finish().unwrap();
        }
        let store = PairStore::open_verified(folder.path()).unwrap();
        assert_eq!(store.range(0..25), all);
    }

    #[test]
    fn pairs_that_cannot_be_are_refused_and_leave_the_store_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let plan = Manifest { noise: NoiseSource::Stored, ..plan(25) };
        let mut writer = PairWriter::begin(folder.path(), &plan).unwrap();
        let good = || Samples {
            shape: vec![2, 3],
            images: vec![0.5; 12],
            noise: vec![1.0; 12],
            labels: Labels::of(&[0, 2]),
            ..Samples::default()
        };
        let mut bad = good();
        bad.images[7] = f32::NAN;
        let mut noisy = good();
        noisy.noise[6] = f32::INFINITY;
        for (pairs, words) in [
            (bad, "pair 1: its image has the value NaN"),
            (noisy, "pair 1: its noise has the value inf"),
            (Samples { images: vec![0.0; 11], ..good() }, "image: has 11 values for 2 pairs"),
            (Samples { noise: Vec::new(), ..good() }, "noise: has 0 values"),
            (Samples { states: vec![0.0; 12], ..good() }, "states: has 12 values"),
            (Samples { labels: Labels::of(&[0, 3]), ..good() }, "label 1 is 3"),
            (Samples { labels: Labels::none(2), ..good() }, "are missing"),
        ] {
            let message = writer.push(pairs).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
            assert_eq!(writer.done(), 0);
        }
        for _ in 0..12 {
            writer.push(good()).unwrap();
        }
        let message = writer.push(good()).unwrap_err().to_string();
        assert!(message.contains("2 pairs come, and the store of 25 needs 1"), "{message}");
        writer.push(good().range(0..1)).unwrap();
        assert!(PairWriter::begin(folder.path(), &plan).is_err(), "another holds the folder");
        assert!(writer.finish().unwrap().is_complete());
        let unlabelled = Manifest { label_dim: 0, ..plan };
        let other = tempfile::tempdir().unwrap();
        let message =
            PairWriter::begin(other.path(), &unlabelled).unwrap().push(good()).unwrap_err();
        assert!(message.to_string().contains("no classes"), "{message}");
    }
}
