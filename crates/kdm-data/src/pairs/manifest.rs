//! `manifest.json`: how the pairs of a store came to be, and what its files must hash to.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::plausible::fault;
use super::states::StateTime;
use crate::hash::sha256;
use crate::images::known_classes;
use crate::{Error, Labels, Result, Samples, atomic, regular};

/// The manifest's file name.
pub const MANIFEST: &str = "manifest.json";

/// The version of the store's format that this program writes and reads.
pub const STORE_VERSION: u32 = 1;

/// The least standard deviation of x_T that a store may have.
pub const MIN_NOISE_STD: f64 = 1e-6;

/// The largest.
pub const MAX_NOISE_STD: f64 = 1e6;

/// What is known of a store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`STORE_VERSION`].
    pub version: u32,
    /// The teacher the images are from; none for imported pairs.
    pub teacher: Option<TeacherStamp>,
    /// How the teacher was run; none for imported pairs.
    pub sampling: Option<Sampling>,
    /// Where the noise is.
    pub noise: NoiseSource,
    /// Standard deviation of x_T.
    pub noise_std: f64,
    /// Shape of one image, `[C, H, W]`, or of one point, `[D]`.
    pub shape: Vec<usize>,
    /// How images are kept.
    pub dtype: ImageType,
    /// Classes; 0 for unconditional pairs.
    pub label_dim: usize,
    /// Pairs in the whole store.
    pub count: usize,
    /// Pairs a shard; the last one may have fewer.
    pub shard_size: usize,
    /// Times of the states between noise and image that are kept of each pair, from noise to image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<StateTime>,
    /// What was done to the pairs after they were drawn: imports and filters, a line each.
    pub history: Vec<String>,
    /// The shards in order, once all of them are there; empty until then.
    pub shards: Vec<ShardRecord>,
    /// SHA-256 of this manifest's JSON with this field empty.
    pub checksum: String,
}

/// Which teacher drew the images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherStamp {
    /// Its kind, for a person to read.
    pub name: String,
    /// The data it learned, such as `checkerboard`.
    pub data: String,
    /// Hash of its configuration and weights.
    pub sha256: String,
    /// The names of its classes in order; none where they are not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_names: Vec<String>,
}

impl TeacherStamp {
    /// The names of its classes: as recorded, or those of a data set that is known by name.
    pub fn names_of_classes(&self) -> Vec<String> {
        match self.class_names.is_empty() {
            true => known_classes(&self.data),
            false => self.class_names.clone(),
        }
    }
}

/// How a teacher was run. The process and the solver are the teacher's own types as JSON: they are
/// kept and compared here, and read by whoever knows teachers. The fields stand in the order of the
/// alphabet, in which stores have had them since version 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Evaluations of the teacher's network a pair.
    pub evaluations: usize,
    /// Weight of classifier-free guidance; none where labels were followed without, weight 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f64>,
    /// The noise levels.
    pub process: Value,
    /// The solver.
    pub solver: Value,
    /// Steps of the solver.
    pub steps: usize,
}

/// Where a pair's noise is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "source", rename_all = "kebab-case")]
pub enum NoiseSource {
    /// Drawn again from the pair's seed.
    Seeded {
        /// The definition of the noise, [`kdm_random::GENERATOR`].
        generator: String,
        /// Seed of the first pair when seeds count up from it; none in a filtered store.
        first_seed: Option<u64>,
    },
    /// Kept beside the image, as f32.
    Stored,
}

/// How images are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats: relative error 5e-4.
    F16,
    /// Bytes, for images in [-1, 1]: round((x + 1) 127.5), error up to 1/255.
    U8,
}

/// One shard's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardRecord {
    /// File name in the store's folder.
    pub file: String,
    /// Pairs in it.
    pub count: usize,
    /// SHA-256 of the whole file.
    pub sha256: String,
}

/// Bytes of the largest manifest: a line for each of a million shards.
const MOST_BYTES: u64 = 1 << 28;

