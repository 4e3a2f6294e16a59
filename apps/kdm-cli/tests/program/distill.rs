//! Distillation: resumed to the same bits, stopped by values that are not finite, adversarial,
//! perceptual.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::common::{
    Folder, distill, done, fails, image_experiment, image_store, interrupted, json, kdm, kill,
    start, store, text, wait_for,
};

/// A distillation killed at random moments and resumed ends in the same bytes as one never killed.
#[test]
fn a_killed_distillation_resumes_to_the_same_bits() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "1500", &[]);
    let (whole, killed) = (folder.at("whole"), folder.at("killed"));
    let longer = ["--set train.iterations=150"];
    let started = std::time::Instant::now();
    done(&distill(&pairs, &whole, &longer));
    let whole_time = started.elapsed();

    // A machine that is busy with other things while the first run is timed makes it look slow;
    // then the kills come too late, and they are tried again at half the times.
    let mut kills = 0;
    for attempt in 0..6 {
        let _ = fs::remove_dir_all(&killed);
        kills = 0;
        for part in 0.. {
            // A kill may come before the run has written anything; then there is nothing to resume.
            let begun = Path::new(&killed).join("config.toml").exists();
            let resume: &[&str] = if begun { &["--resume"] } else { &[] };
            let arguments = distill(&pairs, &killed, &[&longer[..], resume].concat());
            let mut child = start(&mut kdm(&arguments));
            // Later and later until a run ends, at moments that have nothing to do with the
            // checkpoints.
            let share = 0.08 * 1.15f64.powi(part) * 0.5f64.powi(attempt);
            std::thread::sleep(whole_time.mul_f64(share));
            if child.try_wait().unwrap().is_some() {
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
        }
        if kills >= 3 {
            break;
        }
    }
    assert!(kills >= 3, "it was killed {kills} times");
    done(&distill(&pairs, &killed, &[&longer[..], &["--resume"]].concat()));
    for name in [
        "student.safetensors",
        "last.safetensors",
        "last-ema.safetensors",
        "checkpoint.safetensors",
    ] {
        let (a, b) = (
            fs::read(folder.path("whole").join(name)).unwrap(),
            fs::read(folder.path("killed").join(name)).unwrap(),
        );
        assert!(a == b, "{name} differs after {kills} kills");
    }
    // The logs agree too, but for the speed.
    let log = |name: &str| -> Vec<Value> {
        let text = fs::read_to_string(folder.path(name).join("metrics.jsonl")).unwrap();
        text.lines()
            .map(|line| {
                let mut line: Value = serde_json::from_str(line).unwrap();
                let object = line.as_object_mut().unwrap();
                object.remove("train/iterations_per_second");
                assert!(object.remove("seconds").is_some());
                line
            })
            .collect()
    };
    assert_eq!(log("whole"), log("killed"));
}

/// Ctrl-C ends a distillation at its next step with a checkpoint and says how to go on; what is
/// resumed ends in the same bytes as one never stopped.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_distillation_with_a_checkpoint() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "1500", &[]);
    let (whole, stopped) = (folder.at("whole"), folder.at("stopped"));
    // Long enough that the signal comes in the middle, with no checkpoint of its own before.
    let longer = ["--set train.iterations=400 --set train.checkpoint_every=100000"];
    done(&distill(&pairs, &whole, &longer));
    let mut command = kdm(&distill(&pairs, &stopped, &longer));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&folder.path("stopped/metrics.jsonl"));
    let output = interrupted(child);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.contains("--resume") && !message.contains("panicked"), "{message}");
    assert!(folder.path("stopped/checkpoint.safetensors").exists());
    done(&distill(&pairs, &stopped, &[&longer[..], &["--resume"]].concat()));
    for name in ["student.safetensors", "last.safetensors", "last-ema.safetensors"] {
        let read = |run: &str| fs::read(folder.path(run).join(name)).unwrap();
        assert!(read("whole") == read("stopped"), "{name} differs");
    }
}

