//! Whole-program tests: what a person types, what they see, and what is left on the disk.
//!
//! Tests that compare with the original implementations need `../shared/reference` beside the
//! checkout, which users don't have; without it they say so and pass.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use kdm::data::{Array, array};
use serde_json::Value;

fn kdm(arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("kdm"));
    command.args(arguments).stdin(Stdio::null());
    for variable in ["SLURM_PROCID", "JOB_COMPLETION_INDEX", "OMPI_COMM_WORLD_RANK"] {
        command.env_remove(variable);
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command that must succeed; gives its standard output.
fn done(arguments: &[&str]) -> String {
    let output = kdm(arguments).output().unwrap();
    assert!(output.status.success(), "kdm {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs a command that must fail with `code` and one message that has all `parts`.
fn fails(arguments: &[&str], code: i32, parts: &[&str]) -> String {
    check_failure(&kdm(arguments).output().unwrap(), arguments, code, parts)
}

fn check_failure(output: &Output, arguments: &[&str], code: i32, parts: &[&str]) -> String {
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "kdm {arguments:?}: {message}");
    assert!(!message.contains("panicked"), "kdm {arguments:?}: {message}");
    assert_eq!(message.matches("error: ").count(), 1, "one message: {message}");
    for part in parts {
        assert!(message.contains(part), "kdm {arguments:?}: `{part}` is not in: {message}");
    }
    message
}

fn json(arguments: &[&str]) -> Value {
    let output = done(arguments);
    serde_json::from_str(&output)
        .unwrap_or_else(|e| panic!("one JSON object and nothing else: {e}: {output}"))
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn at(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }
}

/// Names and contents of a folder's files.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// The words of a command that draws pairs from the exact checkerboard in few steps.
fn generate<'a>(out: &'a str, count: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let base = [
        "pairs",
        "generate",
        "--teacher",
        "checkerboard",
        "--process",
        "flow",
        "--out",
        out,
        "--count",
        count,
    ];
    [&base[..], more].concat()
}

fn store(folder: &Folder, name: &str, count: &str, more: &[&str]) -> String {
    let out = folder.at(name);
    let steps: &[&str] = if more.contains(&"--steps") { &[] } else { &["--steps", "4"] };
    done(&generate(&out, count, &[steps, more].concat()));
    out
}

/// A small distillation's settings: seconds, with several checkpoints.
const SMALL: [&str; 16] = [
    "--set",
    "train.iterations=60",
    "--set",
    "train.batch=64",
    "--set",
    "train.held_out=200",
    "--set",
    "train.log_every=10",
    "--set",
    "train.validate_every=20",
    "--set",
    "train.checkpoint_every=10",
    "--set",
    "student.latent=32",
    "--set",
    "student.network={kind='mlp',hidden=32,layers=3}",
];

fn distill<'a>(pairs: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["distill", "--preset", "checkerboard", "--pairs", pairs, "--out", out], &SMALL[..], more]
        .concat()
}

fn reference(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {name} of the original implementations is not beside the checkout");
    None
}

fn write_rows(path: &Path, data: Vec<f32>, width: usize) -> String {
    array::write_npy(path, &Array::new([data.len() / width, width], data)).unwrap();
    path.to_string_lossy().into_owned()
}

// ---- the pair store ----

/// 50 000 pairs in other batches, with other threads, by two workers, and after being killed: the
/// same bytes.
#[test]
fn pairs_are_the_same_bits_however_they_are_drawn() {
    let folder = Folder::new();
    let count = "50000";
    let one = store(&folder, "one", count, &[]);
    let other = store(&folder, "other", count, &["--batch", "333", "--threads", "1"]);
    let expected = contents(Path::new(&one));
    assert_eq!(expected.len(), 8, "a manifest and seven shards");
    assert!(expected == contents(Path::new(&other)), "batch and threads");

    let shared = folder.at("shared");
    store(&folder, "shared", count, &["--shard", "1/2"]);
    fails(&["pairs", "verify", &shared], 1, &["manifest.json", "unfinished: 3 of 7", "again"]);
    store(&folder, "shared", count, &["--shard", "0/2"]);
    assert!(expected == contents(Path::new(&shared)), "two workers");

    // Scheduler variables name the worker.
    let slurm = folder.at("slurm");
    for rank in ["0", "1", "2"] {
        let arguments = generate(&slurm, "50000", &["--steps", "4"]);
        let status = kdm(&arguments)
            .env("SLURM_PROCID", rank)
            .env("SLURM_NTASKS", "3")
            .output()
            .unwrap()
            .status;
        assert!(status.success());
    }
    assert!(expected == contents(Path::new(&slurm)), "three workers of a scheduler");

    // Killed again and again, then left to finish.
    let killed = folder.at("killed");
    let arguments = generate(&killed, "50000", &["--steps", "4"]);
    for milliseconds in [15, 40, 70] {
        let mut child =
            kdm(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        let _ = child.kill();
        child.wait().unwrap();
    }
    done(&arguments);
    assert!(expected == contents(Path::new(&killed)), "killed and resumed");
    done(&["pairs", "verify", &killed, "--teacher", "checkerboard"]);
}

/// The resident memory of drawing pairs doesn't grow with their number.
#[test]
#[cfg(target_os = "linux")]
fn memory_is_flat_in_the_number_of_pairs() {
    let folder = Folder::new();
    let peak = |count: &str, name: &str| -> u64 {
        let out = folder.at(name);
        let arguments = generate(&out, count, &["--steps", "1"]);
        let mut child =
            kdm(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let status = PathBuf::from(format!("/proc/{}/status", child.id()));
        let mut peak = 0;
        while child.try_wait().unwrap().is_none() {
            let text = fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find(|l| l.starts_with("VmHWM:"));
            let kilobytes =
                line.and_then(|l| l.split_whitespace().nth(1)).and_then(|n| n.parse().ok());
            peak = peak.max(kilobytes.unwrap_or(0));
            std::thread::sleep(Duration::from_millis(5));
        }
        peak
    };
    let (few, many) = (peak("50000", "few"), peak("1000000", "many"));
    // A shard of 8192 points and a batch of 4096 are under a megabyte; completing maps one shard at
    // a time.
    assert!(many < few + 8_000, "{few} kB for 50 thousand, {many} kB for a million");
}

#[test]
fn damaged_stores_are_refused_and_mended() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "3000", &["--shard-size", "1000"]);
    let run = folder.at("run");
    let shard = folder.path("pairs").join("shard-00001.safetensors");
    let whole = fs::read(&shard).unwrap();

    let mut flipped = whole.clone();
    let last = flipped.len() - 5;
    flipped[last] ^= 0x10;
    fs::write(&shard, &flipped).unwrap();
    fails(
        &["pairs", "verify", &pairs],
        1,
        &["shard-00001.safetensors", "sha256", "delete that file"],
    );
    fails(&distill(&pairs, &run, &[]), 1, &["shard-00001.safetensors", "sha256"]);

    for length in [0, 7, 100, whole.len() - 1] {
        fs::write(&shard, &whole[..length]).unwrap();
        fails(
            &["pairs", "verify", &pairs],
            1,
            &["shard-00001.safetensors", "header", "delete that file"],
        );
    }
    // The mend of the message: only what is missing is drawn again.
    let before = fs::metadata(folder.path("pairs").join("shard-00000.safetensors"))
        .unwrap()
        .modified()
        .unwrap();
    fs::remove_file(&shard).unwrap();
    let manifest = folder.path("pairs").join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fails(&["pairs", "verify", &pairs], 1, &["shard-00001.safetensors", "cannot read"]);
    store(&folder, "pairs", "3000", &["--shard-size", "1000"]);
    assert_eq!(fs::read(&shard).unwrap(), whole);
    assert_eq!(
        fs::metadata(folder.path("pairs").join("shard-00000.safetensors"))
            .unwrap()
            .modified()
            .unwrap(),
        before
    );
    done(&["pairs", "verify", &pairs]);

    // The manifest edited, cut, of another version, or of another teacher.
    fs::write(&manifest, text.replace("\"noise_std\": 1.0", "\"noise_std\": 2.0")).unwrap();
    fails(&["pairs", "verify", &pairs], 1, &["manifest.json", "checksum"]);
    fs::write(&manifest, &text[..text.len() / 2]).unwrap();
    fails(&["pairs", "verify", &pairs], 1, &["manifest.json", "not JSON"]);
    fs::write(&manifest, text.replace("\"version\": 1", "\"version\": 9")).unwrap();
    fails(&["pairs", "info", &pairs], 1, &["manifest.json", "version: 9"]);
    fs::write(&manifest, &text).unwrap();
    fails(
        &["pairs", "verify", &pairs, "--teacher", "mixture"],
        1,
        &["manifest.json", "exact mixture"],
    );
    let other = [
        "pairs",
        "generate",
        "--teacher",
        "mixture",
        "--process",
        "flow",
        "--steps",
        "4",
        "--count",
        "3000",
        "--shard-size",
        "1000",
        "--out",
        &pairs,
    ];
    fails(&other, 1, &["manifest.json", "teacher", "mixture", "--out"]);
    assert_eq!(fs::read(&shard).unwrap(), whole, "nothing was lost");
}

