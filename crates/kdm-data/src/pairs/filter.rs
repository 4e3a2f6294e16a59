//! Leaving pairs out by what their image is. What the student never sees it doesn't learn to draw:
//! the paper's point that unwanted samples can be removed offline, without the teacher.

use std::ops::Range;
use std::path::Path;

use kdm_observer::{Observer, Stopped};
use kdm_random::Permutation;
use rayon::prelude::*;

use super::manifest::{Manifest, NoiseSource};
use super::store::PairStore;
use super::write::{Worker, fill};
use crate::hash::sha256;
use crate::{Array, Error, Result};

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

impl Predicate {
    /// Whether it names no pairs at all.
    pub fn is_empty(&self) -> bool {
        self.below_norm.is_none()
            && self.above_norm.is_none()
            && self.outliers.is_none()
            && self.unwanted.is_none()
            && self.classes.is_empty()
    }
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

impl OutlierScore {
    /// The score as a store of `total` pairs can have it: an image has at most all others as
    /// neighbours. Says so where it was asked for more.
    fn within(self, total: usize, observer: &dyn Observer) -> Self {
        let references = self.references.min(total);
        // A reference is no neighbour of its own.
        let neighbours = self.neighbours.min(references.saturating_sub(1).max(1));
        if (references, neighbours) != (self.references, self.neighbours) {
            observer.info(&format!(
                "the store has {total} pairs: the outlier score takes {neighbours} neighbours \
                 among {references} references, not {} among {}",
                self.neighbours, self.references
            ));
        }
        Self { references, neighbours, ..self }
    }
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

/// Writes the pairs of `store` (opened whole) that none of `drop` names to a new store in `folder`.
/// Memory use grows by 8 bytes a pair.
///
/// # Errors
/// When nothing would be left, the unwanted set is of another shape, the folder can't be written,
/// or the observer stops it; running it again goes on after the last finished shard.
pub fn filter(
    store: &PairStore,
    drop: &Predicate,
    folder: &Path,
    observer: &dyn Observer,
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
    let (total, label_dim) = (store.len(), store.manifest().label_dim);
    if let Some(class) = drop.classes.iter().find(|class| **class as usize >= label_dim) {
        let problem = match label_dim {
            0 => format!("class {class} is unknown: these pairs have no classes"),
            n => format!("class {class} is unknown: there are the classes 0 to {}", n - 1),
        };
        let action = "name classes that the pairs have; nothing was written";
        return Err(Error::invalid(store.folder(), "classes", problem, action));
    }
    let outliers = drop.outliers.map(|score| score.within(total, observer));
    let drop = &Predicate { outliers, ..drop.clone() };
    let distances =
        drop.outliers.map(|score| neighbour_distances(store, score, observer)).transpose()?;
    let limit = drop.outliers.zip(distances.as_ref()).map(|(score, d)| {
        let mean = d.iter().sum::<f64>() / d.len() as f64;
        let variance = d.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / d.len() as f64;
        mean + score.above * variance.sqrt()
    });
    let mut kept = Vec::new();
    let mut progress = observer.begin("filter: choose", "pairs");
    for start in (0..total).step_by(BLOCK) {
        progress.advance(start as u64, total as u64, "").map_err(nothing_written(store))?;
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
        let action = "loosen the predicate; nothing was written";
        return Err(Error::invalid(
            store.folder(),
            "filter",
            "every pair would be dropped",
            action,
        ));
    }
    progress.report(total as u64, total as u64, "");
    progress.finish(&format!("{} of {total} pairs are kept", kept.len()));
    let mut plan = store.manifest().plan();
    plan.count = kept.len();
    if let NoiseSource::Seeded { first_seed, .. } = &mut plan.noise {
        *first_seed = None;
    }
    // The hash keeps another filter from continuing one that was interrupted.
    let numbers: Vec<u64> = kept.iter().map(|i| *i as u64).collect();
    let hash =
        sha256(&[store.manifest().plan_hash().as_bytes(), bytemuck::cast_slice(&numbers)].concat());
    plan.history.push(format!(
        "kept {} of {total} pairs ({hash:.12}): {}",
        kept.len(),
        describe(drop)
    ));
    let mut progress = observer.begin("filter", "pairs");
    let mut batch = |range: Range<usize>| Ok(store.batch_with_states(&kept[range]));
    let filled = fill(folder, &plan, Worker::ALONE, BLOCK, &mut batch, &mut progress)?;
    progress.finish(plan.history.last().map_or("", String::as_str));
    Ok(filled.manifest)
}

fn nothing_written(store: &PairStore) -> impl FnOnce(Stopped) -> Error {
    let work = format!("filtering `{}`", store.folder().display());
    Error::stopped(work, "nothing was written", "run the same command again: it begins anew")
}

fn neighbour_distances(
    store: &PairStore,
    score: OutlierScore,
    observer: &dyn Observer,
) -> Result<Vec<f64>> {
    const CHOICE: u64 = 0x0071_1e75;
    let (dim, total) = (store.manifest().dim(), store.len());
    let chosen = Permutation::new(CHOICE, total as u64);
    let references: Vec<usize> =
        (0..score.references.min(total) as u64).map(|i| chosen.at(i) as usize).collect();
    let others = store.batch(&references).images;
    let mut distances = Vec::with_capacity(total);
    let mut progress = observer.begin("filter: outlier scores", "pairs");
    for start in (0..total).step_by(BLOCK) {
        progress.advance(start as u64, total as u64, "").map_err(nothing_written(store))?;
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
    progress.report(total as u64, total as u64, "");
    progress.finish(&format!("{} neighbours among {}", score.neighbours, references.len()));
    Ok(distances)
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
