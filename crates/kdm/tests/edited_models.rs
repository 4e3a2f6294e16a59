//! Model files whose own configuration was edited, with a checksum that fits: each is refused with
//! a message or computes something, at once; none panics or asks for memory that is not there.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use burn::tensor::Device;
use kdm::data::{Labels, model};
use kdm::nn::UNetConfig;
use kdm::teacher::{
    Denoiser, Level, NetworkTeacherConfig, Preconditioning, Teacher, TeacherConfig,
};
use kdm::{Experiment, LoadedStudent, Outcome};
use serde_json::{Value, json};

/// What a configuration's value becomes.
fn absurd() -> Vec<Value> {
    let numbers = [-1.0, 0.5, 1e308, 1e-320].map(|x| json!(x));
    let whole = [0u64, 33, 1_000_000_000_000, u64::MAX].map(|n| json!(n));
    let lists = [json!([]), json!([1_000_000_000_000u64, 1_000_000_000_000u64])];
    [&numbers[..], &whole, &lists, &[json!(null), json!("x"), json!({})]].concat()
}

/// The places of all values in a configuration, as JSON pointers; of lists the first two entries.
fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| places(value, &format!("{at}/{key}"), all));
        }
        Value::Array(items) => {
            let first = items.iter().take(2).enumerate();
            first.for_each(|(i, value)| places(value, &format!("{at}/{i}"), all));
        }
        _ => {}
    }
    if !at.is_empty() {
        all.push(at.to_string());
    }
}

fn draw_student(path: &Path) -> Outcome<()> {
    let student = LoadedStudent::open(path, &Device::flex())?;
    let noise = student.draw_noise(&[0]);
    drop(student.sampler.sample(&noise.noise, &noise.labels));
    Ok(())
}

fn ask_teacher(path: &Path) -> Outcome<()> {
    let teacher = Teacher::load(path, &Device::flex())?;
    let classes = teacher.label_dim();
    let labels = if classes > 0 { Labels::all(0, 1) } else { Labels::none(1) };
    let x = vec![0.5; teacher.dim()];
    drop(teacher.denoise(&x, Level { alpha: 1.0, sigma: 1.0 }, &labels));
    Ok(())
}

/// What is wrong with how an edited file is taken, if anything.
fn trouble(path: PathBuf, work: fn(&Path) -> Outcome<()>) -> Option<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let outcome = std::panic::catch_unwind(|| work(&path).map_err(|e| e.to_string()));
        let _ = sender.send(outcome);
    });
    match receiver.recv_timeout(Duration::from_secs(20)) {
        Err(_) => Some("goes on for more than 20 s".into()),
        Ok(Err(_)) => Some("panics".into()),
        Ok(Ok(Err(message))) if message.len() > 2000 => Some(format!("{} bytes", message.len())),
        Ok(Ok(_)) => None,
    }
}

/// Edits each value of a model file and gives what goes wrong.
fn edited(path: &Path, kind: &str, work: fn(&Path) -> Outcome<()>, troubles: &mut Vec<String>) {
    work(path).unwrap();
    let (config, state): (Value, _) = model::read(path, kind).unwrap();
    let mut all = Vec::new();
    places(&config, "", &mut all);
    let other = path.with_file_name("edited.safetensors");
    for place in &all {
        for value in absurd() {
            let mut config = config.clone();
            *config.pointer_mut(place).unwrap() = value.clone();
            model::write(&other, kind, &config, &state).unwrap();
            if let Some(what) = trouble(other.clone(), work) {
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                troubles.push(format!("{file} {place} = {value}: {what}"));
            }
        }
    }
}

/// Experiments with small networks.
fn small(preset: &str, settings: &[&str]) -> Experiment {
    let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
    Experiment::load(preset, &settings).unwrap()
}

#[test]
fn edited_students_are_refused_or_draw() {
    let folder = tempfile::tempdir().unwrap();
    let mlp = "student.network={kind='mlp',hidden=8,layers=2}";
    let unet = "student.network={kind='unet',model_channels=8,channel_mult=[1],num_blocks=1,\
                attn_resolutions=[],dropout=0.0}";
    let factorized = "student.operator={kind='factorized',control=true,projection=4}";
    let two = "student.network.channel_mult=[1,2]";
    let places = "student.operator={kind='places',control=true}";
    let mut troubles = Vec::new();
    for (name, preset, settings) in [
        ("dense", "checkerboard", vec!["student.latent=8", mlp]),
        ("unet", "fashion-mnist", vec!["student.latent=1024", unet, factorized]),
        ("levels", "fashion-mnist", vec!["student.levels=[1,2]", unet, two, places]),
    ] {
        let experiment = small(preset, &settings);
        let (shape, classes) = experiment.sample().unwrap();
        let config = experiment.student_config(shape, classes, 80.0);
        assert_eq!(config.problems(), []);
        let file = kdm::koopman::student_file::StudentFile {
            student: config.clone(),
            loss: kdm::koopman::LossConfig::default(),
            target_seed: 1,
            perceptual: None,
            origin: Default::default(),
        };
        let path = folder.path().join(format!("{name}.safetensors"));
        file.save(&config.init(1, &Device::flex()), &path).unwrap();
        edited(&path, "student", draw_student, &mut troubles);
    }
    assert!(troubles.is_empty(), "{}:\n{}", troubles.len(), troubles.join("\n"));
}

#[test]
fn edited_teachers_are_refused_or_denoise() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let mut troubles = Vec::new();
    let networks = [
        json!({
            "architecture": "song-unet", "resolution": 8, "in_channels": 1, "out_channels": 1,
            "label_dim": 2, "augment_dim": 0, "model_channels": 8, "channel_mult": [1, 2],
            "num_blocks": 1, "attn_resolutions": [4], "dropout": 0.0,
        }),
        json!({
            "architecture": "openai-unet", "resolution": 8, "in_channels": 1, "out_channels": 1,
            "model_channels": 32, "level_channels": [32], "num_res_blocks": 1,
            "attention_resolutions": [], "num_classes": 3,
        }),
        json!({
            "architecture": "diffusers-unet", "sample_size": 8, "in_channels": 1,
            "out_channels": 1, "norm_num_groups": 8, "down_block_types": ["DownBlock2D"],
            "up_block_types": ["UpBlock2D"], "block_out_channels": [8], "layers_per_block": 1,
            "attention_head_dim": 8,
        }),
    ];
    for (network, preconditioning) in networks.into_iter().zip([
        Preconditioning::EDM,
        Preconditioning::DDPM_LINEAR,
        Preconditioning::FLOW_TO_DATA,
    ]) {
        let name = network["architecture"].as_str().unwrap().to_string();
        let network: UNetConfig = serde_json::from_value(network).unwrap();
        let config = NetworkTeacherConfig {
            data: "toy".into(),
            class_names: Vec::new(),
            preconditioning,
            network,
        };
        let state = kdm::nn::state::state_dict(&config.init(1, &device));
        let path = folder.path().join(format!("{name}.safetensors"));
        model::write(&path, "teacher", &TeacherConfig::Network(config), &state).unwrap();
        edited(&path, "teacher", ask_teacher, &mut troubles);
    }
    for preset in ["checkerboard", "gaussian", "mixture"] {
        let experiment = small(preset, &["teacher.hidden=8", "teacher.layers=2"]);
        let path = folder.path().join(format!("{preset}.safetensors"));
        Teacher::exact(experiment.exact()).unwrap().save(&path).unwrap();
        edited(&path, "teacher", ask_teacher, &mut troubles);
    }
    assert!(troubles.is_empty(), "{}:\n{}", troubles.len(), troubles.join("\n"));
}
