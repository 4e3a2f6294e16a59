//! One store of several that were drawn apart, on machines that share no disk, say.

use std::ops::Range;
use std::path::Path;

use kdm_observer::Observer;

use super::manifest::{Manifest, NoiseSource};
use super::store::PairStore;
use super::write::{Worker, fill};
use crate::hash::sha256;
use crate::{Error, Result, Samples};

/// Pairs worked on at a time.
const BLOCK: usize = 4096;

/// Writes the pairs of `stores` (at least one, each opened whole), one after the other, to a new
/// store in `folder`. Stores whose seeds count on from one to the next become the store that is
/// drawn at once, to the byte. Memory use grows by 8 bytes a pair.
///
/// # Errors
/// When stores are of different teachers, solvers, shapes or types, or have a seed in common; when
/// the folder can't be written; or the observer stops it: running it again goes on after the last
/// finished shard.
pub fn merge(stores: &[PairStore], folder: &Path, observer: &dyn Observer) -> Result<Manifest> {
    let plan = plan_of(stores)?;
    let mut progress = observer.begin("merge", "pairs");
    let mut batch = |range: Range<usize>| Ok(pairs_of(stores, range));
    let filled = fill(folder, &plan, Worker::ALONE, BLOCK, &mut batch, &mut progress)?;
    progress.finish(&format!("{} pairs of {} stores", plan.count, stores.len()));
    Ok(filled.manifest)
}

/// The plan of the store that they become.
fn plan_of(stores: &[PairStore]) -> Result<Manifest> {
    let [first, others @ ..] = stores else { panic!("there is at least one store") };
    others.iter().try_for_each(|other| check_alike(first, other))?;
    check_seeds(stores)?;
    let mut plan = first.manifest().plan();
    plan.count = stores.iter().map(PairStore::len).sum();
    if seeds_count_on(stores) {
        return Ok(plan);
    }
    if let NoiseSource::Seeded { first_seed, .. } = &mut plan.noise {
        *first_seed = None;
    }
    plan.history = stores.iter().flat_map(|store| store.manifest().history.clone()).collect();
    // The hash keeps another merge from continuing one that was interrupted.
    let plans: String = stores.iter().map(|store| store.manifest().plan_hash()).collect();
    let counts: Vec<String> = stores.iter().map(|store| store.len().to_string()).collect();
    let (hash, counts) = (sha256(plans.as_bytes()), counts.join(" + "));
    plan.history.push(format!("merged {counts} pairs ({hash:.12})"));
    Ok(plan)
}

/// Whether seeds count up from the first pair of the first store to the last of the last, and
/// nothing was done to any of them.
fn seeds_count_on(stores: &[PairStore]) -> bool {
    let first_seed = |store: &PairStore| match store.manifest().noise {
        NoiseSource::Seeded { first_seed, .. } => first_seed,
        NoiseSource::Stored => None,
    };
    let untouched = stores.iter().all(|store| store.manifest().history.is_empty());
    let follows = |pair: &[PairStore]| {
        let next = first_seed(&pair[0]).map(|seed| seed.wrapping_add(pair[0].len() as u64));
        next.is_some() && next == first_seed(&pair[1])
    };
    untouched && first_seed(&stores[0]).is_some() && stores.windows(2).all(follows)
}

/// Whether pairs of two stores can stand in one.
fn check_alike(first: &PairStore, other: &PairStore) -> Result<()> {
    let (a, b) = (first.manifest(), other.manifest());
    let generator = |manifest: &Manifest| match &manifest.noise {
        NoiseSource::Seeded { generator, .. } => Some(generator.clone()),
        NoiseSource::Stored => None,
    };
    let alike = [
        ("teacher", a.teacher == b.teacher),
        ("sampling", a.sampling == b.sampling),
        ("noise", generator(a) == generator(b)),
        ("noise_std", a.noise_std == b.noise_std),
        ("shape", a.shape == b.shape),
        ("dtype", a.dtype == b.dtype),
        ("label_dim", a.label_dim == b.label_dim),
        ("states", a.states == b.states),
    ];
    let Some((field, _)) = alike.into_iter().find(|(_, same)| !same) else { return Ok(()) };
    let problem = format!("differs from that of `{}`", first.folder().display());
    let action = "merge stores that one teacher drew in one way; see both with `kdm pairs info`";
    Err(Error::invalid(other.folder(), field, problem, action))
}

