//! What a training is of: the seam between the loop and what is trained in it.

use std::ops::Range;
use std::path::Path;

use burn::module::Module;
use burn::tensor::Tensor;

use crate::leaves::{LeafGradient, TreeSum};
use crate::optimizer::StepReport;
use crate::{Alone, Leaf, Losses, Optimizer, Result, SharedWork, Workers};

/// What is trained, and on what. Everything a task draws at random must be a function of the
/// iteration and of the [`Leaf`], so that a resumed training sees the same numbers, and so does one
/// by another number of workers.
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
    /// are none. All workers call it, and get the same; `shared` has each part computed by one.
    fn validate(&self, averaged: &Self::Model, shared: SharedWork) -> Vec<(String, f64)>;

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

/// The optimizers during one iteration, and the part of its batch that is this worker's.
#[derive(Debug)]
pub struct Stepper<'a> {
    optimizers: &'a mut [Optimizer],
    lr: f64,
    leaves: usize,
    workers: &'a dyn Workers,
    pub(crate) report: StepReport,
}

impl<'a> Stepper<'a> {
    /// The optimizers at learning rate `lr`, in the order of [`Task::optimizers`], of a single
    /// worker whose batches are one leaf.
    pub fn new(optimizers: &'a mut [Optimizer], lr: f64) -> Self {
        let report = StepReport { gradient_norm: 0.0, non_finite: Vec::new() };
        Self { optimizers, lr, leaves: 1, workers: &Alone, report }
    }

    /// The same with batches of `leaves` parts, a power of two, shared out evenly among `workers`,
    /// of whom there are no more.
    #[must_use]
    pub fn split(self, leaves: usize, workers: &'a dyn Workers) -> Self {
        debug_assert!(leaves.is_power_of_two() && workers.size() <= leaves);
        Self { leaves, workers, ..self }
    }

    /// The leaves that this worker computes.
    pub fn own_leaves(&self) -> Range<usize> {
        let own = self.leaves / self.workers.size();
        self.workers.rank() * own..(self.workers.rank() + 1) * own
    }

    /// A step of optimizer `which` (see [`Task::optimizers`]) along the gradient of a loss that is
    /// a mean over the batch. `losses` gives it for one leaf, its total with gradients; leaves are
    /// computed one after the other, so that one of them is in memory at a time. Gradients and
    /// losses are summed over all leaves of all workers along a fixed tree, and what comes back are
    /// the batch's losses. What the step saw is added to the iteration's report.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use kdm_nn::{InitSeed, LinearConfig};
    /// use kdm_train::{Alone, Losses, Optimizer, OptimizerConfig, Stepper};
    ///
    /// let device = Device::flex().autodiff();
    /// let rows = Tensor::<2>::from_floats([[1.0], [2.0], [3.0], [6.0]], &device);
    /// let model = LinearConfig { inputs: 1, outputs: 1 }.init(&mut InitSeed::new(0), &device);
    /// let mut losses = Vec::new();
    /// for leaves in [1, 2, 4] {
    ///     let mut optimizers = [Optimizer::new(OptimizerConfig::default(), &model, "")];
    ///     let mut stepper = Stepper::new(&mut optimizers, 1e-3).split(leaves, &Alone);
    ///     let (_, of_batch) = stepper.minimise(0, model.clone(), |model, leaf| {
    ///         let total = model.forward(rows.clone().slice([leaf.rows(4)])).square().mean();
    ///         Losses { total, terms: Vec::new() }
    ///     });
    ///     losses.push(of_batch.total.into_scalar::<f32>());
    /// }
    /// assert!(losses.iter().all(|loss| (loss / losses[0] - 1.0).abs() < 1e-6));
    /// ```
    pub fn minimise<M: Module>(
        &mut self,
        which: usize,
        model: M,
        mut losses: impl FnMut(&M, Leaf) -> Losses,
    ) -> (M, Losses) {
        let (count, own) = (self.leaves, self.own_leaves());
        let optimizer = &mut self.optimizers[which];
        let mut sum = TreeSum::new();
        for index in own {
            let losses = losses(&model, Leaf { index, count });
            let mut grads = losses.total.backward();
            let gradients = optimizer.collect(&model, &mut grads);
            let losses = losses.map(Tensor::inner);
            sum.push(LeafGradient { gradients, losses }, LeafGradient::add);
        }
        let mut sum = sum.finish();
        if self.workers.size() > 1 {
            let mut values = sum.to_vec();
            self.workers.sum(&mut values);
            sum = sum.with_values(&values);
        }
        let LeafGradient { gradients, losses } = if count > 1 { sum.mean(count) } else { sum };
        let (model, report) = optimizer.apply(model, gradients, self.lr);
        self.report.gradient_norm = self.report.gradient_norm.hypot(report.gradient_norm);
        self.report.non_finite.extend(report.non_finite);
        (model, losses)
    }
}
