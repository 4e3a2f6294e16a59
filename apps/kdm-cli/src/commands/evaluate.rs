//! `kdm evaluate`: a student against stored pairs, or images that are there already.

use std::path::PathBuf;

use clap::ValueEnum;
use kdm::experiment::lpips_fits;
use kdm::metrics::{FeatureSpace, MeasureOptions, MetricGroup};
use kdm::nn::{Pooling, vgg};
use kdm::report::metric_table;
use kdm::stages::distill::{LossFiles, open_discriminator, open_lpips};
use kdm::stages::evaluate::{ImagesToMeasure, LossNetworks, board};
use kdm::stages::evaluate::{evaluate, evaluate_images, open_students_loss_network};
use kdm::stages::features::open_feature_space;
use kdm::stages::pairs::open_store;
use kdm::teacher::distributions::DistributionConfig;
use kdm::{Context, Failure, LoadedStudent, Outcome};
use serde_json::json;

use super::data::Reading;
use super::numbers::{STEPS, within};
use super::output::{NOTHING_KEPT, or_stopped, print, print_json};

/// Groups of metrics, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GroupName {
    /// The loss's terms, latent noise and dropout off: latent, rec, push, total
    Losses,
    /// Errors to the teacher's sample from the same noise: rmse, median_error, coordinate_rmse; of
    /// images psnr, ssim, and lpips where its weights are given
    Paired,
    /// Between the two sets of samples: sliced_wasserstein2, energy_distance; with a known board
    /// off_board, teacher_off_board, off_board_excess (in percent)
    Distribution,
    /// Of features of a network (Inception's are the field's FID, others are named feature_...):
    /// Fréchet distance to the reference, the teacher's own, and extrapolated to infinitely many
    /// samples; kernel distance; inception score; precision, recall, density, coverage. With a
    /// classifier's features the class accuracy
    Features,
}

impl GroupName {
    fn group(self) -> MetricGroup {
        match self {
            Self::Losses => MetricGroup::Losses,
            Self::Paired => MetricGroup::Paired,
            Self::Distribution => MetricGroup::Distribution,
            Self::Features => MetricGroup::Features,
        }
    }
}

/// What is missing where features are measured.
const NEEDS_FEATURES: &str = "FLAG: name the network with --features (Inception's file of `kdm \
                              import`, a classifier of `kdm features train`, or fashion-mnist) and \
                              what to compare with by --reference";

