//! Filling a store: shard by shard, each written whole or not at all, by one worker or by many.
//!
//! Which pairs a shard holds depends on the manifest alone, and what a pair is on its seed alone.
//! So the batch size, the number of threads, the worker, being killed and started again, and having
//! been smaller leave no trace in the files.

use std::ops::Range;
use std::path::Path;

use kdm_observer::{Observer, Progress};

use super::clipped::Clipped;
use super::draw::{Draw, Drawn, Share, WatchedDraw};
use super::manifest::{ImageType, Manifest, NoiseSource, seeded_noise};
use super::writer::PairWriter;
use crate::{Error, Labels, Result, Samples};

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
    let mut clipped = Clipped::default();
    let mut draw_range = |range: Range<usize>, share: &mut Share| {
        let pairs = seeded_noise(plan, *first_seed, range);
        let Ok(Drawn { images, states }) = draw(&pairs.noise, &pairs.labels, share) else {
            return Ok(None);
        };
        assert_eq!(images.len(), pairs.noise.len(), "an image for each noise");
        assert_eq!(states.len(), pairs.noise.len() * plan.states.len(), "the states of each");
        if plan.dtype == ImageType::U8 {
            clipped.add(&images);
        }
        Ok(Some(Samples { images, states, ..pairs }))
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
    let writer = PairWriter::of_worker(folder, plan, worker)?;
    let mut writer = writer.keep_every(progress.observer().keep_every());
    let total = writer.total() as u64;
    while let Some(range) = writer.next(batch)? {
        let (done, count) = (writer.done() as u64, range.len() as f64);
        let mut pairs = None;
        if progress.advance(done, total, "").is_ok() {
            let mut share = |share| progress.advance(done + (share * count) as u64, total, "");
            pairs = content(range.clone(), &mut share)?;
        }
        let Some(pairs) = pairs else {
            writer.keep()?;
            return Err(writer.stopped());
        };
        writer.push_part(range, pairs)?;
    }
    progress.report(total, total, "");
    let made = writer.made();
    Ok(Filled { manifest: writer.finish()?, made })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::{PairStore, label_of_seed, noise_of_seed, verify};
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
