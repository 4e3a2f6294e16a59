//! Reading a store: pairs by number through memory maps, noise drawn again from its seed.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use safetensors::tensor::Dtype;

use super::manifest::{ImageType, MANIFEST, Manifest, NoiseSource, noise_of_seed};
use crate::hash::sha256;
use crate::{Error, Labels, Result, Samples, TensorFile};

/// A store opened for reading. Memory use doesn't grow with the number of pairs.
#[derive(Debug)]
pub struct PairStore {
    folder: PathBuf,
    manifest: Manifest,
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
        other => other,
    })?;
    let bad = |field: &str, problem: String| Err(Error::invalid(&path, field, problem, DRAW_AGAIN));
    if file.metadata()["plan"] != plan.plan_hash().as_str() {
        return bad("plan", "this shard belongs to another store".into());
    }
    let n = plan.shard_range(k).len();
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
    Ok(file)
}

impl PairStore {
    /// Opens a complete store. Sizes are checked here, contents by [`verify`].
    ///
    /// # Errors
    /// When the folder is no store, a shard is missing or of the wrong size, or pairs are still to
    /// be written.
    pub fn open(folder: &Path) -> Result<Self> {
        let manifest = Manifest::read(folder)?;
        if !manifest.is_complete() {
            let there = (0..manifest.shard_count())
                .filter(|k| manifest.shard_path(folder, *k).exists())
                .count();
            return Err(Error::invalid(
                folder.join(MANIFEST),
                "shards",
                format!(
                    "the store is unfinished: {there} of {} shards are written",
                    manifest.shard_count()
                ),
                "run the command that began it again: it goes on where it was",
            ));
        }
        let shards = (0..manifest.shard_count())
            .map(|k| check_shard(folder, &manifest, k))
            .collect::<Result<_>>()?;
        Ok(Self { folder: folder.to_path_buf(), manifest, shards })
    }

    /// Opens a store after [`verify`].
    ///
    /// # Errors
    /// As [`Self::open`], and when a checksum doesn't match.
    pub fn open_verified(folder: &Path) -> Result<Self> {
        verified(folder, &mut |_| {})
    }

    /// The store's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How the pairs came to be.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Pairs in the store.
    pub fn len(&self) -> usize {
        self.manifest.count
    }

    /// Whether there are none; never so for a store that opens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pairs with these numbers (each less than [`Self::len`]), in this order.
    pub fn batch(&self, indices: &[usize]) -> Samples {
        let (dim, seeded) =
            (self.manifest.dim(), matches!(self.manifest.noise, NoiseSource::Seeded { .. }));
        let mut batch = Samples {
            shape: self.manifest.shape.clone(),
            noise: vec![0.0; indices.len() * dim],
            images: vec![0.0; indices.len() * dim],
            labels: Labels::none(indices.len()),
            seeds: Vec::new(),
        };
        let place =
            |i: usize| (&self.shards[i / self.manifest.shard_size], i % self.manifest.shard_size);
        if seeded {
            batch.seeds =
                indices.iter().map(|i| number(place(*i), "seed", u64::from_le_bytes)).collect();
        }
        if self.manifest.label_dim > 0 {
            let class = |i: &usize| Some(number(place(*i), "label", u32::from_le_bytes));
            batch.labels = indices.iter().map(class).collect();
        }
        let rows =
            batch.images.par_chunks_mut(dim).zip(batch.noise.par_chunks_mut(dim)).enumerate();
        rows.with_min_len(64).for_each(|(row, (image, noise))| {
            let (shard, local) = place(indices[row]);
            read_row(shard, "image", local, image);
            match batch.seeds.get(row) {
                Some(seed) => noise_of_seed(*seed, self.manifest.noise_std, noise),
                None => read_row(shard, "noise", local, noise),
            }
        });
        batch
    }

    /// The pairs of a range.
    pub fn range(&self, range: std::ops::Range<usize>) -> Samples {
        self.batch(&range.collect::<Vec<_>>())
    }
}

fn number<const W: usize, T>(
    (shard, local): (&TensorFile, usize),
    name: &str,
    decode: fn([u8; W]) -> T,
) -> T {
    let tensor = shard.get(name).expect("checked when opened");
    decode(tensor.bytes.as_chunks().0[local])
}

fn read_row(shard: &TensorFile, name: &str, local: usize, out: &mut [f32]) {
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

/// Compares every shard of a complete store with its checksum; tells `progress` of the shards done.
/// Gives the manifest.
///
/// # Errors
/// As [`PairStore::open`], and for the first shard whose bytes have changed.
pub fn verify(folder: &Path, progress: &mut dyn FnMut(usize)) -> Result<Manifest> {
    Ok(verified(folder, progress)?.manifest)
}

fn verified(folder: &Path, progress: &mut dyn FnMut(usize)) -> Result<PairStore> {
    let store = PairStore::open(folder)?;
    for (k, (shard, record)) in store.shards.iter().zip(&store.manifest.shards).enumerate() {
        let found = sha256(shard.bytes());
        if found != record.sha256 {
            return Err(super::write::changed(shard.path(), &found, &record.sha256));
        }
        progress(k + 1);
    }
    Ok(store)
}
