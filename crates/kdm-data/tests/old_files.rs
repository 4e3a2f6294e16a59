//! Stores that earlier versions wrote stay what they are: they verify, their manifests come out in
//! the same bytes, and the same work writes the same files.
//!
//! `old/` was written by version 0.1.0 at commit 8696b89:
//!
//!     kdm pairs generate --teacher checkerboard --out plain --count 20 --shard-size 8
//!     kdm pairs generate --teacher fashion-mnist --out guided --count 3 --shard-size 2 \
//!         --guidance 1.5 --steps 2 --solver euler --dtype u8
//!     kdm pairs export --pairs plain --out plain.npz
//!     kdm pairs import plain.npz --out imported --shard-size 8
//!     kdm pairs filter --pairs plain --out filtered --above-norm 3

use std::path::{Path, PathBuf};

use kdm_data::Labels;
use kdm_data::pairs::{self, MANIFEST, PairStore, Predicate, Sampling, Worker};
use kdm_observer::Silent;
use serde_json::json;

fn old(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/old").join(name)
}

/// Two folders with the same files.
fn assert_same_files(folder: &Path, expected: &Path) {
    let names = |folder: &Path| {
        let mut names: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(folder), names(expected));
    for name in names(folder) {
        let (found, expected) = (folder.join(&name), expected.join(&name));
        assert_eq!(std::fs::read(found).unwrap(), std::fs::read(expected).unwrap(), "{name:?}");
    }
}

#[test]
fn old_manifests_are_understood_and_come_out_in_the_same_bytes() {
    let diffusion = json!({"kind": "diffusion", "rho": 7.0, "sigma_max": 80.0, "sigma_min": 0.002});
    let sampling = |solver: &str, steps, evaluations, guidance| {
        let (process, solver) = (diffusion.clone(), json!(solver));
        Some(Sampling { evaluations, guidance, process, solver, steps })
    };
    for (name, expected) in [
        ("plain", sampling("heun", 18, 35, None)),
        ("filtered", sampling("heun", 18, 35, None)),
        ("guided", sampling("euler", 2, 4, Some(1.5))),
        ("imported", None),
    ] {
        let store = pairs::verify(&old(name), &Silent).unwrap();
        assert_eq!(store.manifest().sampling, expected, "{name}");
        // Shards name the hash of the plan, so that one that changed would not have opened; and
        // written again, the manifest is the same to the byte.
        let folder = tempfile::tempdir().unwrap();
        store.manifest().write(folder.path()).unwrap();
        let text = |folder: &Path| std::fs::read_to_string(folder.join(MANIFEST)).unwrap();
        assert_eq!(text(folder.path()), text(&old(name)), "{name}");
    }
}

/// A store drawn or filtered now is the store of then (for imports: `tests/pairs.rs` in
/// kdm-formats).
#[test]
fn the_same_work_writes_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let plain = PairStore::open_verified(&old("plain")).unwrap();

    // The teacher of then stands in the images that it drew.
    let (images, mut drawn) = (plain.range(0..20).images, 0);
    let mut draw = |noise: &[f32], _: &Labels| {
        drawn += noise.len();
        images[drawn - noise.len()..drawn].to_vec()
    };
    let (again, plan) = (folder.path().join("plain"), plain.manifest().plan());
    pairs::generate(&again, &plan, Worker::ALONE, 3, &mut draw, "pairs", &Silent).unwrap();
    assert_same_files(&again, &old("plain"));

    let again = folder.path().join("filtered");
    let drop = Predicate { above_norm: Some(3.0), ..Predicate::default() };
    pairs::filter(&plain, &drop, &again, &Silent).unwrap();
    assert_same_files(&again, &old("filtered"));
}

/// A part needs its own shards alone: damage elsewhere doesn't matter, damage in it is found.
#[test]
fn a_part_is_verified_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for file in std::fs::read_dir(old("plain")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), at.join(file.file_name())).unwrap();
    }
    let whole = PairStore::open_verified(&old("plain")).unwrap();
    // Shards of 8, 8 and 4 pairs; one bit of the second is flipped.
    let second = at.join("shard-00001.safetensors");
    let mut bytes = std::fs::read(&second).unwrap();
    let place = bytes.len() - 8 * 8 - 1;
    bytes[place] ^= 1;
    std::fs::write(&second, &bytes).unwrap();
    let found = |part: std::ops::Range<usize>| {
        let message = PairStore::open_part(at, part).unwrap_err().to_string();
        assert!(message.contains("shard-00001") && message.contains("has changed"), "{message}");
    };
    found(0..9);
    found(8..16);
    found(15..20);
    for part in [0..8, 3..5, 16..20, 20..20] {
        let store = PairStore::open_part(at, part.clone()).unwrap();
        assert_eq!((store.len(), store.part()), (20, part.clone()));
        assert_eq!(store.clone().range(part.clone()), whole.range(part));
    }
    assert!(PairStore::open_verified(at).unwrap_err().to_string().contains("shard-00001"));
    // Where the file is gone, too.
    std::fs::remove_file(&second).unwrap();
    assert!(PairStore::open_part(at, 16..20).is_ok());
    assert!(PairStore::open_part(at, 8..9).is_err());
    let message = PairStore::open_part(at, 10..21).unwrap_err().to_string();
    assert!(message.contains("10 to 21") && message.contains("has 20"), "{message}");
}

#[test]
#[should_panic(expected = "pair 8 is not among the pairs opened")]
fn pairs_outside_a_part_are_not_read() {
    let _ = PairStore::open_part(&old("plain"), 0..8).unwrap().batch(&[8]);
}
