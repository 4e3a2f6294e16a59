//! The models that ship with the program.

use std::path::Path;

use kdm::data::array;

use crate::common::{Folder, check_finite, done, fails, image_zip, json};

/// The Fashion-MNIST models that ship with the program: teacher, student, features, statistics; no
/// file is needed.
#[test]
fn the_models_that_ship_draw_and_are_measured() {
    let folder = Folder::new();
    let grid = folder.at("grid.png");
    done(&["sample --model fashion-mnist --n 3 --each-class --out", &grid]);
    let picture = image::open(&grid).unwrap();
    assert_eq!((picture.width(), picture.height()), (10 * 32 + 9 * 2, 3 * 32 + 2 * 2));
    for space in ["noise", "latent"] {
        let out = folder.at("way.npy");
        done(&[
            "interpolate --model fashion-mnist --seeds 1,2 --steps 5 --in",
            space,
            "--out",
            &out,
        ]);
        let way = array::read_npy(Path::new(&out)).unwrap();
        done(&["sample --model fashion-mnist --seeds 1,2 --out", &folder.at("ends.npy")]);
        let ends = array::read_npy(&folder.path("ends.npy")).unwrap();
        let off =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // The sampler's frozen networks round in another order.
        assert!(
            off(&way.data[..1024], &ends.data[..1024]) < 1e-3
                && off(&way.data[4096..], &ends.data[1024..]) < 1e-3
        );
    }
    fails(&["interpolate --model fashion-mnist --seeds 1 --out", &grid], 2, &["at least two"]);

    let pairs = folder.at("pairs");
    done(&["pairs generate --teacher fashion-mnist --count 40 --first-seed 5000000 --out", &pairs]);
    let evaluate = ["evaluate --model fashion-mnist --pairs", &pairs, "--metrics paired,features"];
    let reference = ["--features fashion-mnist --reference fashion-mnist --json"];
    let values = json(&[&evaluate[..], &reference].concat());
    check_finite(
        "fashion-mnist",
        &values,
        "feature_fid feature_fid_teacher feature_kid feature_precision \
             feature_coverage ssim",
    );
    assert!(
        values["fid"].is_null() && values["features"]["network"]["name"] == "fashion-mnist",
        "{values}"
    );
    // A tenth by chance; 40 images have a standard error of 8 percent.
    assert!(values["class_agreement_teacher"].as_f64().unwrap() > 0.6, "{values}");
    assert!(values["class_agreement"].as_f64().unwrap() > 0.5, "{values}");
    fails(&evaluate, 2, &["--features", "--reference"]);

    // Pairs of another teacher are refused, though they have the same shape.
    let zip = folder.path("bars.zip");
    image_zip(&zip, 40, 32, 2);
    let (dataset, run) = (format!("teacher.dataset={}", zip.display()), folder.at("run"));
    let train = ["teacher train --preset fashion-mnist-teacher --out", &run, "--set", &dataset];
    fails(&train, 1, &["2 classes", "label_dim"]);
    let ten = folder.path("ten.zip");
    image_zip(&ten, 40, 32, 10);
    let (dataset, run) = (format!("teacher.dataset={}", ten.display()), folder.at("ten"));
    let settings =
        ["--set", &dataset, "--set teacher.train.iterations=1 --set teacher.train.batch=2"];
    done(&[&["teacher train --preset fashion-mnist-teacher --out", &run], &settings[..]].concat());
    let (teacher, other) = (folder.at("ten/teacher.safetensors"), folder.at("other"));
    done(&["pairs generate --teacher", &teacher, "--count 4 --steps 2 --out", &other]);
    fails(
        &["evaluate --model fashion-mnist --pairs", &other],
        1,
        &["another teacher", "teacher it was"],
    );
}
