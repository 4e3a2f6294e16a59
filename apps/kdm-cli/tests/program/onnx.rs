//! Students outside of this program: as ONNX, drawn by onnxruntime, and in PyTorch by the example.
//! It needs a Python with numpy, and onnx and onnxruntime or torch and safetensors: `python3`, or
//! the one that the variable KDM_PYTHON names; without it these tests say so and pass.

use std::path::Path;
use std::process::Command;

use kdm::data::array;

use crate::common::{Folder, array_of, distill, done, fails, reference, store, text};
use crate::levels::{labelled_images, tiny};

/// Draws with an ONNX file or a folder of parts and compares with what `kdm sample` drew.
const CHECK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/program/onnx_check.py");

/// The example that reads a model file in PyTorch.
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/python/kdm_student.py");

/// A Python that has these packages.
fn python(packages: &str) -> Option<String> {
    let program = std::env::var("KDM_PYTHON").unwrap_or_else(|_| "python3".into());
    let import = Command::new(&program).args(["-c", &format!("import {packages}")]).output();
    if import.is_ok_and(|output| output.status.success()) {
        return Some(program);
    }
    eprintln!("skipped: {program} has not all of {packages}");
    None
}

/// Files of noise, labels (none for an unconditional student) and samples that `kdm sample` draws.
fn drawn(folder: &Folder, model: &str) -> (String, Option<String>, String) {
    let drawn = folder.path("drawn.npz");
    done(&["sample --model", model, "--n 5 --force --out", &folder.at("drawn.npz")]);
    let save = |name: &str| -> Option<String> {
        let found = array::read_npz(&drawn).unwrap().into_iter().find(|(n, _)| n == name)?;
        let path = folder.at(&format!("{name}.npy"));
        array::write_npy(Path::new(&path), &found.1).unwrap();
        Some(path)
    };
    assert!(array_of(&drawn, "samples").data.iter().all(|x| x.is_finite()));
    (save("noise").unwrap(), save("labels"), save("samples").unwrap())
}

/// The largest difference of what `written` draws from what `kdm sample` does, over the standard
/// deviation.
fn difference(python: &str, folder: &Folder, model: &str, written: &str) -> f64 {
    let (noise, labels, samples) = drawn(folder, model);
    let output = Command::new(python)
        .args([CHECK, written, &noise, labels.as_deref().unwrap_or("-"), &samples])
        .output()
        .unwrap();
    assert!(output.status.success(), "{model}: {}", text(&output.stderr));
    text(&output.stdout).trim().parse().unwrap()
}

/// f32 rounding through some dozen layers, in another order of summation.
const TOLERANCE: f64 = 1e-4;
/// Weights have 11 bits: errors of 2^-12 each, which in part cancel.
const HALF_TOLERANCE: f64 = 2e-2;

/// Of values in [-1, 1]: f32 rounding in two programs, noise of standard deviation 80 going in.
/// Measured: 5e-6 for the shipped student, 1.3e-5 for official ones.
const TORCH_TOLERANCE: f32 = 2e-5;

/// The shipped student (images, classes, control), ones of points (dense, direct, generator) and,
/// where they are, the official ones.
fn models(folder: &Folder) -> Vec<String> {
    let pairs = store(folder, "pairs", "300", &[]);
    done(&distill(&pairs, &folder.at("points"), &[]));
    let direct = ["--set student.method=direct --set loss.push_weight=1"];
    done(&distill(&pairs, &folder.at("direct"), &direct));
    let generator = ["--set student.operator.kind=generator --set loss.push_weight=1"];
    done(&distill(&pairs, &folder.at("generator"), &generator));
    let images = labelled_images(folder);
    let levels = ["channels", "places", "frequencies"].map(|kind| tiny(folder, &images, kind));
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets");
    let mut models = vec![
        assets.join("fashion-mnist-student.safetensors").to_string_lossy().into_owned(),
        folder.at("points/student.safetensors"),
        folder.at("direct/student.safetensors"),
        folder.at("generator/student.safetensors"),
    ];
    models.extend(levels);
    let control = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../crates/kdm-formats/tests/foreign/kdm_control.pt");
    let official = ["kdm_uncond_dense.pt", "kdm_linear_proj.pt", "kdm_factorized.pt"];
    let official = official.iter().filter_map(|name| reference(name)).chain([control]);
    for (i, path) in official.enumerate() {
        let model = folder.at(&format!("official-{i}.safetensors"));
        done(&["import", &path.to_string_lossy(), "--out", &model]);
        models.push(model);
    }
    models
}

