//! DMD's pairs: `annotations.json` tells of each pair a file (image first, noise last), or a file
//! for each of both, and its class.

use std::path::{Component, Path, PathBuf};

use kdm_data::pairs::PairSource;
use kdm_data::region::Region;
use kdm_data::view::View;
use kdm_data::{Error, Result, regular};
use serde::Deserialize;

use super::folders::{Ends, pair};
use super::parts::{LabelRows, Part, PartSource, Parts, Rows};

#[derive(Deserialize)]
struct Annotations {
    data: Vec<Record>,
}

#[derive(Deserialize)]
struct Record {
    pairs_path: Option<String>,
    image_path: Option<String>,
    latent_path: Option<String>,
    class_idx: Option<f64>,
}

struct Records {
    folder: PathBuf,
    records: Vec<Record>,
}

const NAME: &str = "annotations.json";
const ACTION: &str = "give `data` as a list of {\"pairs_path\": \"samples/000000.npy\", \
                      \"class_idx\": 0}, or with `image_path` and `latent_path`";

impl Records {
    fn invalid(&self, i: usize, problem: impl Into<String>) -> Error {
        Error::invalid(self.folder.join(NAME), format!("data[{i}]"), problem, ACTION)
    }

    /// The file that a record names, within the folder.
    fn file(&self, i: usize, name: &str) -> Result<PathBuf> {
        let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if !Path::new(name).components().all(inside) {
            return Err(self.invalid(i, format!("names `{name}`, which is not in the folder")));
        }
        Ok(self.folder.join(name))
    }
}

impl PartSource for Records {
    fn count(&self) -> usize {
        self.records.len()
    }

    fn open(&self, i: usize) -> Result<Part> {
        let record = &self.records[i];
        let mut part = match (&record.pairs_path, &record.image_path, &record.latent_path) {
            (Some(name), ..) => {
                let ends = Ends::Path { array: "arr_0".into(), image_first: true };
                pair(&self.file(i, name)?, &ends)?
            }
            (None, Some(image), Some(latent)) => {
                let (image, latent) = (self.file(i, image)?, self.file(i, latent)?);
                let picture = Region::file(&image)?;
                let image = match image.extension().is_some_and(|e| e == "npy") {
                    true => Rows::View(View::npy(picture)?.as_row()),
                    false => Rows::picture(&picture)?,
                };
                if latent.extension().is_none_or(|e| e != "npy") {
                    let problem = format!("has its noise in `{}`, no .npy file", latent.display());
                    return Err(self.invalid(i, problem));
                }
                let noise = View::npy(Region::file(&latent)?)?.as_row();
                Part { noise, image, label: None, file: latent }
            }
            _ => return Err(self.invalid(i, "names no files of a pair")),
        };
        part.label = record.class_idx.map(LabelRows::Class);
        Ok(part)
    }
}

/// The pairs that a folder's `annotations.json` names, in its order.
///
/// # Errors
/// When it is damaged, or its first pair is missing.
pub fn open(folder: &Path) -> Result<Box<dyn PairSource>> {
    const MOST: u64 = 1 << 30;
    let bytes = regular::read(&folder.join(NAME), MOST)?;
    let annotations: Annotations = serde_json::from_slice(&bytes)
        .map_err(|e| Error::invalid(folder.join(NAME), "data", e.to_string(), ACTION))?;
    let records = Records { folder: folder.to_path_buf(), records: annotations.data };
    let found = format!("{} pairs of DMD in `{NAME}`, image first", records.count());
    Ok(Box::new(Parts::new(records, folder, None, found)?))
}