#[test]
fn full_disks_read_only_folders_and_strange_folders() {
    let folder = Folder::new();
    let strange = folder.path("strange");
    fs::create_dir(&strange).unwrap();
    fs::write(strange.join("thesis.tex"), "years of work").unwrap();
    let strange_out = folder.at("strange");
    fails(&generate(&strange_out, "100", &[]), 1, &["strange", "thesis.tex", "new folder"]);
    fails(&distill("anywhere", &strange_out, &[]), 2, &["strange", "--out"]);

    // A folder below a file can't be made; /proc can't be written even by root.
    let below = folder.at("strange/thesis.tex/store");
    fails(&generate(&below, "100", &[]), 1, &["thesis.tex", "create"]);
    if Path::new("/proc/self").exists() {
        fails(&generate("/proc/store", "100", &[]), 1, &["/proc/store"]);
    }
    // A disk that fills: the system's limit on file sizes stands in for it.
    #[cfg(unix)]
    {
        let out = folder.at("full");
        let script = format!(
            "ulimit -f 8; trap '' XFSZ; exec \"{}\" pairs generate --teacher checkerboard \
             --process flow --steps 1 --count 40000 --out \"{out}\"",
            assert_cmd::cargo::cargo_bin!("kdm").display()
        );
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        check_failure(
            &output,
            &["with a full disk"],
            1,
            &["shard-00000.safetensors", "free some space"],
        );
        let names: Vec<String> =
            contents(&folder.path("full")).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["manifest.json"], "no part file is left");
        done(&generate(&out, "40000", &["--steps", "1"]));
    }
}

#[test]
fn pairs_are_filtered_exported_and_imported() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "2000", &["--steps", "18"]);
    let exported = folder.at("pairs.npz");
    done(&["pairs", "export", "--pairs", &pairs, "--out", &exported]);
    let again = folder.at("again");
    done(&["pairs", "import", &exported, "--out", &again]);
    done(&["pairs", "verify", &again]);
    let twice = folder.at("twice.npz");
    done(&["pairs", "export", "--pairs", &again, "--out", &twice]);
    assert_eq!(
        array::read_npz(Path::new(&exported)).unwrap(),
        array::read_npz(Path::new(&twice)).unwrap()
    );

    // Everything within 1.2 of the centre of one square goes, and nothing else does.
    let unwanted = write_rows(&folder.path("unwanted.npy"), vec![3.33, 3.33], 2);
    let near = folder.at("near");
    done(&[
        "pairs", "filter", "--pairs", &pairs, "--out", &near, "--near", &unwanted, "--radius",
        "1.2",
    ]);
    let kept = folder.at("near.npz");
    done(&["pairs", "export", "--pairs", &near, "--out", &kept]);
    let images = |path: &str| {
        array::read_npz(Path::new(path)).unwrap().into_iter().find(|(n, _)| n == "image").unwrap().1
    };
    let far = |p: &&[f32]| (p[0] - 3.33).hypot(p[1] - 3.33) > 1.2;
    let all = images(&exported);
    let expected: Vec<f32> = all.data.chunks(2).filter(far).flatten().copied().collect();
    assert!(expected.len() < all.data.len());
    assert_eq!(images(&kept).data, expected);
    let info = json(&["pairs", "info", &near, "--json"]);
    assert!(info["history"][0].as_str().unwrap().contains("unwanted"));

    let norm = folder.at("norm");
    done(&[
        "pairs",
        "filter",
        "--pairs",
        &pairs,
        "--out",
        &norm,
        "--above-norm",
        "3",
        "--outliers-above",
        "4",
    ]);
    let kept = folder.at("norm.npz");
    done(&["pairs", "export", "--pairs", &norm, "--out", &kept]);
    assert!(images(&kept).data.chunks(2).all(|p| p[0].hypot(p[1]) <= 3.0));
    fails(
        &["pairs", "filter", "--pairs", &pairs, "--out", &norm, "--below-norm", "99"],
        1,
        &["every pair would be dropped"],
    );
    fails(&["pairs", "filter", "--pairs", &pairs, "--out", &norm], 2, &["nothing to drop"]);

    // The official layout: (steps, points, 2), noise first.
    let path = folder.path("official.npy");
    let trajectory: Vec<f32> = (0..3 * 50 * 2).map(|i| (i as f32 * 0.7).sin()).collect();
    array::write_npy(&path, &Array::new([3, 50, 2], trajectory.clone())).unwrap();
    let official = folder.at("official");
    done(&["pairs", "import", &folder.at("official.npy"), "--out", &official, "--noise-std", "1"]);
    let exported = folder.at("official.npz");
    done(&["pairs", "export", "--pairs", &official, "--out", &exported]);
    assert_eq!(images(&exported).data, trajectory[200..]);
    fails(
        &["pairs", "import", &unwanted, "--out", &folder.at("x")],
        1,
        &["unwanted.npy", "layout"],
    );
}

// ---- distillation ----

/// A distillation killed at random moments and resumed ends in the same bytes as one never killed.
#[test]
fn a_killed_distillation_resumes_to_the_same_bits() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "1500", &[]);
    let (whole, killed) = (folder.at("whole"), folder.at("killed"));
    let longer = ["--set", "train.iterations=150"];
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
            let mut child =
                kdm(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
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
                line.as_object_mut().unwrap().remove("train/iterations_per_second");
                line
            })
            .collect()
    };
    assert_eq!(log("whole"), log("killed"));
}

#[test]
fn wrong_configurations_are_told_before_any_work() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "500", &[]);
    let run = folder.at("run");
    let preset = folder.path("mine.toml");
    let file = folder.at("mine.toml");
    let with = |text: &str| {
        fs::write(&preset, text).unwrap();
        ["distill", "--preset", &file, "--pairs", &pairs, "--out", &run].map(String::from).to_vec()
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
        &distill(&pairs, &run, &["--set", "train.held_out=500"]),
        2,
        &["train.held_out", "500 pairs"],
    );
    fails(
        &[
            "distill",
            "--preset",
            "checkerboard",
            "--pairs",
            &folder.at("none"),
            "--out",
            &folder.at("r2"),
        ],
        1,
        &["none", "check the path"],
    );

    // An existing run: refused without --resume, and with it when the configuration is another.
    let run = folder.at("kept");
    done(&distill(&pairs, &run, &[]));
    let before = contents(Path::new(&run));
    fails(&distill(&pairs, &run, &[]), 2, &["kept", "--resume"]);
    fails(
        &distill(&pairs, &run, &["--resume", "--set", "train.lr=0.5"]),
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
    for arguments in [&["frobnicate"][..], &["sample"], &["distill", "--pairs"]] {
        assert_eq!(kdm(arguments).output().unwrap().status.code(), Some(2));
    }
}

#[test]
fn nan_in_training_stops_with_the_checkpoint_kept() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "500", &[]);
    let run = folder.at("run");
    // A rate so high that weights overflow within a few iterations after the warm-up.
    let wild = [
        "--set",
        "train.lr=1e30",
        "--set",
        "train.warmup=0",
        "--set",
        "train.checkpoint_every=1",
        "--set",
        "train.schedule=constant",
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
    // The paper's way: replaced and counted.
    let other = folder.at("other");
    let replaced = [&wild[..], &["--set", "train.non_finite=replace"]].concat();
    let output = kdm(&distill(&pairs, &other, &replaced)).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("were replaced in"), "{}", text(&output.stderr));
}

// ---- samples, evaluation, analysis ----

