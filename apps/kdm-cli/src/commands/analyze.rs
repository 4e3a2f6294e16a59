//! `kdm analyze`: what can be seen in a student; `kdm analyze theory`: experiments with exact
//! answers.

use std::path::{Path, PathBuf};

use kdm_analysis::clusters::ClusterConfig;
use kdm_data::pairs::PairStore;
use kdm_data::{array, atomic};
use kdm_koopman::sampler::one_hot;
use kdm_report::Report;
use kdm_teacher::distributions::DistributionConfig;
use serde_json::json;

use super::output::print;
use super::teacher::load_teacher;
use kdm::evaluation::{open_features, open_reference};
use kdm::examination::{Subject, examine, process_of};
use kdm::neighbours::{MEASURED, neighbours};
use kdm::pipeline::{self, LoadedStudent};
use kdm::portrait::{Sitting, columns, metric_table, portrait, structure_table, write_report};
use kdm::theory::{page, theory};
use kdm::{Failure, Outcome};

/// Flags of `kdm analyze`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    theory: Option<Theory>,
    #[command(flatten)]
    student: Option<StudentArgs>,
}

/// What needs no student.
#[derive(Debug, clap::Subcommand)]
pub enum Theory {
    /// Experiments on teachers in closed form, where the method has exact answers
    Theory {
        /// Where the page and the trained student go
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
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
    /// Samples to sort into clusters
    #[arg(long, default_value_t = 5000, value_name = "N")]
    samples: usize,
    /// Clusters: samples within this distance are neighbours
    #[arg(long, default_value_t = 0.15)]
    eps: f64,
    /// Clusters: neighbours that make a sample part of a cluster's core
    #[arg(long, default_value_t = 5, value_name = "N")]
    min_neighbours: usize,
    /// Outliers: standard deviations above the mean distance to neighbours
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
    /// The student's teacher, to draw its own way from noise to image beside the operator's: a
    /// model file, or fashion-mnist
    #[arg(long, value_name = "T")]
    teacher: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> Outcome<()> {
        match (self.theory, self.student) {
            (Some(Theory::Theory { out, json }), _) => run_theory(&out, json),
            (None, Some(args)) => args.run(),
            (None, None) => Err(Failure::Usage("give a student with --model, and --out".into())),
        }
    }
}

/// Runs the experiments and writes their page.
fn run_theory(out: &Path, json: bool) -> Outcome<()> {
    atomic::create_folder(out)?;
    let found = theory(out)?;
    let report = page(&found);
    let path = write_report(out, &report)?;
    if json {
        return print(&pipeline::pretty(&json!(found)));
    }
    let tables: Vec<String> = report.tables.iter().map(columns).collect();
    print(&format!("{}report: {}\n", tables.join("\n"), path.display()))
}

impl StudentArgs {
    fn run(self) -> Outcome<()> {
        for (flag, ok) in [
            ("--samples", self.samples > 0),
            ("--eps", self.eps > 0.0),
            ("--min-neighbours", self.min_neighbours > 0),
            ("--z-score", self.z_score > 0.0),
        ] {
            if !ok {
                return Err(Failure::Usage(format!("{flag}: give a number above 0")));
            }
        }
        let student = LoadedStudent::open(&self.model)?;
        student.koopman()?;
        let config = student.file.student.clone();
        let clusters = ClusterConfig {
            eps: self.eps,
            min_neighbours: self.min_neighbours,
            z_score: self.z_score,
        };
        let mut data_name = student.file.origin["pairs"]["teacher"]["data"]
            .as_str()
            .unwrap_or_default()
            .to_string();
        let (noise, labels, teacher, data) = match &self.pairs {
            Some(folder) => {
                let store = PairStore::open_verified(folder)?;
                student.check_pairs(&store)?;
                let pairs = store.range(0..store.len().min(2 * self.samples));
                data_name =
                    store.manifest().teacher.as_ref().map(|t| t.data.clone()).unwrap_or_default();
                let data =
                    DistributionConfig::by_name(&data_name).and_then(|config| config.build().ok());
                (pairs.noise, one_hot(&pairs.labels, config.label_dim), Some(pairs.images), data)
            }
            None => {
                let seeds: Vec<u64> = (0..2 * self.samples as u64).collect();
                let (noise, labels) = student.draw(&seeds);
                (noise, labels, None, None)
            }
        };
        atomic::create_folder(&self.out)?;
        let sitting = Sitting {
            noise: &noise,
            labels: &labels,
            teacher: teacher.as_deref(),
            clusters,
            clustered: self.samples,
            data: data.as_ref(),
        };
        let mut portrait = portrait(&student, sitting)?;
        let spectrum = portrait.spectrum.clone().expect("its operator has one");
        let mut object = json!({});
        let mut tables = vec![structure_table(&portrait)];
        let extractor = self.features.as_deref().map(open_features).transpose()?;
        if let Some(Err(problem)) = extractor.as_ref().map(|e| e.fits(&config.shape)) {
            return Err(Failure::Usage(format!("--features: {problem}")));
        }
        let reference = match (&extractor, &self.reference) {
            (Some(extractor), Some(source)) => {
                Some(open_reference(extractor, source, &config.shape)?)
            }
            _ => None,
        };
        let original = match &self.teacher {
            Some(source) => {
                let (teacher, process) = (load_teacher(source)?, process_of(&student)?);
                student.check_teacher(&teacher)?;
                Some((teacher, process))
            }
            None => None,
        };
        let subject = Subject {
            student: &student,
            noise: &noise,
            labels: &labels,
            extractor: extractor.as_ref(),
            reference: reference.as_ref(),
            data: &data_name,
        };
        let found =
            examine(subject, original.as_ref().map(|(teacher, process)| (teacher, process)))?;
        found.values.into_iter().for_each(|(key, value)| object[key] = value);
        portrait.figures.extend(found.figures);
        tables.extend(found.tables);
        if let (Some(source), Some(extractor)) = (&self.neighbours, &extractor) {
            let measured = MEASURED.min(noise.len() / config.dim()) * config.dim();
            let samples = student
                .sampler
                .sample(&noise[..measured], &labels[..measured / config.dim() * config.label_dim]);
            let found = neighbours(extractor, source, &samples, &config.shape)?;
            object["neighbours"] = json!(found.values);
            portrait.figures.push(found.figure);
            tables.push(metric_table("Nearest training images", &found.values));
        }
        if let Some(structure) = &portrait.structure {
            object["clusters"] = json!(structure.cluster_sizes);
            object["outliers"] = json!(structure.outliers);
        }
        object["latent"] = json!(spectrum.latent);
        object["spectral_radius"] = json!(spectrum.spectral_radius);
        object["leading"] = json!(spectrum.leading);
        object["complete"] = json!(spectrum.complete);
        object["eigenvalues"] = json!(spectrum.eigenvalues);
        let pairs: Vec<f32> =
            spectrum.eigenvalues.iter().flat_map(|l| [l.0 as f32, l.1 as f32]).collect();
        array::write_npy(
            &self.out.join("eigenvalues.npy"),
            &kdm_data::Array::new([pairs.len() / 2, 2], pairs),
        )?;
        let page = Report {
            title: "kdm: analysis of a student".into(),
            summary: format!(
                "{}. Operator: {:?} on {} numbers.",
                self.model.display(),
                config.operator.kind,
                spectrum.latent
            ),
            tables,
            figures: portrait.figures,
            config: pipeline::pretty(&json!(student.file)),
        };
        let report = write_report(&self.out, &page)?;
        if self.json {
            return print(&pipeline::pretty(&object));
        }
        print(&format!(
            "spectral_radius  {:.4}\nleading          {} of {}\nreport: {}\n",
            spectrum.spectral_radius,
            spectrum.leading,
            spectrum.eigenvalues.len(),
            report.display()
        ))
    }
}