#[test]
fn nan_in_training_stops_with_the_checkpoint_kept() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "500", &[]);
    let run = folder.at("run");
    // A rate so high that weights overflow within a few iterations after the warm-up.
    let wild = [
        "--set train.lr=1e30 --set train.warmup=0 --set train.checkpoint_every=1",
        "--set train.schedule=constant",
    ];
    let message = fails(
        &distill(&pairs, &run, &wild),
        1,
        &["iteration", "gradient of", "not finite", "train.non_finite"],
    );
    assert!(
        message.contains("checkpoint of iteration")
            && folder.path("run/checkpoint.safetensors").exists(),
        "{message}"
    );
    // The paper's way: replaced. But an end in values that are none is a failure all the same, then
    // and when it is gone on with, and no student is left to be taken for one.
    let other = folder.at("other");
    let replaced = [&wild[..], &["--set train.non_finite=replace"]].concat();
    for more in [&[][..], &["--resume"]] {
        let arguments = distill(&pairs, &other, &[&replaced[..], more].concat());
        fails(&arguments, 1, &["ended at iteration", "not finite", "lower `train.lr`"]);
        assert!(!folder.path("other/student.safetensors").exists());
    }
}

/// Adversarial training on 32x32 images, killed after a checkpoint and resumed: the same bytes,
/// discriminator included.
#[test]
fn adversarial_training_resumes_to_the_same_bytes() {
    let folder = Folder::new();
    let pairs = image_store(&folder);
    let distill = |out: &str, more: &[&str]| {
        let out = folder.at(out);
        let network = "student.network={kind='unet',model_channels=8,channel_mult=[1,1],\
                       num_blocks=1,attn_resolutions=[16],dropout=0.1}";
        let small = [
            "--set train.iterations=6 --set train.batch=4 --set train.held_out=4",
            "--set train.log_every=2 --set train.checkpoint_every=2",
            "--set train.validate_every=3 --set",
            network,
        ];
        let base = ["distill --preset cifar10-uncond --pairs", &pairs, "--out", &out];
        kdm(&[&base[..], &small, more].concat())
    };
    let whole = distill("whole", &[]).output().unwrap();
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    let log = fs::read_to_string(folder.path("whole/metrics.jsonl")).unwrap();
    assert!(log.contains("train/adversarial") && log.contains("train/discriminator"), "{log}");

    let mut child = start(&mut distill("parts", &[]));
    let checkpoint = folder.path("parts/checkpoint.safetensors");
    while !checkpoint.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    kill(child);
    let resumed = distill("parts", &["--resume"]).output().unwrap();
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
    for file in ["student.safetensors", "last.safetensors", "checkpoint.safetensors"] {
        let read = |run: &str| fs::read(folder.path(run).join(file)).unwrap();
        assert!(read("whole") == read("parts"), "{file} differs");
    }
}

/// A loss in the layers of a classifier, with a discriminator: the preset trains, its loss is
/// measured again, and a classifier of other images is refused.
#[test]
fn a_classifier_makes_a_perceptual_loss() {
    let folder = Folder::new();
    let (pairs, out) = (folder.at("pairs"), folder.at("run"));
    done(&["pairs generate --teacher fashion-mnist --steps 2 --count 12 --out", &pairs]);
    let few = "--set train.iterations=3 --set train.batch=4 --set train.held_out=4 \
               --set train.validate_every=3";
    done(&["distill --preset fashion-mnist --pairs", &pairs, "--out", &out, few]);
    let student = folder.at("run/student.safetensors");
    let measure = |model: &str| {
        let values =
            json(&["evaluate --model", model, "--pairs", &pairs, "--metrics losses,paired --json"]);
        let of = |key: &str| values[key].as_f64().unwrap();
        // Terms of weight 1 add up; the distance is the squared error and what the classifier adds.
        let sum = of("latent") + of("rec") + of("push");
        assert!((of("total") - sum).abs() < 1e-5 * sum, "{values}");
        assert!(of("push") > of("coordinate_rmse").powi(2) + 0.01, "{values}");
    };
    measure(&student);
    let file = image_experiment(&folder);
    let out = folder.at("bad");
    let run = ["run", &file, "--out", &out, "--set", "loss.reconstruction=\"l2+features\""];
    let other = [&run[..], &["--set", "loss.features=\"fashion-mnist-loss\""]].concat();
    fails(&other, 1, &["fashion-mnist-loss", "1x32x32", "features train"]);
    fails(&run, 2, &["loss.features", "missing"]);
}
