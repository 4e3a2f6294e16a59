//! Nothing is lost: outputs that are inputs or other files, damaged files, two processes in one
//! folder, output that can't be written, and limits of the system.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use kdm::data::lock::FolderLock;

use crate::common::{
    Folder, SMALL, check_failure, contents, distill, done, fails, image_zip, kdm, start, store,
    text, write_rows,
};

/// Every command that writes a file refuses its own inputs, under other names too, and leaves them
/// as they are.
#[cfg(unix)]
#[test]
fn an_output_is_never_an_input() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "300", &[]);
    let run = folder.at("run");
    done(&distill(&pairs, &run, &["--set train.iterations=2 --set train.held_out=20"]));
    let model = folder.at("run/student.safetensors");
    let exported = folder.at("exported.safetensors");
    done(&["export --model", &model, "--out", &exported]);
    let noise = write_rows(&folder.path("noise.npy"), vec![0.5; 8], 2);
    let images = folder.at("bars.zip");
    image_zip(Path::new(&images), 4, 8, 2);
    let npz = folder.at("pairs.npz");
    done(&["pairs export --pairs", &pairs, "--out", &npz]);
    std::os::unix::fs::symlink(&model, folder.path("link.safetensors")).unwrap();
    std::os::unix::fs::symlink(&pairs, folder.path("link")).unwrap();
    let other = |name: &str| format!("{}/./run/../{name}", folder.at(""));
    let before = [&model, &exported, &noise, &images, &npz].map(|path| fs::read(path).unwrap());
    let store_before = contents(Path::new(&pairs));
    for (arguments, out) in [
        (vec!["import", &exported], &exported),
        (vec!["export --model", &model], &folder.at("link.safetensors")),
        (vec!["export --model", &folder.at("link.safetensors")], &model),
        (vec!["convert", &model], &other("run/student.safetensors")),
        (vec!["compress --rank 2 --model", &model], &model),
        (vec!["pairs import", &npz], &npz),
        (vec!["pairs export --pairs", &pairs], &folder.at("link/pairs.npz")),
        (vec!["pairs filter --below-norm 1 --pairs", &pairs], &folder.at("link")),
        (vec!["pairs filter --below-norm 1 --pairs", &pairs], &folder.at("pairs/new/deep")),
        (vec!["sample --model", &model, "--noise", &noise], &noise),
        (vec!["sample --model", &model, "--noise", &noise], &other("noise.npy")),
        (vec!["teacher sample --model checkerboard --noise", &noise], &noise),
        (vec!["teacher denoise --model checkerboard --sigma 1 --input", &noise], &noise),
        (vec!["data export", &images], &images),
        (vec!["analyze --model", &model, "--pairs", &pairs], &folder.at("pairs/analysis")),
        (vec!["invert --model", &model, "--pairs", &pairs], &pairs),
    ] {
        let force: &[&str] =
            if arguments[0].starts_with("pairs export") { &["--force"] } else { &[] };
        let all = [&arguments[..], &["--out", out], force].concat();
        fails(&all, 2, &["--out", "reads"]);
    }
    let after = [&model, &exported, &noise, &images, &npz].map(|path| fs::read(path).unwrap());
    assert!(before == after && store_before == contents(Path::new(&pairs)));
    // A folder for samples whose own file is the noise.
    fs::create_dir(folder.path("drawn")).unwrap();
    fs::copy(&noise, folder.path("drawn/samples.npy")).unwrap();
    let noise = folder.at("drawn/samples.npy");
    fails(
        &["sample --model", &model, "--noise", &noise, "--out", &folder.at("drawn")],
        2,
        &["reads"],
    );
}

