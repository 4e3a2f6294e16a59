//! What is asked of a place before anything is written there: that it is none of the inputs, by
//! whatever name or link, and that no file of another kind is lost by it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use crate::{TensorFile, model};

/// What a file that is about to be written will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind<'a> {
    /// An array, `.npy`.
    Array,
    /// Several arrays, `.npz`.
    Arrays,
    /// A picture, `.png`, `.svg` or `.pdf`.
    Picture,
    /// Pictures in a `.zip`.
    Pictures,
    /// A model file of this kind, such as `student` (see [`model::kind`]).
    Model(&'a str),
    /// A model file of any kind.
    AnyModel,
    /// Named tensors without this program's metadata, `.safetensors`.
    Tensors,
    /// A model that this program wrote as ONNX, `.onnx`.
    Onnx,
}

/// Why nothing is written to a place.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is an input.
    #[error(
        "`{}` is what this command reads{}: an output takes the place of no input; name another \
         file or folder", out.display(), called(out, input)
    )]
    Input {
        /// The place.
        out: PathBuf,
        /// The input, as it was named.
        input: PathBuf,
    },
    /// It lies in a folder that is an input as a whole.
    #[error(
        "`{}` lies in `{}`, which this command reads; name a place outside of it",
        out.display(), input.display()
    )]
    InsideInput {
        /// The place.
        out: PathBuf,
        /// The folder.
        input: PathBuf,
    },
    /// There is a file of another kind.
    #[error(
        "`{}` is {found}, and {wanted} would take its place; name another file, or give --force to \
         replace it", out.display()
    )]
    OtherKind {
        /// The place.
        out: PathBuf,
        /// What is there.
        found: String,
        /// What would be written.
        wanted: String,
    },
    /// Files are written to no such thing.
    #[error("`{}` is {found}; name {wanted}", out.display())]
    NoPlace {
        /// The place.
        out: PathBuf,
        /// What it is.
        found: &'static str,
        /// What is needed.
        wanted: &'static str,
    },
}

/// The other name of an input, where it has one.
fn called(out: &Path, input: &Path) -> String {
    if out == input { String::new() } else { format!(" as `{}`", input.display()) }
}

/// Whether a file of `kind` may be written to `out` by work that reads `inputs`: files, folders
/// that are read as a whole, or names that are no paths and say nothing here. An existing file of
/// another kind is only replaced by `force`; an empty one has no kind.
///
/// ```
/// use kdm_data::output::{FileKind, check_file};
///
/// let folder = tempfile::tempdir()?;
/// let text = folder.path().join("thesis.txt");
/// std::fs::write(&text, "years of work")?;
/// let model = FileKind::Model("student");
/// let message = check_file(&text, model, &[], false).unwrap_err().to_string();
/// assert!(message.contains("a text") && message.contains("--force"));
/// check_file(&text, model, &[], true)?;
/// // Not even by force is an output an input.
/// assert!(check_file(&text, model, &[&text], true).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Refused`], which says what to do.
pub fn check_file(
    out: &Path,
    kind: FileKind,
    inputs: &[&Path],
    force: bool,
) -> Result<(), Refused> {
    check_place(out, inputs)?;
    let Ok(found) = fs::metadata(out) else { return Ok(()) };
    let no_place = |found| Err(Refused::NoPlace { out: out.into(), found, wanted: "a file" });
    if found.is_dir() {
        return no_place("a folder");
    }
    if !found.is_file() {
        return no_place("a device or a pipe");
    }
    if force || found.len() == 0 || kind.is_of(out) {
        return Ok(());
    }
    let (found, wanted) = (describe(out), kind.name());
    Err(Refused::OtherKind { out: out.into(), found, wanted })
}

/// Whether files may be written into the folder `out`, which need not be there, by work that reads
/// `inputs`; see [`check_file`].
///
/// # Errors
/// [`Refused`], which says what to do.
pub fn check_folder(out: &Path, inputs: &[&Path]) -> Result<(), Refused> {
    check_place(out, inputs)?;
    match fs::metadata(out) {
        Ok(found) if !found.is_dir() => {
            let found = if found.is_file() { "a file" } else { "a device or a pipe" };
            Err(Refused::NoPlace { out: out.into(), found, wanted: "a folder" })
        }
        _ => Ok(()),
    }
}

/// Whether `out` is none of `inputs` and lies in none.
fn check_place(out: &Path, inputs: &[&Path]) -> Result<(), Refused> {
    let place = real(out);
    for input in inputs {
        let Ok(there) = fs::canonicalize(input) else { continue };
        if place == there || same_file(out, input) {
            return Err(Refused::Input { out: out.into(), input: input.into() });
        }
        if there.is_dir() && place.starts_with(&there) {
            return Err(Refused::InsideInput { out: out.into(), input: input.into() });
        }
    }
    Ok(())
}

