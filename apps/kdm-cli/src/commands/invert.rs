//! `kdm invert`: from images back to their latents and noise.

use std::path::PathBuf;

use kdm::data::{Labels, Samples};
use kdm::koopman::inversion::InversionConfig;
use kdm::report::inversion_table;
use kdm::sample_files::{read_labels, read_rows};
use kdm::studies::invert::invert_images;
use kdm::{Context, Failure, LoadedStudent, Outcome};

use super::numbers::{SAMPLES, STEPS, within};
use super::output::{Figures, NOTHING_KEPT, folder, maybe, or_stopped, print, print_json};

/// Flags of `kdm invert`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The student's file, or fashion-mnist
    #[arg(long, value_name = "M")]
    model: PathBuf,
    /// A store of pairs, whose images are inverted; their noise is known, so that what is found can
    /// be compared with it
    #[arg(long, value_name = "DIR", required_unless_present = "images", conflicts_with = "images")]
    pairs: Option<PathBuf>,
    /// Images in [-1, 1], one a row
    #[arg(long, value_name = "X.npy")]
    images: Option<PathBuf>,
    /// One-hot labels of --images, one a row
    #[arg(long, value_name = "Y.npy", requires = "images")]
    labels: Option<PathBuf>,
    /// The first N images
    #[arg(long, default_value_t = 16, value_name = "N")]
    #[arg(value_parser = within(1, SAMPLES))]
    count: usize,
    /// Steps of the refinement
    #[arg(long, default_value_t = 200, value_name = "N")]
    #[arg(value_parser = within(0, STEPS))]
    steps: usize,
    /// The operator's singular values below this share of the largest are taken for zero
    #[arg(long, default_value_t = 1e-3, value_name = "SHARE")]
    cutoff: f64,
    /// Where the latents, the noise and a report go
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    figures: Figures,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        let context = self.figures.of(context);
        let inputs = [Some(self.model.as_path()), maybe(&self.pairs), maybe(&self.images)];
        folder(&self.out, &inputs)?;
        let student = LoadedStudent::open(&self.model, context.device())?;
        student.koopman()?;
        let samples = self.samples(&student)?;
        let config = InversionConfig { steps: self.steps, cutoff: self.cutoff };
        let found = invert_images(&student, &samples, config, &self.out, context);
        let (found, report) = or_stopped(found, || NOTHING_KEPT.into())?;
        if self.json {
            return print_json(&found);
        }
        let rows = inversion_table(&found).text();
        print(&format!("{rows}report: {}\n", report.display()))
    }

    /// The images that the command names, with their noise where it is known.
    fn samples(&self, student: &LoadedStudent) -> Outcome<Samples> {
        let config = student.config();
        let Some(path) = &self.images else {
            let folder = self.pairs.as_ref().expect("clap asks for one of them");
            return Ok(student.first_pairs(folder, self.count)?.1);
        };
        let images = read_rows(path, config.dim(), "images")?;
        let rows = images.rows();
        let labels = match &self.labels {
            Some(path) => read_labels(path, config.label_dim, rows)?,
            None if config.label_dim == 0 => Labels::none(rows),
            None => {
                return Err(Failure::Usage(
                    "this student is conditional: give --labels beside --images".into(),
                ));
            }
        };
        let shape = config.shape.clone();
        let all = Samples { shape, images: images.data, labels, ..Samples::default() };
        Ok(all.first(self.count))
    }
}
