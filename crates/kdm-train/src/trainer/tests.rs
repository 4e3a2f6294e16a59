//! Tests of the training loop, on a training of an affine layer.

use super::*;
use crate::workers::threads;
use crate::{Leaf, OptimizerConfig, Schedule};
use burn::tensor::{Device, TensorData, Tolerance};
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

    fn loss(model: &Linear, draw: u64, leaf: Leaf, device: &Device) -> Tensor<1> {
        let rows = leaf.rows(16);
        let values = 2 * rows.start..2 * rows.end;
        let x = kdm_random::normal_range(kdm_random::derive_seed(7, draw), values);
        let y: Vec<f32> = x.chunks(2).map(|x| 2.0 * x[0] - x[1] + 0.5).collect();
        let tensor = |values: Vec<f32>, width: usize| {
            Tensor::<2>::from_data(TensorData::new(values, [rows.len(), width]), device)
        };
        (model.forward(tensor(x, 2)) - tensor(y, 1)).square().mean()
    }
}

impl Task for Fit {
    type Model = Linear;

    fn iterate(&self, model: Linear, iteration: u64, stepper: &mut Stepper) -> (Linear, Losses) {
        let factor = if iteration < self.bad { 1.0 } else { f64::NAN };
        stepper.minimise(0, model, |model, leaf| {
            let total = Self::loss(model, iteration, leaf, &Self::device()) * factor;
            Losses { terms: vec![("fit", total.clone())], total }
        })
    }

    /// In four parts.
    fn validate(&self, averaged: &Linear, shared: SharedWork) -> Vec<(String, f64)> {
        let loss = |index| {
            let leaf = Leaf { index, count: 4 };
            vec![scalar(Self::loss(averaged, u64::MAX, leaf, &Device::flex()))]
        };
        vec![("loss".into(), shared.each(4, loss).concat().iter().sum::<f64>() / 4.0)]
    }

    fn save(&self, averaged: &Linear, path: &Path) -> Result<()> {
        Ok(kdm_data::model::write(path, "fit", &json!({}), &state_dict(averaged))?)
    }
}

