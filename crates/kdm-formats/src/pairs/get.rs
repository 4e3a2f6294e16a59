//! GET's pairs: `latent/NAME.pkl` and `image/NAME.pkl`, each a tensor of many pairs that
//! `torch.save` wrote. With classes, a latent's file is a list of the tensor and one-hot rows.

use std::path::{Path, PathBuf};

use kdm_data::pairs::PairSource;
use kdm_data::region::Region;
use kdm_data::view::View;
use kdm_data::{Error, Result};
use kdm_observer::Observer;

use super::folders::names;
use super::parts::{LabelRows, Part, PartSource, Parts, Rows};
use super::torch;

struct Files {
    folder: PathBuf,
    names: Vec<String>,
}

impl PartSource for Files {
    fn count(&self) -> usize {
        self.names.len()
    }

    fn open(&self, i: usize) -> Result<Part> {
        let latent = self.folder.join("latent").join(&self.names[i]);
        let image = self.folder.join("image").join(&self.names[i]);
        let images = tensors(&image)?;
        let [image_view] = &images[..] else {
            return Err(unknown(&image, images.len(), "one tensor of images"));
        };
        let latents = tensors(&latent)?;
        let (noise, label) = match &latents[..] {
            [noise] => (noise, None),
            [noise, label] => (noise, Some(label)),
            _ => return Err(unknown(&latent, latents.len(), "noise and labels")),
        };
        Ok(Part {
            noise: noise.clone(),
            image: Rows::View(image_view.clone()),
            label: label.cloned().map(LabelRows::View),
            file: latent,
        })
    }
}

fn unknown(path: &Path, count: usize, wanted: &str) -> Error {
    let problem = format!("holds {count} tensors, where GET's files have {wanted}");
    Error::invalid(path, "tensors", problem, super::ACTION)
}

fn tensors(path: &Path) -> Result<Vec<View>> {
    let region = Region::file(path)?;
    let entries = region.entries()?;
    Ok(torch::tensors(&region, &entries)?.into_iter().map(|(_, view)| view).collect())
}

/// The pairs of a folder with `latent` and `image`.
///
/// # Errors
/// When a file is damaged or missing, and when the observer stops it.
pub fn open(folder: &Path, observer: &dyn Observer) -> Result<Box<dyn PairSource>> {
    let (mut latents, images) = (names(&folder.join("latent"))?, names(&folder.join("image"))?);
    if let Some(name) = latents.iter().find(|name| !images.contains(name)) {
        let path = folder.join("image").join(name);
        let action = "copy both folders again, whole";
        return Err(Error::invalid(path, "file", "is missing beside its latents", action));
    }
    // By number, as the seeds in the names count.
    latents.sort_by_key(|name| (name.len(), name.clone()));
    let files = Files { folder: folder.to_path_buf(), names: latents };
    let total = files.count() as u64;
    let mut starts = vec![0];
    let mut progress = observer.begin("import: open files", "files");
    for i in 0..files.count() {
        progress.advance(i as u64, total, "").map_err(Error::stopped(
            format!("reading `{}`", folder.display()),
            "nothing was written",
            "run the same command again: it begins anew",
        ))?;
        starts.push(starts[i] + files.open(i)?.rows());
    }
    progress.report(total, total, "");
    progress.finish("");
    let count = starts.last().copied().unwrap_or(0);
    let found = format!("{count} pairs of GET in {total} files, `latent` as noise");
    Ok(Box::new(Parts::new(files, folder, Some(starts), found)?))
}
