//! What a file is that no reader here takes, told from its first bytes: people bring Git LFS
//! pointers, saved web pages, archives still packed, and names in place of files.

use std::io::Read;
use std::path::Path;

use kdm_data::Error;

use crate::Failure;

/// What a file turned out to be, and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sniffed {
    /// After "is": `a Git LFS pointer, not the file itself`.
    pub what: &'static str,
    /// What to do.
    pub action: &'static str,
}

const fn told(what: &'static str, action: &'static str) -> Option<Sniffed> {
    Some(Sniffed { what, action })
}

/// Bytes that are looked at.
const LOOKED_AT: u64 = 1024;
const UNPACK: &str = "unpack it first, and give what was in it";
const CONVERT: &str = "write the arrays as .npz, .npy or .safetensors in Python first";
const WEIGHTS: &str = "give the weights that PyTorch saves (.pt, .pth, .safetensors), or a folder \
                       of diffusers";

/// The kinds that are known by how they begin.
const BEGINNINGS: [(&[u8], Sniffed); 15] = {
    const fn of(what: &'static str, action: &'static str) -> Sniffed {
        Sniffed { what, action }
    }
    [
        (
            b"version https://git-lfs.github.com",
            of(
                "a Git LFS pointer, not the file itself",
                "run `git lfs pull` in its repository, or download the file itself",
            ),
        ),
        (b"\xfd7zXZ\0", of("compressed by xz", UNPACK)),
        (b"\x28\xb5\x2f\xfd", of("compressed by zstd", UNPACK)),
        (b"7z\xbc\xaf\x27\x1c", of("a 7z archive", UNPACK)),
        (b"BZh", of("compressed by bzip2", UNPACK)),
        (b"Rar!", of("a RAR archive", UNPACK)),
        (b"\x89HDF\r\n\x1a\n", of("an HDF5 file", CONVERT)),
        (b"PAR1", of("a Parquet file", CONVERT)),
        (b"ARROW1", of("an Arrow file", CONVERT)),
        (b"GGUF", of("a GGUF file of a language model", WEIGHTS)),
        (b"%PDF", of("a PDF document", "give the file that was meant")),
        (b"ID3", of("a sound", "give images or points: other data has no network here")),
        (b"OggS", of("a sound", "give images or points: other data has no network here")),
        (b"\x1a\x45\xdf\xa3", of("a video", "write its frames as images first")),
        (b"\xde\xc0\xef\xbe", of("an LMDB database", CONVERT)),
    ]
};

/// What the file is, if it is of a kind that no command takes.
pub fn sniff(path: &Path) -> Option<Sniffed> {
    if !std::fs::metadata(path).is_ok_and(|data| data.is_file()) {
        return None;
    }
    let mut start = Vec::new();
    std::fs::File::open(path).ok()?.take(LOOKED_AT).read_to_end(&mut start).ok()?;
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let begins = BEGINNINGS.iter().find(|(beginning, _)| start.starts_with(beginning));
    if let Some((_, sniffed)) = begins {
        return Some(*sniffed);
    }
    let text = String::from_utf8_lossy(&start).trim_start().to_lowercase();
    match () {
        // Of a file of this program that is empty its own reader says what to do.
        () if start.is_empty() && !name.ends_with(".safetensors") => {
            told("empty", "download it or copy it again: there is nothing in it")
        }
        () if text.starts_with("<!doctype html") || text.starts_with("<html") => told(
            "a web page, as one that asks to log in or shows a preview",
            "download the file itself: on GitHub and Hugging Face the address with `resolve` or \
             `raw`, not `blob`",
        ),
        // LMDB's magic number comes after the page's header.
        () if start.get(16..20) == Some(b"\xde\xc0\xef\xbe") => told("an LMDB database", CONVERT),
        () if start.get(4..8) == Some(b"ftyp") => {
            told("a video", "write its frames as images first")
        }
        () if start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WAVE") => {
            told("a sound", "give images or points: other data has no network here")
        }
        () if start.starts_with(b"\x1f\x8b") && !is_tar_or_idx(&name) => {
            told("compressed by gzip", "unpack it first with gunzip, and give what was in it")
        }
        () if name.ends_with(".onnx") => told("an ONNX model", WEIGHTS),
        () if name.ends_with(".msgpack") => told("weights of Flax", WEIGHTS),
        () if name.ends_with(".tflite") || name.ends_with(".pb") => {
            told("a model of TensorFlow", WEIGHTS)
        }
        () if start.starts_with(b"PK") && is_torch_script(path) => told(
            "a TorchScript program",
            "save its weights in Python, torch.save(torch.jit.load(FILE).state_dict(), OUT), and \
             give that",
        ),
        () => None,
    }
}

