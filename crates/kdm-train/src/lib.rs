//! What every training shares, a teacher's and a student's: Adam with a moving average of the
//! weights, learning-rate schedules, checkpoints that resume to the same bits, the loop, and its
//! log as JSON lines and TensorBoard events. A batch may be split into leaves, and these shared out
//! among several [`Workers`], which end in the same bits as one.
//!
//! This crate knows modules, gradients and files. What is trained, and on what, is a [`Task`];
//! here one of an affine layer and a plane:
//!
//! ```
//! use burn::tensor::{Device, Tensor, TensorData};
//! use kdm_nn::{InitSeed, Linear, LinearConfig, state::state_dict};
//! use kdm_observer::Silent;
//! use kdm_train::{
//!     Alone, LoopConfig, Losses, OptimizerConfig, Schedule, SharedWork, Stepper, Task, train,
//! };
//!
//! struct Plane {
//!     device: Device,
//! }
//!
//! impl Task for Plane {
//!     type Model = Linear;
//!
//!     fn iterate(&self, model: Linear, i: u64, stepper: &mut Stepper) -> (Linear, Losses) {
//!         // The batch comes in leaves. All random numbers are a function of iteration and row.
//!         stepper.minimise(0, model, |model, leaf| {
//!             let (seed, rows) = (kdm_random::derive_seed(0, i), leaf.rows(64));
//!             let x = kdm_random::normal_range(seed, 2 * rows.start..2 * rows.end);
//!             let y: Vec<f32> = x.chunks(2).map(|x| 2.0 * x[0] - x[1]).collect();
//!             let n = rows.len();
//!             let x = Tensor::<2>::from_data(TensorData::new(x, [n, 2]), &self.device);
//!             let y = Tensor::<2>::from_data(TensorData::new(y, [n, 1]), &self.device);
//!             let total = (model.forward(x) - y).square().mean();
//!             Losses { total, terms: Vec::new() }
//!         })
//!     }
//!
//!     fn validate(&self, averaged: &Linear, _: SharedWork) -> Vec<(String, f64)> {
//!         let weights = averaged.weight.val().into_data().into_vec::<f32>().unwrap();
//!         vec![("error".into(), f64::from((weights[0] - 2.0).hypot(weights[1] + 1.0)))]
//!     }
//!
//!     fn save(&self, averaged: &Linear, path: &std::path::Path) -> kdm_train::Result<()> {
//!         let config = serde_json::json!({});
//!         Ok(kdm_data::model::write(path, "plane", &config, &state_dict(averaged))?)
//!     }
//! }
//!
//! let task = Plane { device: Device::flex().autodiff() };
//! let model = LinearConfig { inputs: 2, outputs: 1 }.init(&mut InitSeed::new(0), &task.device);
//! let config = LoopConfig {
//!     iterations: 300,
//!     leaves: 2,
//!     lr: 0.03,
//!     schedule: Schedule::Cosine,
//!     warmup: 0,
//!     optimizer: OptimizerConfig { ema_decay: 0.9, ..Default::default() },
//!     log_every: 50,
//!     validate_every: 100,
//!     checkpoint_every: 100,
//!     best_by: "error".into(),
//!     length_key: None,
//! };
//! let folder = tempfile::tempdir().unwrap();
//! let best = folder.path().join("best.safetensors");
//! let (inputs, place) = (serde_json::json!({"seed": 0}), folder.path());
//! let trained = train(&task, model, &config, &inputs, place, &best, &Alone, &Silent).unwrap();
//! assert!(trained.best.unwrap().0 < 0.01);
//! ```

mod checkpoint;
mod ending;
mod error;
mod events;
mod extension;
mod leaves;
mod log;
mod loop_config;
mod losses;
mod optimizer;
mod schedule;
mod shared_work;
mod task;
mod trainer;
mod workers;

pub use checkpoint::{CHECKPOINT, Checkpoint};
pub use error::{Error, Result};
pub use events::EventWriter;
pub use extension::{Extension, extensions};
pub use leaves::Leaf;
pub use log::{METRICS, MetricsLog, SAMPLES, read_metrics};
pub use loop_config::LoopConfig;
pub use losses::Losses;
pub use optimizer::{NonFinite, Optimizer, OptimizerConfig, StepReport};
pub use schedule::Schedule;
pub use shared_work::SharedWork;
pub use task::{Picture, Stepper, Task};
pub use trainer::{Trained, train};
pub use workers::{Alone, Workers};
