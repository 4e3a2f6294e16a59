//! `kdm convert`: a model file with its weights in half precision.

use std::path::PathBuf;

use clap::ValueEnum;
use kdm::data::output::FileKind;
use kdm::data::{Error, TensorFile, model};
use kdm::{Context, Outcome};

use super::output::Replace;

/// How weights are kept in the file.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum WeightType {
    /// Half precision
    F16,
}

/// Flags of `kdm convert`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model file: teacher, student, classifier, weights
    file: PathBuf,
    /// How weights are kept; computing stays in single precision
    #[arg(long, value_enum, default_value = "f16")]
    dtype: WeightType,
    /// Where the result goes
    #[arg(long, value_name = "MODEL.safetensors")]
    out: PathBuf,
    #[command(flatten)]
    replace: Replace,
}

impl Args {
    /// Runs the command.
    pub fn run(self, _: Context) -> Outcome<()> {
        let file = TensorFile::open(&self.file)?;
        let kind = model::kind(&file).map_or(FileKind::AnyModel, FileKind::Model);
        self.replace.file(&self.out, kind, &[Some(&self.file)])?;
        match self.dtype {
            WeightType::F16 => model::write_half(&file, &self.out)?,
        }
        let bytes = std::fs::metadata(&self.out).map_err(Error::io("read", &self.out))?.len();
        eprintln!("{} bytes in {}, from {}", bytes, self.out.display(), file.bytes().len());
        Ok(())
    }
}
