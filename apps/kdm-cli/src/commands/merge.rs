//! `kdm pairs merge`: one store of several.

use std::path::{Path, PathBuf};

use kdm::data::pairs::{PairStore, merge};
use kdm::stages::pairs::open_store;
use kdm::{Context, Failure, Outcome};

use super::output::{folder, print};
use super::resuming::or_continued;

/// Flags of `kdm pairs merge`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The stores, of one teacher and different seeds
    #[arg(required = true, value_name = "DIR")]
    pairs: Vec<PathBuf>,
    /// The new store's folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Args {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        let inputs: Vec<Option<&Path>> =
            self.pairs.iter().map(|path| Some(path.as_path())).collect();
        folder(&self.out, &inputs)?;
        let open = |path: &PathBuf| open_store(path, context.observer);
        let stores: Vec<PairStore> = self.pairs.iter().map(open).collect::<Outcome<_>>()?;
        let merged = merge(&stores, &self.out, context.observer).map_err(Failure::from);
        let merged = or_continued(merged, &[], || "what was finished is kept".into())?;
        let (count, out) = (merged.count, self.out.display());
        print(&format!("{count} pairs of {} stores in {out}\n", stores.len()))
    }
}
