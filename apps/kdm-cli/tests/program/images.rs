//! Whole experiments on images, and data sets.

use std::fs;
use std::path::Path;

use kdm::data::array;
use serde_json::Value;

use crate::common::{Folder, check_finite, done, fails, image_experiment, json, write_rows};

/// From a data set of images to a report: teacher training with augmentation and label dropout,
/// guided pairs, a conditional student with control; and what is left can be sampled, measured and
/// resumed.
#[test]
fn images_go_the_whole_way() {
    let folder = Folder::new();
    let file = image_experiment(&folder);
    let run = folder.at("run");
    let values = json(&["run", &file, "--out", &run, "--json"]);
    check_finite("bars", &values, "rmse latent rec push eigen total sliced_wasserstein2");
    let report = fs::read_to_string(folder.path("run/report.html")).unwrap();
    for figure in [
        "One-step images of the student",
        "one class a row",
        "between their noises",
        "between their latents",
    ] {
        assert!(report.contains(figure), "{figure}");
    }
    let student = folder.at("run/student.safetensors");
    let teacher = folder.at("run/teacher/teacher.safetensors");

    // Pictures: a grid, and one each, named by seed.
    let grid = folder.at("grid.png");
    done(&["sample --model", &student, "--n 6 --class 1 --out", &grid]);
    let picture = image::open(&grid).unwrap();
    assert_eq!((picture.width(), picture.height()), (3 * 8 + 2 * 2, 2 * 8 + 2));
    done(&["sample --model", &student, "--seeds 3,11 --out", &folder.at("each")]);
    for name in ["000003.png", "000011.png"] {
        assert_eq!(image::open(folder.path("each").join(name)).unwrap().width(), 8);
    }

    // A teacher's samples with guidance and churn; weight 1 and no churn are the plain ones.
    let noise = write_rows(&folder.path("eps.npy"), kdm::random::normal_vec(5, 3 * 64), 64);
    let labels = write_rows(&folder.path("labels.npy"), vec![1.0, 0.0, 0.0, 1.0, 1.0, 0.0], 2);
    let draw = |more: &[&str]| {
        let out = folder.at("x0.npy");
        let plain = [
            "teacher sample --model",
            &teacher,
            "--noise",
            &noise,
            "--labels",
            &labels,
            "--steps 4",
        ];
        done(&[&plain[..], &["--out", &out], more].concat());
        let samples = array::read_npy(Path::new(&out)).unwrap();
        assert_eq!(samples.shape, [3, 1, 8, 8]);
        samples
    };
    let plain = draw(&[]);
    assert_eq!(draw(&["--guidance 1"]), plain);
    assert_ne!(draw(&["--guidance 3"]), plain);
    assert_ne!(draw(&["--churn 10"]), plain);
    assert_eq!(draw(&["--churn 10"]), draw(&["--churn 10"]));
    let common = ["teacher sample --model", &teacher, "--noise", &noise, "--out x.npy --churn 1"];
    fails(&[&common[..], &["--solver euler"]].concat(), 2, &["--churn", "heun"]);

    // The store remembers the guidance; and the pairs go on being drawn by it alone.
    let info = json(&["info", &folder.at("run/pairs"), "--json"]);
    assert_eq!(info["sampling"]["guidance"], 1.5);
    fails(&["run", &file, "--out", &run], 2, &["not empty", "--resume"]);
}

/// Data sets are told of, written in other forms, and read again; what is missing says what to do.
#[test]
fn data_sets_are_told_of_and_written() {
    let folder = Folder::new();
    let shapes = json(&["data info shapes --split test --json"]);
    assert_eq!(
        (&shapes["images"], &shapes["shape"]),
        (&Value::from(10_000), &serde_json::json!([3, 32, 32]))
    );
    assert_eq!(shapes["classes"], serde_json::json!(["disc", "square", "triangle", "cross"]));
    let (zip, npz, png) = (folder.at("s.zip"), folder.at("s.npz"), folder.at("s.png"));
    for out in [&zip, &npz, &png] {
        done(&["data export shapes -n 6 --out", out]);
    }
    assert_eq!(image::open(&png).unwrap().width(), 3 * 32 + 2 * 2);
    let told = json(&["data info", &zip, "--json"]);
    assert_eq!((&told["images"], told["classes"].as_array().unwrap().len()), (&Value::from(6), 4));
    let arrays = array::read_npz(Path::new(&npz)).unwrap();
    assert!(arrays.iter().any(|(name, a)| name == "images" && a.shape == [6, 3, 32, 32]));
    fails(&["data info", &zip, "--split test"], 1, &["s.zip", "no test images"]);
    fails(&["data info nothing-here"], 1, &["nothing-here", "fashion-mnist", "shapes"]);
    fails(&["data export shapes --pad 8 --out", &png], 2, &["--pad 8", "32x32"]);
    fails(&["data export shapes --out", &folder.at("s.gif")], 2, &[".png, .npz or .zip"]);
}