/// Whether no pair would be there twice.
fn check_seeds(stores: &[PairStore]) -> Result<()> {
    if stores[0].manifest().noise == NoiseSource::Stored {
        return Ok(());
    }
    let mut seeds: Vec<(u64, u32)> = Vec::new();
    for (number, store) in stores.iter().enumerate() {
        seeds.extend(store.seeds().map(|seed| (seed, number as u32)));
    }
    seeds.sort_unstable();
    let Some(twice) = seeds.windows(2).find(|pair| pair[0].0 == pair[1].0) else { return Ok(()) };
    let [(seed, one), (_, other)] = [twice[0], twice[1]];
    let problem =
        format!("the pair of seed {seed} is in `{}` too", stores[one as usize].folder().display());
    let action = "draw stores of different seeds (--first-seed), or leave one out";
    Err(Error::invalid(stores[other as usize].folder(), "seed", problem, action))
}

/// Pairs of the stores as if they were one.
fn pairs_of(stores: &[PairStore], range: Range<usize>) -> Samples {
    let mut first = 0;
    let mut all: Option<Samples> = None;
    for store in stores {
        let here = range.start.max(first)..range.end.min(first + store.len());
        if !here.is_empty() {
            let local: Vec<usize> = here.map(|pair| pair - first).collect();
            let pairs = store.batch_with_states(&local);
            match &mut all {
                None => all = Some(pairs),
                Some(all) => all.append(pairs),
            }
        }
        first += store.len();
    }
    all.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Labels;
    use crate::pairs::{ImageType, Predicate, filter, generate};
    use kdm_observer::Silent;

    fn draw(folder: &Path, first_seed: u64, count: usize, noise_std: f64) -> PairStore {
        let plan = Manifest::seeded(first_seed, noise_std, &[3], count);
        let plan = Manifest { dtype: ImageType::F16, label_dim: 4, shard_size: 10, ..plan };
        let mut sines = |noise: &[f32], _: &Labels| noise.iter().map(|x| (x * 0.3).sin()).collect();
        generate(folder, &plan, Worker::ALONE, 7, &mut sines, "pairs", &Silent).unwrap();
        PairStore::open(folder).unwrap()
    }

    fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let files = std::fs::read_dir(folder).unwrap().map(|file| {
            let path = file.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap())
        });
        let mut files: Vec<_> = files.collect();
        files.sort();
        files
    }

    #[test]
    fn stores_of_successive_seeds_become_the_store_drawn_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        draw(&at("whole"), 5, 42, 3.0);
        let parts =
            [draw(&at("a"), 5, 17, 3.0), draw(&at("b"), 22, 20, 3.0), draw(&at("c"), 42, 5, 3.0)];
        merge(&parts, &at("merged"), &Silent).unwrap();
        assert_eq!(files(&at("merged")), files(&at("whole")));
    }

    #[test]
    fn other_stores_keep_their_pairs_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (late, early) = (draw(&at("late"), 100, 12, 3.0), draw(&at("early"), 0, 13, 3.0));
        let drop = Predicate { classes: vec![1], ..Predicate::default() };
        filter(&late, &drop, &at("filtered"), &Silent).unwrap();
        let filtered = PairStore::open(&at("filtered")).unwrap();
        let stores = [filtered.clone(), early.clone()];
        let manifest = merge(&stores, &at("merged"), &Silent).unwrap();
        assert_eq!(manifest.history.len(), 2, "{:?}", manifest.history);
        let merged = PairStore::open(&at("merged")).unwrap();
        let [a, b, all] = [&filtered, &early, &merged].map(|store| store.range(0..store.len()));
        assert_eq!(all.images, [a.images, b.images].concat());
        assert_eq!(all.noise, [a.noise, b.noise].concat());
        assert_eq!(all.seeds, [a.seeds, b.seeds].concat());
        assert_eq!(all.labels.classes(), [a.labels.classes(), b.labels.classes()].concat());
    }

    #[test]
    fn stores_that_differ_or_overlap_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let first = draw(&at("first"), 0, 12, 3.0);
        for (name, seed, std, part) in
            [("other", 50, 2.0, "noise_std"), ("overlaps", 11, 3.0, "the pair of seed 11")]
        {
            let other = draw(&at(name), seed, 12, std);
            let error = merge(&[first.clone(), other], &at("merged"), &Silent).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(part) && text.contains(name), "{text}");
            assert!(!at("merged").exists());
        }
    }
}
