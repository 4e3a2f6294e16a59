//! Filling a store: shard by shard, each written whole or not at all, by one worker or by many.
//!
//! Which pairs a shard holds depends on the manifest alone, and what a pair is on its seed alone.
//! So the batch size, the number of threads, the worker, and being killed and started again leave
//! no trace in the files.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use safetensors::tensor::Dtype;
use serde_json::json;

use super::manifest::{
    ImageType, MANIFEST, Manifest, NoiseSource, ShardRecord, label_of_seed, noise_of_seed,
};
use super::store::{DRAW_AGAIN, check_shard};
use crate::hash::sha256;
use crate::tensors::{self, RawTensor};
use crate::{Error, Labels, Result, atomic};

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

/// How far a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Pairs of this worker that are written or drawn.
    pub done: usize,
    /// Pairs this worker has to write.
    pub total: usize,
}

/// The content of one shard.
#[derive(Clone, Debug, Default)]
pub struct ShardContent {
    /// Images, one after the other.
    pub images: Vec<f32>,
    /// Seeds, for a seeded store.
    pub seeds: Vec<u64>,
    /// Noise, for a store that keeps it.
    pub noise: Vec<f32>,
    /// Classes, for a conditional store.
    pub labels: Vec<u32>,
}

/// Turns noise x_T (already scaled, rows of [`Manifest::dim`] values) and labels into images, row by
/// row.
pub type Draw<'a> = dyn FnMut(&[f32], &Labels) -> Vec<f32> + 'a;

/// Gives the pairs of a range, and tells its second argument of every few it has made.
pub type Content<'a> =
    dyn FnMut(std::ops::Range<usize>, &mut dyn FnMut(usize)) -> Result<ShardContent> + 'a;

