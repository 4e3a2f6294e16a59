//! Circles between the top-level modules of a crate. A folder counts as one module. Names that a
//! root takes in by `*`, and `super` inside a module that has no file of its own, are not followed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::source::{Source, Violation, closing, find_word, is_word, line_of};

/// A crate's modules, the modules that each refers to, and one place of each reference.
type Graph<'a> = BTreeMap<String, BTreeMap<String, (&'a Source, usize)>>;

/// Every reference that is part of a circle: from a module to one from which there is a way back.
pub fn circles(sources: &[Source]) -> Vec<Violation> {
    let packages: BTreeSet<&str> = sources.iter().map(Source::package).collect();
    let mut found = Vec::new();
    for package in packages {
        let own: Vec<&Source> =
            sources.iter().filter(|s| s.package() == package && s.below_src().is_some()).collect();
        let graph = graph(&own);
        for (module, references) in &graph {
            for (target, (source, line)) in references {
                if let Some(back) = way(&graph, target, module) {
                    let circle = [std::slice::from_ref(module), &back[..]].concat().join(" -> ");
                    found.push(source.violation(*line, format!("a circle: {circle}")));
                }
            }
        }
    }
    found
}

/// Who refers to whom. What the crate's root gives by another name (`pub use module::Name`) belongs
/// to its module; what the root itself defines belongs to none.
fn graph<'a>(sources: &[&'a Source]) -> Graph<'a> {
    let mut graph = Graph::new();
    let mut roots = Vec::new();
    for source in sources {
        match module_path(source).first() {
            Some(module) => _ = graph.entry(module.clone()).or_default(),
            None => roots.push(*source),
        }
    }
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for root in roots {
        for (name, module) in renamed(&root.library) {
            if graph.contains_key(&module) {
                names.insert(name, module);
            }
        }
    }
    for source in sources {
        let path = module_path(source);
        let Some(module) = path.first() else { continue };
        for (line, name) in references(&source.library, path.len()) {
            let direct = graph.contains_key(&name).then_some(&name);
            let Some(target) = direct.or_else(|| names.get(&name)) else { continue };
            if target != module {
                let target = target.clone();
                graph.get_mut(module).unwrap().entry(target).or_insert((*source, line));
            }
        }
    }
    graph
}

/// The modules from the crate's root to a file; empty for the root.
fn module_path(source: &Source) -> Vec<String> {
    let mut path: Vec<String> =
        source.below_src().unwrap().iter().map(|part| (*part).to_string()).collect();
    let file = path.pop().unwrap();
    let stem = file.trim_end_matches(".rs");
    if !["lib", "main", "mod"].contains(&stem) {
        path.push(stem.to_string());
    }
    path
}

/// The first names after `crate::`, or after as many `super::` as lead to the root of the crate
/// from a module `depth` below it, with their lines.
fn references(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let to_root = format!("{}super::", "super::".repeat(depth.saturating_sub(1)));
    for prefix in ["crate::", to_root.as_str()] {
        for at in find_word(code, prefix) {
            let longer = code[..at].ends_with("super::") || code[..at].ends_with('$');
            if longer || prefix != "crate::" && depth == 0 {
                continue;
            }
            let from = at + prefix.len();
            let names = match code[from..].starts_with('{') {
                true => split(&code[from + 1..closing(code, from).unwrap_or(code.len())]),
                false => vec![&code[from..]],
            };
            let line = line_of(code, at);
            let first = |text: &str| -> String {
                text.trim_start().chars().take_while(|c| is_word(*c)).collect()
            };
            found.extend(names.into_iter().map(|name| (line, first(name))));
        }
    }
    found
}

/// Parts between commas that lie in no brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut from) = (0, 0);
    let mut parts = Vec::new();
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// The names that a root's `use` declarations bring in, with the top-level module of each.
fn renamed(code: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for at in find_word(code, "use ") {
        let tree = &code[at + 4..];
        let mut paths = Vec::new();
        expand(&tree[..tree.find(';').unwrap_or(tree.len())], "", &mut paths);
        for path in paths {
            let path = path.trim_start_matches("crate::").trim_start_matches("self::");
            let (path, alias) = path.split_once(" as ").unwrap_or((path, ""));
            let mut parts = path.split("::").map(str::trim);
            let (first, last) = (parts.next().unwrap(), parts.last());
            if let Some(last) = last {
                let name = if alias.is_empty() { last } else { alias.trim() };
                found.push((name.to_string(), first.to_string()));
            }
        }
    }
    found
}

