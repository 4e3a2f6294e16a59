//! `kdm pairs`: stores of noise-image pairs.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use kdm::classes::Classes;
use kdm::data::array;
use kdm::data::output::FileKind;
use kdm::data::pairs::{
    self, Axes, ImageType, ImportOptions, OutlierScore, Predicate, TeacherStamp, Unwanted,
    ValueRange, Worker,
};
use kdm::formats::pairs::Keys;
use kdm::stages::pairs::{
    Drawing, StorePlan, check_drawn_by, draw_pairs, export_pairs, import_pairs, open_store,
    pair_plan, verify_store,
};
use kdm::stages::teacher::open_teacher;
use kdm::{Context, Failure, Outcome};

use super::output::{Replace, folder, maybe, path, print};
use super::resuming::{Keeping, or_continued};
use super::teacher::SolverArgs;
use super::{info, merge};

/// The sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Draw pairs from a teacher
    #[command(after_help = "\
Examples:
  kdm pairs generate --model checkerboard --process flow --count 50000 --out pairs
  kdm pairs generate --model fashion-mnist --dtype u8 --count 16384 --out pairs
  kdm pairs generate --model fashion-mnist --dtype u8 --count 32768 --out pairs  grows it
  kdm pairs generate --model fashion-mnist --dtype u8 --states 6 --count 4096 --out pairs")]
    Generate(GenerateArgs),
    /// Bring in pairs that another program drew
    #[command(after_help = "\
Examples:
  kdm pairs import pairs.npz --out pairs
  kdm pairs import mine.pt --noise-key z --image-key x --label-key y --out pairs
  kdm pairs import bytes.npz --layout nhwc --range 0..255 --dtype u8 --out pairs
  kdm pairs import get-cifar10/ --out pairs
  kdm pairs import checkerboard.npy --states --out pairs")]
    Import(ImportArgs),
    /// Compare every byte of a store with its checksums
    #[command(after_help = "\
Examples:
  kdm pairs verify pairs --teacher checkerboard")]
    Verify(VerifyArgs),
    /// Tell what a store holds
    #[command(after_help = "\
Examples:
  kdm pairs info pairs --json")]
    Info(info::Args),
    /// Copy a store without the pairs whose image is unwanted
    #[command(after_help = "\
Examples:
  kdm pairs filter --pairs pairs --outliers-above 4 --out clean
  kdm pairs filter --pairs pairs --classes 3,5 --out fewer")]
    Filter(FilterArgs),
    /// Write the pairs of several stores into one
    #[command(after_help = "\
Examples:
  kdm pairs merge pairs-a pairs-b pairs-c --out pairs")]
    Merge(merge::Args),
    /// Copy a store's pairs into one .npz file with arrays noise, image, label and states
    #[command(after_help = "\
Examples:
  kdm pairs export --pairs pairs --out pairs.npz")]
    Export(ExportArgs),
}

/// How images are kept.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Dtype {
    /// 32-bit floats
    F32,
    /// 16-bit floats
    F16,
    /// Bytes, for images in [-1, 1]
    U8,
}

impl From<Dtype> for ImageType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::U8 => Self::U8,
        }
    }
}

/// Order of an image's axes.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Layout {
    /// Channels first
    Nchw,
    /// Channels last
    Nhwc,
}

impl From<Layout> for Axes {
    fn from(layout: Layout) -> Self {
        match layout {
            Layout::Nchw => Self::First,
            Layout::Nhwc => Self::Last,
        }
    }
}

/// What black and white are.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Range {
    /// As a store keeps them
    #[value(name = "-1..1")]
    Signed,
    /// Scaled to [-1, 1]
    #[value(name = "0..1")]
    Unit,
    /// Scaled to [-1, 1]
    #[value(name = "0..255")]
    Bytes,
}

impl From<Range> for ValueRange {
    fn from(range: Range) -> Self {
        match range {
            Range::Signed => Self::Signed,
            Range::Unit => Self::Unit,
            Range::Bytes => Self::Bytes,
        }
    }
}