/// A file of another kind is replaced with --force alone; devices and pipes never are.
#[test]
fn a_file_of_another_kind_is_kept() {
    let folder = Folder::new();
    let (text, model) = (folder.at("thesis.txt"), folder.at("model.safetensors"));
    fs::write(&text, "years of work").unwrap();
    let convert = |out| ["convert --out", out];
    let teacher = folder.at("run/teacher.safetensors");
    done(&["teacher train --preset gaussian --out", &folder.at("run")]);
    fails(&[&convert(&text)[..], &[&teacher]].concat(), 2, &["a text", "--force"]);
    assert_eq!(fs::read_to_string(&text).unwrap(), "years of work");
    done(&[&convert(&model)[..], &[&teacher]].concat());
    done(&[&convert(&model)[..], &[&teacher]].concat());
    let sample = ["sample --model fashion-mnist --n 1 --out"];
    let picture = folder.at("a.png");
    fs::copy(&model, &picture).unwrap();
    fails(&[&sample[..], &[&picture]].concat(), 2, &["of a teacher", "a picture", "--force"]);
    done(&[&sample[..], &[&picture, "--force"]].concat());
    done(&[&sample[..], &[&picture]].concat());
    fails(&["export --force --model", &teacher, "--out", &folder.at("run")], 2, &[".safetensors"]);
    #[cfg(unix)]
    for device in ["/dev/null", "/dev/stdout"] {
        let all = [&convert(device)[..], &[&teacher, "--force"]].concat();
        let output = kdm(&all).stdout(Stdio::piped()).output().unwrap();
        check_failure(&output, &all, 2, &["a device or a pipe"]);
    }
}

/// What can't be written to standard output is a failure; a reader that has had enough is not.
#[cfg(target_os = "linux")]
#[test]
fn standard_output_that_takes_nothing_is_a_failure() {
    let full = || Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    for arguments in ["presets", "run checkerboard --dry-run", "--help", "completions bash"] {
        let output = kdm(&[arguments]).stdout(full()).output().unwrap();
        check_failure(&output, &[arguments], 1, &["standard output", "free some space"]);
        let mut child = kdm(&[arguments]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        drop(child.as_mut().unwrap().stdout.take());
        let output = child.unwrap().wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        // What can't be told on standard error is lost, and the work is done.
        let output = kdm(&[arguments]).stderr(full()).output().unwrap();
        assert!(output.status.success());
    }
    assert_eq!(kdm(&["info nowhere.npy"]).stderr(full()).status().unwrap().code(), Some(1));
}

/// While one process works in a folder, others are told which.
#[test]
fn a_folder_has_one_process_at_a_time() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "300", &[]);
    let run = folder.at("run");
    let more = ["--set train.iterations=2 --set train.held_out=20"];
    done(&distill(&pairs, &run, &more));
    let holder = format!("process {}", std::process::id());
    let held = [&pairs, &run].map(|path| FolderLock::take(Path::new(path)).unwrap());
    fails(
        &distill(&pairs, &run, &[&more[..], &["--resume"]].concat()),
        1,
        &[&holder, "another folder"],
    );
    let draw = |out: &str, more: &str| {
        [
            "pairs generate --teacher checkerboard --process flow --steps 4 --count 300 --out",
            out,
            more,
        ]
        .map(String::from)
    };
    let words = draw(&pairs, "");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    fails(&words, 1, &["pairs", &holder, "wait"]);
    drop(held);
    done(&words);
    // Workers of one store have a share each.
    let _held = FolderLock::take_share(Path::new(&pairs), 0).unwrap();
    fails(&[&words[..], &["--shard 0/2"]].concat(), 1, &[&holder]);
    done(&[&words[..], &["--shard 1/2"]].concat());
    fails(&words, 1, &["works in it"]);
}

/// A checkpoint that has changed is refused; without it the training begins anew and ends in the
/// same bytes. A model that has changed draws nothing.
#[test]
fn damaged_models_and_checkpoints_are_told() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "300", &[]);
    let run = folder.at("run");
    let more = ["--set train.iterations=6 --set train.held_out=20 --set train.checkpoint_every=4"];
    done(&distill(&pairs, &run, &more));
    let again = distill(&pairs, &run, &[&more[..], &["--resume"]].concat());
    let (model, checkpoint) =
        (folder.path("run/student.safetensors"), folder.path("run/checkpoint.safetensors"));
    let (whole, state) = (fs::read(&model).unwrap(), fs::read(&checkpoint).unwrap());
    let flipped = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 4;
        bytes
    };
    for part in 1..20 {
        fs::write(&checkpoint, flipped(&state, part * state.len() / 20)).unwrap();
        fails(&again, 1, &["checkpoint.safetensors", "remove it"]);
        let out = folder.at("a.npy");
        fs::write(&model, flipped(&whole, part * whole.len() / 20)).unwrap();
        let path = model.to_string_lossy();
        fails(&["sample --n 2 --model", &path, "--out", &out], 1, &["student.safetensors"]);
    }
    fs::remove_file(&checkpoint).unwrap();
    done(&again);
    assert!(fs::read(&model).unwrap() == whole && fs::read(&checkpoint).unwrap() == state);
}

