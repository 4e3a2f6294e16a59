//! `kdm analyze`: what can be seen in a student; `kdm analyze theory`: experiments with exact
//! answers.

use std::path::{Path, PathBuf};

use kdm::analysis::ClusterConfig;
use kdm::data::lock::FolderLock;
use kdm::report::{Table, theory_page};
use kdm::stages::analyze::{AnalysisRequest, write_analysis};
use kdm::stages::examine::write_report;
use kdm::studies::theory::theory;
use kdm::{Context, Failure, LoadedStudent, Outcome};

use super::numbers::{SAMPLES, within};
use super::output::{Figures, NOTHING_KEPT, folder, maybe, or_stopped, print, print_json};
use super::resuming::{Keeping, or_continued};

/// Flags of `kdm analyze`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    theory: Option<Theory>,
    #[command(flatten)]
    student: Option<StudentArgs>,
    // Not within the student's: flags that are optional together are found to be there only where
    // no others are flattened into them.
    #[command(flatten)]
    figures: Figures,
}

/// What needs no student.
#[derive(Debug, clap::Subcommand)]
pub enum Theory {
    /// Experiments on teachers in closed form, where the method has exact answers
    #[command(after_help = "\
Examples:
  kdm analyze theory --out theory")]
    Theory {
        /// Where the page and the trained student go
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        figures: Figures,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Flags of the analysis of a student.
#[derive(Debug, clap::Args)]
pub struct StudentArgs {
    /// The student's file
    #[arg(long, value_name = "M")]
    model: PathBuf,
    /// A store of pairs, for the teacher's samples and the noise [default: noise of the seeds 0, 1,
    /// ...]
    #[arg(long, value_name = "DIR")]
    pairs: Option<PathBuf>,
    /// Where figures, eigenvalues and the report go
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Samples to draw and look at [default: 10000, of which 5000 are sorted into clusters where
    /// they are points in the plane]
    #[arg(long, value_name = "N", value_parser = within(1, SAMPLES))]
    samples: Option<usize>,
    /// Clusters of points in the plane: samples within this distance are neighbours; of images it
    /// is chosen by their features
    #[arg(long, default_value_t = 0.15)]
    eps: f64,
    /// Clusters of points in the plane: neighbours that make a sample part of a cluster's core
    #[arg(long, default_value_t = 5, value_name = "N")]
    #[arg(value_parser = within(1, SAMPLES))]
    min_neighbours: usize,
    /// Outliers of points in the plane: standard deviations above the mean distance to neighbours
    #[arg(long, default_value_t = 3.0)]
    z_score: f64,
    /// Show the images of this data set that are nearest to samples, and measure whether samples
    /// are copies (with --features)
    #[arg(long, value_name = "SET", requires = "features")]
    neighbours: Option<String>,
    /// A feature network, to measure distances of images by: a file of `kdm features train` or of
    /// `kdm import` (Inception), or fashion-mnist
    #[arg(long, value_name = "F")]
    features: Option<PathBuf>,
    /// What features are compared with when modes are left out: statistics of `kdm features stats`,
    /// a .npz with mu and sigma, or a data set (with --features)
    #[arg(long, value_name = "STATS|SET", requires = "features")]
    reference: Option<String>,
    /// The student's teacher, to draw its own path from noise to image beside the operator's: a
    /// model file, or fashion-mnist
    #[arg(long, value_name = "T")]
    teacher: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    /// See [`Keeping`]: the trainings of `analyze theory` are kept.
    pub fn keeping(&self) -> Option<Keeping> {
        self.theory.is_some().then_some(Keeping::DEFAULT)
    }

    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        match (self.theory, self.student) {
            (Some(Theory::Theory { out, figures, json }), _) => {
                run_theory(&out, json, figures.of(context))
            }
            (None, Some(args)) => args.run(self.figures.of(context)),
            (None, None) => Err(Failure::Usage("give a student with --model, and --out".into())),
        }
    }
}

/// Runs the experiments and writes their page.
fn run_theory(out: &Path, json: bool, context: Context) -> Outcome<()> {
    folder(out, &[])?;
    kdm::data::atomic::create_folder(out)?;
    let _held = FolderLock::take(out)?;
    let kept = || "finished trainings are kept".into();
    let found = or_continued(theory(out, context), &[], kept)?;
    let page = theory_page(&found);
    let path = write_report(out, &page, context)?;
    if json {
        return print_json(&found);
    }
    let tables: Vec<String> = page.tables().map(Table::text).collect();
    print(&format!("{}report: {}\n", tables.join("\n"), path.display()))
}

impl StudentArgs {
    fn run(self, context: Context) -> Outcome<()> {
        let clusters = ClusterConfig {
            eps: self.eps,
            min_neighbours: self.min_neighbours,
            z_score: self.z_score,
        };
        let request = AnalysisRequest {
            pairs: self.pairs.as_deref(),
            samples: self.samples,
            clusters,
            features: self.features.as_deref(),
            reference: self.reference.as_deref(),
            neighbours: self.neighbours.as_deref(),
            teacher: self.teacher.as_deref(),
        };
        request.check()?;
        let neighbours = self.neighbours.as_deref().map(Path::new);
        folder(&self.out, &[Some(&self.model), maybe(&self.pairs), neighbours])?;
        let student = LoadedStudent::open(&self.model, context.device())?;
        let opened = request.open(&student, context)?;
        let found = opened.run(Some(&self.out), context).and_then(|found| {
            let report = write_analysis(&student, &found, &self.out, context)?;
            Ok((found, report))
        });
        let (found, report) = or_stopped(found, || NOTHING_KEPT.into())?;
        if self.json {
            return print_json(&found.json());
        }
        let spectrum = &found.operator.as_ref().expect("a Koopman student has one").spectrum;
        let clusters = found.clusters().map_or(String::new(), |count| {
            format!(
                "clusters         {}\noutliers         {} of {}\n",
                count.clusters, count.outliers, count.samples
            )
        });
        print(&format!(
            "spectral_radius  {:.4}\nleading          {} of {}\n{clusters}report: {}\n",
            spectrum.spectral_radius,
            spectrum.leading,
            spectrum.eigenvalues.len(),
            report.display()
        ))
    }
}
