//! One-step samples of a student, and what is measured and analysed of it.

use std::fs;
use std::path::Path;

use kdm::data::array;
use serde_json::Value;

use crate::common::{Folder, distill, done, fails, json, store, write_rows};

#[test]
fn samples_depend_on_their_seed_alone_and_come_in_every_form() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "500", &[]);
    let run = folder.at("run");
    done(&distill(&pairs, &run, &[]));
    let model = folder.at("run/student.safetensors");
    let rows = |seeds: &str| {
        let out = folder.at("s.npy");
        done(&["sample --model", &model, "--seeds", seeds, "--out", &out]);
        array::read_npy(Path::new(&out)).unwrap().data
    };
    let many = rows("0-599");
    assert_eq!(rows("7"), many[14..16]);
    assert_eq!(rows("590-599,3"), [&many[1180..1200], &many[6..8]].concat());
    done(&["sample --model", &model, "--seeds 5-8 --n 2 --out", &folder.at("s.npy")]);
    assert_eq!(array::read_npy(&folder.path("s.npy")).unwrap().data, many[10..14]);
    let png = folder.at("s.png");
    fails(&["sample --model", &model, "--seeds 5-8 --n 9 --out", &png], 2, &["--n 9", "lists 4"]);
    done(&["sample --model", &model, "--n 100 --out", &png]);
    assert_eq!(&fs::read(&png).unwrap()[..8], b"\x89PNG\r\n\x1a\n");
    // Points are drawn in each form; ways between them as arrows, with a dot a step.
    let (svg, pdf) = (folder.at("s.svg"), folder.at("way.pdf"));
    done(&["sample --model", &model, "--n 100 --out", &svg]);
    assert_eq!(fs::read_to_string(&svg).unwrap().matches("h0").count(), 100);
    done(&["interpolate --model", &model, "--seeds 1-3 --steps 4 --out", &pdf]);
    assert_eq!(&fs::read(&pdf).unwrap()[..5], b"%PDF-");
    fails(&["sample --model fashion-mnist --n 1 --out", &svg], 2, &["s.svg", "points", ".png"]);
    let both = folder.at("samples");
    done(&["sample --model", &model, "-n 100 --out", &both]);
    assert!(
        folder.path("samples/samples.npy").exists() && folder.path("samples/samples.png").exists()
    );
    fails(&["sample --model", &model, "--n 4 --out", &folder.at("s.gif")], 2, &[".gif", ".npy"]);
    fails(
        &["sample --model", &folder.at("none.safetensors"), "--n 4 --out", &png],
        1,
        &["none.safetensors", "check the path"],
    );
    let wrong = write_rows(&folder.path("wrong.npy"), vec![0.0; 9], 3);
    fails(
        &["sample --model", &model, "--noise", &wrong, "--out", &png],
        1,
        &["wrong.npy", "shape", "2 values"],
    );
    let nan = write_rows(&folder.path("nan.npy"), vec![0.0, f32::NAN], 2);
    fails(&["sample --model", &model, "--noise", &nan, "--out", &png], 1, &["nan.npy", "row 0"]);
    // A checkpoint and a teacher are no students.
    fails(
        &["sample --model", &folder.at("run/checkpoint.safetensors"), "--n 4 --out", &png],
        1,
        &["checkpoint", "a student is needed"],
    );

    let values = json(&["evaluate --model", &model, "--pairs", &pairs, "--metrics losses --json"]);
    let keys: Vec<&str> = values.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["latent", "pairs", "push", "rec", "total"]);
    let of = |key: &str| values[key].as_f64().unwrap();
    // The checkerboard preset leaves the push term out of the sum.
    assert!((of("total") - of("latent") - of("rec")).abs() < 1e-6 * of("total"));
    let analysis = json(&[
        "analyze --model",
        &model,
        "--pairs",
        &pairs,
        "--out",
        &folder.at("analysis"),
        "--json",
    ]);
    assert_eq!(analysis["eigenvalues"].as_array().unwrap().len(), 32);
    // The validation log follows the spectrum; its last line is of the weights that are analysed or
    // older ones.
    let lines = fs::read_to_string(folder.path("run/metrics.jsonl")).unwrap();
    let last: Value =
        serde_json::from_str(lines.lines().rfind(|l| l.contains("modulus_1\"")).unwrap()).unwrap();
    let moduli: Vec<f64> =
        (0..6).map(|i| last[format!("validation/modulus_{}", 1 << i)].as_f64().unwrap()).collect();
    assert!(moduli.is_sorted_by(|a, b| a >= b) && moduli[5] >= 0.0, "{moduli:?}");
    assert!(
        folder.path("analysis/report.html").exists()
            && folder.path("analysis/eigenvalues.npy").exists()
    );
    // Pairs of another kind.
    let other = folder.at("diffusion");
    done(&["pairs generate --teacher checkerboard --count 100 --out", &other]);
    fails(&["evaluate --model", &model, "--pairs", &other], 1, &["diffusion", "deviation"]);
    // A reader that goes away is no failure of ours.
    assert!(json(&["info", &model, "--json"])["kind"] == "student");
}
