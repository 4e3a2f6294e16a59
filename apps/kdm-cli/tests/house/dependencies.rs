//! Which crate of the workspace may depend on which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::source::Violation;

/// What each crate may depend on, and what its tests may beside that. Data flows one way: teacher
/// -> pairs -> student -> distill -> sample -> metrics -> analysis -> report. The facade `kdm` may
/// depend on everything here.
const ALLOWED: [(&str, &[&str], &[&str]); 12] = [
    ("kdm-observer", &[], &[]),
    ("kdm-random", &[], &[]),
    ("kdm-kernels", &["random"], &[]),
    ("kdm-nn", &["kernels", "random"], &[]),
    ("kdm-data", &["observer", "random"], &[]),
    ("kdm-train", &["data", "kernels", "nn", "observer", "random"], &[]),
    ("kdm-teacher", &["data", "kernels", "nn", "random", "train", "observer"], &[]),
    ("kdm-metrics", &["data", "nn", "random", "train", "observer"], &[]),
    ("kdm-koopman", &["data", "kernels", "nn", "random", "train", "metrics", "observer"], &[]),
    ("kdm-analysis", &["data", "koopman", "metrics", "nn", "random", "observer"], &[]),
    ("kdm-report", &["analysis", "koopman", "metrics", "data"], &["observer", "random"]),
    ("kdm-formats", &["data", "nn", "koopman", "teacher", "observer"], &["random"]),
];

/// What each program or package in `apps/` may depend on: the facade, the kernels for what is said
/// of the allocator, and the program on what it serves.
const APPS: [(&str, &[&str]); 3] = [
    ("kdm-cli", &["kdm", "kdm-kernels", "kdm-server"]),
    ("kdm-python", &["kdm", "kdm-kernels"]),
    ("kdm-server", &["kdm"]),
];

/// A crate's `Cargo.toml`.
pub struct Manifest {
    /// From the workspace's root, with slashes.
    pub path: String,
    /// The crate's name.
    pub name: String,
    pub dependencies: Vec<Dependency>,
}

/// One entry of a manifest.
pub struct Dependency {
    /// The crate's own name, whatever it is called here.
    pub name: String,
    /// Whether only tests, benchmarks and examples see it.
    pub dev: bool,
    /// The line, from 1.
    pub line: usize,
}

impl Manifest {
    pub fn new(path: &str, text: &str) -> Self {
        let name = text.lines().find_map(|line| value(line, "name")).unwrap_or_default();
        let mut manifest =
            Self { path: path.to_string(), name: name.to_string(), dependencies: Vec::new() };
        let mut section = String::new();
        for (i, line) in text.lines().map(str::trim).enumerate() {
            let dev = section.contains("dev-dependencies");
            if let Some(header) = line.strip_prefix('[') {
                section = header.trim_matches(['[', ']']).to_string();
                // A dependency with a table of its own.
                if let Some((_, name)) = section.split_once("dependencies.") {
                    let dev = section.contains("dev-dependencies");
                    let name = name.to_string();
                    manifest.dependencies.push(Dependency { name, dev, line: i + 1 });
                }
            } else if section.ends_with("dependencies") && !line.starts_with('#') {
                let key = line.split(['.', '=', ' ']).next().unwrap().trim_matches('"');
                let name = value(line, "package").unwrap_or(key).to_string();
                if !name.is_empty() {
                    manifest.dependencies.push(Dependency { name, dev, line: i + 1 });
                }
            } else if section.contains("dependencies.")
                && let Some(package) = value(line, "package")
                && let Some(last) = manifest.dependencies.last_mut()
            {
                last.name = package.to_string();
            }
        }
        manifest
    }

    pub fn violation(&self, line: usize, what: String) -> Violation {
        Violation { path: self.path.clone(), line, what }
    }
}

/// The text that `key = "..."` gives in a line.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let at = crate::source::find_word(line, key).next()?;
    let rest = line[at + key.len()..].trim_start().strip_prefix('=')?;
    rest.trim_start().strip_prefix('"')?.split('"').next()
}

