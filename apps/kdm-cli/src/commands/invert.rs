//! `kdm invert`: from images back to their latents and noise.

use std::path::PathBuf;

use burn::tensor::Device;
use kdm_data::pairs::PairStore;
use kdm_data::{Array, array, atomic};
use kdm_koopman::inversion::{Descent, Inverter, pull_back};
use kdm_koopman::sampler::one_hot;
use kdm_koopman::stepwise::Stepwise;
use kdm_koopman::student::StudentFile;
use kdm_metrics::paired;
use kdm_report::{Report, Table, grid};
use serde_json::json;

use super::output::{print, read_labels, read_rows};
use kdm::assets::{self, Role};
use kdm::pipeline::{LoadedStudent, pretty};
use kdm::portrait::{columns, write_report};
use kdm::{Failure, Outcome};

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
    count: usize,
    /// Steps of the refinement
    #[arg(long, default_value_t = 200, value_name = "N")]
    steps: usize,
    /// The operator's singular values below this share of the largest are taken for zero
    #[arg(long, default_value_t = 1e-3, value_name = "SHARE")]
    cutoff: f64,
    /// Where the latents, the noise and a report go
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is to be inverted, row by row.
struct Wanted {
    images: Vec<f32>,
    /// One-hot; empty when unconditional.
    labels: Vec<f32>,
    /// The noise that the images are of, where it is known.
    noise: Option<Vec<f32>>,
}

/// The seed of the noise that the search begins at.
const START_SEED: u64 = 20;
/// The first step, in units of the noise's and of the latents' deviation.
const RATE: f64 = 0.1;