/// Stream of a pair's seed that its label is drawn from.
const LABEL_STREAM: u64 = 1;

/// x_T of the pair with this seed: `noise_std` times standard normal numbers. The seed alone
/// decides it.
pub fn noise_of_seed(seed: u64, noise_std: f64, out: &mut [f32]) {
    kdm_random::fill_normal(seed, out);
    if noise_std != 1.0 {
        let std = noise_std as f32;
        out.iter_mut().for_each(|x| *x *= std);
    }
}

/// The class of the pair with this seed, uniform over 0..label_dim; 0 when there are no classes.
pub fn label_of_seed(seed: u64, label_dim: usize) -> u32 {
    let draw = kdm_random::uniform_f64(kdm_random::derive_seed(seed, LABEL_STREAM), 0);
    (draw * label_dim as f64) as u32
}

/// Noise x_T, labels and seeds of the pairs `range` of this plan, whose seeds count up from
/// `first`; no images.
pub(super) fn seeded_noise(plan: &Manifest, first: u64, range: Range<usize>) -> Samples {
    let (dim, classes) = (plan.dim(), plan.label_dim);
    let seeds: Vec<u64> = range.map(|i| first.wrapping_add(i as u64)).collect();
    let mut noise = vec![0.0; seeds.len() * dim];
    let rows = noise.par_chunks_mut(dim).zip(&seeds);
    rows.for_each(|(row, seed)| noise_of_seed(*seed, plan.noise_std, row));
    let label = |seed: &u64| (classes > 0).then(|| label_of_seed(*seed, classes));
    let labels: Labels = seeds.iter().map(label).collect();
    Samples { shape: plan.shape.clone(), noise, labels, seeds, ..Samples::default() }
}

/// The error of a place that is no store of pairs.
fn no_store(folder: &Path) -> Error {
    let problem = match (folder.exists(), folder.is_dir()) {
        (false, _) => "there is no such folder".to_string(),
        (true, true) => format!("holds no pairs ({MANIFEST} is missing)"),
        (true, false) => "is a file, and a store of pairs is a folder".into(),
    };
    let action = "name a folder of noise-image pairs: `kdm pairs generate --model TEACHER --out \
                  FOLDER` draws one, and a run keeps its own in RUN/pairs";
    Error::invalid(folder, "pairs", problem, action)
}

impl Manifest {
    /// The plan of `count` unconditional pairs of samples of `shape`, kept as f32, 8192 a shard.
    /// The noise has the standard deviation `noise_std` and is drawn from the seeds `first_seed`,
    /// `first_seed` + 1 and so on. No teacher is named. Change what differs before the store is
    /// begun.
    pub fn seeded(first_seed: u64, noise_std: f64, shape: &[usize], count: usize) -> Self {
        Self {
            version: STORE_VERSION,
            teacher: None,
            sampling: None,
            noise: NoiseSource::Seeded {
                generator: kdm_random::GENERATOR.into(),
                first_seed: Some(first_seed),
            },
            noise_std,
            shape: shape.to_vec(),
            dtype: ImageType::F32,
            label_dim: 0,
            count,
            shard_size: 8192,
            states: Vec::new(),
            history: Vec::new(),
            shards: Vec::new(),
            checksum: String::new(),
        }
    }

