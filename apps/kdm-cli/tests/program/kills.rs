//! Programs killed at an operation on files, and in the middle of a write: what is run again ends
//! in the same bytes and leaves nothing behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Folder, SMALL, done, kdm, store, text};

/// A library that ends a process at its n-th operation that changes files; none, with a word about
/// it, where it can't be made.
fn killer(folder: &Folder) -> Option<PathBuf> {
    let (source, library) = (folder.path("kill_at.c"), folder.path("kill_at.so"));
    fs::write(&source, include_str!("kill_at.c")).unwrap();
    let made = cfg!(target_os = "linux")
        && Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .status()
            .is_ok_and(|status| status.success());
    if !made {
        eprintln!("skipped: it needs Linux and a C compiler `cc`");
    }
    made.then_some(library)
}

/// All files below a folder by name, but what depends on the clock: events, rates in logs, and the
/// speed-up and what tells of it. Those have no content here.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(place) = folders.pop() {
        for entry in fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if !name.contains("tfevents") {
                let timed = ["metrics.jsonl", "evaluation.json", "report.html", "time.json"];
                let timed = timed.iter().any(|end| name.ends_with(end));
                found.insert(name, if timed { Vec::new() } else { fs::read(&path).unwrap() });
            }
        }
    }
    found
}

/// Kills `command` at some of its operations, half of them in the middle of a write, and runs it
/// again with `more`.
fn killed_everywhere(
    folder: &Folder,
    killer: &Path,
    command: &dyn Fn(&str) -> Vec<String>,
    more: &[&str],
) {
    let run = |place: &str, more: &[&str], variables: &[(&str, &str)]| {
        let words = command(&folder.at(place));
        let words: Vec<&str> =
            words.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let mut program = kdm(&words);
        program.arg("--threads").arg("1");
        for (name, value) in variables {
            program.env(name, value).env("LD_PRELOAD", killer);
        }
        program.output().unwrap()
    };
    let fresh = |place: &str| {
        let path = folder.path(place);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        path
    };
    let whole = fresh("whole");
    let counted = folder.at("count");
    let output = run("whole", &[], &[("KILL_COUNT", &counted)]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let count: usize = fs::read_to_string(&counted).unwrap().trim().parse().unwrap();
    assert!(count >= 5, "{count} operations: were they counted?");
    let expected = files(&whole);
    // The first ones, in which a folder is claimed, and some of the rest.
    let rest = (1..=7).map(|i| i * count / 7);
    for (i, at) in (1..=5).chain(rest.filter(|at| *at > 5)).enumerate() {
        let killed = fresh("killed");
        let at = at.to_string();
        let mut variables = vec![("KILL_AT", at.as_str())];
        variables.extend((i % 2 == 0).then_some(("KILL_HALF", "1")));
        let output = run("killed", &[], &variables);
        assert_eq!(output.status.code(), None, "at {at} of {count}: {}", text(&output.stderr));
        let output = run("killed", more, &[]);
        assert!(output.status.success(), "at {at} of {count}: {}", text(&output.stderr));
        let found = files(&killed);
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected), "at {at} of {count}");
        assert!(found == expected, "other bytes after a kill at {at} of {count}");
    }
}

#[test]
fn commands_that_are_killed_anywhere_end_in_the_same_bytes() {
    let folder = Folder::new();
    let Some(killer) = killer(&folder) else { return };
    let pairs = store(&folder, "pairs", "60", &["--shard-size 30"]);
    let npz = folder.at("pairs.npz");
    done(&["pairs export --pairs", &pairs, "--out", &npz]);
    let exported = folder.at("exported.safetensors");
    let few = [
        "--set train.batch=16 --set train.iterations=6 --set train.held_out=16",
        "--set train.validate_every=3 --set train.checkpoint_every=4 --set train.log_every=3",
    ];
    let distill = |out: &str| -> Vec<String> {
        let base = ["distill --preset checkerboard --pairs", &pairs, "--out", out];
        [&base[..], &SMALL, &few].concat().iter().map(ToString::to_string).collect()
    };
    let run = distill(&folder.at("run"));
    done(&run.iter().map(String::as_str).collect::<Vec<_>>());
    let model = folder.at("run/student.safetensors");
    done(&["export --model", &model, "--out", &exported]);
    let into = |command: &'static str, input: String, name: &'static str| {
        move |out: &str| vec![format!("{command} {input} --out {out}{name}")]
    };
    let again: &[&str] = &[];
    let draw = "pairs generate --teacher checkerboard --process flow --steps 2 --count 60";
    type Command<'a> = Box<dyn Fn(&str) -> Vec<String> + 'a>;
    let cases: [(Command, &[&str]); 8] = [
        (Box::new(into(draw, "--shard-size 30".into(), "")), again),
        (Box::new(into("pairs import", format!("{npz} --shard-size 30"), "")), again),
        (Box::new(into("pairs filter --below-norm 1 --pairs", pairs.clone(), "")), again),
        (Box::new(into("pairs export --pairs", pairs.clone(), "/a.npz")), again),
        (Box::new(into("import", exported, "/a.safetensors")), again),
        (Box::new(into("export --model", model.clone(), "/a.safetensors")), again),
        (Box::new(into("sample --n 3 --model", model, "/drawn")), again),
        (Box::new(distill), &["--resume"]),
    ];
    for (command, more) in &cases {
        killed_everywhere(&folder, &killer, command, more);
    }
}

#[test]
fn runs_that_are_killed_anywhere_end_in_the_same_bytes() {
    let folder = Folder::new();
    let Some(killer) = killer(&folder) else { return };
    let few = "--set pairs.count=60 --set pairs.test=40 --set pairs.steps=2 \
               --set evaluate.clusters=20 --set evaluate.directions=4 --set train.batch=16 \
               --set train.iterations=6 --set train.held_out=16 --set train.validate_every=3 \
               --set train.checkpoint_every=4 --set train.log_every=3 \
               --set teacher.train.iterations=6 --set teacher.train.batch=16 \
               --set teacher.hidden=8 --set teacher.layers=2";
    let small: Vec<&str> = SMALL[2..].to_vec();
    let run = |out: &str| {
        let base = ["run checkerboard --out", out];
        [&base[..], &small, &[few]].concat().iter().map(ToString::to_string).collect()
    };
    killed_everywhere(&folder, &killer, &run, &["--resume"]);
}
