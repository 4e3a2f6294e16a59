//! `kdm convert`: a model file with its weights in half precision.

use std::path::PathBuf;

use clap::ValueEnum;
use kdm::data::output::FileKind;
use kdm::data::{Error, model};
use kdm::{Context, Outcome, assets};

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
    /// A model file: teacher, student, classifier, weights; or one that ships, such as
    /// fashion-mnist-student
    #[arg(long, value_name = "M", required_unless_present = "file")]
    model: Option<PathBuf>,
    /// The same
    #[arg(hide = true, conflicts_with = "model")]
    file: Option<PathBuf>,
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
        let source = self.model.or(self.file).expect("clap asks for one of them");
        let file = assets::open_any(&source)?;
        let kind = model::kind(&file).map_or(FileKind::AnyModel, FileKind::Model);
        self.replace.file(&self.out, kind, &[Some(&source)])?;
        match self.dtype {
            WeightType::F16 => model::write_half(&file, &self.out)?,
        }
        let bytes = std::fs::metadata(&self.out).map_err(Error::io("read", &self.out))?.len();
        eprintln!("{} bytes in {}, from {}", bytes, self.out.display(), file.bytes().len());
        Ok(())
    }
}
