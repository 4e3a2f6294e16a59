//! The presets that ship, and how files lie over each other: a file over its `base`, and settings
//! from the command line over both.

use std::path::Path;

use toml::{Table, Value};

use crate::nearest::{did_you_mean, nearest};
use crate::{Failure, Outcome};

const BASE: &str = include_str!("../../../../presets/base.toml");

/// The built-in presets: name and text.
pub const PRESETS: [(&str, &str); 18] = [
    ("checkerboard", include_str!("../../../../presets/checkerboard.toml")),
    ("checkerboard-paper", include_str!("../../../../presets/checkerboard-paper.toml")),
    ("checkerboard-states", include_str!("../../../../presets/checkerboard-states.toml")),
    ("gaussian", include_str!("../../../../presets/gaussian.toml")),
    ("mixture", include_str!("../../../../presets/mixture.toml")),
    ("fashion-mnist", include_str!("../../../../presets/fashion-mnist.toml")),
    ("fashion-mnist-full", include_str!("../../../../presets/fashion-mnist-full.toml")),
    ("fashion-mnist-compare", include_str!("../../../../presets/fashion-mnist-compare.toml")),
    ("fashion-mnist-ablations", include_str!("../../../../presets/fashion-mnist-ablations.toml")),
    ("fashion-mnist-levels", include_str!("../../../../presets/fashion-mnist-levels.toml")),
    ("fashion-mnist-teacher", include_str!("../../../../presets/fashion-mnist-teacher.toml")),
    ("shapes", include_str!("../../../../presets/shapes.toml")),
    ("cifar10-uncond", include_str!("../../../../presets/cifar10-uncond.toml")),
    ("cifar10-cond", include_str!("../../../../presets/cifar10-cond.toml")),
    ("cifar10-factorized", include_str!("../../../../presets/cifar10-factorized.toml")),
    ("ffhq64", include_str!("../../../../presets/ffhq64.toml")),
    ("ffhq256", include_str!("../../../../presets/ffhq256.toml")),
    ("afhqv2-64", include_str!("../../../../presets/afhqv2-64.toml")),
];

/// How deep files may build on each other.
const MAX_BASES: usize = 8;

/// The table of a preset or file over that of its base, and a label for messages.
pub(super) fn layered(source: &str, depth: usize) -> Outcome<(String, Table)> {
    let (label, text) = match PRESETS.iter().find(|(name, _)| *name == source) {
        Some((name, text)) => (format!("preset `{name}`"), (*text).to_string()),
        None if source.ends_with(".toml") => {
            let path = Path::new(source);
            let text = std::fs::read_to_string(path).map_err(kdm_data::Error::io("read", path))?;
            (format!("`{source}`"), text)
        }
        None => {
            let names: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
            let close = nearest(source, names.iter().copied())
                .map_or(".".into(), |c| format!("; did you mean `{c}`?"));
            let known = names.join(", ");
            return Err(Failure::Usage(format!(
                "no preset `{source}`{close} Presets are {known}; or give a file that ends in .toml"
            )));
        }
    };
    let overlay = text.parse::<Table>().map_err(|e| {
        Failure::Usage(format!("{label}: not readable as TOML: {}", e.to_string().trim()))
    })?;
    let table = over_its_base(&label, overlay, depth)?;
    Ok((label, table))
}

/// A table over that of the preset or file which it names as its `base`, or over the common values.
pub(super) fn over_its_base(label: &str, mut overlay: Table, depth: usize) -> Outcome<Table> {
    let mut table = match overlay.remove("base") {
        None => BASE.parse::<Table>().expect("a file of this project"),
        Some(Value::String(_)) if depth >= MAX_BASES => {
            return Err(Failure::Usage(format!(
                "{label}: `base`: files build on each other in a circle; remove one `base`"
            )));
        }
        Some(Value::String(base)) => layered(&base, depth + 1)?.1,
        Some(other) => {
            return Err(Failure::Usage(format!(
                "{label}: `base` is {other} and must be a preset's name or a file"
            )));
        }
    };
    merge(&mut table, overlay);
    Ok(table)
}

/// A text's table over that of the common values.
pub(super) fn over_base(label: &str, text: &str) -> Outcome<Table> {
    let overlay = text.parse::<Table>().map_err(|e| {
        Failure::Usage(format!("{label}: not readable as TOML: {}", e.to_string().trim()))
    })?;
    let mut table = BASE.parse::<Table>().expect("a file of this project");
    merge(&mut table, overlay);
    Ok(table)
}

/// Lays `overlay` over `table`. A table that says of another kind than the one below it replaces it
/// whole.
pub(super) fn merge(table: &mut Table, overlay: Table) {
    for (key, value) in overlay {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => {
                // Teachers keep all their fields whatever their kind.
                let tag = match (key.as_str(), above.contains_key("architecture")) {
                    ("data", _) => "name",
                    (_, true) => "architecture",
                    _ => "kind",
                };
                let other_kind = key != "teacher"
                    && above.get(tag).is_some_and(|kind| below.get(tag) != Some(kind));
                if other_kind && key != "operator" {
                    *below = above;
                } else {
                    merge(below, above);
                }
            }
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

/// A TOML value, or else a plain string.
pub(super) fn parse_value(text: &str) -> Value {
    let parsed = format!("value = {text}").parse::<Table>();
    parsed
        .ok()
        .and_then(|mut t| t.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_string()))
}

/// For "unknown field `x`, expected one of `a`, `b`": the closest of those.
pub(super) fn suggestion(problem: &str) -> String {
    let mut quoted = problem.split('`').skip(1).step_by(2);
    let unknown = problem.starts_with("unknown");
    match quoted.next() {
        Some(wrong) if unknown => did_you_mean(wrong, quoted),
        _ => String::new(),
    }
}
