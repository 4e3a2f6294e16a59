//! Statistics of features as others bring them, or as nobody should: read, or refused with one
//! message that names what is wrong, before any work.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use kdm::data::array::write_npz_f64;

use crate::common::{Folder, check_failure, image_zip, kdm};

/// Features of the network that ships for Fashion-MNIST.
const DIM: usize = 128;

fn identity(scale: f64) -> Vec<f64> {
    (0..DIM * DIM).map(|i| if i % (DIM + 1) == 0 { scale } else { 0.0 }).collect()
}

/// A `.npy` whose header says what it likes, and `zeros` bytes.
fn npy(header: &str, zeros: usize) -> Vec<u8> {
    let mut out = b"\x93NUMPY\x01\0".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.resize(out.len() + zeros, 0);
    out
}

/// An `.npz` of members that are packed.
fn packed(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    let mut writer = zip::ZipWriter::new(&mut out);
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated);
    for (name, bytes) in members {
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap();
    out.into_inner()
}

fn header(descr: &str, shape: &str) -> String {
    format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n")
}

/// An array as NumPy pickles it.
fn pickled(shape: &[u32], values: &[f64]) -> Vec<u8> {
    let mut out =
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R(K\x01("
            .to_vec();
    shape.iter().for_each(|size| {
        out.push(b'J');
        out.extend(size.to_le_bytes());
    });
    out.extend(b"tcnumpy\ndtype\nX\x02\0\0\0f8\x89\x88\x87R(K\x03X\x01\0\0\0<NNNJ\xff\xff");
    out.extend(b"\xff\xffJ\xff\xff\xff\xffK\0tb\x89B");
    out.extend(((8 * values.len()) as u32).to_le_bytes());
    values.iter().for_each(|x| out.extend(x.to_le_bytes()));
    out.extend(b"tb");
    out
}

fn pickle(mu: &[u8], sigma: &[u8]) -> Vec<u8> {
    [b"\x80\x02}(X\x02\0\0\0mu", mu, b"X\x05\0\0\0sigma", sigma, b"u."].concat()
}

/// Measures images against statistics, within two seconds of the processor and 500 MB.
fn measure(folder: &Folder, name: &str) -> std::process::Output {
    let images = folder.at("bars.zip");
    let program = kdm(&[]).get_program().to_string_lossy().into_owned();
    let line = format!(
        "ulimit -t 2; ulimit -v 500000; exec {program} evaluate --threads 1 --samples {images} \
         --features fashion-mnist --reference {}",
        folder.at(name)
    );
    Command::new("sh").args(["-c", &line]).output().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn statistics_that_can_be_none_are_refused_before_work() {
    let folder = Folder::new();
    image_zip(Path::new(&folder.at("bars.zip")), 8, 8, 2);
    let (mean, good) = (vec![0.1; DIM], identity(1.0));
    let with = |at: usize, value: f64| {
        let mut sigma = identity(1.0);
        sigma[at] = value;
        sigma
    };
    let npz = |name: &str, arrays: &[(&str, &[usize], &[f64])]| {
        write_npz_f64(&folder.path(name), arrays, &[]).unwrap();
    };
    let square = [DIM, DIM];
    let pair = |name: &str, mean: &[f64], sigma: &[f64]| {
        npz(name, &[("mu", &[mean.len()], mean), ("sigma", &square, sigma)]);
    };
    pair("good.npz", &mean, &good);
    let whole = fs::read(folder.path("good.npz")).unwrap();
    let output = measure(&folder, "good.npz");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    pair("nan.npz", &[mean.clone(), vec![]].concat(), &with(5, f64::NAN));
    pair("infinite.npz", &[&[f64::INFINITY][..], &mean[1..]].concat(), &good);
    pair("skew.npz", &mean, &with(7, 0.5));
    pair("negative.npz", &mean, &with(0, -1.0));
    pair("all-negative.npz", &mean, &identity(-1.0));
    npz("sizes.npz", &[("mu", &[DIM], &mean), ("sigma", &[DIM / 2, 2 * DIM], &good)]);
    npz("few.npz", &[("mu", &[2], &[0.0; 2]), ("sigma", &[2, 2], &[1.0, 0.0, 0.0, 1.0])]);
    npz("keys.npz", &[("mu", &[DIM], &mean), ("cov", &square, &good)]);
    npz("row.npz", &[("pool_3", &[1, DIM], &mean)]);
    fs::write(folder.path("cut.npz"), &whole[..whole.len() / 2]).unwrap();
    let mut flipped = whole.clone();
    flipped[20_000] ^= 4;
    fs::write(folder.path("flipped.npz"), flipped).unwrap();
    let zeros = npy(&header("'<f8'", "(3600, 3600)"), 8 * 3600 * 3600);
    let mu = npy(&header("'<f8'", "(3600,)"), 8 * 3600);
    let huge = npy(&header("'<f8'", "(1000000000000, 1000000000000)"), 64);
    for (name, members) in [
        ("bomb.npz", vec![("mu.npy", mu), ("sigma.npy", zeros)]),
        ("huge.npz", vec![("mu.npy", huge.clone()), ("sigma.npy", huge.clone())]),
        ("huge-rows.npz", vec![("pool_3.npy", huge)]),
        (
            "rows-bomb.npz",
            vec![("pool_3.npy", npy(&header("'<f4'", "(20000, 2048)"), 4 * 20000 * 2048))],
        ),
        (
            "objects.npz",
            vec![("mu.npy", npy(&header("'|O'", "(128,)"), 1024)), ("sigma.npy", vec![])],
        ),
        (
            "texts.npz",
            vec![("mu.npy", npy(&header("'<U9'", "(128,)"), 36 * 128)), ("sigma.npy", vec![])],
        ),
    ] {
        fs::write(folder.path(name), packed(&members)).unwrap();
    }
    let p = |shape: &[u32], values: &[f64]| pickled(shape, values);
    let dim = DIM as u32;
    let mu = p(&[dim], &mean);
    for (name, bytes) in [
        ("good.pkl", pickle(&mu, &p(&[dim, dim], &good))),
        ("nan.pkl", pickle(&mu, &p(&[dim, dim], &with(3, f64::NAN)))),
        ("skew.pkl", pickle(&mu, &p(&[dim, dim], &with(3, 9.0)))),
        ("negative.pkl", pickle(&mu, &p(&[dim, dim], &identity(-1.0)))),
        ("sizes.pkl", pickle(&mu, &p(&[dim, 2], &[0.0; 2 * DIM]))),
        ("huge.pkl", pickle(&mu, &p(&[1 << 30, 1 << 30], &[0.0]))),
        ("call.pkl", pickle(b"cos\nsystem\nX\x0b\0\0\0touch owned\x85R", &mu)),
        ("keys.pkl", b"\x80\x02}X\x01\0\0\0aK\x01s.".to_vec()),
        ("deep.pkl", [b"\x80\x02", &[b'('; 1 << 20][..], b"."].concat()),
        ("cut.pkl", b"\x80\x02}(X\x02\0\0\0mu".to_vec()),
    ] {
        fs::write(folder.path(name), bytes).unwrap();
    }
    let output = measure(&folder, "good.pkl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (name, part) in [
        ("nan.npz", "sigma: "),
        ("infinite.npz", "finite"),
        ("skew.npz", "symmetric"),
        ("negative.npz", "below zero"),
        ("all-negative.npz", "below zero"),
        ("sizes.npz", "sigma: is [64, 256]"),
        ("few.npz", "2"),
        ("keys.npz", "sigma: is missing"),
        ("row.npz", "at least two rows"),
        ("cut.npz", "archive"),
        ("flipped.npz", "checksum"),
        ("bomb.npz", "3600"),
        ("huge.npz", "impossible shape"),
        ("huge-rows.npz", "shape"),
        ("rows-bomb.npz", "2048"),
        ("objects.npz", "object"),
        ("texts.npz", "U9"),
        ("nan.pkl", "finite"),
        ("skew.pkl", "symmetric"),
        ("negative.pkl", "below zero"),
        ("sizes.pkl", "sigma: is [128, 2]"),
        ("huge.pkl", "sigma: is no array"),
        ("call.pkl", "mu: is no array"),
        ("keys.pkl", "mu: is missing"),
        ("deep.pkl", "pickle"),
        ("cut.pkl", "pickle"),
    ] {
        let output = measure(&folder, name);
        let code = output.status.code().unwrap_or_default();
        assert!(code == 1 || code == 2, "{name}: {}", output.status);
        check_failure(&output, &[name], code, &[part]);
    }
    assert!(!Path::new("owned").exists() && !folder.path("owned").exists());
}
