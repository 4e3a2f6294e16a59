//! Reading a store: pairs by number through memory maps, noise drawn again from its seed.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kdm_observer::{Observer, Silent};
use rayon::prelude::*;
use safetensors::tensor::Dtype;

use super::manifest::{ImageType, MANIFEST, Manifest, NoiseSource, ShardRecord, noise_of_seed};
use super::states::{self, STATES};
use crate::hash::sha256;
use crate::{Error, Labels, Result, Samples, TensorFile};

/// A store opened for reading, whole or in part. Memory use doesn't grow with the number of pairs,
/// and a clone shares what is open.
///
/// ```
/// use kdm_data::Labels;
/// use kdm_data::pairs::{Manifest, PairStore, Worker, generate};
/// use kdm_observer::Silent;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// // 100 pairs of points in the plane, 40 a shard; the "teacher" halves the noise.
/// let plan = Manifest { shard_size: 40, ..Manifest::seeded(7, 1.0, &[2], 100) };
/// let mut teacher = |noise: &[f32], _: &Labels| noise.iter().map(|x| 0.5 * x).collect();
/// generate(folder.path(), &plan, Worker::ALONE, 16, &mut teacher, "pairs", &Silent)?;
///
/// let store = PairStore::open_verified(folder.path())?;
/// let batch = store.batch(&[99, 0, 41]);
/// assert_eq!(batch.seeds, [106, 7, 48]);
/// assert!(batch.images.iter().zip(&batch.noise).all(|(image, noise)| *image == 0.5 * noise));
///
/// // Where a few pairs are enough, only their shards are read.
/// let few = PairStore::open_part(folder.path(), 0..3)?;
/// assert_eq!(few.range(0..3), store.range(0..3));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct PairStore(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    folder: PathBuf,
    manifest: Manifest,
    /// The pairs that can be read.
    part: Range<usize>,
    /// The shard that `shards` begin with.
    first_shard: usize,
    shards: Vec<TensorFile>,
}

pub(super) const DRAW_AGAIN: &str = "delete that file and run the command that wrote the store \
                                     again: only what is missing is made anew";

/// Whether shard `k` is readable, of this plan, and of the right sizes. Its content is not read.
pub(super) fn check_shard(folder: &Path, plan: &Manifest, k: usize) -> Result<TensorFile> {
    let path = plan.shard_path(folder, k);
    let file = TensorFile::open(&path).map_err(|e| match e {
        Error::Invalid { path, field, problem, .. } => {
            Error::invalid(path, field, problem, DRAW_AGAIN)
        }
        Error::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
            let action = "run the command that wrote the store again: only what is missing is made \
                          anew";
            Error::invalid(&path, "shard", "is missing", action)
        }
        other => other,
    })?;
    if file.metadata()["plan"] != plan.plan_hash().as_str() {
        let problem = "this shard belongs to another store";
        return Err(Error::invalid(&path, "plan", problem, DRAW_AGAIN));
    }
    sizes_fit(&file, plan, plan.shard_range(k).len())?;
    Ok(file)
}