#[test]
fn every_kind_of_student_goes_the_whole_way() {
    let folder = Folder::new();
    for (name, more) in [
        ("dense", vec![]),
        ("huber-push", vec!["--set", "loss.reconstruction=huber", "--set", "loss.push_weight=1"]),
        (
            "factorized",
            vec![
                "--set",
                "student.operator.kind=factorized",
                "--set",
                "loss.eigenvalues=one",
                "--set",
                "student.operator.projection=16",
            ],
        ),
        ("eigen", vec!["--set", "loss.eigenvalues=uniform"]),
        (
            "control",
            vec![
                "--set",
                "teacher.data.conditional=true",
                "--set",
                "student.operator.control=true",
            ],
        ),
    ] {
        let run = folder.at(name);
        let settings = [
            "--set",
            "teacher.kind=exact",
            "--set",
            "pairs.count=1200",
            "--set",
            "pairs.test=300",
            "--set",
            "pairs.steps=6",
            "--set",
            "evaluate.clusters=300",
        ];
        let values = json(
            &[&["run", "checkerboard", "--out", &run, "--json"], &SMALL[..], &settings, &more]
                .concat(),
        );
        for key in [
            "rmse",
            "median_error",
            "sliced_wasserstein2",
            "energy_distance",
            "off_board",
            "teacher_off_board",
            "latent",
            "rec",
            "push",
            "total",
        ] {
            assert!(values[key].as_f64().is_some_and(f64::is_finite), "{name}: {key} of {values}");
        }
        let page = fs::read_to_string(folder.path(name).join("report.html")).unwrap();
        assert!(page.matches("data:image/png;base64,").count() >= 6, "{name}");
        // A finished run resumes to itself.
        let student = fs::read(folder.path(name).join("student.safetensors")).unwrap();
        json(
            &[
                &["run", "checkerboard", "--out", &run, "--json", "--resume"],
                &SMALL[..],
                &settings,
                &more,
            ]
            .concat(),
        );
        assert!(student == fs::read(folder.path(name).join("student.safetensors")).unwrap());
        assert_eq!(json(&["info", &run, "--json"])["iteration"], 60);
    }
    // Points that are not in the plane: numbers and the spectrum, and no scatter.
    let solid = folder.path("solid.toml");
    let text = "base = 'checkerboard'\n[teacher]\nkind = 'exact'\n[teacher.data]\nname = 'gaussian'\nmean = [0.0, 1.0, 2.0]\n\
                covariance = [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.5]]\n[pairs]\ncount \
                = 600\ntest = 100";
    fs::write(&solid, text).unwrap();
    let values = json(
        &[&["run", &folder.at("solid.toml"), "--out", &folder.at("solid"), "--json"], &SMALL[..]]
            .concat(),
    );
    assert!(
        values["rmse"].as_f64().is_some_and(f64::is_finite) && values["off_board"].is_null(),
        "{values}"
    );
    let model = folder.at("solid/student.safetensors");
    fails(
        &["sample", "--model", &model, "--n", "4", "--out", &folder.at("a.png")],
        2,
        &["3 numbers", ".npz"],
    );

    // Conditional samples: by class, by labels, by seed; and what is impossible.
    let model = folder.at("control/student.safetensors");
    let (a, b) = (folder.at("a.npz"), folder.at("b.npy"));
    done(&["sample", "--model", &model, "--seeds", "0-5", "--class", "3", "--out", &a]);
    let arrays = array::read_npz(Path::new(&a)).unwrap();
    let get = |name: &str| arrays.iter().find(|(n, _)| n == name).unwrap().1.clone();
    let labels = folder.path("labels.npy");
    array::write_npy(&labels, &get("labels")).unwrap();
    let noise = folder.path("noise.npy");
    array::write_npy(&noise, &get("noise")).unwrap();
    done(&[
        "sample",
        "--model",
        &model,
        "--noise",
        &folder.at("noise.npy"),
        "--labels",
        &folder.at("labels.npy"),
        "--out",
        &b,
    ]);
    assert_eq!(array::read_npy(Path::new(&b)).unwrap(), get("samples"));
    fails(
        &["sample", "--model", &model, "--n", "4", "--class", "8", "--out", &b],
        2,
        &["--class 8", "0 to 7"],
    );
    fails(
        &["sample", "--model", &model, "--noise", &folder.at("noise.npy"), "--out", &b],
        2,
        &["--labels"],
    );
    let plain = folder.at("dense/student.safetensors");
    fails(
        &["sample", "--model", &plain, "--n", "4", "--class", "1", "--out", &b],
        2,
        &["unconditional"],
    );
}

#[test]
fn samples_depend_on_their_seed_alone_and_come_in_every_form() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "500", &[]);
    let run = folder.at("run");
    done(&distill(&pairs, &run, &[]));
    let model = folder.at("run/student.safetensors");
    let rows = |seeds: &str| {
        let out = folder.at("s.npy");
        done(&["sample", "--model", &model, "--seeds", seeds, "--out", &out]);
        array::read_npy(Path::new(&out)).unwrap().data
    };
    let many = rows("0-599");
    assert_eq!(rows("7"), many[14..16]);
    assert_eq!(rows("590-599,3"), [&many[1180..1200], &many[6..8]].concat());
    done(&[
        "sample",
        "--model",
        &model,
        "--seeds",
        "5-8",
        "--n",
        "2",
        "--out",
        &folder.at("s.npy"),
    ]);
    assert_eq!(array::read_npy(&folder.path("s.npy")).unwrap().data, many[10..14]);
    let png = folder.at("s.png");
    fails(
        &["sample", "--model", &model, "--seeds", "5-8", "--n", "9", "--out", &png],
        2,
        &["--n 9", "lists 4"],
    );
    done(&["sample", "--model", &model, "--n", "100", "--out", &png]);
    assert_eq!(&fs::read(&png).unwrap()[..8], b"\x89PNG\r\n\x1a\n");
    let both = folder.at("samples");
    done(&["sample", "--model", &model, "-n", "100", "--out", &both]);
    assert!(
        folder.path("samples/samples.npy").exists() && folder.path("samples/samples.png").exists()
    );
    fails(
        &["sample", "--model", &model, "--n", "4", "--out", &folder.at("s.gif")],
        2,
        &[".gif", ".npy"],
    );
    fails(
        &["sample", "--model", &folder.at("none.safetensors"), "--n", "4", "--out", &png],
        1,
        &["none.safetensors", "check the path"],
    );
    let wrong = write_rows(&folder.path("wrong.npy"), vec![0.0; 9], 3);
    fails(
        &["sample", "--model", &model, "--noise", &wrong, "--out", &png],
        1,
        &["wrong.npy", "shape", "2 values"],
    );
    let nan = write_rows(&folder.path("nan.npy"), vec![0.0, f32::NAN], 2);
    fails(&["sample", "--model", &model, "--noise", &nan, "--out", &png], 1, &["nan.npy", "row 0"]);
    // A checkpoint and a teacher are no students.
    fails(
        &["sample", "--model", &folder.at("run/checkpoint.safetensors"), "--n", "4", "--out", &png],
        1,
        &["checkpoint", "a student is needed"],
    );

    let values =
        json(&["evaluate", "--model", &model, "--pairs", &pairs, "--metrics", "losses", "--json"]);
    let keys: Vec<&str> = values.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["latent", "pairs", "push", "rec", "total"]);
    let of = |key: &str| values[key].as_f64().unwrap();
    // The checkerboard preset leaves the push term out of the sum.
    assert!((of("total") - of("latent") - of("rec")).abs() < 1e-6 * of("total"));
    let analysis = json(&[
        "analyze",
        "--model",
        &model,
        "--pairs",
        &pairs,
        "--out",
        &folder.at("analysis"),
        "--json",
    ]);
    assert_eq!(analysis["eigenvalues"].as_array().unwrap().len(), 32);
    // The validation log follows the spectrum; its last line is of the weights that are analysed or
    // older ones.
    let lines = fs::read_to_string(folder.path("run/metrics.jsonl")).unwrap();
    let last: Value =
        serde_json::from_str(lines.lines().rfind(|l| l.contains("modulus_1\"")).unwrap()).unwrap();
    let moduli: Vec<f64> =
        (0..6).map(|i| last[format!("validation/modulus_{}", 1 << i)].as_f64().unwrap()).collect();
    assert!(moduli.is_sorted_by(|a, b| a >= b) && moduli[5] >= 0.0, "{moduli:?}");
    assert!(
        folder.path("analysis/report.html").exists()
            && folder.path("analysis/eigenvalues.npy").exists()
    );
    // Pairs of another kind.
    let other = folder.at("diffusion");
    done(&["pairs", "generate", "--teacher", "checkerboard", "--count", "100", "--out", &other]);
    fails(&["evaluate", "--model", &model, "--pairs", &other], 1, &["diffusion", "deviation"]);
    // A reader that goes away is no failure of ours.
    assert!(json(&["info", &model, "--json"])["kind"] == "student");
}

// ---- teachers ----

/// For a Gaussian both commands have closed forms.
#[test]
fn teachers_denoise_and_sample_as_the_closed_form_says() {
    let folder = Folder::new();
    let teacher =
        kdm::teacher::Gaussian::new(vec![0.5, -0.5], vec![vec![1.0, 0.6], vec![0.6, 0.5]]).unwrap();
    let data = vec![0.3, -1.0, 2.0, 0.1, -0.7, 0.9];
    let eps = write_rows(&folder.path("eps.npy"), data.clone(), 2);
    let wide: Vec<f64> = data.iter().map(|e| f64::from(*e)).collect();
    let out = folder.at("out.npy");
    let close = |expected: &[f64], tolerance: f64| {
        let found = array::read_npy(Path::new(&out)).unwrap();
        for (a, b) in found.data.iter().zip(expected) {
            assert!((f64::from(*a) - b).abs() < tolerance, "{a} {b}");
        }
    };
    done(&[
        "teacher", "denoise", "--model", "gaussian", "--input", &eps, "--sigma", "0.7", "--out",
        &out,
    ]);
    let level = kdm::teacher::Level { alpha: 1.0, sigma: 0.7 };
    close(&kdm::teacher::Denoiser::denoise(&teacher, &wide, level, &[]), 1e-6);
    done(&[
        "teacher", "sample", "--model", "gaussian", "--noise", &eps, "--solver", "heun", "--steps",
        "200", "--out", &out,
    ]);
    let start: Vec<f64> = wide.iter().map(|e| 80.0 * e).collect();
    // 200 Heun steps leave an error of second order, about 1e-4.
    close(&teacher.flow(&start, kdm::teacher::Level { alpha: 1.0, sigma: 80.0 }), 1e-3);
    fails(
        &[
            "teacher", "denoise", "--model", "gaussian", "--input", &eps, "--sigma", "0", "--out",
            &out,
        ],
        2,
        &["--sigma 0"],
    );
    fails(
        &[
            "teacher", "denoise", "--model", "gausian", "--input", &eps, "--sigma", "1", "--out",
            &out,
        ],
        2,
        &["gausian", "gaussian"],
    );
    fails(
        &[
            "teacher",
            "sample",
            "--model",
            "gaussian",
            "--noise",
            &eps,
            "--sigma-min",
            "90",
            "--out",
            &out,
        ],
        2,
        &["--sigma-max"],
    );
}

