//! Small files that ask for much memory or time, and what is no file at all: refused within two
//! seconds of the processor and 500 MB of address space, which the system enforces.

use std::fs;
use std::io::Write;
use std::process::Command;

use kdm::data::pairs::Manifest;

use crate::common::{Folder, check_failure, kdm};

/// An archive whose `entries` all point to the same data.
fn overlapping(entries: usize, data: &[u8]) -> Vec<u8> {
    let le = |n: usize, width: usize| n.to_le_bytes()[..width].to_vec();
    let sizes = [le(0, 4), le(data.len(), 4), le(data.len(), 4)].concat();
    let mut out = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0".to_vec();
    out.extend([&sizes[..], &le(5, 2), &le(0, 2), b"0.npy", data].concat());
    let start = out.len();
    for i in 0..entries {
        let name = format!("{i}.npy");
        out.extend(b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\0\0");
        out.extend([&sizes[..], &le(name.len(), 2), &[0; 12], &le(0, 4), name.as_bytes()].concat());
    }
    let (size, entries) = (out.len() - start, entries.min(0xffff));
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([le(entries, 2), le(entries, 2), le(size, 4), le(start, 4), le(0, 2)].concat());
    out
}

/// Modules that each hold the one below ten times: 10^levels paths in a few kilobytes.
fn layers(levels: u8) -> Vec<u8> {
    let mut out =
        b"\x80\x02ctorch.nn.modules.module\nModule\nq\0)\x81}(X\x08\0\0\0_modules}X\x0b\0\0\0\
        _parameters}ubq\x01"
            .to_vec();
    for level in 1..=levels {
        out.extend(b"0h\0)\x81}(X\x08\0\0\0_modules}(");
        (0..10).for_each(|i| out.extend([b'X', 1, 0, 0, 0, b'a' + i, b'h', level]));
        out.extend(b"uX\x0b\0\0\0_parameters}ubq");
        out.push(level + 1);
    }
    out.push(b'.');
    out
}

/// A `.npy` whose header has 60 brackets in each other.
fn nested() -> Vec<u8> {
    let header = format!("{{'descr': {}'<f4'{}}}", "(".repeat(60), ")".repeat(60));
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\0", &length[..], header.as_bytes()].concat()
}

/// A zip of 60 pictures of 8000x8000 pixels, of 62 kB each.
fn pictures() -> Vec<u8> {
    let mut png = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(8000, 8000).write_to(&mut png, image::ImageFormat::Png).unwrap();
    let mut out = std::io::Cursor::new(Vec::new());
    let mut writer = zip::ZipWriter::new(&mut out);
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for i in 0..60 {
        writer.start_file(format!("{i}.png"), stored).unwrap();
        writer.write_all(png.get_ref()).unwrap();
    }
    writer.finish().unwrap();
    out.into_inner()
}

/// A dict of 20 000 tensors, each of the same storage, which is a stream of 200 kB in the pickle.
fn streams() -> Vec<u8> {
    let legacy = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let storage = b"\x80\x02(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuM\
        \x50\xc3NtQ.";
    let mut stream = [&legacy[..], b"\x80\x02M\xe9\x03.", b"\x80\x02}.", storage].concat();
    stream.extend(b"\x80\x02]X\x01\0\0\x000a.");
    stream.extend(50_000u64.to_le_bytes());
    stream.resize(stream.len() + 200_000, 0);
    let mut out = b"\x80\x04ctorch.storage\n_load_from_bytes\nB".to_vec();
    out.extend((stream.len() as u32).to_le_bytes());
    out.extend(stream);
    out.extend(b"\x85Rq\0}(");
    for i in 0..20_000 {
        let name = format!("w{i}");
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n(h\0K\0K\x04\x85K\x01\x85\x89NtR");
        let at = out.len() - 49;
        let key = [&[0x8c, name.len() as u8][..], name.as_bytes()].concat();
        out.splice(at..at, key);
    }
    out.extend(b"u.");
    out
}

#[test]
#[cfg(target_os = "linux")]
fn files_made_to_exhaust_a_machine_are_refused_quickly() {
    let folder = Folder::new();
    let deep = [&b"{\"weight_map\":"[..], &b"[".repeat(1_000_000)].concat();
    let pickle = [b"\x80\x02", &b"]".repeat(1_000_000)[..], b"."].concat();
    fs::create_dir(folder.path("photos")).unwrap();
    let pipe = Command::new("mkfifo").arg(folder.path("photos/a.png")).status();
    assert!(pipe.unwrap().success());
    let huge = Manifest { shard_size: 10_000_000, ..Manifest::seeded(0, 1.0, &[2], 1 << 40) };
    fs::create_dir(folder.path("store")).unwrap();
    huge.write(&folder.path("store")).unwrap();
    let (zip, nested) = (overlapping(60_000, &[0; 1 << 20]), nested());
    let none = Vec::new;
    let noise = "sample --model fashion-mnist --out OUT --noise";
    for (name, bytes, command, part) in [
        ("a.npz", zip.clone(), "pairs import --out OUT", "overlap"),
        ("a.npz", zip.clone(), "data info", "overlap"),
        ("a.npz", zip, "info", "overlap"),
        ("b.pkl", layers(23), "import --out OUT", "more than 100000 parts"),
        ("c.safetensors.index.json", deep.clone(), "import --out OUT", "recursion limit"),
        ("c.json", deep, "info", "damaged"),
        ("d.pkl", pickle, "import --out OUT", ""),
        ("e.pkl", streams(), "import --out OUT", ""),
        ("f.npy", nested.clone(), "pairs import --out OUT", "header"),
        ("f.npy", nested.clone(), "data info", "header"),
        ("f.npy", nested.clone(), noise, "header"),
        ("f.npy", nested, "info", "header"),
        ("g.zip", pictures(), "data info", "of memory decoded"),
        ("photos", none(), "data info", "named pipe"),
        ("store", none(), "pairs verify", "count: is 1099511627776"),
        ("store", none(), "info", "count: is 1099511627776"),
        ("store", none(), "evaluate --model fashion-mnist --pairs", "count: is"),
        ("/dev/zero", none(), "import --out OUT", "only regular files"),
        ("/dev/zero", none(), noise, "only regular files"),
        ("/dev/zero", none(), "info", "only regular files"),
    ] {
        let path = if name.starts_with('/') { name.to_string() } else { folder.at(name) };
        if !bytes.is_empty() {
            fs::write(&path, bytes).unwrap();
        }
        let command = command.replace("OUT", &folder.at("out.npy"));
        let command = match command.starts_with("sample") {
            true => command,
            false => command.replace("out.npy", "out.safetensors"),
        };
        let program = kdm(&[]).get_program().to_string_lossy().into_owned();
        let line = format!(
            "ulimit -t 2; ulimit -v 500000; RAYON_NUM_THREADS=1 exec {program} {command} {path}"
        );
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        check_failure(&output, &[&line], 1, &[part]);
    }
}
