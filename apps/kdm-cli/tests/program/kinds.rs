//! Files and folders of every kind, given to commands that don't take them: the message names what
//! each is, and what to do.

use std::fs;
use std::io::Write;
use std::path::Path;

use kdm::data::{Array, array};

use crate::common::{Folder, done, fails, json, store};

fn zip(path: &Path, names: &[&str]) {
    let mut writer = zip::ZipWriter::new(fs::File::create(path).unwrap());
    for name in names {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(b"\x80\x02}.").unwrap();
    }
    writer.finish().unwrap();
}

/// What no command takes, given to each reader.
#[test]
fn what_no_command_takes_is_named_by_every_reader() {
    let folder = Folder::new();
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    zip(&folder.path("script.pt"), &["m/data.pkl", "m/constants.pkl", "m/code/x.py"]);
    for (name, bytes, what, action) in [
        ("a.safetensors", &lfs[..], "Git LFS pointer", "git lfs pull"),
        ("b.safetensors", b"<!DOCTYPE html><html>", "web page", "resolve"),
        ("c.pkl", b"\x1f\x8b\x08\0\0", "gzip", "gunzip"),
        ("d.h5", b"\x89HDF\r\n\x1a\n\0\0", "HDF5", ".npz"),
        ("e.xz", b"\xfd7zXZ\0", "xz", "unpack"),
        ("f.zst", b"\x28\xb5\x2f\xfd", "zstd", "unpack"),
        ("g.mp4", b"\0\0\0\x18ftypmp42", "video", "frames"),
        ("h.onnx", b"\x08\x07\x12", "ONNX", "PyTorch"),
        ("i.gguf", b"GGUF\0\0\0\0", "GGUF", "PyTorch"),
        ("j.pdf", b"%PDF-1.7", "PDF", "meant"),
        ("k.parquet", b"PAR1\0\0", "Parquet", ".npz"),
        ("l.7z", b"7z\xbc\xaf\x27\x1c", "7z", "unpack"),
        ("m.pt", b"", "empty", "download"),
    ] {
        fs::write(folder.path(name), bytes).unwrap();
        let (path, out) = (folder.at(name), folder.at("out"));
        let model = ["sample --n 1 --model", &path, "--out", &folder.at("out.npy")];
        let import = ["import", &path, "--out", &folder.at("out.safetensors")];
        for command in
            [&model[..], &import, &["data info", &path], &["pairs import", &path, "--out", &out]]
        {
            fails(command, 1, &[name, what, action]);
        }
        fails(&["info", &path], 1, &[name, what, action]);
    }
    let script = ["sample --n 1 --model", &folder.at("script.pt"), "--out", &folder.at("out.npy")];
    fails(&script, 1, &["TorchScript", "state_dict()"]);
}

/// What another command takes: the message names that command, and `kdm info` does too.
#[test]
fn what_another_command_takes_is_named_with_it() {
    let folder = Folder::new();
    let at = |name: &str| folder.at(name);
    done(&["data export shapes -n 8 --out", &at("images.zip")]);
    zip(&folder.path("torch.pt"), &["m/data.pkl"]);
    zip(&folder.path("other.zip"), &["notes.md"]);
    let two = Array { shape: vec![2, 2], data: vec![0.0; 4] };
    array::write_npy(&folder.path("x.npy"), &two).unwrap();
    array::write_npz(&folder.path("x.npz"), &[("a", &two)]).unwrap();
    for (name, bytes) in [
        ("train-labels-idx1-ubyte", &b"\0\0\x08\x01\0\0\0\x01\0"[..]),
        ("model.safetensors.index.json", b"{\"weight_map\": {}}"),
        ("foreign.safetensors", b"\x08\0\0\0\0\0\0\0{}      "),
        ("stats.pkl", b"\x80\x02}."),
    ] {
        fs::write(folder.path(name), bytes).unwrap();
    }
    for (name, inner) in [("photos", "a.png"), ("publ", "0.npz"), ("weights", "w.bin")] {
        fs::create_dir(folder.path(name)).unwrap();
        fs::write(folder.path(name).join(inner), b"").unwrap();
    }
    fs::create_dir(folder.path("nothing")).unwrap();
    let npy = at("out.npy");
    let model = |name: &str, parts: &[&str]| {
        fails(&["sample --n 1 --model", &at(name), "--out", &npy], 1, &[&[name], parts].concat())
    };
    model("images.zip", &["zip of images", "kdm data info"]);
    model("torch.pt", &["PyTorch", "kdm import"]);
    model("other.zip", &["zip archive without", "unpack"]);
    model("x.npy", &["array of NumPy", "--noise"]);
    model("x.npz", &[".npz", "kdm pairs import"]);
    model("train-labels-idx1-ubyte", &["IDX", "folder"]);
    model("model.safetensors.index.json", &["index", "kdm import"]);
    model("foreign.safetensors", &["kdm import"]);
    model("stats.pkl", &["pickle", "kdm import"]);
    let out = at("out.safetensors");
    let import = |name: &str, parts: &[&str]| {
        fails(&["import", &at(name), "--out", &out], 1, &[&[name], parts].concat())
    };
    import("images.zip", &["zip of images", "data set"]);
    import("x.npz", &[".npz", "kdm pairs import"]);
    import("photos", &["folder of images", "data set"]);
    import("publ", &["folder of pairs", "kdm pairs import"]);
    import("nothing", &["empty folder"]);
    for (name, what) in [("torch.pt", "PyTorch"), ("weights", "weights"), ("nothing", "empty")] {
        fails(&["data info", &at(name)], 1, &[name, what]);
        fails(&["pairs import", &at("photos"), "--out", &at("store")], 1, &["folder of images"]);
    }
    for (name, kind, next) in [
        ("images.zip", "a zip of images", "kdm data info"),
        ("photos", "a folder of images", "kdm data info"),
        ("publ", "a folder of pairs or arrays", "kdm pairs import"),
        ("weights", "a folder of weights", "kdm import"),
    ] {
        let told = json(&["info", &at(name), "--json"]);
        assert_eq!(told["kind"], kind);
        assert!(told["next"].as_str().unwrap().contains(next), "{told}");
    }
}

