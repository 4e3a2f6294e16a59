//! Sets of image files, whole: as people have them, and made to hurt.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Cursor, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use kdm_observer::{Event, Observer, Silent};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::{ImageSet, ReadOptions, Split, shapes, tree};
use crate::Error;

fn file(image: DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image.write_to(&mut out, format).unwrap();
    out.into_inner()
}

fn grey(side: u32, shade: u8) -> Vec<u8> {
    let image = GrayImage::from_pixel(side, side, Luma([shade]));
    file(DynamicImage::ImageLuma8(image), ImageFormat::Png)
}

fn rgb(side: u32, shade: u8) -> Vec<u8> {
    let image = RgbImage::from_pixel(side, side, Rgb([shade, 0, 255]));
    file(DynamicImage::ImageRgb8(image), ImageFormat::Png)
}

fn archive(path: &Path, files: &[(&str, Vec<u8>)]) {
    let mut zip = ZipWriter::new(File::create(path).unwrap());
    for (name, bytes) in files {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

fn unpacked(folder: &Path, files: &[(&str, Vec<u8>)]) {
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// The same files as a folder, a zip, a tar and a packed tar.
fn forms(place: &Path, files: &[(&str, Vec<u8>)]) -> Vec<String> {
    let at = |name: &str| place.join(name);
    let _ = std::fs::remove_dir_all(at("folder"));
    unpacked(&at("folder"), files);
    archive(&at("set.zip"), files);
    let tar: Vec<u8> =
        files.iter().flat_map(|(name, bytes)| tree::tar_entry(name, bytes)).collect();
    std::fs::write(at("set.tar"), &tar).unwrap();
    let gz = File::create(at("set.tar.gz")).unwrap();
    let mut gz = flate2::write::GzEncoder::new(gz, flate2::Compression::fast());
    gz.write_all(&tar).unwrap();
    gz.finish().unwrap();
    let names = ["folder", "set.zip", "set.tar", "set.tar.gz"];
    names.into_iter().map(|name| at(name).to_str().unwrap().to_string()).collect()
}

/// Keeps what is told.
#[derive(Default)]
struct Listener(RefCell<Vec<String>>);

impl Observer for Listener {
    fn event(&self, event: &Event) {
        if let Event::Info(text) | Event::Warning(text) = event {
            self.0.borrow_mut().push(text.to_string());
        }
    }
}

fn open(source: &str) -> crate::Result<ImageSet> {
    ImageSet::open(source, Split::Train, &Silent)
}

fn labels(set: &ImageSet) -> Vec<Option<u32>> {
    (0..set.len()).map(|i| set.label(i)).collect()
}

/// Folders and archives are read alike; grey images among coloured ones become RGB, which is told.
#[test]
fn folders_and_archives_are_read_alike() {
    let place = tempfile::tempdir().unwrap();
    let files = [
        ("my/cat/0.png", grey(2, 10)),
        ("my/ant/b.PNG", rgb(2, 20)),
        ("my/ant/deep/c.png", rgb(2, 30)),
        ("my/.hidden/x.png", grey(2, 1)),
        ("__MACOSX/my/cat/._0.png", vec![1, 2, 3]),
        ("my/notes.txt", b"x".to_vec()),
    ];
    let mut first = None;
    for source in forms(place.path(), &files) {
        let told = Listener::default();
        let set = ImageSet::open(&source, Split::Train, &told).unwrap();
        assert_eq!((set.shape(), labels(&set)), ([3, 2, 2], vec![Some(0), Some(0), Some(1)]));
        assert_eq!((set.class_name(1), set.image(2)[8] as i32), ("cat".into(), 0));
        assert_eq!(set.image(2)[0], 10.0 / 127.5 - 1.0);
        let told = told.0.borrow().join("");
        for part in ["3 images", "2 hidden files", "1 .txt", "1 without colour"] {
            assert!(told.contains(part), "{told}");
        }
        assert_eq!(*first.get_or_insert(set.clone()), set, "{source}");
        assert!(ImageSet::open(&source, Split::Test, &Silent).is_err());
    }
}

#[test]
fn splits_are_read_apart() {
    let place = tempfile::tempdir().unwrap();
    let files =
        [("train/b/0.png", grey(2, 1)), ("train/a/0.png", grey(2, 2)), ("val/b/0.png", grey(2, 3))];
    for source in forms(place.path(), &files) {
        let test = ImageSet::open(&source, Split::Test, &Silent).unwrap();
        assert_eq!((labels(&test), test.classes()), (vec![Some(1)], 2));
        assert_eq!(open(&source).unwrap().len(), 2);
    }
}

#[test]
fn images_come_in_sorted_order_with_the_classes_that_are_told() {
    let place = tempfile::tempdir().unwrap();
    let told = br#"{"labels": [["00000/img1.png", 4], ["00000/img0.png", 2]]}"#.to_vec();
    for top in ["", "top/"] {
        let at = |name: &str| format!("{top}{name}");
        let names = [at("00000/img1.png"), at("00000/img0.png"), at("dataset.json")];
        let bytes = [rgb(2, 10), rgb(2, 20), told.clone()];
        let files: Vec<(&str, Vec<u8>)> = names.iter().map(String::as_str).zip(bytes).collect();
        for source in forms(place.path(), &files) {
            let set = open(&source).unwrap();
            assert_eq!(
                (set.shape(), labels(&set), set.classes()),
                ([3, 2, 2], vec![Some(2), Some(4)], 5)
            );
            let first = set.image(0);
            assert!((first[0] - (20.0 / 127.5 - 1.0)).abs() < 1e-6);
            assert!(first[4] == -1.0 && first[8] == 1.0);
            let again = place.path().join("again.zip");
            set.write_zip(&again, &Silent).unwrap();
            assert_eq!(ImageSet::open_zip(&again, &Silent).unwrap(), set);
        }
    }
}

/// Names of classes, and classes that have no images, stay in what is written.
#[test]
fn classes_are_kept_and_can_be_more_than_the_images_show() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.zip");
    let (set, _) = shapes::draw(1, 1);
    set.write_zip(&path, &Silent).unwrap();
    let again = open(path.to_str().unwrap()).unwrap();
    assert_eq!((&again, again.class_name(3)), (&set, "cross".into()));
    let more = |classes| {
        let options = ReadOptions { classes: Some(classes), ..ReadOptions::default() };
        ImageSet::open_with(path.to_str().unwrap(), Split::Train, &options, &Silent)
    };
    assert_eq!((more(6).unwrap().classes(), more(6).unwrap().class_name(5)), (6, "5".into()));
    assert!(more(3).unwrap_err().to_string().contains("the images have 4"));
    assert!(more(usize::MAX).is_err());
}

#[test]
fn images_are_cropped_and_resized() {
    let folder = tempfile::tempdir().unwrap();
    let wide =
        RgbImage::from_fn(
            12,
            4,
            |x, _| if (4..8).contains(&x) { Rgb([200; 3]) } else { Rgb([0; 3]) },
        );
    let files = [
        ("a.png", file(DynamicImage::ImageRgb8(wide), ImageFormat::Png)),
        ("b.png", rgb(9, 50)),
        ("c.png", grey(2, 7)),
    ];
    unpacked(folder.path(), &files);
    let source = folder.path().to_str().unwrap();
    let message = open(source).unwrap_err().to_string();
    assert!(message.contains("b.png") && message.contains("--resolution R"), "{message}");
    let told = Listener::default();
    let set = ImageSet::open_with(source, Split::Train, &ReadOptions::resized(3), &told).unwrap();
    assert_eq!((set.shape(), set.len()), ([3, 3, 3], 3));
    assert!(set.image(0).iter().all(|x| *x == 200.0 / 127.5 - 1.0));
    assert!(told.0.borrow()[0].contains("1 are smaller than"), "{:?}", told.0.borrow());
    // A set in memory goes the same way.
    assert_eq!(set.clone().resized(2).shape(), [3, 2, 2]);
    for wrong in [0, ReadOptions::MOST_RESOLUTION, usize::MAX] {
        let options = ReadOptions::resized(wrong);
        assert!(ImageSet::open_with(source, Split::Train, &options, &Silent).is_err());
    }
}

/// Stops at once.
struct Stop;

impl Observer for Stop {
    fn event(&self, _: &Event) {}

    fn stopping(&self) -> bool {
        true
    }
}

#[test]
fn reading_and_writing_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.zip");
    let (set, _) = shapes::draw(1, 3);
    assert!(matches!(set.write_zip(&path, &Stop), Err(Error::Stopped { .. })));
    assert!(!path.exists());
    set.write_zip(&path, &Silent).unwrap();
    let failed = ImageSet::open_zip(&path, &Stop).unwrap_err();
    assert!(matches!(&failed, Error::Stopped { .. }));
    let message = failed.to_string();
    assert!(message.contains("set.zip") && message.contains("again"), "{message}");
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
    refused(&[("a.png", grey(2, 1)), ("b.png", grey(3, 1))], "3x3");
    refused(&[("a.png", vec![1, 2, 3])], "a.png");
    refused(&[("a.png", grey(2, 1)), ("b.jpg", Vec::new())], "b.jpg");
    refused(&[("readme.txt", vec![1])], "1 .txt");
    let labels = |text: &str| ("dataset.json", text.as_bytes().to_vec());
    let one = || ("a.png", grey(2, 1));
    refused(&[one(), labels(r#"{"labels": [["b.png", 1]]}"#)], "no class for `a.png`");
    refused(&[one(), labels(r#"{"labels": [["a.png", [0.5]]]}"#)], "no class");
    archive(&path, &[one(), labels(r#"{"labels": null}"#)]);
    assert_eq!(ImageSet::open_zip(&path, &Silent).unwrap().classes(), 0);
    for (bytes, part) in [
        (b"PK\x03\x04 nothing".to_vec(), "zip"),
        (b"<html>".to_vec(), "HTML"),
        (grey(2, 1), "one image"),
        (vec![0x1f, 0x8b, 8], "damaged"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let message = ImageSet::open_zip(&path, &Silent).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    assert!(open("/dev/zero").unwrap_err().to_string().contains("device"));
}

#[test]
#[cfg(unix)]
fn pipes_among_images_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.png"), grey(2, 1)).unwrap();
    let pipe = folder.path().join("b.png");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let message = open(folder.path().to_str().unwrap()).unwrap_err().to_string();
    assert!(message.contains("b.png") && message.contains("FIFO"), "{message}");
}

/// A zip as bytes: entries that all point to the data of the first.
fn overlapping(entries: usize, data: &[u8]) -> Vec<u8> {
    let le = |n: usize, width: usize| n.to_le_bytes()[..width].to_vec();
    let mut crc = flate2::Crc::new();
    crc.update(data);
    let sizes = [le(crc.sum() as usize, 4), le(data.len(), 4), le(data.len(), 4)].concat();
    let mut out = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0".to_vec();
    out.extend([&sizes[..], &le(5, 2), &le(0, 2), b"0.png", data].concat());
    let start = out.len();
    for i in 0..entries {
        let name = format!("{i}.png");
        out.extend(b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\0\0");
        out.extend([&sizes[..], &le(name.len(), 2), &[0; 12], &le(0, 4), name.as_bytes()].concat());
    }
    let (size, entries) = (out.len() - start, entries.min(0xffff));
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([le(entries, 2), le(entries, 2), le(size, 4), le(start, 4), le(0, 2)].concat());
    out
}

/// What is made to exhaust a machine is refused within two seconds.
#[test]
fn small_files_that_ask_for_much_are_refused_quickly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.zip");
    let quickly = |part: &str, options: &ReadOptions| {
        let start = Instant::now();
        let failed = ImageSet::open_with(path.to_str().unwrap(), Split::Train, options, &Silent);
        let message = failed.unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
        let took = start.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}: {message}");
    };
    std::fs::write(&path, overlapping(1, &grey(2, 1))).unwrap();
    assert_eq!(open(path.to_str().unwrap()).unwrap().len(), 1);
    std::fs::write(&path, overlapping(60_000, &grey(2, 1))).unwrap();
    quickly("overlap", &ReadOptions::default());
    let huge = grey(8000, 0);
    let names: Vec<String> = (0..60).map(|i| format!("{i}.png")).collect();
    let files: Vec<(&str, Vec<u8>)> = names.iter().map(|n| (n.as_str(), huge.clone())).collect();
    archive(&path, &files);
    quickly("made to exhaust", &ReadOptions::default());
    quickly("made to exhaust", &ReadOptions::resized(32));
}
