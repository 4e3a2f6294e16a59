//! Stores whose checksums fit what somebody wrote into them, and which make no sense all the same.

use std::collections::BTreeMap;
use std::path::Path;

use kdm_data::pairs::{Manifest, NoiseSource, PairStore, Worker, generate, verify};
use kdm_data::tensors::{self, RawTensor};
use kdm_data::{Labels, TensorFile, hash};
use kdm_observer::Silent;
use safetensors::Dtype;

/// A store of 6 labelled pairs, 4 a shard.
fn store(folder: &Path) -> Manifest {
    let plan = Manifest { label_dim: 3, shard_size: 4, ..Manifest::seeded(0, 1.0, &[2], 6) };
    let mut draw = |noise: &[f32], _: &Labels| noise.to_vec();
    generate(folder, &plan, Worker::ALONE, 4, &mut draw, "pairs", &Silent).unwrap()
}

fn refused(folder: &Path, parts: &[&str]) {
    let message = verify(folder, &Silent).map(|_| ()).unwrap_err().to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "{parts:?}: {message}");
}

/// Replaces a tensor of the second shard and lets manifest and shard agree.
fn forge(folder: &Path, manifest: &Manifest, name: &str, dtype: Dtype, bytes: &[u8]) {
    let path = manifest.shard_path(folder, 1);
    let file = TensorFile::open(&path).unwrap();
    let mut all = BTreeMap::new();
    for (name, _, _) in file.entries() {
        all.insert(name.to_string(), file.get(name).unwrap());
    }
    let shape = all[name].shape.clone();
    all.insert(name.to_string(), RawTensor { dtype, shape, bytes });
    let whole: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> = all
        .iter()
        .map(|(name, t)| (name.clone(), (t.dtype, t.shape.clone(), t.bytes.to_vec())))
        .collect();
    let metadata = file.metadata().clone();
    drop(file);
    let mut written = BTreeMap::new();
    for (name, (dtype, shape, bytes)) in &whole {
        written.insert(name.clone(), RawTensor { dtype: *dtype, shape: shape.clone(), bytes });
    }
    tensors::write(&path, &metadata, &written).unwrap();
    let mut forged = manifest.clone();
    forged.shards[1].sha256 = hash::sha256(&std::fs::read(&path).unwrap());
    forged.write(folder).unwrap();
}

/// A class beyond the last would be taken for another pair's.
#[test]
fn labels_beyond_the_last_class_are_refused_at_opening() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = store(folder.path());
    verify(folder.path(), &Silent).unwrap();
    let labels: Vec<u8> = [1u32, 7].iter().flat_map(|class| class.to_le_bytes()).collect();
    forge(folder.path(), &manifest, "label", Dtype::U32, &labels);
    refused(folder.path(), &["shard-00001", "pair 1 is of class 7", "3 classes"]);
    assert!(PairStore::open(folder.path()).is_err());
    assert!(PairStore::open_part(folder.path(), 4..5).is_err());
}

#[test]
fn images_that_are_no_numbers_are_found() {
    for value in [f32::NAN, f32::INFINITY] {
        let folder = tempfile::tempdir().unwrap();
        let manifest = store(folder.path());
        let images: Vec<u8> =
            [0.0, 1.0, value, 0.5f32].iter().flat_map(|x| x.to_le_bytes()).collect();
        forge(folder.path(), &manifest, "image", Dtype::F32, &images);
        refused(folder.path(), &["shard-00001", "image", "pair 5"]);
    }
}

/// Whatever a manifest claims, opening it ends at once with the field's name.
#[test]
fn absurd_manifests_are_refused_though_their_checksums_fit() {
    let folder = tempfile::tempdir().unwrap();
    let good = store(folder.path());
    let m = || good.clone();
    let unfinished = || good.plan();
    for (manifest, field) in [
        (Manifest { count: 1_000_000_000_000, ..m() }, "count"),
        (Manifest { count: 9_000_000_000, shard_size: 1, ..unfinished() }, "shard_size"),
        (Manifest { shape: vec![], ..m() }, "shape"),
        (Manifest { shape: vec![usize::MAX, 2], ..m() }, "shape"),
        (Manifest { noise_std: -1.0, ..m() }, "noise_std"),
        (Manifest { noise_std: 1e308, ..m() }, "noise_std"),
        (Manifest { label_dim: 1 << 40, ..m() }, "label_dim"),
        (Manifest { shard_size: usize::MAX, ..m() }, "shard_size"),
        (Manifest { shard_size: 3, ..m() }, "shards"),
        (Manifest { count: 7, ..m() }, "shards"),
    ] {
        manifest.write(folder.path()).unwrap();
        refused(folder.path(), &["manifest.json", field]);
    }
    // Many shards that aren't there are counted by what is.
    let many = Manifest { count: 4_000_000, ..unfinished() };
    many.write(folder.path()).unwrap();
    refused(folder.path(), &["unfinished: 2 of 1000000 shards"]);
    let stored = Manifest { noise: NoiseSource::Stored, ..m() };
    stored.write(folder.path()).unwrap();
    refused(folder.path(), &["shard-00000", "another store"]);
}
