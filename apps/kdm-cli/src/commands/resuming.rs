//! How work that keeps what it has done ends when it is stopped or fails: with what is kept, and
//! the whole command that goes on.

use std::time::Duration;

use kdm::run_folder::RunFolder;
use kdm::{Failure, Outcome, train};

use super::output::or_stopped;

/// Flags of commands that keep what they have done.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Keeping {
    /// Keep what is done at least every so many minutes, beside what the configuration says; has no
    /// effect on results
    #[arg(long, default_value_t = 5.0, value_name = "M", value_parser = minutes)]
    checkpoint_minutes: f64,
}

impl Keeping {
    /// As often as the flag says unless it is given.
    pub const DEFAULT: Self = Self { checkpoint_minutes: 5.0 };

    /// The time between two times that work is kept.
    pub fn every(self) -> Duration {
        Duration::from_secs_f64(60.0 * self.checkpoint_minutes)
    }
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse::<f64>().ok().filter(|m| (0.0..=1e6).contains(m));
    minutes.ok_or_else(|| "give a number of minutes, 0 or more".into())
}

/// The result of work in a run's folder: one that was stopped says what is kept and ends in the
/// command that goes on; one that failed before it made anything leaves no folder that would block
/// the next command. The folder is none for a worker that another one speaks for.
pub fn in_run_folder<T>(result: Outcome<T>, folder: Option<RunFolder>) -> Outcome<T> {
    let Some(folder) = folder else { return result };
    let out = folder.path().display().to_string();
    let flags = [("--out", Some(out.as_str())), ("--resume", None)];
    let result = or_continued(result, &flags, || format!("what was finished is kept in `{out}`"));
    folder.after(result)
}

/// A result whose failure, where the work was stopped, says what is kept and ends in the command
/// that goes on: this one, with the flags that it needs and doesn't have. `kept` is for work that
/// doesn't say itself what it keeps.
pub fn or_continued<T>(
    result: Outcome<T>,
    flags: &[(&str, Option<&str>)],
    kept: impl FnOnce() -> String,
) -> Outcome<T> {
    let told = result.as_ref().err().and_then(told);
    or_stopped(result, || {
        let kept = told.unwrap_or_else(kept);
        format!("stopped; {kept}; continue with `{}`", this_command(flags))
    })
}

/// What a failure says is kept of the work that was stopped.
fn told(failure: &Failure) -> Option<String> {
    match failure {
        Failure::Train(train::Error::Stopped { iteration, iterations, checkpoint }) => {
            Some(format!(
                "the checkpoint of iteration {iteration} of {iterations} is kept in `{}`",
                checkpoint.display()
            ))
        }
        Failure::File(kdm::data::Error::Stopped { kept, .. }) => Some(kept.clone()),
        _ => None,
    }
}

/// The command that this process was started by, as a person would type it, with those of `flags`
/// that it doesn't have.
pub fn this_command(flags: &[(&str, Option<&str>)]) -> String {
    let words = std::env::args().skip(1).collect::<Vec<String>>();
    command(&words, flags)
}

fn command(words: &[String], flags: &[(&str, Option<&str>)]) -> String {
    let has = |flag: &str| {
        let with_value = format!("{flag}=");
        words.iter().any(|word| word == flag || word.starts_with(&with_value))
    };
    let missing = flags.iter().filter(|(flag, _)| !has(flag));
    let missing = missing.flat_map(|(flag, value)| [Some(*flag), *value]).flatten();
    let all = words.iter().map(String::as_str).chain(missing).map(quoted);
    std::iter::once("kdm".to_string()).chain(all).collect::<Vec<String>>().join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_string();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The command can be typed as it is told, whatever is in it.
    #[test]
    fn a_command_is_told_with_what_it_lacks() {
        let words = |line: &[&str]| line.iter().map(ToString::to_string).collect::<Vec<String>>();
        let flags = [("--out", Some("runs/00000-a")), ("--resume", None)];
        let run = words(&["run", "a", "--set", "student.network={kind='mlp'}"]);
        assert_eq!(
            command(&run, &flags),
            "kdm run a --set 'student.network={kind='\\''mlp'\\''}' --out runs/00000-a --resume"
        );
        let resumed = words(&["run", "my file.toml", "--out=x", "--resume"]);
        assert_eq!(command(&resumed, &flags), "kdm run 'my file.toml' --out=x --resume");
        assert_eq!(command(&words(&["pairs", ""]), &[]), "kdm pairs ''");
    }
}