/// The manifests of the workspace's crates, sorted by path.
pub fn manifests(root: &Path) -> Vec<Manifest> {
    let mut found = Vec::new();
    for folder in ["crates", "apps"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy());
            let path = format!("{path}/Cargo.toml");
            if let Ok(text) = fs::read_to_string(root.join(&path)) {
                found.push(Manifest::new(&path, &text));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn is_ours(name: &str) -> bool {
    name == "kdm" || name.starts_with("kdm-")
}

/// Dependencies that [`ALLOWED`] and [`APPS`] don't name, and crates that they don't know.
pub fn check(manifests: &[Manifest]) -> Vec<Violation> {
    let mut found = check_apps(manifests);
    for manifest in manifests.iter().filter(|m| m.path.starts_with("crates/") && is_ours(&m.name)) {
        let known = ALLOWED.iter().find(|(name, _, _)| *name == manifest.name);
        if known.is_none() && manifest.name != "kdm" {
            found.push(manifest.violation(1, format!("`{}` isn't in the table", manifest.name)));
        }
        let Some((_, always, in_tests)) = known else { continue };
        for entry in manifest.dependencies.iter().filter(|entry| is_ours(&entry.name)) {
            let short = entry.name.trim_start_matches("kdm-");
            if !(always.contains(&short) || entry.dev && in_tests.contains(&short)) {
                let what = format!("{} may not depend on `{}`", manifest.name, entry.name);
                found.push(manifest.violation(entry.line, what));
            }
        }
    }
    found
}

fn check_apps(manifests: &[Manifest]) -> Vec<Violation> {
    let mut found = Vec::new();
    for manifest in manifests.iter().filter(|m| m.path.starts_with("apps/")) {
        let Some((_, allowed)) = APPS.iter().find(|(name, _)| *name == manifest.name) else {
            found.push(manifest.violation(1, format!("`{}` isn't in the table", manifest.name)));
            continue;
        };
        for entry in manifest.dependencies.iter().filter(|entry| is_ours(&entry.name)) {
            if !allowed.contains(&entry.name.as_str()) {
                let what = format!("{} may not depend on `{}`", manifest.name, entry.name);
                found.push(manifest.violation(entry.line, what));
            }
        }
    }
    found
}

/// Whether `from` depends on `to` in any number of steps, tests aside.
pub fn check_path(manifests: &[Manifest], from: &str, to: &str) -> Vec<Violation> {
    let by_name: BTreeMap<&str, &Manifest> =
        manifests.iter().map(|m| (m.name.as_str(), m)).collect();
    let mut seen = BTreeSet::from([from]);
    let mut open = vec![from];
    let mut found = Vec::new();
    while let Some(manifest) = open.pop().and_then(|name| by_name.get(name)) {
        for entry in manifest.dependencies.iter().filter(|entry| !entry.dev && is_ours(&entry.name))
        {
            if entry.name == to {
                let what = format!("a way from `{from}` to `{to}`");
                found.push(manifest.violation(entry.line, what));
            }
            if seen.insert(&entry.name) {
                open.push(&entry.name);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(found: Vec<Violation>) -> Vec<usize> {
        found.into_iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn a_manifest_is_read_in_all_its_forms() {
        let text = "[package]\nname = \"kdm-x\"\n[dependencies]\n# kdm-no = 1\n\
                    kdm-a.workspace = true\nkdm-b = { path = \"b\" }\nc = { package = \"kdm-c\" }\n\
                    [dependencies.kdm-d]\nversion = \"1\"\n[dev-dependencies]\nkdm-e = \"1\"\n\
                    [target.'cfg(unix)'.dependencies]\nkdm-f = \"1\"\n[features]\nkdm-g = []";
        let manifest = Manifest::new("crates/kdm-x/Cargo.toml", text);
        assert_eq!(manifest.name, "kdm-x");
        let found: Vec<(&str, bool, usize)> =
            manifest.dependencies.iter().map(|d| (d.name.as_str(), d.dev, d.line)).collect();
        let expected = [
            ("kdm-a", false, 5),
            ("kdm-b", false, 6),
            ("kdm-c", false, 7),
            ("kdm-d", false, 8),
            ("kdm-e", true, 11),
            ("kdm-f", false, 13),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_forbidden_dependency_is_noticed() {
        let of = |name: &str, rest: &str| {
            let text = format!("[package]\nname = \"{name}\"\n{rest}");
            check(&[Manifest::new(&format!("crates/{name}/Cargo.toml"), &text)])
        };
        let koopman = "[dependencies]\nkdm-data = \"1\"\nkdm-teacher = \"1\"\nburn = \"1\"";
        assert_eq!(lines(of("kdm-koopman", koopman)), [5]);
        assert_eq!(lines(of("kdm", koopman)), []);
        assert_eq!(lines(of("kdm-new", "")), [1]);
        assert_eq!(lines(of("kdm-formats", "[dev-dependencies]\nkdm-random = \"1\"")), []);
        assert_eq!(lines(of("kdm-formats", "[dependencies]\nkdm-random = \"1\"")), [4]);
        assert_eq!(lines(of("kdm-random", "[dev-dependencies]\nkdm-data = \"1\"")), [4]);
    }

    #[test]
    fn a_forbidden_dependency_of_a_program_is_noticed() {
        let of = |name: &str, rest: &str| {
            let text = format!("[package]\nname = \"{name}\"\n[dependencies]\n{rest}");
            check(&[Manifest::new(&format!("apps/{name}/Cargo.toml"), &text)])
        };
        assert_eq!(lines(of("kdm-python", "kdm = \"1\"\npyo3 = \"1\"")), []);
        assert_eq!(lines(of("kdm-python", "kdm-koopman = \"1\"")), [4]);
        assert_eq!(lines(of("kdm-server", "kdm = \"1\"\nkdm-cli = \"1\"")), [5]);
        assert_eq!(lines(of("kdm-other", "kdm = \"1\"")), [1]);
    }

    #[test]
    fn a_way_over_other_crates_is_noticed() {
        let of = |name: &str, to: &str| {
            let text = format!("[package]\nname = \"{name}\"\n[dependencies]\n{to} = \"1\"");
            Manifest::new(&format!("crates/{name}/Cargo.toml"), &text)
        };
        let manifests = [of("kdm-a", "kdm-b"), of("kdm-b", "kdm-c"), of("kdm-c", "kdm-a")];
        let found = check_path(&manifests, "kdm-a", "kdm-c");
        assert_eq!((found.len(), found[0].path.as_str()), (1, "crates/kdm-b/Cargo.toml"));
        assert_eq!(check_path(&manifests, "kdm-a", "kdm-d"), []);
    }

    /// Cargo allows circles through the dependencies of tests; this table allows none.
    #[test]
    fn the_table_goes_downhill() {
        let mut below = BTreeSet::new();
        let mut left: Vec<_> = ALLOWED.to_vec();
        while !left.is_empty() {
            let before = left.len();
            left.retain(|(name, always, in_tests)| {
                let ready = always.iter().chain(*in_tests).all(|short| below.contains(short));
                if ready {
                    below.insert(name.trim_start_matches("kdm-"));
                }
                !ready
            });
            assert!(left.len() < before, "a circle in the table: {left:?}");
        }
    }
}
