//! The classes that EDM's `dataset.json` gives: `{"labels": [[name, class], ...]}`. Also read: an
//! object of names, classes as 3.0, as one-hot rows or as text, other slashes, and `class_names`,
//! which this program adds.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use crate::labels::{class_number, one_hot_class};

/// What a `dataset.json` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Told {
    /// Classes by name of the file, slashes forward.
    pub classes: HashMap<String, u32>,
    /// Names of the classes, where they are given.
    pub class_names: Vec<String>,
    /// Classes that one-hot rows have room for; 0 without.
    pub width: usize,
}

/// What is wrong with it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ToldError {
    #[error("is no JSON ({0})")]
    Json(#[from] serde_json::Error),
    #[error("`labels` is {}, and should be a list of [name, class], or null", short(.0))]
    NoList(Value),
    #[error("the entry {} of `labels` is no [name, class]", short(.0))]
    NoEntry(Value),
    #[error("gives `{name}` the class {}, which is no class: give a whole number", short(class))]
    NoClass { name: String, class: Value },
    #[error("gives classes as numbers and as text; give one of them")]
    Mixed,
}

/// A value's beginning.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

/// A class as one of its forms gives it.
enum Class<'a> {
    Number(u32, usize),
    Text(&'a str),
}

fn class(value: &Value) -> Option<Class<'_>> {
    match value {
        Value::Number(number) => Some(Class::Number(class_number(number.as_f64()?)?, 0)),
        Value::Array(row) if !row.is_empty() => {
            let row: Vec<f64> = row.iter().map(Value::as_f64).collect::<Option<_>>()?;
            Some(Class::Number(one_hot_class(&row)??, row.len()))
        }
        Value::String(text) => Some(match text.trim().parse().ok().and_then(class_number) {
            Some(number) => Class::Number(number, 0),
            None => Class::Text(text),
        }),
        _ => None,
    }
}

/// Reads a `dataset.json`; a byte-order mark before it is passed over. No classes where `labels` is
/// absent, null or empty.
pub(super) fn parse(bytes: &[u8]) -> Result<Told, ToldError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut told: Value = serde_json::from_slice(bytes)?;
    let class_names = told["class_names"].as_array().and_then(|names| {
        names.iter().map(|name| name.as_str().map(String::from)).collect::<Option<Vec<_>>>()
    });
    let entries: Vec<(String, Value)> = match told.get_mut("labels").map(Value::take) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Object(all)) => all.into_iter().collect(),
        Some(Value::Array(all)) => all.into_iter().map(entry).collect::<Result<_, _>>()?,
        Some(other) => return Err(ToldError::NoList(other)),
    };
    let mut found = Told { class_names: class_names.unwrap_or_default(), ..Told::default() };
    let mut texts = Vec::new();
    for (name, value) in &entries {
        let name = name.replace('\\', "/");
        match class(value) {
            Some(Class::Number(class, width)) => {
                found.width = found.width.max(width);
                found.classes.insert(name, class);
            }
            Some(Class::Text(text)) => texts.push((name, text)),
            None => return Err(ToldError::NoClass { name, class: value.clone() }),
        }
    }
    if !texts.is_empty() {
        if !found.classes.is_empty() {
            return Err(ToldError::Mixed);
        }
        let names: BTreeSet<&str> = texts.iter().map(|(_, text)| *text).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let number = |text| names.binary_search(&text).expect("each is there") as u32;
        found.classes = texts.iter().map(|(name, text)| (name.clone(), number(*text))).collect();
        found.class_names = names.into_iter().map(String::from).collect();
    }
    Ok(found)
}

fn entry(value: Value) -> Result<(String, Value), ToldError> {
    match value {
        Value::Array(mut pair) if pair.len() == 2 && pair[0].is_string() => {
            let class = pair.pop().expect("two");
            let name = pair[0].as_str().expect("text").to_string();
            Ok((name, class))
        }
        other => Err(ToldError::NoEntry(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(text: &str) -> Vec<(String, u32)> {
        let mut found: Vec<_> = parse(text.as_bytes()).unwrap().classes.into_iter().collect();
        found.sort();
        found
    }

    /// All forms that are found in published sets mean the same.
    #[test]
    fn classes_come_in_many_forms() {
        let expected = vec![("a/x.png".to_string(), 2), ("b.png".to_string(), 0)];
        for labels in [
            r#"[["a/x.png", 2], ["b.png", 0]]"#,
            r#"[["a/x.png", 2.0], ["b.png", 0.0]]"#,
            r#"[["a/x.png", [0, 0, 1]], ["b.png", [1.0, 0, 0]]]"#,
            r#"{"a/x.png": 2, "b.png": 0}"#,
            r#"[["a/x.png", "2"], ["b.png", "0"]]"#,
            r#"[["a\\x.png", 2], ["b.png", 0]]"#,
        ] {
            assert_eq!(classes(&format!("{{\"labels\": {labels}}}")), expected, "{labels}");
        }
        let text = parse(br#"{"labels": [["a.png", "dog"], ["b.png", "cat"]]}"#).unwrap();
        assert_eq!(
            (text.classes["a.png"], text.class_names),
            (1, vec!["cat".into(), "dog".into()])
        );
        for none in ["\u{feff}{\"labels\": null}", "{}", r#"{"labels": []}"#] {
            assert!(classes(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn what_is_no_class_is_named() {
        let message = |labels: &str| {
            parse(format!("{{\"labels\": {labels}}}").as_bytes()).unwrap_err().to_string()
        };
        for class in ["1.5", "-1", "1e30", "[0.5, 0.5]", "[1, 1]", "[]", "null", "true"] {
            let message = message(&format!("[[\"a.png\", {class}]]"));
            assert!(message.contains("`a.png`") && message.contains("no class"), "{message}");
        }
        assert!(message("7").contains("list"));
        assert!(message("[3]").contains("no [name, class]"));
        assert!(message(r#"[["a.png", 1], ["b.png", "cat"]]"#).contains("one of them"));
        assert!(parse(b"{").unwrap_err().to_string().contains("JSON"));
    }
}