/// The path without links and dots, as far as it is there.
fn real(path: &Path) -> PathBuf {
    if let Ok(found) = fs::canonicalize(path) {
        return found;
    }
    // A link to what isn't there yet.
    if let Ok(target) = fs::read_link(path) {
        let target = path.parent().unwrap_or(Path::new("")).join(target);
        if fs::symlink_metadata(&target).is_err() {
            return real(&target);
        }
    }
    let (parent, last) = (path.parent(), path.components().next_back());
    match (parent, last) {
        (Some(parent), Some(Component::Normal(name))) => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            real(parent).join(name)
        }
        (Some(parent), Some(Component::ParentDir)) => {
            let mut above = real(parent);
            above.pop();
            above
        }
        _ => path.to_path_buf(),
    }
}

/// Whether two names are of one file: hard links too.
fn same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        match (fs::metadata(a), fs::metadata(b)) {
            (Ok(a), Ok(b)) => a.is_file() && (a.dev(), a.ino()) == (b.dev(), b.ino()),
            _ => false,
        }
    }
    #[cfg(not(unix))]
    {
        let _ = (a, b);
        false
    }
}

const NPY: &[u8] = b"\x93NUMPY";
const PNG: &[u8] = b"\x89PNG\r\n";
const ZIP: &[u8] = b"PK";
const PDF: &[u8] = b"%PDF-";
const SVG: &[u8] = b"<svg";
/// Format 8, of the producer kdm.
const ONNX: &[u8] = b"\x08\x08\x12\x03kdm";

impl FileKind<'_> {
    /// Whether the file at `path` is of this kind.
    fn is_of(self, path: &Path) -> bool {
        let start = beginning(path).unwrap_or_default();
        match self {
            Self::Array => start.starts_with(NPY),
            Self::Arrays => start.starts_with(ZIP) && holds(path, &["npy"]),
            Self::Picture => [PNG, PDF, SVG].iter().any(|form| start.starts_with(form)),
            Self::Onnx => start.starts_with(ONNX),
            Self::Pictures => start.starts_with(ZIP) && holds(path, &["png", "json"]),
            Self::Model(kind) => {
                model_kind(path).is_some_and(|found| found.as_deref() == Some(kind))
            }
            Self::AnyModel => model_kind(path).is_some_and(|found| found.is_some()),
            Self::Tensors => model_kind(path).is_some_and(|found| found.is_none()),
        }
    }

    /// As messages call it.
    fn name(self) -> String {
        match self {
            Self::Array => "an array".into(),
            Self::Arrays => "an .npz of arrays".into(),
            Self::Picture => "a picture".into(),
            Self::Pictures => "a .zip of pictures".into(),
            Self::Model(kind) => format!("the model file of a {kind}"),
            Self::AnyModel => "a model file".into(),
            Self::Tensors => "a state dict".into(),
            Self::Onnx => "an ONNX file of this program".into(),
        }
    }
}

/// What a file is, for a person.
fn describe(path: &Path) -> String {
    let start = beginning(path).unwrap_or_default();
    match model_kind(path) {
        Some(Some(kind)) => return format!("the model file of a {kind}"),
        Some(None) => return "a .safetensors file of another program".into(),
        None => {}
    }
    let text = start.iter().all(|b| *b >= 0x20 || b"\t\r\n".contains(b));
    let name = match &start {
        _ if start.starts_with(NPY) => "an array",
        _ if start.starts_with(PNG) => "a picture",
        _ if start.starts_with(ZIP) => "a zip archive of something else",
        _ if text => "a text",
        _ => "a file of another kind",
    };
    name.into()
}

/// The first bytes of a file.
fn beginning(path: &Path) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    File::open(path)?.take(256).read_to_end(&mut start)?;
    Ok(start)
}

/// The kind that a safetensors file says it is of; within, none for another program's. A damaged
/// one is a file of no kind.
fn model_kind(path: &Path) -> Option<Option<String>> {
    let file = TensorFile::open(path).ok()?;
    Some(model::kind(&file).map(str::to_string))
}