/// Whole, in half precision and in parts.
#[test]
fn onnxruntime_draws_the_same_samples() {
    let Some(python) = python("numpy, onnx, onnxruntime") else { return };
    let folder = Folder::new();
    for model in &models(&folder) {
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

/// What the documents say of a model file suffices to rebuild it.
#[test]
fn pytorch_draws_the_same_samples() {
    let Some(python) = python("numpy, torch, safetensors") else { return };
    let folder = Folder::new();
    for model in &models(&folder) {
        let (noise, labels, samples) = drawn(&folder, model);
        let out = folder.at("python.npy");
        let mut command = Command::new(&python);
        command.args([EXAMPLE, model, "--noise", &noise, "--out", &out]);
        command.args(labels.iter().flat_map(|labels| ["--labels", labels]));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{model}: {}", text(&output.stderr));
        let [found, expected] = [&out, &samples].map(|path| array::read_npy(Path::new(path)));
        let (found, expected) = (found.unwrap().data, expected.unwrap().data);
        let off = found.iter().zip(&expected).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(off < TORCH_TOLERANCE, "{model}: {off}");
    }
}

#[test]
fn what_has_no_onnx_file_is_refused() {
    let folder = Folder::new();
    let out = folder.at("a.onnx");
    let model = "export --model fashion-mnist";
    fails(&["export --model fashion-mnist-features --out", &out], 2, &["student"]);
    fails(&[model, "--format onnx --out", &folder.at("a.bin")], 2, &[".onnx"]);
    fails(&[model, "--format original --parts --out", &folder.at("a")], 2, &["--parts", "ONNX"]);
    std::fs::write(folder.path("a.onnx"), "years of work").unwrap();
    fails(&[model, "--out", &out], 2, &["a.onnx", "--force"]);
}

/// The shipped teacher's denoiser (EDM's preconditioning, classes) at noise levels from small to
/// large, beside `kdm teacher denoise`; and what has none.
#[test]
fn onnxruntime_denoises_as_the_teacher_does() {
    let Some(python) = python("numpy, onnx, onnxruntime") else { return };
    let folder = Folder::new();
    let onnx = folder.at("denoiser.onnx");
    let model = "--model fashion-mnist-teacher";
    done(&["export", model, "--out", &onnx]);
    let images = folder.at("images.npz");
    done(&["sample --model fashion-mnist -n 4 --out", &images]);
    let (labels, at) = (folder.at("labels.npy"), |name: &str| array_of(Path::new(&images), name));
    array::write_npy(Path::new(&labels), &at("labels")).unwrap();
    let [clean, noise] = ["samples", "noise"].map(at);
    for (sigma, labels) in [(0.002, Some(&labels)), (0.5, None), (3.0, Some(&labels)), (80.0, None)]
    {
        let (x, expected) = (folder.at("x.npy"), folder.at("expected.npy"));
        // The noise has a standard deviation of 80.
        let rows = clean.data.iter().zip(&noise.data).map(|(x, e)| x + (sigma / 80.0) as f32 * e);
        let noisy = kdm::data::Array::new(clean.shape.clone(), rows.collect());
        array::write_npy(Path::new(&x), &noisy).unwrap();
        let level = format!("--sigma {sigma} --force");
        let given = labels.map(|labels| format!("--labels {labels}")).unwrap_or_default();
        done(&["teacher denoise", model, "--input", &x, &level, &given, "--out", &expected]);
        // Without a class, rows of zeros.
        let zeros = folder.at("zeros.npy");
        let none = kdm::data::Array::new([4, 10], vec![0.0; 40]);
        array::write_npy(Path::new(&zeros), &none).unwrap();
        let output = Command::new(&python)
            .args([CHECK, &onnx, &x, labels.unwrap_or(&zeros), &expected, &sigma.to_string()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{sigma}: {}", text(&output.stderr));
        let off: f64 = text(&output.stdout).trim().parse().unwrap();
        assert!(off < TOLERANCE, "{sigma}: {off}");
    }
    let out = folder.at("out.onnx");
    fails(&["export --parts", model, "--out", &folder.at("parts")], 2, &["--parts"]);
    fails(&["export --model", &images, "--out", &out], 1, &[]);
}

/// Teachers of other programs, imported: continuous and discrete noise levels, with classes and
/// without. All kinds of networks are compared in kdm-formats.
#[test]
fn onnxruntime_denoises_as_imported_teachers_do() {
    let Some(python) = python("numpy, onnx, onnxruntime") else { return };
    let folder = Folder::new();
    let foreign =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/kdm-formats/tests/foreign");
    let small = ["edm_VPPrecond.pkl", "edm_VEPrecond.pkl", "diffusers"];
    let small = small.map(|name| Some(foreign.join(name)));
    let official = ["edm_ncsnpp_cond.pkl", "edm_adm_cond.pkl", "edm_ddpmpp_uncond.pkl"];
    let official = official.map(reference);
    for (i, path) in small.into_iter().chain(official).flatten().enumerate() {
        let model = folder.at(&format!("teacher-{i}.safetensors"));
        done(&["import", &path.to_string_lossy(), "--out", &model]);
        let onnx = folder.at(&format!("teacher-{i}.onnx"));
        done(&["export --model", &model, "--out", &onnx]);
        let file = kdm::data::TensorFile::open(Path::new(&model)).unwrap();
        let network = &file.metadata()["config"]["network"];
        let size = |names: [&str; 2]| {
            let found = names.iter().find_map(|name| network[*name].as_u64());
            found.unwrap_or(0) as usize
        };
        let (channels, side) = (size(["in_channels"; 2]), size(["resolution", "sample_size"]));
        let classes = size(["label_dim", "num_class_embeds"]);
        let shape = [3, channels, side, side];
        for sigma in [0.1, 4.0] {
            let (x, expected) = (folder.at("x.npy"), folder.at("expected.npy"));
            let values = kdm::random::normal_vec(i as u64, shape.iter().product());
            let values = values.into_iter().map(|e| (1.0 + sigma) * e).collect();
            array::write_npy(Path::new(&x), &kdm::data::Array::new(shape, values)).unwrap();
            let (labels, zeros) = (folder.at("labels.npy"), vec![0.0; 3 * classes]);
            let zeros = kdm::data::Array::new([3, classes], zeros);
            array::write_npy(Path::new(&labels), &zeros).unwrap();
            let level = format!("--sigma {sigma} --force");
            done(&["teacher denoise --model", &model, "--input", &x, &level, "--out", &expected]);
            let labels = if classes > 0 { &labels } else { "-" };
            let level = sigma.to_string();
            let arguments = [CHECK, &onnx, &x, labels, &expected, &level];
            let output = Command::new(&python).args(arguments).output().unwrap();
            assert!(output.status.success(), "{path:?}: {}", text(&output.stderr));
            let off: f64 = text(&output.stdout).trim().parse().unwrap();
            assert!(off < TOLERANCE, "{path:?} at {sigma}: {off}");
        }
    }
}
