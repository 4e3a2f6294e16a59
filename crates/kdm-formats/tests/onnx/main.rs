//! Denoisers as ONNX beside this program's own: every kind of network and of preconditioning, with
//! random weights, in onnxruntime. It needs a Python with numpy, onnx and onnxruntime: `python3`,
//! or the one that the variable KDM_PYTHON names; without it these tests say so and pass. The
//! networks are those of kdm-nn's goldens, small and of every option.

#[path = "../../../kdm-nn/tests/goldens/weight.rs"]
mod weight;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use burn::tensor::{Device, TensorData};
use kdm_data::{Array, Labels, array};
use kdm_formats::onnx::{OnnxOptions, Precision, export_denoiser};
use kdm_formats::{Model, Options, import};
use kdm_nn::state::{load_state, state_dict};
use kdm_nn::{InitSeed, StateDict, UNet, UNetConfig};
use kdm_random::normal_vec;
use kdm_teacher::networks::image::NetworkTeacher;
use kdm_teacher::networks::preconditioning::{Betas, Prediction};
use kdm_teacher::{
    Conditioner, Denoiser, Level, NetworkTeacherConfig, Preconditioning, TeacherConfig,
};
use serde_json::Value;
use weight::weight;

/// f32 rounding through some dozen layers in another order of summation is 1e-5; what the project
/// asks for is 1e-4 of a standard deviation.
const TOLERANCE: f64 = 1e-4;
/// Weights have 11 bits: errors of 2^-12 each, which in part cancel.
const HALF_TOLERANCE: f64 = 2e-2;

const CHECK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/onnx/check.py");

fn python() -> Option<String> {
    let program = std::env::var("KDM_PYTHON").unwrap_or_else(|_| "python3".into());
    let packages = "import numpy, onnx, onnxruntime";
    let import = Command::new(&program).args(["-c", packages]).output();
    if import.is_ok_and(|output| output.status.success()) {
        return Some(program);
    }
    eprintln!("skipped: {program} has not all of numpy, onnx, onnxruntime");
    None
}

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kdm-nn/tests/goldens");
    let text = std::fs::read_to_string(path.join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn weights(shapes: impl Iterator<Item = (String, Vec<usize>)>) -> StateDict {
    shapes
        .map(|(name, shape)| {
            let values = weight(&name, &shape);
            (name, TensorData::new(values, shape))
        })
        .collect()
}

/// A network of the goldens of kdm-nn by its name, with the weights of its formula.
fn network(name: &str) -> (UNetConfig, UNet) {
    let (golden, device) = (golden(name), Device::flex());
    if name.starts_with("openai") {
        return openai(&golden);
    }
    let mut config = golden["config"].clone();
    if name.starts_with("diffusers") {
        config["architecture"] = "diffusers-unet".into();
    }
    let config: UNetConfig = serde_json::from_value(config).unwrap();
    let network = config.init(&mut InitSeed::new(0), &device);
    let shapes = state_dict(&network).into_iter().map(|(k, v)| (k, v.shape().to_vec()));
    (config, load_state(network, &weights(shapes)).unwrap())
}

fn openai(golden: &Value) -> (UNetConfig, UNet) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unet.safetensors");
    let shapes = golden["shapes"].as_object().unwrap().iter();
    let shapes = shapes.map(|(k, v)| (k.clone(), serde_json::from_value(v.clone()).unwrap()));
    kdm_data::tensors::write_state(&path, &Value::Null, &weights(shapes)).unwrap();
    let settings = golden["settings"].as_object().unwrap();
    let settings = settings.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let options = Options { settings, ..Options::default() };
    let Model::Teacher { config: TeacherConfig::Network(config), state } =
        import(&path, &options, &Device::flex()).unwrap().model
    else {
        panic!("no image teacher");
    };
    let network = config.network.init(&mut InitSeed::new(0), &Device::flex());
    (config.network, load_state(network, &state).unwrap())
}

fn ddpm(betas: Betas, steps: usize, prediction: Prediction, time_scale: f64) -> Preconditioning {
    Preconditioning::Ddpm { betas, steps, prediction, time_scale }
}

/// Every network with one preconditioning, every preconditioning with one network.
fn cases() -> Vec<(&'static str, Preconditioning)> {
    let linear = Betas::Linear { start: 1e-4, end: 0.02 };
    let scaled = Betas::ScaledLinear { start: 8.5e-4, end: 0.012 };
    let given = Betas::Given { betas: (1..=50).map(|i| 0.005 * f64::from(i)).collect() };
    let two = Betas::Given { betas: vec![0.1, 0.5] };
    vec![
        ("song_deep", Preconditioning::EDM),
        ("song_no_attention", Preconditioning::VP),
        ("song_one_level", Preconditioning::Flow { time_scale: 1000.0, data_at_one: false }),
        ("song_skip", Preconditioning::VE),
        ("song_residual_skip", Preconditioning::KARRAS),
        ("song_ncsnpp", Preconditioning::VE),
        ("song_long_filter", ddpm(two, 2, Prediction::Epsilon, 1.0)),
        ("song_wide", Preconditioning::VP),
        ("adm_uncond", Preconditioning::EDM),
        ("adm_labels", Preconditioning::FLOW_TO_DATA),
        ("adm_variance", Preconditioning::IDDPM),
        ("adm_narrow", ddpm(linear.clone(), 1000, Prediction::V, 1.0)),
        ("diffusers_plain", ddpm(scaled, 1000, Prediction::V, 1.0)),
        ("diffusers_ddpm", Preconditioning::DDPM_LINEAR),
        ("diffusers_heads", ddpm(given, 50, Prediction::Epsilon, 20.0)),
        ("diffusers_uneven_heads", Preconditioning::DDPM_COSINE),
        ("diffusers_deep", ddpm(linear, 1000, Prediction::Sample, 1.0)),
        ("diffusers_fourier", Preconditioning::VP),
        ("diffusers_scale_shift", Preconditioning::IDDPM),
        ("diffusers_classes", Preconditioning::DDPM_LINEAR),
        ("diffusers_swish", Preconditioning::DDPM_LINEAR),
        ("openai_improved", Preconditioning::DDPM_COSINE),
        ("openai_guided", Preconditioning::DDPM_LINEAR),
        ("openai_new_order", Preconditioning::KARRAS),
        ("openai_pooled", Preconditioning::DDPM_LINEAR),
        ("openai_heads_up", Preconditioning::FLOW_TO_DATA),
        ("openai_one_level", Preconditioning::DDPM_LINEAR),
    ]
}