/// Flags of `kdm pairs generate`.
#[derive(Debug, clap::Args)]
pub struct GenerateArgs {
    /// The teacher's file, fashion-mnist, or an exact teacher: checkerboard, gaussian, mixture
    #[arg(long = "model", alias = "teacher", value_name = "T")]
    teacher: String,
    /// The store's folder; a store begun there goes on
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Pairs in the whole store; with more than the store in --out has it grows
    #[arg(long, value_name = "N")]
    count: usize,
    /// Seed of the first pair; seeds count up from it
    #[arg(long, default_value_t = 0, value_name = "S")]
    first_seed: u64,
    #[command(flatten)]
    solver: SolverArgs,
    /// Pairs drawn at a time; has no effect on the pairs
    #[arg(long, default_value_t = 4096, value_name = "N")]
    batch: usize,
    /// How images are kept
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    /// Pairs a file
    #[arg(long, default_value_t = 8192, value_name = "N")]
    shard_size: usize,
    /// States of the solution between noise and image that are kept of each pair, as f16
    #[arg(long, default_value_t = 0, value_name = "M")]
    states: usize,
    /// Write only every n-th file, from the i-th (from 0) on: n workers with i = 0..n-1 write one
    /// store together [default: the scheduler's, from SLURM_PROCID, OMPI_COMM_WORLD_RANK or
    /// JOB_COMPLETION_INDEX]
    #[arg(long, value_name = "i/n")]
    shard: Option<String>,
    /// Workers in all, where the scheduler tells a worker's number but not how many there are
    #[arg(long, value_name = "N", conflicts_with = "shard")]
    workers: Option<usize>,
    #[command(flatten)]
    pub keeping: Keeping,
}

/// Flags of `kdm pairs import`.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// A .npz, .pt or .safetensors with arrays of noise, images and maybe labels; a .npy of shape
    /// (steps, pairs, ...), noise first; or a folder as KDM (one .npz a pair), GET, 2-RF++, DMD or
    /// FastGen (.tar) publish pairs
    file: PathBuf,
    /// The store's folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The array of noise [default: guessed from the names where that is clear]
    #[arg(long, value_name = "NAME")]
    noise_key: Option<String>,
    /// The array of images [default: likewise]
    #[arg(long, value_name = "NAME")]
    image_key: Option<String>,
    /// The array of labels: class numbers, or one-hot rows [default: likewise]
    #[arg(long, value_name = "NAME")]
    label_key: Option<String>,
    /// Classes in all, where the last ones have no pairs [default: the largest label plus one]
    #[arg(long, value_name = "K")]
    classes: Option<usize>,
    /// Order of the images' axes [default: told by their sizes where that is clear]
    #[arg(long, value_enum)]
    layout: Option<Layout>,
    /// What the images' values mean [default: told by the values where that is clear]
    #[arg(long, value_enum, allow_hyphen_values = true)]
    range: Option<Range>,
    /// Standard deviation of the noise, which is kept as it is and not scaled [default: 1 or 80
    /// where the noise agrees with it, else as measured]
    #[arg(long, value_name = "S")]
    noise_std: Option<f64>,
    /// Also keep the states between noise and image, of a .npy that holds them (at even times of a
    /// flow) or of a .npz with arrays states and state_times
    #[arg(long)]
    states: bool,
    /// How images are kept
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    /// Pairs a file
    #[arg(long, default_value_t = 8192, value_name = "N")]
    shard_size: usize,
}

/// Flags of `kdm pairs verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// The store
    pairs: PathBuf,
    /// Also check that this teacher drew it
    #[arg(long, value_name = "T")]
    teacher: Option<String>,
}

/// Flags of `kdm pairs filter`.
#[derive(Debug, clap::Args)]
pub struct FilterArgs {
    /// The store
    #[arg(long, value_name = "DIR")]
    pairs: PathBuf,
    /// The new store's folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Drop images with a Euclidean norm below this
    #[arg(long, value_name = "R")]
    below_norm: Option<f64>,
    /// Drop images with a Euclidean norm above this
    #[arg(long, value_name = "R")]
    above_norm: Option<f64>,
    /// Drop images whose mean distance to their nearest neighbours is this many standard deviations
    /// above the mean
    #[arg(long, value_name = "Z")]
    outliers_above: Option<f64>,
    /// Neighbours of the outlier score
    #[arg(long, default_value_t = 5, value_name = "N")]
    neighbours: usize,
    /// Images of the store that the outlier score compares with
    #[arg(long, default_value_t = 4096, value_name = "N")]
    references: usize,
    /// Drop images within --radius of one of these, one a row
    #[arg(long, value_name = "X.npy", requires = "radius")]
    near: Option<PathBuf>,
    /// Distance of --near
    #[arg(long, value_name = "R", requires = "near")]
    radius: Option<f64>,
    /// Drop images of these classes, by their names or numbers
    #[arg(long, value_name = "CLASS,...", value_delimiter = ',')]
    classes: Vec<String>,
}

