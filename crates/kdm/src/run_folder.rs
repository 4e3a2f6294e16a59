//! The folder of a run: its configuration, and the names of what stages leave in it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use kdm_data::atomic;
use kdm_data::lock::{FolderLock, is_lock};
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
/// How long a run took so far, in its folder.
pub const TIME: &str = "time.json";
/// A copy of the student that a distillation begins with, in its folder; none for fresh weights.
pub const INIT: &str = "init.safetensors";

/// The key of an experiment that may grow when a run is gone on with.
pub const LENGTH: &str = "train.iterations";
/// The same for the training of a teacher on its own.
pub const TEACHER_LENGTH: &str = "teacher.train.iterations";

/// The folder of a run, which is this process's as long as this is held.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// What was in it before.
    there: BTreeSet<OsString>,
    /// Those of its folders that were not there before, itself first and then those above it.
    made: Vec<PathBuf>,
    _held: FolderLock,
}

impl RunFolder {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The result of work in this folder: one that failed, and was not stopped, [abandons
    /// it](Self::abandon).
    ///
    /// # Errors
    /// Those of `result`.
    pub fn after<T>(self, result: Outcome<T>) -> Outcome<T> {
        result.inspect_err(|failure| {
            if !failure.is_stop() {
                self.abandon();
            }
        })
    }

    /// Gives the folder up. Where the run failed before it made anything, what it left behind is
    /// removed: a configuration, a copy of where it was to begin, folders without a file.
    /// Otherwise the next command would find the folder taken, by a run that can't go on. What was
    /// there before stays, and so does the folder itself if it was.
    pub fn abandon(self) {
        let Self { path, there, made, _held } = self;
        if made_something(&path) {
            return;
        }
        let new = names(&path).into_iter().filter(|name| !there.contains(name));
        for name in new.filter(|name| !is_lock(&name.to_string_lossy())) {
            let place = path.join(name);
            // One of the two is refused; links are removed and not followed.
            let _ = std::fs::remove_file(&place).or_else(|_| std::fs::remove_dir_all(&place));
        }
        drop(_held);
        // Folders that hold something stay.
        let _ = made.iter().try_for_each(std::fs::remove_dir);
    }
}

/// The names in a folder; none where it can't be read.
fn names(folder: &Path) -> BTreeSet<OsString> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).collect()
}

/// Makes `folder` a run of this experiment, or goes on with the one it holds when `resume` is set,
/// for longer where `length` ([`LENGTH`] or [`TEACHER_LENGTH`]) has grown. It is this process's as
/// long as what is given is held.
///
/// # Errors
/// As [`check_run`], and when the folder can't be written or another process works in it.
pub fn open_run(
    folder: &Path,
    experiment: &Experiment,
    resume: bool,
    length: &str,
) -> Outcome<RunFolder> {
    let above = folder.ancestors().filter(|above| !above.as_os_str().is_empty());
    let made = above.take_while(|above| !above.exists()).map(Path::to_path_buf).collect();
    let before = names(folder);
    // What another process has begun is told as such before it is told what to do with it.
    let there = folder.is_dir().then(|| FolderLock::take(folder)).transpose()?;
    check_run(folder, experiment, resume, length)?;
    atomic::create_folder(folder)?;
    let _held = there.map_or_else(|| FolderLock::take(folder), Ok)?;
    let (config, text) = (folder.join(CONFIG), experiment.to_toml());
    if !std::fs::read_to_string(&config).is_ok_and(|begun| begun == text) {
        atomic::write(&config, text.as_bytes())?;
    }
    atomic::remove_parts(folder);
    Ok(RunFolder { path: folder.to_path_buf(), there: before, made, _held })
}

