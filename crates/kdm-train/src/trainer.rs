//! The training loop: step, log, validate, checkpoint; it can be stopped and resumed at any
//! iteration.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Tensor;
use kdm_data::hash;
use kdm_nn::StateDict;
use kdm_nn::state::{load_state, state_dict};
use kdm_observer::Observer;
use serde_json::Value;

use crate::error::DIVERGED;
use crate::extension;
use crate::optimizer::StepReport;
use crate::{
    Alone, CHECKPOINT, Checkpoint, Error, LoopConfig, Losses, MetricsLog, NonFinite, Optimizer,
    Result, SharedWork, Stepper, Task, Workers, ending,
};

/// A finished training.
#[derive(Clone, Debug)]
pub struct Trained<M> {
    /// The averaged weights, outside autodiff.
    pub averaged: M,
    /// The weights of the last iteration, outside autodiff.
    pub last: M,
    /// The best validation value and its iteration.
    pub best: Option<(f64, u64)>,
    /// Iterations in which a gradient was not finite and was replaced.
    pub replaced: u64,
    /// Wall-clock seconds of this process in the loop.
    pub seconds: f64,
}

/// Trains `model` (on an autodiff device) in `folder`, which exists: continues from its checkpoint
/// if there is one. The averaged weights of the best validation are written to `best_file`.
///
/// `inputs` is what the training depends on, as an object: it is kept in every checkpoint, and a
/// training is only resumed with the same, but for a greater number of iterations
/// ([`LoopConfig::length_key`]). Where `observer` wants the training to stop, it ends before its
/// next iteration, with a checkpoint; and a checkpoint is written whenever the last one is
/// [`Observer::keep_every`] ago.
///
/// Of several `workers` each calls this with the same arguments but for itself, and sees the same
/// folder. The first one writes. The result doesn't depend on how many they are, as long as they
/// are no more than [`LoopConfig::leaves`].
///
/// # Errors
/// When workers differ in what they train or are too many, a file can't be read or written, the
/// checkpoint is of a training with other inputs, a gradient is not finite and the configuration
/// says stop, what it ends in is not finite, or the observer stops it ([`Error::Stopped`]).
pub fn train<T: Task>(
    task: &T,
    model: T::Model,
    config: &LoopConfig,
    inputs: &Value,
    folder: &Path,
    best_file: &Path,
    workers: &dyn Workers,
    observer: &dyn Observer,
) -> Result<Trained<T::Model>> {
    check_number(workers, config)?;
    if workers.leads() {
        kdm_data::atomic::remove_parts(folder);
    }
    let mut progress = observer.begin(task.name(), "iterations");
    let (mut run, mut model) = Run::begin(task, model, config, inputs, folder, workers, observer)?;
    let report = |progress: &mut kdm_observer::Progress, run: &Run| {
        let note =
            if run.loss.is_finite() { format!("loss {:.4}", run.loss) } else { String::new() };
        progress.report(run.at.iteration, config.iterations, &note);
    };
    report(&mut progress, &run);
    while run.at.iteration < config.iterations {
        if workers.any(observer.check().is_err()) {
            return Err(run.stop(&model)?);
        }
        model = run.step(task, model)?;
        let last = run.at.iteration == config.iterations;
        if last || run.at.iteration.is_multiple_of(config.validate_every) {
            run.validate(task, &model, best_file)?;
        }
        let overdue = run.kept.elapsed() >= observer.keep_every();
        if last || overdue || run.at.iteration.is_multiple_of(config.checkpoint_every) {
            run.checkpoint(&model)?;
        }
        report(&mut progress, &run);
    }
    let averaged = averaged(&model, &run.optimizers)?;
    if workers.leads() {
        run.check_end(task, &averaged, folder)?;
    }
    progress.finish(&match run.at.best {
        Some((value, iteration)) => {
            format!("trained; best {} {value:.4} at {iteration}", config.best_by)
        }
        None => "trained".into(),
    });
    Ok(Trained {
        averaged,
        last: model.valid(),
        best: run.at.best,
        replaced: run.at.replaced,
        seconds: run.started.elapsed().as_secs_f64(),
    })
}

