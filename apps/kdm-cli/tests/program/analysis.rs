//! Analyses of a student: copies, theory, modes, truncation, inversion, editing.

use std::fs;
use std::path::Path;

use kdm::data::array;
use serde_json::Value;

use crate::common::{Folder, array_of, done, fails, image_experiment, json};

/// Samples that are in the data set are told to be copies, others not.
#[test]
fn copies_are_found_among_neighbours() {
    let folder = Folder::new();
    let draw = |seeds: &str, place: &str| {
        let out = folder.at(place);
        done(&["sample --model fashion-mnist --seeds", seeds, "--out", &out]);
        fs::remove_file(folder.path(place).join("samples.npy")).unwrap();
    };
    let copies = |set: &str, out: &str| {
        let (set, out) = (folder.at(set), folder.at(out));
        let look = ["analyze --model fashion-mnist --samples 20 --features fashion-mnist --json"];
        json(&[&look[..], &["--neighbours", &set, "--out", &out]].concat())["neighbours"]["copies"]
            .as_f64()
            .unwrap()
    };
    fs::create_dir_all(folder.path("same")).unwrap();
    fs::create_dir_all(folder.path("other")).unwrap();
    draw("0-39", "same/train");
    draw("100-139", "same/test");
    draw("200-239", "other/train");
    draw("300-339", "other/test");
    assert_eq!(copies("same", "a"), 1.0);
    assert!(copies("other", "b") < 0.3);
    assert!(folder.path("a/figures/nearest-training-images.png").exists());
    let missing = ["analyze --model fashion-mnist --neighbours fashion-mnist --out x"];
    fails(&missing, 2, &["--features"]);
}

/// Teachers in closed form: an affine student finds a Gaussian's flow and its eigenvalues,
/// polynomials their products, and the error on a mixture falls with the dictionary and with the
/// latent.
#[test]
fn theory_is_met() {
    let folder = Folder::new();
    let out = folder.at("theory");
    let found = json(&["analyze theory --figures svg --out", &out, "--json"]);
    let figure = fs::read_to_string(folder.path("theory/figures/error-of-a-linear-operator.svg"));
    assert!(figure.unwrap().starts_with("<svg"));
    assert!(found["gaussian"]["flow_error"].as_f64().unwrap() < 1e-3, "{found}");
    assert!(found["gaussian"]["eigenvalue_error"].as_f64().unwrap() < 1e-2, "{found}");
    assert!(found["gaussian_products"].as_f64().unwrap() < 1e-8, "{found}");
    let errors = |key: &str| -> Vec<f64> {
        found[key].as_array().unwrap().iter().map(|row| row["tested"].as_f64().unwrap()).collect()
    };
    // The mixture looks the same from the other side: its flow is odd, and even degrees add nothing
    // but noise.
    let degrees: Vec<f64> = errors("mixture").into_iter().step_by(2).collect();
    let sizes = errors("sizes");
    assert!(degrees.is_sorted_by(|a, b| a > b) && degrees[3] < 0.7 * degrees[0], "{degrees:?}");
    assert!(sizes.is_sorted_by(|a, b| a > b) && sizes[5] < 0.3 * sizes[0], "{sizes:?}");
    assert!(
        fs::read_to_string(folder.path("theory/report.html"))
            .unwrap()
            .contains("Error of a linear operator")
    );
    fails(&["analyze"], 2, &["--model"]);
}