/// Draws a seeded store from a teacher, `batch` rows or fewer at a time. Shards that are there
/// already are kept.
///
/// Gives the finished manifest, or the unfinished one when other workers still have shards to
/// write.
///
/// # Errors
/// When `folder` holds something else, can't be written, or the teacher gives a value that isn't
/// finite.
pub fn generate(
    folder: &Path,
    plan: &Manifest,
    worker: Worker,
    batch: usize,
    draw: &mut Draw,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest> {
    let NoiseSource::Seeded { generator, first_seed: Some(first_seed) } = &plan.noise else {
        unreachable!("a store that is drawn is seeded")
    };
    debug_assert_eq!(generator, kdm_random::GENERATOR);
    let (dim, first_seed) = (plan.dim(), *first_seed);
    fill(folder, plan, worker, progress, &mut |range, advance| {
        let mut content = ShardContent::default();
        for start in range.clone().step_by(batch.max(1)) {
            let end = (start + batch.max(1)).min(range.end);
            let seeds: Vec<u64> = (start..end).map(|i| first_seed.wrapping_add(i as u64)).collect();
            let mut noise = vec![0.0; seeds.len() * dim];
            noise
                .par_chunks_mut(dim)
                .zip(&seeds)
                .for_each(|(row, seed)| noise_of_seed(*seed, plan.noise_std, row));
            let labels: Labels = seeds
                .iter()
                .map(|seed| (plan.label_dim > 0).then(|| label_of_seed(*seed, plan.label_dim)))
                .collect();
            let images = draw(&noise, &labels);
            assert_eq!(images.len(), noise.len(), "an image for each noise");
            content.images.extend(images);
            content.seeds.extend(seeds);
            content.labels.extend(labels.classes());
            advance(end - start);
        }
        Ok(content)
    })
}

/// Writes this worker's shards that aren't there yet. The last worker to finish completes the
/// manifest.
///
/// # Errors
/// As [`generate`], and whatever `content` fails with.
pub fn fill(
    folder: &Path,
    plan: &Manifest,
    worker: Worker,
    progress: &mut dyn FnMut(Progress),
    content: &mut Content,
) -> Result<Manifest> {
    let plan = plan.plan();
    let recorded = start(folder, &plan)?;
    if worker.count == 1 {
        atomic::remove_parts(folder);
    }
    if let Some(finished) = &recorded
        && (0..plan.shard_count()).all(|k| plan.shard_path(folder, k).exists())
    {
        return Ok(finished.clone());
    }
    let mine = || (worker.index..plan.shard_count()).step_by(worker.count);
    let total = mine().map(|k| plan.shard_range(k).len()).sum();
    let mut done = 0;
    progress(Progress { done, total });
    for k in mine() {
        let range = plan.shard_range(k);
        // A shard that can't be read, or that another plan wrote, is drawn again.
        if check_shard(folder, &plan, k).is_ok() {
            done += range.len();
            progress(Progress { done, total });
            continue;
        }
        let shard = content(range, &mut |pairs| {
            done += pairs;
            progress(Progress { done, total });
        })?;
        write_shard(folder, &plan, k, &shard)?;
    }
    complete(folder, plan, recorded)
}

/// Claims `folder` for the plan. Gives the manifest of a store that is already complete.
fn start(folder: &Path, plan: &Manifest) -> Result<Option<Manifest>> {
    if plan.dtype == ImageType::U8 && plan.shape.len() == 1 {
        let problem = "is u8, which keeps images in [-1, 1], and these are points";
        return Err(Error::invalid(folder, "dtype", problem, "choose f32 or f16"));
    }
    atomic::create_folder(folder)?;
    let path = folder.join(MANIFEST);
    if path.exists() {
        let found = Manifest::read(folder)?;
        if let Some((field, theirs, ours)) = found.first_difference(plan) {
            return Err(Error::invalid(
                &path,
                field,
                format!("this store was begun with {theirs}, and this command asks for {ours}"),
                "choose another folder with --out, or give the command the store was begun with",
            ));
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

fn write_shard(folder: &Path, plan: &Manifest, k: usize, shard: &ShardContent) -> Result<()> {
    let path = plan.shard_path(folder, k);
    let (n, dim) = (plan.shard_range(k).len(), plan.dim());
    assert_eq!(shard.images.len(), n * dim, "a shard holds all pairs of its range");
    if let Some(i) = shard.images.iter().position(|x| !x.is_finite()) {
        let pair = plan.shard_range(k).start + i / dim;
        return Err(Error::invalid(
            &path,
            format!("pair {pair}"),
            format!("its image has the value {}", shard.images[i]),
            "check the teacher and the solver's noise levels; nothing of this shard was written",
        ));
    }
    let full_shape = |n: usize| [&[n], plan.shape.as_slice()].concat();
    let (halves, bytes): (Vec<half::f16>, Vec<u8>);
    let image = match plan.dtype {
        ImageType::F32 => RawTensor::f32(full_shape(n), &shard.images),
        ImageType::F16 => {
            halves = shard.images.iter().map(|x| half::f16::from_f32(*x)).collect();
            RawTensor {
                dtype: Dtype::F16,
                shape: full_shape(n),
                bytes: bytemuck::cast_slice(&halves),
            }
        }
        ImageType::U8 => {
            bytes = shard
                .images
                .iter()
                .map(|x| ((x + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8)
                .collect();
            RawTensor { dtype: Dtype::U8, shape: full_shape(n), bytes: &bytes }
        }
    };
    let mut parts = BTreeMap::from([("image".to_string(), image)]);
    match plan.noise {
        NoiseSource::Seeded { .. } => {
            let bytes = bytemuck::cast_slice(&shard.seeds);
            parts.insert("seed".into(), RawTensor { dtype: Dtype::U64, shape: vec![n], bytes });
        }
        NoiseSource::Stored => {
            parts.insert("noise".into(), RawTensor::f32(full_shape(n), &shard.noise));
        }
    }
    if plan.label_dim > 0 {
        let bytes = bytemuck::cast_slice(&shard.labels);
        parts.insert("label".into(), RawTensor { dtype: Dtype::U32, shape: vec![n], bytes });
    }
    tensors::write(&path, &json!({"plan": plan.plan_hash(), "shard": k}), &parts)
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
    Manifest::read(folder)
}

/// A shard whose bytes are not those on record.
pub(super) fn changed(path: &Path, found: &str, recorded: &str) -> Error {
    let problem = format!("is {found} where the manifest has {recorded}: the file has changed");
    Error::invalid(path, "sha256", problem, DRAW_AGAIN)
}

#[cfg(test)]
mod tests {
    use super::super::manifest::STORE_VERSION;
    use super::*;
    use crate::pairs::{PairStore, verify};
    use serde_json::Value;

    fn plan(dtype: ImageType, label_dim: usize) -> Manifest {
        Manifest {
            version: STORE_VERSION,
            teacher: None,
            sampling: Value::Null,
            noise: NoiseSource::Seeded {
                generator: kdm_random::GENERATOR.into(),
                first_seed: Some(5),
            },
            noise_std: 3.0,
            shape: vec![2, 3],
            dtype,
            label_dim,
            count: 25,
            shard_size: 10,
            history: Vec::new(),
            shards: Vec::new(),
            checksum: String::new(),
        }
    }

    /// What is read is what was drawn, to the precision of the type; noise and classes come from
    /// the seeds.
    #[test]
    fn pairs_come_back_in_every_type() {
        for (dtype, tolerance) in
            [(ImageType::F32, 0.0), (ImageType::F16, 5e-4), (ImageType::U8, 0.5 / 127.5 + 1e-6)]
        {
            let folder = tempfile::tempdir().unwrap();
            let mut draw = |noise: &[f32], labels: &Labels| -> Vec<f32> {
                assert_eq!(labels.len(), noise.len() / 6);
                noise.iter().map(|x| (x * 0.3).sin()).collect()
            };
            let manifest =
                generate(folder.path(), &plan(dtype, 4), Worker::ALONE, 7, &mut draw, &mut |_| {})
                    .unwrap();
            assert_eq!(manifest.shards.len(), 3);
            verify(folder.path(), &mut |_| {}).unwrap();
            let store = PairStore::open(folder.path()).unwrap();
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
        let mut draw = |noise: &[f32], _: &Labels| vec![f32::NAN; noise.len()];
        let failed = generate(
            folder.path(),
            &plan(ImageType::F32, 0),
            Worker::ALONE,
            7,
            &mut draw,
            &mut |_| {},
        );
        assert!(failed.unwrap_err().to_string().contains("pair 0"));
        assert!(!folder.path().join("shard-00000.safetensors").exists());
    }
}