impl Args {
    /// Runs the command.
    pub fn run(self) -> Outcome<()> {
        if self.count == 0 || !(0.0..1.0).contains(&self.cutoff) {
            return Err(Failure::Usage(
                "--count: give at least 1; --cutoff: at least 0 and below 1".into(),
            ));
        }
        let student = LoadedStudent::open(&self.model)?;
        let config = &student.file.student;
        let koopman = student.koopman()?;
        let (dim, n) = (config.dim(), config.operator_dim());
        let Wanted { images, labels, noise } = self.wanted(&student)?;
        let count = images.len() / dim;
        let parts = Stepwise { student: koopman, config };

        let encoded = parts.encode_clean(&images, &labels);
        let shift = parts.control(&labels);
        let pulled = pull_back(&koopman.operator.matrix(), &encoded, &shift, self.cutoff)
            .map_err(|e| student.bad_operator(e))?;
        let device = Device::flex().autodiff();
        let (_, tracked) =
            StudentFile::from_file(&assets::open(Role::Student, &self.model)?, &device)?;
        let tracked = tracked.koopman().expect("the same file").clone();
        let inverter = Inverter::new(tracked, config, &labels, device);
        let deviation = |rows: &[f32]| {
            (rows.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / rows.len() as f64).sqrt()
        };
        let descent = Descent { steps: self.steps, rate: RATE * deviation(&encoded), length: None };
        let refined = inverter.refine_latents(&encoded, &images, descent);
        let std = config.noise_std;
        let start: Vec<f32> = kdm_random::normal_vec(START_SEED, count * dim)
            .iter()
            .map(|e| (std * f64::from(*e)) as f32)
            .collect();
        let length = Some(std * (dim as f64).sqrt());
        let found = inverter.refine_noise(
            &start,
            &images,
            Descent { steps: self.steps, rate: RATE * std, length },
        );

        let ways = [
            ("encoder", "D(E_0(x)): by the clean encoder", parts.decode(&encoded, &labels)),
            (
                "pulled back",
                "D(C z_T) for z_T by the operator's pseudo-inverse from E_0(x)",
                parts.decode(&parts.push(&pulled, &labels), &labels),
            ),
            (
                "refined latent",
                "D(z) for the latent found by descent from E_0(x)",
                parts.decode(&refined, &labels),
            ),
            (
                "refined noise",
                "the sample of the noise found by descent, from a random one of the same length",
                student.sampler.sample(&found, &labels),
            ),
        ];
        let mut rows = Vec::new();
        let mut object = json!({"images": count});
        for (name, note, drawn) in &ways {
            let rmse = paired(drawn, &images, dim).coordinate_rmse;
            rows.push([
                (*name).to_string(),
                format!("{rmse:.4}"),
                format!("rmse of a pixel: {note}"),
            ]);
            object[*name] = json!(rmse);
        }
        if let Some(noise) = &noise {
            let own = paired(&student.sampler.sample(noise, &labels), &images, dim).coordinate_rmse;
            rows.push([
                "own noise".into(),
                format!("{own:.4}"),
                "the same for the student's sample of the image's own noise".into(),
            ]);
            let likeness = cosine(&found, noise);
            rows.push([
                "likeness".into(),
                format!("{likeness:.4}"),
                "cosine of the noise found and the image's own; 0 for unrelated noise".into(),
            ]);
            let latents = cosine(&pulled, &parts.encode_noise(noise, &labels));
            rows.push([
                "likeness of latents".into(),
                format!("{latents:.4}"),
                "cosine of z_T pulled back and E_T of the image's own noise".into(),
            ]);
            object["own noise"] = json!(own);
            object["likeness"] = json!(likeness);
            object["likeness of latents"] = json!(latents);
        }
        let table = Table::of("How well images come back", rows);

        atomic::create_folder(&self.out)?;
        let latent = |values: Vec<f32>| Array::new([count, n], values);
        array::write_npz(
            &self.out.join("inversion.npz"),
            &[
                ("encoded", &latent(encoded)),
                ("pulled_back", &latent(pulled)),
                ("refined", &latent(refined)),
                ("noise", &Array::new([&[count], config.shape.as_slice()].concat(), found)),
            ],
        )?;
        let mut figures = Vec::new();
        if grid::shows(&config.shape) {
            let all: Vec<f32> = [&images]
                .into_iter()
                .chain(ways.iter().map(|way| &way.2))
                .flatten()
                .copied()
                .collect();
            figures.push(kdm_report::Figure {
                title: "Inversion".into(),
                png: grid::png(&all, &config.shape, count),
                caption: "The images; as the clean encoder and the decoder give them back; through the operator's pseudo-inverse; from a \
                          refined latent; as samples of the noise that was found."
                    .into(),
            });
        }
        let page = Report {
            title: "kdm: inversion".into(),
            summary: format!(
                "{count} images brought back to latents and noise of {}.",
                self.model.display()
            ),
            tables: vec![table.clone()],
            figures,
            config: pretty(&json!(student.file)),
        };
        let report = write_report(&self.out, &page)?;
        if self.json {
            return print(&pretty(&object));
        }
        print(&format!("{}report: {}\n", columns(&table), report.display()))
    }

    /// The images that the command names.
    fn wanted(&self, student: &LoadedStudent) -> Outcome<Wanted> {
        let config = &student.file.student;
        let Some(path) = &self.images else {
            let store =
                PairStore::open_verified(self.pairs.as_ref().expect("clap asks for one of them"))?;
            student.check_pairs(&store)?;
            let pairs = store.range(0..store.len().min(self.count));
            let labels = one_hot(&pairs.labels, config.label_dim);
            return Ok(Wanted { images: pairs.images, labels, noise: Some(pairs.noise) });
        };
        let images = read_rows(path, config.dim(), "images")?;
        let labels = read_labels(self.labels.as_deref(), None, config.label_dim, images.rows())?;
        let labels = match labels {
            None if config.label_dim > 0 => {
                return Err(Failure::Usage(
                    "this student is conditional: give --labels beside --images".into(),
                ));
            }
            labels => labels.unwrap_or_default(),
        };
        let count = images.rows().min(self.count);
        let images = images.data[..count * config.dim()].to_vec();
        Ok(Wanted { images, labels: labels[..count * config.label_dim].to_vec(), noise: None })
    }
}

/// The mean cosine is not of rows but of all numbers together: rows of noise have one length.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