/// A trained teacher: killed and resumed it ends in the same bits, and its pairs don't depend on
/// batch and threads.
#[test]
fn trained_teachers_resume_and_draw_the_same_pairs() {
    let folder = Folder::new();
    let settings = [
        "--set",
        "teacher.train.iterations=120",
        "--set",
        "teacher.train.batch=128",
        "--set",
        "teacher.hidden=48",
        "--set",
        "train.checkpoint_every=20",
        "--set",
        "train.validate_every=50",
        "--set",
        "train.log_every=10",
    ];
    let (whole, killed) = (folder.at("whole"), folder.at("killed"));
    done(
        &[&["teacher", "train", "--preset", "checkerboard", "--out", &whole], &settings[..]]
            .concat(),
    );
    for (part, milliseconds) in [150, 300].into_iter().enumerate() {
        let resume: &[&str] = if part == 0 { &[] } else { &["--resume"] };
        let arguments = [
            &["teacher", "train", "--preset", "checkerboard", "--out", &killed],
            &settings[..],
            resume,
        ]
        .concat();
        let mut child =
            kdm(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        let _ = child.kill();
        child.wait().unwrap();
    }
    done(
        &[
            &["teacher", "train", "--preset", "checkerboard", "--out", &killed, "--resume"],
            &settings[..],
        ]
        .concat(),
    );
    let teacher = folder.at("whole/teacher.safetensors");
    assert!(
        fs::read(&teacher).unwrap() == fs::read(folder.path("killed/teacher.safetensors")).unwrap()
    );

    let generate = |name: &str, more: &[&str]| {
        let out = folder.at(name);
        done(
            &[
                &[
                    "pairs",
                    "generate",
                    "--teacher",
                    &teacher,
                    "--steps",
                    "3",
                    "--count",
                    "3000",
                    "--shard-size",
                    "1024",
                    "--out",
                    &out,
                ],
                more,
            ]
            .concat(),
        );
        contents(Path::new(&out))
    };
    let one = generate("one", &[]);
    assert!(one == generate("two", &["--batch", "100", "--threads", "1"]), "batch and threads");
    assert!(one == generate("three", &["--batch", "1000", "--threads", "3"]), "batch and threads");
}

// ---- the rest of the command line ----

#[test]
fn dry_runs_presets_benches_and_completions() {
    let folder = Folder::new();
    let printed = done(&["run", "checkerboard-paper", "--dry-run", "--set", "seed=7"]);
    assert!(printed.contains("iterations = 20001") && printed.contains("seed = 7"));
    // What a dry run prints is itself a file to run.
    let file = folder.at("resolved.toml");
    fs::write(&file, &printed).unwrap();
    assert_eq!(done(&["run", &file, "--dry-run"]), printed);
    assert!(done(&["presets"]).contains("checkerboard-paper"));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(done(&["completions", shell]).contains("kdm"));
    }
    for what in ["sample", "train"] {
        let value = json(&[
            "bench",
            what,
            "--preset",
            "checkerboard",
            "--batch",
            "32",
            "--iters",
            "3",
            "--json",
        ]);
        for key in ["median_ms", "ms_per_image", "gflops", "peak_rss_bytes"] {
            assert!(value[key].as_f64().is_some_and(|v| v > 0.0), "{key} of {value}");
        }
    }
    fails(&["bench", "sample", "--preset", "checkerboard", "--batch", "0"], 2, &["--batch"]);
    fails(&["info", &folder.at("")], 1, &["manifest.json", "config.toml"]);
}

// ---- foreign files ----

