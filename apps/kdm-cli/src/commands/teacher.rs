//! `kdm teacher`: train, sample, denoise.

use std::path::PathBuf;

use clap::{ArgGroup, Subcommand, ValueEnum};
use kdm::classes::Classes;
use kdm::data::{Labels, Samples};
use kdm::run_folder::{TEACHER, TEACHER_LENGTH};
use kdm::sample_files::{self, read_labels, read_rows};
use kdm::sample_picture::{Arrangement, check_picture};
use kdm::stages::pairs::Drawing;
use kdm::stages::preflight::check_teacher_files;
use kdm::stages::teacher::{denoise, draw_noise, draw_samples, make_teacher, open_teacher};
use kdm::teacher::process::MOST_STEPS;
use kdm::teacher::{Churn, Denoiser, Process, Solver, Teacher};
use kdm::{Context, Failure, Outcome};

use super::distill::TrainingArgs;
use super::output::{NOTHING_KEPT, Replace, maybe, or_stopped, path, print, write_samples};
use super::resuming::in_run_folder;
use super::sample::{NoiseScale, chosen_seeds};

/// The sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train the teacher of a preset
    #[command(after_help = "\
Examples:
  kdm teacher train --preset shapes --out teacher
  kdm teacher train --preset shapes --out teacher --resume")]
    Train(TrainingArgs),
    /// Draw samples by following the teacher's differential equation
    #[command(after_help = "\
Examples:
  kdm teacher sample --model checkerboard --seeds 0-999 --out points.png
  kdm teacher sample --model fashion-mnist --noise e.npy --labels y.npy --out images.png
  kdm teacher sample --model checkerboard --noise e.npy --steps 40 --out points.npy")]
    Sample(SampleArgs),
    /// The teacher's clean sample for a noisy one, D(x; sigma)
    #[command(after_help = "\
Examples:
  kdm teacher denoise --model fashion-mnist --input x.npy --sigma 2 --out clean.npy")]
    Denoise(DenoiseArgs),
}

/// The process a solver follows.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ProcessName {
    /// x = x_0 + sigma e, from sigma-max to 0
    Diffusion,
    /// x = (1 - t) x_0 + t e, from 1 to 0
    Flow,
}

/// Solvers' names.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SolverName {
    /// First order
    Euler,
    /// Second order, EDM's
    Heun,
    /// Second order
    Midpoint,
    /// DPM-Solver++(2M), second order
    DpmSolver,
}

/// How samples are drawn.
#[derive(Debug, clap::Args)]
pub struct SolverArgs {
    /// The solver
    #[arg(long, value_enum, default_value = "heun")]
    solver: SolverName,
    /// Solver steps
    #[arg(long, default_value_t = 18, value_name = "N")]
    pub steps: usize,
    /// Weight of classifier-free guidance for labelled samples of a conditional teacher; 1 for none
    #[arg(long, default_value_t = 1.0, value_name = "W")]
    pub guidance: f64,
    /// The process [default: flow for flow-matching teachers, diffusion for the others]
    #[arg(long, value_enum)]
    process: Option<ProcessName>,
    /// Diffusion: the smallest noise level; kept within what the teacher knows
    #[arg(long, default_value_t = 0.002, value_name = "S")]
    sigma_min: f64,
    /// Diffusion: the first noise level; kept within what the teacher knows
    #[arg(long, default_value_t = 80.0, value_name = "S")]
    sigma_max: f64,
    /// Diffusion: the spacing of noise levels
    #[arg(long, default_value_t = 7.0)]
    rho: f64,
}

impl SolverArgs {
    /// The process and the solver.
    pub fn resolve(&self, teacher: &Teacher) -> Outcome<(Process, Solver)> {
        let diffusion = Process::Diffusion {
            sigma_min: self.sigma_min,
            sigma_max: self.sigma_max,
            rho: self.rho,
        };
        let process = match (self.process, teacher.process()) {
            (Some(ProcessName::Flow), _) | (None, Process::Flow) => Process::Flow,
            (Some(ProcessName::Diffusion), _) | (None, Process::Diffusion { .. }) => diffusion,
        };
        if let Some(problem) = process.problem() {
            let flag = problem.field.replace('_', "-");
            return Err(Failure::Usage(format!("--{flag}: {}", problem.problem)));
        }
        if !(self.guidance >= 0.0 && self.guidance.is_finite()) {
            return Err(Failure::Usage(format!("--guidance {}: give 0 or more", self.guidance)));
        }
        if self.guidance != 1.0 && teacher.label_dim() == 0 {
            return Err(Failure::Usage(
                "--guidance: this teacher is unconditional, so there is nothing to guide to; leave \
                 it out"
                    .into(),
            ));
        }
        if self.guidance != 1.0 && teacher.needs_class() {
            return Err(Failure::Usage(
                "--guidance: this teacher was trained with a class for every sample, and guidance \
                 needs one that draws without a class too; leave it out"
                    .into(),
            ));
        }
        if !(1..=MOST_STEPS).contains(&self.steps) {
            let steps = self.steps;
            return Err(Failure::Usage(format!(
                "--steps {steps}: give at least 1, and {MOST_STEPS} at most"
            )));
        }
        let solver = match self.solver {
            SolverName::Euler => Solver::Euler,
            SolverName::Heun => Solver::Heun,
            SolverName::Midpoint => Solver::Midpoint,
            SolverName::DpmSolver => Solver::DpmSolver,
        };
        Ok((process.fit(teacher), solver))
    }
}

