//! Pairs of other programs, made here as those write them, become the same store; what leaves
//! something open or is damaged is refused with what to do.

mod files;

use std::path::{Path, PathBuf};

use kdm_data::pairs::{
    Axes, ImageType, ImportOptions, Manifest, PairStore, ValueRange, import, verify,
};
use kdm_data::{Labels, Samples};
use kdm_formats::pairs::{Keys, open};
use kdm_observer::Silent;
use zip::CompressionMethod::{Deflated, Stored};

use files::{Tensor, archive, base, f32s, i64s, npy, png, tar, torch};

const COUNT: usize = 7;
const SHAPE: [usize; 4] = [COUNT, 3, 4, 4];

/// The store that the pairs become.
fn stored(
    path: &Path,
    keys: &Keys,
    options: &ImportOptions,
) -> Result<(Manifest, Samples), kdm_data::Error> {
    let folder = tempfile::tempdir().unwrap();
    let source = open(path, keys, &Silent)?;
    let manifest = import(folder.path(), source.as_ref(), "test", options, &Silent)?;
    let store = verify(folder.path(), &Silent)?;
    Ok((manifest, store.range(0..store.len())))
}

fn plain(path: &Path) -> (Manifest, Samples) {
    stored(path, &Keys::default(), &ImportOptions::default()).unwrap()
}

fn refused(path: &Path, parts: &[&str]) {
    let failed = stored(path, &Keys::default(), &ImportOptions::default());
    let message = failed.map(|_| ()).unwrap_err().to_string();
    let name = path.file_name().unwrap().to_string_lossy();
    assert!(message.contains(&*name), "{message}");
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

/// The pairs of [`base`], to a tolerance for the images.
fn assert_base(found: &Samples, labelled: bool, tolerance: f32) {
    let wanted = base(COUNT);
    assert_eq!((&found.shape, &found.noise), (&wanted.shape, &wanted.noise));
    let off = found.images.iter().zip(&wanted.images).map(|(a, b)| (a - b).abs());
    assert!(off.fold(0.0, f32::max) <= tolerance);
    let labels = if labelled { wanted.labels } else { Labels::none(COUNT) };
    assert_eq!(found.labels, labels);
}

/// Images as bytes, channels last.
fn bytes_last(images: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for image in images.chunks(48) {
        for pixel in 0..16 {
            bytes.extend((0..3).map(|c| ((image[c * 16 + pixel] + 1.0) * 127.5).round() as u8));
        }
    }
    bytes
}

/// The same numbers with the last axis first.
fn last(values: &[f32]) -> Vec<f32> {
    let pixel = |image: &[f32], k: usize| image[k % 3 * 16 + k / 3];
    values.chunks(48).flat_map(|image| (0..48).map(move |k| pixel(image, k))).collect()
}

#[test]
fn arrays_of_every_form_become_the_same_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.npz");
    let b = base(COUNT);
    let noise = || ("noise.npy", npy("<f4", false, &SHAPE, &f32s(&b.noise)));
    let image = || ("image.npy", npy("<f4", false, &SHAPE, &f32s(&b.images)));
    let classes: Vec<i64> = b.labels.classes().into_iter().map(i64::from).collect();
    let small: Vec<u8> = classes.iter().map(|class| *class as u8).collect();
    let hot = f32s(&b.labels.one_hot(3));
    let text = ("names.npy", npy("<U2", false, &[1], &[0; 8]));
    for labels in [
        npy("<i8", false, &[COUNT], &i64s(&classes)),
        npy("<i8", false, &[COUNT, 1], &i64s(&classes)),
        npy("|u1", false, &[COUNT], &small),
        npy("|i1", false, &[COUNT], &small),
        npy("<f4", false, &[COUNT, 3], &hot),
        npy("<f4", true, &[COUNT], &f32s(&[0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 0.0])),
    ] {
        for method in [Stored, Deflated] {
            let files = [noise(), image(), ("labels.npy", labels.clone()), text.clone()];
            archive(&path, &files, method);
            let (manifest, found) = plain(&path);
            assert_base(&found, true, 0.0);
            // The noise deviates by 80.9 in these few numbers.
            assert_eq!((manifest.noise_std, manifest.label_dim), (80.0, 3));
        }
    }
    // Bytes with the channels last, and noise in either order.
    let shape = [COUNT, 4, 4, 3];
    let pixels = ("images.npy", npy("|u1", false, &shape, &bytes_last(&b.images)));
    let turned = ("noise.npy", npy("<f4", false, &shape, &f32s(&last(&b.noise))));
    for noise in [noise(), turned] {
        archive(&path, &[noise, pixels.clone()], Stored);
        let (manifest, found) = plain(&path);
        assert_base(&found, false, 0.51 / 127.5);
        assert!(manifest.history[0].contains("NHWC"), "{:?}", manifest.history);
    }
    // A path from noise to image, and names that say nothing.
    let [noise, images] = [&b.noise, &b.images].map(|x| f32s(x));
    let npy_path = folder.path().join("path.npy");
    let ends = [noise.clone(), images.clone()].concat();
    std::fs::write(&npy_path, npy("<f4", false, &[2, COUNT, 3, 4, 4], &ends)).unwrap();
    assert_base(&plain(&npy_path).1, false, 0.0);
    let positional = [
        ("arr_0.npy", npy("<f4", false, &SHAPE, &images)),
        ("arr_1.npy", npy("<f4", false, &SHAPE, &noise)),
    ];
    archive(&path, &positional, Stored);
    assert_base(&plain(&path).1, false, 0.0);
    let keys = Keys { noise: Some("arr_0".into()), image: Some("arr_1".into()), label: None };
    let turned = stored(&path, &keys, &ImportOptions::default()).unwrap();
    assert_eq!(turned.1.noise, b.images);
}

