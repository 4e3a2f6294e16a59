//! What a file or folder is: a model, an array, a store of pairs, a run, or another program's file.

use std::path::Path;

use burn::tensor::Device;
use kdm_data::pairs::{MANIFEST, Manifest};
use kdm_data::region::Region;
use kdm_data::view::{self, Npz};
use kdm_data::{Error, TensorFile, hash};
use kdm_train::{CHECKPOINT, METRICS, read_metrics};
use serde_json::{Value, json};

use crate::run_folder::{CONFIG, EVALUATION};
use crate::{Experiment, Outcome};

/// What lies at `path`, as an object with `kind` among its keys. Foreign models are put together on
/// `device`.
///
/// # Errors
/// When it can't be read or is nothing that is known.
pub fn describe(path: &Path, device: &Device) -> Outcome<Value> {
    if path.is_dir() { folder(path, device) } else { file(path, device) }
}

fn file(path: &Path, device: &Device) -> Outcome<Value> {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("npy") => {
            let array = view::open_npy(path)?;
            Ok(json!({"kind": "array", "shape": array.shape()}))
        }
        Some("npz") => {
            let npz = Npz::open(Region::file(path)?)?;
            let shape = |name| npz.view(name).map_or(Value::Null, |view| json!(view.shape()));
            let shapes: serde_json::Map<String, Value> =
                npz.names().map(|name| (name.to_string(), shape(name))).collect();
            Ok(json!({"kind": "arrays", "shapes": shapes}))
        }
        Some("pt" | "pth" | "ckpt" | "pkl" | "bin") => foreign(path, device),
        _ => tensors(path),
    }
}

fn foreign(path: &Path, device: &Device) -> Outcome<Value> {
    let imported = kdm_formats::import(path, &kdm_formats::Options::default(), device)?;
    Ok(json!({
        "kind": format!("foreign {}", imported.kind()), "found": imported.found,
        "ignored": imported.ignored,
        "next": "kdm import FILE --out MODEL.safetensors",
    }))
}

fn tensors(path: &Path) -> Outcome<Value> {
    let file = TensorFile::open(path)?;
    let parameters: usize =
        file.entries().map(|(_, _, shape)| shape.iter().product::<usize>()).sum();
    let kind = match &file.metadata()["kind"] {
        Value::String(kind) => kind.clone(),
        _ if file.get("image").is_some() => "shard of a pair store".into(),
        _ => "tensors".into(),
    };
    Ok(json!({
        "kind": kind,
        "tensors": file.entries().count(),
        "numbers": parameters,
        "bytes": file.bytes().len(),
        "sha256": hash::sha256(file.bytes()),
        "iteration": file.metadata()["iteration"],
        "config": file.metadata()["config"],
    }))
}

fn folder(path: &Path, device: &Device) -> Outcome<Value> {
    if path.join(MANIFEST).exists() {
        let manifest = Manifest::read(path)?;
        let there =
            (0..manifest.shard_count()).filter(|k| manifest.shard_path(path, *k).exists()).count();
        return Ok(json!({
            "kind": "pair store",
            "pairs": manifest.count,
            "shape": manifest.shape,
            "dtype": manifest.dtype,
            "classes": manifest.label_dim,
            "noise": manifest.noise,
            "noise_std": manifest.noise_std,
            "teacher": manifest.teacher,
            "sampling": manifest.sampling,
            "history": (!manifest.history.is_empty()).then_some(&manifest.history),
            "shards": format!("{there} of {}", manifest.shard_count()),
            "complete": manifest.is_complete(),
        }));
    }
    if path.join(CONFIG).exists() {
        let experiment = Experiment::read(&path.join(CONFIG))?;
        let iteration = |folder: &Path| {
            let file = TensorFile::open(&folder.join(CHECKPOINT)).ok()?;
            file.metadata()["iteration"].as_u64()
        };
        let place =
            if path.join(CHECKPOINT).exists() { path.to_path_buf() } else { path.join("distill") };
        let last = if place.join(METRICS).exists() { read_metrics(&place)?.pop() } else { None };
        let evaluation = std::fs::read_to_string(path.join(EVALUATION)).ok();
        return Ok(json!({
            "kind": "run",
            "experiment": experiment.name,
            "iteration": iteration(&place),
            "iterations": experiment.train.iterations,
            "last": last,
            "evaluation": evaluation.and_then(|text| serde_json::from_str::<Value>(&text).ok()),
        }));
    }
    if kdm_formats::is_diffusers_folder(path) {
        return foreign(path, device);
    }
    let problem = format!("holds neither a {MANIFEST} nor a {CONFIG}");
    Err(Error::invalid(path, "folder", problem, "give a store of pairs, a run's folder, or a file")
        .into())
}