/// Noise levels from the least to the largest that the network knows (0.002 and 80 where there is
/// no bound), on levels of a discrete process and between them.
fn levels(conditioner: &Conditioner) -> Vec<f64> {
    let (least, most) = conditioner.range();
    let (least, most) = (least.max(0.002), most.min(80.0).max(least));
    (0..5).map(|i| least * (most / least).powf(f64::from(i) / 4.0)).collect()
}

/// Writes what `check.py` reads of one case.
fn write(folder: &Path, name: &str, precision: Precision, preconditioning: &Preconditioning) {
    let (unet, weights) = network(name);
    let (channels, side) = (unet.channels().0, unet.resolution());
    let classes = unet.label_dim();
    let config = NetworkTeacherConfig {
        data: "random".into(),
        class_names: Vec::new(),
        preconditioning: preconditioning.clone(),
        network: unet,
    };
    assert_eq!(config.problems(), [], "{name}");
    let at = |what: &str| folder.join(format!("{name}{what}"));
    let options = OnnxOptions { precision, ..OnnxOptions::default() };
    let model = Path::new("model.safetensors");
    export_denoiser(&config, &weights, model, &at(".onnx"), &options).unwrap();

    let levels = levels(&Conditioner::new(preconditioning.clone()));
    let (n, dim) = (levels.len(), channels * side * side);
    let normal = normal_vec(7, 2 * n * dim);
    let (clean, noise) = normal.split_at(n * dim);
    let of_row = |(i, (x, e)): (usize, (&f32, &f32))| 0.5 * x + levels[i / dim] as f32 * e;
    let x: Vec<f32> = clean.iter().zip(noise).enumerate().map(of_row).collect();
    // The last image has no class.
    let one_hot = (0..n * classes).map(|i| {
        let (row, class) = (i / classes, i % classes);
        f32::from(u8::from(row + 1 < n && row % classes == class))
    });
    let teacher = NetworkTeacher::new(&config, weights);
    let expected = levels.iter().enumerate().flat_map(|(row, sigma)| {
        let labelled = classes > 0 && row + 1 < n;
        let labels =
            if labelled { Labels::all((row % classes) as u32, 1) } else { Labels::none(1) };
        let x: Vec<f64> = x[row * dim..(row + 1) * dim].iter().map(|x| f64::from(*x)).collect();
        let denoised = teacher.denoise(&x, Level { alpha: 1.0, sigma: *sigma }, &labels);
        denoised.into_iter().map(|x| x as f32)
    });
    let image = [n, channels, side, side];
    let save = |what: &str, array: Array| array::write_npy(&at(what), &array).unwrap();
    save(".expected.npy", Array::new(image, expected.collect()));
    save(".labels.npy", Array::new([n, classes], one_hot.collect()));
    save(".sigma.npy", Array::new([n], levels.iter().map(|s| *s as f32).collect()));
    save(".x.npy", Array::new(image, x));
}

fn errors(precision: Precision, cases: &[(&str, Preconditioning)]) -> BTreeMap<String, f64> {
    let Some(python) = python() else { return BTreeMap::new() };
    let folder = tempfile::tempdir().unwrap();
    for (name, preconditioning) in cases {
        write(folder.path(), name, precision, preconditioning);
    }
    let output = Command::new(python).arg(CHECK).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let errors: BTreeMap<String, f64> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(errors.len(), cases.len());
    errors
}

#[test]
fn onnxruntime_denoises_with_every_network_and_preconditioning() {
    let errors = errors(Precision::F32, &cases());
    let off: Vec<_> = errors.iter().filter(|(_, error)| **error > TOLERANCE).collect();
    assert!(off.is_empty(), "{off:?} of {errors:?}");
}

#[test]
fn weights_of_half_precision_denoise_nearly_so() {
    let cases = [
        ("song_ncsnpp", Preconditioning::VE),
        ("adm_uncond", Preconditioning::EDM),
        ("diffusers_ddpm", Preconditioning::DDPM_LINEAR),
        ("openai_guided", Preconditioning::DDPM_LINEAR),
    ];
    let errors = errors(Precision::F16, &cases);
    let off: Vec<_> = errors.iter().filter(|(_, error)| **error > HALF_TOLERANCE).collect();
    assert!(off.is_empty(), "{off:?} of {errors:?}");
}
