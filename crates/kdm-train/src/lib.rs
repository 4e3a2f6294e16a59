//! What every training shares, a teacher's and a student's: Adam with a moving average of the
//! weights, learning-rate schedules, checkpoints that resume to the same bits, the loop, and its
//! log as JSON lines and TensorBoard events.
//!
//! This crate knows modules, gradients and files. What is trained, and on what, is a [`Task`] to
//! it.

mod checkpoint;
mod error;
mod events;
mod log;
mod optimizer;
mod schedule;
mod trainer;

pub use checkpoint::{CHECKPOINT, Checkpoint};
pub use error::{Error, Result};
pub use events::EventWriter;
pub use log::{METRICS, MetricsLog, read_metrics};
pub use optimizer::{NonFinite, Optimizer, OptimizerConfig, StepReport};
pub use schedule::Schedule;
pub use trainer::{LoopConfig, Losses, Outcome, Report, Stepper, Task, train};
