//! `kdm evaluate`: a student against stored pairs.

use std::path::PathBuf;

use burn::tensor::Device;
use kdm_data::pairs::PairStore;
use serde_json::json;

use super::output::print;
use crate::pipeline::{self, LoadedStudent, LossNetworks, MetricGroup};
use crate::portrait::{columns, metric_table};
use crate::{Failure, Outcome};

/// Flags of `kdm evaluate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The student's file
    #[arg(long, value_name = "M")]
    model: PathBuf,
    /// The store of pairs; take one that the student wasn't trained on
    #[arg(long, value_name = "DIR")]
    pairs: PathBuf,
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', default_value = "losses,paired,distribution")]
    metrics: Vec<MetricGroup>,
    /// The data are this; `checkerboard` measures points off the board [default: what the store says]
    #[arg(long, value_name = "NAME")]
    data: Option<String>,
    /// Random projections of the sliced Wasserstein distance
    #[arg(long, default_value_t = 256, value_name = "N")]
    directions: usize,
    /// LPIPS weights for a perceptual loss, from `kdm import vgg16.pth --heads vgg.pth` [default: what the student was trained with]
    #[arg(long, value_name = "FILE")]
    lpips: Option<PathBuf>,
    /// A discriminator, for the adversarial term, which is left out without one
    #[arg(long, value_name = "FILE")]
    discriminator: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> Outcome<()> {
        if self.directions == 0 {
            return Err(Failure::Usage("--directions 0: give at least 1".into()));
        }
        let student = LoadedStudent::open(&self.model)?;
        let store = PairStore::open_verified(&self.pairs)?;
        let data = self.data.or_else(|| store.manifest().teacher.as_ref().map(|t| t.data.clone()));
        let board = data.as_deref() == Some("checkerboard");
        let mut networks = LossNetworks::default();
        if self.metrics.contains(&MetricGroup::Losses) {
            let device = Device::flex();
            networks.lpips = pipeline::load_lpips(&student.file.loss, self.lpips.as_deref(), &device)?;
            let channels = student.file.student.shape[0];
            let open = |path: &PathBuf| pipeline::load_discriminator(path, channels);
            networks.discriminator = self.discriminator.as_ref().map(open).transpose()?;
            if networks.discriminator.is_some() && student.file.student.shape.len() != 3 {
                return Err(Failure::Usage("--discriminator: it judges images, and this student draws points".into()));
            }
        }
        let values = pipeline::evaluate(&student, &store, &self.metrics, board, self.directions, &networks)?;
        if self.json {
            let mut object = json!(values);
            object["pairs"] = json!(store.len());
            return print(&pipeline::pretty(&object));
        }
        print(&columns(&metric_table(&values)))
    }
}