/// Every path of a `use` declaration's tree.
fn expand(tree: &str, before: &str, paths: &mut Vec<String>) {
    match tree.split_once('{') {
        None => paths.push(format!("{before}{}", tree.trim()).trim_end_matches("::self").into()),
        Some((prefix, rest)) => {
            let before = format!("{before}{}", prefix.trim());
            let inside = rest.rsplit_once('}').map_or(rest, |(inside, _)| inside);
            split(inside).into_iter().for_each(|part| expand(part, &before, paths));
        }
    }
}

/// The shortest way from one module to another, both included.
fn way(graph: &Graph, from: &str, to: &str) -> Option<Vec<String>> {
    let mut ways = VecDeque::from([vec![from.to_string()]]);
    let mut seen = BTreeSet::from([from.to_string()]);
    while let Some(way) = ways.pop_front() {
        let last = way.last().unwrap();
        if last == to {
            return Some(way);
        }
        for next in graph[last].keys() {
            if seen.insert(next.clone()) {
                ways.push_back([&way[..], std::slice::from_ref(next)].concat());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let of = |(path, text): &(&str, &str)| Source::new(&format!("crates/x/src/{path}"), text);
        let sources: Vec<Source> = files.iter().map(of).collect();
        circles(&sources).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn circles_are_named() {
        let lib = ("lib.rs", "mod a;\nmod b;\nmod c;");
        let straight = [lib, ("a.rs", "use crate::b::B;"), ("b.rs", "use crate::c;"), ("c.rs", "")];
        assert_eq!(found(&straight), [""; 0]);
        let circle = [
            lib,
            ("a.rs", "fn f() {\n    crate::b::g()\n}"),
            ("b/mod.rs", "mod d;"),
            ("b/d.rs", "use crate::{e, c::{self, C}};"),
            ("c.rs", "use super::a;"),
        ];
        let expected = [
            "crates/x/src/a.rs:2: a circle: a -> b -> c -> a",
            "crates/x/src/b/d.rs:1: a circle: b -> c -> a -> b",
            "crates/x/src/c.rs:1: a circle: c -> a -> b -> c",
        ];
        assert_eq!(found(&circle), expected);
    }

    /// A circle through a name that the root gives again.
    #[test]
    fn names_of_the_root_are_followed() {
        let b = ("b.rs", "use crate::a::A;");
        for root in ["pub use b::B;", "pub use b::{x::{B, C}, D};", "use crate::b::E as B;"] {
            assert_eq!(found(&[("lib.rs", root), ("a.rs", "use crate::B;"), b]).len(), 2, "{root}");
        }
        let own = [("lib.rs", "pub struct B;"), ("a.rs", "use crate::B;"), b];
        assert_eq!(found(&own), [""; 0]);
    }

    #[test]
    fn what_is_no_reference_makes_no_circle() {
        let b = ("b.rs", "use crate::a::A;");
        for text in [
            "// crate::b",
            "#[cfg(test)]\nmod tests { use crate::b; }",
            "fn f() { \"crate::b\" }",
            "use other_crate::b;",
            "use super::super::b;",
        ] {
            assert_eq!(found(&[("lib.rs", ""), ("a.rs", text), b]), [""; 0], "{text}");
        }
        // A folder's parts may use each other, and `super` is the folder.
        let parts = [("a/mod.rs", ""), ("a/b.rs", "use super::c;"), ("a/c.rs", "use super::b;")];
        assert_eq!(found(&parts), [""; 0]);
        let deep = [("a/x.rs", "use super::super::b;"), ("a/mod.rs", ""), b];
        assert_eq!(found(&deep).len(), 2);
    }
}
