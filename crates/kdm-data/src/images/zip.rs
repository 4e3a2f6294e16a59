//! A .zip in the layout of EDM's data sets: uncompressed PNGs in sorted order, classes in
//! `dataset.json`; read and written.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Write};
use std::path::Path;

use kdm_observer::Observer;
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::{ImageSet, stopped};
use crate::{Error, Result, atomic};

const ACTION: &str = "give a .zip as EDM's dataset_tool.py writes it: PNG images of one size, and \
                      dataset.json for classes";
/// Bytes one image file may take.
const MOST_BYTES: u64 = 64 << 20;

impl ImageSet {
    /// Reads all images of a .zip.
    ///
    /// # Errors
    /// When the file is damaged, holds no images or images of several sizes, or its classes don't
    /// fit them; and when the observer stops the reading.
    pub fn open_zip(path: &Path, observer: &dyn Observer) -> Result<Self> {
        let invalid = |field: &str, problem: String| Error::invalid(path, field, problem, ACTION);
        let file = File::open(path).map_err(Error::io("read", path))?;
        let mut archive = ZipArchive::new(BufReader::new(file))
            .map_err(|e| invalid("archive", format!("not a readable zip archive ({e})")))?;
        let mut names: Vec<String> =
            archive.file_names().filter_map(|n| Some(n.ok()?.into_owned())).collect();
        names.sort();
        let mut read = |name: &str| -> Result<Vec<u8>> {
            let entry = archive.by_name(name).map_err(|e| invalid(name, e.to_string()))?;
            let mut bytes = Vec::new();
            entry
                .take(MOST_BYTES)
                .read_to_end(&mut bytes)
                .map_err(|e| invalid(name, format!("damaged ({e})")))?;
            Ok(bytes)
        };
        let mut set = Self::default();
        let is_png = |name: &&String| name.to_lowercase().ends_with(".png");
        let images: Vec<&String> = names.iter().filter(is_png).collect();
        let total = images.len() as u64;
        let mut progress = observer.begin("read images", "images");
        for (i, name) in images.iter().enumerate() {
            progress.advance(i as u64, total, "").map_err(stopped(path))?;
            set.push_file(&read(name)?).map_err(|unfit| invalid(name, unfit.to_string()))?;
        }
        progress.report(total, total, "");
        progress.finish("read");
        if images.is_empty() {
            return Err(invalid("archive", "holds no PNG images".into()));
        }
        if names.iter().any(|name| name == "dataset.json") {
            let text = read("dataset.json")?;
            let told: Value = serde_json::from_slice(&text)
                .map_err(|e| invalid("dataset.json", e.to_string()))?;
            set.labels = classes(&told, &images)
                .map_err(|problem| invalid("dataset.json", problem.to_string()))?;
        }
        Ok(set)
    }

    /// Writes the set as such a .zip, whole or not at all.
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
        put("dataset.json", json!({ "labels": labels }).to_string().as_bytes())?;
        let bytes = zip.finish().map_err(failed)?.into_inner();
        atomic::write(path, &bytes)?;
        progress.report(total, total, "");
        progress.finish("written");
        Ok(())
    }
}

/// What is wrong with `dataset.json`.
#[derive(Debug, thiserror::Error)]
enum ClassesError {
    #[error("`labels` is {0}, and should be a list or null")]
    NoList(Value),
    #[error("{0} has no name")]
    NoName(Value),
    #[error("{0} has no class number; vectors are not classes")]
    NoClass(Value),
    #[error("has no class for `{0}`")]
    Missing(String),
}

