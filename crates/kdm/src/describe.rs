//! What a file or folder is: a model, an array, a store of pairs, a run, or another program's file.

use std::path::Path;

use burn::tensor::Device;
use kdm_data::images::known_classes;
use kdm_data::pairs::{MANIFEST, Manifest, TeacherStamp, shards_there};
use kdm_data::region::Region;
use kdm_data::view::{self, Npz};
use kdm_data::{Error, TensorFile, hash, regular};
use kdm_koopman::Origin;
use kdm_observer::Silent;
use kdm_train::{CHECKPOINT, METRICS, read_metrics};
use serde_json::{Value, json};

use crate::remote::{Needed, fetched};
use crate::run_folder::{COMPARISON, CONFIG, EVALUATION, FEATURES, REPORT};
use crate::sniff::sniff;
use crate::usable::{Usable, Wanted, usable};
use crate::{Experiment, Outcome, assets};

/// What lies at `path`, as an object with `kind` among its keys. Foreign models are put together on
/// `device`.
///
/// # Errors
/// When it can't be read or is nothing that is known.
pub fn describe(path: &Path, device: &Device) -> Outcome<Value> {
    if assets::is_any(path) {
        return tensors(&assets::open_any(path)?);
    }
    if let Some(cached) = fetched(path, Needed::Manifest, &Silent)? {
        let mut value = folder(&cached, device)?;
        let there = value["shards"].as_str().unwrap_or_default().to_string();
        value["shards"] = json!(format!("{there} in the cache, {}", cached.display()));
        return Ok(value);
    }
    if !path.exists() && path.extension().is_none() && path.components().count() == 1 {
        // A name, which the names of what ships are told of.
        return tensors(&assets::open_any(path)?);
    }
    let found = if path.is_dir() { folder(path, device) } else { file(path, device) };
    found.or_else(|failure| match usable(path).filter(|_| sniff(path).is_none()) {
        Some(Usable { what, action, readers }) if !readers.contains(&Wanted::Anything) => {
            Ok(json!({"kind": what, "next": action}))
        }
        _ => Err(failure),
    })
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
        Some("html" | "toml" | "json" | "jsonl") => text(path),
        Some("png" | "jpg" | "jpeg") => picture(path),
        _ => tensors(&TensorFile::open(path)?),
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

/// Bytes of a text, and of a picture.
const MOST_TEXT: u64 = 256 << 20;
const MOST_PICTURE: u64 = 1 << 30;

/// A page, a configuration or a table of this program's, or another text.
fn text(path: &Path) -> Outcome<Value> {
    let text = String::from_utf8_lossy(&regular::read(path, MOST_TEXT)?).into_owned();
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
        let read = serde_json::from_str::<Value>(text.trim_start_matches('\u{feff}'));
        let value = read.map_err(|e| {
            let problem = format!("is damaged or cut short: {e}");
            Error::invalid(path, "JSON text", problem, "copy or write it again, whole")
        })?;
        if value["weight_map"].is_object() {
            return Ok(json!({
                "kind": "the index of weights in several files",
                "next": "kdm import FILE --out MODEL.safetensors",
            }));
        }
    }
    if path.extension().is_some_and(|e| e == "toml") {
        let experiment =
            Experiment::read(path).or_else(|_| Experiment::load(&path.to_string_lossy(), &[]))?;
        return Ok(json!({"kind": "experiment", "experiment": experiment.name}));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let kind = match name.as_ref() {
        REPORT => "report",
        EVALUATION => "evaluation",
        COMPARISON => "comparison",
        METRICS => "log of a training",
        MANIFEST => "manifest of a pair store",
        _ => "text",
    };
    let values = matches!(kind, "evaluation").then(|| serde_json::from_str::<Value>(&text).ok());
    Ok(json!({
        "kind": kind, "bytes": text.len(), "lines": text.lines().count(),
        "values": values.flatten(),
    }))
}

fn picture(path: &Path) -> Outcome<Value> {
    let bytes = regular::read(path, MOST_PICTURE)?;
    let png = bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.len() >= 24;
    let side = |at: usize| {
        png.then(|| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap_or_default()))
    };
    Ok(json!({
        "kind": "picture", "bytes": bytes.len(), "width": side(16), "height": side(20),
    }))
}

/// A folder that this program's analyses write, by the file that tells it.
fn results(path: &Path) -> Option<Outcome<Value>> {
    let told = |kind: &str, file: &str, next: &str| {
        path.join(file).exists().then(|| {
            let figures = std::fs::read_dir(path.join("figures")).map_or(0, Iterator::count);
            Ok(json!({
                "kind": kind, "report": path.join(REPORT).exists().then_some(REPORT),
                "figures": figures, "next": next,
            }))
        })
    };
    if path.join(FEATURES).exists() {
        return Some(TensorFile::open(&path.join(FEATURES)).map_err(Into::into).and_then(|file| {
            let mut found = tensors(&file)?;
            found["kind"] = json!("feature network's training");
            found["next"] =
                json!(format!("kdm evaluate --features {}", path.join(FEATURES).display()));
            Ok(found)
        }));
    }
    told("inversion", "inversion.npz", "open report.html")
        .or_else(|| told("analysis", "eigenvalues.npy", "open report.html"))
        .or_else(|| told("samples", "samples.npy", "kdm info samples.npy"))
        .or_else(|| told("analysis", REPORT, "open report.html"))
}

fn tensors(file: &TensorFile) -> Outcome<Value> {
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
        "class_names": class_names(&file.metadata()["config"]),
        "config": file.metadata()["config"],
    }))
}

/// The names of a model's classes, by its configuration: its own, or those of the teacher that it
/// was distilled from.
fn class_names(config: &Value) -> Option<Vec<String>> {
    let list = |names: &Value| serde_json::from_value::<Vec<String>>(names.clone()).ok();
    let teacher = || {
        let origin = serde_json::from_value::<Origin>(config["origin"].clone()).ok()?;
        origin.teacher().map(TeacherStamp::names_of_classes)
    };
    let data = || config["data"].as_str().map(known_classes);
    let own = list(&config["class_names"]);
    own.or_else(teacher).or_else(data).filter(|names| !names.is_empty())
}

fn folder(path: &Path, device: &Device) -> Outcome<Value> {
    if path.join(MANIFEST).exists() {
        let manifest = Manifest::read(path)?;
        let there = shards_there(path, &manifest);
        return Ok(json!({
            "kind": "pair store",
            "pairs": manifest.count,
            "shape": manifest.shape,
            "dtype": manifest.dtype,
            "classes": manifest.label_dim,
            "class_names": manifest.teacher.as_ref().map(TeacherStamp::names_of_classes)
                .filter(|names| !names.is_empty()),
            "noise": manifest.noise,
            "noise_std": manifest.noise_std,
            "teacher": manifest.teacher,
            "sampling": manifest.sampling,
            "states": (!manifest.states.is_empty()).then_some(&manifest.states),
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
    if let Some(found) = results(path) {
        return found;
    }
    if kdm_formats::is_diffusers_folder(path) {
        return foreign(path, device);
    }
    let problem = format!("holds neither a {MANIFEST} nor a {CONFIG}");
    Err(Error::invalid(path, "folder", problem, "give a store of pairs, a run's folder, or a file")
        .into())
}