#[test]
fn tensors_become_the_same_store() {
    let folder = tempfile::tempdir().unwrap();
    let b = base(COUNT);
    let classes: Vec<i64> = b.labels.classes().into_iter().map(i64::from).collect();
    let path = folder.path().join("dict.pt");
    let label = || Tensor {
        class: "LongStorage",
        shape: vec![COUNT],
        strides: vec![1],
        numbers: i64s(&classes),
    };
    // Channels last in memory, as torch.channels_last has them.
    let strided = Tensor {
        class: "FloatStorage",
        shape: SHAPE.to_vec(),
        strides: vec![48, 1, 12, 3],
        numbers: f32s(&last(&b.images)),
    };
    for image in [Tensor::f32(&SHAPE, &b.images), strided] {
        let noise = Tensor::f32(&SHAPE, &b.noise);
        torch(&path, &[("noise", noise), ("image", image), ("label", label())]);
        assert_base(&plain(&path).1, true, 0.0);
    }
    // A list says nothing of itself; the noise deviates more.
    torch(&path, &[("", Tensor::f32(&SHAPE, &b.images)), ("", Tensor::f32(&SHAPE, &b.noise))]);
    assert_base(&plain(&path).1, false, 0.0);

    let path = folder.path().join("dict.safetensors");
    let [noise, images] = [&b.noise, &b.images].map(|x| f32s(x));
    let length = noise.len();
    let shape = format!("{SHAPE:?}");
    let header = format!(
        r#"{{"noise":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{length}]}},
            "image":{{"dtype":"F32","shape":{shape},"data_offsets":[{length},{}]}}}}"#,
        2 * length
    );
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend([header.as_bytes(), &noise, &images].concat());
    std::fs::write(&path, &bytes).unwrap();
    assert_base(&plain(&path).1, false, 0.0);
    for cut in [5, 40, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        refused(&path, &[]);
    }
}