/// Whether a file has the tensors of `n` pairs of this plan.
pub(super) fn sizes_fit(file: &TensorFile, plan: &Manifest, n: usize) -> Result<()> {
    let bad =
        |field: &str, problem: String| Err(Error::invalid(file.path(), field, problem, DRAW_AGAIN));
    let full_shape = [&[n], plan.shape.as_slice()].concat();
    let image_type = match plan.dtype {
        ImageType::F32 => Dtype::F32,
        ImageType::F16 => Dtype::F16,
        ImageType::U8 => Dtype::U8,
    };
    let mut wanted = vec![("image", image_type, full_shape.clone())];
    wanted.push(match plan.noise {
        NoiseSource::Seeded { .. } => ("seed", Dtype::U64, vec![n]),
        NoiseSource::Stored => ("noise", Dtype::F32, full_shape),
    });
    if !plan.states.is_empty() {
        wanted.push((STATES, Dtype::F16, states::shape(plan, n)));
    }
    if plan.label_dim > 0 {
        wanted.push(("label", Dtype::U32, vec![n]));
    }
    for (name, dtype, shape) in wanted {
        match file.get(name) {
            None => return bad(name, "is missing".into()),
            Some(t) if t.dtype != dtype || t.shape != shape => {
                return bad(
                    name,
                    format!("is {:?} {:?} and should be {dtype:?} {shape:?}", t.dtype, t.shape),
                );
            }
            Some(_) => {}
        }
    }
    // A class beyond the last would land in another pair's one-hot row.
    let label = |i| number((file, i), "label", u32::from_le_bytes);
    let known = |i: &usize| (label(*i) as usize) < plan.label_dim;
    if plan.label_dim > 0
        && let Some(i) = (0..n).find(|i| !known(i))
    {
        let (class, classes) = (label(i), plan.label_dim);
        return bad(
            "label",
            format!("pair {i} is of class {class}, and there are {classes} classes"),
        );
    }
    Ok(())
}

/// Shards of this plan that have a file.
pub fn shards_there(folder: &Path, plan: &Manifest) -> usize {
    let Ok(files) = std::fs::read_dir(folder) else { return 0 };
    let name = |k: usize| plan.shard_path(Path::new(""), k).into_os_string();
    let number = |file: &std::ffi::OsStr| -> Option<usize> {
        file.to_str()?.strip_prefix("shard-")?.split('.').next()?.parse().ok()
    };
    let files = files.flatten().map(|entry| entry.file_name());
    files
        .filter(|file| number(file).is_some_and(|k| k < plan.shard_count() && name(k) == *file))
        .count()
}

/// The manifest of a complete store.
fn complete_manifest(folder: &Path) -> Result<Manifest> {
    let manifest = Manifest::read(folder)?;
    if manifest.is_complete() {
        return Ok(manifest);
    }
    let (count, there) = (manifest.shard_count(), shards_there(folder, &manifest));
    Err(Error::invalid(
        folder.join(MANIFEST),
        "shards",
        format!("the store is unfinished: {there} of {count} shards are written"),
        "run the command that began it again: it goes on where it was",
    ))
}

/// Whether a shard's bytes are those on record.
fn check_hash(shard: &TensorFile, record: &ShardRecord) -> Result<()> {
    let found = sha256(shard.bytes());
    if found == record.sha256 {
        return Ok(());
    }
    Err(super::claim::changed(shard.path(), &found, &record.sha256))
}

impl PairStore {
    /// Opens a complete store. Sizes are checked here, contents by [`verify`].
    ///
    /// # Errors
    /// When the folder is no store, a shard is missing or of the wrong size, or pairs are still to
    /// be written.
    pub fn open(folder: &Path) -> Result<Self> {
        let manifest = complete_manifest(folder)?;
        let part = 0..manifest.count;
        Self::of(folder, manifest, part)
    }

    /// Opens a store after comparing every shard with its checksum: [`Self::open_observed`]
    /// unobserved.
    ///
    /// # Errors
    /// As [`Self::open`], and when a checksum doesn't match.
    pub fn open_verified(folder: &Path) -> Result<Self> {
        Self::open_observed(folder, &Silent)
    }

    /// Opens a store after comparing every shard with its checksum, for work that has more to say
    /// than that; [`verify`] says so itself.
    ///
    /// # Errors
    /// As [`verify`].
    pub fn open_observed(folder: &Path, observer: &dyn Observer) -> Result<Self> {
        verified(folder, "reading pairs", "", observer)
    }