    /// Values a sample.
    pub fn dim(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes that the pairs take in the store's files.
    pub fn bytes(&self) -> u64 {
        let value = match self.dtype {
            ImageType::F32 => 4,
            ImageType::F16 => 2,
            ImageType::U8 => 1,
        };
        let dim = self.dim() as u64;
        let noise = if self.noise == NoiseSource::Stored { dim.saturating_mul(4) } else { 8 };
        let label = if self.label_dim > 0 { 4 } else { 0 };
        // States are kept as f16.
        let states = dim.saturating_mul(2).saturating_mul(self.states.len() as u64);
        let pair = dim.saturating_mul(value).saturating_add(states).saturating_add(noise + label);
        pair.saturating_mul(self.count as u64)
    }

    /// Shards the whole store has.
    pub fn shard_count(&self) -> usize {
        self.count.div_ceil(self.shard_size)
    }

    /// The pairs of shard `k`.
    pub fn shard_range(&self, k: usize) -> std::ops::Range<usize> {
        k * self.shard_size..((k + 1) * self.shard_size).min(self.count)
    }

    /// The file of shard `k` in `folder`.
    pub fn shard_path(&self, folder: &Path, k: usize) -> PathBuf {
        folder.join(format!("shard-{k:05}.safetensors"))
    }

    /// Whether all shards are there.
    pub fn is_complete(&self) -> bool {
        self.shards.len() == self.shard_count()
    }

    /// The manifest without what only a complete store knows: two commands that would write the
    /// same pairs agree on it.
    pub fn plan(&self) -> Self {
        Self { shards: Vec::new(), checksum: String::new(), ..self.clone() }
    }

    /// Identifies the plan; every shard carries it.
    pub fn plan_hash(&self) -> String {
        sha256(json(&self.plan()).as_bytes())
    }

    /// Reads `folder`'s manifest.
    ///
    /// # Errors
    /// When it is missing, damaged, or of a version this program doesn't know.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        if !path.exists() {
            return Err(no_store(folder));
        }
        let bytes = regular::read(&path, MOST_BYTES)?;
        let damaged = |field: &str, problem: String| {
            Error::invalid(
                &path,
                field,
                problem,
                "restore it from a copy, or generate or import the pairs again",
            )
        };
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|e| damaged("manifest", format!("not JSON ({e})")))?;
        let version = value["version"].as_u64();
        if version != Some(u64::from(STORE_VERSION)) {
            let found = version.map_or("missing".to_string(), |v| v.to_string());
            let problem = format!("{found}, and this program reads version {STORE_VERSION}");
            return Err(Error::invalid(&path, "version", problem, "use the program that wrote it"));
        }
        let manifest: Self =
            serde_json::from_value(value).map_err(|e| damaged("manifest", e.to_string()))?;
        if manifest.checksum != manifest.own_checksum() {
            return Err(damaged(
                "checksum",
                "doesn't match the rest of the file: it was edited or damaged".into(),
            ));
        }
        if let Some((field, problem)) = fault(&manifest) {
            return Err(damaged(field, problem));
        }
        if let NoiseSource::Seeded { generator, .. } = &manifest.noise
            && generator != kdm_random::GENERATOR
        {
            let problem =
                format!("`{generator}`, and this program draws `{}`", kdm_random::GENERATOR);
            return Err(Error::invalid(
                &path,
                "noise.generator",
                problem,
                "use the program that wrote it",
            ));
        }
        Ok(manifest)
    }

    /// Writes it into `folder`, checksum and all.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let sealed = Self { checksum: self.own_checksum(), ..self.clone() };
        atomic::write(&folder.join(MANIFEST), (json(&sealed) + "\n").as_bytes())
    }

    fn own_checksum(&self) -> String {
        sha256(json(&Self { checksum: String::new(), ..self.clone() }).as_bytes())
    }

    /// The first field in which the other plan differs, with both values.
    pub fn first_difference(&self, other: &Self) -> Option<(String, String, String)> {
        let (a, b) = (to_value(&self.plan()), to_value(&other.plan()));
        let (a, b) = (a.as_object()?, b.as_object()?);
        // A key may be in one of them alone.
        let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        let shown = |fields: &Map<String, Value>, key: &str| {
            fields.get(key).unwrap_or(&Value::Null).to_string()
        };
        let other = keys.into_iter().find(|key| a.get(*key) != b.get(*key))?;
        Some((other.clone(), shown(a, other), shown(b, other)))
    }
}

fn to_value(manifest: &Manifest) -> Value {
    serde_json::to_value(manifest).expect("plain data")
}

fn json(manifest: &Manifest) -> String {
    serde_json::to_string_pretty(manifest).expect("plain data")
}
