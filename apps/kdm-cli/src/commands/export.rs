//! `kdm export`: models with the names of their original implementations.

use std::path::PathBuf;

use kdm::data::output::FileKind;
use kdm::formats;
use kdm::{Context, Failure, Outcome, assets};

use super::output::{Replace, print};

/// Flags of `kdm export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The student's, teacher's or discriminator's file, or one that ships, such as
    /// fashion-mnist-student
    #[arg(long, value_name = "M")]
    model: PathBuf,
    /// The .safetensors file to write
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
    #[command(flatten)]
    replace: Replace,
}

impl Args {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        if self.out.extension().is_none_or(|e| e != "safetensors") {
            return Err(Failure::Usage(format!(
                "--out {}: name a .safetensors file",
                self.out.display()
            )));
        }
        self.replace.file(&self.out, FileKind::Tensors, &[Some(&self.model)])?;
        let model = assets::open_any(&self.model)?;
        let told = formats::export_file(&model, &self.out, context.device())?;
        print(&format!("{told}, in {}\n", self.out.display()))
    }
}
