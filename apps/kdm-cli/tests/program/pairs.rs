//! Stores of pairs: drawn, damaged, filtered, exported and imported.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kdm::data::{Array, array};

use crate::common::{
    Folder, array_of, check_failure, contents, distill, done, fails, generate, interrupted, json,
    kdm, kill, start, store, text, wait_for, write_rows,
};

/// 50 000 pairs in other batches, with other threads, by two workers, and after being killed: the
/// same bytes.
#[test]
fn pairs_are_the_same_bits_however_they_are_drawn() {
    let folder = Folder::new();
    let count = "50000";
    let one = store(&folder, "one", count, &[]);
    let other = store(&folder, "other", count, &["--batch 333 --threads 1"]);
    let expected = contents(Path::new(&one));
    assert_eq!(expected.len(), 8, "a manifest and seven shards");
    assert!(expected == contents(Path::new(&other)), "batch and threads");

    let shared = folder.at("shared");
    store(&folder, "shared", count, &["--shard 1/2"]);
    fails(&["pairs verify", &shared], 1, &["manifest.json", "unfinished: 3 of 7", "again"]);
    store(&folder, "shared", count, &["--shard 0/2"]);
    assert!(expected == contents(Path::new(&shared)), "two workers");

    // Scheduler variables name the worker.
    let slurm = folder.at("slurm");
    for rank in ["0", "1", "2"] {
        let arguments = generate(&slurm, "50000", &["--steps 4"]);
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
    let arguments = generate(&killed, "50000", &["--steps 4"]);
    for milliseconds in [15, 40, 70] {
        let child = start(&mut kdm(&arguments));
        std::thread::sleep(Duration::from_millis(milliseconds));
        kill(child);
    }
    done(&arguments);
    assert!(expected == contents(Path::new(&killed)), "killed and resumed");
    done(&["pairs verify", &killed, "--teacher checkerboard"]);
}

/// The resident memory of drawing pairs doesn't grow with their number.
#[test]
#[cfg(target_os = "linux")]
fn memory_is_flat_in_the_number_of_pairs() {
    let folder = Folder::new();
    let peak = |count: &str, name: &str| -> u64 {
        let out = folder.at(name);
        let arguments = generate(&out, count, &["--steps 1"]);
        let mut child = start(&mut kdm(&arguments));
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
fn damaged_stores_are_refused_and_repaired() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "3000", &["--shard-size 1000"]);
    let run = folder.at("run");
    let shard = folder.path("pairs").join("shard-00001.safetensors");
    let whole = fs::read(&shard).unwrap();

    let mut flipped = whole.clone();
    let last = flipped.len() - 5;
    flipped[last] ^= 0x10;
    fs::write(&shard, &flipped).unwrap();
    fails(&["pairs verify", &pairs], 1, &["shard-00001.safetensors", "sha256", "delete that file"]);
    fails(&distill(&pairs, &run, &[]), 1, &["shard-00001.safetensors", "sha256"]);

    for length in [0, 7, 100, whole.len() - 1] {
        fs::write(&shard, &whole[..length]).unwrap();
        fails(
            &["pairs verify", &pairs],
            1,
            &["shard-00001.safetensors", "header", "delete that file"],
        );
    }
    // What the message advises: only what is missing is drawn again.
    let before = fs::metadata(folder.path("pairs").join("shard-00000.safetensors"))
        .unwrap()
        .modified()
        .unwrap();
    fs::remove_file(&shard).unwrap();
    let manifest = folder.path("pairs").join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fails(&["pairs verify", &pairs], 1, &["shard-00001.safetensors", "is missing", "again"]);
    store(&folder, "pairs", "3000", &["--shard-size 1000"]);
    assert_eq!(fs::read(&shard).unwrap(), whole);
    assert_eq!(
        fs::metadata(folder.path("pairs").join("shard-00000.safetensors"))
            .unwrap()
            .modified()
            .unwrap(),
        before
    );
    done(&["pairs verify", &pairs]);

    // The manifest edited, cut, of another version, or of another teacher.
    fs::write(&manifest, text.replace("\"noise_std\": 1.0", "\"noise_std\": 2.0")).unwrap();
    fails(&["pairs verify", &pairs], 1, &["manifest.json", "checksum"]);
    fs::write(&manifest, &text[..text.len() / 2]).unwrap();
    fails(&["pairs verify", &pairs], 1, &["manifest.json", "not JSON"]);
    fs::write(&manifest, text.replace("\"version\": 1", "\"version\": 9")).unwrap();
    fails(&["pairs info", &pairs], 1, &["manifest.json", "version: 9"]);
    fs::write(&manifest, &text).unwrap();
    fails(&["pairs verify", &pairs, "--teacher mixture"], 1, &["manifest.json", "exact mixture"]);
    let other = [
        "pairs generate --teacher mixture --process flow --steps 4 --count 3000",
        "--shard-size 1000 --out",
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
        done(&generate(&out, "40000", &["--steps 1"]));
    }
}

/// Ctrl-C ends a drawing at its next batch: finished shards stay, and the same command goes on to
/// the same bytes.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_drawing_and_keeps_its_shards() {
    let folder = Folder::new();
    let draw = ["pairs generate --teacher fashion-mnist --steps 3 --batch 2 --shard-size 4"];
    let (whole, stopped) = (folder.at("whole"), folder.at("stopped"));
    let arguments = |out| [&draw[..], &["--count 24 --out", out]].concat();
    done(&arguments(&whole));
    let mut command = kdm(&arguments(&stopped));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&folder.path("stopped/shard-00000.safetensors"));
    let output = interrupted(child);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.contains("continue with `kdm pairs generate "), "{message}");
    assert!(contents(Path::new(&stopped)).len() < contents(Path::new(&whole)).len());
    done(&arguments(&stopped));
    assert!(contents(Path::new(&stopped)) == contents(Path::new(&whole)));
}

