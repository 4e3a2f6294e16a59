//! Every flag of every command with absurd values: refused with one message, or done, at once and
//! in bounded memory. Flags are taken from `--help`, so that none is forgotten.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Folder, distill, done, image_zip, kdm, store, text, write_rows};

/// What no flag takes, or only some do.
const ABSURD: [&str; 11] = [
    "",
    "nan",
    "1000000000000",
    "0",
    "-1",
    "0.5",
    "18446744073709551615",
    "1e-320",
    "1e308",
    "inf",
    "0-1000000000000",
];

/// Seconds of the processor that a command may take, and kilobytes of its address space.
const LIMITS: &str = "ulimit -t 5; ulimit -v 2000000";

/// A command that works: its words, and its flags with values.
struct Case<'a> {
    command: &'a str,
    flags: Vec<(&'a str, &'a str)>,
}

/// Names of values that are paths or texts: a few absurd ones tell as much as all.
const TEXTS: [&str; 6] = ["DIR", "FILE", "npy", "MODEL", "SET", "KEY"];

/// The flags with values that a command's help names, and the absurd values for each.
fn flags_of(command: &str) -> Vec<(String, &'static [&'static str])> {
    let words: Vec<&str> = command.split(' ').take_while(|word| !word.starts_with("--")).collect();
    let deepest = (1..=words.len().min(2)).rev().find_map(|n| {
        let output = kdm(&[&words[..n].join(" "), "--help"]).output().unwrap();
        output.status.success().then(|| text(&output.stdout))
    });
    let help = deepest.unwrap();
    let of_line = |line: &str| {
        let line = line.trim_start();
        let flags = line.starts_with('-').then_some(line)?;
        let (_, long) = flags.split_once("--")?;
        let (name, value) = long.split_once([' ', '['])?;
        let text = TEXTS.iter().any(|name| value.contains(name));
        let values = if text { &ABSURD[..3] } else { &ABSURD };
        value.starts_with('<').then(|| (name.to_string(), values))
    };
    help.lines().filter_map(of_line).filter(|(name, _)| name != "threads").collect()
}

/// What is wrong with how a command ends, if anything.
fn trouble(folder: &Path, words: &[String]) -> Option<String> {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("{LIMITS}; exec \"$0\" \"$@\"")]);
    shell.arg(kdm(&[]).get_program()).args(words).env("RAYON_NUM_THREADS", "1");
    shell.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        // Waiting takes no time of a processor.
        if began.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            child.wait().unwrap();
            return Some("hangs".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let message = text(&output.stderr);
    let told = message.matches("error: ").count();
    match output.status.code() {
        None => Some(format!("{}: {message}", output.status)),
        Some(0) => None,
        Some(1 | 2) if told != 1 => Some(format!("{told} messages: {message}")),
        Some(1 | 2) if message.contains("panicked") || message.contains("out of memory") => {
            Some(message)
        }
        Some(1 | 2) if message.len() > 3000 => Some(format!("{} bytes", message.len())),
        Some(1 | 2) => None,
        Some(code) => Some(format!("exit code {code}: {message}")),
    }
}

