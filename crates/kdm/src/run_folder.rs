//! The folder of a run: its configuration, and the names of what stages leave in it.

use std::path::{Path, PathBuf};

use kdm_data::atomic;
use kdm_data::lock::FolderLock;
use serde_json::{Value, json};

use crate::{Experiment, Failure, Outcome};

/// The configuration in a run folder.
pub const CONFIG: &str = "config.toml";
/// The student to use, in a run folder.
pub const STUDENT: &str = "student.safetensors";
/// The teacher, in a run folder.
pub const TEACHER: &str = "teacher.safetensors";
/// The feature network, in the folder it was trained in.
pub const FEATURES: &str = "features.safetensors";
/// The evaluation, in a run folder.
pub const EVALUATION: &str = "evaluation.json";
/// The table of a comparison, in its folder.
pub const COMPARISON: &str = "comparison.json";
/// The page, in the folder of a run or an analysis.
pub const REPORT: &str = "report.html";

/// Makes `folder` a run of this experiment, or goes on with the one it holds when `resume` is set.
/// It is this process's as long as what is given is held.
///
/// # Errors
/// As [`check_run`], and when the folder can't be written or another process works in it.
pub fn open_run(folder: &Path, experiment: &Experiment, resume: bool) -> Outcome<FolderLock> {
    // What another process has begun is told as such before it is told what to do with it.
    let there = folder.is_dir().then(|| FolderLock::take(folder)).transpose()?;
    check_run(folder, experiment, resume)?;
    atomic::create_folder(folder)?;
    let held = there.map_or_else(|| FolderLock::take(folder), Ok)?;
    let config = folder.join(CONFIG);
    if !config.exists() {
        atomic::write(&config, experiment.to_toml().as_bytes())?;
    }
    atomic::remove_parts(folder);
    Ok(held)
}

/// Whether `folder` can become a run of this experiment, or holds one that goes on when `resume` is
/// set. What a process that was killed before it wrote its configuration left there is nothing.
/// Nothing is written.
///
/// # Errors
/// When the folder holds something and `resume` is not set, or holds a run of another
/// configuration.
pub fn check_run(folder: &Path, experiment: &Experiment, resume: bool) -> Outcome<()> {
    let config = folder.join(CONFIG);
    let occupied = std::fs::read_dir(folder).is_ok_and(|entries| {
        let names = entries.flatten().map(|entry| entry.file_name());
        names.into_iter().any(|name| !atomic::is_leftover(&name.to_string_lossy()))
    });
    if !occupied {
        return Ok(());
    }
    let shown = folder.display();
    if !resume {
        return Err(Failure::Usage(format!(
            "`{shown}` is not empty: go on with the run in it with --resume, or choose another \
             folder with --out"
        )));
    }
    if !config.exists() {
        return Err(Failure::Usage(format!(
            "`{shown}` holds no run ({CONFIG} is missing): choose another folder with --out"
        )));
    }
    let begun = Experiment::read(&config)?;
    match first_difference(&json!(begun), &json!(experiment), "") {
        None => Ok(()),
        Some(Difference { key, begun, asked }) => Err(Failure::Usage(format!(
            "`{}`: `{key}`: the run was begun with {begun}, and this command asks for {asked}; \
             resume with the same preset and --set, or begin another run with another --out",
            config.display()
        ))),
    }
}

/// A key whose value differs between two configurations.
struct Difference {
    key: String,
    begun: Value,
    asked: Value,
}

fn first_difference(begun: &Value, asked: &Value, path: &str) -> Option<Difference> {
    match (begun, asked) {
        (Value::Object(x), Value::Object(y)) => {
            let keys: std::collections::BTreeSet<&String> = x.keys().chain(y.keys()).collect();
            keys.into_iter().find_map(|key| {
                let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let of = |object: &serde_json::Map<String, Value>| {
                    object.get(key).cloned().unwrap_or(Value::Null)
                };
                first_difference(&of(x), &of(y), &at)
            })
        }
        _ if begun == asked => None,
        _ => Some(Difference { key: path.into(), begun: begun.clone(), asked: asked.clone() }),
    }
}

/// The first folder `runs/NNNNN-name` that isn't there yet.
pub fn next_run_folder(name: &str) -> PathBuf {
    let taken = |i: usize| {
        std::fs::read_dir("runs").is_ok_and(|entries| {
            entries
                .flatten()
                .any(|e| e.file_name().to_string_lossy().starts_with(&format!("{i:05}-")))
        })
    };
    let i = (0..).find(|i| !taken(*i)).expect("numbers don't end");
    Path::new("runs").join(format!("{i:05}-{name}"))
}

/// JSON for a person.
pub fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("plain data") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_folder_is_claimed_once_and_gone_on_with_by_the_same_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("run");
        let experiment = Experiment::load("checkerboard", &[]).unwrap();
        // Left by a process that was killed at once.
        atomic::create_folder(&place).unwrap();
        std::fs::write(place.join(".config.toml.part-1"), "name").unwrap();
        std::fs::write(place.join(".lock"), "process 1").unwrap();
        let held = open_run(&place, &experiment, false).unwrap();
        let failure = open_run(&place, &experiment, true).unwrap_err();
        assert!(failure.to_string().contains("works in it"), "{failure}");
        drop(held);
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), if cfg!(unix) { 1 } else { 2 });
        assert_eq!(Experiment::read(&place.join(CONFIG)).unwrap(), experiment);
        let refused = |experiment: &Experiment, resume| {
            let failure = open_run(&place, experiment, resume).unwrap_err();
            assert_eq!(failure.exit_code(), 2);
            failure.to_string()
        };
        assert!(refused(&experiment, false).contains("--resume"));
        open_run(&place, &experiment, true).unwrap();
        let other = Experiment::load("checkerboard", &["train.lr=0.5".into()]).unwrap();
        let message = refused(&other, true);
        assert!(message.contains("`train.lr`") && message.contains("0.5"), "{message}");
        std::fs::remove_file(place.join(CONFIG)).unwrap();
        std::fs::write(place.join("other"), "").unwrap();
        assert!(refused(&experiment, true).contains("holds no run"));
    }

    #[test]
    fn the_first_difference_is_named_by_its_whole_key() {
        let a = json!({"train": {"lr": 1.0, "batch": 4}, "name": "x"});
        let b = json!({"train": {"lr": 1.0, "batch": 8}, "name": "x"});
        let found = first_difference(&a, &b, "").unwrap();
        assert_eq!(
            (found.key.as_str(), found.begun, found.asked),
            ("train.batch", json!(4), json!(8))
        );
        assert!(first_difference(&a, &a, "").is_none());
        let missing = first_difference(&a, &json!({"name": "x"}), "").unwrap();
        assert_eq!((missing.key.as_str(), missing.asked), ("train", Value::Null));
    }
}