fn config() -> LoopConfig {
    LoopConfig {
        iterations: ITERATIONS,
        leaves: 1,
        lr: 0.2,
        schedule: Schedule::Cosine,
        warmup: 3,
        optimizer: OptimizerConfig { ema_decay: 0.9, ..Default::default() },
        log_every: 5,
        validate_every: 4,
        checkpoint_every: 7,
        best_by: "loss".into(),
        length_key: Some("/iterations"),
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
    run_by(&Alone, config, task, folder, observer)
}

fn run_by(
    workers: &dyn Workers,
    config: &LoopConfig,
    task: &Fit,
    folder: &Path,
    observer: &dyn Observer,
) -> Result<Trained<Linear>> {
    let inputs = json!({"data": "plane"});
    let best = folder.join("best.safetensors");
    train(task, Fit::model(), config, &inputs, folder, &best, workers, observer)
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
        let line = line.as_object_mut().unwrap();
        ["seconds", "train/iterations_per_second"].iter().for_each(|k| drop(line.remove(*k)));
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
        assert!(matches!(error, Error::Stopped { iteration, .. } if iteration == most), "{error}");
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

/// Checkpoints by time, here after every iteration, change nothing.
#[test]
fn checkpoints_by_time_change_no_byte() {
    struct Hasty;
    impl Observer for Hasty {
        fn event(&self, _: &Event) {}
        fn keep_every(&self) -> std::time::Duration {
            std::time::Duration::ZERO
        }
    }
    let task = Fit { bad: u64::MAX };
    let [whole, hasty, broken] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    run(&task, whole.path(), &Silent).unwrap();
    run(&task, hasty.path(), &Hasty).unwrap();
    assert_eq!(results(hasty.path()), results(whole.path()));
    // There is one of the last good iteration, where its own would be of iteration 7.
    let error = run(&Fit { bad: 10 }, broken.path(), &Hasty).unwrap_err().to_string();
    assert!(error.contains("the checkpoint of iteration 10 is kept"), "{error}");
}

/// A training with a constant rate that is made longer is the longer training, to the byte. One
/// whose rate depends on the length is not, and says where it was extended.
#[test]
fn a_training_can_grow() {
    let task = Fit { bad: u64::MAX };
    let fit = |iterations: u64, schedule: Schedule, folder: &Path| {
        let config = LoopConfig { iterations, schedule, ..config() };
        let inputs = json!({"data": "plane", "iterations": iterations});
        let told = std::cell::RefCell::new(Vec::new());
        let keep = |event: &Event| match event {
            Event::Info(text) | Event::Warning(text) => told.borrow_mut().push(text.to_string()),
            _ => {}
        };
        let best = folder.join("best.safetensors");
        let extensions = crate::extensions(folder, &config).unwrap();
        let model = Fit::model();
        let trained = train(&task, model, &config, &inputs, folder, &best, &Alone, &keep);
        trained.map(|_| (extensions, told.into_inner()))
    };
    // Iteration 8 is one of those that are validated in the longer training too.
    let checkpoint = |folder: &Path| std::fs::read(folder.join(CHECKPOINT)).unwrap();
    for schedule in [Schedule::Constant, Schedule::Cosine] {
        let [whole, grown] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        fit(24, schedule, whole.path()).unwrap();
        fit(8, schedule, grown.path()).unwrap();
        let (extensions, told) = fit(24, schedule, grown.path()).unwrap();
        assert!(told[0].contains("from 8 to 24"), "{told:?}");
        assert!(told[1].contains("going on at iteration 8 of 24"), "{told:?}");
        let constant = schedule == Schedule::Constant;
        assert_eq!(checkpoint(grown.path()) == checkpoint(whole.path()), constant);
        let expected = crate::Extension { at: 8, planned: 8 };
        assert_eq!(extensions, if constant { vec![] } else { vec![expected] });
        // Gone on with again, it says the same, and no more.
        let (again, told) = fit(24, schedule, grown.path()).unwrap();
        assert_eq!((again, told.len()), (extensions, 0));
        let error = fit(9, schedule, grown.path()).unwrap_err().to_string();
        assert!(error.contains("24") && error.contains("not shrink"), "{error}");
    }
}

/// A training that has nothing left to do is finished, whatever the observer wants.
#[test]
fn other_inputs_are_refused_and_a_finished_training_stays_finished() {
    let (task, folder) = (Fit { bad: u64::MAX }, tempfile::tempdir().unwrap());
    run(&task, folder.path(), &Silent).unwrap();
    run(&task, folder.path(), &StopAfter { advanced: Cell::new(9), most: 0 }).unwrap();
    let (inputs, best) = (json!({"data": "sphere"}), folder.path().join("best.safetensors"));
    let (model, folder) = (Fit::model(), folder.path());
    let trained = train(&task, model, &config(), &inputs, folder, &best, &Alone, &Silent);
    let text = trained.unwrap_err().to_string();
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

/// Replaced gradients are no success where the training ends in a loss that is none, then and when
/// it is gone on with; in the middle they are.
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

/// Leaves change a training by rounding alone. The bytes of one with eight leaves don't depend on
/// how many workers there are, nor on whether it goes on with another number of them.
#[test]
fn workers_train_to_the_same_bytes() {
    let task = Fit { bad: u64::MAX };
    let config = LoopConfig { leaves: 8, ..config() };
    let by = |size: usize, folder: &Path, most: u64| {
        threads::of(size, |workers| {
            let last = workers.rank() + 1 == size;
            let most = if last { most } else { u64::MAX };
            let observer = StopAfter { advanced: Cell::new(0), most };
            let trained = run_by(workers, &config, &task, folder, &observer);
            (trained.map(|trained| state_dict(&trained.last)), workers.leads())
        })
    };
    let [whole, alone] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let expected = run(&task, whole.path(), &Silent).unwrap().last;
    let weights = by(1, alone.path(), u64::MAX).remove(0).0.unwrap();
    for (name, values) in state_dict(&expected) {
        values.assert_approx_eq::<f32>(&weights[&name], Tolerance::relative(1e-4));
    }
    assert_ne!(results(whole.path()).0, results(alone.path()).0, "leaves are another order");
    for size in [2, 4, 8] {
        let folder = tempfile::tempdir().unwrap();
        for (last, _) in by(size, folder.path(), u64::MAX) {
            assert_eq!(last.unwrap(), weights);
        }
        assert_eq!(results(folder.path()), results(alone.path()), "{size} workers");
    }
    // Begun by one number of workers and gone on with by others, one of which is asked to stop.
    let folder = tempfile::tempdir().unwrap();
    for (size, most) in [(4, 9), (1, 3), (8, 4), (2, u64::MAX)] {
        let stopped = by(size, folder.path(), most);
        assert!(most == u64::MAX || stopped.iter().all(|(result, _)| result.is_err()));
    }
    assert_eq!(results(folder.path()), results(alone.path()));
}

/// Workers that are asked for something else, are too many, or of a number that a tree can't have,
/// are told so before a step; a gradient that is not finite ends all of them.
#[test]
fn workers_that_differ_or_fail_end_together() {
    let refused = |size: usize, leaves: usize, bad: u64, other: usize| {
        let folder = tempfile::tempdir().unwrap();
        let errors = threads::of(size, |workers| {
            let lr = if workers.rank() == other { 0.1 } else { 0.2 };
            let config = LoopConfig { leaves, lr, ..config() };
            run_by(workers, &config, &Fit { bad }, folder.path(), &Silent).unwrap_err().to_string()
        });
        assert!(!folder.path().join(CHECKPOINT).exists());
        assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
        errors[0].clone()
    };
    let error = refused(4, 4, u64::MAX, 3);
    assert!(error.contains("worker 3 of 4 has another configuration"), "{error}");
    assert!(refused(4, 2, u64::MAX, 9).contains("4 workers can't share a batch of 2 leaves"));
    assert!(refused(3, 8, u64::MAX, 9).contains("3 workers can't share"));
    assert!(refused(4, 8, 2, 9).contains("iteration 3: the gradient of `"));
}