/// Flags of `kdm pairs export`.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// The store
    #[arg(long, value_name = "DIR")]
    pairs: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE.npz")]
    out: PathBuf,
    #[command(flatten)]
    replace: Replace,
}

/// The worker that `--shard` or the scheduler names.
fn worker(
    shard: Option<&str>,
    workers: Option<usize>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Outcome<Worker> {
    let checked = |index: usize, count: usize, from: &str| {
        if index < count {
            return Ok(Worker { index, count });
        }
        Err(Failure::Usage(format!(
            "{from}: worker {index} of {count}; workers count from 0 to one below their number"
        )))
    };
    if let Some(shard) = shard {
        let parts = shard
            .split_once('/')
            .and_then(|(i, n)| Some((i.trim().parse().ok()?, n.trim().parse().ok()?)));
        let Some((index, count)) = parts else {
            return Err(Failure::Usage(format!("--shard {shard}: write i/n, such as 0/4")));
        };
        return checked(index, count, &format!("--shard {shard}"));
    }
    for (rank, size) in [
        ("SLURM_PROCID", "SLURM_NTASKS"),
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        ("JOB_COMPLETION_INDEX", ""),
    ] {
        let Some(index) = variable(rank) else { continue };
        let Ok(index) = index.trim().parse() else {
            return Err(Failure::Usage(format!("{rank}={index} is no number; give --shard i/n")));
        };
        let count = workers.or_else(|| variable(size)?.trim().parse().ok());
        let Some(count) = count else {
            return Err(Failure::Usage(format!(
                "{rank}={index} tells which worker this is and nothing tells how many there are; \
                 give --workers N, or --shard 0/1 to work alone"
            )));
        };
        return checked(index, count, rank);
    }
    match workers {
        None | Some(1) => Ok(Worker::ALONE),
        Some(n) => Err(Failure::Usage(format!(
            "--workers {n}: no scheduler variable tells which worker this is; give --shard i/{n}"
        ))),
    }
}

fn at_least_one(flags: &[(&str, usize)]) -> Outcome<()> {
    match flags.iter().find(|(_, value)| *value == 0) {
        Some((flag, _)) => Err(Failure::Usage(format!("{flag} 0: give at least 1"))),
        None => Ok(()),
    }
}

impl Command {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        match self {
            Self::Generate(args) => args.run(context),
            Self::Import(args) => args.run(context),
            Self::Verify(args) => args.run(context),
            Self::Info(args) => args.run(context),
            Self::Filter(args) => args.run(context),
            Self::Merge(args) => args.run(context),
            Self::Export(args) => args.run(context),
        }
    }
}

impl GenerateArgs {
    fn run(self, context: Context) -> Outcome<()> {
        at_least_one(&[
            ("--count", self.count),
            ("--batch", self.batch),
            ("--shard-size", self.shard_size),
        ])?;
        folder(&self.out, &[path(&self.teacher)])?;
        let worker = worker(self.shard.as_deref(), self.workers, &|name| std::env::var(name).ok())?;
        let teacher = open_teacher(&self.teacher, context.device())?;
        let (process, solver) = self.solver.resolve(&teacher)?;
        let SolverArgs { steps, guidance, .. } = self.solver;
        let drawing = Drawing { process, solver, steps, guidance, batch: self.batch };
        let plan = StorePlan {
            first_seed: self.first_seed,
            count: self.count,
            dtype: self.dtype.into(),
            shard_size: self.shard_size,
            states: self.states,
        };
        let plan = pair_plan(&teacher, &drawing, plan)?;
        let (out, observer) = (&self.out, context.observer);
        let drawn = draw_pairs(&teacher, &plan, &drawing, out, worker, "pairs", observer);
        or_continued(drawn, &[], || "what was finished is kept".into())?;
        print(&format!("{}\n", self.out.display()))
    }
}

impl ImportArgs {
    fn run(self, context: Context) -> Outcome<()> {
        at_least_one(&[
            ("--shard-size", self.shard_size),
            ("--classes", self.classes.unwrap_or(1)),
        ])?;
        folder(&self.out, &[Some(&self.file)])?;
        let keys = Keys { noise: self.noise_key, image: self.image_key, label: self.label_key };
        let options = ImportOptions {
            noise_std: self.noise_std,
            axes: self.layout.map(Into::into),
            range: self.range.map(Into::into),
            classes: self.classes,
            states: self.states,
            dtype: self.dtype.into(),
            shard_size: self.shard_size,
        };
        let manifest = import_pairs(&self.file, &keys, &self.out, &options, context.observer)?;
        let out = self.out.display();
        print(&format!("{} pairs of shape {:?} in {out}\n", manifest.count, manifest.shape))
    }
}

