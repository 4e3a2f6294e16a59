//! The training loop: step, log, validate, checkpoint; it can be stopped and resumed at any
//! iteration.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Tensor;
use kdm_nn::state::{load_state, state_dict};
use kdm_observer::Observer;
use serde_json::Value;

use crate::error::DIVERGED;
use crate::optimizer::StepReport;
use crate::{
    CHECKPOINT, Checkpoint, Error, Losses, MetricsLog, NonFinite, Optimizer, OptimizerConfig,
    Result, Schedule, Stepper, Task, ending,
};

/// The settings of a training.
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
    /// Iterations between lines of the log, at least 1.
    pub log_every: u64,
    /// Iterations between validations, at least 1.
    pub validate_every: u64,
    /// Iterations between checkpoints, at least 1.
    pub checkpoint_every: u64,
    /// The validation value by which the best weights are chosen, smaller being better.
    pub best_by: String,
}

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
/// training is only resumed with the same. Where `observer` wants the training to stop, it ends
/// before its next iteration, with a checkpoint.
///
/// # Errors
/// When a file can't be read or written, the checkpoint is of a training with other inputs, a
/// gradient is not finite and the configuration says stop, what it ends in is not finite, or the
/// observer stops it ([`Error::Stopped`]).
pub fn train<T: Task>(
    task: &T,
    model: T::Model,
    config: &LoopConfig,
    inputs: &Value,
    folder: &Path,
    best_file: &Path,
    observer: &dyn Observer,
) -> Result<Trained<T::Model>> {
    kdm_data::atomic::remove_parts(folder);
    let mut progress = observer.begin(task.name(), "iterations");
    let (mut run, mut model) = Run::begin(task, model, config, inputs, folder)?;
    let report = |progress: &mut kdm_observer::Progress, run: &Run| {
        let note =
            if run.loss.is_finite() { format!("loss {:.4}", run.loss) } else { String::new() };
        progress.report(run.at.iteration, config.iterations, &note);
    };
    report(&mut progress, &run);
    while run.at.iteration < config.iterations {
        if observer.check().is_err() {
            return Err(run.stop(&model)?);
        }
        model = run.step(task, model)?;
        let last = run.at.iteration == config.iterations;
        if last || run.at.iteration.is_multiple_of(config.validate_every) {
            run.validate(task, &model, best_file)?;
        }
        if last || run.at.iteration.is_multiple_of(config.checkpoint_every) {
            run.checkpoint(&model)?;
        }
        report(&mut progress, &run);
    }
    let averaged = averaged(&model, &run.optimizers)?;
    run.check_end(task, &averaged, folder)?;
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
    at: Checkpoint,
    log: MetricsLog,
    /// The checkpoint's file, and the iteration that it holds; none before the first.
    path: PathBuf,
    checkpointed: Option<u64>,
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
    ) -> Result<(Self, T::Model)> {
        let path = folder.join(CHECKPOINT);
        let optimizer = |prefix: &&str| Optimizer::new(config.optimizer, &model, prefix);
        let mut optimizers: Vec<Optimizer> = task.optimizers().iter().map(optimizer).collect();
        let resumed = path.exists();
        let (at, model) = if resumed {
            let (at, model) = Checkpoint::load(&path, model, &mut optimizers)?;
            check_inputs(&path, &at.config, inputs)?;
            (at, model)
        } else {
            let config = inputs.clone();
            (Checkpoint { iteration: 0, best: None, replaced: 0, config }, model)
        };
        let log = MetricsLog::open(folder, at.iteration)?;
        let (checkpointed, started) = (resumed.then_some(at.iteration), Instant::now());
        let logged = (started, at.iteration);
        let run = Self {
            config,
            optimizers,
            at,
            log,
            path,
            checkpointed,
            started,
            logged,
            loss: f64::NAN,
            validated: None,
        };
        Ok((run, model))
    }

    /// One iteration, and its line in the log where one is due.
    fn step<T: Task>(&mut self, task: &T, model: T::Model) -> Result<T::Model> {
        let (config, iteration) = (self.config, self.at.iteration);
        let lr = config.lr * config.schedule.factor(iteration, config.iterations, config.warmup);
        let mut stepper = Stepper::new(&mut self.optimizers, lr);
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
            _ => task.validate(averaged),
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
        Ok(self.log.write(self.at.iteration, "train", &values)?)
    }

    /// Validates the averaged weights, and keeps them in `best_file` if they are the best so far.
    fn validate<T: Task>(&mut self, task: &T, model: &T::Model, best_file: &Path) -> Result<()> {
        let averaged = averaged(model, &self.optimizers)?;
        let values = task.validate(&averaged);
        if !values.is_empty() {
            self.log.write(self.at.iteration, "validation", &values)?;
        }
        let value = values.iter().find(|(name, _)| *name == self.config.best_by).map(|(_, v)| *v);
        if let Some(value) = value
            && value.is_finite()
            && self.at.best.is_none_or(|(best, _)| value < best)
        {
            self.at.best = Some((value, self.at.iteration));
            task.save(&averaged, best_file)?;
        }
        self.validated = Some((self.at.iteration, values));
        Ok(())
    }

    fn checkpoint(&mut self, model: &impl Module) -> Result<()> {
        self.at.save(&self.path, model, &self.optimizers)?;
        self.checkpointed = Some(self.at.iteration);
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

/// Whether a training that was begun with some inputs may go on with those given.
fn check_inputs(path: &Path, begun: &Value, given: &Value) -> Result<()> {
    let Some(part) = difference(begun, given) else { return Ok(()) };
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
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};
    use kdm_nn::{InitSeed, Linear, LinearConfig};
    use kdm_observer::{Event, Silent};
    use serde_json::json;
    use std::cell::Cell;

    /// Fits an affine layer to y = 2 a - b + 0.5. From iteration `bad` on the loss is NaN.
    struct Fit {
        bad: u64,
    }

    const ITERATIONS: u64 = 23;

    impl Fit {
        fn device() -> Device {
            Device::flex().autodiff()
        }

        fn model() -> Linear {
            LinearConfig { inputs: 2, outputs: 1 }.init(&mut InitSeed::new(1), &Self::device())
        }

        fn loss(model: &Linear, draw: u64, device: &Device) -> Tensor<1> {
            let x = kdm_random::normal_vec(kdm_random::derive_seed(7, draw), 32);
            let y: Vec<f32> = x.chunks(2).map(|x| 2.0 * x[0] - x[1] + 0.5).collect();
            let tensor = |values: Vec<f32>, width: usize| {
                Tensor::<2>::from_data(TensorData::new(values, [16, width]), device)
            };
            (model.forward(tensor(x, 2)) - tensor(y, 1)).square().mean()
        }
    }

    impl Task for Fit {
        type Model = Linear;

        fn iterate(
            &self,
            model: Linear,
            iteration: u64,
            stepper: &mut Stepper,
        ) -> (Linear, Losses) {
            let factor = if iteration < self.bad { 1.0 } else { f64::NAN };
            let total = Self::loss(&model, iteration, &Self::device()) * factor;
            stepper.minimise(model, Losses { terms: vec![("fit", total.clone())], total })
        }

        fn validate(&self, averaged: &Linear) -> Vec<(String, f64)> {
            let loss = Self::loss(averaged, u64::MAX, &Device::flex());
            vec![("loss".into(), scalar(loss))]
        }

        fn save(&self, averaged: &Linear, path: &Path) -> Result<()> {
            Ok(kdm_data::model::write(path, "fit", &json!({}), &state_dict(averaged))?)
        }
    }

    fn config() -> LoopConfig {
        LoopConfig {
            iterations: ITERATIONS,
            lr: 0.2,
            schedule: Schedule::Cosine,
            warmup: 3,
            optimizer: OptimizerConfig { ema_decay: 0.9, ..Default::default() },
            log_every: 5,
            validate_every: 4,
            checkpoint_every: 7,
            best_by: "loss".into(),
        }
    }

    fn run(task: &Fit, folder: &Path, observer: &dyn Observer) -> Result<Trained<Linear>> {
        run_with(&config(), task, folder, observer)
    }

    fn run_with(
        config: &LoopConfig,
        task: &Fit,
        folder: &Path,
        observer: &dyn Observer,
    ) -> Result<Trained<Linear>> {
        let inputs = json!({"data": "plane"});
        let best = folder.join("best.safetensors");
        train(task, Fit::model(), config, &inputs, folder, &best, observer)
    }

    /// Stops after some iterations of this process.
    struct StopAfter {
        advanced: Cell<u64>,
        most: u64,
    }

    impl Observer for StopAfter {
        fn event(&self, event: &Event) {
            if matches!(event, Event::Advanced { .. }) {
                self.advanced.set(self.advanced.get() + 1);
            }
        }

        /// The first report is of no iteration.
        fn stopping(&self) -> bool {
            self.advanced.get() > self.most
        }
    }

    /// The files that a training leaves; of its log what doesn't depend on the clock.
    fn results(folder: &Path) -> (Vec<u8>, Vec<u8>, Vec<Value>) {
        let mut lines = crate::read_metrics(folder).unwrap();
        for line in &mut lines {
            line.as_object_mut().unwrap().remove("train/iterations_per_second");
        }
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
        (read(CHECKPOINT), read("best.safetensors"), lines)
    }

    /// Wherever it is stopped, once or after every iteration, a resumed training ends in the same
    /// bytes.
    #[test]
    fn a_stopped_training_resumes_to_the_same_bytes() {
        let task = Fit { bad: u64::MAX };
        let whole = tempfile::tempdir().unwrap();
        let trained = run(&task, whole.path(), &Silent).unwrap();
        let expected = results(whole.path());
        let validated = |line: &Value| line["validation/loss"].as_f64();
        let first = expected.2.iter().find_map(validated).unwrap();
        assert!(trained.best.unwrap().0 < 0.5 * first, "{:?} {first}", trained.best);
        for most in 0..ITERATIONS {
            let folder = tempfile::tempdir().unwrap();
            let observer = StopAfter { advanced: Cell::new(0), most };
            let error = run(&task, folder.path(), &observer).unwrap_err();
            assert!(
                matches!(error, Error::Stopped { iteration, .. } if iteration == most),
                "{error}"
            );
            assert!(error.to_string().contains("--resume"), "{error}");
            run(&task, folder.path(), &Silent).unwrap();
            assert_eq!(results(folder.path()), expected, "stopped at {most}");
        }
        let folder = tempfile::tempdir().unwrap();
        for at in 1..ITERATIONS {
            let observer = StopAfter { advanced: Cell::new(0), most: 1 };
            let error = run(&task, folder.path(), &observer).unwrap_err();
            assert!(matches!(error, Error::Stopped { iteration, .. } if iteration == at));
        }
        run(&task, folder.path(), &StopAfter { advanced: Cell::new(0), most: 1 }).unwrap();
        assert_eq!(results(folder.path()), expected);
    }

    /// A training that has nothing left to do is finished, whatever the observer wants.
    #[test]
    fn other_inputs_are_refused_and_a_finished_training_stays_finished() {
        let (task, folder) = (Fit { bad: u64::MAX }, tempfile::tempdir().unwrap());
        run(&task, folder.path(), &Silent).unwrap();
        run(&task, folder.path(), &StopAfter { advanced: Cell::new(9), most: 0 }).unwrap();
        let (inputs, best) = (json!({"data": "sphere"}), folder.path().join("best.safetensors"));
        let error = train(&task, Fit::model(), &config(), &inputs, folder.path(), &best, &Silent);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("other data") && text.contains("--out"), "{text}");
    }

    /// The error says at which iteration, and what is kept.
    #[test]
    fn a_gradient_that_is_not_finite_ends_the_training() {
        for (bad, kept) in [(3, "no checkpoint"), (10, "the checkpoint of iteration 7 is kept")] {
            let folder = tempfile::tempdir().unwrap();
            let error = run(&Fit { bad }, folder.path(), &Silent).unwrap_err();
            let at = format!("iteration {}: the gradient of `", bad + 1);
            let text = error.to_string();
            assert!(text.starts_with(&at) && text.contains(kept), "{text}");
        }
    }

    /// Replaced gradients are no success where the training ends in a loss that is none, then and
    /// when it is gone on with; in the middle they are.
    #[test]
    fn an_end_that_is_not_finite_is_a_failure() {
        let mut config = config();
        config.optimizer.non_finite = NonFinite::Replace;
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let error = run_with(&config, &Fit { bad: 10 }, folder.path(), &Silent).unwrap_err();
            let text = error.advise("lower --lr").to_string();
            assert!(text.contains("the loss") && text.ends_with("lower --lr"), "{text}");
        }
    }
}
