//! Any bytes at all as a file of data: images, archives, arrays, pairs, statistics, a store's
//! manifest. Each is read or refused with a message; never a panic, and no more memory or time than
//! the file's size allows.

#![no_main]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use kdm_data::pairs::PairStore;
use kdm_data::{ImageSet, Split, TensorFile, array, view};
use kdm_formats::pairs::Keys;
use kdm_metrics::features::Statistics;
use kdm_observer::Silent;
use libfuzzer_sys::fuzz_target;

/// A folder of this process.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("kdm-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
});

fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = FOLDER.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Some of the pairs of a file.
fn pairs(path: &Path) {
    if let Ok(pairs) = kdm_formats::pairs::open(path, &Keys::default(), &Silent) {
        let last = pairs.len().min(4);
        let _ = pairs.read(0..last);
    }
}

fn images(path: &Path) {
    let _ = ImageSet::open(&path.to_string_lossy(), Split::Train, &Silent);
}

fuzz_target!(|bytes: &[u8]| {
    match bytes {
        [b'P', b'K', ..] => {
            let path = write("a.npz", bytes);
            pairs(&path);
            let _ = Statistics::open(&path);
            let _ = array::read_npz(&path);
            images(&path);
            images(&write("a.zip", bytes));
        }
        [0x93, b'N', ..] => {
            let path = write("a.npy", bytes);
            pairs(&path);
            images(&path);
            let _ = array::read_npy(&path);
            let _ = view::open_npy(&path).and_then(|view| view.to_array());
        }
        [b'{', ..] => {
            write("manifest.json", bytes);
            let _ = PairStore::open(&FOLDER);
            let _ = kdm_formats::pairs::open(
                &write("annotations.json", bytes),
                &Keys::default(),
                &Silent,
            );
        }
        [0x80, ..] => {
            let _ = kdm_formats::statistics::read(&write("a.pkl", bytes));
            images(&write("data_batch_1", bytes));
        }
        [_, _, _, _, 0, 0, 0, 0, ..] => {
            let path = write("a.safetensors", bytes);
            let _ = TensorFile::open(&path);
            let _ = TensorFile::open_foreign(&path);
            let _ = Statistics::open(&path);
            pairs(&path);
        }
        _ => {
            let path = write("a.tar", bytes);
            images(&path);
            pairs(&path);
            images(&write("a.png", bytes));
        }
    }
});
