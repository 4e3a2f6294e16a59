//! Configurations, messages and exit codes; presets, dry runs, benchmarks and completions.

use std::fs;
use std::path::Path;

use crate::common::{Folder, contents, distill, done, fails, json, kdm, store};

#[test]
fn wrong_configurations_are_told_before_any_work() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "500", &[]);
    let run = folder.at("run");
    let preset = folder.path("mine.toml");
    let file = folder.at("mine.toml");
    let with = |text: &str| {
        fs::write(&preset, text).unwrap();
        ["distill --preset", &file, "--pairs", &pairs, "--out", &run].map(String::from).to_vec()
    };
    let refused = |text: &str, parts: &[&str]| {
        let arguments = with(text);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        fails(&arguments, 2, parts);
        assert!(!Path::new(&run).exists(), "no work was begun");
    };
    refused("base = 'checkerboard'\n[train]\nbatchsize = 4", &["mine.toml", "train.batchsize"]);
    refused("[train]\nlr = -1.0", &["mine.toml", "`train.lr` is -1", "--set"]);
    refused("[train\nlr = 1", &["mine.toml", "TOML"]);
    refused("base = 'chckerboard'", &["did you mean `checkerboard`"]);
    refused("base = 'MINE'".replace("MINE", &file).as_str(), &["circle"]);
    fails(
        &distill(&pairs, &run, &["--set train.held_out=500"]),
        2,
        &["train.held_out", "500 pairs"],
    );
    fails(
        &["distill --preset checkerboard --pairs", &folder.at("none"), "--out", &folder.at("r2")],
        1,
        &["none", "there is no such folder"],
    );

    // An existing run: refused without --resume, and with it when the configuration is another.
    let run = folder.at("kept");
    done(&distill(&pairs, &run, &[]));
    let before = contents(Path::new(&run));
    fails(&distill(&pairs, &run, &[]), 2, &["kept", "--resume"]);
    fails(
        &distill(&pairs, &run, &["--resume --set train.lr=0.5"]),
        2,
        &["config.toml", "train.lr", "0.001", "0.5"],
    );
    let other = store(&folder, "other", "600", &[]);
    fails(
        &distill(&other, &run, &["--resume"]),
        1,
        &["checkpoint.safetensors", "begun with other pairs", "--out"],
    );
    let kept: Vec<_> = contents(Path::new(&run))
        .into_iter()
        .filter(|(name, _)| !name.contains("tfevents"))
        .collect();
    let old: Vec<_> = before.into_iter().filter(|(name, _)| !name.contains("tfevents")).collect();
    assert!(old == kept, "nothing was lost");
    // Wrong words.
    for arguments in [&["frobnicate"][..], &["sample"], &["distill --pairs"]] {
        assert_eq!(kdm(arguments).output().unwrap().status.code(), Some(2));
    }
}

#[test]
fn dry_runs_presets_benches_and_completions() {
    let folder = Folder::new();
    let printed = done(&["run checkerboard-paper --dry-run --set seed=7"]);
    assert!(printed.contains("iterations = 20001") && printed.contains("seed = 7"));
    // What a dry run prints is itself a file to run.
    let file = folder.at("resolved.toml");
    fs::write(&file, &printed).unwrap();
    assert_eq!(values(&done(&["run", &file, "--dry-run"])), values(&printed));
    assert!(done(&["presets"]).contains("checkerboard-paper"));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(done(&["completions", shell]).contains("kdm"));
    }
    for what in ["sample", "train"] {
        let value = json(&["bench", what, "--preset checkerboard --batch 32 --iters 3 --json"]);
        for key in ["median_ms", "ms_per_image", "gflops", "peak_rss_bytes"] {
            assert!(value[key].as_f64().is_some_and(|v| v > 0.0), "{key} of {value}");
        }
    }
    fails(&["bench sample --preset checkerboard --batch 0"], 2, &["--batch"]);
    fails(&["info", &folder.at("")], 1, &["manifest.json", "config.toml"]);
}

/// What a dry run prints without its comments: times are of the moment.
fn values(printed: &str) -> Vec<&str> {
    printed.lines().filter(|line| !line.starts_with('#')).collect()
}

/// Every preset says its size and cost, and its dry run is a file that can be used.
#[test]
fn presets_tell_their_cost() {
    let folder = Folder::new();
    // Batches and stores that a small machine holds.
    let few = "--set train.batch=8 --set train.held_out=100 \
               --set pairs.count=1000 --set pairs.test=100";
    let told = done(&["run cifar10-uncond --dry-run", few]);
    for part in ["47.48 million parameters", "11.019 GFLOP a sample", "GB", "# in all", "# ?: "] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let memory = ["run cifar10-uncond --dry-run --set train.batch=100000"];
    fails(&memory, 2, &["`train.batch`", "of memory", "a smaller train.batch"]);
    for name in ["checkerboard-paper", "cifar10-factorized"] {
        let told = done(&["distill --preset", name, "--dry-run", few]);
        assert!(told.contains("parameters") && told.contains("FLOP a sample"), "{told}");
        let file = folder.path(&format!("{name}.toml"));
        fs::write(&file, &told).unwrap();
        let again = done(&["run", &file.to_string_lossy(), "--dry-run"]);
        assert_eq!(values(&again), values(&told), "{name}");
    }
    let compared = done(&["compare fashion-mnist-compare --dry-run"]);
    assert!(compared.contains("direct") && compared.contains("# student"), "{compared}");
    fails(&["distill --preset checkerboard"], 2, &["--out", "--pairs"]);
    fails(
        &["run ffhq64", few, "--out", &folder.at("run")],
        2,
        &["teacher.path", "ffhq64.safetensors", "kdm import"],
    );
}
