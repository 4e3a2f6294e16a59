//! Pairs, noise and labels that people bring: which arrays, axes, ranges and scales they are.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kdm::data::{Array, array};

use crate::common::{Folder, array_of, done, fails, json, kdm, store, text, write_rows};

/// Numbers of a shape, from a seed.
fn drawn(seed: u64, scale: f32, shape: &[usize]) -> Array {
    let values = kdm::random::normal_vec(seed, shape.iter().product());
    Array::new(shape, values.iter().map(|x| scale * x).collect())
}

#[test]
fn flags_say_what_arrays_do_not() {
    let folder = Folder::new();
    let shape = [6, 3, 3, 3];
    let (noise, image) = (drawn(1, 80.0, &shape), drawn(2, 0.1, &shape));
    let image = Array::new(shape, image.data.iter().map(|x| x + 0.5).collect());
    let path = folder.at("mine.npz");
    array::write_npz(Path::new(&path), &[("first", &noise), ("second", &image)]).unwrap();
    let out = folder.at("store");
    let import = |flags: &str| ["pairs import ", &path, " --out ", &out, " ", flags].concat();
    let keys = "--noise-key first --image-key second";
    // 3x3x3 may be either order, and 0.5 +- 0.1 may be grey or light grey.
    fails(&[&import("--noise-key first")], 1, &["first", "second", "--image-key"]);
    fails(&[&import(keys)], 1, &["[3, 3, 3]", "--layout"]);
    fails(&[&import(&format!("{keys} --layout nhwc"))], 1, &["none below 0", "--range"]);
    for bad in ["0", "1e308", "nan"] {
        let flags = format!("{keys} --layout nhwc --range 0..1 --noise-std {bad}");
        fails(&[&import(&flags)], 2, &["--noise-std"]);
    }
    assert!(!Path::new(&out).exists(), "nothing is written before all is clear");
    let told = kdm(&[&import(&format!("{keys} --layout nhwc --range=0..1"))]).output().unwrap();
    assert!(told.status.success(), "{}", text(&told.stderr));
    assert!(text(&told.stderr).contains("standard deviation of 80"), "{}", text(&told.stderr));
    let exported = folder.at("out.npz");
    done(&["pairs export --pairs", &out, "--out", &exported]);
    let found = array_of(Path::new(&exported), "image");
    // Pixel 4 of the second image, its third channel.
    let (there, from) = (27 + 2 * 9 + 4, 27 + 4 * 3 + 2);
    assert!((found.data[there] - (2.0 * image.data[from] - 1.0)).abs() < 1e-6);
    assert_eq!(array_of(Path::new(&exported), "noise_std").data, [80.0]);
    let info = json(&["pairs info", &out, "--json"]);
    let history = info["history"][0].as_str().unwrap();
    assert!(history.contains("NHWC") && history.contains("from 0 to 1"), "{history}");
    // The stored deviation counts, though 6 pairs deviate by chance; and a store is no foreign
    // file.
    let again = folder.at("again");
    done(&["pairs import", &exported, "--layout nchw --out", &again]);
    assert_eq!(json(&["pairs info", &again, "--json"])["noise_std"], 80.0);
    fails(&["pairs import", &again, "--out", &folder.at("x")], 1, &["store of pairs already"]);
    fails(&["pairs import", &exported, "--out", &path], 2, &["mine.npz", "name a folder"]);
}