/// Flags of `kdm evaluate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The student's file
    #[arg(long, value_name = "M", required_unless_present = "samples")]
    model: Option<PathBuf>,
    /// The store of pairs; take one that the student wasn't trained on
    #[arg(long, value_name = "DIR", required_unless_present = "samples")]
    pairs: Option<PathBuf>,
    /// In place of a student: images to measure, whoever drew them. A folder, .zip or .tar of
    /// images, an .npz, or another data set
    #[arg(long, value_name = "SET", conflicts_with_all = ["model", "pairs"])]
    samples: Option<String>,
    #[command(flatten)]
    reading: Reading,
    /// What to measure [default: losses,paired,distribution; of --samples: features]
    #[arg(long, value_enum, value_delimiter = ',')]
    metrics: Vec<GroupName>,
    /// The data are this; `checkerboard` measures points off the board [default: what the store
    /// says]
    #[arg(long, value_name = "NAME")]
    data: Option<String>,
    /// Random projections of the sliced Wasserstein distance
    #[arg(long, default_value_t = 256, value_name = "N")]
    #[arg(value_parser = within(1, STEPS))]
    directions: usize,
    /// LPIPS weights, from `kdm import vgg16.pth --heads vgg.pth`: for the paired metric, and for a
    /// loss that has it
    #[arg(long, value_name = "FILE")]
    lpips: Option<PathBuf>,
    /// For a loss with a classifier's features: the classifier that the student was trained with
    /// [default: the one that ships, where it was that]
    #[arg(long, value_name = "F")]
    loss_features: Option<PathBuf>,
    /// A discriminator, for the adversarial term, which is left out without one
    #[arg(long, value_name = "FILE")]
    discriminator: Option<PathBuf>,
    /// The feature network for --metrics features: a file of `kdm features train` or of `kdm
    /// import` (Inception), or fashion-mnist
    #[arg(long, value_name = "F")]
    features: Option<PathBuf>,
    /// What features are compared with: statistics of `kdm features stats`, a .npz with mu and
    /// sigma (pytorch-fid, EDM) or with pool_3, EDM2's .pkl, or a data set
    #[arg(long, value_name = "STATS|SET")]
    reference: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Runs the command.
    pub fn run(mut self, context: Context) -> Outcome<()> {
        if let Some(samples) = self.samples.take() {
            return self.measure_images(samples, context);
        }
        let options = self.reading.options()?;
        if options.resolution.is_some() || options.classes.is_some() {
            let problem = "--resolution and --classes: they are for images given by --samples";
            return Err(Failure::Usage(problem.into()));
        }
        if self.metrics.is_empty() {
            self.metrics = vec![GroupName::Losses, GroupName::Paired, GroupName::Distribution];
        }
        let (Some(model), Some(pairs)) = (&self.model, &self.pairs) else {
            return Err(Failure::Usage("give --model and --pairs, or --samples".into()));
        };
        if self.directions == 0 {
            return Err(Failure::Usage("--directions 0: give at least 1".into()));
        }
        if let Some(name) = &self.data
            && DistributionConfig::by_name(name).is_none()
        {
            let known = DistributionConfig::NAMES.join(", ");
            return Err(Failure::Usage(format!("--data {name}: give one of {known}")));
        }
        let student = LoadedStudent::open(model, context.device())?;
        let store = open_store(pairs, context.observer)?;
        let drawn_from = store.manifest().teacher.as_ref().map(|teacher| teacher.data.as_str());
        let options = MeasureOptions {
            groups: self.metrics.iter().map(|name| name.group()).collect(),
            inside: self.data.as_deref().or(drawn_from).and_then(board),
            directions: self.directions,
            lpips: self.paired_lpips(&student, context)?,
            features: self.feature_space(&student, context)?,
        };
        let networks = self.loss_networks(&student, context)?;
        let values = evaluate(&student, &store, &options, &networks, context);
        let values = or_stopped(values, || NOTHING_KEPT.into())?;
        if self.json {
            let mut object = json!(values);
            if let Some(space) = &options.features {
                object["features"] = json!({
                    "network": space.extractor.stamp(), "reference": space.reference.origin,
                });
            }
            object["pairs"] = json!(store.len());
            return print_json(&object);
        }
        print(&metric_table("Evaluation", &values).text())
    }

    /// Measures images that are there already.
    fn measure_images(self, samples: String, context: Context) -> Outcome<()> {
        if let Some(other) = self.metrics.iter().find(|name| **name != GroupName::Features) {
            let name = other.group().name();
            return Err(Failure::Usage(format!(
                "--metrics {name}: it compares with a teacher; of --samples only features are \
                 measured"
            )));
        }
        let (Some(features), Some(reference)) = (self.features, self.reference) else {
            return Err(Failure::Usage(NEEDS_FEATURES.replace("FLAG", "--samples")));
        };
        let options = self.reading.options()?;
        let wanted = ImagesToMeasure { samples, features, reference, options };
        let measured = or_stopped(evaluate_images(&wanted, context), || NOTHING_KEPT.into())?;
        if self.json {
            let mut object = json!(measured.values);
            object["features"] =
                json!({"network": measured.network, "reference": measured.reference});
            object["images"] = json!(measured.images);
            return print_json(&object);
        }
        let title = format!("{} images against {}", measured.images, wanted.reference);
        print(&metric_table(&title, &measured.values).text())
    }

    /// The networks of the loss's terms.
    fn loss_networks(&self, student: &LoadedStudent, context: Context) -> Outcome<LossNetworks> {
        if !self.metrics.contains(&GroupName::Losses) {
            return Ok(LossNetworks::default());
        }
        let shape = &student.config().shape;
        if self.discriminator.is_some() && shape.len() != 3 {
            return Err(Failure::Usage(
                "--discriminator: it judges images, and this student draws points; leave it out"
                    .into(),
            ));
        }
        let files =
            LossFiles { lpips: self.lpips.as_deref(), features: self.loss_features.as_deref() };
        let open = |path: &PathBuf| open_discriminator(path, shape[0], context.device());
        Ok(LossNetworks {
            perceptual: open_students_loss_network(student, files, context.device())?,
            discriminator: self.discriminator.as_ref().map(open).transpose()?,
        })
    }

    /// LPIPS for the paired metrics, where its weights are given.
    fn paired_lpips(
        &self,
        student: &LoadedStudent,
        context: Context,
    ) -> Outcome<Option<kdm::nn::Lpips>> {
        let paired = self.metrics.contains(&GroupName::Paired);
        let Some(path) = self.lpips.as_ref().filter(|_| paired) else { return Ok(None) };
        let shape = &student.config().shape;
        if !lpips_fits(shape) {
            return Err(Failure::Usage(format!(
                "--lpips: it sees images of at least {} pixels a side and 1 or 3 channels, not \
                 {shape:?}; leave it out",
                vgg::LEAST_SIDE
            )));
        }
        Ok(Some(open_lpips(path, Pooling::Max, context.device())?.0))
    }

    /// The features and what they are compared with, where they are asked for.
    fn feature_space(
        &self,
        student: &LoadedStudent,
        context: Context,
    ) -> Outcome<Option<FeatureSpace>> {
        if !self.metrics.contains(&GroupName::Features) {
            return Ok(None);
        }
        let (Some(features), Some(reference)) = (&self.features, &self.reference) else {
            return Err(Failure::Usage(NEEDS_FEATURES.replace("FLAG", "--metrics features")));
        };
        open_feature_space(features, reference, &student.config().shape, context).map(Some)
    }
}