/// Whether all that an archive holds has one of these extensions.
fn holds(path: &Path, extensions: &[&str]) -> bool {
    let archive = File::open(path).ok().and_then(|file| zip::ZipArchive::new(file).ok());
    archive.is_some_and(|archive| {
        archive.file_names().all(|name| {
            let extension = name.as_ref().ok().and_then(|name| name.rsplit_once('.'));
            extension.is_some_and(|(_, extension)| extensions.contains(&extension))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::State;
    use crate::{Array, array, tensors};
    use serde_json::{Value, json};

    /// Every kind over every other: only its own is replaced, and an empty file by all.
    #[test]
    fn only_files_of_the_same_kind_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let values = Array::new([2], vec![1.0, 2.0]);
        array::write_npy(&path("a.npy"), &values).unwrap();
        array::write_npz(&path("a.npz"), &[("a", &values)]).unwrap();
        fs::write(path("a.png"), [PNG, b"\x1a\n...."].concat()).unwrap();
        model::write(&path("student"), "student", &json!({}), &State::new()).unwrap();
        model::write(&path("teacher"), "teacher", &json!({}), &State::new()).unwrap();
        tensors::write_state(&path("foreign"), &Value::Null, &State::new()).unwrap();
        fs::write(path("a.svg"), [SVG, b" xmlns"].concat()).unwrap();
        fs::write(path("a.pdf"), [PDF, b"1.7"].concat()).unwrap();
        fs::write(path("a.onnx"), [ONNX, b"\x1a"].concat()).unwrap();
        fs::write(path("text"), "years of work").unwrap();
        fs::write(path("bytes"), [0u8, 200, 3]).unwrap();
        let own = [
            (FileKind::Array, &["a.npy"][..]),
            (FileKind::Arrays, &["a.npz"]),
            (FileKind::Picture, &["a.png", "a.svg", "a.pdf"]),
            (FileKind::Pictures, &[]),
            (FileKind::Model("student"), &["student"]),
            (FileKind::AnyModel, &["student", "teacher"]),
            (FileKind::Tensors, &["foreign"]),
            (FileKind::Onnx, &["a.onnx"]),
        ];
        for (kind, own) in own {
            for name in [
                "a.npy", "a.npz", "a.png", "a.svg", "a.pdf", "a.onnx", "student", "teacher",
                "foreign", "text", "bytes",
            ] {
                let found = check_file(&path(name), kind, &[], false);
                assert_eq!(found.is_ok(), own.contains(&name), "{kind:?} over {name}: {found:?}");
                check_file(&path(name), kind, &[], true).unwrap();
            }
            fs::write(path("empty"), "").unwrap();
            check_file(&path("empty"), kind, &[], false).unwrap();
            check_file(&path("new"), kind, &[], false).unwrap();
            assert!(check_file(folder.path(), kind, &[], true).is_err());
        }
        assert!(check_folder(&path("text"), &[]).is_err());
        check_folder(&path("new/folder"), &[]).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn an_input_is_known_by_all_its_names() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("data/deep")).unwrap();
        fs::write(path("data/a"), "").unwrap();
        symlink("data/a", path("link")).unwrap();
        symlink("link", path("again")).unwrap();
        symlink("data", path("folder")).unwrap();
        symlink("data/new", path("dangling")).unwrap();
        fs::hard_link(path("data/a"), path("hard")).unwrap();
        let input = path("data/a");
        for name in
            ["data/a", "data/../data/./a", "data/deep/../a", "link", "again", "folder/a", "hard"]
        {
            let found = check_file(&path(name), FileKind::Array, &[&input], true);
            assert!(matches!(found, Err(Refused::Input { .. })), "{name}: {found:?}");
        }
        for name in ["link", "again", "hard", "folder/a"] {
            assert!(check_file(&input, FileKind::Array, &[&path(name)], true).is_err(), "{name}");
        }
        check_file(&path("b"), FileKind::Array, &[&input, "no-path".as_ref()], false).unwrap();
        // A folder that is read as a whole.
        let data = path("data");
        assert!(matches!(check_folder(&path("folder"), &[&data]), Err(Refused::Input { .. })));
        for name in ["data/b", "folder/b", "data/deep/new/b", "dangling", "data/x/../b"] {
            let found = check_file(&path(name), FileKind::Array, &[&data], true);
            assert!(matches!(found, Err(Refused::InsideInput { .. })), "{name}: {found:?}");
            assert!(check_folder(&path(name), &[&data]).is_err());
        }
        check_folder(&path("data-2"), &[&data]).unwrap();
        check_folder(&path("data/../other"), &[&data]).unwrap();
        for device in ["/dev/null", "/dev/full"] {
            let found = check_file(device.as_ref(), FileKind::Array, &[], true);
            assert!(matches!(found, Err(Refused::NoPlace { .. })), "{found:?}");
        }
    }
}