/// A folder in the layout of each program that publishes pairs.
#[test]
fn folders_of_other_programs_become_the_same_store() {
    let b = base(COUNT);
    let one = [3, 4, 4];
    let rows = |values: &[f32], i: usize| values[i * 48..(i + 1) * 48].to_vec();
    let class = |i: usize| b.labels.class(i).unwrap();
    let pixels = |i: usize| png(4, bytes_last(&rows(&b.images, i)));

    // GET: files of several pairs, the latents with one-hot rows beside.
    let get = tempfile::tempdir().unwrap();
    for name in ["latent", "image"] {
        std::fs::create_dir(get.path().join(name)).unwrap();
    }
    for (name, range) in [("000000004.pkl", 0..5), ("000000006.pkl", 5..COUNT)] {
        let shape = [range.len(), 3, 4, 4];
        let part = b.range(range.clone());
        let hot = part.labels.one_hot(3);
        let latent = Tensor::f32(&shape, &part.noise);
        let hot = Tensor::f32(&[range.len(), 3], &hot);
        torch(&get.path().join("latent").join(name), &[("", latent), ("", hot)]);
        torch(&get.path().join("image").join(name), &[("", Tensor::f32(&shape, &part.images))]);
    }
    let (manifest, found) = plain(get.path());
    assert_base(&found, true, 0.0);
    assert_eq!(manifest.label_dim, 3);
    std::fs::remove_file(get.path().join("image/000000006.pkl")).unwrap();
    let failed = open(get.path(), &Keys::default(), &Silent).map(|_| ()).unwrap_err().to_string();
    assert!(failed.contains("000000006.pkl") && failed.contains("is missing"), "{failed}");

    // 2-RF++: two archives and a table.
    let rfpp = tempfile::tempdir().unwrap();
    let names: Vec<[String; 2]> =
        (0..COUNT).map(|i| [format!("{i:05}.png"), format!("{i:05}.npy")]).collect();
    let pictures: Vec<(&str, Vec<u8>)> =
        (0..COUNT).rev().map(|i| (names[i][0].as_str(), pixels(i))).collect();
    let array = |i: usize| npy("<f4", false, &one, &f32s(&rows(&b.noise, i)));
    let noises: Vec<(&str, Vec<u8>)> =
        (0..COUNT).map(|i| (names[i][1].as_str(), array(i))).collect();
    archive(&rfpp.path().join("samples.zip"), &pictures, Stored);
    archive(&rfpp.path().join("z.zip"), &noises, Deflated);
    assert_base(&plain(rfpp.path()).1, false, 0.51 / 127.5);
    let table: String = (0..COUNT).map(|i| format!("{i:05}.png,{}\n", class(i))).collect();
    std::fs::write(rfpp.path().join("images_labels.csv"), &table).unwrap();
    assert_base(&plain(rfpp.path()).1, true, 0.51 / 127.5);
    std::fs::write(rfpp.path().join("images_labels.csv"), &table[..24]).unwrap();
    let failed = open(rfpp.path(), &Keys::default(), &Silent).map(|_| ()).unwrap_err().to_string();
    assert!(failed.contains("00002.png"), "{failed}");

    // Noise as the state of NumPy's generator: numpy.random.default_rng(0).standard_normal((3, 4,
    // 4)) is 0.12573022, -0.13210486, ...
    let state = [0x1aa1b5345996452d09585eb7a69561e3u128, 0x418ddadb3af71a82588133bc447873a9];
    let bytes: Vec<u8> = state.iter().flat_map(|half| half.to_be_bytes()).collect();
    let states: Vec<(String, Vec<u8>)> =
        (0..COUNT).map(|i| (format!("{i:05}.bin"), bytes.clone())).collect();
    let states: Vec<(&str, Vec<u8>)> =
        states.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    archive(&rfpp.path().join("z.zip"), &states, Stored);
    std::fs::write(rfpp.path().join("images_labels.csv"), "").unwrap();
    let (manifest, found) = plain(rfpp.path());
    assert_eq!((found.noise[0], found.noise[49]), (0.125_730_22, -0.132_104_86));
    assert!((manifest.noise_std - 1.0).abs() < 0.3, "{}", manifest.noise_std);

    // FastGen: two WebDataset archives, names long and short.
    let fastgen = tempfile::tempdir().unwrap();
    let scratch = fastgen.path().join("scratch");
    let pth = |values: &[f32]| {
        torch(&scratch, &[("", Tensor::f32(&one, values))]);
        std::fs::read(&scratch).unwrap()
    };
    let folder = "d".repeat(120);
    let members = |range: std::ops::Range<usize>| -> Vec<(String, Vec<u8>)> {
        range
            .flat_map(|i| {
                [
                    (format!("{folder}/{i:06}.latent.pth"), pth(&rows(&b.images, i))),
                    (format!("{folder}/{i:06}.noise.pth"), pth(&rows(&b.noise, i))),
                    (format!("{folder}/{i:06}.txt_emb.pth"), vec![1, 2, 3]),
                    (format!("{folder}/{i:06}.cls"), class(i).to_string().into_bytes()),
                ]
            })
            .collect()
    };
    tar(&fastgen.path().join("00000.tar"), &members(0..4));
    tar(&fastgen.path().join("00001.tar"), &members(4..COUNT));
    let (manifest, found) = plain(fastgen.path());
    assert_base(&found, true, 0.0);
    assert!(manifest.history[0].contains("left out: txt_emb.pth"), "{:?}", manifest.history);
    tar(&fastgen.path().join("all.tar"), &members(0..COUNT));
    assert_base(&plain(&fastgen.path().join("all.tar")).1, true, 0.0);
    let bytes = std::fs::read(fastgen.path().join("all.tar")).unwrap();
    std::fs::write(fastgen.path().join("all.tar"), &bytes[..bytes.len() / 2]).unwrap();
    refused(&fastgen.path().join("all.tar"), &["cut short"]);

    // DMD: a list of files, image first.
    let dmd = tempfile::tempdir().unwrap();
    std::fs::create_dir(dmd.path().join("samples")).unwrap();
    let mut data = Vec::new();
    for i in 0..COUNT {
        let name = format!("samples/{i:06}.npy");
        let ends = [rows(&b.images, i), rows(&b.noise, i)].concat();
        let bytes = npy("<f4", false, &[2, 3, 4, 4], &f32s(&ends));
        std::fs::write(dmd.path().join(&name), bytes).unwrap();
        data.push(serde_json::json!({"pairs_path": name, "class_idx": class(i), "seed": i}));
    }
    let list = dmd.path().join("annotations.json");
    std::fs::write(&list, serde_json::json!({"data": data, "version": "0.1"}).to_string()).unwrap();
    assert_base(&plain(dmd.path()).1, true, 0.0);
    let outside = serde_json::json!({"data": [{"pairs_path": "../../etc/passwd"}]}).to_string();
    std::fs::write(&list, outside).unwrap();
    let failed = open(dmd.path(), &Keys::default(), &Silent).map(|_| ()).unwrap_err().to_string();
    assert!(failed.contains("not in the folder"), "{failed}");
}