/// The classes that `{"labels": [[name, class], ...]}` gives the images; none when it is null.
fn classes(told: &Value, images: &[&String]) -> std::result::Result<Vec<u32>, ClassesError> {
    let list = match &told["labels"] {
        Value::Null => return Ok(Vec::new()),
        Value::Array(list) => list,
        other => return Err(ClassesError::NoList(other.clone())),
    };
    let mut by_name: HashMap<&str, u32> = HashMap::new();
    for entry in list {
        let name = entry[0].as_str().ok_or_else(|| ClassesError::NoName(entry.clone()))?;
        let class = entry[1].as_u64().and_then(|class| u32::try_from(class).ok());
        let class = class.filter(|class| *class < 1 << 20);
        by_name.insert(name, class.ok_or_else(|| ClassesError::NoClass(entry.clone()))?);
    }
    let class = |name: &&String| {
        let class = by_name.get(name.as_str()).copied();
        class.ok_or_else(|| ClassesError::Missing((*name).clone()))
    };
    images.iter().map(class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_observer::Silent;

    fn png(rgb: bool, side: u32, shade: u8) -> Vec<u8> {
        let mut out = std::io::Cursor::new(Vec::new());
        let image = if rgb {
            image::DynamicImage::ImageRgb8(image::RgbImage::from_pixel(
                side,
                side,
                image::Rgb([shade, 0, 255]),
            ))
        } else {
            image::DynamicImage::ImageLuma8(image::GrayImage::from_pixel(
                side,
                side,
                image::Luma([shade]),
            ))
        };
        image.write_to(&mut out, image::ImageFormat::Png).unwrap();
        out.into_inner()
    }

    fn archive(path: &Path, files: &[(&str, Vec<u8>)]) {
        let mut zip = ZipWriter::new(File::create(path).unwrap());
        for (name, bytes) in files {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap();
    }

    #[test]
    fn images_come_in_sorted_order_with_their_classes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set.zip");
        let labels = br#"{"labels": [["00000/img1.png", 4], ["00000/img0.png", 2]]}"#.to_vec();
        let files = [
            ("00000/img1.png", png(true, 2, 10)),
            ("00000/img0.png", png(true, 2, 20)),
            ("dataset.json", labels),
        ];
        archive(&path, &files);
        let set = ImageSet::open_zip(&path, &Silent).unwrap();
        assert_eq!((set.shape(), set.len(), set.classes()), ([3, 2, 2], 2, 5));
        assert_eq!((set.label(0), set.label(1)), (Some(2), Some(4)));
        let first = set.image(0);
        assert!(
            (first[0] - (20.0 / 127.5 - 1.0)).abs() < 1e-6 && first[4] == -1.0 && first[8] == 1.0
        );
        let again = folder.path().join("again.zip");
        set.write_zip(&again, &Silent).unwrap();
        assert_eq!(ImageSet::open_zip(&again, &Silent).unwrap(), set);
    }

    /// Stops at once.
    struct Stop;

    impl Observer for Stop {
        fn event(&self, _: &kdm_observer::Event) {}

        fn stopping(&self) -> bool {
            true
        }
    }

    #[test]
    fn reading_and_writing_can_be_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set.zip");
        let (set, _) = crate::images::shapes::draw(1, 3);
        assert!(matches!(set.write_zip(&path, &Stop), Err(Error::Stopped { .. })));
        assert!(!path.exists());
        set.write_zip(&path, &Silent).unwrap();
        let failed = ImageSet::open_zip(&path, &Stop).unwrap_err();
        assert!(matches!(&failed, Error::Stopped { .. }));
        let message = failed.to_string();
        assert!(message.contains("set.zip") && message.contains("again"), "{message}");
        let images = folder.path().join("images");
        std::fs::create_dir(&images).unwrap();
        std::fs::write(images.join("a.png"), set.png(0)).unwrap();
        let source = images.to_str().unwrap();
        let failed = ImageSet::open(source, crate::Split::Train, &Stop);
        assert!(matches!(failed, Err(Error::Stopped { .. })));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set.zip");
        let refused = |files: &[(&str, Vec<u8>)], part: &str| {
            archive(&path, files);
            let message = ImageSet::open_zip(&path, &Silent).unwrap_err().to_string();
            assert!(message.contains("set.zip") && message.contains(part), "{message}");
        };
        refused(&[("a.png", png(false, 2, 1)), ("b.png", png(false, 3, 1))], "1x3x3");
        refused(&[("a.png", vec![1, 2, 3])], "a.png");
        refused(&[("readme.txt", vec![1])], "no PNG");
        let labels = |text: &str| ("dataset.json", text.as_bytes().to_vec());
        refused(
            &[("a.png", png(false, 2, 1)), labels(r#"{"labels": [["b.png", 1]]}"#)],
            "no class for `a.png`",
        );
        refused(
            &[("a.png", png(false, 2, 1)), labels(r#"{"labels": [["a.png", [0.5]]]}"#)],
            "no class number",
        );
        archive(&path, &[("a.png", png(false, 2, 1)), labels(r#"{"labels": null}"#)]);
        assert_eq!(ImageSet::open_zip(&path, &Silent).unwrap().classes(), 0);
        std::fs::write(&path, b"PK nothing").unwrap();
        assert!(ImageSet::open_zip(&path, &Silent).unwrap_err().to_string().contains("zip"));
    }
}
