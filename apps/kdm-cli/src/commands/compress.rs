//! `kdm compress`: a student whose operator works on fewer numbers.

use std::path::PathBuf;

use kdm_data::pairs::PairStore;
use kdm_koopman::stepwise::Stepwise;
use kdm_koopman::{Sampler, Student, StudentConfig};
use serde_json::json;

use super::output::print;
use kdm::compression::{By, RUNS, compressed, cut, linear_seconds};
use kdm::evaluation::alternating;
use kdm::examination::deviation;
use kdm::pipeline::{LoadedStudent, pretty};
use kdm::{Failure, Outcome};

/// Flags of `kdm compress`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The student's file
    #[arg(long, value_name = "M")]
    model: PathBuf,
    /// Numbers that the operator keeps; see the truncation in `kdm analyze` for what a rank costs
    #[arg(long, value_name = "K")]
    rank: usize,
    /// What is kept
    #[arg(long, value_enum, default_value = "principal")]
    by: By,
    /// A store of pairs, whose noise gives the latents [default: noise of the seeds 0, 1, ...]
    #[arg(long, value_name = "DIR")]
    pairs: Option<PathBuf>,
    /// Latents that it is chosen on
    #[arg(long, default_value_t = 1000, value_name = "N")]
    samples: usize,
    /// Where the smaller student goes
    #[arg(long, value_name = "MODEL.safetensors")]
    out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Samples that the two students are compared on.
const COMPARED: usize = 256;
/// Values of samples that are timed.
const TIMED: usize = 1 << 14;

impl Args {
    /// Runs the command.
    pub fn run(self) -> Outcome<()> {
        let student = LoadedStudent::open(&self.model)?;
        let koopman = student.koopman()?;
        let config = &student.file.student;
        let n = config.operator_dim();
        if self.rank == 0 || self.rank > n {
            return Err(Failure::Usage(format!(
                "--rank {}: the operator works on {n} numbers; give 1 to {n}",
                self.rank
            )));
        }
        if self.samples < 2 {
            return Err(Failure::Usage("--samples: give at least 2".into()));
        }
        let (noise, labels) = match &self.pairs {
            Some(folder) => {
                let store = PairStore::open_verified(folder)?;
                student.check_pairs(&store)?;
                let pairs = store.range(0..store.len().min(self.samples));
                (pairs.noise, kdm_koopman::sampler::one_hot(&pairs.labels, config.label_dim))
            }
            None => student.draw(&(0..self.samples as u64).collect::<Vec<u64>>()),
        };
        let dim = config.dim();
        if noise.len() < 2 * dim {
            return Err(Failure::Usage(
                "--pairs: the store has one pair, and at least 2 are needed".into(),
            ));
        }
        let latents = Stepwise { student: koopman, config }.encode_noise(&noise, &labels);
        let affine = koopman.operator.matrix();
        let bad = |problem: String| student.bad_operator(problem);
        let (low, added) = cut(&affine, &latents, self.by, self.rank).map_err(bad)?;
        if low.rank == 0 {
            return Err(Failure::Usage(
                "--rank 1: this operator's modes are pairs of two numbers; give 2 or more".into(),
            ));
        }
        let (small, smaller) = compressed(koopman, config, &low, &added).map_err(bad)?;
        let mut file = student.file.clone();
        file.student = smaller;
        // The rest of an origin says which pairs and which teacher a student belongs to.
        if let Some(origin) = file.origin.as_object_mut() {
            let how =
                json!({"by": self.by, "rank": low.rank, "from": n, "samples": noise.len() / dim});
            origin.insert("compressed".into(), how);
        }
        file.save(&Student::Koopman(small.clone()), &self.out)?;

        let first = |rows: usize| {
            let rows = rows.min(noise.len() / dim);
            (&noise[..rows * dim], &labels[..rows * config.label_dim])
        };
        let [before, after] = linear_seconds([koopman, &small], config.latent);
        let other =
            Sampler::new(Student::Koopman(small), &file.student, &burn::tensor::Device::flex());
        let (x, y) = first((TIMED / dim).max(1));
        let draw = |sampler: &Sampler| drop(std::hint::black_box(sampler.sample(x, y)));
        let [whole, less] = alternating([&|| draw(&student.sampler), &|| draw(&other)], RUNS);
        let (x, y) = first(COMPARED);
        let (images, found) = (student.sampler.sample(x, y), other.sample(x, y));
        let squares = found.iter().zip(&images).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        let error = (squares / images.len() as f64).sqrt() / deviation(&images, dim);
        let flops = |config: &StudentConfig| config.flops(false, false);
        let values = json!({
            "rank": low.rank,
            "of": n,
            "error": error,
            "flops_saved": 1.0 - flops(&file.student) / flops(config),
            "linear_speed_up": before / after,
            "sample_speed_up": whole / less,
        });
        if self.json {
            return print(&pretty(&values));
        }
        print(&format!(
            "rank             {} of {n}\nerror            {:.1}% of the samples' deviation, to the whole student's\n\
             flops saved      {:.2}% of a sample's\noperator         {:.2} times faster, with all \
             linear maps between encoder and \
             decoder\nsampling         {:.2} times faster\nmodel: {}\n",
            low.rank,
            100.0 * error,
            100.0 * (1.0 - flops(&file.student) / flops(config)),
            before / after,
            whole / less,
            self.out.display()
        ))
    }
}
