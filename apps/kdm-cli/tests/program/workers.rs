//! Training by several processes: the same bytes from any number of them, and how they end.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::{
    Folder, SMALL, check_failure, distill, fails, image_store, image_zip, kdm, store, text,
    wait_for,
};

/// Whether several processes can be started, by a build with MPI; says so where not.
fn can_launch() -> bool {
    let found = Command::new("mpirun").arg("--version").output().is_ok_and(|o| o.status.success());
    if !cfg!(feature = "mpi") || !found {
        eprintln!("skipped: this needs mpirun and a build with `--features mpi`");
    }
    cfg!(feature = "mpi") && found
}

/// Open MPI's launcher, on a machine with fewer cores than processes, as any user.
fn mpirun() -> Command {
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]);
    command.args(["--mca", "mpi_yield_when_idle", "1"]);
    command.stdin(Stdio::null());
    command
}

/// Adds `size` processes of the program to a command of [`mpirun`].
fn processes<'a>(command: &'a mut Command, size: usize, arguments: &[&str]) -> &'a mut Command {
    command.args(["-n", &size.to_string()]).arg(assert_cmd::cargo::cargo_bin!("kdm"));
    command.args(arguments.iter().flat_map(|words| words.split_whitespace()));
    command.args(["--threads", "1"])
}

/// The program by `size` processes of one thread.
fn by(size: usize, arguments: &[&str]) -> Command {
    if size == 1 {
        let mut command = kdm(arguments);
        command.args(["--threads", "1"]);
        return command;
    }
    let mut command = mpirun();
    processes(&mut command, size, arguments);
    command
}

fn output(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    output
}

/// Checks that two trainings ended in the same files, and logged the same but for the clock.
fn check_same(folder: &Folder, one: &str, other: &str, files: &[&str]) {
    for file in files {
        let read = |run: &str| fs::read(folder.path(run).join(file)).unwrap();
        assert!(read(one) == read(other), "{file} of {one} and {other} differ");
    }
    let log = |run: &str| {
        let mut lines = kdm::train::read_metrics(&folder.path(run)).unwrap();
        for line in &mut lines {
            let line = line.as_object_mut().unwrap();
            ["seconds", "train/iterations_per_second"].iter().for_each(|key| {
                line.remove(*key);
            });
        }
        lines
    };
    assert_eq!(log(one), log(other), "logs of {one} and {other}");
}

/// What a distillation leaves.
const RESULTS: [&str; 4] =
    ["student.safetensors", "last.safetensors", "last-ema.safetensors", "checkpoint.safetensors"];

/// A checkerboard student in 4 leaves from 1, 2 and 4 processes, and from two numbers of them one
/// after the other.
#[test]
fn students_do_not_depend_on_the_number_of_processes() {
    if !can_launch() {
        return;
    }
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "1500", &[]);
    let leaves = ["--set train.leaves=4 --set loss.latent_noise=0.1"];
    for size in [1, 2, 4] {
        let out = folder.at(&format!("by-{size}"));
        let said = output(&mut by(size, &distill(&pairs, &out, &leaves)));
        assert_eq!(
            text(&said.stdout),
            format!("{out}/student.safetensors\n"),
            "one of them speaks"
        );
        check_same(&folder, "by-1", &format!("by-{size}"), &RESULTS);
    }
    let whole = folder.at("whole");
    output(&mut by(1, &distill(&pairs, &whole, &["--set loss.latent_noise=0.1"])));
    let read = |run: &str| fs::read(folder.path(run).join("last.safetensors")).unwrap();
    assert!(read("whole") != read("by-1"), "leaves are another order of sums");

    // A process is killed once there is a checkpoint; another number of them goes on.
    let out = folder.at("killed");
    let longer = ["--set train.leaves=4 --set train.iterations=600"];
    let reference = folder.at("longer");
    output(&mut by(1, &distill(&pairs, &reference, &longer)));
    for (size, more) in [(4, &[][..]), (2, &["--resume"])] {
        let mut command = by(size, &distill(&pairs, &out, &[&longer[..], more].concat()));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for(&folder.path("killed/checkpoint.safetensors"));
        let children = children_of(child.id());
        if let Some(last) = children.last() {
            // It may have ended by now.
            let _ = Command::new("kill").args(["-9", &last.to_string()]).status();
        }
        let began = Instant::now();
        let ended = child.wait_with_output().unwrap();
        assert!(began.elapsed() < Duration::from_secs(60), "{}", text(&ended.stderr));
        assert!(!text(&ended.stderr).contains("error: "), "the launcher tells of it");
    }
    output(&mut by(1, &distill(&pairs, &out, &[&longer[..], &["--resume"]].concat())));
    check_same(&folder, "longer", "killed", &RESULTS);
}

