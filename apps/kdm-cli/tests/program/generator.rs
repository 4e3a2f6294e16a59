//! Students whose operator is a generator: trained on states between noise and image, stopped and
//! resumed, sampled, looked into, compressed; and what they can't be.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::common::{
    Folder, array_of, distill, done, fails, interrupted, json, kdm, store, text, wait_for,
};

const GENERATOR: &str = "--set student.operator.kind=generator \
                         --set student.operator.projection=16 \
                         --set loss.push_weight=1";

/// Stopped and resumed a generator ends in the same bytes; its states come nearer to the teacher's
/// than without them; it draws, and is looked into, as other students do.
#[cfg(unix)]
#[test]
fn a_generator_learns_the_way() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "1500", &["--steps 10 --states 4"]);
    let (whole, stopped, alone) = (folder.at("whole"), folder.at("stopped"), folder.at("alone"));
    let longer = [
        GENERATOR,
        "--set train.iterations=500 --set train.checkpoint_every=100000 \
         --set train.batch=128 --set train.lr=4e-3 --set train.ema_decay=0.97",
    ];
    done(&distill(&pairs, &whole, &longer));
    let command = kdm(&distill(&pairs, &stopped, &longer))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&folder.path("stopped/metrics.jsonl"));
    let output = interrupted(command);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    done(&distill(&pairs, &stopped, &[&longer[..], &["--resume"]].concat()));
    let read = |run: &str| fs::read(folder.path(run).join("student.safetensors")).unwrap();
    assert!(read("whole") == read("stopped"));
    let log = fs::read_to_string(folder.path("whole/metrics.jsonl")).unwrap();
    for key in ["state_latent", "state_push", "state\"", "validation/state"] {
        assert!(log.contains(key), "{key}");
    }

    let without = "--set loss.state_latent_weight=0 --set loss.state_push_weight=0 \
                   --set loss.state_weight=0";
    done(&distill(&pairs, &alone, &[&longer[..], &[without]].concat()));
    let look = |run: &str| {
        let (model, out) = (folder.at(run) + "/student.safetensors", folder.at(run) + "-look");
        json(&["analyze --samples 100 --model", &model, "--pairs", &pairs, "--out", &out, "--json"])
    };
    let (found, plain) = (look("whole"), look("alone"));
    let times = |found: &serde_json::Value| found["states"]["times"].as_array().unwrap().clone();
    assert_eq!((times(&found).len(), times(&plain).len()), (4, 4));
    let mean = |found: &serde_json::Value, key: &str| {
        times(found).iter().map(|time| time[key].as_f64().unwrap()).sum::<f64>() / 4.0
    };
    let shown = format!("{} {}", found["states"], plain["states"]);
    assert!(mean(&found, "decoded") < 0.7 * mean(&plain, "decoded"), "{shown}");
    assert!(mean(&found, "image") < mean(&plain, "image"), "{shown}");
    let rates = found["rates"].as_array().unwrap();
    assert_eq!((rates.len(), found["eigenvalues"].as_array().unwrap().len()), (8, 16));
    let slowest = (-rates[0]["rate"].as_f64().unwrap()).exp();
    assert!((slowest - found["spectral_radius"].as_f64().unwrap()).abs() < 1e-6);
    let page = fs::read_to_string(folder.path("whole-look/report.html")).unwrap();
    assert!(page.contains("Rates and frequencies"));

    let model = folder.at("whole") + "/student.safetensors";
    let (samples, small) = (folder.at("samples.npz"), folder.at("small.safetensors"));
    done(&["sample --seeds 0-9 --model", &model, "--out", &samples]);
    done(&["compress --rank 8 --model", &model, "--out", &small]);
    let again = folder.at("again.npz");
    done(&["sample --seeds 0-9 --model", &small, "--out", &again]);
    assert_eq!(array_of(Path::new(&again), "samples").shape, [10, 2]);
    let original = folder.at("original.safetensors");
    fails(&["export --model", &model, "--out", &original], 1, &["generator", "no original"]);
}

/// A generator's coordinates are complex, so its dimension is even.
#[test]
fn an_odd_generator_is_refused() {
    let odd = "run checkerboard --dry-run --set student.operator.kind=generator --set \
               student.operator.projection=7";
    fails(&[odd], 2, &["student.operator.kind", "odd"]);
    let many = "run checkerboard --dry-run --set pairs.states=18";
    fails(&[many], 2, &["pairs.states", "have 17 states"]);
}
