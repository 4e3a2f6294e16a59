//! Sources as text: found in the workspace, with comments, strings and tests blanked out.

use std::fmt;
use std::fs;
use std::path::Path;

/// Something against a rule.
#[derive(Debug, PartialEq)]
pub struct Violation {
    /// Where, from the workspace's root, with slashes.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// One Rust file.
pub struct Source {
    /// From the workspace's root, with slashes: `crates/kdm-nn/src/lib.rs`.
    pub path: String,
    /// What the file holds.
    pub text: String,
    /// The same with comments and the insides of strings blanked: as many lines and columns.
    pub code: String,
    /// [`Self::code`] with items that exist in tests alone blanked too; blank for the file of a
    /// test, a benchmark or a fuzz target.
    pub library: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let code = blank(text).0;
        let test_file =
            ["tests", "benches", "fuzz"].iter().any(|f| path.split('/').any(|p| p == *f));
        let library = if test_file { blanked(&code) } else { without_tests(&code) };
        Self { path: path.to_string(), text: text.to_string(), code, library }
    }

    /// The folder of the crate: `crates/kdm-nn`.
    pub fn package(&self) -> &str {
        let ends = self.path.match_indices('/').map(|(at, _)| at);
        &self.path[..ends.take(2).last().unwrap_or(0)]
    }

    /// The parts of the path below the crate's `src`, if it lies there.
    pub fn below_src(&self) -> Option<Vec<&str>> {
        let rest = self.path.strip_prefix(self.package())?.strip_prefix("/src/")?;
        Some(rest.split('/').collect())
    }

    pub fn violation(&self, line: usize, what: impl Into<String>) -> Violation {
        Violation { path: self.path.clone(), line, what: what.into() }
    }
}

/// All Rust files of the workspace's crates, programs, benchmarks and fuzz targets, sorted by path.
pub fn all(root: &Path) -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in ["crates", "apps", "benches", "fuzz"] {
        walk(&root.join(folder), folder, &mut paths);
    }
    paths.sort();
    let mut sources: Vec<Source> = paths
        .iter()
        .map(|path| Source::new(path, &fs::read_to_string(root.join(path)).unwrap()))
        .collect();
    blank_test_modules(&mut sources);
    sources
}

fn walk(folder: &Path, name: &str, paths: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let path = format!("{name}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            if !path.ends_with("/target") {
                walk(&entry.path(), &path, paths);
            }
        } else if path.ends_with(".rs") {
            paths.push(path);
        }
    }
}

/// Blanks the files that a `#[cfg(test)] mod name;` of their parent brings in.
pub fn blank_test_modules(sources: &mut [Source]) {
    let mut test_files = Vec::new();
    for source in sources.iter() {
        let (folder, file) = source.path.rsplit_once('/').unwrap();
        let stem = file.trim_end_matches(".rs");
        let folder = match stem {
            "lib" | "main" | "mod" => folder.to_string(),
            _ => format!("{folder}/{stem}"),
        };
        for (at, _) in source.code.match_indices("#[cfg(test)]") {
            let rest = source.code[at + 12..].trim_start();
            if let Some((name, _)) = rest.strip_prefix("mod ").and_then(|rest| rest.split_once(';'))
                && name.chars().all(is_word)
            {
                test_files.push(format!("{folder}/{name}"));
            }
        }
    }
    for source in sources {
        let path = source.path.trim_end_matches(".rs");
        let is_test = |test: &String| {
            path.strip_prefix(test.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'))
        };
        if test_files.iter().any(is_test) {
            source.library = blanked(&source.code);
        }
    }
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The line that byte `at` lies in, from 1.
pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Where `word` stands in `code` and is no part of a longer name.
pub fn find_word<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let inside = |c: Option<char>| c.is_some_and(is_word);
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = word.starts_with(is_word) && inside(code[..*at].chars().next_back());
        let after = word.ends_with(is_word) && inside(code[at + word.len()..].chars().next());
        !before && !after
    })
}

/// Where the bracket at byte `at` is closed again.
pub fn closing(code: &str, at: usize) -> Option<usize> {
    let mut depth = 0;
    for (i, c) in code[at..].char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at + i);
        }
    }
    None
}

/// Spaces in place of all but line breaks.
fn blanked(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
}

