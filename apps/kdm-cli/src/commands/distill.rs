//! `kdm distill`: a student from stored pairs; and the flags that all trainings share.

use std::path::{Path, PathBuf};

use kdm::estimate::measured_stages;
use kdm::experiment::{StageCost, size};
use kdm::planned::Plan;
use kdm::run_folder::{RunFolder, open_run};
use kdm::runtime::Machine;
use kdm::stages::begin_distill::DistillRequest;
use kdm::{Context, Experiment, Outcome};

use super::output::{NOTHING_KEPT, folder, or_stopped, print};
use super::resuming::{Keeping, in_run_folder};

/// Flags of a training in a folder of its own.
#[derive(Debug, clap::Args)]
pub struct TrainingArgs {
    /// A preset's name or a TOML file
    #[arg(long)]
    preset: String,
    /// The folder to train in; the result will be student.safetensors or teacher.safetensors in it
    #[arg(long, value_name = "DIR", required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Change a value, such as --set train.lr=1e-3; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Go on with the training in --out; with a larger number of iterations by --set for longer
    /// than before
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    pub keeping: Keeping,
    /// Print the whole configuration with the student's size and cost, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl TrainingArgs {
    /// The folder to train in; only a dry run has none.
    pub fn out(&self) -> &Path {
        self.out.as_deref().unwrap_or(Path::new(""))
    }

    /// The experiment, of which the stage named is to be trained; none after a dry run.
    pub fn load(&self, stage: &str, context: Context) -> Outcome<Option<Experiment>> {
        let experiment = Experiment::load(&self.preset, &self.settings)?;
        let place = self.out.as_deref().unwrap_or(Path::new("."));
        experiment.check_fits(Machine::of(place), &[stage])?;
        if self.dry_run {
            dry_run(&experiment, place, context)?;
            return Ok(None);
        }
        Ok(Some(experiment))
    }

    /// Opens the folder for the experiment, in which the key `length` may have grown; it is this
    /// process's as long as the lock is held. None for a worker that another one opens it for.
    pub fn open(
        &self,
        experiment: &Experiment,
        length: &str,
        context: Context,
    ) -> Outcome<Option<RunFolder>> {
        if !context.runtime.workers().leads() {
            return Ok(None);
        }
        folder(self.out(), &[experiment.teacher.dataset.as_deref().map(Path::new)])?;
        open_run(self.out(), experiment, self.resume, length).map(Some)
    }
}

/// Prints an experiment, TOML that can be used as a file, with what its stages take as comments:
/// time on this machine, measured for a moment, memory and disk; `folder` is where the files go.
pub fn dry_run(experiment: &Experiment, folder: &Path, context: Context) -> Outcome<()> {
    print_costs(experiment, folder, &measured(experiment, context)?)
}

/// The same for a planned run, whose plan tells the time of its stages; where `settings` change the
/// plan, the stages that they may change are measured anew.
pub fn dry_run_of_plan(
    plan: &Plan,
    experiment: &Experiment,
    folder: &Path,
    context: Context,
) -> Outcome<()> {
    let known = match plan.experiment == *experiment {
        true => experiment.stage_costs().into_iter().map(|cost| Row::of(cost, None)).collect(),
        false => measured(experiment, context)?,
    };
    let rows: Vec<Row> = plan
        .stages
        .iter()
        .map(|stage| {
            let (seconds, what) = (Some(stage.seconds), stage.what.clone());
            match known.iter().find(|row| row.name == stage.name) {
                Some(row) if row.seconds.is_some() => row.clone(),
                Some(row) => Row { seconds, what, ..row.clone() },
                None => Row { name: stage.name, seconds, memory: None, disk: None, what },
            }
        })
        .collect();
    print_costs(experiment, folder, &rows)
}

/// A stage of an experiment in a table.
#[derive(Clone, Debug)]
struct Row {
    name: &'static str,
    seconds: Option<f64>,
    memory: Option<f64>,
    disk: Option<f64>,
    what: String,
}

impl Row {
    fn of(cost: StageCost, seconds: Option<f64>) -> Self {
        let StageCost { name, what, memory, disk, .. } = cost;
        Self { name, seconds, memory: Some(memory), disk: Some(disk), what }
    }
}

/// The stages of an experiment, timed for a moment.
fn measured(experiment: &Experiment, context: Context) -> Outcome<Vec<Row>> {
    let stages = or_stopped(measured_stages(experiment, context), || NOTHING_KEPT.into())?;
    Ok(stages.into_iter().map(|(cost, seconds)| Row::of(cost, seconds)).collect())
}

fn print_costs(experiment: &Experiment, folder: &Path, rows: &[Row]) -> Outcome<()> {
    let time = |seconds: Option<f64>| seconds.map_or("?".to_string(), duration);
    let bytes = |bytes: Option<f64>| bytes.map_or(String::new(), size);
    let mut text = format!("# {:9}{:>9}{:>11}{:>11}\n", "stage", "time", "memory", "disk");
    for Row { name, seconds, memory, disk, what } in rows {
        let (time, memory, disk) = (time(*seconds), bytes(*memory), bytes(*disk));
        text += &format!("# {name:9}{time:>9}{memory:>11}{disk:>11}  {what}\n");
    }
    let all: Option<f64> = rows.iter().map(|row| row.seconds).sum();
    let disk = size(rows.iter().filter_map(|row| row.disk).sum());
    text += &format!("# {:9}{:>9}{:>11}{disk:>11}\n", "in all", time(all), "");
    let Machine { memory, disk } = Machine::of(folder);
    let [memory, disk] = [memory, disk].map(|bytes| bytes.map_or("?".to_string(), size));
    text += &format!("# {:9}{:>9}{memory:>11}{disk:>11}\n", "there is", "");
    if all.is_none() {
        text += "# ?: not known before the teacher's file is there\n";
    }
    print(&format!("{text}\n{}", experiment.to_toml()))
}

/// A time for a person.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 60.0 => format!("{s:.0} s"),
        s if s < 2.0 * 3600.0 => format!("{:.0} min", s / 60.0),
        s if s < 2.0 * 86_400.0 => format!("{:.1} h", s / 3600.0),
        s if s < 2.0 * 365.0 * 86_400.0 => format!("{:.0} days", s / 86_400.0),
        s if s < 1e4 * 365.0 * 86_400.0 => format!("{:.0} years", s / (365.0 * 86_400.0)),
        s => format!("{:.0e} years", s / (365.0 * 86_400.0)),
    }
}

/// Flags of `kdm distill`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The store of pairs
    #[arg(long, value_name = "DIR", required_unless_present = "dry_run")]
    pairs: Option<PathBuf>,
    /// Begin with the weights of this student where they fit, a file's or one that ships
    #[arg(long, value_name = "MODEL")]
    init_from: Option<PathBuf>,
    #[command(flatten)]
    pub training: TrainingArgs,
}

impl Args {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        let Some(experiment) = self.training.load("student", context)? else { return Ok(()) };
        let request = DistillRequest {
            experiment: &experiment,
            pairs: self.pairs.as_deref().unwrap_or(Path::new("")),
            init_from: self.init_from.as_deref(),
            out: self.training.out(),
            resume: self.training.resume,
        };
        let (student, held) = request.begin(context)?.run(context);
        let student = in_run_folder(student, held)?;
        print(&format!("{}\n", student.display()))
    }
}
