//! `kdm run`: from teacher to report with one command.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kdm::experiment::PRESETS;
use kdm::formats::Options;
use kdm::metrics::catalog::Values;
use kdm::planned::{OwnImages, OwnTeacher, Plan, Subject};
use kdm::report::metric_table;
use kdm::run_folder::{
    CONFIG, LENGTH, REPORT, RunFolder, check_resumed, next_run_folder, open_run,
};
use kdm::runtime::Machine;
use kdm::stages::preflight::check_files;
use kdm::stages::run::run;
use kdm::{Context, Experiment, Failure, Outcome};

use super::distill::{dry_run, dry_run_of_plan, duration};
use super::output::{Figures, folder, maybe, print, print_json};
use super::resuming::{Keeping, in_run_folder};

/// Where an experiment is run.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The run's folder [default: runs/NNNNN-NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Change a value, such as --set train.lr=1e-3; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    #[command(flatten)]
    pub figures: Figures,
    /// Go on with the run in --out; with a larger --set train.iterations=N for longer than before
    #[arg(long, requires = "out")]
    resume: bool,
    #[command(flatten)]
    pub keeping: Keeping,
}

impl RunArgs {
    /// The experiment of a preset or file.
    pub fn load(&self, preset: &str) -> Outcome<Experiment> {
        let experiment = Experiment::load(preset, &self.settings)?;
        experiment.check_fits(Machine::of(&self.place(&experiment)), &[])?;
        Ok(experiment)
    }

    /// The folder that the run goes to.
    pub fn place(&self, experiment: &Experiment) -> PathBuf {
        self.out.clone().unwrap_or_else(|| next_run_folder(&experiment.name))
    }

    /// Its folder, a new one unless it goes on, which is this process's as long as it is held.
    /// Files that the experiment names are looked at before.
    pub fn open(self, experiment: &Experiment, context: Context) -> Outcome<RunFolder> {
        let place = self.place(experiment);
        check_files(experiment, &place, context)?;
        let inputs = [experiment.teacher.dataset.as_deref().map(Path::new)];
        claim(&place, experiment, self.resume, &inputs)
    }
}

/// Makes `place` the run's folder, or goes on with the run in it.
fn claim(
    place: &Path,
    experiment: &Experiment,
    resume: bool,
    inputs: &[Option<&Path>],
) -> Outcome<RunFolder> {
    folder(place, inputs)?;
    let held = open_run(place, experiment, resume, LENGTH)?;
    eprintln!("run folder: {}", place.display());
    Ok(held)
}

/// Flags of `kdm run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A preset's name (see `kdm presets`), a TOML file, or with --data or --teacher a name for the
    /// run
    #[arg(required_unless_present_any = ["data", "teacher"])]
    preset: Option<String>,
    #[command(flatten)]
    pub run: RunArgs,
    /// Images of your own to learn from: a folder, .zip, .tar or .npz, see `kdm data info`; sizes
    /// and numbers are chosen for --budget
    #[arg(long, value_name = "SET", help_heading = OWN)]
    data: Option<String>,
    /// A diffusion model of your own: what `kdm import` reads, or a teacher's file; with --data as
    /// well, the images that it learned from
    #[arg(long, value_name = "FILE|FOLDER", help_heading = OWN)]
    teacher: Option<PathBuf>,
    /// The time that the whole run should take on this machine, such as 30m, 8h or 2d
    #[arg(long, value_name = "TIME", default_value = "30m", help_heading = OWN)]
    #[arg(value_parser = budget)]
    budget: Duration,
    /// Pixels a side to crop and resize the images of --data to, a multiple of 8 [default: what
    /// there is time for]
    #[arg(long, value_name = "R", requires = "data", conflicts_with = "teacher")]
    #[arg(help_heading = OWN)]
    resolution: Option<usize>,
    /// How many classes there are, where the images of --data show fewer
    #[arg(long, value_name = "K", requires = "data", help_heading = OWN)]
    classes: Option<usize>,
    /// Print the whole configuration with its costs (and the plan for --budget), and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the evaluation as one JSON object
    #[arg(long)]
    json: bool,
}

/// A time that a run can be planned for: 10 seconds to a year.
fn budget(text: &str) -> Result<Duration, String> {
    const LEAST: Duration = Duration::from_secs(10);
    const MOST: Duration = Duration::from_secs(365 * 86_400);
    if text.trim().parse::<f64>().is_ok() {
        let number = text.trim();
        return Err(format!("say of what: {number}m for minutes, {number}h for hours"));
    }
    let time = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    match (LEAST..=MOST).contains(&time) {
        true => Ok(time),
        false => Err("give a time from 10s to 365d, such as 30m, 8h or 2d".into()),
    }
}

/// Heading of the flags for what a person brings.
const OWN: &str = "Your own images or model";

