//! What a training is of: the seam between the loop and what is trained in it.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Gradients, Tensor};

use crate::optimizer::StepReport;
use crate::{Optimizer, Result};

/// What is trained, and on what. Everything a task draws at random must be a function of the
/// iteration, so that a resumed training sees the same numbers.
pub trait Task {
    /// The network.
    type Model: Module;

    /// What progress is reported of, such as "teacher".
    fn name(&self) -> &'static str {
        "training"
    }

    /// The parameters of each optimizer, as the beginning of their names. One optimizer for all,
    /// unless a task says otherwise.
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

    /// What the averaged weights (outside autodiff) draw, to be looked at while they are trained;
    /// none where there is nothing to see. It depends on the weights alone.
    fn picture(&self, averaged: &Self::Model) -> Option<Picture> {
        let _ = averaged;
        None
    }

    /// Writes the averaged weights as a model file to use.
    ///
    /// # Errors
    /// When the file can't be written.
    fn save(&self, averaged: &Self::Model, path: &Path) -> Result<()>;
}

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// A PNG file's bytes.
    pub png: Vec<u8>,
    /// Its width in pixels.
    pub width: u32,
    /// Its height in pixels.
    pub height: u32,
}

impl Picture {
    /// The picture of a PNG file, which says its size; none where it is none.
    pub fn of_png(png: Vec<u8>) -> Option<Self> {
        let number = |at: usize| Some(u32::from_be_bytes(png.get(at..at + 4)?.try_into().ok()?));
        let (width, height) = (number(16)?, number(20)?);
        png.starts_with(b"\x89PNG").then_some(Self { png, width, height })
    }
}

/// The loss of one iteration.
#[derive(Clone, Debug)]
pub struct Losses {
    /// What is minimised: one value.
    pub total: Tensor<1>,
    /// Its terms by name, one value each, for the log.
    pub terms: Vec<(&'static str, Tensor<1>)>,
}

/// The optimizers during one iteration.
#[derive(Debug)]
pub struct Stepper<'a> {
    optimizers: &'a mut [Optimizer],
    lr: f64,
    pub(crate) report: StepReport,
}

impl<'a> Stepper<'a> {
    /// The optimizers at learning rate `lr`, in the order of [`Task::optimizers`].
    pub fn new(optimizers: &'a mut [Optimizer], lr: f64) -> Self {
        Self { optimizers, lr, report: StepReport { gradient_norm: 0.0, non_finite: Vec::new() } }
    }

    /// A step of optimizer `which` (see [`Task::optimizers`]) along `grads`. What it saw is added
    /// to the iteration's report.
    pub fn step<M: Module>(&mut self, which: usize, model: M, grads: Gradients) -> M {
        let (model, report) = self.optimizers[which].step(model, grads, self.lr);
        self.report.gradient_norm = self.report.gradient_norm.hypot(report.gradient_norm);
        self.report.non_finite.extend(report.non_finite);
        model
    }

    /// Back-propagates the total loss and steps: for a task of one loss and one optimizer.
    pub fn minimise<M: Module>(&mut self, model: M, losses: Losses) -> (M, Losses) {
        let grads = losses.total.backward();
        (self.step(0, model, grads), losses)
    }
}