    /// Opens the pairs `part` of a store after comparing the shards that hold them with their
    /// checksums. Pairs keep their numbers; those outside can't be read, and what state their
    /// shards are in doesn't matter.
    ///
    /// # Errors
    /// As [`Self::open_verified`] for these shards, and when the store has fewer pairs.
    pub fn open_part(folder: &Path, part: Range<usize>) -> Result<Self> {
        let manifest = complete_manifest(folder)?;
        if part.start > part.end || part.end > manifest.count {
            let problem = format!(
                "the pairs {} to {} are needed, and the store has {}",
                part.start, part.end, manifest.count
            );
            let action = "take fewer pairs, or give a larger store";
            return Err(Error::invalid(folder.join(MANIFEST), "count", problem, action));
        }
        let store = Self::of(folder, manifest, part)?;
        let records = &store.0.manifest.shards[store.0.first_shard..];
        store.0.shards.iter().zip(records).try_for_each(|(s, record)| check_hash(s, record))?;
        Ok(store)
    }

    fn of(folder: &Path, manifest: Manifest, part: Range<usize>) -> Result<Self> {
        let size = manifest.shard_size;
        let needed =
            if part.is_empty() { 0..0 } else { part.start / size..part.end.div_ceil(size) };
        let first_shard = needed.start;
        let shards = needed.map(|k| check_shard(folder, &manifest, k)).collect::<Result<_>>()?;
        let folder = folder.to_path_buf();
        Ok(Self(Arc::new(Opened { folder, manifest, part, first_shard, shards })))
    }

    /// The store's folder.
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// How the pairs came to be.
    pub fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// Numbers of the pairs that can be read: all, or the part that was opened.
    pub fn part(&self) -> Range<usize> {
        self.0.part.clone()
    }

    /// The seeds of the pairs in [`Self::part`], whose noise is drawn from them.
    pub(super) fn seeds(&self) -> impl Iterator<Item = u64> {
        self.part().map(|pair| number(self.place(pair), "seed", u64::from_le_bytes))
    }

    /// Pairs in the whole store.
    pub fn len(&self) -> usize {
        self.0.manifest.count
    }

    /// Whether there are none; never so for a store that opens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shard of a pair, and its place there.
    fn place(&self, pair: usize) -> (&TensorFile, usize) {
        let Opened { manifest, part, first_shard, shards, .. } = &*self.0;
        assert!(part.contains(&pair), "pair {pair} is not among the pairs opened, {part:?}");
        (&shards[pair / manifest.shard_size - first_shard], pair % manifest.shard_size)
    }

    /// The pairs with these numbers (each within [`Self::part`]), in this order.
    pub fn batch(&self, indices: &[usize]) -> Samples {
        let manifest = &self.0.manifest;
        let dim = manifest.dim();
        let mut batch = Samples {
            shape: manifest.shape.clone(),
            noise: vec![0.0; indices.len() * dim],
            images: vec![0.0; indices.len() * dim],
            labels: Labels::none(indices.len()),
            ..Samples::default()
        };
        if matches!(manifest.noise, NoiseSource::Seeded { .. }) {
            let seed = |i: &usize| number(self.place(*i), "seed", u64::from_le_bytes);
            batch.seeds = indices.iter().map(seed).collect();
        }
        if manifest.label_dim > 0 {
            let class = |i: &usize| Some(number(self.place(*i), "label", u32::from_le_bytes));
            batch.labels = indices.iter().map(class).collect();
        }
        let rows =
            batch.images.par_chunks_mut(dim).zip(batch.noise.par_chunks_mut(dim)).enumerate();
        rows.with_min_len(64).for_each(|(row, (image, noise))| {
            let (shard, local) = self.place(indices[row]);
            read_row(shard, "image", local, image);
            match batch.seeds.get(row) {
                Some(seed) => noise_of_seed(*seed, manifest.noise_std, noise),
                None => read_row(shard, "noise", local, noise),
            }
        });
        batch
    }

    /// [`Self::batch`] with the states between noise and image, where the store keeps them.
    pub fn batch_with_states(&self, indices: &[usize]) -> Samples {
        let mut batch = self.batch(indices);
        let width = self.manifest().states.len() * self.manifest().dim();
        if width > 0 {
            batch.states = vec![0.0; indices.len() * width];
            let rows = batch.states.par_chunks_mut(width).zip(indices);
            rows.with_min_len(8).for_each(|(row, pair)| {
                let (shard, local) = self.place(*pair);
                read_row(shard, STATES, local, row);
            });
        }
        batch
    }

