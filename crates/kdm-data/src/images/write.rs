//! Writing sets as .zip in the layout of EDM's data sets: uncompressed PNGs in sorted order,
//! classes in `dataset.json`.

use std::io::{Cursor, Write};
use std::path::Path;

use kdm_observer::Observer;
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::ImageSet;
use super::arrangement::DATASET_JSON;
use crate::{Error, Result, atomic};

impl ImageSet {
    /// Writes the set as a .zip in EDM's layout, whole or not at all; names of classes, where they
    /// are known, under `class_names` in its `dataset.json`.
    ///
    /// # Errors
    /// When the file can't be written, or the observer stops the writing.
    pub fn write_zip(&self, path: &Path, observer: &dyn Observer) -> Result<()> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let failed = |e: zip::result::ZipError| Error::io("write", path)(std::io::Error::other(e));
        let mut put = |name: &str, bytes: &[u8]| -> Result<()> {
            zip.start_file(name, options).map_err(failed)?;
            zip.write_all(bytes).map_err(Error::io("write", path))
        };
        let mut labels = Vec::new();
        let total = self.len() as u64;
        let mut progress = observer.begin("write images", "images");
        for i in 0..self.len() {
            progress.advance(i as u64, total, "").map_err(Error::stopped(
                format!("writing images to `{}`", path.display()),
                "nothing was written",
                "run the same command again: it begins anew",
            ))?;
            let name = format!("{:05}/img{i:08}.png", i / 1000);
            put(&name, &self.png(i))?;
            labels.extend(self.label(i).map(|class| json!([name, class])));
        }
        let labels = if labels.is_empty() { Value::Null } else { json!(labels) };
        let mut told = json!({ "labels": labels });
        if !self.class_names.is_empty() && !self.labels.is_empty() {
            told["class_names"] = json!(self.class_names);
        }
        put(DATASET_JSON, told.to_string().as_bytes())?;
        let bytes = zip.finish().map_err(failed)?.into_inner();
        atomic::write(path, &bytes)?;
        progress.report(total, total, "");
        progress.finish("written");
        Ok(())
    }
}
