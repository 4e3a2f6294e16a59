//! `kdm evaluate`: a student against stored pairs, or images that are there already.

use std::path::PathBuf;

use clap::ValueEnum;
use kdm::metrics::MetricGroup;
use kdm::report::metric_table;
use kdm::stages::evaluate::{
    DIRECTIONS, EvaluationRequest, ImagesToMeasure, NEEDS_FEATURES, evaluate_images,
};
use kdm::stages::pairs::open_store;
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
    #[arg(long, default_value_t = DIRECTIONS, value_name = "N")]
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
        let (Some(model), Some(pairs)) = (&self.model, &self.pairs) else {
            return Err(Failure::Usage("give --model and --pairs, or --samples".into()));
        };
        let groups: Vec<MetricGroup> = self.metrics.iter().map(|name| name.group()).collect();
        let request = EvaluationRequest {
            groups: &groups,
            data: self.data.as_deref(),
            directions: self.directions,
            lpips: self.lpips.as_deref(),
            loss_features: self.loss_features.as_deref(),
            discriminator: self.discriminator.as_deref(),
            features: self.features.as_deref(),
            reference: self.reference.as_deref(),
        };
        request.check()?;
        let student = LoadedStudent::open(model, context.device())?;
        let store = open_store(pairs, context.observer)?;
        let opened = request.open(&student, &store, context)?;
        let found = or_stopped(opened.measure(context), || NOTHING_KEPT.into())?;
        if self.json {
            return print_json(&found.json());
        }
        print(&metric_table("Evaluation", &found.values).text())
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
}
