//! `kdm info`: what a file or folder is.

use std::path::PathBuf;

use kdm::describe::describe;
use kdm::{Context, Outcome};
use serde_json::Value;

use super::output::{print, print_json};

/// Flags of `kdm info`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model, shard, checkpoint, array, picture or text; a store of pairs; the folder of a run, a
    /// training, an analysis, an inversion or samples; or a model that ships, such as
    /// fashion-mnist-student
    path: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        let value = describe(&self.path, context.device())?;
        if self.json {
            return print_json(&value);
        }
        let mut text = format!("{}\n", self.path.display());
        lines(&value, 1, &mut text);
        print(&text)
    }
}

/// A value as indented lines.
fn lines(value: &Value, depth: usize, text: &mut String) {
    let Value::Object(entries) = value else { return };
    let indent = "  ".repeat(depth);
    for (key, value) in entries {
        match value {
            Value::Null => {}
            Value::Object(inner) if !inner.is_empty() => {
                text.push_str(&format!("{indent}{key}:\n"));
                lines(value, depth + 1, text);
            }
            Value::String(plain) => text.push_str(&format!("{indent}{key}: {plain}\n")),
            other => text.push_str(&format!("{indent}{key}: {other}\n")),
        }
    }
}