/// Arrays, stores, statistics and images of flags: what is given in place of them is named.
#[test]
fn what_is_given_to_a_flag_is_named() {
    let folder = Folder::new();
    let at = |name: &str| folder.at(name);
    store(&folder, "store", "20", &[]);
    done(&["data export shapes -n 8 --out", &at("images.zip")]);
    fs::write(folder.path("notes.txt"), "Some notes.\n").unwrap();
    fs::write(folder.path("a.json"), "{\"a\": [1, 2]}").unwrap();
    fs::write(folder.path("cut.json"), "{\"a\": [1, ").unwrap();
    fs::write(folder.path("model.safetensors.index.json"), "{\"weight_map\": {}}").unwrap();
    let zeros = Array { shape: vec![4, 2], data: vec![0.0; 8] };
    array::write_npy(&folder.path("x.npy"), &zeros).unwrap();
    let student = "--model fashion-mnist";
    let out = at("out.npy");
    let array = |flag: &str, name: &str, parts: &[&str]| {
        let sample = ["sample", student, flag, &at(name), "--out", &out];
        fails(&sample, 1, &[&[name], parts].concat());
    };
    array("--noise", "images.zip", &["a zip of images", "kdm data info"]);
    array("--noise", "store", &["a store of pairs", "--pairs"]);
    array("-n 4 --labels", "store/shard-00000.safetensors", &["a part of a pair store"]);
    array("-n 4 --labels", "a.json", &["a JSON text"]);
    array("--noise", "notes.txt", &["a text", "meant"]);
    let pairs = |name: &str, parts: &[&str]| {
        fails(&["evaluate", student, "--pairs", &at(name)], 1, &[&[name], parts].concat());
    };
    pairs("images.zip", &["a zip of images", "data set"]);
    pairs("x.npy", &["array of NumPy", "kdm pairs import"]);
    pairs("store/manifest.json", &["a JSON text", "folder"]);
    let images = |name: &str, reference: &str, parts: &[&str]| {
        let measure = "evaluate --features fashion-mnist --samples";
        fails(&[measure, &at(name), "--reference", &at(reference)], 1, parts);
    };
    images("store", "images.zip", &["store", "a store of pairs"]);
    images("notes.txt", "images.zip", &["notes.txt", "a text"]);
    fails(&["info", &at("cut.json")], 1, &["cut.json", "damaged or cut short"]);
    let index = json(&["info --json", &at("model.safetensors.index.json")]);
    assert!(index["next"].as_str().unwrap().starts_with("kdm import"), "{index}");
    assert_eq!(json(&["info --json", &at("notes.txt")])["kind"], "a text");
}

/// Names in place of files, for each reader.
#[test]
fn names_of_hubs_and_addresses_are_told() {
    let folder = Folder::new();
    let (npy, out) = (folder.at("out.npy"), folder.at("out.safetensors"));
    for (name, part) in
        [("google/ddpm-cifar10-32", "Hugging Face"), ("https://x.org/a.pt", "is an address")]
    {
        let model = ["sample --n 1 --model", name, "--out", &npy];
        let store = ["pairs import", name, "--out", &out];
        for command in [
            &model[..],
            &["import", name, "--out", &out],
            &store,
            &["data info", name],
            &["info", name],
        ] {
            fails(command, 2, &[name, part]);
        }
    }
}
