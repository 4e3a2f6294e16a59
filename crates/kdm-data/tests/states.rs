//! Stores that keep states between noise and image.

use std::path::Path;

use kdm_data::pairs::{
    self, Drawn, Manifest, PairStore, Predicate, Share, StateTime, Worker, generate_watched, verify,
};
use kdm_data::{Error, Labels, Result};
use kdm_observer::{Event, Observer, Silent, Stopped};

const TAUS: [f64; 3] = [0.25, 0.5, 0.75];

fn plan(count: usize) -> Manifest {
    let states = TAUS.iter().map(|tau| StateTime::straight(*tau, 3.0)).collect();
    Manifest { label_dim: 2, shard_size: 10, states, ..Manifest::seeded(5, 3.0, &[1, 2], count) }
}

/// A straight way from noise to a tenth of it.
fn draw(
    folder: &Path,
    plan: &Manifest,
    worker: Worker,
    batch: usize,
    observer: &dyn Observer,
) -> Result<Manifest> {
    let taus: Vec<f32> = plan.states.iter().map(|time| time.tau as f32).collect();
    let mut way = |noise: &[f32], _: &Labels, _: &mut Share| {
        let state = |row: &[f32], tau: f32| -> Vec<f32> {
            row.iter().map(|x| x * (1.0 - 0.9 * tau)).collect()
        };
        let rows = || noise.chunks(2);
        let states = rows().flat_map(|row| taus.iter().flat_map(move |tau| state(row, *tau)));
        Ok::<_, Stopped>(Drawn {
            states: states.collect(),
            images: rows().flat_map(|row| state(row, 1.0)).collect(),
        })
    };
    generate_watched(folder, plan, worker, batch, &mut way, "pairs", observer)
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |entry: std::fs::DirEntry| {
        (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap())
    };
    let mut all: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| read(e.unwrap())).collect();
    all.sort();
    all
}

/// States come back with their pairs to the precision of f16, and only where they are asked for.
#[test]
fn states_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = draw(folder.path(), &plan(25), Worker::ALONE, 4, &Silent).unwrap();
    assert_eq!(manifest.states[1], StateTime { tau: 0.5, alpha: 0.5, sigma: 1.5 });
    let store = verify(folder.path(), &Silent).unwrap();
    let chosen = [24, 3, 10];
    let (batch, plain) = (store.batch_with_states(&chosen), store.batch(&chosen));
    assert!(plain.states.is_empty());
    assert_eq!(plain.images, batch.images);
    assert_eq!(batch.states.len(), 3 * 3 * 2);
    for (row, states) in batch.states.chunks(6).enumerate() {
        for (state, tau) in states.chunks(2).zip(TAUS) {
            for (x, noise) in state.iter().zip(&batch.noise[2 * row..]) {
                let expected = noise * (1.0 - 0.9 * tau as f32);
                assert!((x - expected).abs() <= 5e-4 * expected.abs(), "{x} {expected}");
            }
        }
    }
    let second = batch.range(1..3);
    assert_eq!(second.states, batch.states[6..]);
}

/// A store with states is the same however it was drawn: in other batches, by two workers, stopped
/// within a shard, grown.
#[test]
fn states_are_the_same_however_they_are_drawn() {
    struct StopAt(u64, std::cell::Cell<bool>);
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
    let [whole, shared, grown] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let plan = plan(25);
    draw(whole.path(), &plan, Worker::ALONE, 25, &Silent).unwrap();
    for index in [1, 0] {
        draw(shared.path(), &plan, Worker { index, count: 2 }, 3, &Silent).unwrap();
    }
    assert!(files(shared.path()) == files(whole.path()));
    let fewer = Manifest { count: 13, ..plan.clone() };
    draw(grown.path(), &fewer, Worker::ALONE, 4, &Silent).unwrap();
    let stop = StopAt(17, std::cell::Cell::new(false));
    let stopped = draw(grown.path(), &plan, Worker::ALONE, 2, &stop);
    assert!(matches!(stopped, Err(Error::Stopped { .. })), "{stopped:?}");
    draw(grown.path(), &plan, Worker::ALONE, 4, &Silent).unwrap();
    assert!(files(grown.path()) == files(whole.path()));
}

/// A filter keeps the states of the pairs that it keeps.
#[test]
fn filters_keep_states() {
    let [folder, out] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    draw(folder.path(), &plan(25), Worker::ALONE, 25, &Silent).unwrap();
    let store = PairStore::open(folder.path()).unwrap();
    let drop = Predicate { classes: vec![1], ..Predicate::default() };
    pairs::filter(&store, &drop, out.path(), &Silent).unwrap();
    let kept = PairStore::open_verified(out.path()).unwrap();
    let all = store.batch_with_states(&(0..25).collect::<Vec<_>>());
    let places: Vec<usize> = (0..25).filter(|i| all.labels.class(*i) == Some(0)).collect();
    let kept = kept.batch_with_states(&(0..places.len()).collect::<Vec<_>>());
    let expected: Vec<f32> = places.iter().flat_map(|i| all.range(*i..i + 1).states).collect();
    assert_eq!(kept.states, expected);
}

/// States that can't be kept, a store with others, and a changed bit are told.
#[test]
fn what_is_wrong_with_states_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let loud = Manifest { noise_std: 1e6, ..plan(9) };
    let message = draw(at, &loud, Worker::ALONE, 9, &Silent).unwrap_err().to_string();
    assert!(message.contains("pair 0") && message.contains("65504"), "{message}");
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    draw(at, &plan(9), Worker::ALONE, 9, &Silent).unwrap();
    for states in [Vec::new(), vec![StateTime::straight(0.5, 3.0)]] {
        let other = Manifest { states, ..plan(9) };
        let message = draw(at, &other, Worker::ALONE, 9, &Silent).unwrap_err().to_string();
        assert!(message.contains("states") && message.contains("--out"), "{message}");
    }
    let without = Manifest { states: Vec::new(), ..plan(9) };
    let plain = tempfile::tempdir().unwrap();
    draw(plain.path(), &without, Worker::ALONE, 9, &Silent).unwrap();
    let manifest = std::fs::read_to_string(plain.path().join(pairs::MANIFEST)).unwrap();
    assert!(!manifest.contains("states"), "{manifest}");
    let message = draw(plain.path(), &plan(9), Worker::ALONE, 9, &Silent).unwrap_err().to_string();
    assert!(message.contains("states"), "{message}");
    let shard = at.join("shard-00000.safetensors");
    let mut bytes = std::fs::read(&shard).unwrap();
    let last = bytes.len() - 9;
    bytes[last] ^= 4;
    std::fs::write(&shard, bytes).unwrap();
    assert!(verify(at, &Silent).unwrap_err().to_string().contains("has changed"));
}
