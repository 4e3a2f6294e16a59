//! `kdm evaluate`: a student against stored pairs.

use std::path::PathBuf;

use burn::tensor::Device;
use kdm_data::pairs::PairStore;
use kdm_nn::Pooling;
use serde_json::json;

use super::output::print;
use kdm::evaluation::{self, FeatureSetting, LossNetworks, Measuring, MetricGroup};
use kdm::experiment::has_sides;
use kdm::pipeline::{self, LoadedStudent};
use kdm::portrait::{columns, metric_table};
use kdm::{Failure, Outcome};

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
    /// The data are this; `checkerboard` measures points off the board [default: what the store
    /// says]
    #[arg(long, value_name = "NAME")]
    data: Option<String>,
    /// Random projections of the sliced Wasserstein distance
    #[arg(long, default_value_t = 256, value_name = "N")]
    directions: usize,
    /// LPIPS weights, from `kdm import vgg16.pth --heads vgg.pth`: for the paired metric, and for a
    /// loss that has it (default there: what the student was trained with)
    #[arg(long, value_name = "FILE")]
    lpips: Option<PathBuf>,
    /// A discriminator, for the adversarial term, which is left out without one
    #[arg(long, value_name = "FILE")]
    discriminator: Option<PathBuf>,
    /// The feature network for --metrics features: a file of `kdm features train` or of `kdm
    /// import` (Inception), or fashion-mnist
    #[arg(long, value_name = "F")]
    features: Option<PathBuf>,
    /// What features are compared with: statistics of `kdm features stats`, a .npz with mu and
    /// sigma, or a data set
    #[arg(long, value_name = "STATS|SET")]
    reference: Option<String>,
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
        let (device, shape) = (Device::flex(), &student.file.student.shape);
        if self.metrics.contains(&MetricGroup::Losses) {
            networks.perceptual = pipeline::load_perceptual(
                &student.file.loss,
                self.lpips.as_deref(),
                shape,
                &device,
            )?;
            let open = |path: &PathBuf| pipeline::load_discriminator(path, shape[0]);
            networks.discriminator = self.discriminator.as_ref().map(open).transpose()?;
            if networks.discriminator.is_some() && shape.len() != 3 {
                return Err(Failure::Usage(
                    "--discriminator: it judges images, and this student draws points".into(),
                ));
            }
        }
        let lpips = match &self.lpips {
            Some(path) if self.metrics.contains(&MetricGroup::Paired) => {
                if !has_sides(shape, kdm_nn::vgg::LEAST_SIDE) {
                    return Err(Failure::Usage(format!(
                        "--lpips: it sees images of at least {} pixels a side and 1 or 3 \
                         channels, not {shape:?}",
                        kdm_nn::vgg::LEAST_SIDE
                    )));
                }
                Some(pipeline::load_lpips(path, Pooling::Max, &device)?)
            }
            _ => None,
        };
        let features = match (&self.features, &self.reference) {
            _ if !self.metrics.contains(&MetricGroup::Features) => None,
            (Some(features), Some(reference)) => {
                let extractor = evaluation::open_features(features)?;
                let reference = evaluation::open_reference(&extractor, reference, shape)?;
                Some(FeatureSetting { extractor, reference })
            }
            _ => {
                return Err(Failure::Usage(
                    "--metrics features: name the network with --features and what to compare \
                     with by --reference"
                        .into(),
                ));
            }
        };
        let measuring = Measuring {
            groups: self.metrics,
            board,
            directions: self.directions,
            networks,
            lpips,
            features,
        };
        let values = evaluation::evaluate(&student, &store, &measuring)?;
        if self.json {
            let mut object = json!(values);
            if let Some(setting) = &measuring.features {
                object["features"] = json!({"network": setting.extractor.stamp(), "reference": setting.reference.origin});
            }
            object["pairs"] = json!(store.len());
            return print(&pipeline::pretty(&object));
        }
        print(&columns(&metric_table("Evaluation", &values)))
    }
}