/// A training on its way, but for the weights.
struct Run<'a> {
    config: &'a LoopConfig,
    optimizers: Vec<Optimizer>,
    workers: &'a dyn Workers,
    at: Checkpoint,
    /// The first worker's.
    log: Option<MetricsLog>,
    /// The checkpoint's file, and the iteration that it holds; none before the first.
    path: PathBuf,
    checkpointed: Option<u64>,
    /// When the last checkpoint was written, or the run began.
    kept: Instant,
    /// When the loop began.
    started: Instant,
    /// When and at which iteration the log's last line was written.
    logged: (Instant, u64),
    /// The loss last logged.
    loss: f64,
    /// The last validation's iteration and values.
    validated: Option<(u64, Vec<(String, f64)>)>,
}

impl<'a> Run<'a> {
    /// The run of `folder`, from its checkpoint or from the beginning, and its weights.
    fn begin<T: Task>(
        task: &T,
        model: T::Model,
        config: &'a LoopConfig,
        inputs: &Value,
        folder: &Path,
        workers: &'a dyn Workers,
        observer: &dyn Observer,
    ) -> Result<(Self, T::Model)> {
        let path = folder.join(CHECKPOINT);
        let optimizer = |prefix: &&str| Optimizer::new(config.optimizer, &model, prefix);
        let mut optimizers: Vec<Optimizer> = task.optimizers().iter().map(optimizer).collect();
        let resumed = path.exists();
        let (at, model) = if resumed {
            let (mut at, model) = Checkpoint::load(&path, model, &mut optimizers)?;
            check_inputs(&path, &at.config, inputs, config)?;
            if let Some(planned) = extension::planned(&at.config, config)
                && planned < config.iterations
            {
                extension::tell(task.name(), at.iteration, planned, config, observer);
            }
            at.config = extension::with_extensions(inputs, &at.config, at.iteration, config);
            if at.iteration < config.iterations {
                let (name, total) = (task.name(), config.iterations);
                observer
                    .info(&format!("{name}: going on at iteration {} of {total}", at.iteration));
            }
            (at, model)
        } else {
            let config = inputs.clone();
            (Checkpoint { iteration: 0, best: None, replaced: 0, config }, model)
        };
        check_workers(workers, config, inputs, &at, (&model, &optimizers))?;
        let open = || -> Result<MetricsLog> {
            let mut log = MetricsLog::open(folder, at.iteration)?;
            let configuration = format!("{:#}", at.config).replace('\n', "\n    ");
            log.text(at.iteration, "configuration", &format!("    {configuration}"))?;
            Ok(log)
        };
        let log = workers.leads().then(open).transpose()?;
        let (checkpointed, started) = (resumed.then_some(at.iteration), Instant::now());
        let logged = (started, at.iteration);
        let (loss, kept, validated) = (f64::NAN, started, None);
        let run = Self {
            config,
            optimizers,
            workers,
            at,
            log,
            path,
            checkpointed,
            kept,
            started,
            logged,
            loss,
            validated,
        };
        Ok((run, model))
    }

    /// One iteration, and its line in the log where one is due.
    fn step<T: Task>(&mut self, task: &T, model: T::Model) -> Result<T::Model> {
        let (config, iteration) = (self.config, self.at.iteration);
        let lr = config.lr * config.schedule.factor(iteration, config.iterations, config.warmup);
        let mut stepper = Stepper::new(&mut self.optimizers, lr).split(config.leaves, self.workers);
        let (model, losses) = task.iterate(model, iteration, &mut stepper);
        let step = stepper.report;
        self.check_gradient(&step, &losses)?;
        self.at.iteration += 1;
        let last = self.at.iteration == config.iterations;
        if last || self.at.iteration.is_multiple_of(config.log_every) {
            self.log(losses, &step, lr)?;
        }
        Ok(model)
    }