/// Blanks every item after a `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        let item = at + "#[cfg(test)]".len();
        let ends = rest[item..].find(['{', ';']).map_or(rest.len(), |end| item + end);
        let ends = if rest[ends..].starts_with('{') {
            closing(rest, ends).unwrap_or(rest.len() - 1)
        } else {
            ends
        };
        let ends = (ends + 1).min(rest.len());
        kept.push_str(&rest[..at]);
        kept.push_str(&blanked(&rest[at..ends]));
        rest = &rest[ends..];
    }
    kept + rest
}

/// Blanks comments, and the insides of strings and characters; also gives the lines (from 1) that
/// begin or end in a raw string.
pub fn blank(text: &str) -> (String, Vec<usize>) {
    let mut out = String::with_capacity(text.len());
    let mut raw = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let word_before = out.chars().next_back().is_some_and(is_word);
        let (hidden, is_raw) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), false)
        } else if rest.starts_with("/*") {
            (block_comment(rest), false)
        } else if let Some(length) = raw_string(rest).filter(|_| !word_before) {
            (length, true)
        } else if c == '"' {
            (quoted(rest), false)
        } else if c == '\'' {
            (character(rest), false)
        } else {
            (0, false)
        };
        if hidden == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            if is_raw {
                let first = line_of(&out, out.len());
                raw.extend(first..=first + rest[..hidden].matches('\n').count());
            }
            out.push_str(&blanked(&rest[..hidden]));
            rest = &rest[hidden..];
        }
    }
    (out, raw)
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn raw_string(text: &str) -> Option<usize> {
    let start = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let inside = start.trim_start_matches('#');
    let end = format!("\"{}", "#".repeat(start.len() - inside.len()));
    let inside = inside.strip_prefix('"')?;
    let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
    Some(text.len() - inside.len() + length)
}

fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == '"' && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

/// The length of a character's literal; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => text[2..].chars().next().map_or(0, |escape| {
            let from = 2 + escape.len_utf8();
            text[from..].find('\'').map_or(0, |at| from + at + 1)
        }),
        Some(_) => chars.next().filter(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

#[test]
fn comments_and_strings_are_blanked() {
    let text = "a(\"b\\\"c\"); // d\nlet e: &'f str = 'g'; /* h /* i */ */ j('\\'', '\\u{1}', k);\n\
                l(r#\"m\nn\"#, o);";
    let (code, raw) = blank(text);
    let words: Vec<&str> = code.split(|c| !is_word(c)).filter(|word| !word.is_empty()).collect();
    assert_eq!(words, ["a", "let", "e", "f", "str", "j", "k", "l", "o"]);
    assert_eq!((code.matches('\n').count(), code.chars().count()), (3, text.chars().count()));
    assert_eq!(raw, [3, 4]);
}

#[test]
fn test_code_is_blanked() {
    let text =
        "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { c(); } }\n#[cfg(test)]\nuse d;\nfn e() {}";
    let source = Source::new("crates/x/src/lib.rs", text);
    let names = |code: &str| -> Vec<usize> {
        ["a", "b", "c", "d", "e"].map(|name| find_word(code, name).count()).to_vec()
    };
    assert_eq!(names(&source.library), [1, 0, 0, 0, 1]);
    assert_eq!(names(&source.code), [1; 5]);
    assert_eq!(names(&Source::new("crates/x/tests/a.rs", text).library), [0; 5]);
    assert_eq!((source.package(), source.below_src()), ("crates/x", Some(vec!["lib.rs"])));

    let mut sources = [
        Source::new("crates/x/src/a.rs", "#[cfg(test)]\nmod b;"),
        Source::new("crates/x/src/a/b.rs", "fn c() {}"),
        Source::new("crates/x/src/b.rs", "fn c() {}"),
    ];
    blank_test_modules(&mut sources);
    let left = sources.map(|source| find_word(&source.library, "c").count());
    assert_eq!(left, [0, 0, 1]);
}

#[test]
fn words_are_found_whole() {
    let places = |code, word| find_word(code, word).collect::<Vec<_>>();
    assert_eq!(places("clap clapper a_clap clap::x", "clap"), [0, 20]);
    assert_eq!(places("eprintln!() println!()", "println!"), [12]);
    assert_eq!(line_of("a\nb\nc", 4), 3);
    assert_eq!(closing("f(a[b], {c}) d", 1), Some(11));
}
