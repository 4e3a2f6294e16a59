//! What belongs to some crates alone: the terminal, devices, files; and errors without a type.

use crate::dependencies::Manifest;
use crate::source::{Source, Violation, find_word, line_of};

/// Crates that talk to a terminal, or to a log that somebody must have set up.
const TERMINAL_CRATES: [&str; 3] = ["clap", "indicatif", "tracing"];

/// What a program alone may do: write to the terminal, or set what holds for a whole process.
const TERMINAL_WORDS: [&str; 9] = [
    "println!",
    "print!",
    "eprintln!",
    "eprint!",
    "dbg!",
    "io::stdout",
    "io::stderr",
    "build_global",
    "global_allocator",
];

/// Where devices are made: the CPU kernels, and the one place of the facade.
const DEVICE_PLACES: [&str; 2] = ["crates/kdm-kernels/", "crates/kdm/src/runtime.rs"];

/// Crates that work on what they are given.
const WITHOUT_FILES: [&str; 3] = ["crates/kdm-nn", "crates/kdm-analysis", "crates/kdm-report"];

/// A library's words that only a program may use; tests may print.
pub fn terminal(source: &Source) -> Vec<Violation> {
    if !source.path.starts_with("crates/") {
        return Vec::new();
    }
    words(source, TERMINAL_CRATES.iter().chain(&TERMINAL_WORDS), "belongs in apps/")
}

/// A library's dependencies that only a program may have.
pub fn terminal_dependencies(manifest: &Manifest) -> Vec<Violation> {
    let entries = manifest.dependencies.iter();
    let library = manifest.path.starts_with("crates/");
    let found = entries.filter(|entry| library && TERMINAL_CRATES.contains(&entry.name.as_str()));
    found.map(|entry| manifest.violation(entry.line, format!("`{}`", entry.name))).collect()
}

/// Devices made anywhere but where they should be.
pub fn devices(source: &Source) -> Vec<Violation> {
    if DEVICE_PLACES.iter().any(|place| source.path.starts_with(place)) {
        return Vec::new();
    }
    words(source, ["Device::flex", "Device::default", "FlexDevice"].iter(), "makes a device")
}

/// Files opened by crates that should be given what is in them.
pub fn files(source: &Source) -> Vec<Violation> {
    if !WITHOUT_FILES.contains(&source.package()) {
        return Vec::new();
    }
    words(source, ["fs", "File::"].iter(), "opens files")
}

/// The places of `forbidden` words outside tests.
fn words<'a>(
    source: &Source,
    forbidden: impl Iterator<Item = &'a &'a str>,
    why: &str,
) -> Vec<Violation> {
    let code = &source.library;
    let mut found: Vec<(usize, &str)> =
        forbidden.flat_map(|word| find_word(code, word).map(move |at| (at, *word))).collect();
    found.sort_unstable();
    let violation = |(at, word): &(usize, &str)| {
        source.violation(line_of(code, *at), format!("`{word}` {why}"))
    };
    found.iter().map(violation).collect()
}

/// `Result<_, String>` in a library, and `Result<_, (String, String)>`.
pub fn untyped_errors(source: &Source) -> Vec<Violation> {
    if !source.path.starts_with("crates/") {
        return Vec::new();
    }
    let code = &source.library;
    let of_text = |error: &str| {
        let error = error.trim_matches(|c: char| c.is_whitespace() || "(),".contains(c));
        error.split(',').all(|part| ["String", "&str", "&'static str"].contains(&part.trim()))
    };
    let mut found = Vec::new();
    for at in find_word(code, "Result<") {
        let arguments = generics(&code[at + "Result<".len()..]);
        if arguments.len() == 2 && of_text(arguments[1]) {
            let what = format!("`Result<_, {}>`", arguments[1].trim());
            found.push(source.violation(line_of(code, at), what));
        }
    }
    found
}

/// The arguments of a generic type, `code` beginning after its `<`.
fn generics(code: &str) -> Vec<&str> {
    let (mut depth, mut from, mut before) = (0, 0, ' ');
    let mut parts = Vec::new();
    for (at, c) in code.char_indices() {
        match c {
            '<' | '(' | '[' => depth += 1,
            '>' if before == '-' => {}
            '>' if depth == 0 => {
                parts.push(&code[from..at]);
                return parts.into_iter().filter(|part| !part.trim().is_empty()).collect();
            }
            '>' | ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&code[from..at]);
                from = at + 1;
            }
            _ => {}
        }
        before = c;
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(found: Vec<Violation>) -> Vec<usize> {
        found.into_iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn a_terminal_is_noticed() {
        let text = "use clap::Args; // println!\nfn a() {\n    println!(\"clap\");\n}\n\
                    let pool = x.build_global();\nstd::io::stdout();\n#[global_allocator]\n\
                    use indicatif::Style;\nfn clapper() {}\n#[cfg(test)]\nfn b() { eprintln!() }";
        assert_eq!(lines(terminal(&Source::new("crates/a/src/a.rs", text))), [1, 3, 5, 6, 7, 8]);
        assert_eq!(lines(terminal(&Source::new("apps/a/src/a.rs", text))), []);
        let manifest = Manifest::new("crates/a/Cargo.toml", "[dependencies]\nclap = \"4\"\n");
        assert_eq!(lines(terminal_dependencies(&manifest)), [2]);
    }

    #[test]
    fn devices_are_noticed() {
        let text = "/// Device::flex()\nlet d = Device::flex();\n#[cfg(test)]\n\
                    mod tests {\n    fn a() { Device::flex() }\n}\nfn b() -> Device {}";
        assert_eq!(lines(devices(&Source::new("crates/a/src/a.rs", text))), [2]);
        assert_eq!(lines(devices(&Source::new("apps/a/src/a.rs", text))), [2]);
        for path in ["crates/a/tests/a.rs", "crates/kdm/src/runtime.rs", "crates/kdm-kernels/b.rs"]
        {
            assert_eq!(lines(devices(&Source::new(path, text))), []);
        }
    }

    #[test]
    fn files_are_noticed() {
        let text = "use std::fs;\nuse std::{fs::File};\nTensorFile::open(a);\nFile::open(a);\n";
        assert_eq!(lines(files(&Source::new("crates/kdm-nn/src/a.rs", text))), [1, 2, 4]);
        assert_eq!(lines(files(&Source::new("crates/kdm-data/src/a.rs", text))), []);
    }

    #[test]
    fn errors_of_text_are_noticed() {
        let text = "fn a() -> Result<(), String> {}\nfn b() -> Result<Vec<(u8, u8)>, Error> {}\n\
                    fn c(f: impl Fn(String) -> Result<String>) -> Result<\n    A,\n    (String, \
                    String),\n> {}\nfn d() -> io::Result<String> {}\n\
                    fn e() -> Result<impl Fn(u8) -> u8, &'static str> {}";
        assert_eq!(
            lines(untyped_errors(&Source::new("crates/a/src/a.rs", text))),
            [1, 3, 8],
            "{text}"
        );
        assert_eq!(lines(untyped_errors(&Source::new("apps/a/src/a.rs", text))), []);
    }
}