#[test]
fn what_is_in_doubt_ends_in_the_flag_to_give() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("doubt.npz");
    let b = base(COUNT);
    let write = |shape: &[usize], noise: &[f32], images: &[f32]| {
        let noise = ("noise.npy", npy("<f4", false, shape, &f32s(noise)));
        let image = ("image.npy", npy("<f4", false, shape, &f32s(images)));
        archive(&path, &[noise, image], Stored);
    };
    let told = |options: ImportOptions| stored(&path, &Keys::default(), &options);
    // From 0 to 1, and neither floats nor bytes.
    let unit: Vec<f32> = b.images.iter().map(|x| (x + 1.0) / 2.0).collect();
    write(&SHAPE, &b.noise, &unit);
    refused(&path, &["none below 0", "--range"]);
    let range = Some(ValueRange::Unit);
    assert_base(&told(ImportOptions { range, ..Default::default() }).unwrap().1, false, 1e-6);
    let range = Some(ValueRange::Bytes);
    let kept = told(ImportOptions { range: Some(ValueRange::Signed), ..Default::default() });
    assert_eq!(kept.unwrap().1.images, unit);
    let wide: Vec<f32> = unit.iter().map(|x| 1000.0 * x).collect();
    write(&SHAPE, &b.noise, &wide);
    assert!(told(ImportOptions { range, ..Default::default() }).is_err());
    // 48 values as 4x3x4: either order.
    write(&[COUNT, 4, 3, 4], &b.noise, &b.images);
    refused(&path, &["--layout"]);
    for (axes, shape) in [(Axes::First, [4, 3, 4]), (Axes::Last, [4, 4, 3])] {
        let options = ImportOptions { axes: Some(axes), ..Default::default() };
        assert_eq!(told(options).unwrap().1.shape, shape);
    }
    // Images that a type of the store would not hold.
    let mut far = b.images.clone();
    far[50] = -1e37;
    write(&SHAPE, &b.noise, &far);
    for (dtype, fits) in [(ImageType::F32, true), (ImageType::F16, false), (ImageType::U8, false)] {
        let found = told(ImportOptions { dtype, ..Default::default() });
        assert_eq!(found.is_ok(), fits, "{dtype:?}");
    }
    // What is no number, or noise that isn't any.
    far[50] = f32::NAN;
    write(&SHAPE, &b.noise, &far);
    refused(&path, &["image", "pair 1", "NaN", "nothing was written"]);
    write(&SHAPE, &[0.0; COUNT * 48], &b.images);
    refused(&path, &["0 everywhere"]);
    write(&SHAPE, &b.noise, &b.images);
    for (std, fits) in [(80.0, true), (76.0, true), (1.0, false), (1e308, false), (-1.0, false)] {
        let found = told(ImportOptions { noise_std: Some(std), ..Default::default() });
        assert_eq!(found.is_ok(), fits, "{std}");
    }
    // Arrays of other names.
    let files = ["a.npy", "b.npy"].map(|name| (name, npy("<f4", false, &SHAPE, &f32s(&unit))));
    archive(&path, &files, Stored);
    refused(&path, &["--noise-key", "deviate alike"]);
}

