//! `kdm info`: what a file or folder is.

use std::path::{Path, PathBuf};

use kdm_data::pairs::{MANIFEST, Manifest};
use kdm_data::{Error, TensorFile, array, hash};
use kdm_train::{CHECKPOINT, METRICS, read_metrics};
use serde_json::{Value, json};

use super::output::print;
use kdm::Outcome;
use kdm::pipeline::{CONFIG, EVALUATION, pretty};

/// Flags of `kdm info`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model, shard, checkpoint or array file; a store of pairs; a run's folder
    path: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> Outcome<()> {
        let value = if self.path.is_dir() { folder(&self.path)? } else { file(&self.path)? };
        if self.json {
            return print(&pretty(&value));
        }
        let mut text = format!("{}\n", self.path.display());
        lines(&value, 1, &mut text);
        print(&text)
    }
}

/// A value as indented lines.
fn lines(value: &Value, depth: usize, text: &mut String) {
    let Value::Object(entries) = value else { return };
    let indent = "  ".repeat(depth);
    for (key, value) in entries {
        match value {
            Value::Null => {}
            Value::Object(inner) if !inner.is_empty() => {
                text.push_str(&format!("{indent}{key}:\n"));
                lines(value, depth + 1, text);
            }
            Value::String(plain) => text.push_str(&format!("{indent}{key}: {plain}\n")),
            other => text.push_str(&format!("{indent}{key}: {other}\n")),
        }
    }
}

fn file(path: &Path) -> Outcome<Value> {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("npy") => {
            let array = array::read_npy(path)?;
            Ok(json!({"kind": "array", "shape": array.shape}))
        }
        Some("npz") => {
            let shapes: serde_json::Map<String, Value> = array::read_npz(path)?
                .into_iter()
                .map(|(name, a)| (name, json!(a.shape)))
                .collect();
            Ok(json!({"kind": "arrays", "shapes": shapes}))
        }
        Some("pt" | "pth" | "pkl" | "bin") => foreign(path),
        _ => tensors(path),
    }
}

fn foreign(path: &Path) -> Outcome<Value> {
    let imported = kdm_formats::import(path, &kdm_formats::Options::default())?;
    Ok(json!({
        "kind": format!("foreign {}", imported.kind()), "found": imported.found, "ignored": imported.ignored,
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

fn folder(path: &Path) -> Outcome<Value> {
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
            "history": if manifest.history.is_empty() { Value::Null } else { json!(manifest.history) },
            "shards": format!("{there} of {}", manifest.shard_count()),
            "complete": manifest.is_complete(),
        }));
    }
    if path.join(CONFIG).exists() {
        let experiment = kdm::Experiment::read(&path.join(CONFIG))?;
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
        return foreign(path);
    }
    let problem = format!("holds neither a {MANIFEST} nor a {CONFIG}");
    Err(Error::invalid(path, "folder", problem, "give a store of pairs, a run's folder, or a file")
        .into())
}
