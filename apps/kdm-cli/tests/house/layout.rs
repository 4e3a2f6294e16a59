//! The length of files and lines.

use crate::source::{Source, Violation, blank};

/// Lines of a file that says nothing about its length.
const LONGEST_FILE: usize = 500;

/// Columns of a line, as in `rustfmt.toml`.
const LONGEST_LINE: usize = 100;

/// Files whose lines may be longer, and why. Raw strings may be everywhere: what they hold has line
/// breaks of its own.
const LONG_LINES: [(&str, &str); 0] = [];

/// A file of more lines than a reader keeps in mind, with no reason in its head comment.
pub fn long_files(source: &Source) -> Vec<Violation> {
    let lines = source.text.lines().count();
    let head = source.text.lines().take_while(|line| line.starts_with("//"));
    let head = head.map(|line| line.trim_start_matches(['/', '!']).trim());
    if lines <= LONGEST_FILE || head.collect::<Vec<_>>().join(" ").contains("long because") {
        return Vec::new();
    }
    vec![source.violation(1, format!("{lines} lines"))]
}

/// Lines that a screen or a diff breaks.
pub fn long_lines(source: &Source) -> Vec<Violation> {
    if LONG_LINES.iter().any(|(path, _)| *path == source.path) {
        return Vec::new();
    }
    let raw = blank(&source.text).1;
    let lines = source.text.lines().enumerate();
    lines
        .map(|(i, line)| (i + 1, line.chars().count()))
        .filter(|(line, columns)| *columns > LONGEST_LINE && !raw.contains(line))
        .map(|(line, columns)| source.violation(line, format!("{columns} columns")))
        .collect()
}

#[test]
fn long_files_are_noticed() {
    let of = |head: &str, lines: usize| {
        let text = format!("{head}\n{}", "x\n".repeat(lines - head.lines().count()));
        long_files(&Source::new("crates/a/src/a.rs", &text)).len()
    };
    assert_eq!([of("//! A.", 500), of("//! A.", 501)], [0, 1]);
    assert_eq!(of("//! A. It is long\n//! because B is one thing.", 501), 0);
    assert_eq!(of("//! A.\n\n// It is long because of B.", 501), 1, "not in the head");
}

#[test]
fn long_lines_are_noticed() {
    let wide = "a".repeat(101);
    let text = format!("{}\n{wide}\n// {wide}\nr\"{wide}\n{wide}\"\n\"{wide}\"", "ä".repeat(100));
    let found = long_lines(&Source::new("crates/a/src/a.rs", &text));
    assert_eq!(found.iter().map(|v| v.line).collect::<Vec<_>>(), [2, 3, 6]);
}