/// Limits of the system end work with one message and the command that goes on; it ends in the
/// same bytes.
#[cfg(target_os = "linux")]
#[test]
fn limits_of_the_system_end_work_with_one_message() {
    let folder = Folder::new();
    let small = SMALL.map(|words| words.replace("held_out=200", "held_out=20"));
    let small: Vec<&str> = small.iter().map(String::as_str).collect();
    let run = |out: &str, more: &[&str]| {
        let base = [
            "run checkerboard --threads 1 --set teacher.kind=exact --set pairs.count=300",
            "--set pairs.test=40 --set pairs.steps=2 --set evaluate.clusters=20",
            "--set train.iterations=6 --out",
        ];
        let all: Vec<String> =
            [&base[..], &[out], &small, more].concat().iter().map(ToString::to_string).collect();
        all
    };
    let limited = |limit: &str, words: &[String], parts: &[&str]| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let program = kdm(&words);
        let mut shell = std::process::Command::new("bash");
        shell.args(["-c", &format!("trap '' XFSZ; ulimit {limit}; exec \"$0\" \"$@\"")]);
        shell.arg(program.get_program()).args(program.get_args());
        check_failure(&shell.output().unwrap(), &words, 1, parts)
    };
    let whole = run(&folder.at("whole"), &[]);
    done(&whole.iter().map(String::as_str).collect::<Vec<_>>());
    for (limit, name, parts) in [
        // Files of 8 blocks at most stand for a disk that is full: models are larger.
        ("-f 8", "full", &["free some space; what was finished is kept", "--resume`"][..]),
        ("-n 5", "few", &["open files", "ulimit -n"]),
        ("-v 75000", "narrow", &["out of memory", "--resume"]),
    ] {
        let out = folder.at(name);
        limited(limit, &run(&out, &[]), parts);
        let again = run(&out, &["--resume"]);
        done(&again.iter().map(String::as_str).collect::<Vec<_>>());
        let read = |run: &str, name: &str| fs::read(folder.path(run).join(name)).unwrap();
        for file in ["student.safetensors", "distill/checkpoint.safetensors"] {
            assert!(read("whole", file) == read(name, file), "{limit}: {file}");
        }
        let names = |run: &str| {
            let all = fs::read_dir(folder.path(run)).unwrap();
            let mut names: Vec<_> = all.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(name), names("whole"), "{limit}: nothing is left over");
    }
}

/// A folder's name that leads elsewhere, a key of endless levels, and a teacher that diverges.
#[test]
fn names_and_keys_are_told() {
    let folder = Folder::new();
    let out = folder.at("run");
    for name in ["name=\"../../x\"", "name=\"..\"", "name=\"\"", "name=\"a/b\""] {
        fails(&["run checkerboard --set", name, "--out", &out], 2, &["`name`", "letters"]);
    }
    let compare = "compare=[{name=\"..\",set={train={lr=0.1}}}]";
    fails(&["compare fashion-mnist --set", compare, "--out", &out], 2, &["compare `..`"]);
    let deep = format!("{}a=1", "a.".repeat(60_000));
    let message = fails(&["run checkerboard --dry-run --set", &deep], 2, &["60001 levels"]);
    assert!(message.len() < 400, "{message}");
    assert!(!Path::new(&out).exists());
    let wild = [
        "--set teacher.train.lr=1e30 --set teacher.hidden=16 --set teacher.train.iterations=40",
        "--set teacher.train.batch=32",
    ];
    let train = [&["teacher train --preset checkerboard --out", &out][..], &wild].concat();
    let message = fails(&train, 1, &["not finite", "lower `teacher.train.lr`"]);
    assert!(!message.contains("`train.lr`"), "{message}");
}

/// A process that is killed while it holds a folder holds it no longer, and leaves no lock behind.
#[test]
fn a_killed_process_holds_nothing() {
    let folder = Folder::new();
    let out = folder.at("pairs");
    let draw =
        ["pairs generate --teacher fashion-mnist --steps 3 --batch 2 --count 24 --out", &out];
    let child = start(&mut kdm(&draw));
    crate::common::wait_for(&folder.path("pairs/manifest.json"));
    let second = kdm(&draw).output().unwrap();
    let holder = format!("process {}", child.id());
    check_failure(&second, &draw, 1, &[&holder]);
    crate::common::kill(child);
    let third = kdm(&draw).output().unwrap();
    assert!(third.status.success(), "{}", text(&third.stderr));
    assert!(!folder.path("pairs/.lock").exists());
}
