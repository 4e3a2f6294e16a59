//! What can be wrong with the files that an experiment names, found out before any work: a path
//! that leads nowhere would otherwise end a run after hours.

use std::path::Path;

use super::distill::{LossFiles, open_loss_network};
use super::features::open_features;
use super::teacher::teacher_file;
use crate::assets::{self, Role};
use crate::experiment::TeacherKind;
use crate::run_folder::TEACHER;
use crate::{Context, Experiment, Failure, Outcome};

/// Data sets by name, which lie where the system keeps them.
const NAMED_SETS: [&str; 2] = ["fashion-mnist", "shapes"];

/// Checks all files that the stages of an experiment read in a run's `folder`; those of a teacher
/// that is there already are no longer needed.
///
/// # Errors
/// When one is not there, can't be read, or is of another kind than the experiment.
pub fn check_files(experiment: &Experiment, folder: &Path, context: Context) -> Outcome<()> {
    if !folder.join("teacher").join(TEACHER).exists() {
        check_teacher_files(experiment, context)?;
    }
    let (shape, _) = experiment.sample().expect("checked when loaded");
    let files = LossFiles::of(experiment);
    open_loss_network(experiment.loss.reconstruction, files, &shape, context.device())?;
    let e = &experiment.evaluate;
    if let Some(features) = &e.features {
        let extractor = open_features(Path::new(features), context.device())?;
        extractor
            .fits(&shape)
            .map_err(|problem| Failure::Usage(format!("`evaluate.features`: {problem}")))?;
    }
    match &e.reference {
        Some(name) if !assets::is_built_in(Role::Statistics, name) => {
            there("evaluate.reference", name)
        }
        _ => Ok(()),
    }
}

/// Checks the files that the teacher is made from.
///
/// # Errors
/// As [`check_files`].
pub fn check_teacher_files(experiment: &Experiment, context: Context) -> Outcome<()> {
    match (experiment.teacher.kind, &experiment.teacher.dataset) {
        (TeacherKind::File, _) => teacher_file(experiment, context.device()).map(drop),
        (TeacherKind::Network, Some(data)) => there("teacher.dataset", data),
        _ => Ok(()),
    }
}

/// Whether there is a data set or a file of this name.
fn there(key: &str, name: &str) -> Outcome<()> {
    if NAMED_SETS.contains(&name) || Path::new(name).exists() {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "`{key}`: there is no `{name}`; check the path, or name another with --set {key}=PATH"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;

    #[test]
    fn files_that_are_not_there_are_told_by_their_key() {
        let check = |preset: &str, settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
            let experiment = Experiment::load(preset, &settings).unwrap();
            check_files(&experiment, Path::new("run"), Context::silent(&Runtime::cpu()))
        };
        check("checkerboard", &[]).unwrap();
        check("fashion-mnist", &[]).unwrap();
        for (setting, key) in [
            ("evaluate.reference=nowhere.npz", "evaluate.reference"),
            ("evaluate.features=nowhere.safetensors", "nowhere.safetensors"),
            ("loss.features=nowhere.safetensors", "nowhere.safetensors"),
            ("teacher.path=nowhere.safetensors", "teacher.path"),
            ("evaluate.features=no-such-name", "feature network"),
        ] {
            let failure = check("fashion-mnist", &[setting]).unwrap_err();
            assert!(failure.to_string().contains(key), "{setting}: {failure}");
        }
        let failure = check("shapes", &["teacher.dataset=no/images"]).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.to_string().contains("--set teacher.dataset=PATH"), "{failure}");
    }
}