#[test]
fn pairs_are_filtered_exported_and_imported() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "2000", &["--steps 18"]);
    let exported = folder.at("pairs.npz");
    done(&["pairs export --pairs", &pairs, "--out", &exported]);
    let again = folder.at("again");
    done(&["pairs import", &exported, "--out", &again]);
    done(&["pairs verify", &again]);
    let twice = folder.at("twice.npz");
    done(&["pairs export --pairs", &again, "--out", &twice]);
    assert_eq!(
        array::read_npz(Path::new(&exported)).unwrap(),
        array::read_npz(Path::new(&twice)).unwrap()
    );

    // Everything within 1.2 of the centre of one square goes, and nothing else does.
    let unwanted = write_rows(&folder.path("unwanted.npy"), vec![3.33, 3.33], 2);
    let near = folder.at("near");
    done(&["pairs filter --pairs", &pairs, "--out", &near, "--near", &unwanted, "--radius 1.2"]);
    let kept = folder.at("near.npz");
    done(&["pairs export --pairs", &near, "--out", &kept]);
    let images = |path: &str| array_of(Path::new(path), "image");
    let far = |p: &&[f32]| (p[0] - 3.33).hypot(p[1] - 3.33) > 1.2;
    let all = images(&exported);
    let expected: Vec<f32> = all.data.chunks(2).filter(far).flatten().copied().collect();
    assert!(expected.len() < all.data.len());
    assert_eq!(images(&kept).data, expected);
    let info = json(&["pairs info", &near, "--json"]);
    assert!(info["history"][0].as_str().unwrap().contains("unwanted"));

    let norm = folder.at("norm");
    done(&["pairs filter --pairs", &pairs, "--out", &norm, "--above-norm 3 --outliers-above 4"]);
    let kept = folder.at("norm.npz");
    done(&["pairs export --pairs", &norm, "--out", &kept]);
    assert!(images(&kept).data.chunks(2).all(|p| p[0].hypot(p[1]) <= 3.0));
    fails(
        &["pairs filter --pairs", &pairs, "--out", &norm, "--below-norm 99"],
        1,
        &["every pair would be dropped"],
    );
    fails(&["pairs filter --pairs", &pairs, "--out", &norm], 2, &["nothing to drop"]);

    // The official layout: (steps, points, 2), noise first.
    let path = folder.path("official.npy");
    let trajectory: Vec<f32> = (0..3 * 50 * 2).map(|i| (i as f32 * 0.7).sin()).collect();
    array::write_npy(&path, &Array::new([3, 50, 2], trajectory.clone())).unwrap();
    let official = folder.at("official");
    done(&["pairs import", &folder.at("official.npy"), "--out", &official, "--noise-std 1"]);
    let exported = folder.at("official.npz");
    done(&["pairs export --pairs", &official, "--out", &exported]);
    assert_eq!(images(&exported).data, trajectory[200..]);
    fails(&["pairs import", &unwanted, "--out", &folder.at("x")], 1, &["unwanted.npy", "layout"]);
}

