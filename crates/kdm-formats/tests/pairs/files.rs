//! Files of pairs as other programs write them.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use kdm_data::Samples;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Pairs of 3x4x4 images with noise of deviation about 80.
pub fn base(count: usize) -> Samples {
    let shape = vec![3, 4, 4];
    let noise = kdm_random::normal_vec(1, count * 48).into_iter().map(|x| 80.0 * x).collect();
    let images = kdm_random::normal_vec(2, count * 48).into_iter().map(|x| x.tanh()).collect();
    let labels = (0..count).map(|i| Some(i as u32 % 3)).collect();
    Samples { shape, noise, images, labels, ..Samples::default() }
}

/// A `.npy` file's bytes.
pub fn npy(kind: &str, fortran: bool, shape: &[usize], numbers: &[u8]) -> Vec<u8> {
    let sizes: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let order = if fortran { "True" } else { "False" };
    let mut header =
        format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': ({sizes}), }}");
    header += &" ".repeat(63 - (10 + header.len()) % 64);
    header += "\n";
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(numbers);
    bytes
}

/// Numbers of f32.
pub fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Numbers of i64.
pub fn i64s(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// A zip archive.
pub fn archive(path: &Path, files: &[(&str, Vec<u8>)], method: CompressionMethod) {
    let mut zip = ZipWriter::new(File::create(path).unwrap());
    for (name, bytes) in files {
        let options = SimpleFileOptions::default().compression_method(method);
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

/// A tensor of a `torch.save` file: its storage's class, shape, strides and numbers.
pub struct Tensor {
    pub class: &'static str,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
    pub numbers: Vec<u8>,
}

impl Tensor {
    pub fn f32(shape: &[usize], values: &[f32]) -> Self {
        let (shape, strides) = (shape.to_vec(), kdm_data::view::row_major(shape));
        Self { class: "FloatStorage", shape, strides, numbers: f32s(values) }
    }
}

fn int(value: usize) -> Vec<u8> {
    [b"J".as_slice(), &(value as i32).to_le_bytes()].concat()
}

fn text(value: &str) -> Vec<u8> {
    [b"X".as_slice(), &(value.len() as u32).to_le_bytes(), value.as_bytes()].concat()
}

fn tuple(sizes: &[usize]) -> Vec<u8> {
    let items: Vec<u8> = sizes.iter().flat_map(|n| int(*n)).collect();
    [b"(".as_slice(), &items, b"t"].concat()
}

/// The opcodes that make a tensor, as torch.save writes them in protocol 2.
fn opcodes(key: usize, tensor: &Tensor) -> Vec<u8> {
    let count = 1 + tensor.numbers.len();
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        format!("ctorch\n{}\n", tensor.class).into_bytes(),
        text(&key.to_string()),
        text("cpu"),
        int(count),
        b"tQ".to_vec(),
        int(0),
        tuple(&tensor.shape),
        tuple(&tensor.strides),
        b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
    ]
    .concat()
}

/// A `torch.save` file of a bare tensor (one without a name), a list, or a dict.
pub fn torch(path: &Path, tensors: &[(&str, Tensor)]) {
    let made: Vec<Vec<u8>> =
        tensors.iter().enumerate().map(|(i, (_, tensor))| opcodes(i, tensor)).collect();
    let named = tensors.iter().any(|(name, _)| !name.is_empty());
    let object = match (named, made.len()) {
        (false, 1) => made[0].clone(),
        (false, _) => [b"](".to_vec(), made.concat(), b"e".to_vec()].concat(),
        (true, _) => {
            let entries = tensors.iter().zip(&made);
            let entries: Vec<u8> =
                entries.flat_map(|((name, _), made)| [text(name), made.clone()].concat()).collect();
            [b"}(".to_vec(), entries, b"u".to_vec()].concat()
        }
    };
    let pickle = [b"\x80\x02".to_vec(), object, b".".to_vec()].concat();
    let mut files = vec![
        ("archive/data.pkl".to_string(), pickle),
        ("archive/byteorder".to_string(), b"little".to_vec()),
    ];
    for (i, (_, tensor)) in tensors.iter().enumerate() {
        files.push((format!("archive/data/{i}"), tensor.numbers.clone()));
    }
    let files: Vec<(&str, Vec<u8>)> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    archive(path, &files, CompressionMethod::Stored);
}

/// A tar archive, long names by GNU's headers.
pub fn tar(path: &Path, files: &[(String, Vec<u8>)]) {
    let mut out = Vec::new();
    let mut member = |name: &str, kind: u8, bytes: &[u8]| {
        let mut header = [0u8; 512];
        let short = &name.as_bytes()[..name.len().min(100)];
        header[..short.len()].copy_from_slice(short);
        header[100..107].copy_from_slice(b"0000644");
        header[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
        header[148..156].copy_from_slice(b"        ");
        header[156] = kind;
        header[257..265].copy_from_slice(b"ustar  \0");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        out.extend(header);
        out.extend(bytes);
        out.resize(out.len().next_multiple_of(512), 0);
    };
    for (name, bytes) in files {
        if name.len() > 100 {
            member("././@LongLink", b'L', format!("{name}\0").as_bytes());
        }
        member(name, b'0', bytes);
    }
    out.resize(out.len() + 1024, 0);
    std::fs::write(path, out).unwrap();
}

/// An RGB picture of these bytes, [H, W, 3], as a PNG file.
pub fn png(side: u32, pixels: Vec<u8>) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    let image = image::RgbImage::from_raw(side, side, pixels).unwrap();
    image.write_to(&mut out, image::ImageFormat::Png).unwrap();
    out.into_inner()
}