/// What is found in an image student: modes, truncation, the way from noise to image beside the
/// teacher's, semantics.
#[test]
fn students_are_examined() {
    let folder = Folder::new();
    let file = image_experiment(&folder);
    let run = folder.at("run");
    done(&[
        "run",
        &file,
        "--out",
        &run,
        "--set",
        "student.operator.kind=\"dense\"",
        "--set",
        "loss.eigenvalues=\"none\"",
    ]);
    let (student, out) = (folder.at("run/student.safetensors"), folder.at("look"));
    let (pairs, teacher) = (folder.at("run/pairs"), folder.at("run/teacher/teacher.safetensors"));
    let look = ["analyze --model", &student, "--pairs", &pairs, "--out", &out, "--json"];
    let found = json(&[&look[..], &["--teacher", &teacher]].concat());
    let truncation = found["truncation"].as_array().unwrap();
    let (first, last) = (&truncation[0], truncation.last().unwrap());
    assert_eq!(
        (&first["rank"], &last["rank"], &last["coordinate_rmse"]),
        (&Value::from(0), &Value::from(16), &Value::from(0.0))
    );
    // The best of each rank on latents; images are near to linear in them here.
    let rmse = |row: &Value, key: &str| row.pointer(key).unwrap().as_f64().unwrap();
    assert!(
        truncation.iter().all(|row| {
            rmse(row, "/principal/coordinate_rmse") <= 1.05 * rmse(row, "/coordinate_rmse")
        }),
        "{truncation:?}"
    );
    let radius = found["spectral_radius"].as_f64().unwrap();
    let modes = found["modes"].as_array().unwrap();
    let modulus = |m: &Value| {
        m["eigenvalue"][0].as_f64().unwrap().hypot(m["eigenvalue"][1].as_f64().unwrap())
    };
    assert!((modes.iter().map(modulus).fold(0.0, f64::max) - radius).abs() < 1e-9);
    assert!(found["conditioning"]["norm"].as_f64().unwrap() >= radius);
    let pixels = &found["semantics"]["pixels"]["pushed"];
    let (low, value, high) = (&pixels["interval"][0], &pixels["value"], &pixels["interval"][1]);
    assert!(low.as_f64() <= value.as_f64() && value.as_f64() <= high.as_f64(), "{pixels}");
    for figure in ["from-noise-to-image", "truncation", "samples-by-modes-kept", "spectrum"] {
        assert!(folder.path(&format!("look/figures/{figure}.png")).exists(), "{figure}");
    }
    for (space, _) in found["neighbour_likeness"].as_object().unwrap() {
        assert!(["noise", "latent", "pushed"].contains(&space.as_str()), "{space}");
    }
    let neighbours = image::open(folder.path("look/figures/neighbours.png")).unwrap();
    // A sample, and an empty place and five neighbours in each of three spaces; eight rows.
    assert_eq!((neighbours.width(), neighbours.height()), (19 * 8 + 18 * 2, 8 * 8 + 7 * 2));

    // Near the full rank little changes; at rank 1 more does. What is written is a student like any
    // other. A rank by which nothing is gained is refused.
    let small = folder.at("small.safetensors");
    let compress =
        ["compress --model", &student, "--pairs", &pairs, "--out", &small, "--json --rank"];
    fails(&[&compress[..], &["16"]].concat(), 2, &["--rank 16", "nothing is gained", "12 or less"]);
    let full = json(&[&compress[..], &["12"]].concat());
    assert!(full["linear_speed_up"].as_f64().unwrap() > 0.0, "{full}");
    let one = json(&[&compress[..], &["1"]].concat());
    assert!(one["error"].as_f64() > full["error"].as_f64(), "{one} {full}");
    done(&["sample --model", &small, "-n 4 --out", &folder.at("small.npy")]);
    done(&["evaluate --model", &small, "--pairs", &pairs, "--metrics losses,paired"]);
    fails(&[&compress[..], &["17"]].concat(), 2, &["--rank 17", "1 to 16"]);
    // A column for each of nine parts of the step; three rows for each of four samples.
    let strip = image::open(folder.path("look/figures/from-noise-to-image.png")).unwrap();
    assert_eq!((strip.width(), strip.height()), (9 * 8 + 8 * 2, 12 * 8 + 11 * 2));
    fails(
        &[&look[..], &["--teacher fashion-mnist"]].concat(),
        1,
        &["another", "teacher it was distilled from"],
    );
    fails(
        &[&look[..], &["--features fashion-mnist"]].concat(),
        2,
        &["--features", "choose the features"],
    );
}

/// Images brought back to latents and noise, by an operator that can be inverted; samples moved
/// along modes and classes.
#[test]
fn images_are_inverted_and_samples_edited() {
    let folder = Folder::new();
    let pairs = folder.at("pairs");
    done(&["pairs generate --teacher fashion-mnist --steps 6 --count 3 --out", &pairs]);
    let out = folder.at("back");
    let invert = ["invert --model fashion-mnist --pairs", &pairs, "--out", &out, "--json --steps"];
    let found = json(&[&invert[..], &["25"]].concat());
    let of = |key: &str| found["coordinate_rmse"][key].as_f64().unwrap();
    assert_eq!(found["images"], 3);
    // Descent begins at the encoder's latent; a quarter of a hundred steps make its drawing better.
    assert!(of("refined_latent") < of("encoder"), "{found}");
    assert!(found["latent_cosine"].as_f64().unwrap() > 0.0, "{found}");
    assert!(of("refined_noise") < 1.0, "{found}");
    let noise = array_of(&folder.path("back/inversion.npz"), "noise");
    assert_eq!(noise.shape, [3, 1, 32, 32]);
    assert!(folder.path("back/figures/inversion.png").exists());
    fails(&["invert --model fashion-mnist --out", &out], 2, &["--pairs"]);

    let edit = ["edit --model fashion-mnist --seeds 1,2 --steps 5 --out"];
    let (moved, plain) = (folder.at("moved.npy"), folder.at("plain.npy"));
    done(&[&edit[..], &[&moved, "--mode 3"]].concat());
    done(&["sample --model fashion-mnist --seeds 1,2 --out", &plain]);
    let (moved, plain) =
        (array::read_npy(Path::new(&moved)).unwrap(), array::read_npy(Path::new(&plain)).unwrap());
    assert_eq!(moved.shape, [10, 1, 32, 32]);
    // The middle of a row is the sample itself (the sampler's frozen networks round in another
    // order), its ends are not.
    let off = |place: usize| {
        let (a, b) = (&moved.data[place * 1024..(place + 1) * 1024], &plain.data[..1024]);
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    assert!(off(2) < 1e-3 && off(0) > 1e-2 && off(4) > 1e-2, "{} {} {}", off(0), off(2), off(4));
    let grid = folder.at("grid.png");
    done(&[&edit[..], &[&grid, "--from-class 0 --to-class 3"]].concat());
    assert_eq!(image::open(&grid).unwrap().width(), 5 * 32 + 4 * 2);
    fails(&[&edit[..], &[&grid, "--mode 0"]].concat(), 2, &["--mode 0", "modes 1 to"]);
    fails(&[&edit[..], &[&grid, "--from-class 0 --to-class 10"]].concat(), 2, &["classes 0 to 9"]);
}