/// Whether `folder` can become a run of this experiment, or holds one that goes on when `resume` is
/// set. What a process that was killed before it wrote its configuration left there is nothing.
/// Nothing is written.
///
/// # Errors
/// When the folder holds something and `resume` is not set, or holds a run of another
/// configuration: one that differs in more than a greater `length`.
pub fn check_run(
    folder: &Path,
    experiment: &Experiment,
    resume: bool,
    length: &str,
) -> Outcome<()> {
    let config = folder.join(CONFIG);
    let occupied = std::fs::read_dir(folder).is_ok_and(|entries| {
        let names = entries.flatten().map(|entry| entry.file_name());
        names.into_iter().any(|name| !atomic::is_leftover(&name.to_string_lossy()))
    });
    if resume {
        check_resumed(folder, &experiment.name)?;
    }
    let shown = folder.display();
    if !occupied {
        return Ok(());
    }
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
    let (mut begun, asked) = (json!(Experiment::read(&config)?), json!(experiment));
    let place = format!("/{}", length.replace('.', "/"));
    let [before, now] =
        [&begun, &asked].map(|of| of.pointer(&place).and_then(Value::as_u64).unwrap_or(0));
    let shown = config.display();
    if now < before {
        return Err(Failure::Usage(format!(
            "`{shown}`: `{length}`: the run is one of {before}, and this command asks for {now}; \
             resume with --set {length}={before} or more: a run can be extended, not shortened"
        )));
    }
    if let Some(value) = begun.pointer_mut(&place) {
        *value = json!(now);
    }
    match first_difference(&begun, &asked, "") {
        None => Ok(()),
        Some(Difference { key, begun, asked }) => Err(Failure::Usage(format!(
            "`{shown}`: `{key}`: the run was begun with {begun}, and this command asks for \
             {asked}; resume with the same preset and --set (only `{length}` may grow), or begin \
             another run with another --out"
        ))),
    }
}

/// Whether `folder` is there to go on in, and holds no run of another name.
///
/// # Errors
/// When it is not, or does; the message says which command goes on.
pub fn check_resumed(folder: &Path, name: &str) -> Outcome<()> {
    let shown = folder.display();
    if !folder.exists() {
        return Err(Failure::Usage(format!(
            "`{shown}`: there is no run to go on with; leave --resume out to begin one there, or \
             name the folder of a run with --out"
        )));
    }
    let config = folder.join(CONFIG);
    if !config.exists() {
        return Ok(());
    }
    let kept = Experiment::read(&config)?.name;
    if kept == name {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "`{shown}` holds the run `{kept}`, and this command is of `{name}`: go on with `{kept}` by \
         the command that began it and --resume, or begin `{name}` in another folder, without \
         --resume"
    )))
}

