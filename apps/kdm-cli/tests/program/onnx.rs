//! Students as ONNX, drawn by onnxruntime. It needs a Python with numpy, onnx and onnxruntime:
//! `python3`, or the one that the variable KDM_PYTHON names; without it these tests say so and
//! pass.

use std::path::Path;
use std::process::Command;

use kdm::data::array;

use crate::common::{Folder, array_of, distill, done, fails, reference, store, text};

/// Draws with an ONNX file or a folder of parts and compares with what `kdm sample` drew.
const CHECK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/program/onnx_check.py");

fn python() -> Option<String> {
    let program = std::env::var("KDM_PYTHON").unwrap_or_else(|_| "python3".into());
    let import = Command::new(&program).args(["-c", "import numpy, onnx, onnxruntime"]).output();
    if import.is_ok_and(|output| output.status.success()) {
        return Some(program);
    }
    eprintln!("skipped: {program} has no numpy, onnx and onnxruntime");
    None
}

/// The largest difference of what `written` draws from what `kdm sample` does, over the standard
/// deviation.
fn difference(python: &str, folder: &Folder, model: &str, written: &str) -> f64 {
    let drawn = folder.path("drawn.npz");
    done(&["sample --model", model, "--n 5 --force --out", &folder.at("drawn.npz")]);
    let save = |name: &str| -> Option<String> {
        let found = array::read_npz(&drawn).unwrap().into_iter().find(|(n, _)| n == name)?;
        let path = folder.at(&format!("{name}.npy"));
        array::write_npy(Path::new(&path), &found.1).unwrap();
        Some(path)
    };
    assert!(array_of(&drawn, "samples").data.iter().all(|x| x.is_finite()));
    let [noise, labels, samples] = ["noise", "labels", "samples"].map(save);
    let output = Command::new(python)
        .args([CHECK, written, &noise.unwrap(), labels.as_deref().unwrap_or("-")])
        .arg(samples.unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{model}: {}", text(&output.stderr));
    text(&output.stdout).trim().parse().unwrap()
}

/// f32 rounding through some dozen layers, in another order of summation.
const TOLERANCE: f64 = 1e-4;
/// Weights have 11 bits: errors of 2^-12 each, which in part cancel.
const HALF_TOLERANCE: f64 = 2e-2;

/// The shipped student (images, classes, control), one of points, a direct one and, where they are,
/// the official ones draw the same in onnxruntime, whole and in parts.
#[test]
fn onnxruntime_draws_the_same_samples() {
    let Some(python) = python() else { return };
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "300", &[]);
    done(&distill(&pairs, &folder.at("points"), &[]));
    let direct = ["--set student.method=direct --set loss.push_weight=1"];
    done(&distill(&pairs, &folder.at("direct"), &direct));
    let mut models = vec![
        "fashion-mnist".to_string(),
        folder.at("points/student.safetensors"),
        folder.at("direct/student.safetensors"),
    ];
    let control = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../crates/kdm-formats/tests/foreign/kdm_control.pt");
    let official = ["kdm_uncond_dense.pt", "kdm_linear_proj.pt", "kdm_factorized.pt"];
    let official = official.iter().filter_map(|name| reference(name)).chain([control]);
    for (i, path) in official.enumerate() {
        let model = folder.at(&format!("official-{i}.safetensors"));
        done(&["import", &path.to_string_lossy(), "--out", &model]);
        models.push(model);
    }
    for model in &models {
        let (file, half) = (folder.at("student.onnx"), folder.at("half.onnx"));
        done(&["export --model", model, "--out", &file]);
        let found = difference(&python, &folder, model, &file);
        assert!(found < TOLERANCE, "{model}: {found}");
        done(&["export --format onnx --dtype f16 --model", model, "--out", &half]);
        let found = difference(&python, &folder, model, &half);
        assert!(found < HALF_TOLERANCE, "{model} in half precision: {found}");
        if !model.contains("direct") {
            let parts = folder.at("parts");
            done(&["export --parts --model", model, "--out", &parts]);
            let found = difference(&python, &folder, model, &parts);
            assert!(found < TOLERANCE, "{model} in parts: {found}");
        }
    }
}

#[test]
fn what_has_no_onnx_file_is_refused() {
    let folder = Folder::new();
    let out = folder.at("a.onnx");
    let model = "export --model fashion-mnist";
    fails(&["export --model fashion-mnist-teacher --out", &out], 2, &["student"]);
    fails(&[model, "--format onnx --out", &folder.at("a.bin")], 2, &[".onnx"]);
    fails(&[model, "--format original --parts --out", &folder.at("a")], 2, &["--parts", "ONNX"]);
    std::fs::write(folder.path("a.onnx"), "years of work").unwrap();
    fails(&[model, "--out", &out], 1, &["a.onnx", "--force"]);
}
