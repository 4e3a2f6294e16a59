//! The rules that keep the workspace in order, checked on its `Cargo.toml` files and sources as
//! text: who may depend on whom, what only a program may do, where devices are made, no circles
//! between modules, the size of files, typed errors, and which crates touch no files.
//!
//! A check is a function from texts to violations, with a test on small samples of its own, so that
//! one which can't fail is noticed. To see all that is wrong: `cargo test -p kdm-cli --test house`.

mod boundaries;
mod dependencies;
mod layout;
mod modules;
mod source;

use std::path::{Path, PathBuf};

use source::{Source, Violation};

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Fails with all violations of the rule, one a line.
fn report(rule: &str, violations: &[Violation]) {
    let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{rule}; {} violations:\n{}", lines.len(), lines.join("\n"));
}

/// Everything wrong that `check` finds in the workspace's sources.
fn everywhere(check: impl Fn(&Source) -> Vec<Violation>) -> Vec<Violation> {
    let sources = source::all(&root());
    assert!(sources.len() > 100, "{} sources: is this the root of the workspace?", sources.len());
    sources.iter().flat_map(check).collect()
}

#[test]
fn crates_depend_on_what_lies_below_them() {
    let manifests = dependencies::manifests(&root());
    assert!(manifests.len() > 10, "{} manifests", manifests.len());
    report("a crate may depend on crates below it alone", &dependencies::check(&manifests));
}

#[test]
fn students_know_no_teacher() {
    let manifests = dependencies::manifests(&root());
    let found = dependencies::check_path(&manifests, "kdm-koopman", "kdm-teacher");
    report("teacher and student meet in the pair store alone", &found);
}

#[test]
fn only_programs_know_a_terminal() {
    let mut found = everywhere(boundaries::terminal);
    let manifests = dependencies::manifests(&root());
    found.extend(manifests.iter().flat_map(boundaries::terminal_dependencies));
    report("what a terminal and a process are, only apps/ know", &found);
}

#[test]
fn devices_are_made_in_one_place() {
    report("take the device from the caller or a tensor", &everywhere(boundaries::devices));
}

#[test]
fn networks_analysis_and_reports_touch_no_files() {
    report("what they need is given to them", &everywhere(boundaries::files));
}

#[test]
fn modules_form_no_circles() {
    let sources = source::all(&root());
    report("modules of a crate form no circle", &modules::circles(&sources));
}

#[test]
fn files_are_of_readable_length() {
    report("split it, or say in its head `long because`", &everywhere(layout::long_files));
}

#[test]
fn lines_are_of_readable_length() {
    report("break the line", &everywhere(layout::long_lines));
}

#[test]
fn errors_are_typed() {
    report("give the error a type", &everywhere(boundaries::untyped_errors));
}