    /// A gradient that was not finite ends the training, or is counted.
    fn check_gradient(&mut self, step: &StepReport, losses: &Losses) -> Result<()> {
        let Some(parameter) = step.non_finite.first() else { return Ok(()) };
        if self.config.optimizer.non_finite == NonFinite::Replace {
            self.at.replaced += 1;
            return Ok(());
        }
        let kept = match self.checkpointed {
            None | Some(0) => "no checkpoint was written yet".to_string(),
            Some(n) => format!("the checkpoint of iteration {n} is kept"),
        };
        let (iteration, parameter) = (self.at.iteration + 1, parameter.clone());
        let loss = scalar(losses.total.clone());
        let action = DIVERGED.to_string();
        Err(Error::NonFinite { iteration, parameter, loss, kept, action })
    }

    /// Whether what the training ended in is finite.
    fn check_end<T: Task>(&self, task: &T, averaged: &T::Model, folder: &Path) -> Result<()> {
        let iteration = self.at.iteration;
        let validated = || match &self.validated {
            Some((at, values)) if *at == iteration => values.clone(),
            // Nothing was left to do: the first worker is alone here.
            _ => task.validate(averaged, SharedWork::new(&Alone, self.config.leaves)),
        };
        ending::check(averaged, iteration, folder, validated)
    }

    /// A line of the log.
    fn log(&mut self, losses: Losses, step: &StepReport, lr: f64) -> Result<()> {
        let terms: Vec<(String, f64)> =
            losses.terms.into_iter().map(|(name, value)| (name.into(), scalar(value))).collect();
        self.loss = scalar(losses.total);
        let (since, first) = self.logged;
        let seconds = since.elapsed().as_secs_f64().max(1e-9);
        let rate = (self.at.iteration - first) as f64 / seconds;
        self.logged = (Instant::now(), self.at.iteration);
        let mut values = vec![("loss".to_string(), self.loss)];
        values.extend(terms);
        values.push(("gradient_norm".into(), step.gradient_norm));
        values.push(("lr".into(), lr));
        values.push(("replaced".into(), self.at.replaced as f64));
        values.push(("iterations_per_second".into(), rate));
        let Some(log) = &mut self.log else { return Ok(()) };
        Ok(log.write(self.at.iteration, "train", &values)?)
    }

    /// Validates the averaged weights, and keeps them in `best_file` if they are the best so far.
    /// All workers validate, and the first one writes.
    fn validate<T: Task>(&mut self, task: &T, model: &T::Model, best_file: &Path) -> Result<()> {
        let averaged = averaged(model, &self.optimizers)?;
        let shared = SharedWork::new(self.workers, self.config.leaves);
        let values = task.validate(&averaged, shared);
        if let Some(log) = &mut self.log
            && !values.is_empty()
        {
            log.write(self.at.iteration, "validation", &values)?;
        }
        let value = values.iter().find(|(name, _)| *name == self.config.best_by).map(|(_, v)| *v);
        if let Some(value) = value
            && value.is_finite()
            && self.at.best.is_none_or(|(best, _)| value < best)
        {
            self.at.best = Some((value, self.at.iteration));
            if self.workers.leads() {
                task.save(&averaged, best_file)?;
            }
        }
        if let Some(log) = &mut self.log
            && let Some(picture) = task.picture(&averaged)
        {
            let folder = self.path.parent().unwrap_or(Path::new(""));
            log.picture(folder, self.at.iteration, &picture)?;
        }
        self.validated = Some((self.at.iteration, values));
        Ok(())
    }

    fn checkpoint(&mut self, model: &impl Module) -> Result<()> {
        if !self.workers.leads() {
            return Ok(());
        }
        self.at.save(&self.path, model, &self.optimizers)?;
        self.checkpointed = Some(self.at.iteration);
        self.kept = Instant::now();
        Ok(())
    }

