//! The training loop: step, log, validate, checkpoint; resumable at any moment.

use std::path::Path;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Gradients, Tensor};
use kdm_nn::state::{load_state, state_dict};
use serde_json::Value;

use crate::optimizer::StepReport;
use crate::{
    CHECKPOINT, Checkpoint, Error, MetricsLog, NonFinite, Optimizer, OptimizerConfig, Result,
    Schedule,
};

/// What is trained, and on what. Everything a task draws at random must be a function of the
/// iteration, so that a resumed training sees the same numbers.
pub trait Task {
    /// The network.
    type Model: Module;

    /// The parameters of each optimizer, as the beginning of their names. One optimizer for all,
    /// unless told otherwise.
    fn optimizers(&self) -> &'static [&'static str] {
        &[""]
    }

    /// One iteration (from 0): losses, gradients, and a step of every optimizer.
    fn iterate(
        &self,
        model: Self::Model,
        iteration: u64,
        stepper: &mut Stepper,
    ) -> (Self::Model, Losses);

    /// Named values on held-out data, for the averaged weights (outside autodiff). Empty when there
    /// are none.
    fn validate(&self, averaged: &Self::Model) -> Vec<(String, f64)>;

    /// Writes the averaged weights as a model file to use.
    ///
    /// # Errors
    /// When the file can't be written.
    fn save(&self, averaged: &Self::Model, path: &Path) -> Result<()>;
}

/// The optimizers during one iteration.
#[derive(Debug)]
pub struct Stepper<'a> {
    optimizers: &'a mut [Optimizer],
    lr: f64,
    report: StepReport,
}

impl<'a> Stepper<'a> {
    /// The optimizers at learning rate `lr`.
    pub fn new(optimizers: &'a mut [Optimizer], lr: f64) -> Self {
        Self { optimizers, lr, report: StepReport { gradient_norm: 0.0, non_finite: Vec::new() } }
    }

    /// A step of optimizer `which` (see [`Task::optimizers`]). What it saw joins the iteration's
    /// report.
    pub fn step<M: Module>(&mut self, which: usize, model: M, grads: Gradients) -> M {
        let (model, report) = self.optimizers[which].step(model, grads, self.lr);
        self.report.gradient_norm = self.report.gradient_norm.hypot(report.gradient_norm);
        self.report.non_finite.extend(report.non_finite);
        model
    }

    /// For a task of one loss and one optimizer.
    pub fn minimise<M: Module>(&mut self, model: M, losses: Losses) -> (M, Losses) {
        let grads = losses.total.backward();
        (self.step(0, model, grads), losses)
    }
}

/// The loss of one iteration.
#[derive(Clone, Debug)]
pub struct Losses {
    /// What is minimised; one number.
    pub total: Tensor<1>,
    /// Its terms by name, one number each, for the log.
    pub terms: Vec<(&'static str, Tensor<1>)>,
}

/// The numbers of a training.
#[derive(Clone, Debug)]
pub struct LoopConfig {
    /// Iterations in all.
    pub iterations: u64,
    /// Base learning rate.
    pub lr: f64,
    /// How the rate moves.
    pub schedule: Schedule,
    /// Iterations of linear warm-up.
    pub warmup: u64,
    /// Adam and the average.
    pub optimizer: OptimizerConfig,
    /// Iterations between lines of the log.
    pub log_every: u64,
    /// Iterations between validations.
    pub validate_every: u64,
    /// Iterations between checkpoints.
    pub checkpoint_every: u64,
    /// The validation value by which the best weights are chosen, smaller being better.
    pub best_by: String,
    /// What the training depends on, as an object: kept in every checkpoint, and compared when it
    /// resumes.
    pub config: Value,
}

/// How far a training is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Iterations done.
    pub iteration: u64,
    /// Iterations in all.
    pub iterations: u64,
    /// The loss last logged.
    pub loss: f64,
}

/// How a training ended.
#[derive(Clone, Debug)]
pub struct Outcome<M> {
    /// The averaged weights, outside autodiff.
    pub averaged: M,
    /// The weights themselves, outside autodiff.
    pub last: M,
    /// The best validation value and its iteration.
    pub best: Option<(f64, u64)>,
    /// Iterations in which a gradient was not finite and was replaced.
    pub replaced: u64,
    /// Wall-clock seconds of this process in the loop.
    pub seconds: f64,
}