impl VerifyArgs {
    fn run(self, context: Context) -> Outcome<()> {
        let store = verify_store(&self.pairs, context.observer)?;
        if let Some(name) = &self.teacher {
            let teacher = open_teacher(name, context.device())?;
            check_drawn_by(&self.pairs, store.manifest(), &teacher, name)?;
        }
        let shards = store.manifest().shards.len();
        print(&format!("{} pairs in {shards} shards are intact\n", store.len()))
    }
}

impl FilterArgs {
    fn run(self, context: Context) -> Outcome<()> {
        at_least_one(&[("--neighbours", self.neighbours), ("--references", self.references)])?;
        folder(&self.out, &[Some(&self.pairs), maybe(&self.near)])?;
        let store = open_store(&self.pairs, context.observer)?;
        let unwanted = match (&self.near, self.radius) {
            (Some(path), Some(radius)) => Some(Unwanted { images: array::read_npy(path)?, radius }),
            _ => None,
        };
        let (neighbours, references) = (self.neighbours, self.references);
        let outliers =
            self.outliers_above.map(|above| OutlierScore { above, neighbours, references });
        let numbers = [
            ("--below-norm", self.below_norm),
            ("--above-norm", self.above_norm),
            ("--outliers-above", self.outliers_above),
            ("--radius", self.radius),
        ];
        let bad = numbers.into_iter().find(|(_, value)| value.is_some_and(|x| !x.is_finite()));
        if let Some((flag, _)) = bad {
            return Err(Failure::Usage(format!("{flag}: give a finite number")));
        }
        let names = store.manifest().teacher.as_ref().map(TeacherStamp::names_of_classes);
        let (count, names) = (store.manifest().label_dim, names.unwrap_or_default());
        let known = Classes { model: "the store", count, names: &names };
        let classes = self.classes.iter().map(|class| known.find("--classes", class));
        let drop = Predicate {
            classes: classes.collect::<Outcome<Vec<u32>>>()?,
            below_norm: self.below_norm,
            above_norm: self.above_norm,
            outliers,
            unwanted,
        };
        if drop.is_empty() {
            return Err(Failure::Usage(
                "nothing to drop: give --below-norm, --above-norm, --outliers-above, --near with \
                 --radius, or --classes"
                    .into(),
            ));
        }
        let manifest = pairs::filter(&store, &drop, &self.out, context.observer)?;
        print(&format!("{} of {} pairs in {}\n", manifest.count, store.len(), self.out.display()))
    }
}

impl ExportArgs {
    fn run(self, context: Context) -> Outcome<()> {
        if self.out.extension().is_none_or(|e| e != "npz") {
            return Err(Failure::Usage(format!("--out {}: name a .npz file", self.out.display())));
        }
        self.replace.file(&self.out, FileKind::Arrays, &[Some(&self.pairs)])?;
        let store = open_store(&self.pairs, context.observer)?;
        let seeded = export_pairs(&store, &self.out, context.observer)?;
        let drawn = if seeded { " (drawn again from its seeds)" } else { "" };
        print(&format!("{} pairs with their noise{drawn} in {}\n", store.len(), self.out.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_come_from_the_flag_or_the_scheduler() {
        let none = |_: &str| None;
        let slurm = |name: &str| match name {
            "SLURM_PROCID" => Some("2".to_string()),
            "SLURM_NTASKS" => Some("4".to_string()),
            _ => None,
        };
        let kubernetes = |name: &str| (name == "JOB_COMPLETION_INDEX").then(|| "1".to_string());
        let ok = |w: Outcome<Worker>| w.map(|w| (w.index, w.count)).ok();
        assert_eq!(ok(worker(None, None, &none)), Some((0, 1)));
        assert_eq!(ok(worker(Some("1/3"), None, &slurm)), Some((1, 3)));
        assert_eq!(ok(worker(None, None, &slurm)), Some((2, 4)));
        assert_eq!(ok(worker(None, Some(5), &kubernetes)), Some((1, 5)));
        for bad in [
            worker(None, None, &kubernetes),
            worker(Some("3/3"), None, &none),
            worker(Some("x"), None, &none),
            worker(None, Some(3), &none),
        ] {
            assert_eq!(bad.unwrap_err().exit_code(), 2);
        }
    }
}