    /// Writes a checkpoint unless there is one of this iteration; gives the error to end with.
    fn stop(mut self, model: &impl Module) -> Result<Error> {
        if self.checkpointed != Some(self.at.iteration) {
            self.checkpoint(model)?;
        }
        Ok(Error::Stopped {
            iteration: self.at.iteration,
            iterations: self.config.iterations,
            checkpoint: self.path,
        })
    }
}

/// Whether this many workers can train together.
fn check_number(workers: &dyn Workers, config: &LoopConfig) -> Result<()> {
    let (size, leaves) = (workers.size(), config.leaves);
    if size.is_power_of_two() && size <= leaves {
        return Ok(());
    }
    let problem = format!("{size} workers can't share a batch of {leaves} leaves");
    let action = "start 1, 2, 4, 8, ... workers, no more than there are leaves (train.leaves, \
                  teacher.train.leaves, --leaves)";
    Err(Error::Workers { problem, action: action.into() })
}

/// Whether all workers begin with the same.
fn check_workers(
    workers: &dyn Workers,
    config: &LoopConfig,
    inputs: &Value,
    at: &Checkpoint,
    (model, optimizers): (&impl Module, &[Optimizer]),
) -> Result<()> {
    if workers.size() == 1 {
        return Ok(());
    }
    workers.agree(&[
        ("configuration", &format!("{inputs} {config:?}")),
        ("checkpoint", &at.iteration.to_string()),
        ("state of the weights", &fingerprint(model, optimizers)),
    ])
}

/// What identifies all weights, their averages and moments.
fn fingerprint(model: &impl Module, optimizers: &[Optimizer]) -> String {
    let weights = state_dict(model);
    let states = optimizers.iter().flat_map(|optimizer| {
        let moments = [optimizer.first_moments(&weights), optimizer.second_moments(&weights)];
        moments.into_iter().chain([optimizer.ema(&weights)])
    });
    let hashes = |state: &StateDict| -> String {
        state.values().map(|data| hash::sha256(data.as_bytes())).collect()
    };
    hashes(&weights) + &states.map(|state| hashes(&state)).collect::<String>()
}

/// Whether a training that was begun with some inputs may go on with those given.
fn check_inputs(path: &Path, begun: &Value, given: &Value, config: &LoopConfig) -> Result<()> {
    if let Some(planned) = extension::planned(begun, config)
        && planned > config.iterations
    {
        let problem = format!(
            "the training is one of {planned} iterations, and {} are asked for",
            config.iterations
        );
        let action = format!("ask for {planned} or more: a training can grow, not shrink");
        return Err(kdm_data::Error::invalid(path, "iterations", problem, action).into());
    }
    let [begun, given] = [begun, given].map(|inputs| extension::without_length(inputs, config));
    let Some(part) = difference(&begun, &given) else { return Ok(()) };
    let problem = format!("the training was begun with other {part} than this command gives");
    let action = "resume with what it was begun with, or choose another folder with --out";
    Err(kdm_data::Error::invalid(path, part, problem, action).into())
}

/// The first key of two objects whose values differ.
fn difference(begun: &Value, given: &Value) -> Option<String> {
    let keys = |value: &Value| {
        value.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
    };
    keys(begun).into_iter().chain(keys(given)).find(|key| begun.get(key) != given.get(key))
}

/// The module with the averaged weights, outside autodiff.
fn averaged<M: Module>(model: &M, optimizers: &[Optimizer]) -> Result<M> {
    let shapes = state_dict(model);
    let ema = optimizers.iter().flat_map(|optimizer| optimizer.ema(&shapes)).collect();
    Ok(load_state(model.valid(), &ema)?)
}

fn scalar(value: Tensor<1>) -> f64 {
    f64::from(value.into_scalar::<f32>())
}

#[cfg(test)]
mod tests;