/// States between noise and image: drawn, told, exported, brought in again, and those of the
/// official layout.
#[test]
fn stores_keep_states() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "300", &["--states 2"]);
    done(&["pairs verify", &pairs]);
    let info = json(&["pairs info", &pairs, "--json"]);
    let tau = |i: usize| info["states"][i]["tau"].as_f64().unwrap();
    assert_eq!((tau(0), tau(1), info["states"].as_array().unwrap().len()), (0.25, 0.75, 2));
    let exported = folder.at("pairs.npz");
    done(&["pairs export --pairs", &pairs, "--out", &exported]);
    let states = array_of(Path::new(&exported), "states");
    assert_eq!(states.shape, [300, 2, 2]);
    let (again, twice) = (folder.at("again"), folder.at("twice.npz"));
    done(&["pairs import", &exported, "--states --out", &again]);
    done(&["pairs export --pairs", &again, "--out", &twice]);
    let of = |path: &str| array::read_npz(Path::new(path)).unwrap();
    assert_eq!(of(&exported), of(&twice));
    // Four steps of a flow have three states between.
    let more = folder.at("more");
    let more = generate(&more, "10", &["--steps 4 --states 4"]);
    fails(&more, 2, &["have 3 states", "keep fewer"]);

    let path = folder.at("official.npy");
    let trajectory: Vec<f32> = (0..10 * 50 * 2).map(|i| (i as f32 * 0.7).sin()).collect();
    array::write_npy(Path::new(&path), &Array::new([10, 50, 2], trajectory.clone())).unwrap();
    let (official, exported) = (folder.at("official"), folder.at("official.npz"));
    done(&["pairs import", &path, "--states --noise-std 1 --out", &official]);
    done(&["pairs export --pairs", &official, "--out", &exported]);
    let states = array_of(Path::new(&exported), "states");
    assert_eq!(states.shape, [50, 8, 2]);
    // The third state of pair 7 lies at the fourth of ten times.
    let (found, given) =
        (&states.data[(7 * 8 + 2) * 2..][..2], &trajectory[(3 * 50 + 7) * 2..][..2]);
    assert!(found.iter().zip(given).all(|(a, b)| (a - b).abs() < 5e-4), "{found:?} {given:?}");
    let times = array_of(Path::new(&exported), "state_times").data;
    assert!((times[3 * 2] - 1.0 / 3.0).abs() < 1e-6 && (times[3 * 2 + 2] - 2.0 / 3.0).abs() < 1e-6);
    let plain = folder.at("plain.npz");
    done(&["pairs export --pairs", &store(&folder, "plain", "10", &[]), "--out", &plain]);
    fails(&["pairs import", &plain, "--states --out", &folder.at("x")], 1, &["states"]);
}

/// Stores of successive seeds that were drawn apart become the store that is drawn at once; a pair
/// is in a store once.
#[test]
fn stores_drawn_apart_are_merged() {
    let folder = Folder::new();
    store(&folder, "whole", "90", &[]);
    let (a, b) = (store(&folder, "a", "40", &[]), store(&folder, "b", "50", &["--first-seed 40"]));
    let merged = folder.at("merged");
    let said = done(&["pairs merge", &a, &b, "--out", &merged]);
    assert!(said.starts_with("90 pairs of 2 stores"), "{said}");
    assert_eq!(contents(&folder.path("whole")), contents(&folder.path("merged")));
    done(&["pairs verify", &merged, "--teacher checkerboard"]);
    let other = folder.at("other");
    fails(&["pairs merge", &a, &merged, "--out", &other], 1, &["seed 0", "a` too"]);
    fails(&["pairs merge", &a, "--out", &a], 2, &["--out"]);
}