/// A checkerboard student in 8 leaves from 8 processes and from 1, and from 8, 2 and 1 of them one
/// after the other. What is held out is validated in several parts, of which not every process has
/// one.
#[test]
fn eight_processes_end_in_the_student_of_one() {
    if !can_launch() {
        return;
    }
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "5500", &[]);
    let by = |size: usize, out: &str, iterations: &str, more: &[&str]| {
        let out = folder.at(out);
        let settings = [
            "--set train.leaves=8 --set train.held_out=5000",
            "--set train.validate_every=8 --set train.checkpoint_every=8 --set",
            iterations,
        ];
        output(&mut by(size, &distill(&pairs, &out, &[&settings[..], more].concat())));
    };
    let whole = "train.iterations=24";
    by(1, "by-1", whole, &[]);
    by(8, "by-8", whole, &[]);
    check_same(&folder, "by-1", "by-8", &RESULTS);
    for (size, iterations) in [(8, 8), (2, 16), (1, 24)] {
        let resume: &[&str] = if size == 8 { &[] } else { &["--resume"] };
        by(size, "in-turns", &format!("train.iterations={iterations}"), resume);
    }
    // Its file says at which iterations it was made longer; its weights are the same.
    let weights = |run: &str| {
        let bytes = fs::read(folder.path(run).join("last-ema.safetensors")).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    assert!(weights("in-turns") == weights("by-8"));
}

/// The processes that a process has started.
fn children_of(parent: u32) -> Vec<u32> {
    let of = |entry: fs::DirEntry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        (rest.split_whitespace().nth(1)?.parse::<u32>().ok()? == parent).then_some(id)
    };
    let mut found: Vec<u32> =
        fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(of).collect();
    found.sort_unstable();
    found
}

/// Tiny images with dropout and a discriminator, whose batch norm sees a leaf.
#[test]
fn adversarial_students_do_not_depend_on_the_number_of_processes() {
    if !can_launch() {
        return;
    }
    let folder = Folder::new();
    let pairs = image_store(&folder);
    let distill = |size: usize, out: &str, more: &[&str]| {
        let out = folder.at(out);
        let network = "student.network={kind='unet',model_channels=8,channel_mult=[1,1],\
                       num_blocks=1,attn_resolutions=[16],dropout=0.1}";
        let small = [
            "--set train.iterations=4 --set train.batch=8 --set train.held_out=4",
            "--set train.log_every=1 --set train.checkpoint_every=2 --set train.leaves=4",
            "--set train.validate_every=2 --set",
            network,
        ];
        let base = ["distill --preset cifar10-uncond --pairs", &pairs, "--out", &out];
        output(&mut by(size, &[&base[..], &small, more].concat()));
    };
    for size in [1, 2, 4] {
        distill(size, &format!("by-{size}"), &[]);
        check_same(&folder, "by-1", &format!("by-{size}"), &RESULTS);
    }
    // Longer by another number, at a constant learning rate.
    distill(2, "by-1", &["--resume --set train.iterations=6"]);
    distill(4, "at-once", &["--set train.iterations=6"]);
    let weights = |run: &str| fs::read(folder.path(run).join("last-ema.safetensors")).unwrap();
    let tensors = |bytes: Vec<u8>| {
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    assert!(tensors(weights("by-1")) == tensors(weights("at-once")));
}

/// The sum of a gradient is timed beside MPI's; a single process has nothing to sum.
#[test]
fn sums_are_timed() {
    let wanted = ["bench allreduce --numbers 10007 --iters 3 --json"];
    fails(&wanted, 2, &["one worker", "mpirun -n 2"]);
    if !can_launch() {
        return;
    }
    let said = text(&output(&mut by(4, &wanted)).stdout);
    let found: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&found["workers"], &found["numbers"]), (&4.into(), &10007.into()));
    let times = ["ours_ms", "mpi_ms"].map(|key| found[key].as_f64().unwrap());
    assert!(times.iter().all(|time| *time > 0.0 && time.is_finite()), "{said}");
}

