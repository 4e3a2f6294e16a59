//! `kdm compress`: a student with an operator of lower rank.

use std::path::PathBuf;

use clap::ValueEnum;
use kdm::data::output::FileKind;
use kdm::koopman::low_rank::RankBy;
use kdm::koopman::student_file::KIND as STUDENT;
use kdm::studies::compress::compress;
use kdm::{Context, LoadedStudent, Outcome};

use super::numbers::{SAMPLES, within};
use super::output::{NOTHING_KEPT, Replace, maybe, or_stopped, print, print_json};

/// What is kept.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum RankName {
    /// Directions in which pushed latents vary most: the least error of a rank
    Principal,
    /// Modes that carry most: the operator keeps their eigenvalues
    Modes,
}

/// Flags of `kdm compress`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The student's file
    #[arg(long, value_name = "M")]
    model: PathBuf,
    /// Latent dimensions that the operator keeps; see the truncation in `kdm analyze` for what a
    /// rank costs
    #[arg(long, value_name = "K")]
    rank: usize,
    /// What is kept
    #[arg(long, value_enum, default_value = "principal")]
    by: RankName,
    /// A store of pairs, whose noise gives the latents [default: noise of the seeds 0, 1, ...]
    #[arg(long, value_name = "DIR")]
    pairs: Option<PathBuf>,
    /// Latents that it is chosen on
    #[arg(long, default_value_t = 1000, value_name = "N")]
    #[arg(value_parser = within(2, SAMPLES))]
    samples: usize,
    /// Where the smaller student goes
    #[arg(long, value_name = "MODEL.safetensors")]
    out: PathBuf,
    #[command(flatten)]
    replace: Replace,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        let inputs = [Some(self.model.as_path()), maybe(&self.pairs)];
        self.replace.file(&self.out, FileKind::Model(STUDENT), &inputs)?;
        let student = LoadedStudent::open(&self.model, context.device())?;
        student.koopman()?;
        let samples = match &self.pairs {
            Some(folder) => student.first_pairs(folder, self.samples)?.1,
            None => student.draw_noise(&(0..self.samples as u64).collect::<Vec<u64>>()),
        };
        let by = match self.by {
            RankName::Principal => RankBy::Principal,
            RankName::Modes => RankBy::Modes,
        };
        let found = compress(&student, &samples, by, self.rank, &self.out, context);
        let found = or_stopped(found, || NOTHING_KEPT.into())?;
        if self.json {
            return print_json(&found);
        }
        print(&format!(
            "rank             {} of {}\n\
             error            {:.1}% of the samples' standard deviation, to the whole student's\n\
             flops saved      {:.2}% of a sample's\n\
             operator         {:.2} times faster, with all linear maps from encoder to decoder\n\
             sampling         {:.2} times faster\n\
             numbers          {} of {}\n\
             bytes            {} of {}\n\
             model: {}\n",
            found.rank,
            found.of,
            100.0 * found.error,
            100.0 * found.flops_saved,
            found.linear_speed_up,
            found.sample_speed_up,
            found.numbers,
            found.numbers_before,
            found.bytes,
            found.bytes_before,
            self.out.display()
        ))
    }
}