#[test]
fn labels_that_are_none_and_damaged_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.npz");
    let b = base(COUNT);
    let noise = ("noise.npy", npy("<f4", false, &SHAPE, &f32s(&b.noise)));
    let image = ("image.npy", npy("<f4", false, &SHAPE, &f32s(&b.images)));
    let with = |label: Vec<u8>| {
        archive(&path, &[noise.clone(), image.clone(), ("label.npy", label)], Stored);
    };
    for value in [1.5f32, -1.0, 1e30, f32::NAN, f32::INFINITY, 1e9] {
        let mut values = [0.0f32; COUNT];
        values[4] = value;
        with(npy("<f4", false, &[COUNT], &f32s(&values)));
        refused(&path, &["label 4 is", "whole numbers"]);
    }
    with(npy("<i8", false, &[COUNT - 1], &i64s(&[0; COUNT - 1])));
    refused(&path, &["6 labels for 7 pairs"]);
    let mut hot = b.labels.one_hot(3);
    hot[1] = 1.0;
    with(npy("<f4", false, &[COUNT, 3], &f32s(&hot)));
    refused(&path, &["row 0 is not one-hot"]);
    hot[..3].fill(0.0);
    with(npy("<f4", false, &[COUNT, 3], &f32s(&hot)));
    refused(&path, &["pair 0 has no class"]);
    // Classes that have no pairs.
    with(npy("<i8", false, &[COUNT], &i64s(&[0, 1, 0, 1, 0, 1, 0])));
    let options = ImportOptions { classes: Some(10), ..Default::default() };
    assert_eq!(stored(&path, &Keys::default(), &options).unwrap().0.label_dim, 10);
    let few = ImportOptions { classes: Some(1), ..Default::default() };
    let failed = stored(&path, &Keys::default(), &few).map(|_| ()).unwrap_err().to_string();
    assert!(failed.contains("--classes"), "{failed}");

    // Any byte of the numbers that flips, and any cut.
    let whole = std::fs::read(&path).unwrap();
    for place in [300, whole.len() / 2, whole.len() - 700] {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        refused(&path, &[]);
    }
    for cut in (0..whole.len()).step_by(501) {
        std::fs::write(&path, &whole[..cut]).unwrap();
        refused(&path, &[]);
    }
    for (bytes, part) in [
        (&b""[..], "is empty"),
        (b"\x89HDF\r\n\x1a\n and so on", "HDF5"),
        (b"\x1f\x8b and so on, compressed", "gunzip"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"\x80\x04 a bare pickle, I think", "pickle"),
        (b"something else entirely, a text", ".npz"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        refused(&path, &[part]);
    }
    let object = npy("|O", false, &[COUNT], b"\x80\x04.");
    archive(&path, &[("noise.npy", object), image], Stored);
    refused(&path, &["Python objects", "numpy.stack"]);
    let lmdb = tempfile::tempdir().unwrap();
    std::fs::write(lmdb.path().join("data.mdb"), b"").unwrap();
    refused(lmdb.path(), &["LMDB", "DSNO"]);
}