/// The paper's trained checkerboard student: imported, it draws what the official code drew.
#[test]
fn the_official_checkerboard_is_reproduced() {
    let (Some(checkpoint), Some(golden)) =
        (reference("kdm_checkerboard.pt"), reference("kdm_checkerboard.golden.npz"))
    else {
        return;
    };
    let folder = Folder::new();
    let model = folder.at("official.safetensors");
    let found = done(&["import", &checkpoint.to_string_lossy(), "--out", &model]);
    assert!(
        found.contains("KoopmanDistillModelCheckerBoard") && found.contains("858114 numbers"),
        "{found}"
    );
    let arrays = array::read_npz(&golden).unwrap();
    let get = |name: &str| &arrays.iter().find(|(n, _)| n == name).unwrap().1;
    let noise = folder.path("xT.npy");
    array::write_npy(&noise, get("xT")).unwrap();
    let out = folder.at("y.npy");
    done(&["sample", "--model", &model, "--noise", &folder.at("xT.npy"), "--out", &out]);
    let found = array::read_npy(Path::new(&out)).unwrap();
    let largest =
        found.data.iter().zip(&get("y").data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let rms = {
        let squares = found.data.iter().zip(&get("y").data).map(|(a, b)| f64::from(a - b).powi(2));
        (squares.sum::<f64>() / found.data.len() as f64).sqrt()
    };
    eprintln!("official checkerboard: largest difference {largest:e}, root mean square {rms:e}");
    // Samples have standard deviation 2.56. The golden values are f32 themselves: the same network
    // in f64 differs from them by up to 1.95e-5 at the few samples where the student is steepest.
    assert!(rms < 1e-5 && largest < 1e-5 * 2.56, "largest {largest:e}, rms {rms:e}");
    let analysis = json(&["analyze", "--model", &model, "--out", &folder.at("analysis"), "--json"]);
    let radius = analysis["spectral_radius"].as_f64().unwrap();
    assert!((radius - 0.166_336_28).abs() < 1e-5, "{radius}");
}

#[test]
fn hostile_and_damaged_foreign_files_are_refused() {
    use std::io::Write;
    let folder = Folder::new();
    let out = folder.at("out.safetensors");
    let path = folder.at("evil.pt");
    let archive = |pickle: &[u8]| {
        let mut writer = zip::ZipWriter::new(fs::File::create(&path).unwrap());
        let stored = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        writer.start_file("model/data.pkl", stored).unwrap();
        writer.write_all(pickle).unwrap();
        writer.finish().unwrap();
    };
    archive(
        b"\x80\x02cposix\nsystem\nq\x00X\x16\x00\x00\x00touch \
              /tmp/kdm-was-hereq\x01\x85q\x02Rq\x03.",
    );
    fails(&["import", &path, "--out", &out], 1, &["evil.pt", "posix.system", "nothing was run"]);
    archive(b"\x80\x02]q\x00h\x05.");
    fails(&["import", &path, "--out", &out], 1, &["evil.pt", "data.pkl", "damaged"]);
    archive(b"\x80\x02}q\x00.");
    fails(&["import", &path, "--out", &out], 1, &["evil.pt", "no network"]);
    fs::write(&path, b"not a zip").unwrap();
    fails(&["import", &path, "--out", &out], 1, &["evil.pt", "zip"]);
    assert!(!Path::new(&out).exists());
    let Some(checkpoint) = reference("kdm_checkerboard.pt") else { return };
    let whole = fs::read(checkpoint).unwrap();
    for length in [100, whole.len() / 2, whole.len() - 10] {
        fs::write(&path, &whole[..length]).unwrap();
        fails(&["import", &path, "--out", &out], 1, &["evil.pt"]);
    }
    // Bits flipped in the structure: a message or a model, never a panic.
    for i in (0..20_000.min(whole.len())).step_by(1500) {
        let mut bytes = whole.clone();
        bytes[i] ^= 0x20;
        fs::write(&path, &bytes).unwrap();
        let output = kdm(&["import", &path, "--out", &out]).output().unwrap();
        assert!(matches!(output.status.code(), Some(0 | 1)), "byte {i}: {}", text(&output.stderr));
    }
    let Some(other) = reference("edm_adm_cond.pkl") else { return };
    let other = other.to_string_lossy().into_owned();
    fails(
        &["import", &other, "--out", &out, "--format", "diffusers"],
        1,
        &["edm_adm_cond.pkl", "folder"],
    );
    fails(&["import", &other, "--out", &out, "--format", "kdm"], 1, &["edm_adm_cond.pkl", "EDM"]);
}

// ---- images ----

/// Bars whose class is their direction, as a .zip in the layout of EDM's data sets.
fn image_zip(path: &Path, count: usize, side: u32, classes: usize) {
    use std::io::Write;
    let mut archive = zip::ZipWriter::new(fs::File::create(path).unwrap());
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut labels = Vec::new();
    for i in 0..count {
        let (class, place) = (i % 2, (i / 2) as u32 % side);
        let image = image::GrayImage::from_fn(side, side, |x, y| {
            let at = if class == 0 { x } else { y };
            image::Luma([if at == place { 255 } else { 20 }])
        });
        let mut png = std::io::Cursor::new(Vec::new());
        image.write_to(&mut png, image::ImageFormat::Png).unwrap();
        let name = format!("00000/img{i:08}.png");
        archive.start_file(name.clone(), stored).unwrap();
        archive.write_all(png.get_ref()).unwrap();
        labels.push(serde_json::json!([name, i % classes]));
    }
    archive.start_file("dataset.json", stored).unwrap();
    archive.write_all(serde_json::json!({"labels": labels}).to_string().as_bytes()).unwrap();
    archive.finish().unwrap();
}

/// A whole experiment on 8x8 images: seconds.
fn image_experiment(folder: &Folder) -> String {
    let zip = folder.path("bars.zip");
    image_zip(&zip, 32, 8, 2);
    let text = format!(
        r#"
name = "bars"
[teacher]
kind = "network"
dataset = "{}"
[teacher.network]
architecture = "song-unet"
resolution = 8
in_channels = 1
out_channels = 1
label_dim = 2
augment_dim = 9
label_dropout = 0.1
model_channels = 8
channel_mult = [1, 2]
num_blocks = 1
attn_resolutions = [4]
dropout = 0.1
[teacher.train]
iterations = 30
batch = 8
ema_rampup = 0.05
augment = 0.12
[pairs]
count = 48
test = 16
steps = 4
dtype = "f16"
batch = 16
shard_size = 20
guidance = 1.5
process = {{ kind = "diffusion", sigma_min = 0.002, sigma_max = 80.0, rho = 7.0 }}
[student]
latent = 64
operator = {{ kind = "factorized", control = true, projection = 16 }}
[student.network]
kind = "unet"
model_channels = 8
channel_mult = [1, 2]
num_blocks = 1
attn_resolutions = [4]
dropout = 0.1
[loss]
eigenvalues = "gradual"
reconstruction = "huber"
[train]
iterations = 12
batch = 8
held_out = 8
log_every = 4
validate_every = 6
checkpoint_every = 3
"#,
        zip.display()
    );
    let path = folder.path("bars.toml");
    fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

/// From a data set of images to a report: teacher training with augmentation and label dropout,
/// guided pairs, a conditional student with control; and what is left can be sampled, measured and
/// resumed.
#[test]
fn images_go_the_whole_way() {
    let folder = Folder::new();
    let file = image_experiment(&folder);
    let run = folder.at("run");
    let values = json(&["run", &file, "--out", &run, "--json"]);
    for key in ["rmse", "latent", "rec", "push", "eigen", "total", "sliced_wasserstein2"] {
        assert!(values[key].as_f64().is_some_and(f64::is_finite), "{key}: {values}");
    }
    let report = fs::read_to_string(folder.path("run/report.html")).unwrap();
    for figure in [
        "One-step images of the student",
        "one class a column",
        "between their noises",
        "between their latents",
    ] {
        assert!(report.contains(figure), "{figure}");
    }
    let student = folder.at("run/student.safetensors");
    let teacher = folder.at("run/teacher/teacher.safetensors");

    // Pictures: a grid, and one each, named by seed.
    let grid = folder.at("grid.png");
    done(&["sample", "--model", &student, "--n", "6", "--class", "1", "--out", &grid]);
    let picture = image::open(&grid).unwrap();
    assert_eq!((picture.width(), picture.height()), (3 * 8 + 2 * 2, 2 * 8 + 2));
    done(&["sample", "--model", &student, "--seeds", "3,11", "--out", &folder.at("each")]);
    for name in ["000003.png", "000011.png"] {
        assert_eq!(image::open(folder.path("each").join(name)).unwrap().width(), 8);
    }

    // A teacher's samples with guidance and churn; weight 1 and no churn are the plain ones.
    let noise = write_rows(&folder.path("eps.npy"), kdm::random::normal_vec(5, 3 * 64), 64);
    let labels = write_rows(&folder.path("labels.npy"), vec![1.0, 0.0, 0.0, 1.0, 1.0, 0.0], 2);
    let draw = |more: &[&str]| {
        let out = folder.at("x0.npy");
        let plain = [
            "teacher", "sample", "--model", &teacher, "--noise", &noise, "--labels", &labels,
            "--steps", "4",
        ];
        done(&[&plain[..], &["--out", &out], more].concat());
        let samples = array::read_npy(Path::new(&out)).unwrap();
        assert_eq!(samples.shape, [3, 1, 8, 8]);
        samples
    };
    let plain = draw(&[]);
    assert_eq!(draw(&["--guidance", "1"]), plain);
    assert_ne!(draw(&["--guidance", "3"]), plain);
    assert_ne!(draw(&["--churn", "10"]), plain);
    assert_eq!(draw(&["--churn", "10"]), draw(&["--churn", "10"]));
    let common = [
        "teacher", "sample", "--model", &teacher, "--noise", &noise, "--out", "x.npy", "--churn",
        "1",
    ];
    fails(&[&common[..], &["--solver", "euler"]].concat(), 2, &["--churn", "heun"]);

    // The store remembers the guidance; and the pairs go on being drawn by it alone.
    let info = json(&["info", &folder.at("run/pairs"), "--json"]);
    assert_eq!(info["sampling"]["guidance"], 1.5);
    fails(&["run", &file, "--out", &run], 2, &["not empty", "--resume"]);
}

/// Adversarial training on 32x32 images, killed after a checkpoint and resumed: the same bytes,
/// discriminator included.
#[test]
fn adversarial_training_resumes_to_the_same_bytes() {
    let folder = Folder::new();
    let (count, dim) = (24, 3 * 32 * 32);
    let draw = |seed, scale: f32| -> Vec<f32> {
        kdm::random::normal_vec(seed, count * dim).iter().map(|x| scale * x).collect()
    };
    let shape = [count, 3, 32, 32];
    let (noise, images) = (Array::new(shape, draw(1, 80.0)), Array::new(shape, draw(2, 0.5)));
    array::write_npz(&folder.path("pairs.npz"), &[("noise", &noise), ("image", &images)]).unwrap();
    let pairs = folder.at("pairs");
    done(&["pairs", "import", &folder.at("pairs.npz"), "--out", &pairs]);
    let distill = |out: &str, more: &[&str]| {
        let out = folder.at(out);
        let network = "student.network={kind='unet',model_channels=8,channel_mult=[1,1],num_blocks=1,attn_resolutions=[16],dropout=0.1}";
        let small = [
            "train.iterations=6",
            "train.batch=4",
            "train.held_out=4",
            "train.log_every=2",
            network,
        ];
        let small = [&small[..], &["train.checkpoint_every=2", "train.validate_every=3"]].concat();
        let mut arguments =
            vec!["distill", "--preset", "cifar10-uncond", "--pairs", &pairs, "--out", &out];
        small.iter().for_each(|setting| arguments.extend(["--set", setting]));
        arguments.extend(more);
        kdm(&arguments)
    };
    let whole = distill("whole", &[]).output().unwrap();
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    let log = fs::read_to_string(folder.path("whole/metrics.jsonl")).unwrap();
    assert!(log.contains("train/adversarial") && log.contains("train/discriminator"), "{log}");

    let mut child =
        distill("parts", &[]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let checkpoint = folder.path("parts/checkpoint.safetensors");
    while !checkpoint.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    child.wait().unwrap();
    let resumed = distill("parts", &["--resume"]).output().unwrap();
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
    for file in ["student.safetensors", "last.safetensors", "checkpoint.safetensors"] {
        let read = |run: &str| fs::read(folder.path(run).join(file)).unwrap();
        assert!(read("whole") == read("parts"), "{file} differs");
    }
}

/// The official folders of image pairs, in all their layouts.
#[test]
fn folders_of_image_pairs_are_imported() {
    let folder = Folder::new();
    let size = 3 * 4 * 4;
    let draw = |seed: u64, std: f32| -> Vec<f32> {
        kdm::random::normal_vec(seed, size).iter().map(|x| std * x).collect()
    };
    let layouts: [(&str, &str, bool, f32); 4] = [
        ("cifar", "arr_0", false, 80.0),
        ("ffhq", "arr_0", true, 80.0),
        ("flow", "arr1", true, 1.0),
        ("conditional", "endpoints", true, 80.0),
    ];
    for (name, array_name, image_first, std) in layouts {
        let source = folder.path(name);
        fs::create_dir(&source).unwrap();
        for i in 0..5u64 {
            let (noise, image) = (draw(i, std), draw(100 + i, 0.5));
            let (a, b) = if image_first { (&image, &noise) } else { (&noise, &image) };
            let path = Array::new([2, 3, 4, 4], [a.as_slice(), b].concat());
            let label = Array::new([1], vec![(i % 3) as f32]);
            let mut arrays = vec![(array_name, &path)];
            if array_name == "endpoints" {
                arrays.push(("label", &label));
            }
            array::write_npz(&source.join(format!("{i:06}.npz")), &arrays).unwrap();
        }
        let store = folder.at(&format!("{name}-store"));
        let told = done(&[
            "pairs",
            "import",
            &source.to_string_lossy(),
            "--out",
            &store,
            "--shard-size",
            "2",
        ]);
        assert!(told.contains("5 pairs of shape [3, 4, 4]"), "{told}");
        let exported = folder.path("out.npz");
        done(&["pairs", "export", "--pairs", &store, "--out", &exported.to_string_lossy()]);
        let arrays = array::read_npz(&exported).unwrap();
        let get =
            |wanted: &str| arrays.iter().find(|(n, _)| n == wanted).map(|(_, a)| a.data.clone());
        let (noise, image) = (get("noise").unwrap(), get("image").unwrap());
        assert_eq!(
            (&noise[3 * size..4 * size], &image[3 * size..4 * size]),
            (&draw(3, std)[..], &draw(103, 0.5)[..]),
            "{name}"
        );
        let labels = (array_name == "endpoints").then(|| vec![0.0, 1.0, 2.0, 0.0, 1.0]);
        assert_eq!(get("label"), labels);
    }
    // Ends that deviate alike don't tell which is noise.
    let source = folder.path("alike");
    fs::create_dir(&source).unwrap();
    let path = Array::new([2, 3, 4, 4], [draw(1, 1.0), draw(2, 1.0)].concat());
    array::write_npz(&source.join("0.npz"), &[("arr_0", &path)]).unwrap();
    let store = folder.at("alike-store");
    fails(&["pairs", "import", &source.to_string_lossy(), "--out", &store], 1, &["arr_0", "alike"]);
}

/// Every preset says its size and cost, and its dry run is a file that can be used.
#[test]
fn presets_tell_their_cost() {
    let folder = Folder::new();
    let told = done(&["run", "cifar10-uncond", "--dry-run"]);
    assert!(told.contains("# student: 47476165 parameters; latent of 1024 numbers"), "{told}");
    assert!(told.contains("# one-step sample: 11.019 GFLOP a sample"), "{told}");
    for name in ["checkerboard-paper", "cifar10-cond", "cifar10-factorized", "ffhq64", "afhqv2-64"]
    {
        let told = done(&["distill", "--preset", name, "--pairs", "-", "--out", "-", "--dry-run"]);
        assert!(told.contains("parameters") && told.contains("FLOP a sample"), "{told}");
        let file = folder.path(&format!("{name}.toml"));
        fs::write(&file, &told).unwrap();
        assert_eq!(done(&["run", &file.to_string_lossy(), "--dry-run"]), told, "{name}");
    }
    fails(
        &["run", "ffhq64", "--out", &folder.at("run")],
        2,
        &["teacher.path", "ffhq64.safetensors", "kdm import"],
    );
}

/// Data sets are told of, written in other forms, and read again; what is missing says what to do.
#[test]
fn data_sets_are_told_of_and_written() {
    let folder = Folder::new();
    let shapes = json(&["data", "info", "shapes", "--split", "test", "--json"]);
    assert_eq!(
        (&shapes["images"], &shapes["shape"]),
        (&Value::from(10_000), &serde_json::json!([3, 32, 32]))
    );
    assert_eq!(shapes["classes"], serde_json::json!(["disc", "square", "triangle", "cross"]));
    let (zip, npz, png) = (folder.at("s.zip"), folder.at("s.npz"), folder.at("s.png"));
    for (out, n) in [(&zip, "6"), (&npz, "6"), (&png, "6")] {
        done(&["data", "export", "shapes", "-n", n, "--out", out]);
    }
    assert_eq!(image::open(&png).unwrap().width(), 3 * 32 + 2 * 2);
    let told = json(&["data", "info", &zip, "--json"]);
    assert_eq!((&told["images"], told["classes"].as_array().unwrap().len()), (&Value::from(6), 4));
    let arrays = array::read_npz(Path::new(&npz)).unwrap();
    assert!(arrays.iter().any(|(name, a)| name == "images" && a.shape == [6, 3, 32, 32]));
    fails(&["data", "info", &zip, "--split", "test"], 1, &["s.zip", "no test images"]);
    fails(&["data", "info", "nothing-here"], 1, &["nothing-here", "fashion-mnist", "shapes"]);
    fails(&["data", "export", "shapes", "--pad", "8", "--out", &png], 2, &["--pad 8", "32x32"]);
    fails(&["data", "export", "shapes", "--out", &folder.at("s.gif")], 2, &[".png, .npz or .zip"]);
}

/// A feature network trained on a data set, its statistics, and their cache; an interrupted
/// training goes on.
#[test]
fn feature_networks_are_trained_and_statistics_made() {
    let folder = Folder::new();
    let zip = folder.at("some.zip");
    done(&["data", "export", "shapes", "-n", "120", "--out", &zip]);
    let out = folder.at("features");
    let train = [
        "features",
        "train",
        "--data",
        &zip,
        "--test-data",
        &zip,
        "--width",
        "4",
        "--batch",
        "20",
        "--out",
        &out,
    ];
    let trained = json(&[&train[..], &["--epochs", "20", "--json"]].concat());
    // Four classes: a quarter are right by chance.
    assert!(trained["accuracy"].as_f64().unwrap() > 0.5, "{trained}");
    let (features, stats) =
        (folder.at("features/features.safetensors"), folder.at("stats.safetensors"));
    done(&["features", "stats", "--features", &features, "--data", &zip, "--out", &stats]);
    assert_eq!(json(&["info", &stats, "--json"])["config"]["origin"]["data"], "some");
    done(&[
        "features",
        "stats",
        "--features",
        &features,
        "--data",
        &zip,
        "--out",
        &folder.at("stats.npz"),
    ]);
    let half = folder.at("half.safetensors");
    done(&["convert", &features, "--out", &half]);
    assert!(fs::metadata(&half).unwrap().len() < fs::metadata(&features).unwrap().len() * 6 / 10);
    fails(&["convert", &folder.at("stats.npz"), "--out", &half], 1, &["stats.npz"]);
    fails(
        &["features", "stats", "--features", "nothing", "--data", &zip, "--out", &stats],
        2,
        &["fashion-mnist"],
    );
    let few = [
        "features",
        "stats",
        "--features",
        &features,
        "--data",
        &zip,
        "--count",
        "1",
        "--out",
        &stats,
    ];
    fails(&few, 1, &["at least 2"]);
}

/// The Fashion-MNIST models that ship with the program: teacher, student, features, statistics; no
/// file is needed.
#[test]
fn the_models_that_ship_draw_and_are_measured() {
    let folder = Folder::new();
    let grid = folder.at("grid.png");
    done(&["sample", "--model", "fashion-mnist", "--n", "3", "--each-class", "--out", &grid]);
    let picture = image::open(&grid).unwrap();
    assert_eq!((picture.width(), picture.height()), (10 * 32 + 9 * 2, 3 * 32 + 2 * 2));
    for space in ["noise", "latent"] {
        let out = folder.at("way.npy");
        done(&[
            "interpolate",
            "--model",
            "fashion-mnist",
            "--seeds",
            "1,2",
            "--steps",
            "5",
            "--in",
            space,
            "--out",
            &out,
        ]);
        let way = array::read_npy(Path::new(&out)).unwrap();
        done(&[
            "sample",
            "--model",
            "fashion-mnist",
            "--seeds",
            "1,2",
            "--out",
            &folder.at("ends.npy"),
        ]);
        let ends = array::read_npy(&folder.path("ends.npy")).unwrap();
        let off =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // The sampler's frozen networks round in another order.
        assert!(
            off(&way.data[..1024], &ends.data[..1024]) < 1e-3
                && off(&way.data[4096..], &ends.data[1024..]) < 1e-3
        );
    }
    fails(
        &["interpolate", "--model", "fashion-mnist", "--seeds", "1", "--out", &grid],
        2,
        &["at least two"],
    );

    let pairs = folder.at("pairs");
    done(&[
        "pairs",
        "generate",
        "--teacher",
        "fashion-mnist",
        "--count",
        "40",
        "--first-seed",
        "5000000",
        "--out",
        &pairs,
    ]);
    let evaluate =
        ["evaluate", "--model", "fashion-mnist", "--pairs", &pairs, "--metrics", "paired,features"];
    let reference = ["--features", "fashion-mnist", "--reference", "fashion-mnist", "--json"];
    let values = json(&[&evaluate[..], &reference].concat());
    for key in [
        "feature_fid",
        "feature_fid_teacher",
        "feature_kid",
        "feature_precision",
        "feature_coverage",
        "ssim",
    ] {
        assert!(values[key].as_f64().is_some_and(f64::is_finite), "{key}: {values}");
    }
    assert!(
        values["fid"].is_null() && values["features"]["network"]["name"] == "fashion-mnist",
        "{values}"
    );
    // A tenth by chance; 40 images have a standard error of 8 percent.
    assert!(values["class_agreement_teacher"].as_f64().unwrap() > 0.6, "{values}");
    assert!(values["class_agreement"].as_f64().unwrap() > 0.5, "{values}");
    fails(&evaluate, 2, &["--features", "--reference"]);

    // Pairs of another teacher are refused, though they have the same shape.
    let zip = folder.path("bars.zip");
    image_zip(&zip, 40, 32, 2);
    let (dataset, run) = (format!("teacher.dataset={}", zip.display()), folder.at("run"));
    let train =
        ["teacher", "train", "--preset", "fashion-mnist-teacher", "--out", &run, "--set", &dataset];
    fails(&train, 1, &["2 classes", "label_dim"]);
    let ten = folder.path("ten.zip");
    image_zip(&ten, 40, 32, 10);
    let (dataset, run) = (format!("teacher.dataset={}", ten.display()), folder.at("ten"));
    let settings = [
        "--set",
        &dataset,
        "--set",
        "teacher.train.iterations=1",
        "--set",
        "teacher.train.batch=2",
    ];
    done(
        &[&["teacher", "train", "--preset", "fashion-mnist-teacher", "--out", &run], &settings[..]]
            .concat(),
    );
    let (teacher, other) = (folder.at("ten/teacher.safetensors"), folder.at("other"));
    done(&[
        "pairs",
        "generate",
        "--teacher",
        &teacher,
        "--count",
        "4",
        "--steps",
        "2",
        "--out",
        &other,
    ]);
    fails(
        &["evaluate", "--model", "fashion-mnist", "--pairs", &other],
        1,
        &["another teacher", "teacher it was"],
    );
}

/// A comparison: several students on the same pairs for the same compute, and the teacher at few
/// steps; what is done is not done again.
#[test]
fn students_are_compared() {
    let folder = Folder::new();
    let file = image_experiment(&folder);
    let mut text = fs::read_to_string(&file).unwrap();
    text.push_str(
        r#"
[[compare]]
name = "koopman"
[[compare]]
name = "direct"
set.student.method = "direct"
set.student.operator.control = false
set.loss.eigenvalues = "none"
"#,
    );
    fs::write(&file, text).unwrap();
    let out = folder.at("compared");
    let rows = json(&["compare", &file, "--out", &out, "--json"]);
    let row = |name: &str| {
        rows.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone()
    };
    let (koopman, direct, teacher) = (row("koopman"), row("direct"), row("teacher heun 4"));
    assert_eq!((&koopman["iterations"], &koopman["passes"]), (&Value::from(12), &Value::from(1)));
    // A step of the direct student has no clean encoder, no operator and one pass through each
    // part.
    assert!(direct["iterations"].as_u64().unwrap() > 18, "{direct}");
    // Guidance takes two passes where one is taken without.
    assert_eq!(
        (&teacher["passes"], &row("teacher euler 1")["passes"]),
        (&Value::from(14), &Value::from(2))
    );
    assert_eq!(teacher["values"]["rmse"], 0.0);
    assert!(koopman["values"]["rmse"].as_f64().unwrap() > 0.0);
    let student = folder.at("compared/variants/direct/student.safetensors");
    done(&["sample", "--model", &student, "--n", "2", "--out", &folder.at("x.npy")]);
    fails(
        &["analyze", "--model", &student, "--out", &folder.at("a")],
        1,
        &["no operator", "koopman"],
    );
    fails(
        &["interpolate", "--model", &student, "--seeds", "1,2", "--out", &folder.at("x.png")],
        1,
        &["no latent"],
    );
    let again = json(&["compare", &file, "--out", &out, "--resume", "--json"]);
    assert_eq!(again[6]["values"], rows[6]["values"]);
    fails(&["compare", "fashion-mnist"], 2, &["compares nothing", "[[compare]]"]);
    let bad = "compare=[{name=\"a\",set={pairs={count=3}}}]";
    fails(
        &["compare", "fashion-mnist", "--set", bad],
        2,
        &["`a`", "pairs", "share teacher and pairs"],
    );
}

/// LPIPS and Inception from files, with random weights: what each measures has its own name, and
/// statistics of a data set are computed once.
#[test]
fn lpips_and_inception_measure_from_files() {
    use kdm::nn::{Inception, InitSeed, Lpips, Pooling, state::state_dict};
    let folder = Folder::new();
    let (device, seed) = (burn::tensor::Device::flex(), &mut InitSeed::new(0));
    let write = |name: &str, kind: &str, state: &kdm::nn::StateDict| {
        kdm::data::model::write(&folder.path(name), kind, &Value::Null, state).unwrap();
        folder.at(name)
    };
    let lpips =
        write("vgg.safetensors", "lpips", &state_dict(&Lpips::init(Pooling::Max, seed, &device)));
    let inception =
        write("inception.safetensors", "inception", &state_dict(&Inception::init(seed, &device)));
    let (zip, pairs) = (folder.path("bars.zip"), folder.at("pairs"));
    image_zip(&zip, 8, 32, 10);
    let teacher =
        ["pairs", "generate", "--teacher", "fashion-mnist", "--steps", "2", "--out", &pairs];
    done(&[&teacher[..], &["--count", "8"]].concat());
    let evaluate = |more: &[&str]| {
        let common = [
            "evaluate",
            "--model",
            "fashion-mnist",
            "--pairs",
            &pairs,
            "--metrics",
            "paired,features",
            "--json",
        ];
        let mut command = kdm(&[&common[..], more].concat());
        let output = command.env("KDM_CACHE", folder.path("cache")).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let zip = zip.to_string_lossy().into_owned();
    let both = ["--lpips", &lpips, "--features", &inception, "--reference", &zip];
    let values = evaluate(&both);
    for key in ["lpips", "fid", "fid_teacher", "kid", "precision", "psnr"] {
        assert!(values[key].as_f64().is_some_and(f64::is_finite), "{key}: {values}");
    }
    // Random heads may weigh below 0.
    assert!(
        values["lpips"].as_f64().unwrap() != 0.0 && values["feature_fid"].is_null(),
        "{values}"
    );
    assert_eq!(values["features"]["network"]["name"], "inception");
    assert_eq!(fs::read_dir(folder.path("cache")).unwrap().count(), 1);
    assert_eq!(evaluate(&both)["fid"], values["fid"]);
    assert!(
        evaluate(&["--features", "fashion-mnist", "--reference", "fashion-mnist"])["lpips"]
            .is_null()
    );
}

/// A loss in the layers of a classifier, with a discriminator: the preset trains, its loss is
/// measured again, and a classifier of other images is refused.
#[test]
fn a_classifier_makes_a_perceptual_loss() {
    let folder = Folder::new();
    let (pairs, out) = (folder.at("pairs"), folder.at("run"));
    let teacher =
        ["pairs", "generate", "--teacher", "fashion-mnist", "--steps", "2", "--out", &pairs];
    done(&[&teacher[..], &["--count", "12"]].concat());
    let few = ["train.iterations=3", "train.batch=4", "train.held_out=4", "train.validate_every=3"];
    let few: Vec<&str> = few.iter().flat_map(|s| ["--set", s]).collect();
    done(
        &[&["distill", "--preset", "fashion-mnist", "--pairs", &pairs, "--out", &out], &few[..]]
            .concat(),
    );
    let student = folder.at("run/student.safetensors");
    let measure = |model: &str| {
        let values = json(&[
            "evaluate",
            "--model",
            model,
            "--pairs",
            &pairs,
            "--metrics",
            "losses,paired",
            "--json",
        ]);
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

/// Samples that are in the data set are told to be copies, others not.
#[test]
fn copies_are_found_among_neighbours() {
    let folder = Folder::new();
    let draw = |seeds: &str, place: &str| {
        let out = folder.at(place);
        done(&["sample", "--model", "fashion-mnist", "--seeds", seeds, "--out", &out]);
        fs::remove_file(folder.path(place).join("samples.npy")).unwrap();
    };
    let copies = |set: &str, out: &str| {
        let (set, out) = (folder.at(set), folder.at(out));
        let look = [
            "analyze",
            "--model",
            "fashion-mnist",
            "--samples",
            "20",
            "--features",
            "fashion-mnist",
            "--json",
        ];
        json(&[&look[..], &["--neighbours", &set, "--out", &out]].concat())["neighbours"]["copies"]
            .as_f64()
            .unwrap()
    };
    fs::create_dir_all(folder.path("same")).unwrap();
    fs::create_dir_all(folder.path("other")).unwrap();
    draw("0-39", "same/train");
    draw("100-139", "same/test");
    draw("200-239", "other/train");
    draw("300-339", "other/test");
    assert_eq!(copies("same", "a"), 1.0);
    assert!(copies("other", "b") < 0.3);
    assert!(folder.path("a/figures/nearest-training-images.png").exists());
    let missing =
        ["analyze", "--model", "fashion-mnist", "--neighbours", "fashion-mnist", "--out", "x"];
    fails(&missing, 2, &["--features"]);
}

/// Teachers in closed form: an affine student finds a Gaussian's flow and its eigenvalues,
/// polynomials their products, and the error on a mixture falls with the dictionary and with the
/// latent.
#[test]
fn theory_is_met() {
    let folder = Folder::new();
    let out = folder.at("theory");
    let found = json(&["analyze", "theory", "--out", &out, "--json"]);
    assert!(found["gaussian"]["flow_error"].as_f64().unwrap() < 1e-3, "{found}");
    assert!(found["gaussian"]["eigenvalue_error"].as_f64().unwrap() < 1e-2, "{found}");
    assert!(found["gaussian_products"].as_f64().unwrap() < 1e-8, "{found}");
    let errors = |key: &str| -> Vec<f64> {
        found[key].as_array().unwrap().iter().map(|row| row["tested"].as_f64().unwrap()).collect()
    };
    // The mixture looks the same from the other side: its flow is odd, and even degrees add nothing
    // but noise.
    let degrees: Vec<f64> = errors("mixture").into_iter().step_by(2).collect();
    let sizes = errors("sizes");
    assert!(degrees.is_sorted_by(|a, b| a > b) && degrees[3] < 0.7 * degrees[0], "{degrees:?}");
    assert!(sizes.is_sorted_by(|a, b| a > b) && sizes[5] < 0.3 * sizes[0], "{sizes:?}");
    assert!(
        fs::read_to_string(folder.path("theory/report.html"))
            .unwrap()
            .contains("Error of a linear operator")
    );
    fails(&["analyze"], 2, &["--model"]);
}

/// What is found in an image student: modes, truncation, the way from noise to image beside the
/// teacher's, semantics.
#[test]
fn students_are_examined() {
    let folder = Folder::new();
    let file = image_experiment(&folder);
    let run = folder.at("run");
    done(&[
        "run",
        &file,
        "--out",
        &run,
        "--set",
        "student.operator.kind=\"dense\"",
        "--set",
        "loss.eigenvalues=\"none\"",
    ]);
    let (student, out) = (folder.at("run/student.safetensors"), folder.at("look"));
    let (pairs, teacher) = (folder.at("run/pairs"), folder.at("run/teacher/teacher.safetensors"));
    let look = ["analyze", "--model", &student, "--pairs", &pairs, "--out", &out, "--json"];
    let found = json(&[&look[..], &["--teacher", &teacher]].concat());
    let truncation = found["truncation"].as_array().unwrap();
    let (first, last) = (&truncation[0], truncation.last().unwrap());
    assert_eq!(
        (&first["rank"], &last["rank"], &last["rmse"]),
        (&Value::from(0), &Value::from(16), &Value::from(0.0))
    );
    // The best of each rank on latents; images are near to linear in them here.
    let rmse = |row: &Value, key: &str| row.pointer(key).unwrap().as_f64().unwrap();
    assert!(
        truncation.iter().all(|row| rmse(row, "/principal/rmse") <= 1.05 * rmse(row, "/rmse")),
        "{truncation:?}"
    );
    let radius = found["spectral_radius"].as_f64().unwrap();
    let modes = found["modes"].as_array().unwrap();
    let modulus = |m: &Value| {
        m["eigenvalue"][0].as_f64().unwrap().hypot(m["eigenvalue"][1].as_f64().unwrap())
    };
    assert!((modes.iter().map(modulus).fold(0.0, f64::max) - radius).abs() < 1e-9);
    assert!(found["conditioning"]["norm"].as_f64().unwrap() >= radius);
    let pixels = &found["semantics"]["pixels"]["pushed"];
    let (low, value, high) = (&pixels["interval"][0], &pixels["value"], &pixels["interval"][1]);
    assert!(low.as_f64() <= value.as_f64() && value.as_f64() <= high.as_f64(), "{pixels}");
    for figure in ["from-noise-to-image", "truncation", "samples-by-modes-kept", "spectrum"] {
        assert!(folder.path(&format!("look/figures/{figure}.png")).exists(), "{figure}");
    }
    for (space, _) in found["neighbour_likeness"].as_object().unwrap() {
        assert!(["noise", "latent", "pushed"].contains(&space.as_str()), "{space}");
    }
    let neighbours = image::open(folder.path("look/figures/neighbours.png")).unwrap();
    // A sample, and an empty place and five neighbours in each of three spaces; eight rows.
    assert_eq!((neighbours.width(), neighbours.height()), (19 * 8 + 18 * 2, 8 * 8 + 7 * 2));

    // At full rank nothing changes; at rank 1 it does. What is written is a student like any other.
    let small = folder.at("small.safetensors");
    let compress =
        ["compress", "--model", &student, "--pairs", &pairs, "--out", &small, "--json", "--rank"];
    let full = json(&[&compress[..], &["16"]].concat());
    assert!(
        full["error"].as_f64().unwrap() < 1e-4 && full["linear_speed_up"].as_f64().unwrap() > 0.0,
        "{full}"
    );
    let one = json(&[&compress[..], &["1"]].concat());
    assert!(one["error"].as_f64() > full["error"].as_f64(), "{one} {full}");
    done(&["sample", "--model", &small, "-n", "4", "--out", &folder.at("small.npy")]);
    done(&["evaluate", "--model", &small, "--pairs", &pairs, "--metrics", "losses,paired"]);
    fails(&[&compress[..], &["17"]].concat(), 2, &["--rank 17", "1 to 16"]);
    // A column for each of nine parts of the step; three rows for each of four samples.
    let strip = image::open(folder.path("look/figures/from-noise-to-image.png")).unwrap();
    assert_eq!((strip.width(), strip.height()), (9 * 8 + 8 * 2, 12 * 8 + 11 * 2));
    fails(
        &[&look[..], &["--teacher", "fashion-mnist"]].concat(),
        1,
        &["another", "teacher it was distilled from"],
    );
    fails(
        &[&look[..], &["--features", "fashion-mnist"]].concat(),
        2,
        &["--features", "not of images"],
    );
}

/// Images brought back to latents and noise, by an operator that can be inverted; samples moved
/// along modes and classes.
#[test]
fn images_are_inverted_and_samples_edited() {
    let folder = Folder::new();
    let pairs = folder.at("pairs");
    done(&[
        "pairs",
        "generate",
        "--teacher",
        "fashion-mnist",
        "--steps",
        "6",
        "--count",
        "3",
        "--out",
        &pairs,
    ]);
    let out = folder.at("back");
    let invert = [
        "invert",
        "--model",
        "fashion-mnist",
        "--pairs",
        &pairs,
        "--out",
        &out,
        "--json",
        "--steps",
    ];
    let found = json(&[&invert[..], &["25"]].concat());
    let of = |key: &str| found[key].as_f64().unwrap();
    assert_eq!(found["images"], 3);
    // Descent begins at the encoder's latent; a quarter of a hundred steps make its drawing better.
    assert!(of("refined latent") < of("encoder"), "{found}");
    assert!(of("likeness of latents") > 0.0 && of("refined noise") < 1.0, "{found}");
    let arrays = array::read_npz(&folder.path("back/inversion.npz")).unwrap();
    assert_eq!(arrays.iter().find(|(name, _)| name == "noise").unwrap().1.shape, [3, 1, 32, 32]);
    assert!(folder.path("back/figures/inversion.png").exists());
    fails(&["invert", "--model", "fashion-mnist", "--out", &out], 2, &["--pairs"]);

    let edit = ["edit", "--model", "fashion-mnist", "--seeds", "1,2", "--steps", "5", "--out"];
    let (moved, plain) = (folder.at("moved.npy"), folder.at("plain.npy"));
    done(&[&edit[..], &[&moved, "--mode", "3"]].concat());
    done(&["sample", "--model", "fashion-mnist", "--seeds", "1,2", "--out", &plain]);
    let (moved, plain) =
        (array::read_npy(Path::new(&moved)).unwrap(), array::read_npy(Path::new(&plain)).unwrap());
    assert_eq!(moved.shape, [10, 1, 32, 32]);
    // The middle of a row is the sample itself (the sampler's frozen networks round in another
    // order), its ends are not.
    let off = |place: usize| {
        let (a, b) = (&moved.data[place * 1024..(place + 1) * 1024], &plain.data[..1024]);
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    assert!(off(2) < 1e-3 && off(0) > 1e-2 && off(4) > 1e-2, "{} {} {}", off(0), off(2), off(4));
    let grid = folder.at("grid.png");
    done(&[&edit[..], &[&grid, "--from-class", "0", "--to-class", "3"]].concat());
    assert_eq!(image::open(&grid).unwrap().width(), 5 * 32 + 4 * 2);
    fails(&[&edit[..], &[&grid, "--mode", "0"]].concat(), 2, &["--mode 0", "modes 1 to"]);
    fails(
        &[&edit[..], &[&grid, "--from-class", "0", "--to-class", "10"]].concat(),
        2,
        &["classes 0 to 9"],
    );
}
