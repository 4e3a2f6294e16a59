//! Leaving pairs out by what their image is. What the student never sees it doesn't learn to draw:
//! the paper's point that unwanted samples can be removed offline, without the teacher.

use std::path::Path;

use kdm_random::Permutation;
use rayon::prelude::*;

use super::manifest::{Manifest, NoiseSource};
use super::store::PairStore;
use super::write::{Progress, ShardContent, Worker, fill};
use crate::hash::sha256;
use crate::{Array, Error, Result, Samples};

/// Which pairs to drop: those that any of these names.
#[derive(Clone, Debug, Default)]
pub struct Predicate {
    /// Images with a Euclidean norm below this.
    pub below_norm: Option<f64>,
    /// Images with a Euclidean norm above this.
    pub above_norm: Option<f64>,
    /// Images that lie apart from the others.
    pub outliers: Option<OutlierScore>,
    /// Images close to one of a given set.
    pub unwanted: Option<Unwanted>,
    /// Images of these classes.
    pub classes: Vec<u32>,
}

/// The outlier score of an image is the mean distance to its `neighbours` nearest among
/// `references` images of the store, in standard deviations above the mean of that over the store.
#[derive(Clone, Copy, Debug)]
pub struct OutlierScore {
    /// Images scoring above this are dropped; the paper's z-score is 3.
    pub above: f64,
    /// Nearest images that count.
    pub neighbours: usize,
    /// Images compared with, chosen by a fixed seed; bounds the work at pairs x references.
    pub references: usize,
}

/// Images within `radius` (Euclidean) of one of these are dropped.
#[derive(Clone, Debug)]
pub struct Unwanted {
    /// The images to stay away from, each of the store's shape.
    pub images: Array,
    /// The distance.
    pub radius: f64,
}

/// Pairs worked on at a time.
const BLOCK: usize = 4096;

/// Writes the pairs of `store` that none of `drop` names to a new store in `folder`. Memory use
/// grows by 8 bytes a pair.
///
/// # Errors
/// When nothing would be left, the unwanted set is of another shape, or the folder can't be
/// written.
pub fn filter(
    store: &PairStore,
    drop: &Predicate,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest> {
    let dim = store.manifest().dim();
    if let Some(unwanted) = &drop.unwanted
        && unwanted.images.row_len() != dim
    {
        return Err(Error::invalid(
            store.folder(),
            "shape",
            format!("pairs have {dim} values and the unwanted set {}", unwanted.images.row_len()),
            "give a set of the store's shape",
        ));
    }
    let total = store.len();
    let distances = drop.outliers.map(|score| neighbour_distances(store, score));
    let limit = drop.outliers.zip(distances.as_ref()).map(|(score, d)| {
        let mean = d.iter().sum::<f64>() / d.len() as f64;
        let variance = d.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / d.len() as f64;
        mean + score.above * variance.sqrt()
    });
    let mut kept = Vec::new();
    for start in (0..total).step_by(BLOCK) {
        let range = start..(start + BLOCK).min(total);
        let batch = store.range(range.clone());
        let keep: Vec<bool> = (0..range.len())
            .into_par_iter()
            .map(|row| {
                let image = &batch.images[row * dim..(row + 1) * dim];
                let norm = image.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                let far = || limit.zip(distances.as_ref()).is_some_and(|(l, d)| d[start + row] > l);
                let near = || {
                    drop.unwanted.as_ref().is_some_and(|u| {
                        u.images.data.chunks(dim).any(|other| distance(image, other) <= u.radius)
                    })
                };
                !(drop.below_norm.is_some_and(|limit| norm < limit)
                    || drop.above_norm.is_some_and(|limit| norm > limit)
                    || batch.labels.class(row).is_some_and(|class| drop.classes.contains(&class))
                    || far()
                    || near())
            })
            .collect();
        kept.extend(range.filter(|i| keep[i - start]));
    }
    if kept.is_empty() {
        let mend = "loosen the predicate; nothing was written";
        return Err(Error::invalid(store.folder(), "filter", "every pair would be dropped", mend));
    }
    let mut plan = store.manifest().plan();
    plan.count = kept.len();
    if let NoiseSource::Seeded { first_seed, .. } = &mut plan.noise {
        *first_seed = None;
    }
    // The hash keeps a filter that was interrupted from being gone on with by another one.
    let numbers: Vec<u64> = kept.iter().map(|i| *i as u64).collect();
    let hash =
        sha256(&[store.manifest().plan_hash().as_bytes(), bytemuck::cast_slice(&numbers)].concat());
    plan.history.push(format!(
        "kept {} of {total} pairs ({hash:.12}): {}",
        kept.len(),
        describe(drop)
    ));
    fill(folder, &plan, Worker::ALONE, progress, &mut |range, advance| {
        let batch = store.batch(&kept[range.clone()]);
        advance(range.len());
        Ok(content(batch, &store.manifest().noise))
    })
}

/// A batch as it is written again.
fn content(batch: Samples, noise: &NoiseSource) -> ShardContent {
    let stored = matches!(noise, NoiseSource::Stored);
    ShardContent {
        images: batch.images,
        seeds: batch.seeds,
        noise: if stored { batch.noise } else { Vec::new() },
        labels: batch.labels.classes(),
    }
}

fn neighbour_distances(store: &PairStore, score: OutlierScore) -> Vec<f64> {
    const CHOICE: u64 = 0x0071_1e75;
    let (dim, total) = (store.manifest().dim(), store.len());
    let chosen = Permutation::new(CHOICE, total as u64);
    let references: Vec<usize> =
        (0..score.references.min(total) as u64).map(|i| chosen.at(i) as usize).collect();
    let others = store.batch(&references).images;
    let mut distances = Vec::with_capacity(total);
    for start in (0..total).step_by(BLOCK) {
        let range = start..(start + BLOCK).min(total);
        let images = store.range(range.clone()).images;
        distances.par_extend(images.par_chunks(dim).zip(range).map(|(image, i)| {
            let mut all: Vec<f64> = others
                .chunks(dim)
                .zip(&references)
                .filter(|(_, j)| **j != i)
                .map(|(other, _)| distance(image, other))
                .collect();
            let k = score.neighbours.min(all.len());
            if k == 0 {
                return 0.0;
            }
            all.select_nth_unstable_by(k - 1, f64::total_cmp);
            all[..k].iter().sum::<f64>() / k as f64
        }));
    }
    distances
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
}

fn describe(drop: &Predicate) -> String {
    let mut parts = Vec::new();
    if let Some(limit) = drop.below_norm {
        parts.push(format!("norm below {limit} dropped"));
    }
    if let Some(limit) = drop.above_norm {
        parts.push(format!("norm above {limit} dropped"));
    }
    if let Some(score) = drop.outliers {
        parts.push(format!(
            "outlier score above {} dropped ({} neighbours among {})",
            score.above, score.neighbours, score.references
        ));
    }
    if let Some(unwanted) = &drop.unwanted {
        parts.push(format!(
            "within {} of {} unwanted images dropped",
            unwanted.radius,
            unwanted.images.rows()
        ));
    }
    if !drop.classes.is_empty() {
        parts.push(format!("classes {:?} dropped", drop.classes));
    }
    parts.join(", ")
}