/// An import of now is the store that version 0.1.0 wrote of the same file, to the byte, where the
/// noise's deviation is told as it was measured then.
#[test]
fn old_imports_come_out_the_same() {
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kdm-data/tests/old");
    let recorded = PairStore::open(&old.join("imported")).unwrap().manifest().clone();
    let folder = tempfile::tempdir().unwrap();
    let source = open(&old.join("plain.npz"), &Keys::default(), &Silent).unwrap();
    let noise_std = Some(recorded.noise_std);
    let options = ImportOptions { noise_std, shard_size: 8, ..Default::default() };
    import(folder.path(), source.as_ref(), "plain.npz", &options, &Silent).unwrap();
    let files = |folder: PathBuf| -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.'))
            .map(|path| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                (name, std::fs::read(path).unwrap())
            })
            .collect();
        files.sort();
        files
    };
    assert!(files(folder.path().to_path_buf()) == files(old.join("imported")));
}

/// Of a path with the image first, states come from noise to image; more than a store may have are
/// refused.
#[test]
fn states_of_a_path_go_from_noise_to_image() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("path.npy");
    // An image of deviation below 1, two states, and noise of deviation 80.
    let b = base(COUNT);
    let between = [0.25f32, 0.75].map(|share| b.noise.iter().map(|x| x * share).collect());
    let times: Vec<Vec<f32>> =
        [vec![b.images.clone()], between.to_vec(), vec![b.noise.clone()]].concat();
    let shape = [&[4], &SHAPE[..]].concat();
    std::fs::write(&path, npy("<f4", false, &shape, &f32s(&times.concat()))).unwrap();
    let out = tempfile::tempdir().unwrap();
    let source = open(&path, &Keys::default(), &Silent).unwrap();
    let options = ImportOptions { states: true, ..Default::default() };
    let manifest = import(out.path(), source.as_ref(), "path", &options, &Silent).unwrap();
    let taus: Vec<f64> = manifest.states.iter().map(|time| time.tau).collect();
    assert!((taus[0] - 1.0 / 3.0).abs() < 1e-12 && (taus[1] - 2.0 / 3.0).abs() < 1e-12);
    let found = PairStore::open(out.path()).unwrap().batch_with_states(&[2]);
    for (state, share) in found.states.chunks(48).zip([0.75, 0.25]) {
        let off = state.iter().zip(&found.noise).map(|(x, e)| (x - share * e).abs());
        assert!(off.fold(0.0, f32::max) < 0.1, "f16 of values up to 200");
    }
    let many = npy("<f4", false, &[1003, 2, 1], &f32s(&vec![0.5; 2006]));
    std::fs::write(&path, many).unwrap();
    let source = open(&path, &Keys::default(), &Silent).unwrap();
    let message = import(out.path(), source.as_ref(), "path", &options, &Silent).unwrap_err();
    assert!(message.to_string().contains("1000 are the most"), "{message}");
}