/// Whether there is a file of work in a folder of a run; also where that can't be told.
fn made_something(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return true };
    entries.into_iter().any(|entry| {
        let Ok(entry) = entry else { return true };
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            return made_something(&entry.path());
        }
        !([CONFIG, INIT, TIME].contains(&name.as_str()) || atomic::is_leftover(&name))
    })
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
        let failure = open_run(&place, &experiment, true, LENGTH).unwrap_err();
        assert!(failure.to_string().contains("no run to go on with"), "{failure}");
        assert!(!place.exists());
        // Left by a process that was killed at once.
        atomic::create_folder(&place).unwrap();
        std::fs::write(place.join(".config.toml.part-1"), "name").unwrap();
        std::fs::write(place.join(".lock"), "process 1").unwrap();
        let held = open_run(&place, &experiment, false, LENGTH).unwrap();
        let failure = open_run(&place, &experiment, true, LENGTH).unwrap_err();
        assert!(failure.to_string().contains("works in it"), "{failure}");
        drop(held);
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), if cfg!(unix) { 1 } else { 2 });
        assert_eq!(Experiment::read(&place.join(CONFIG)).unwrap(), experiment);
        let refused = |experiment: &Experiment, resume| {
            let failure = open_run(&place, experiment, resume, LENGTH).unwrap_err();
            assert_eq!(failure.exit_code(), 2);
            failure.to_string()
        };
        assert!(refused(&experiment, false).contains("--resume"));
        open_run(&place, &experiment, true, LENGTH).unwrap();
        let other = Experiment::load("checkerboard", &["train.lr=0.5".into()]).unwrap();
        let message = refused(&other, true);
        assert!(message.contains("`train.lr`") && message.contains("0.5"), "{message}");
        let message = refused(&Experiment::load("gaussian", &[]).unwrap(), true);
        assert!(message.contains("holds the run `checkerboard`"), "{message}");
        std::fs::remove_file(place.join(CONFIG)).unwrap();
        std::fs::write(place.join("other"), "").unwrap();
        assert!(refused(&experiment, true).contains("holds no run"));
    }

    /// A run may be asked for more iterations, not for fewer and not for anything else; its folder
    /// then says so.
    #[test]
    fn a_run_may_grow() {
        let folder = tempfile::tempdir().unwrap();
        let load = |settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
            Experiment::load("checkerboard", &settings).unwrap()
        };
        let open = |settings: &[&str], length: &str| {
            open_run(folder.path(), &load(settings), true, length).map(drop)
        };
        open(&["train.iterations=300"], LENGTH).unwrap();
        open(&["train.iterations=500"], LENGTH).unwrap();
        let kept = Experiment::read(&folder.path().join(CONFIG)).unwrap();
        assert_eq!(kept.train.iterations, 500);
        for (settings, length, parts) in [
            (&["train.iterations=300"][..], LENGTH, ["500", "not shortened"]),
            (&["train.iterations=600", "train.lr=0.5"], LENGTH, ["train.lr", "only `train.iter"]),
            (
                &["train.iterations=500", "teacher.train.iterations=999999"],
                LENGTH,
                ["teacher.train.iterations", "999999"],
            ),
            (&["train.iterations=600"], TEACHER_LENGTH, ["`train.iterations`", "600"]),
        ] {
            let message = open(settings, length).unwrap_err().to_string();
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
        open(&["train.iterations=500", "teacher.train.iterations=999999"], TEACHER_LENGTH).unwrap();
    }

    /// What failed before it made anything leaves nothing; what made something stays.
    #[test]
    fn a_run_that_made_nothing_is_abandoned() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("runs/run");
        let experiment = Experiment::load("checkerboard", &[]).unwrap();
        let begin = |resume: bool| {
            let run = open_run(&place, &experiment, resume, LENGTH).unwrap();
            atomic::create_folder(&place.join("teacher")).unwrap();
            run
        };
        begin(false).abandon();
        assert!(!folder.path().join("runs").exists());
        // A run that an earlier process began stays one.
        drop(begin(false));
        std::fs::remove_dir(place.join("teacher")).unwrap();
        begin(true).abandon();
        assert_eq!(names(&place), BTreeSet::from([CONFIG.into()]));
        let run = begin(true);
        std::fs::write(place.join("teacher").join(TEACHER), "weights").unwrap();
        run.abandon();
        assert!(place.join("teacher").join(TEACHER).exists() && place.join(CONFIG).exists());
    }

    /// A folder that was there before stays, and so does a link to one.
    #[test]
    fn a_folder_of_somebody_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let experiment = Experiment::load("checkerboard", &[]).unwrap();
        let mine = folder.path().join("mine");
        std::fs::create_dir(&mine).unwrap();
        let mut places = vec![mine.clone()];
        #[cfg(unix)]
        {
            places.push(folder.path().join("link"));
            std::os::unix::fs::symlink(&mine, &places[1]).unwrap();
        }
        for place in places {
            let run = open_run(&place, &experiment, false, LENGTH).unwrap();
            atomic::create_folder(&place.join("distill")).unwrap();
            run.abandon();
            assert!(place.is_dir() && names(&mine).is_empty(), "{}", place.display());
        }
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