#[test]
#[cfg(target_os = "linux")]
fn absurd_values_of_flags_are_refused_at_once() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "60", &[]);
    let run = folder.at("run");
    done(&distill(&pairs, &run, &["--set train.iterations=2 --set train.held_out=16"]));
    let (student, images) = (folder.at("run/student.safetensors"), folder.at("bars.zip"));
    image_zip(Path::new(&images), 8, 8, 2);
    let npz = folder.at("pairs.npz");
    done(&["pairs export --pairs", &pairs, "--out", &npz]);
    let noise = write_rows(&folder.path("noise.npy"), vec![0.5; 8], 2);
    let exported = folder.at("exported.safetensors");
    done(&["export --model", &student, "--out", &exported]);
    let case =
        |command, flags: &[(&'static str, &'static str)]| Case { command, flags: flags.to_vec() };
    let (out, model) = (("out", "o.npy"), ("model", "run/student.safetensors"));
    let few = ("set", "train.iterations=1");
    let cases = [
        case("run checkerboard --dry-run", &[few]),
        case("import exported.safetensors --json", &[("out", "o.safetensors")]),
        case("export", &[model, ("out", "o.safetensors")]),
        case("convert", &[model, ("out", "o.safetensors")]),
        case("compare fashion-mnist-compare --dry-run", &[few]),
        case("compress", &[model, ("rank", "2"), ("out", "o.safetensors"), ("samples", "8")]),
        case("data info bars.zip", &[]),
        case("data export bars.zip", &[("out", "o.zip")]),
        case("teacher train --dry-run", &[("preset", "gaussian")]),
        case("teacher sample", &[("model", "checkerboard"), ("n", "2"), ("steps", "2"), out]),
        case(
            "teacher denoise",
            &[("model", "checkerboard"), ("input", "noise.npy"), ("sigma", "1"), out],
        ),
        case(
            "pairs generate --process flow",
            &[("model", "checkerboard"), ("steps", "2"), ("count", "4"), ("out", "o")],
        ),
        case("pairs import pairs.npz", &[("out", "o")]),
        case("pairs verify pairs", &[]),
        case("pairs filter", &[("pairs", "pairs"), ("below-norm", "1"), ("out", "o")]),
        case("pairs export", &[("pairs", "pairs"), ("out", "o.npz")]),
        case("distill --dry-run", &[("preset", "checkerboard"), few]),
        case("sample", &[model, ("n", "2"), out]),
        case(
            "features train",
            &[("data", "bars.zip"), ("epochs", "1"), ("width", "4"), ("out", "o"), ("batch", "4")],
        ),
        case("interpolate", &[model, ("seeds", "0-1"), ("steps", "2"), out]),
        case("edit", &[model, ("seeds", "0-1"), ("mode", "1"), ("steps", "2"), out]),
        case("invert", &[model, ("pairs", "pairs"), ("count", "2"), ("steps", "1"), ("out", "o")]),
        case("evaluate", &[model, ("pairs", "pairs"), ("directions", "4")]),
        case("analyze", &[model, ("pairs", "pairs"), ("samples", "20"), ("out", "o")]),
        case("bench sample", &[model, ("iters", "1"), ("batch", "2"), ("warm-up", "1")]),
        case("bench train", &[("preset", "checkerboard"), ("iters", "1"), ("batch", "2")]),
    ];
    let mut trials = Vec::new();
    for Case { command, flags } in &cases {
        let known = flags_of(command);
        assert!(
            flags.iter().all(|(name, _)| known.iter().any(|(flag, _)| flag == name)),
            "{command}"
        );
        for (flag, values) in &known {
            for value in *values {
                let others = flags.iter().filter(|(name, _)| name != flag);
                let words = command.split(' ').map(String::from);
                let words = words.chain(others.map(|(name, value)| format!("--{name}={value}")));
                trials.push(words.chain([format!("--{flag}={value}")]).collect::<Vec<String>>());
            }
        }
    }
    for value in ["0s", "1ns", "1000000000000s", "18446744073709551615s", "500000000000y"] {
        let words = ["run", "own", "--data", "bars.zip", "--dry-run", "--budget", value];
        trials.push(words.map(String::from).to_vec());
    }
    for value in ABSURD {
        trials.push(vec!["presets".to_string(), format!("--threads={value}")]);
    }
    assert!(trials.len() > 500, "{} trials", trials.len());
    let next = AtomicUsize::new(0);
    let work = |worker: usize| {
        // Outputs are relative: each worker has a folder, to which the inputs are linked.
        let place = folder.path(&format!("worker-{worker}"));
        let fresh = || {
            let _ = fs::remove_dir_all(&place);
            fs::create_dir(&place).unwrap();
            for input in [&pairs, &run, &images, &npz, &noise, &exported] {
                let name = Path::new(input).file_name().unwrap();
                std::os::unix::fs::symlink(input, place.join(name)).unwrap();
            }
        };
        let mut troubles = Vec::new();
        while let Some(words) = trials.get(next.fetch_add(1, Ordering::Relaxed)) {
            fresh();
            if let Some(what) = trouble(&place, words) {
                troubles.push(format!("kdm {}: {what}", words.join(" ")));
            }
        }
        troubles
    };
    let workers = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    let troubles: Vec<String> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        all.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let (failed, all) = (troubles.len(), trials.len());
    assert!(troubles.is_empty(), "{failed} of {all}:\n{}", troubles.join("\n"));
}