/// Flags of `kdm teacher sample`.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("source").required(true).multiple(true)
    .args(["n", "seeds", "noise"]))]
pub struct SampleArgs {
    /// The teacher's file, or an exact teacher: checkerboard, gaussian, mixture
    #[arg(long, value_name = "T")]
    model: String,
    /// Draw with the seeds 0 to N-1, or with the first N of --seeds
    #[arg(short, long, value_name = "N", conflicts_with = "noise")]
    n: Option<u64>,
    /// Draw with these seeds, such as 0-63 or 1,5,9-12, the noise and class of pairs of the same
    /// seeds
    #[arg(long, value_name = "LIST", conflicts_with = "noise")]
    seeds: Option<String>,
    /// Draw from this noise, one sample a row: of unit variance, which the solver scales by its
    /// first noise level, unless --noise-scale says otherwise
    #[arg(long, value_name = "EPS.npy")]
    noise: Option<PathBuf>,
    /// How the noise of --noise is scaled
    #[arg(long, value_enum, default_value = "unit", requires = "noise")]
    noise_scale: NoiseScale,
    /// The class of all samples, by its name or number
    #[arg(long, value_name = "CLASS", conflicts_with = "labels")]
    class: Option<String>,
    /// The class of each sample: class numbers, or one-hot rows (zeros for no class)
    #[arg(long, value_name = "L.npy")]
    labels: Option<PathBuf>,
    #[command(flatten)]
    solver: SolverArgs,
    #[command(flatten)]
    churn: ChurnArgs,
    /// Where samples go: a .npy, .npz or .png file, or a folder
    #[arg(long, value_name = "X0.npy")]
    out: PathBuf,
    #[command(flatten)]
    replace: Replace,
}

/// The stochastic sampler of Karras et al., which adds noise again in each step.
#[derive(Debug, clap::Args)]
pub struct ChurnArgs {
    /// How much noise is added again, in steps' worth; above 0 takes the stochastic sampler, whose
    /// solver is heun
    #[arg(long, default_value_t = 0.0, value_name = "S")]
    churn: f64,
    /// The least noise level at which it is added
    #[arg(long, default_value_t = 0.0, value_name = "S", requires = "churn")]
    churn_min: f64,
    /// The largest noise level at which it is added
    #[arg(long, default_value_t = f64::INFINITY, value_name = "S", requires = "churn")]
    churn_max: f64,
    /// Standard deviation of what is added
    #[arg(long, default_value_t = 1.0, value_name = "S", requires = "churn")]
    churn_noise: f64,
    /// Sample i's added noise is drawn from this seed plus i
    #[arg(long, default_value_t = 0, value_name = "SEED", requires = "churn")]
    churn_seed: u64,
}

impl ChurnArgs {
    /// The sampler's numbers; none for the deterministic one.
    fn resolve(&self, process: &Process, solver: Solver) -> Outcome<Option<Churn>> {
        if self.churn == 0.0 {
            return Ok(None);
        }
        if !(self.churn > 0.0
            && self.churn.is_finite()
            && self.churn_noise > 0.0
            && self.churn_noise.is_finite())
        {
            let (churn, noise) = (self.churn, self.churn_noise);
            return Err(Failure::Usage(format!(
                "--churn {churn} --churn-noise {noise}: give finite numbers above 0, or leave both \
                 out"
            )));
        }
        if solver != Solver::Heun || *process == Process::Flow {
            return Err(Failure::Usage(
                "--churn: the stochastic sampler goes with --solver heun and --process diffusion"
                    .into(),
            ));
        }
        Ok(Some(Churn {
            churn: self.churn,
            min: self.churn_min,
            max: self.churn_max,
            noise: self.churn_noise,
        }))
    }
}

/// Flags of `kdm teacher denoise`.
#[derive(Debug, clap::Args)]
pub struct DenoiseArgs {
    /// The teacher's file, or an exact teacher: checkerboard, gaussian, mixture
    #[arg(long, value_name = "T")]
    model: String,
    /// Noisy samples x_0 + sigma e, one a row
    #[arg(long, value_name = "X.npy")]
    input: PathBuf,
    /// The noise's standard deviation, above 0
    #[arg(long, value_name = "S")]
    sigma: f64,
    /// The class of each sample: class numbers, or one-hot rows (zeros for no class)
    #[arg(long, value_name = "L.npy")]
    labels: Option<PathBuf>,
    /// Where the clean samples go
    #[arg(long, value_name = "D.npy")]
    out: PathBuf,
    #[command(flatten)]
    replace: Replace,
}

