//! `kdm import`: models that other programs wrote.

use std::path::PathBuf;

use super::output::print;
use crate::Outcome;

/// Flags of `kdm import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The foreign file
    file: PathBuf,
    /// The model file to write
    #[arg(long, value_name = "MODEL.safetensors")]
    out: PathBuf,
    /// What the file is
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    format: Format,
    /// Print what was found as one JSON object
    #[arg(long)]
    json: bool,
}

/// Foreign formats.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// Found out from the content
    Auto,
    /// An official KDM checkpoint (the checkerboard's)
    Kdm,
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> Outcome<()> {
        let (Format::Auto | Format::Kdm) = self.format;
        let imported = kdm_formats::import(&self.file)?;
        imported.file.save(&imported.student, &self.out)?;
        if self.json {
            let value = serde_json::json!({
                "out": self.out, "found": imported.found, "ignored": imported.ignored, "config": imported.file,
            });
            return print(&crate::pipeline::pretty(&value));
        }
        let mut text = format!("{}:\n", self.file.display());
        imported.found.iter().for_each(|line| text.push_str(&format!("  found    {line}\n")));
        imported.ignored.iter().for_each(|line| text.push_str(&format!("  ignored  {line}\n")));
        print(&format!("{text}written to {}\n", self.out.display()))
    }
}