/// Trains `model` (on an autodiff device) in `folder`: goes on from its checkpoint if there is one.
/// The best averaged weights are kept in `best_file`.
///
/// # Errors
/// When a file can't be read or written, or a gradient is not finite and the configuration says
/// stop.
pub fn train<T: Task>(
    task: &T,
    model: T::Model,
    config: &LoopConfig,
    folder: &Path,
    best_file: &Path,
    report: &mut dyn FnMut(Report),
) -> Result<Outcome<T::Model>> {
    kdm_data::atomic::remove_parts(folder);
    let path = folder.join(CHECKPOINT);
    let mut optimizers: Vec<Optimizer> = task
        .optimizers()
        .iter()
        .map(|prefix| Optimizer::new(config.optimizer, &model, prefix))
        .collect();
    let (mut at, mut model) = if path.exists() {
        let (at, model) = Checkpoint::load(&path, model, &mut optimizers)?;
        if let Some(part) = difference(&at.config, &config.config) {
            let problem =
                format!("the training was begun with other {part} than this command gives");
            let mend = "resume with what it was begun with, or choose another folder with --out";
            return Err(kdm_data::Error::invalid(&path, part, problem, mend).into());
        }
        (at, model)
    } else {
        let fresh =
            Checkpoint { iteration: 0, best: None, replaced: 0, config: config.config.clone() };
        (fresh, model)
    };
    let mut log = MetricsLog::open(folder, at.iteration)?;
    let started = Instant::now();
    let mut since_log = (Instant::now(), at.iteration);
    let mut checkpointed = at.iteration;
    let mut loss = f64::NAN;
    report(Report { iteration: at.iteration, iterations: config.iterations, loss });

    while at.iteration < config.iterations {
        let i = at.iteration;
        let lr = config.lr * config.schedule.factor(i, config.iterations, config.warmup);
        let mut stepper = Stepper::new(&mut optimizers, lr);
        let losses;
        (model, losses) = task.iterate(model, i, &mut stepper);
        let step = stepper.report;
        let due = (i + 1) % config.log_every == 0 || i + 1 == config.iterations;
        let terms: Vec<(String, f64)> = if due {
            losses
                .terms
                .iter()
                .map(|(name, value)| ((*name).to_string(), scalar(value.clone())))
                .collect()
        } else {
            Vec::new()
        };
        let total = losses.total;
        if let Some(parameter) = step.non_finite.first() {
            if config.optimizer.non_finite == NonFinite::Stop {
                let kept = match checkpointed {
                    0 => "no checkpoint was written yet".to_string(),
                    n => format!("the checkpoint of iteration {n} is kept"),
                };
                let (parameter, loss) = (parameter.clone(), scalar(total));
                return Err(Error::NonFinite { iteration: i + 1, parameter, loss, kept });
            }
            at.replaced += 1;
        }
        at.iteration += 1;

        if due {
            loss = scalar(total);
            let (since, first) = since_log;
            let rate = (at.iteration - first) as f64 / since.elapsed().as_secs_f64().max(1e-9);
            since_log = (Instant::now(), at.iteration);
            let mut values = vec![("loss".to_string(), loss)];
            values.extend(terms);
            values.push(("gradient_norm".into(), step.gradient_norm));
            values.push(("lr".into(), lr));
            values.push(("replaced".into(), at.replaced as f64));
            values.push(("iterations_per_second".into(), rate));
            log.write(at.iteration, "train", &values)?;
        }
        let last = at.iteration == config.iterations;
        if at.iteration % config.validate_every == 0 || last {
            let averaged = averaged(&model, &optimizers)?;
            let values = task.validate(&averaged);
            if !values.is_empty() {
                log.write(at.iteration, "validation", &values)?;
            }
            let value = values.iter().find(|(name, _)| *name == config.best_by).map(|(_, v)| *v);
            if let Some(value) = value
                && value.is_finite()
                && at.best.is_none_or(|(best, _)| value < best)
            {
                at.best = Some((value, at.iteration));
                task.save(&averaged, best_file)?;
            }
        }
        if at.iteration % config.checkpoint_every == 0 || last {
            at.save(&path, &model, &optimizers)?;
            checkpointed = at.iteration;
        }
        report(Report { iteration: at.iteration, iterations: config.iterations, loss });
    }
    Ok(Outcome {
        averaged: averaged(&model, &optimizers)?,
        last: model.valid(),
        best: at.best,
        replaced: at.replaced,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// The first key of two configurations whose values differ.
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