/// Teachers and feature networks, and the whole way.
#[test]
fn all_trainings_and_runs_share_their_work() {
    if !can_launch() {
        return;
    }
    let folder = Folder::new();
    let zip = folder.at("bars.zip");
    image_zip(Path::new(&zip), 32, 8, 2);
    let features = |size: usize, out: &str| {
        let base = ["features train --resolution 8 --width 4 --epochs 2 --batch 8 --leaves 2"];
        let out = folder.at(out);
        output(&mut by(size, &[&base[..], &["--data", &zip, "--out", &out]].concat()));
    };
    features(1, "features-1");
    features(2, "features-2");
    let files = ["features.safetensors", "checkpoint.safetensors"];
    check_same(&folder, "features-1", "features-2", &files);

    let run = |size: usize, out: &str| {
        let settings = [
            "--set teacher.train.iterations=20 --set teacher.train.batch=64",
            "--set teacher.train.leaves=4 --set teacher.hidden=16 --set train.leaves=2",
            "--set pairs.count=300 --set pairs.test=100 --set pairs.steps=4",
            "--set pairs.shard_size=100 --set evaluate.clusters=100",
        ];
        let out = folder.at(out);
        let small = SMALL.map(|words| words.replace("train.held_out=200", "train.held_out=50"));
        let small: Vec<&str> = small.iter().map(String::as_str).collect();
        let base = ["run checkerboard --out", &out];
        output(&mut by(size, &[&base[..], &small, &settings].concat()))
    };
    run(1, "run-1");
    let said = text(&run(2, "run-2").stdout);
    assert_eq!(said.matches("report: ").count(), 1, "{said}");
    check_same(&folder, "run-1/teacher", "run-2/teacher", &["teacher.safetensors"]);
    check_same(&folder, "run-1/distill", "run-2/distill", &RESULTS);
    let stores = ["run-1/pairs", "run-2/pairs"].map(|place| {
        crate::common::contents(&folder.path(place))
            .into_iter()
            .filter(|(name, _)| !name.starts_with('.'))
            .collect::<Vec<_>>()
    });
    assert!(stores[0] == stores[1], "pairs are the same whoever draws them");
    assert!(folder.path("run-2/report.html").exists());
    let evaluation = |run: &str| {
        let file = fs::read(folder.path(run).join("evaluation.json")).unwrap();
        let mut values: serde_json::Value = serde_json::from_slice(&file).unwrap();
        let clock = values.as_object_mut().unwrap().remove("speed_up");
        assert!(clock.is_some_and(|value| value.is_number()), "{values}");
        values
    };
    assert_eq!(evaluation("run-1"), evaluation("run-2"));
}