/// Whether a reader takes a file of this name though it is compressed.
fn is_tar_or_idx(name: &str) -> bool {
    name.contains(".tar") || name.ends_with(".tgz") || name.contains("ubyte")
}

/// Whether an archive holds code, as those of `torch.jit.save` do.
fn is_torch_script(path: &Path) -> bool {
    const MOST: u64 = 64 << 20;
    let read = || {
        let bytes = std::fs::read(path).ok()?;
        let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        Some(has(b"/constants.pkl") && has(b"/code/"))
    };
    std::fs::metadata(path).is_ok_and(|data| data.len() <= MOST) && read().unwrap_or(false)
}

/// What a path is that doesn't exist: an address, or a model's name on a hub.
pub(crate) fn name_of(path: &Path) -> Option<String> {
    let text = path.to_string_lossy();
    let address = ["http:/", "https:/", "hf:/", "s3:/", "gs:/"];
    if address.iter().any(|start| text.starts_with(start)) {
        return Some("is an address: download the file first, and give where it lies".into());
    }
    let mut parts = text.split('/');
    let (owner, name) = (parts.next()?, parts.next()?);
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_alphanumeric())
            && part.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c))
    };
    let known = [".pt", ".pth", ".pkl", ".safetensors", ".npz", ".npy", ".zip", ".toml", ".png"];
    let file = known.iter().any(|end| name.ends_with(end));
    let hub = parts.next().is_none() && plain(owner) && plain(name) && !file;
    (hub && !Path::new(owner).exists()).then(|| {
        format!(
            "there is no such file or folder here; if it is a model's name on Hugging Face, \
             download it first, `huggingface-cli download {text} --local-dir {name}`, and give \
             `{name}`"
        )
    })
}

/// A failure about a file that is of a kind no command takes, or about a name in place of a file,
/// says so; others stay what they are.
pub fn explained(failure: Failure) -> Failure {
    match failure {
        Failure::File(Error::Invalid { path, field, problem, action }) => match sniff(&path) {
            Some(Sniffed { what, action }) => {
                Error::invalid(path, "file", format!("is {what}"), action).into()
            }
            None => Error::Invalid { path, field, problem, action }.into(),
        },
        Failure::File(Error::Io { attempt, path, source })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            match name_of(&path) {
                Some(text) => Failure::Usage(format!("`{}`: {text}", path.display())),
                None => Error::Io { attempt, path, source }.into(),
            }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_how_they_begin() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes, part) in [
            ("a.pt", &b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"[..], "Git LFS"),
            ("b.pt", b"\n <!DOCTYPE html><html>", "web page"),
            ("c.pkl", b"\x1f\x8b\x08\0\0", "gzip"),
            ("d.h5", b"\x89HDF\r\n\x1a\n\0\0", "HDF5"),
            ("e.npz", b"", "empty"),
            ("g.mp4", b"\0\0\0\x18ftypmp42", "video"),
            ("h.onnx", b"\x08\x07\x12", "ONNX"),
            ("i.pt", b"PK\x03\x04m/code/x.py m/constants.pkl", "TorchScript"),
            ("data.mdb", b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xde\xc0\xef\xbe", "LMDB"),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let failure = explained(Error::invalid(&path, "x", "y", "z").into()).to_string();
            assert!(failure.contains(part) && failure.contains(name), "{failure}");
        }
        // What readers take stays what its reader says of it.
        for (name, bytes) in [
            ("a.zip", &b"PK\x03\x04"[..]),
            ("a.pkl", b"\x80\x02}."),
            ("a.tar.gz", b"\x1f\x8b\x08"),
            ("train-images-idx3-ubyte.gz", b"\x1f\x8b\x08"),
            ("a.npy", b"\x93NUMPY"),
            ("a.safetensors", b"\x08\0\0\0\0\0\0\0{}      "),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(sniff(&path), None, "{name}");
        }
    }

    #[test]
    fn names_in_place_of_files_are_told() {
        let missing = |path: &str| {
            let not_found = std::io::Error::from(std::io::ErrorKind::NotFound);
            explained(Error::io("read", path)(not_found).into()).to_string()
        };
        assert!(missing("google/ddpm-cifar10-32").contains("huggingface-cli download google/ddpm"));
        assert!(missing("https://x.org/a.pt").contains("is an address"));
        for path in ["a.pt", "models/a.pt", "no/such/file", "/abs/name", "../up"] {
            assert!(missing(path).starts_with("cannot read"), "{path}: {}", missing(path));
        }
    }
}
