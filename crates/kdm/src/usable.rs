//! What a file or folder is that some command takes, for whoever gave it to another command.

use std::io::Read;
use std::path::Path;

use kdm_data::region::Region;
use kdm_data::{Error, TensorFile};

use crate::sniff::{explained, name_of, sniff};
use crate::{Failure, run_folder};

/// What a reader was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A model of this program.
    Model,
    /// A model of another program.
    ForeignModel,
    /// Noise-image pairs of another program.
    Pairs,
    /// A data set of images.
    Images,
    /// One array, of noise, labels or images.
    Array,
    /// A store of pairs.
    Store,
    /// Statistics of features.
    Statistics,
    /// Something to describe.
    Anything,
}

use Wanted::{Anything, Array, ForeignModel, Images, Model, Pairs, Statistics, Store};

/// What something is, and which command takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usable {
    /// After "is".
    pub what: &'static str,
    /// What to do with it.
    pub action: &'static str,
    /// Readers that take it, so that their own messages say more.
    pub readers: &'static [Wanted],
}

const fn of(
    what: &'static str,
    action: &'static str,
    readers: &'static [Wanted],
) -> Option<Usable> {
    Some(Usable { what, action, readers })
}

const IMPORT: &str = "bring it in with `kdm import FILE --out MODEL.safetensors`, and give that";
const IMPORT_PAIRS: &str =
    "bring them in with `kdm pairs import PATH --out FOLDER`, and give that folder with --pairs";
const DATA: &str = "give it as a data set (`kdm data info PATH`, --data, --reference)";

/// What lies at `path`, if some command takes it, or takes what it is part of. Nothing is read
/// whole.
pub fn usable(path: &Path) -> Option<Usable> {
    if path.is_dir() { folder(path) } else { file(path) }
}

fn file(path: &Path) -> Option<Usable> {
    let file = kdm_data::regular::open(path).ok()?;
    let mut start = Vec::new();
    file.take(1024).read_to_end(&mut start).ok()?;
    match &start[..] {
        [b'P', b'K', 3 | 5, ..] => archive(path),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => of(
            "one array of NumPy",
            "give it as --noise, --images or --latents, or to `kdm pairs import` if it holds whole \
             trajectories",
            &[Pairs, Images, Array, Anything],
        ),
        [0, 0, 8 | 13, 1..=4, ..] => of(
            "one of the IDX files of a data set",
            "give the folder that holds all four as a data set",
            &[],
        ),
        [0x80, 1..=5, ..] => {
            of("a pickle of Python", IMPORT, &[ForeignModel, Images, Statistics, Anything])
        }
        [0x89, b'P', b'N', b'G', ..] | [0xff, 0xd8, 0xff, ..] | [b'G', b'I', b'F', b'8', ..] => of(
            "one image",
            "give a folder, .zip or .tar of images as a data set",
            &[Images, Anything],
        ),
        [_, _, _, _, _, 0, 0, 0, b'{', ..] => tensors(path),
        _ if start.get(257..262) == Some(b"ustar") || start.starts_with(b"\x1f\x8b") => of(
            "a tar archive",
            "give one of images as a data set (`kdm data info FILE`), one of pairs (WebDataset) to \
             `kdm pairs import`, or unpack it",
            &[Pairs, Images],
        ),
        _ => text(path, &start),
    }
}

fn text(path: &Path, start: &[u8]) -> Option<Usable> {
    let text = String::from_utf8_lossy(start);
    if text.trim_start_matches('\u{feff}').trim_start().starts_with('{') {
        return match text.contains("\"weight_map\"") {
            true => of("the index of weights in several files", IMPORT, &[ForeignModel, Anything]),
            false => of(
                "a JSON text",
                "give the folder that it describes, or the file that was meant",
                &[Anything],
            ),
        };
    }
    if path.extension().is_some_and(|extension| extension == "toml") {
        return of("an experiment's configuration", "start it with `kdm run FILE`", &[Anything]);
    }
    // Of its first bytes the last may be a part of a letter.
    let text = !start.is_empty() && !text.trim_end_matches('\u{fffd}').contains(['\u{fffd}', '\0']);
    match text {
        true => of("a text", "give the file that was meant", &[]),
        false => None,
    }
}