/// Workers that differ, are too many, or can't write end together, with one message.
#[test]
fn processes_that_cannot_go_on_end_together() {
    if !can_launch() {
        return;
    }
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "500", &[]);
    let other_pairs = store(&folder, "others", "500", &["--first-seed 7"]);
    let out = folder.at("out");
    let leaves = ["--set train.leaves=4"];
    let refused = |command: &mut Command, parts: &[&str]| {
        let began = Instant::now();
        let output = command.output().unwrap();
        let code = output.status.code().unwrap_or(-1);
        assert_ne!(code, 0);
        check_failure(&output, &["mpirun"], code, parts);
        assert!(began.elapsed() < Duration::from_secs(60));
    };
    let together = |first: &[&str], second: &[&str]| {
        let mut command = mpirun();
        processes(&mut command, 1, first).arg(":");
        processes(&mut command, 1, second);
        command
    };
    let given = distill(&pairs, &out, &leaves);
    let faster = distill(&pairs, &out, &["--set train.leaves=4 --set train.lr=0.5"]);
    refused(&mut together(&given, &faster), &["worker 1 of 2 has another configuration"]);
    let mut unlike = mpirun();
    processes(&mut unlike, 1, &given).arg(":");
    processes(&mut unlike, 1, &given);
    // The last flag is the second process's.
    let mut words: Vec<std::ffi::OsString> = unlike.get_args().map(Into::into).collect();
    *words.last_mut().unwrap() = "2".into();
    refused(Command::new("mpirun").args(&words), &["another number of threads (--threads"]);
    let elsewhere = distill(&other_pairs, &out, &leaves);
    refused(&mut together(&given, &elsewhere), &["worker 1 of 2 has another store of pairs"]);
    refused(&mut by(2, &distill(&pairs, &out, &[])), &["2 workers", "1 leaves", "train.leaves"]);
    refused(&mut by(3, &given), &["3 workers", "start 1, 2, 4, 8"]);
    refused(&mut by(2, &distill("nowhere", &out, &leaves)), &["nowhere"]);
    let sample = ["sample --model fashion-mnist -n 2 --out", &folder.at("x.png")];
    refused(&mut by(2, &sample), &["2 processes", "for one"]);
    assert!(!Path::new(&out).exists(), "a refused run leaves no folder");

    // The first worker's disk fills with the first checkpoint.
    let large = distill(
        &pairs,
        &out,
        &["--set train.leaves=2", "--set student.network={kind='mlp',hidden=512,layers=4}"],
    );
    let words: Vec<&str> = large.iter().flat_map(|words| words.split_whitespace()).collect();
    let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    let script = format!(
        "ulimit -f 16384; trap '' XFSZ; exec \"{}\" {} --threads 1",
        assert_cmd::cargo::cargo_bin!("kdm").display(),
        words.join(" ")
    );
    let mut command = mpirun();
    command.args(["-n", "1", "bash", "-c", &script, ":"]);
    processes(&mut command, 1, &large);
    refused(&mut command, &["checkpoint.safetensors", "free some space"]);
    let resumed = [&large[..], &["--resume"]].concat();
    output(&mut by(2, &resumed));
}

/// A build without MPI says so, once, instead of training the same student several times; and so
/// does a command that is for one process.
#[test]
fn launchers_are_noticed() {
    let folder = Folder::new();
    let started = |arguments: &[&str], rank: &str| {
        let mut command = kdm(arguments);
        command.env("OMPI_COMM_WORLD_SIZE", "4").env("OMPI_COMM_WORLD_RANK", rank);
        command.output().unwrap()
    };
    let out = folder.at("x.png");
    let sample = ["sample --model fashion-mnist -n 2 --out", &out];
    let told = ["4 processes (OMPI_COMM_WORLD_SIZE)", "mpirun"];
    check_failure(&started(&sample, "0"), &sample, 2, &told);
    let other = started(&sample, "3");
    assert_eq!((other.status.code(), text(&other.stderr)), (Some(2), String::new()));
    if !cfg!(feature = "mpi") {
        let out = folder.at("out");
        let training = distill("pairs", &out, &[]);
        let told = ["4 processes", "no MPI", "--features mpi"];
        check_failure(&started(&training, "0"), &training, 2, &told);
        assert!(!Path::new(&out).exists());
    }
}

/// Batches are split into a power of two of equal parts.
#[test]
fn leaves_that_cannot_be_are_told() {
    let folder = Folder::new();
    let out = folder.at("out");
    for (leaves, part) in [("3", "power of two"), ("0", "power of two"), ("128", "batch")] {
        let setting = format!("--set train.leaves={leaves}");
        fails(&distill("pairs", &out, &[&setting]), 2, &["train.leaves", part]);
    }
    let features = ["features train --data shapes --leaves 3 --out", &out];
    fails(&features, 2, &["--leaves 3", "power of two"]);
}