    /// The pairs of a range, within [`Self::part`].
    pub fn range(&self, range: Range<usize>) -> Samples {
        self.batch(&range.collect::<Vec<_>>())
    }
}

pub(super) fn number<const W: usize, T>(
    (shard, local): (&TensorFile, usize),
    name: &str,
    decode: fn([u8; W]) -> T,
) -> T {
    let tensor = shard.get(name).expect("checked when opened");
    decode(tensor.bytes.as_chunks().0[local])
}

pub(super) fn read_row(shard: &TensorFile, name: &str, local: usize, out: &mut [f32]) {
    let tensor = shard.get(name).expect("checked when opened");
    let row =
        |width: usize| &tensor.bytes[local * out.len() * width..(local + 1) * out.len() * width];
    match tensor.dtype {
        Dtype::U8 => {
            let row = row(1);
            out.iter_mut().zip(row).for_each(|(x, b)| *x = f32::from(*b) / 127.5 - 1.0);
        }
        Dtype::F16 => {
            let row = row(2).as_chunks().0;
            out.iter_mut().zip(row).for_each(|(x, b)| *x = half::f16::from_le_bytes(*b).to_f32());
        }
        _ => {
            let row = row(4).as_chunks().0;
            out.iter_mut().zip(row).for_each(|(x, b)| *x = f32::from_le_bytes(*b));
        }
    }
}

/// Opens a store after comparing every shard with its checksum.
///
/// # Errors
/// As [`PairStore::open`], for the first shard whose bytes have changed or hold what is no number,
/// and when the observer stops it.
pub fn verify(folder: &Path, observer: &dyn Observer) -> Result<PairStore> {
    let store = verified(folder, "verify", "all shards match their checksums", observer)?;
    let Opened { manifest, shards, .. } = &*store.0;
    for (k, shard) in shards.iter().enumerate() {
        check_finite(shard, manifest, k)?;
    }
    Ok(store)
}

/// Whether all images, noise and states of shard `k` are numbers.
fn check_finite(shard: &TensorFile, manifest: &Manifest, k: usize) -> Result<()> {
    let (dim, range) = (manifest.dim(), manifest.shard_range(k));
    let of_states = dim * manifest.states.len();
    for (name, width) in [("image", dim), ("noise", dim), (STATES, of_states)] {
        let mut row = vec![0.0; width];
        if shard.get(name).is_none_or(|tensor| tensor.dtype == Dtype::U8) {
            continue;
        }
        for i in 0..range.len() {
            read_row(shard, name, i, &mut row);
            if let Some(x) = row.iter().find(|x| !x.is_finite()) {
                let problem = format!("pair {} has the value {x}", range.start + i);
                let action = "import or draw the pairs again without it";
                return Err(Error::invalid(shard.path(), name, problem, action));
            }
        }
    }
    Ok(())
}

/// [`verify`], as the task `task` that ends in `note`.
fn verified(folder: &Path, task: &str, note: &str, observer: &dyn Observer) -> Result<PairStore> {
    let store = PairStore::open(folder)?;
    let Opened { manifest, shards, .. } = &*store.0;
    let total = shards.len();
    let mut progress = observer.begin(task, "shards");
    for (k, (shard, record)) in shards.iter().zip(&manifest.shards).enumerate() {
        progress.advance(k as u64, total as u64, "").map_err(Error::stopped(
            format!("verifying `{}`", folder.display()),
            format!("{k} of {total} shards match their checksums"),
            "run the same command again: it begins with the first shard",
        ))?;
        check_hash(shard, record)?;
    }
    progress.report(total as u64, total as u64, "");
    progress.finish(note);
    Ok(store)
}
