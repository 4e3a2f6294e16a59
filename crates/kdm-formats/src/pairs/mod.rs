//! Noise-image pairs as other programs publish them: read a few at a time, by what is in a file and
//! not by its name.
//!
//! | what | layout |
//! | --- | --- |
//! | any `.npz`, `.pt` or `.safetensors` | arrays of noise, images and labels, pairs first |
//! | `.npy` | (steps, pairs, ...): a path from noise to sample, whose states may be kept |
//! | a folder of `.npz` or `.npy` files | one path a pair, as KDM's image pairs are |
//! | GET | `latent/` and `image/`: tensors of many pairs a file |
//! | 2-RF++ | `samples.zip` and `z.zip`: a picture and a noise a pair, `images_labels.csv` |
//! | FastGen | WebDataset: `.tar` files with `noise.pth` and `latent.pth` of each pair |
//! | DMD | `annotations.json`, which names a file a pair |

mod annotations;
mod folders;
mod get;
mod names;
mod parts;
mod pcg64;
mod rfpp;
mod single;
mod states;
mod torch;
mod webdataset;

use std::path::Path;

use kdm_data::pairs::PairSource;
use kdm_data::region::Region;
use kdm_data::{Error, Result};
use kdm_observer::Observer;

pub use names::Keys;

/// What can be given.
const ACTION: &str = "give arrays of noise and images in one .npz, .pt or .safetensors file, a \
                      .npy of shape (steps, pairs, ...), or a folder of pairs as GET, 2-RF++, DMD, \
                      FastGen or KDM publish them";

/// Finds the pairs of a file or folder. Arrays are named by `keys`, or guessed from their names.
///
/// # Errors
/// When it is damaged or in no known layout, and when the observer stops it.
pub fn open(path: &Path, keys: &Keys, observer: &dyn Observer) -> Result<Box<dyn PairSource>> {
    let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
    if metadata.is_dir() { open_folder(path, keys, observer) } else { open_file(path, keys) }
}

fn open_folder(path: &Path, keys: &Keys, observer: &dyn Observer) -> Result<Box<dyn PairSource>> {
    let has = |name: &str| path.join(name).exists();
    if has(kdm_data::pairs::MANIFEST) {
        let action = "use it as it is: --pairs takes it";
        return Err(Error::invalid(path, "folder", "is a store of pairs already", action));
    }
    if has("data.mdb") {
        return Err(lmdb(path));
    }
    if has("annotations.json") {
        return annotations::open(path);
    }
    if has("latent") && has("image") {
        return get::open(path, observer);
    }
    if has("z.zip") || has("samples.zip") {
        return rfpp::open(path);
    }
    let names = folders::names(path)?;
    let of = |extension: &str| {
        let suffix = format!(".{extension}");
        names.iter().filter(|name| name.ends_with(&suffix)).cloned().collect::<Vec<_>>()
    };
    let (tars, npz, npy) = (of("tar"), of("npz"), of("npy"));
    match () {
        () if !tars.is_empty() => webdataset::open(path, &tars, keys, observer),
        () if !npz.is_empty() => folders::open(path, npz, keys),
        () if !npy.is_empty() => folders::open(path, npy, keys),
        () if names.iter().any(|name| name.ends_with(".mdb") || name.ends_with(".lmdb")) => {
            Err(lmdb(path))
        }
        () => {
            let problem = "holds no pairs in a known layout (no .npz, .npy or .tar files)";
            Err(Error::invalid(path, "folder", problem, ACTION))
        }
    }
}

fn open_file(path: &Path, keys: &Keys) -> Result<Box<dyn PairSource>> {
    let region = Region::file(path)?;
    let mut start = [0u8; 20];
    let there = (region.len() as usize).min(start.len());
    region.read_at(0, &mut start[..there])?;
    let refused =
        |problem: &str, action: &str| Err(Error::invalid(path, "format", problem, action));
    match &start {
        _ if region.is_empty() => refused("is empty", ACTION),
        [b'P', b'K', 3 | 5, ..] => single::archive(&region, keys),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => single::trajectory(&region),
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => single::safetensors(&region, keys),
        _ if webdataset::is_tar(&region) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let folder = path.parent().unwrap_or(Path::new("."));
            webdataset::open_one(path, folder, name, keys)
        }
        [0x89, b'H', b'D', b'F', ..] => refused(
            "is an HDF5 file, which is not read",
            "save its arrays with numpy.savez(\"pairs.npz\", noise=..., image=..., label=...)",
        ),
        [0x1f, 0x8b, ..] => refused("is compressed by gzip", "unpack it first: gunzip FILE"),
        [0x80, ..] => refused(
            "is a bare pickle, or a file of PyTorch before 1.6",
            "save its tensors again with torch.save, or its arrays with numpy.savez",
        ),
        _ if start[16..] == [0xde, 0xc0, 0xef, 0xbe] => Err(lmdb(path)),
        _ if start.starts_with(b"version https://") => refused(
            "is a Git LFS pointer, not the file itself",
            "fetch the file itself: git lfs pull",
        ),
        _ => refused("is no .npz, .npy, .pt, .safetensors or .tar file", ACTION),
    }
}

/// DSNO publishes its pairs so.
fn lmdb(path: &Path) -> Error {
    let action = "read it in Python with the lmdb package and save the arrays with \
                  numpy.savez(\"pairs.npz\", noise=..., image=...)";
    let problem = "is an LMDB database (as DSNO publishes pairs), which is not read";
    Error::invalid(path, "format", problem, action)
}