/// The manifests for Kubernetes are YAML, and what their containers run are commands of the program
/// with flags that it has.
#[test]
fn manifests_for_kubernetes_are_read() {
    const READ: &str = "
import json, sys, yaml
def containers(value):
    if isinstance(value, list): return [c for v in value for c in containers(v)]
    if not isinstance(value, dict): return []
    return value.get('containers', []) + containers(list(value.values()))
words = lambda c: c.get('command', []) + c.get('args', [])
found = {d['kind']: [words(c) for c in containers(d)]
         for path in sys.argv[1:] for d in yaml.safe_load_all(open(path))}
print(json.dumps(found))
";
    let python = std::env::var("KDM_PYTHON").unwrap_or_else(|_| "python3".into());
    let has = Command::new(&python).args(["-c", "import yaml"]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this needs PyYAML for the Python of KDM_PYTHON");
        return;
    }
    let cluster = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/cluster");
    let files = ["distill-mpijob.yaml", "pairs-job.yaml"].map(|name| cluster.join(name));
    let read = output(Command::new(&python).args(["-c", READ]).args(&files));
    type Commands = std::collections::BTreeMap<String, Vec<Vec<String>>>;
    let found: Commands = serde_json::from_slice(&read.stdout).unwrap();
    for (kind, command) in [("MPIJob", "distill"), ("Job", "pairs generate")] {
        let all = found[kind].iter().map(|words| words.join(" "));
        let given = all.filter_map(|line| Some(line.split_once("kdm ")?.1.to_string())).next();
        let given = given.unwrap_or_else(|| panic!("{kind} runs kdm: {found:?}"));
        assert!(given.starts_with(command), "{given}");
        let help = text(&output(&mut kdm(&[command, "--help"])).stdout);
        let known: Vec<&str> = help.split([' ', ',', '\n', '=']).collect();
        for flag in given.split([' ', '=']).filter(|word| word.starts_with("--")) {
            assert!(known.contains(&flag), "{flag} of {kind} is none of kdm {command}");
        }
    }
}

/// The scripts of `examples/cluster` start a training and go on with it; SLURM's is given a `srun`
/// that is Open MPI's launcher.
#[test]
fn scripts_for_clusters_train_and_go_on() {
    if !can_launch() {
        return;
    }
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "500", &[]);
    let bin = folder.path("bin");
    fs::create_dir(&bin).unwrap();
    let srun = bin.join("srun");
    let flags = "--allow-run-as-root --oversubscribe --bind-to none -n 2";
    let shim = format!("#!/bin/sh\nshift 2\nexec mpirun {flags} \"$@\"\n");
    fs::write(&srun, shim).unwrap();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/cluster");
    let small: Vec<&str> = SMALL.iter().flat_map(|words| words.split_whitespace()).collect();
    for (script, slurm) in [("mpirun.sh", false), ("distill.sbatch", true)] {
        let run = |more: &[&str]| {
            let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
            let mut command = Command::new("bash");
            command.arg(scripts.join(script)).args(&small).args(more);
            command.env("PATH", path).env("KDM", assert_cmd::cargo::cargo_bin!("kdm"));
            command.env("PRESET", "checkerboard").env("PAIRS", &pairs).env("LEAVES", "2");
            command.env("OUT", folder.at(script));
            if !slurm {
                command.env("MPI_FLAGS", "--allow-run-as-root --oversubscribe --bind-to none");
            }
            output(&mut command)
        };
        if slurm {
            let mode = Command::new("chmod").arg("+x").arg(&srun).status().unwrap();
            assert!(mode.success());
        }
        run(&[]);
        // The script finds the folder and goes on, here with nothing left to do.
        run(&[]);
        assert!(folder.path(script).join("student.safetensors").exists());
    }
    check_same(&folder, "mpirun.sh", "distill.sbatch", &RESULTS);
}