/// Whether every sample has a class where the teacher needs one.
fn check_classes(teacher: &Teacher, labels: &Labels) -> Outcome<()> {
    if teacher.needs_class() && labels.iter().any(|class| class.is_none()) {
        return Err(Failure::Usage(format!(
            "--labels: this teacher was trained with a class for every sample: give one of 0 to {} \
             for each",
            teacher.label_dim() - 1
        )));
    }
    Ok(())
}

/// The labels that a command names, or none.
fn labels(path: Option<&PathBuf>, teacher: &Teacher, rows: usize) -> Outcome<Labels> {
    match path {
        Some(path) => read_labels(path, teacher.label_dim(), rows),
        None => Ok(Labels::none(rows)),
    }
}

impl Command {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        match self {
            Self::Train(args) => {
                let Some(experiment) = args.load("teacher", context)? else { return Ok(()) };
                check_teacher_files(&experiment, context)?;
                let held = args.open(&experiment, TEACHER_LENGTH, context)?;
                context.runtime.workers().meet();
                in_run_folder(make_teacher(&experiment, args.out(), context), held)?;
                print(&format!("{}\n", args.out().join(TEACHER).display()))
            }
            Self::Sample(args) => args.run(context),
            Self::Denoise(args) => args.run(context),
        }
    }
}

impl SampleArgs {
    fn run(self, context: Context) -> Outcome<()> {
        let inputs = [path(&self.model), maybe(&self.noise), maybe(&self.labels)];
        self.replace.samples(&self.out, &inputs)?;
        let teacher = open_teacher(&self.model, context.device())?;
        check_picture(&self.out, &teacher.shape())?;
        let (process, solver) = self.solver.resolve(&teacher)?;
        let (start, scale) = self.start(&teacher, &process, context)?;
        let churn =
            self.churn.resolve(&process, solver)?.map(|churn| (churn, self.churn.churn_seed));
        if self.solver.guidance != 1.0 && start.labels.iter().all(|class| class.is_none()) {
            return Err(Failure::Usage(format!(
                "--guidance {}: samples without a class have nothing to be guided to; give \
                 --labels, or leave it out",
                self.solver.guidance
            )));
        }
        check_classes(&teacher, &start.labels)?;
        let SolverArgs { steps, guidance, .. } = self.solver;
        let drawing = Drawing { process, solver, steps, guidance, batch: start.len() };
        let samples = draw_samples(&teacher, &drawing, start, scale, churn, context.observer);
        let samples = or_stopped(samples, || NOTHING_KEPT.into())?;
        write_samples(&self.out, &samples, teacher.label_dim(), Arrangement::Square)
    }
}

impl SampleArgs {
    /// Noise with its classes, and how it is scaled.
    fn start(
        &self,
        teacher: &Teacher,
        process: &Process,
        context: Context,
    ) -> Outcome<(Samples, sample_files::NoiseScale)> {
        let (mut start, scale) = match &self.noise {
            None => {
                let seeds = chosen_seeds(self.n, self.seeds.as_deref())?;
                (draw_noise(teacher, process, &seeds), sample_files::NoiseScale::SigmaMax)
            }
            Some(path) => {
                let noise = read_rows(path, teacher.dim(), "the teacher")?;
                let scale = sample_files::NoiseScale::from(self.noise_scale);
                scale.doubt(&noise.data, process.noise_std(), context.observer);
                let (shape, labels) = (teacher.shape(), Labels::none(noise.rows()));
                (Samples { shape, noise: noise.data, labels, ..Samples::default() }, scale)
            }
        };
        let rows = start.len();
        if let Some(class) = &self.class {
            let (count, names) = (teacher.label_dim(), teacher.stamp().names_of_classes());
            let classes = Classes { model: "this teacher", count, names: &names };
            let class = classes.find("--class", class)?;
            start.labels = Labels::all(class, rows);
        } else if self.labels.is_some() {
            start.labels = labels(self.labels.as_ref(), teacher, rows)?;
        }
        Ok((start, scale))
    }
}

impl DenoiseArgs {
    fn run(self, context: Context) -> Outcome<()> {
        if !(self.sigma > 0.0 && self.sigma.is_finite()) {
            return Err(Failure::Usage(format!("--sigma {}: give a number above 0", self.sigma)));
        }
        let inputs = [path(&self.model), Some(self.input.as_path()), maybe(&self.labels)];
        self.replace.samples(&self.out, &inputs)?;
        let teacher = open_teacher(&self.model, context.device())?;
        check_picture(&self.out, &teacher.shape())?;
        let input = read_rows(&self.input, teacher.dim(), "the teacher")?;
        let labels = labels(self.labels.as_ref(), &teacher, input.rows())?;
        check_classes(&teacher, &labels)?;
        let clean = denoise(&teacher, &input.data, self.sigma, labels);
        write_samples(&self.out, &clean, teacher.label_dim(), Arrangement::Square)
    }
}