#[test]
fn what_never_ends_is_no_data() {
    let folder = Folder::new();
    let pipe = folder.at("pipe.npz");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let nested = folder.at("nested.npy");
    let header = [b"\x93NUMPY\x01\x00\x71\x00".to_vec(), b"(".repeat(113)].concat();
    fs::write(&nested, header).unwrap();
    let empty = folder.at("empty.npy");
    fs::write(&empty, b"").unwrap();
    let none = write_rows(&folder.path("none.npy"), vec![], 2);
    let began = Instant::now();
    let out = folder.at("out");
    for (path, part) in [
        (pipe.as_str(), "FIFO"),
        ("/dev/zero", "only regular files are data"),
        (nested.as_str(), "nested too deep"),
        (empty.as_str(), "is empty"),
    ] {
        fails(&["pairs import", path, "--out", &out], 1, &[path, part]);
        let sample = ["teacher sample --model checkerboard --noise", path, "--out", &out];
        fails(&sample, 1, &[path, part]);
    }
    fails(&["teacher sample --model gaussian --noise", &none, "--out", &out], 1, &["is empty"]);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// A seed draws the same noise and sample as in a store, and noise in a file does in either scale.
#[test]
fn noise_is_told_by_seeds_or_in_either_scale() {
    let folder = Folder::new();
    let flags = "--process diffusion --steps 4";
    let pairs = folder.at("pairs");
    let generate = ["pairs generate --teacher checkerboard", flags, "--count 12 --out", &pairs];
    done(&generate);
    let exported = folder.path("pairs.npz");
    done(&["pairs export --pairs", &pairs, "--out", &exported.to_string_lossy()]);
    let (noise, image) = (array_of(&exported, "noise"), array_of(&exported, "image"));
    let out = folder.at("samples.npz");
    let sample = |more: &[&str]| {
        let first = ["teacher sample --model checkerboard", flags, "--out", &out];
        let output = kdm(&[&first[..], more].concat()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        (array_of(Path::new(&out), "samples").data, text(&output.stderr))
    };
    let (found, _) = sample(&["--seeds 0-11"]);
    assert_eq!(found, image.data);
    assert_eq!(sample(&["--seeds 3,5"]).0, [&image.data[6..8], &image.data[10..12]].concat());
    assert_eq!(sample(&["-n 2"]).0, image.data[..4]);
    let x_t = write_rows(&folder.path("x_t.npy"), noise.data.clone(), 2);
    let (found, said) = sample(&["--noise", &x_t, "--noise-scale sigma-max"]);
    assert_eq!(found, image.data);
    assert!(!said.contains("--noise-scale"), "{said}");
    // As unit noise it is 80 times too wide, which is said.
    let (_, said) = sample(&["--noise", &x_t]);
    assert!(said.contains("as --noise-scale sigma-max has it"), "{said}");
    let png = folder.at("t.png");
    done(&["teacher sample --model checkerboard --seeds 0-15 --out", &png]);
    assert_eq!(&fs::read(&png).unwrap()[..8], b"\x89PNG\r\n\x1a\n");
    fails(&["teacher sample --model checkerboard --out", &png], 2, &["--seeds"]);
    let labelled = ["teacher sample --model checkerboard --n 2 --class 1 --out", &png];
    fails(&labelled, 2, &["unconditional"]);
}

/// Labels are class numbers of any type or one-hot rows: the same samples.
#[test]
fn labels_come_as_numbers_or_rows() {
    let folder = Folder::new();
    let out = folder.path("s.npz");
    let model = "--model fashion-mnist --n 3 --out";
    let sample = |labels: &str| {
        done(&["sample", model, &out.to_string_lossy(), "--labels", labels]);
        array_of(&out, "samples").data
    };
    let file = |name: &str, array: Array| {
        array::write_npy(&folder.path(name), &array).unwrap();
        folder.at(name)
    };
    let mut rows = vec![0.0; 30];
    for i in [2, 19, 20] {
        rows[i] = 1.0;
    }
    let one_hot = sample(&file("rows.npy", Array::new([3, 10], rows.clone())));
    assert!(one_hot == sample(&file("numbers.npy", Array::new([3], vec![2.0, 9.0, 0.0]))));
    assert!(one_hot == sample(&file("column.npy", Array::new([3, 1], vec![2.0, 9.0, 0.0]))));
    let refuse = |array: Array, part: &str| {
        let path = file("bad.npy", array);
        let png = folder.at("s.png");
        fails(&["sample", model, &png, "--labels", &path], 1, &["bad.npy", part]);
    };
    for value in [1.5, -1.0, 10.0, 1e30, f32::NAN] {
        refuse(Array::new([3], vec![0.0, value, 1.0]), "label 1 is");
    }
    rows[0] = 1.0;
    refuse(Array::new([3, 10], rows), "row 0 is not one-hot");
    refuse(Array::new([4], vec![0.0; 4]), "3 samples");
    refuse(Array::new([3, 5], vec![0.0; 15]), "rows of 5 values");
}

#[test]
fn filters_say_what_they_did() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "30", &[]);
    let out = folder.at("out");
    let filter = ["pairs filter --pairs", &pairs, "--out", &out];
    let classes = ["--classes: the store is unconditional"];
    fails(&[&filter[..], &["--classes 10"]].concat(), 2, &classes);
    let outliers = "--outliers-above 2 --neighbours 99 --references 1000";
    let told = kdm(&[&filter[..], &[outliers]].concat()).output().unwrap();
    assert!(told.status.success(), "{}", text(&told.stderr));
    assert!(text(&told.stderr).contains("29 neighbours among 30"), "{}", text(&told.stderr));
    let history = json(&["pairs info", &out, "--json"])["history"][0].to_string();
    assert!(history.contains("29 neighbours among 30"), "{history}");
    let file = folder.at("file");
    fs::write(&file, "text").unwrap();
    let bad = ["pairs filter --pairs", &pairs, "--above-norm 9 --out", &file];
    fails(&bad, 2, &["file"]);
}