impl Args {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        let context = self.run.figures.of(context);
        if self.data.is_some() || self.teacher.is_some() {
            return self.run_planned(context);
        }
        let preset = self.preset.as_deref().expect("clap requires it");
        let experiment = self.run.load(preset)?;
        if self.dry_run {
            return dry_run(&experiment, &self.run.place(&experiment), context);
        }
        let workers = context.runtime.workers();
        // A new folder's number is the first worker's.
        let place = self.run.place(&experiment).to_string_lossy().into_owned();
        let place = String::from_utf8_lossy(&workers.first_says(place.into())).into_owned();
        let out = self.run.out.clone().unwrap_or_else(|| place.into());
        let held = match workers.leads() {
            true => {
                Some(RunArgs { out: Some(out.clone()), ..self.run }.open(&experiment, context)?)
            }
            false => None,
        };
        workers.meet();
        finish(in_run_folder(run(&experiment, &out, context), held)?, &out, self.json)
    }

    /// A run for images or a teacher of a person's own.
    fn run_planned(self, context: Context) -> Outcome<()> {
        let size = context.runtime.workers().size();
        if size > 1 {
            return Err(Failure::Usage(format!(
                "--data and --teacher plan a run for one process, and this is one of {size}; write \
                 the plan with --dry-run into a .toml file, give `leaves` there, and start that: \
                 `mpirun -n {size} kdm run FILE.toml`"
            )));
        }
        let name = self.name()?;
        let place = self.run.out.clone().unwrap_or_else(|| next_run_folder(&name));
        if self.run.resume {
            check_resumed(&place, &name)?;
        }
        let begun = Some(place.join(CONFIG)).filter(|config| self.run.resume && config.exists());
        let begun = begun.map(|config| Experiment::read(&config)).transpose()?;
        let teacher = self.teacher.as_deref();
        let subject = Subject {
            name,
            images: self.data.as_ref().map(|source| OwnImages {
                source: source.clone(),
                resolution: self.resolution,
                classes: self.classes,
            }),
            teacher: teacher
                .map(|path| OwnTeacher::open(path, &Options::default(), context))
                .transpose()?,
        };
        let experiment = match begun {
            Some(experiment) if self.dry_run => {
                return dry_run(&experiment.with(&self.run.settings)?, &place, context);
            }
            Some(experiment) => experiment.with(&self.run.settings)?,
            None => {
                let seconds = self.budget.as_secs_f64();
                let plan = subject.plan(&place, seconds, context)?;
                let experiment = plan.experiment.clone().with(&self.run.settings)?;
                if self.dry_run {
                    return dry_run_of_plan(&plan, &experiment, &place, context);
                }
                eprint!("{}", table_of(&plan, plan.experiment != experiment));
                experiment
            }
        };
        experiment.check_fits(Machine::of(&place), &[])?;
        let inputs = [self.data.as_deref().map(Path::new), maybe(&self.teacher)];
        let held = claim(&place, &experiment, self.run.resume, &inputs)?;
        let prepared = subject.prepare(&experiment, &place, context);
        let values = prepared.and_then(|()| run(&experiment, &place, context));
        finish(in_run_folder(values, Some(held))?, &place, self.json)
    }

    /// The name of a planned run: as given, or of what it is of.
    fn name(&self) -> Outcome<String> {
        if let Some(name) = &self.preset {
            if PRESETS.iter().any(|(preset, _)| preset == name) || name.ends_with(".toml") {
                return Err(Failure::Usage(format!(
                    "`{name}` is a configuration, and --data and --teacher plan one of their own: \
                     give another name for the run, or leave it out; a configuration takes its \
                     images by --set teacher.dataset=SET and its teacher by --set \
                     teacher.path=FILE"
                )));
            }
            return Ok(name.clone());
        }
        let source = self.teacher.clone().or(self.data.as_ref().map(PathBuf::from));
        let source = source.unwrap_or_default();
        let whole = source.canonicalize().unwrap_or(source);
        let stem = whole.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let plain: String =
            stem.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '-' }).collect();
        let plain = plain.trim_matches('-');
        Ok(if plain.is_empty() { "own".into() } else { plain.chars().take(60).collect() })
    }
}

/// Prints what a run ended in.
fn finish(values: Values, folder: &Path, json: bool) -> Outcome<()> {
    if json {
        return print_json(&values);
    }
    let rows = metric_table("Evaluation", &values).text();
    print(&format!("{rows}report: {}\n", folder.join(REPORT).display()))
}

/// The stages of a plan, a line each.
fn table_of(plan: &Plan, changed: bool) -> String {
    let line = |name: &str, seconds: f64, what: &str| {
        format!("  {name:9} {:>8}  {what}\n", duration(seconds))
    };
    let stages = plan.stages.iter().map(|stage| line(stage.name, stage.seconds, &stage.what));
    let all = line("in all", plan.seconds(), "");
    let lines: String = stages.chain([all]).collect();
    let changed = if changed { "; --set changes it, see --dry-run" } else { "" };
    format!("the plan, by what this machine did in the last seconds{changed}:\n{lines}")
}