fn tensors(path: &Path) -> Option<Usable> {
    let file = TensorFile::open_foreign(path).ok()?;
    match &file.metadata() {
        metadata if metadata["kind"].is_string() => {
            let action = "give it with --model, or see what it is with `kdm info FILE`";
            of("a model file of this program", action, &[Model, ForeignModel, Statistics, Anything])
        }
        metadata if !metadata["plan"].is_null() => of(
            "a part of a pair store",
            "give the folder that it is in, with --pairs",
            &[Model, Anything],
        ),
        _ => of(
            "a safetensors file of another program",
            "bring a model in with `kdm import FILE --out MODEL.safetensors`, and arrays of noise \
             and images with `kdm pairs import`",
            &[ForeignModel, Pairs],
        ),
    }
}

/// Endings of names of images.
fn is_image(name: &str) -> bool {
    let name = name.to_lowercase();
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    ["png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "gif"].contains(&ending)
}

fn archive(path: &Path) -> Option<Usable> {
    let entries = Region::file(path).ok()?.entries().ok()?;
    let has = |test: &dyn Fn(&str) -> bool| entries.iter().any(|entry| test(&entry.name));
    match () {
        () if has(&|name| name.ends_with("data.pkl")) => of(
            "a file of PyTorch",
            "bring a model in with `kdm import FILE --out MODEL.safetensors`, and tensors of noise \
             and images with `kdm pairs import`",
            &[ForeignModel, Pairs, Anything],
        ),
        () if has(&|name| name.ends_with(".npy")) => of(
            "an .npz of NumPy's arrays",
            "see them with `kdm info FILE`; pairs go to `kdm pairs import`, and images are a data \
             set",
            &[Pairs, Images, Statistics, Anything],
        ),
        () if has(&is_image) => of("a zip of images", DATA, &[Images]),
        () => of(
            "a zip archive without images, arrays or weights of PyTorch",
            "unpack it, and give the file or folder in it",
            &[Images],
        ),
    }
}

fn folder(path: &Path) -> Option<Usable> {
    let names: Vec<String> = std::fs::read_dir(path)
        .ok()?
        .take(10_000)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    let has = |name: &str| names.iter().any(|found| found == name);
    let ending = |end: &str| names.iter().any(|name| name.ends_with(end));
    let deeper = || {
        let first = names.iter().map(|name| path.join(name)).find(|inner| inner.is_dir())?;
        let mut names = std::fs::read_dir(first).ok()?.take(1000);
        Some(names.any(|entry| entry.is_ok_and(|e| is_image(&e.file_name().to_string_lossy()))))
    };
    match () {
        () if names.is_empty() => of("an empty folder", "name the folder that was meant", &[]),
        () if has(kdm_data::pairs::MANIFEST) => {
            of("a store of pairs", "give it with --pairs", &[Pairs, Store, Anything])
        }
        () if has(run_folder::CONFIG) => of(
            "the folder of a run",
            "give the model in it, student.safetensors, or see what it is with `kdm info FOLDER`",
            &[Model, Anything],
        ),
        () if kdm_formats::is_diffusers_folder(path) => {
            of("a folder of diffusers", IMPORT, &[ForeignModel, Anything])
        }
        () if has("annotations.json")
            || has("z.zip")
            || has("latent") && has("image")
            || ending(".npz")
            || ending(".npy") =>
        {
            of("a folder of pairs or arrays", IMPORT_PAIRS, &[Pairs, Images])
        }
        () if ending(".tar") => {
            of("a folder of tar archives (WebDataset)", IMPORT_PAIRS, &[Pairs, Images])
        }
        () if ending(".safetensors") || ending(".bin") || ending(".index.json") => {
            of("a folder of weights", IMPORT, &[ForeignModel])
        }
        () if names.iter().any(|name| is_image(name)) || deeper() == Some(true) => {
            of("a folder of images", DATA, &[Images])
        }
        () => None,
    }
}

/// The failure of a reader that wanted something else than what lies at `path`; other failures
/// stay what they are.
pub fn instead(path: &Path, wanted: Wanted, failure: Failure) -> Failure {
    let about_it = match &failure {
        Failure::File(Error::Invalid { .. } | Error::Io { .. }) => true,
        Failure::Usage(_) => !path.exists(),
        _ => false,
    };
    if !about_it {
        return failure;
    }
    if !path.exists() {
        let told = name_of(path).map(|text| format!("`{}`: {text}", path.display()));
        return told.map_or(failure, Failure::Usage);
    }
    if sniff(path).is_some() {
        return explained(failure);
    }
    match usable(path) {
        Some(found) if !found.readers.contains(&wanted) => {
            Error::invalid(path, "file", format!("is {}", found.what), found.action).into()
        }
        _ => failure,
    }
}
